package testenv_test

import (
	"bytes"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/onlineca/onlineca/internal/interop"
	"github.com/onlineca/onlineca/testenv"
)

const account = testenv.DefaultUser + ":" + testenv.DefaultPassword

// curl runs curl against the mock and returns what it wrote, headers included.
func curl(t *testing.T, s *testenv.Certsrv, args ...string) string {
	t.Helper()
	ca := filepath.Join(t.TempDir(), "root.pem")
	if err := os.WriteFile(ca, s.RootPEM(), 0o600); err != nil {
		t.Fatal(err)
	}
	args = append([]string{"--silent", "--show-error", "--include", "--http1.1", "--cacert", ca}, args...)
	out, err := exec.CommandContext(t.Context(), "curl", args...).CombinedOutput()
	if err != nil {
		t.Fatalf("curl %q: %v\n%s", args, err, out)
	}
	return string(out)
}

// run runs a program that must succeed.
func run(t *testing.T, stdin []byte, program string, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), program, args...)
	cmd.Stdin = bytes.NewReader(stdin)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s %q: %v\n%s", program, args, err, out)
	}
	return string(out)
}

func TestCurlLogsIn(t *testing.T) {
	interop.Need(t, "curl")
	s := testenv.New(t, testenv.Config{})
	out := curl(t, s, "--ntlm", "-u", account, s.URL+"/certsrv/")
	if !strings.Contains(out, "HTTP/1.1 200") || !strings.Contains(out, "Persistent-Auth: true") {
		t.Errorf("no login:\n%s", out)
	}
	out = curl(t, s, "--ntlm", "-u", testenv.DefaultUser+":wrong", s.URL+"/certsrv/")
	if strings.Contains(out, "HTTP/1.1 200") || s.FailedLogons() != 1 {
		t.Errorf("wrong password: %d failed logons:\n%s", s.FailedLogons(), out)
	}
}

func TestCurlEnrols(t *testing.T) {
	interop.Need(t, "curl", "openssl")
	s := testenv.New(t, testenv.Config{})
	dir := t.TempDir()
	key, csr, leaf := filepath.Join(dir, "key.pem"), filepath.Join(dir, "csr.pem"), filepath.Join(dir, "leaf.pem")
	run(t, nil, "openssl", "req", "-new", "-newkey", "rsa:2048", "-nodes", "-keyout", key,
		"-subj", "/O=Lab/CN=SEP001122334455", "-addext", "subjectAltName=DNS:phone.lab.example", "-out", csr)
	out := curl(t, s, "--ntlm", "-u", account, "-A", "Mozilla/5.0",
		"--data-urlencode", "Mode=newreq", "--data-urlencode", "CertRequest@"+csr,
		"--data-urlencode", "CertAttrib=CertificateTemplate:CiscoRA", s.URL+"/certsrv/certfnsh.asp")
	id := regexp.MustCompile(`certnew\.cer\?ReqID=(\d+)&`).FindStringSubmatch(out)
	if id == nil {
		t.Fatalf("no certificate:\n%s", out)
	}
	curl(t, s, "--ntlm", "-u", account, "--no-include", "-o", leaf, s.URL+"/certsrv/certnew.cer?ReqID="+id[1]+"&Enc=b64")
	root, chain := filepath.Join(dir, "root.pem"), filepath.Join(dir, "chain.pem")
	p7b := filepath.Join(dir, "chain.p7b")
	curl(t, s, "--ntlm", "-u", account, "--no-include", "-o", p7b, s.URL+"/certsrv/certnew.p7b?ReqID=CACert&Renewal=0&Enc=bin")
	if err := os.WriteFile(root, s.RootPEM(), 0o600); err != nil {
		t.Fatal(err)
	}
	run(t, nil, "openssl", "pkcs7", "-inform", "DER", "-in", p7b, "-print_certs", "-out", chain)
	run(t, nil, "openssl", "verify", "-CAfile", root, "-untrusted", chain, "-purpose", "sslserver", leaf)
	text := run(t, nil, "openssl", "x509", "-in", leaf, "-noout", "-text")
	for _, want := range []string{"CN = SEP001122334455", "DNS:phone.lab.example", "Digital Signature, Key Encipherment", "TLS Web Client Authentication"} {
		if !strings.Contains(text, want) {
			t.Errorf("the certificate lacks %q:\n%s", want, text)
		}
	}
}

// TestCurlNegotiates has gss-ntlmssp be the client: NTLM in SPNEGO, with a MIC
// and a signed list of mechanisms.
func TestCurlNegotiates(t *testing.T) {
	interop.Need(t, "curl")
	if found, _ := filepath.Glob("/usr/lib/*/gssntlmssp/gssntlmssp.so"); len(found) == 0 {
		interop.Missing(t, "gss-ntlmssp")
	}
	users := filepath.Join(t.TempDir(), "users")
	if err := os.WriteFile(users, []byte("LAB:ciscora:"+testenv.DefaultPassword+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("NTLM_USER_FILE", users)
	s := testenv.New(t, testenv.Config{Schemes: []testenv.Scheme{testenv.SchemeNegotiate}, Hostnames: []string{"localhost", "127.0.0.1"}, RequireMIC: true})
	out := curl(t, s, "--negotiate", "-u", ":", s.URL+"/certsrv/")
	if !strings.Contains(out, "HTTP/1.1 200") || !last(s).MIC {
		t.Errorf("no login: %+v\n%s", s.Requests(), out)
	}
}

// TestCurlOfTheREADME runs the line of the README that drives the control API.
func TestCurlOfTheREADME(t *testing.T) {
	interop.Need(t, "curl", "sh")
	readme, err := os.ReadFile("../README.md")
	if err != nil {
		t.Fatal(err)
	}
	const address = "http://127.0.0.1:8444"
	line := regexp.MustCompile(`(?m)^curl .*` + address + `/control/.*$`).FindString(string(readme))
	if line == "" {
		t.Fatal("the README has no such line")
	}
	s := testenv.New(t, testenv.Config{})
	api := httptest.NewServer(s.ControlHandler())
	defer api.Close()
	out := run(t, nil, "sh", "-c", strings.ReplaceAll(line, address, api.URL))
	if n := len(s.Waiting()); n != 1 {
		t.Errorf("%s: %d faults wait: %s", line, n, out)
	}
}
