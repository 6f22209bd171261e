package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// result is what a command line came to.
type result struct {
	code           int
	stdout, stderr string
}

// onlineca runs a command line that ends by itself.
func onlineca(t *testing.T, args ...string) result {
	t.Helper()
	var stdout, stderr bytes.Buffer
	code := run(t.Context(), args, strings.NewReader(""), &stdout, &stderr)
	return result{code, stdout.String(), stderr.String()}
}

// want fails the test unless the command ended with code and said each text.
func (r result) want(t *testing.T, code int, texts ...string) {
	t.Helper()
	if r.code != code {
		t.Errorf("exit code %d, want %d", r.code, code)
	}
	all := r.stdout + r.stderr
	for _, text := range texts {
		if !strings.Contains(all, text) {
			t.Errorf("nothing says %q", text)
		}
	}
	if t.Failed() {
		t.Logf("stdout:\n%s\nstderr:\n%s", r.stdout, r.stderr)
	}
}

// server runs a command line that goes on until the test ends, and returns the
// lines that it printed up to the one that contains ready.
func server(t *testing.T, ready string, args ...string) []string {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	read, write := io.Pipe()
	var stderr lockedBuffer
	done := make(chan int, 1)
	go func() {
		code := run(ctx, args, strings.NewReader(""), write, &stderr)
		write.Close()
		done <- code
	}()
	t.Cleanup(func() {
		cancel()
		if code := <-done; code != 0 && code != exitInterrupted {
			t.Errorf("onlineca %s: exit code %d\n%s", args[0], code, stderr.String())
		}
	})
	var lines []string
	for scan := bufio.NewScanner(read); scan.Scan(); {
		lines = append(lines, scan.Text())
		if strings.Contains(scan.Text(), ready) {
			go func() { _, _ = io.Copy(io.Discard, read) }()
			return lines
		}
	}
	t.Fatalf("onlineca %s ended before it said %q:\n%s\n%s", args[0], ready, strings.Join(lines, "\n"), stderr.String())
	return nil
}

// find returns what the pattern's group matches in the first line that it does.
func find(t *testing.T, lines []string, pattern string) string {
	t.Helper()
	re := regexp.MustCompile(pattern)
	for _, l := range lines {
		if m := re.FindStringSubmatch(l); m != nil {
			return m[1]
		}
	}
	t.Fatalf("no line matches %s:\n%s", pattern, strings.Join(lines, "\n"))
	return ""
}

// road is a mock certsrv and a registration authority in front of it, each run
// by its own command.
type road struct {
	dir      string // holds root.pem, password, onlineca.yaml, state/
	certsrv  string // https://localhost:PORT
	est      string // https://127.0.0.1:PORT
	estCA    string // what verifies the EST server
	password string
}

// startRoad starts both; extra is appended to the settings.
func startRoad(t *testing.T, extra string, certsrvArgs ...string) road {
	t.Helper()
	c := road{dir: t.TempDir()}
	lines := server(t, "Ctrl-C", append([]string{
		"certsrv", "--listen", "127.0.0.1:0", "--root-file", filepath.Join(c.dir, "root.pem"),
	}, certsrvArgs...)...)
	c.certsrv = find(t, lines, `certsrv +(https://.*)/certsrv/`)
	c.password = find(t, lines, `password (.*)$`)
	write(t, filepath.Join(c.dir, "password"), c.password+"\n")
	write(t, filepath.Join(c.dir, "onlineca.yaml"), settings(c.certsrv)+extra)
	lines = server(t, "clients trust it by", "serve", "--config", filepath.Join(c.dir, "onlineca.yaml"))
	c.est = find(t, lines, `EST +(https://.*)/.well-known/est/`)
	c.estCA = find(t, lines, `clients trust it by (.*)$`)
	return c
}

func settings(certsrv string) string {
	return fmt.Sprintf(`listen: 127.0.0.1:0
state: state
logs: {directory: logs}
certsrv:
  url: %s/certsrv
  username: LAB\ciscora
  password_file: password
  template: CiscoRA
  tls: {ca: [root.pem]}
`, certsrv)
}

// another starts a further registration authority of the same settings, with a
// store of its own: an SQLite file serves one.
func another(t *testing.T, ready, config string) []string {
	t.Helper()
	write(t, config, "store: another.db\n"+read(t, config))
	return server(t, ready, "serve", "--config", config)
}

// enroll runs the command with the chain's account, password and server.
func (c road) enroll(t *testing.T, out string, args ...string) result {
	t.Helper()
	return onlineca(t, append([]string{
		"enroll", "--server", c.est, "--ca", c.estCA, "--user", `LAB\ciscora`,
		"--password-file", filepath.Join(c.dir, "password"), "--out", out, "--wait", "-1s",
	}, args...)...)
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// makeCSR writes a request for device and returns its path and key.
func makeCSR(t *testing.T, dir, device string) (string, crypto.Signer) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: pkix.Name{CommonName: device}}, key)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, device+".csr")
	write(t, path, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der})))
	return path, key
}
