package estserver_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/onlineca/onlineca/estserver"
	"github.com/onlineca/onlineca/internal/interop"
)

// Debian's nginx ends TLS in front of the server, configured as docs/nginx.md
// says: passwords, certificates and headers arrive, and what a client puts into
// the proxy's own headers does not.
func TestNginx(t *testing.T) {
	interop.Need(t, "nginx")
	b := start(t, func(c *estserver.Config) {
		c.Plain, c.GetCertificate = true, nil
		c.TrustedProxies = []netip.Prefix{netip.MustParsePrefix("127.0.0.1/32")}
		c.ProxyCertificateHeader = "X-SSL-Client-Cert"
		ca := c.Chain.(*authority)
		c.Default.Auth.Certificates = &estserver.CertificateAuth{CAs: []*x509.Certificate{ca.root, ca.issuer}}
	})
	b.addr = runNginx(t, b, b.addr)
	good := b.pairOf(t, "SEP001122334455", nil)
	good.Certificate = good.Certificate[:1] // nginx hands on no more
	expired := b.pairOf(t, "SEP001122334455", func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Minute) })
	key := newKey(t)
	self := tls.Certificate{PrivateKey: key, Certificate: [][]byte{makeCA(t, "SEP1", 5, key, nil, key).Raw}}

	for _, p := range []struct {
		name, user, password string
		certs                []tls.Certificate
		status               int
		who                  string
	}{
		{"password", "ciscora", "S3cret!pw", nil, 200, "basic ciscora"},
		{"wrong password", "ciscora", "x", nil, 401, ""},
		{"certificate", "", "", []tls.Certificate{good}, 200, "certificate SEP001122334455"},
		{"self-signed certificate", "", "", []tls.Certificate{self}, 401, ""},
		{"expired certificate", "", "", []tls.Certificate{expired}, 401, ""},
		{"expired certificate, password", "ciscora", "S3cret!pw", []tls.Certificate{expired}, 200, "basic ciscora"},
	} {
		before := len(b.ca.seen())
		res, body := b.post(t, enrollPath, p.user, p.password, simpleCSR(t), p.certs...)
		if res.StatusCode != p.status {
			t.Errorf("%s: %d %s", p.name, res.StatusCode, body)
			continue
		}
		if got := b.ca.seen()[before:]; p.who != "" && (len(got) != 1 || got[0].Client.Method+" "+got[0].Client.Name != p.who) {
			t.Errorf("%s: %+v", p.name, got)
		}
	}

	// A client that forges the proxy's headers is nobody.
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: good.Certificate[0]})
	forged := "X-SSL-Client-Cert: " + strings.NewReplacer("\n", "%0A", " ", "%20", "+", "%2B").Replace(string(text)) + "\r\nX-Forwarded-For: 6.6.6.6\r\n"
	raw := b.raw(t, rawPost(enrollPath, forged, b64(simpleCSR(t))))
	if !strings.HasPrefix(raw, "HTTP/1.1 401 ") {
		t.Errorf("%s", raw)
	}
	// What libEST looks for is still as it looks for it.
	checkChallenge(t, raw)
	raw = b.raw(t, rawPost(enrollPath, basicHeader+"X-Forwarded-For: 6.6.6.6\r\n", b64(simpleCSR(t))))
	head, body, _ := strings.Cut(raw, "\r\n\r\n")
	for _, want := range []string{"HTTP/1.1 200 OK\r\n", "\r\nContent-Type: application/pkcs7-mime; smime-type=certs-only\r\n", fmt.Sprintf("\r\nContent-Length: %d\r\n", len(body))} {
		if !strings.Contains(head+"\r\n", want) {
			t.Errorf("no %q in %q", want, head)
		}
	}
	if seen := b.ca.seen(); seen[len(seen)-1].Client.Addr != "127.0.0.1" {
		t.Errorf("the client's address is %s", seen[len(seen)-1].Client.Addr)
	}
}

// runNginx runs nginx in front of upstream and returns its address.
func runNginx(t *testing.T, b *bench, upstream string) string {
	t.Helper()
	dir := t.TempDir()
	page, err := os.ReadFile(filepath.Join("..", "docs", "nginx.md"))
	if err != nil {
		t.Fatal(err)
	}
	block := regexp.MustCompile("(?s)```nginx\n(.*?)```").FindSubmatch(page)
	if block == nil {
		t.Fatal("docs/nginx.md has no nginx block")
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	l.Close()
	server := string(block[1])
	for old, new := range map[string]string{"8084 ssl": addr + " ssl", "127.0.0.1:8085": upstream, "/etc/onlineca": dir} {
		if !strings.Contains(server, old) {
			t.Fatalf("docs/nginx.md has no %q", old)
		}
		server = strings.ReplaceAll(server, old, new)
	}
	user := ""
	if os.Geteuid() == 0 {
		user = "user root root;\n"
	}
	conf := user + "daemon off;\nerror_log stderr notice;\npid nginx.pid;\nevents {}\nhttp {\naccess_log off;\n"
	for _, temp := range []string{"client_body", "proxy", "fastcgi", "uwsgi", "scgi"} {
		conf += temp + "_temp_path " + temp + ";\n"
	}
	key := newKey(t)
	cert := b.ca.leaf(t, "localhost", key, func(c *x509.Certificate) { c.DNSNames = []string{"localhost"} })
	writePEM(t, filepath.Join(dir, "ra.pem"), "CERTIFICATE", cert.Raw, b.ca.issuer.Raw)
	writePEM(t, filepath.Join(dir, "client-cas.pem"), "CERTIFICATE", b.ca.root.Raw)
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	writePEM(t, filepath.Join(dir, "ra.key"), "PRIVATE KEY", pkcs8)
	if err := os.WriteFile(filepath.Join(dir, "nginx.conf"), []byte(conf+server+"}\n"), 0o600); err != nil {
		t.Fatal(err)
	}

	ctx, cancel := context.WithCancel(context.Background())
	var said strings.Builder
	cmd := exec.CommandContext(ctx, interop.Look("nginx"), "-p", dir, "-c", filepath.Join(dir, "nginx.conf"), "-e", "stderr")
	cmd.Stderr = &said
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = 10 * time.Second
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	exited := make(chan struct{})
	go func() { _ = cmd.Wait(); close(exited) }()
	t.Cleanup(func() { cancel(); <-exited })
	for tick := time.NewTicker(10 * time.Millisecond); ; {
		if c, err := net.Dial("tcp", addr); err == nil {
			c.Close()
			tick.Stop()
			return addr
		}
		select {
		case <-tick.C:
		case <-exited:
			t.Fatalf("nginx ended: %s", said.String())
		}
	}
}
