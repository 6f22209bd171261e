package estserver_test

import (
	"context"
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/globalsign/est"

	"github.com/onlineca/onlineca/estserver"
	"github.com/onlineca/onlineca/internal/interop"
	"github.com/onlineca/onlineca/ra"
)

// run runs a program in dir and returns what it printed.
func run(t *testing.T, dir, program string, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), interop.Look(program), args...)
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", program, strings.Join(args, " "), err, out)
	}
	return string(out)
}

func writePEM(t *testing.T, path, kind string, ders ...[]byte) {
	t.Helper()
	var text []byte
	for _, der := range ders {
		text = append(text, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})...)
	}
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
}

// curl and openssl are an EST client: the chain, an enrolment by password, one
// by certificate, and the check of what was issued.
func TestCurlAndOpenSSL(t *testing.T) {
	interop.Need(t, "curl", "openssl")
	b := start(t, func(c *estserver.Config) {
		c.Default.Auth.Certificates = &estserver.CertificateAuth{OwnChain: true}
	})
	dir := t.TempDir()
	writePEM(t, filepath.Join(dir, "anchor.pem"), "CERTIFICATE", b.ca.root.Raw)
	curl := func(args ...string) string {
		return run(t, dir, "curl", append([]string{"-sS", "--fail", "--http1.1", "--cacert", "anchor.pem"}, args...)...)
	}
	base := "https://localhost:" + b.addr[strings.LastIndex(b.addr, ":")+1:] + "/.well-known/est/"

	curl("-o", "cacerts.b64", base+"cacerts")
	run(t, dir, "openssl", "base64", "-d", "-in", "cacerts.b64", "-out", "cacerts.p7")
	run(t, dir, "openssl", "pkcs7", "-inform", "DER", "-in", "cacerts.p7", "-print_certs", "-out", "chain.pem")
	if text, err := os.ReadFile(filepath.Join(dir, "chain.pem")); err != nil || strings.Count(string(text), "BEGIN CERTIFICATE") != 2 {
		t.Errorf("chain.pem: %v\n%s", err, text)
	}

	run(t, dir, "openssl", "req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
		"-keyout", "key.pem", "-subj", "/CN=SEP001122334455", "-outform", "DER", "-out", "csr.der")
	run(t, dir, "openssl", "base64", "-in", "csr.der", "-out", "csr.b64")
	enrol := func(out, op string, extra ...string) {
		curl(append([]string{"-o", out + ".b64", "-H", "Content-Type: application/pkcs10", "--data-binary", "@csr.b64", base + op}, extra...)...)
		run(t, dir, "openssl", "base64", "-d", "-in", out+".b64", "-out", out+".p7")
		run(t, dir, "openssl", "pkcs7", "-inform", "DER", "-in", out+".p7", "-print_certs", "-out", out+".pem")
		if got := run(t, dir, "openssl", "verify", "-CAfile", "chain.pem", out+".pem"); !strings.Contains(got, out+".pem: OK") {
			t.Error(got)
		}
	}
	enrol("first", "simpleenroll", "-u", "ciscora:S3cret!pw")
	enrol("renewed", "simplereenroll", "--cert", "first.pem", "--key", "key.pem")

	var methods []string
	for _, r := range b.ca.seen() {
		methods = append(methods, string(r.Operation)+" "+r.Client.Name+" "+r.Client.Method)
	}
	if got := strings.Join(methods, ", "); got != "simpleenroll ciscora basic, simplereenroll SEP001122334455 certificate" {
		t.Error(got)
	}
	out, err := exec.CommandContext(t.Context(), "curl", "-sS", "--cacert", filepath.Join(dir, "anchor.pem"), "-w", "\n%{http_code} %{num_headers}",
		"-H", "Content-Type: application/pkcs10", "--data-binary", "@"+filepath.Join(dir, "csr.b64"), "-u", "ciscora:wrong", base+"simpleenroll").CombinedOutput()
	if err != nil || !strings.Contains(string(out), "bad-credentials") || !strings.Contains(string(out), "\n401 ") {
		t.Errorf("%v %s", err, out)
	}
}

// A user list that htpasswd wrote.
func TestHtpasswd(t *testing.T) {
	interop.Need(t, "htpasswd")
	dir := t.TempDir()
	run(t, dir, "htpasswd", "-cbB", "-C", "4", "users", "SEP001122334455", "pa:ss wörd")
	run(t, dir, "htpasswd", "-bB", "-C", "4", "users", "other", "x")
	list, err := ra.LoadUserList(filepath.Join(dir, "users"))
	if err != nil {
		t.Fatal(err)
	}
	b := start(t, func(c *estserver.Config) { c.Default.Auth.Basic = list })
	for password, status := range map[string]int{"pa:ss wörd": 200, "pa:ss": 401} {
		if res, body := b.post(t, enrollPath, "SEP001122334455", password, simpleCSR(t)); res.StatusCode != status {
			t.Errorf("%s: %d %s", password, res.StatusCode, body)
		}
	}
}

// globalsign/est's own client.
func TestGlobalSignClient(t *testing.T) {
	attrs, err := estserver.ParseCSRAttrs([]string{"p256", "subjectAltName", "1.3.6.1.1.1.1.22", "ecdsa-with-SHA256"})
	if err != nil {
		t.Fatal(err)
	}
	b := start(t, func(c *estserver.Config) {
		c.Default.CSRAttrs = attrs
		c.Default.Auth.Certificates = &estserver.CertificateAuth{OwnChain: true}
		c.Default.ServerKeygen = true
		c.Labels = map[string]estserver.Label{"phones": c.Default}
	})
	key := newKey(t)
	csr, err := x509.ParseCertificateRequest(csrOf(t, key, &x509.CertificateRequest{
		Subject: pkix.Name{CommonName: "SEP001122334455"}, DNSNames: []string{"sep.example.com"},
	}))
	if err != nil {
		t.Fatal(err)
	}
	c := &est.Client{Host: b.addr, ExplicitAnchor: b.roots, Username: "ciscora", Password: "S3cret!pw", AdditionalPathSegment: "phones"}
	ctx := context.Background()
	if certs, err := c.CACerts(ctx); err != nil || len(certs) != 2 {
		t.Fatalf("%d certificates, %v", len(certs), err)
	}
	got, err := c.CSRAttrs(ctx)
	if err != nil || len(got.OIDs) != 2 || len(got.Attributes) != 2 {
		t.Errorf("%+v, %v", got, err)
	}
	cert, err := c.Enroll(ctx, csr)
	if err != nil {
		t.Fatal(err)
	}
	c.Certificates, c.PrivateKey = []*x509.Certificate{cert}, crypto.PrivateKey(key)
	c.Username, c.Password = "", ""
	if _, err = c.Reenroll(ctx, csr); err != nil {
		t.Errorf("renew: %v", err)
	}
	made, pkcs8, err := c.ServerKeyGen(ctx, csr)
	if err != nil {
		t.Fatal(err)
	}
	priv, err := x509.ParsePKCS8PrivateKey(pkcs8)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tls.X509KeyPair(
		pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: made.Raw}),
		pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8}),
	); err != nil {
		t.Errorf("key and certificate: %v", err)
	}
	if key.Equal(priv) || len(made.DNSNames) != 1 || made.Subject.CommonName != "SEP001122334455" {
		t.Errorf("%v %v", made.Subject, made.DNSNames)
	}
}
