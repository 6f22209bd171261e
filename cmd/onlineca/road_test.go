package main

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestLab(t *testing.T) {
	out := filepath.Join(t.TempDir(), "onlineca-lab")
	onlineca(t, "lab", "--phones", "6", "--key", "p256", "--out", out).want(t, 0, "6 devices: 6 issued")
	for i := range 6 {
		readDER(t, filepath.Join(out, "lsc", fmt.Sprintf("SEP00112233%04X.der", 0x4455+i)))
	}
	for name, lines := range map[string][]string{
		"capf/capf00000001.txt": {"Certificate Generation Method=OnlineCA:4", "rv = 0 (EST_ERR_NONE)", "LSC is verified"},
		"ces/nginx00000001.txt": {"libest 2.2.0 (API level 4)", "EnrollmentService.sh : nginx server PID value = "},
		"ces/error.log":         {"CA Cert chain retrieved from CA, will be passed to EST", `"POST /.well-known/est/simpleenroll HTTP/1.1" -1 0`},
		"onlineca.jsonl":        {`"kind":"enrollment"`},
	} {
		text := read(t, filepath.Join(out, "logs", name))
		for _, l := range lines {
			if !strings.Contains(text, l) {
				t.Errorf("%s lacks %q", name, l)
			}
		}
		if strings.Contains(text, "Lab-") {
			t.Errorf("%s holds the lab's password", name)
		}
	}
	if found, err := filepath.Glob(filepath.Join(out, "logs", "iis", "u_ex??????.log")); err != nil || len(found) != 1 {
		t.Errorf("IIS logs: %v, %v", found, err)
	}
	// A second run replaces the first.
	onlineca(t, "lab", "--phones", "1", "--key", "p256", "--out", out).want(t, 0, "1 device: 1 issued")
	if found, _ := filepath.Glob(filepath.Join(out, "lsc", "*.der")); len(found) != 1 {
		t.Errorf("after the second run there is %v", found)
	}
}

// A mistake is noticed before the directory of the last run is cleared.
func TestLabUsage(t *testing.T) {
	out := filepath.Join(t.TempDir(), "onlineca-lab")
	onlineca(t, "lab", "--phones", "1", "--key", "p256", "--out", out).want(t, 0, "1 device: 1 issued")
	onlineca(t, "lab", "--key", "rsa512", "--out", out).want(t, 2, `"rsa512" is no key type`, "hint: ")
	if found, _ := filepath.Glob(filepath.Join(out, "lsc", "*.der")); len(found) != 1 {
		t.Errorf("after the mistake there is %v", found)
	}
}

func TestLabLeavesOtherDirectoriesAlone(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "thesis.txt"), "years of work")
	onlineca(t, "lab", "--out", dir).want(t, 1, "was not made by a lab")
	if read(t, filepath.Join(dir, "thesis.txt")) != "years of work" {
		t.Error("the file is gone")
	}
}

func TestServeAndEnroll(t *testing.T) {
	// Otherwise the same request is answered with the same certificate.
	c := startRoad(t, "requests: {keep: 1ms}\n")
	csrs, out := t.TempDir(), t.TempDir()
	keys := map[string]*ecdsa.PrivateKey{}
	for i := range 5 {
		device := fmt.Sprintf("SEP00112233445%d", i)
		_, key := makeCSR(t, csrs, device)
		keys[device] = key.(*ecdsa.PrivateKey)
	}
	c.enroll(t, out, csrs).want(t, 0, "5 devices: 5 issued")
	for device, key := range keys {
		cert := readDER(t, filepath.Join(out, device+".der"))
		if !key.PublicKey.Equal(cert.PublicKey) || cert.Subject.CommonName != device {
			t.Errorf("%s: the certificate is for %s, or for another key", device, cert.Subject)
		}
	}
	if !strings.Contains(read(t, filepath.Join(out, "logs/capf/capf00000001.txt")), "rv = 0 (EST_ERR_NONE)") {
		t.Error("the trace has no success")
	}
	// What is there already is not enrolled again, unless asked for.
	before := read(t, filepath.Join(out, "SEP001122334450.der"))
	c.enroll(t, out, csrs).want(t, 0, "5 there already")
	if read(t, filepath.Join(out, "SEP001122334450.der")) != before {
		t.Error("the certificate was replaced")
	}
	c.enroll(t, out, "--again", filepath.Join(csrs, "SEP001122334450.csr")).want(t, 0, "1 issued")
	if read(t, filepath.Join(out, "SEP001122334450.der")) == before {
		t.Error("the certificate was not replaced")
	}
	onlineca(t, "healthcheck", "--config", filepath.Join(c.dir, "onlineca.yaml")).want(t, 1, "healthcheck")
}

func TestEnrollUsage(t *testing.T) {
	for _, bad := range [][]string{{"--timeout", "0"}, {"--timeout", "-1s"}, {"--workers", "0"}} {
		args := append([]string{"enroll", "--server", "https://127.0.0.1:1", "--out", t.TempDir(), "none.csr"}, bad...)
		onlineca(t, args...).want(t, 2, bad[0]+" "+bad[1])
	}
}

// Each of these is one clear line, the right exit code, nothing half-written,
// and the good request beside it goes on.
func TestEnrollBadInput(t *testing.T) {
	c := startRoad(t, "")
	for name, bad := range map[string]struct {
		content func(good []byte) []byte
		text    string
	}{
		"not a request": {func([]byte) []byte { return []byte("hello\n") }, "malformed-csr"},
		"empty":         {func([]byte) []byte { return nil }, "malformed-csr"},
		"zeros":         {func([]byte) []byte { return make([]byte, 10<<20) }, "malformed-csr"},
		"truncated":     {func(good []byte) []byte { return good[:len(good)/2] }, "malformed-csr"},
	} {
		t.Run(name, func(t *testing.T) {
			csrs, out := t.TempDir(), t.TempDir()
			good, _ := makeCSR(t, csrs, "SEP00112233AAAA")
			content, err := os.ReadFile(good)
			if err != nil {
				t.Fatal(err)
			}
			write(t, filepath.Join(csrs, "SEP00112233BBBB.csr"), string(bad.content(content)))
			c.enroll(t, out, csrs).want(t, 1, bad.text, "1 issued, 1 failed")
			readDER(t, filepath.Join(out, "SEP00112233AAAA.der"))
			onlyThese(t, out, "SEP00112233AAAA.der", "logs")
		})
	}
}

// The server's side of failure: what a client is told, and the exit code.
func TestEnrollRefused(t *testing.T) {
	for name, f := range map[string]struct {
		settings string
		certsrv  []string
		text     string
	}{
		"denied by the CA":         {"", []string{"--fault", "deny:0x80094012@submit"}, "0x80094012"},
		"issued for another key":   {"", []string{"--fault", "other-key"}, "another key"},
		"a page for a certificate": {"", []string{"--fault", "html-certificate"}, "certificate"},
	} {
		t.Run(name, func(t *testing.T) {
			c := startRoad(t, "store: none\n"+f.settings, f.certsrv...)
			csrs, out := t.TempDir(), t.TempDir()
			makeCSR(t, csrs, "SEP00112233AAAA")
			c.enroll(t, out, csrs).want(t, 1, "1 failed", f.text)
			onlyThese(t, out, "logs")
			c.enroll(t, out, csrs).want(t, 0, "1 issued")
		})
	}
}

// The CA is named as people name it, the DC attributes of Active Directory
// among it.
func TestServeNamesTheCA(t *testing.T) {
	c := startRoad(t, "")
	lines := another(t, "clients trust it by", filepath.Join(c.dir, "onlineca.yaml"))
	if got, want := find(t, lines, `^CA +(.*)`), "CN=LAB-ISSUING-CA,DC=lab,DC=example"; got != want {
		t.Errorf("the CA is %s, want %s", got, want)
	}
}

// What keeps the registration authority from starting is named, with a hint.
func TestServeFails(t *testing.T) {
	dir := t.TempDir()
	lines := server(t, "Ctrl-C", "certsrv", "--listen", "127.0.0.1:0", "--root-file", filepath.Join(dir, "root.pem"))
	certsrv := find(t, lines, `certsrv +(https://.*)/certsrv/`)
	write(t, filepath.Join(dir, "password"), find(t, lines, `password (.*)$`))
	write(t, filepath.Join(dir, "wrong"), "not the password")
	for name, f := range map[string]struct {
		old, new string
		texts    []string
	}{
		"wrong password":   {"password_file: password", "password_file: wrong", []string{"refused", "hint: ", "lockout"}},
		"nobody there":     {certsrv, "https://127.0.0.1:1", []string{"refuses the connection", "hint: "}},
		"unknown host":     {certsrv, "https://certsrv.invalid", []string{"does not resolve", "hint: "}},
		"untrusted":        {"tls: {ca: [root.pem]}", "tls: {}", []string{"not trusted", "hint: "}},
		"no password file": {"password_file: password", "password_file: gone", []string{"certsrv.password_file", "no such file"}},
		"unknown key":      {"template: CiscoRA", "templates: CiscoRA", []string{"templates", "onlineca.yaml"}},
		"no template":      {"template: CiscoRA", "", []string{"certsrv.template: missing"}},
	} {
		t.Run(name, func(t *testing.T) {
			text := strings.Replace(settings(certsrv), f.old, f.new, 1)
			config := filepath.Join(dir, strings.ReplaceAll(name, " ", "-")+"-onlineca.yaml")
			write(t, config, text)
			r := onlineca(t, "serve", "--config", config)
			code := exitFailed
			if name == "wrong password" { // not to be tried again and again
				code = exitLoginRefused
			}
			r.want(t, code, f.texts...)
			if strings.Contains(r.stderr+r.stdout, "not the password") {
				t.Error("the password is shown")
			}
		})
	}
}

// A template that is not offered looks like refused credentials to a client, as
// in the product, but the server says what it is.
func TestTemplateTypo(t *testing.T) {
	c := startRoad(t, "")
	config := filepath.Join(c.dir, "onlineca.yaml")
	write(t, config, strings.Replace(read(t, config), "CiscoRA", "CiscoAR", 1))
	lines := another(t, "clients trust it by", config)
	c.est = find(t, lines, `EST +(https://.*)/.well-known/est/`)
	csrs, out := t.TempDir(), t.TempDir()
	makeCSR(t, csrs, "SEP00112233AAAA")
	c.enroll(t, out, csrs).want(t, 1, "1 failed", "template is not offered")
	errorLog := read(t, filepath.Join(c.dir, "logs/ces/error.log"))
	for _, l := range []string{
		"navigate_to_certsrv_page: Secure connection to MS CertServ completed successfully",
		"***EST [WARNING][est_enroll_auth:394]--> HTTP authentication failed. Auth type=1",
		"***EST [WARNING][est_http_request:1435]--> Enrollment failed with rc=22 (EST_ERR_AUTH_FAIL)",
	} {
		if !strings.Contains(errorLog, l) {
			t.Errorf("error.log lacks %q:\n%s", l, errorLog)
		}
	}
}

// A request that waits for a manager is collected by a later run.
func TestPending(t *testing.T) {
	c := startRoad(t, "", "--fault", "hold")
	csrs, out := t.TempDir(), t.TempDir()
	makeCSR(t, csrs, "SEP00112233AAAA")
	c.enroll(t, out, csrs).want(t, 1, "1 failed", "approval")
	if !strings.Contains(read(t, filepath.Join(out, "logs/capf/capf00000001.txt")), "rv = 26 (EST_ERR_CA_ENROLL_RETRY)") {
		t.Error("the trace does not say that the request waits")
	}
}

// A device without a certificate or an account enrols with a one-time password.
func TestOneTimePassword(t *testing.T) {
	c := startRoad(t, "est: {auth: {tokens: tokens.json}}\n")
	config := filepath.Join(c.dir, "onlineca.yaml")
	r := onlineca(t, "token", "create", "--config", config, "--device", "SEP00112233AAAA", "--ttl", "1h")
	r.want(t, 0)
	token := strings.TrimSpace(r.stdout)
	write(t, filepath.Join(c.dir, "token"), token)
	csrs, out := t.TempDir(), t.TempDir()
	makeCSR(t, csrs, "SEP00112233AAAA")
	enroll := func(user, out string) result {
		return onlineca(t, "enroll", "--server", c.est, "--ca", c.estCA, "--user", user,
			"--password-file", filepath.Join(c.dir, "token"), "--out", out, csrs)
	}
	enroll("SEP00112233BBBB", t.TempDir()).want(t, 1, "1 failed")
	enroll("SEP00112233AAAA", out).want(t, 0, "1 issued")
	onlineca(t, "token", "list", "--config", config).want(t, 0, "SEP00112233AAAA")
	if strings.Contains(read(t, filepath.Join(c.dir, "tokens.json")), token) {
		t.Error("the password itself is stored")
	}
	onlineca(t, "token", "revoke", "--config", config, "--device", "SEP00112233AAAA").want(t, 0, "1 taken back")
	enroll("SEP00112233AAAA", t.TempDir()).want(t, 1, "1 failed")
}

func onlyThese(t *testing.T, dir string, names ...string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, e := range entries {
		got = append(got, e.Name())
	}
	if fmt.Sprint(got) != fmt.Sprint(names) {
		t.Errorf("%s holds %v, want %v", dir, got, names)
	}
}

func TestInterrupted(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	var stdout, stderr bytes.Buffer
	out := filepath.Join(t.TempDir(), "lab")
	if code := run(ctx, []string{"lab", "--out", out}, strings.NewReader(""), &stdout, &stderr); code != exitInterrupted {
		t.Errorf("exit code %d, want %d", code, exitInterrupted)
	}
	if got := stderr.String(); !strings.Contains(got, "onlineca: interrupted\n") {
		t.Errorf("it says %q", got)
	}
}

func read(t *testing.T, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func readDER(t *testing.T, path string) *x509.Certificate {
	t.Helper()
	cert, err := x509.ParseCertificate([]byte(read(t, path)))
	if err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	return cert
}

// What the mock can be is set by flags: here a stand-alone CA that asks nobody
// who they are, and gives its first request a number of its own.
func TestCertsrvIsWhatTheFlagsSay(t *testing.T) {
	root := filepath.Join(t.TempDir(), "root.pem")
	lines := server(t, "Ctrl-C", "certsrv", "--listen", "127.0.0.1:0", "--root-file", root,
		"--anonymous", "--standalone", "--first-req-id", "4711", "--lockout", "3", "--require-mic", "--auth-per-request", "--san-attribute")
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM([]byte(read(t, root)))
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}}}
	t.Cleanup(client.CloseIdleConnections)
	url := find(t, lines, `certsrv +(https://.*/certsrv)/`)
	csrs := t.TempDir()
	csr, _ := makeCSR(t, csrs, "SEP00112233AAAA")
	resp, err := client.PostForm(url+"/certfnsh.asp", map[string][]string{"Mode": {"newreq"}, "CertRequest": {read(t, csr)}})
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	page, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK || !strings.Contains(string(page), "Your Request Id is 4711.") {
		t.Errorf("%s %v\n%s", resp.Status, err, page)
	}
}

func TestCertsrvUsage(t *testing.T) {
	for _, bad := range [][]string{
		{"--epa", "maybe"}, {"--language", "tlh"}, {"--scheme", "Digest"}, {"--renewals", "4"}, {"--user", "ciscora"},
		{"--min-key-size", "512"}, {"--min-key-size", "1024", "--standalone"}, {"--lockout", "-1"}, {"--first-req-id", "-1"}, {"--template", "X", "--standalone"},
	} {
		onlineca(t, append([]string{"certsrv", "--listen", "127.0.0.1:0"}, bad...)...).want(t, 2, bad[0], "hint: ")
	}
}
