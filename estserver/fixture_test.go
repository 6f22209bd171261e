package estserver_test

import (
	"bufio"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/onlineca/onlineca/estserver"
	"github.com/onlineca/onlineca/ra"
	"github.com/onlineca/onlineca/ra/fault"
)

// authority is a certificate authority of one root and one issuing CA that is
// an ra.Enroller and an ra.ChainSource.
type authority struct {
	root, issuer *x509.Certificate
	rootKey, key *ecdsa.PrivateKey

	mu       sync.Mutex
	serial   int64
	requests []ra.Request
	// answer, if set, is asked instead.
	answer func(ctx context.Context, r ra.Request) (ra.Result, error)
}

func newAuthority(tb testing.TB, name string) *authority {
	tb.Helper()
	a := &authority{serial: 100}
	a.rootKey, a.key = newKey(tb), newKey(tb)
	a.root = makeCA(tb, name+" Root", 1, a.rootKey, nil, a.rootKey)
	a.issuer = makeCA(tb, name+" Issuing", 2, a.key, a.root, a.rootKey)
	return a
}

func newKey(tb testing.TB) *ecdsa.PrivateKey {
	tb.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		tb.Fatal(err)
	}
	return key
}

func makeCA(tb testing.TB, cn string, serial int64, key *ecdsa.PrivateKey, parent *x509.Certificate, signer crypto.Signer) *x509.Certificate {
	tb.Helper()
	t := &x509.Certificate{
		SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: cn, Organization: []string{"Not To Be Trusted"}},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	if parent == nil {
		parent = t
	}
	return makeCert(tb, t, parent, &key.PublicKey, signer)
}

func makeCert(tb testing.TB, t, parent *x509.Certificate, pub crypto.PublicKey, signer crypto.Signer) *x509.Certificate {
	tb.Helper()
	der, err := x509.CreateCertificate(rand.Reader, t, parent, pub, signer)
	if err != nil {
		tb.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		tb.Fatal(err)
	}
	return cert
}

// leaf makes an end-entity certificate; change may alter its template.
func (a *authority) leaf(tb testing.TB, cn string, key *ecdsa.PrivateKey, change func(*x509.Certificate)) *x509.Certificate {
	tb.Helper()
	t := &x509.Certificate{
		SerialNumber: big.NewInt(a.next()), Subject: pkix.Name{CommonName: cn},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth},
	}
	if change != nil {
		change(t)
	}
	return makeCert(tb, t, a.issuer, &key.PublicKey, a.key)
}

func (a *authority) next() int64 {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.serial++
	return a.serial
}

func (a *authority) CACerts(context.Context) ([]*x509.Certificate, error) {
	return []*x509.Certificate{a.issuer, a.root}, nil
}

func (a *authority) Enroll(ctx context.Context, r ra.Request) (ra.Result, error) {
	a.mu.Lock()
	a.requests = append(a.requests, r)
	answer := a.answer
	a.mu.Unlock()
	if answer != nil {
		return answer(ctx, r)
	}
	t := &x509.Certificate{
		SerialNumber: big.NewInt(a.next()), RawSubject: r.CSR.RawSubject, DNSNames: r.CSR.DNSNames,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, t, a.issuer, r.CSR.PublicKey, a.key)
	if err != nil {
		return ra.Result{}, err
	}
	cert, err := x509.ParseCertificate(der)
	return ra.Result{State: ra.Issued, Certificate: cert, ReqID: int(t.SerialNumber.Int64())}, err
}

// setAnswer has f answer from now on, or the authority itself if it is nil.
func (a *authority) setAnswer(f func(ctx context.Context, r ra.Request) (ra.Result, error)) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.answer = f
}

// seen returns the requests that reached the authority.
func (a *authority) seen() []ra.Request {
	a.mu.Lock()
	defer a.mu.Unlock()
	return append([]ra.Request(nil), a.requests...)
}

// users is an ra.Authenticator.
type users map[string]string

func (u users) Authenticate(_ context.Context, c ra.Credentials) error {
	if p, ok := u[c.Username]; !ok || p != c.Password {
		return fault.Newf(fault.BadCredentials, "test", "no")
	}
	return nil
}

// bench is a running server and all that belongs to it.
type bench struct {
	ca     *authority
	server *estserver.Server
	addr   string
	roots  *x509.CertPool
}

var testUsers = users{"ciscora": "S3cret!pw"}

// configure makes a server; change may alter its configuration.
func configure(tb testing.TB, change func(*estserver.Config)) *bench {
	tb.Helper()
	b := &bench{ca: newAuthority(tb, "EST Test"), roots: x509.NewCertPool()}
	b.roots.AddCert(b.ca.root)
	key := newKey(tb)
	cert := b.ca.leaf(tb, "localhost", key, func(t *x509.Certificate) {
		t.DNSNames, t.IPAddresses = []string{"localhost"}, []net.IP{net.IPv4(127, 0, 0, 1)}
	})
	pair := &tls.Certificate{Certificate: [][]byte{cert.Raw, b.ca.issuer.Raw}, PrivateKey: key, Leaf: cert}
	cfg := estserver.Config{
		Enroller: b.ca, Chain: b.ca,
		Default:        estserver.Label{Auth: estserver.Auth{Basic: testUsers}},
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return pair, nil },
	}
	if change != nil {
		change(&cfg)
	}
	var err error
	if b.server, err = estserver.New(cfg); err != nil {
		tb.Fatal(err)
	}
	return b
}

// start runs a server on loopback.
func start(tb testing.TB, change func(*estserver.Config)) *bench {
	tb.Helper()
	b := configure(tb, change)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	b.addr = l.Addr().String()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- b.server.Serve(ctx, l) }()
	tb.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			tb.Error(err)
		}
	})
	return b
}

// tlsConfig is that of a client that trusts the bench, and that presents its
// certificate whatever names of CAs the server sends.
func (b *bench) tlsConfig(certs ...tls.Certificate) *tls.Config {
	cfg := &tls.Config{RootCAs: b.roots, ServerName: "localhost"}
	if len(certs) > 0 {
		cfg.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &certs[0], nil }
	}
	return cfg
}

// client is an HTTP client that keeps no connections.
func (b *bench) client(certs ...tls.Certificate) *http.Client {
	return &http.Client{Transport: &http.Transport{TLSClientConfig: b.tlsConfig(certs...), DisableKeepAlives: true}}
}

func (b *bench) url(path string) string { return "https://" + b.addr + path }

// raw sends text over a TLS connection of its own and returns everything that
// comes back until the server closes.
func (b *bench) raw(tb testing.TB, text string) string {
	tb.Helper()
	conn, err := tls.Dial("tcp", b.addr, b.tlsConfig())
	if err != nil {
		tb.Fatal(err)
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, text); err != nil {
		tb.Fatal(err)
	}
	got, err := io.ReadAll(conn)
	if err != nil && len(got) == 0 {
		tb.Fatal(err)
	}
	return string(got)
}

const basicHeader = "Authorization: Basic Y2lzY29yYTpTM2NyZXQhcHc=\r\n" // ciscora:S3cret!pw

// rawPost is a POST as libEST sends it: no Content-Transfer-Encoding,
// Connection: close.
func rawPost(path, headers, body string) string {
	return fmt.Sprintf("POST %s HTTP/1.1\r\nHost: localhost\r\nUser-Agent: Cisco EST client 1.0\r\nConnection: close\r\n%s"+
		"Content-Type: application/pkcs10\r\nContent-Length: %d\r\n\r\n%s", path, headers, len(body), body)
}

// readAnswer parses a raw answer.
func readAnswer(tb testing.TB, raw string) (*http.Response, string) {
	tb.Helper()
	res, err := http.ReadResponse(bufio.NewReader(strings.NewReader(raw)), nil)
	if err != nil {
		tb.Fatalf("%v in %q", err, raw)
	}
	body, err := io.ReadAll(res.Body)
	if err != nil {
		tb.Fatalf("%v in %q", err, raw)
	}
	return res, string(body)
}

// csrOf makes a request in DER.
func csrOf(tb testing.TB, key crypto.Signer, t *x509.CertificateRequest) []byte {
	tb.Helper()
	der, err := x509.CreateCertificateRequest(rand.Reader, t, key)
	if err != nil {
		tb.Fatal(err)
	}
	return der
}

// simpleCSR is the request of a phone.
func simpleCSR(tb testing.TB) []byte {
	tb.Helper()
	return csrOf(tb, newKey(tb), &x509.CertificateRequest{Subject: pkix.Name{CommonName: "SEP001122334455"}})
}

func b64(der []byte) string { return base64.StdEncoding.EncodeToString(der) }

// fold breaks s into lines.
func fold(s string, n int, eol string) string {
	var b strings.Builder
	for len(s) > 0 {
		k := min(n, len(s))
		b.WriteString(s[:k] + eol)
		s = s[k:]
	}
	return b.String()
}
