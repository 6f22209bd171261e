package estserver_test

import (
	"crypto/tls"
	"crypto/x509"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/onlineca/onlineca/estserver"
	"github.com/onlineca/onlineca/ra"
)

// Without TLS nothing is served, except to a trusted proxy.
func TestPlainHTTPIsForTheProxyOnly(t *testing.T) {
	for trusted, status := range map[string]int{"127.0.0.0/8": http.StatusOK, "192.0.2.0/24": http.StatusBadRequest} {
		b := start(t, func(c *estserver.Config) {
			c.Plain = true
			c.TrustedProxies = []netip.Prefix{netip.MustParsePrefix(trusted)}
		})
		res, err := http.Get("http://" + b.addr + "/.well-known/est/cacerts")
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(res.Body)
		res.Body.Close()
		if err != nil {
			t.Fatal(err)
		}
		if res.StatusCode != status {
			t.Errorf("%s: %d, want %d", trusted, res.StatusCode, status)
		}
		if says := strings.Contains(string(body), "HTTP from 127.0.0.1, which is not a trusted proxy"); says != (status == http.StatusBadRequest) {
			t.Errorf("%s: %s", trusted, body)
		}
	}
}

// The certificate by which a proxy itself connects is not the client's.
func TestTheProxysOwnCertificateIsNobodys(t *testing.T) {
	for _, header := range []string{"", "X-SSL-Client-Cert"} {
		b := start(t, func(c *estserver.Config) {
			c.TrustedProxies = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
			c.ProxyCertificateHeader = header
			c.Default.Auth = estserver.Auth{Certificates: &estserver.CertificateAuth{OwnChain: true}}
		})
		res, body := b.post(t, enrollPath, "", "", simpleCSR(t), b.pairOf(t, "proxy", nil))
		if res.StatusCode != http.StatusUnauthorized || !strings.Contains(body, "presented none") {
			t.Errorf("%d %s", res.StatusCode, body)
		}
	}
}

// Certificates signed with SHA-1, as old manufacturing CAs did, are refused in
// words.
func TestSHA1ClientCertificate(t *testing.T) {
	b := start(t, func(c *estserver.Config) {
		c.Default.Auth = estserver.Auth{Certificates: &estserver.CertificateAuth{OwnChain: true}}
	})
	old := b.pairOf(t, "SEP001122334455", func(c *x509.Certificate) { c.SignatureAlgorithm = x509.ECDSAWithSHA1 })
	res, body := b.post(t, enrollPath, "", "", simpleCSR(t), old)
	if res.StatusCode != http.StatusUnauthorized || !strings.Contains(body, "signed with ECDSA-SHA1") {
		t.Errorf("%d %s", res.StatusCode, body)
	}
}

// A client that asks too often is told to wait.
func TestRatePerLabel(t *testing.T) {
	b := start(t, func(c *estserver.Config) {
		c.Default.Rate = &ra.Rate{Every: time.Hour, Burst: 2}
	})
	der := simpleCSR(t)
	for i, status := range []int{200, 200, 202} {
		res, body := b.post(t, enrollPath, "ciscora", "S3cret!pw", der)
		if res.StatusCode != status || (status == http.StatusAccepted) != (res.Header.Get("Retry-After") != "") {
			t.Errorf("request %d: %d %s", i+1, res.StatusCode, body)
		}
	}
	if n := len(b.ca.seen()); n != 2 {
		t.Errorf("%d requests reached the authority", n)
	}
}

// Under somebody else's http.Server the handler works as well.
func TestHandler(t *testing.T) {
	b := configure(t, nil)
	srv := httptest.NewTLSServer(b.server.Handler())
	defer srv.Close()
	res, err := srv.Client().Get(srv.URL + "/.well-known/est/cacerts")
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	if res.StatusCode != http.StatusOK {
		t.Errorf("%d", res.StatusCode)
	}
}

// The client's certificate request is answered by whatever it likes to send: a
// chain of rubbish beside a good certificate does no harm.
func TestForeignCertificatesInTheChain(t *testing.T) {
	other := newAuthority(t, "Other")
	b := start(t, func(c *estserver.Config) {
		c.Default.Auth = estserver.Auth{Certificates: &estserver.CertificateAuth{CAs: []*x509.Certificate{c.Chain.(*authority).root}}}
	})
	good := b.pairOf(t, "SEP001122334455", nil)
	good.Certificate = append([][]byte{good.Certificate[0], other.issuer.Raw, other.root.Raw}, good.Certificate[1:]...)
	if res, body := b.post(t, enrollPath, "", "", simpleCSR(t), good); res.StatusCode != http.StatusOK {
		t.Errorf("%d %s", res.StatusCode, body)
	}
	// A root that the client brings along is not trusted for that.
	key := newKey(t)
	evil := tls.Certificate{PrivateKey: key, Certificate: [][]byte{other.leaf(t, "SEP001122334455", key, nil).Raw, other.issuer.Raw, other.root.Raw}}
	if res, body := b.post(t, enrollPath, "", "", simpleCSR(t), evil); res.StatusCode != http.StatusUnauthorized {
		t.Errorf("%d %s", res.StatusCode, body)
	}
}

// A body that stops arriving is the client's trouble, not a fault of this
// program.
func TestStalledBody(t *testing.T) {
	b := start(t, func(c *estserver.Config) { c.Timeouts.Read = 200 * time.Millisecond })
	whole := rawPost(enrollPath, basicHeader, b64(simpleCSR(t)))
	got := b.raw(t, whole[:len(whole)-50])
	if !strings.HasPrefix(got, "HTTP/1.1 400 Bad Request\r\n") || !strings.Contains(got, "The body did not arrive within 200ms.") {
		t.Errorf("%q", got)
	}
}
