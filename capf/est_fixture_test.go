package capf_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/smallstep/pkcs7"

	"github.com/onlineca/onlineca/capf"
)

// estCA is a CA of the tests: a root, an issuing CA and an EST server.
type estCA struct {
	root, issuing *x509.Certificate
	key           *ecdsa.PrivateKey
	server        tls.Certificate
	roots         *x509.CertPool

	mu     sync.Mutex
	serial int64
}

func estKey(tb testing.TB) *ecdsa.PrivateKey {
	tb.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		tb.Fatal(err)
	}
	return k
}

func estSign(tb testing.TB, tmpl, parent *x509.Certificate, pub crypto.PublicKey, key crypto.Signer) *x509.Certificate {
	tb.Helper()
	der, err := x509.CreateCertificate(rand.Reader, tmpl, parent, pub, key)
	if err != nil {
		tb.Fatal(err)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		tb.Fatal(err)
	}
	return c
}

// newESTCA makes a CA by the current clock, which inside a synctest bubble is
// the bubble's.
func newESTCA(tb testing.TB) *estCA {
	tb.Helper()
	now := time.Now()
	authority := func(cn string, serial int64) *x509.Certificate {
		return &x509.Certificate{
			SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: cn},
			NotBefore: now.Add(-time.Hour), NotAfter: now.Add(24 * time.Hour),
			IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
		}
	}
	rootKey, caKey, serverKey := estKey(tb), estKey(tb), estKey(tb)
	rootTmpl := authority("Test Root", 1)
	root := estSign(tb, rootTmpl, rootTmpl, rootKey.Public(), rootKey)
	issuing := estSign(tb, authority("Test Issuing CA", 2), root, caKey.Public(), rootKey)
	server := estSign(tb, &x509.Certificate{
		SerialNumber: big.NewInt(3), Subject: pkix.Name{CommonName: "ra.test"},
		NotBefore: now.Add(-time.Hour), NotAfter: now.Add(24 * time.Hour),
		DNSNames: []string{"ra.test"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}, issuing, serverKey.Public(), caKey)
	ca := &estCA{root: root, issuing: issuing, key: caKey, roots: x509.NewCertPool(), serial: 100}
	ca.roots.AddCert(root)
	ca.server = tls.Certificate{Certificate: [][]byte{server.Raw, issuing.Raw}, PrivateKey: serverKey}
	return ca
}

// issue signs a certificate for a request; change may alter it first.
func (ca *estCA) issue(tb testing.TB, csr *x509.CertificateRequest, change func(*x509.Certificate)) *x509.Certificate {
	tb.Helper()
	ca.mu.Lock()
	ca.serial++
	serial := ca.serial
	ca.mu.Unlock()
	now := time.Now()
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(serial), Subject: csr.Subject,
		NotBefore: now.Add(-time.Minute), NotAfter: now.Add(12 * time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageKeyEncipherment,
	}
	if change != nil {
		change(tmpl)
	}
	return estSign(tb, tmpl, ca.issuing, csr.PublicKey, ca.key)
}

func estP7(tb testing.TB, certs ...*x509.Certificate) []byte {
	tb.Helper()
	var all []byte
	for _, c := range certs {
		all = append(all, c.Raw...)
	}
	der, err := pkcs7.DegenerateCertificate(all)
	if err != nil {
		tb.Fatal(err)
	}
	return der
}

func estCSR(tb testing.TB, cn string) []byte {
	tb.Helper()
	return estCSRFor(tb, cn, estKey(tb))
}

func estCSRFor(tb testing.TB, cn string, key crypto.Signer) []byte {
	tb.Helper()
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: pkix.Name{CommonName: cn}}, key)
	if err != nil {
		tb.Fatal(err)
	}
	return der
}

// estWire is base64 as libEST's server writes it, NUL and all.
func estWire(der []byte) string {
	s := base64.StdEncoding.EncodeToString(der)
	var b strings.Builder
	for len(s) > 64 {
		b.WriteString(s[:64] + "\n")
		s = s[64:]
	}
	return b.String() + s + "\n\x00"
}

const estP7Type = "application/pkcs7-mime; smime-type=certs-only"

// estHTTP is an answer in the form of libEST's server.
func estHTTP(status string, headers []string, body string) string {
	head := "HTTP/1.1 " + status + "\r\n"
	if len(headers) > 0 {
		head += strings.Join(headers, "\r\n") + "\r\n"
	}
	return head + fmt.Sprintf("Content-Length: %d\r\nConnection: close\r\n\r\n", len(body)) + body
}

var (
	estChallenge = estHTTP("401 Unauthorized", []string{`WWW-Authenticate: Basic realm="estrealm"`}, "")
	estDenied    = estHTTP("401 Unauthorized", nil, "Error 401: Unauthorized\nThe server was unable to authorize the request.\n")
)

// estSeen is a request as the server saw it.
type estSeen struct {
	method, path string
	header       http.Header
	host         string
	body         []byte
	user, pass   string
	login        bool
	resumed      bool
}

// libest behaves like Cisco's EST server: one request a connection, headers and
// body in writes of their own, strict about what it reads.
type libest struct {
	tb     testing.TB
	ca     *estCA
	tls    *tls.Config
	ln     net.Listener
	dial   func(ctx context.Context, network, addr string) (net.Conn, error)
	answer func(s *estSeen) string // nil: enrol
	// broken takes the connection over before TLS.
	broken func(net.Conn)
	// linger keeps the connection open after the answer.
	linger bool
	wg     sync.WaitGroup

	mu   sync.Mutex
	seen []*estSeen
}

// newLibest starts a server on loopback, or if ln is given there.
func newLibest(tb testing.TB, ca *estCA, ln net.Listener, change func(*libest)) *libest {
	tb.Helper()
	s := &libest{tb: tb, ca: ca, ln: ln, tls: &tls.Config{Certificates: []tls.Certificate{ca.server}, MinVersion: tls.VersionTLS12}}
	if ln == nil {
		var err error
		if s.ln, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
			tb.Fatal(err)
		}
	}
	if m, ok := s.ln.(*estMemory); ok {
		s.dial = m.dial
	}
	if change != nil {
		change(s)
	}
	s.wg.Go(func() {
		for {
			conn, err := s.ln.Accept()
			if err != nil {
				return
			}
			s.wg.Go(func() { s.serve(conn) })
		}
	})
	return s
}

func (s *libest) close() {
	s.ln.Close()
	s.wg.Wait()
}

func (s *libest) config() capf.ESTConfig {
	return capf.ESTConfig{Server: "https://" + s.ln.Addr().String(), Roots: s.ca.roots, Dial: s.dial, Username: "ciscora", Password: "s3cret"}
}

func (s *libest) client(change func(*capf.ESTConfig)) *capf.ESTClient {
	s.tb.Helper()
	cfg := s.config()
	if change != nil {
		change(&cfg)
	}
	c, err := capf.NewESTClient(cfg)
	if err != nil {
		s.tb.Fatal(err)
	}
	return c
}

func (s *libest) requests() []*estSeen {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]*estSeen(nil), s.seen...)
}

func (s *libest) serve(raw net.Conn) {
	defer raw.Close()
	if s.broken != nil {
		s.broken(raw)
		return
	}
	conn := tls.Server(raw, s.tls)
	defer conn.Close()
	if err := conn.Handshake(); err != nil {
		return
	}
	req, err := http.ReadRequest(bufio.NewReader(conn))
	if err != nil {
		return
	}
	body, err := io.ReadAll(req.Body)
	if err != nil {
		return
	}
	seen := &estSeen{method: req.Method, path: req.URL.Path, header: req.Header, host: req.Host, body: body, resumed: conn.ConnectionState().DidResume}
	seen.user, seen.pass, seen.login = req.BasicAuth()
	s.mu.Lock()
	s.seen = append(s.seen, seen)
	s.mu.Unlock()
	if complaint := estStrict(req, body); complaint != "" {
		s.tb.Errorf("%s %s: %s", req.Method, req.URL.Path, complaint)
		return
	}
	reply := s.reply(seen)
	head, tail, _ := strings.Cut(reply, "\r\n\r\n")
	if reply == "" {
		return
	}
	if _, err := io.WriteString(conn, head+"\r\n\r\n"); err == nil {
		_, _ = io.WriteString(conn, tail)
	}
	if s.linger {
		_, _ = io.Copy(io.Discard, conn)
	}
}

// estStrict is what libEST's server refuses (est.md, "libest server").
func estStrict(req *http.Request, body []byte) string {
	switch {
	case !req.Close:
		return "no Connection: close"
	case req.Method == http.MethodGet:
		return ""
	case len(req.TransferEncoding) > 0:
		return "chunked"
	case req.ContentLength != int64(len(body)) || req.Header.Get("Content-Length") == "" && req.ContentLength <= 0:
		return "no Content-Length"
	case len(body) > 8192:
		return "413"
	case req.Header.Get("Content-Type") != "application/pkcs10":
		return "content type " + req.Header.Get("Content-Type")
	case !bytes.HasSuffix(body, []byte("\n")):
		return "no newline at the end"
	}
	lines := strings.Split(strings.TrimSuffix(string(body), "\n"), "\n")
	for i, l := range lines {
		if len(l) > 64 || i < len(lines)-1 && len(l) != 64 {
			return fmt.Sprintf("line of %d columns", len(l))
		}
	}
	return ""
}

func (s *libest) reply(seen *estSeen) string {
	if s.answer != nil {
		return s.answer(seen)
	}
	return s.normal(seen)
}

// normal is what the server does when nothing is wrong.
func (s *libest) normal(seen *estSeen) string {
	if strings.HasSuffix(seen.path, "/cacerts") {
		return estHTTP("200 OK", []string{"Status: 200 OK", "Content-Type: application/pkcs7-mime"}, estWire(estP7(s.tb, s.ca.issuing, s.ca.root)))
	}
	if !seen.login {
		return estChallenge
	}
	if seen.user != "ciscora" || seen.pass != "s3cret" {
		return estDenied
	}
	return s.issued(seen, nil)
}

func (s *libest) issued(seen *estSeen, change func(*x509.Certificate)) string {
	csr := estParse(s.tb, seen.body)
	return estOK(estP7(s.tb, s.ca.issue(s.tb, csr, change)))
}

func estOK(p7 []byte) string {
	return estHTTP("200 OK", []string{"Status: 200 OK", "Content-Type: " + estP7Type}, estWire(p7))
}

func estParse(tb testing.TB, body []byte) *x509.CertificateRequest {
	tb.Helper()
	der, err := base64.StdEncoding.DecodeString(strings.ReplaceAll(string(body), "\n", ""))
	if err != nil {
		tb.Error(err)
		return nil
	}
	csr, err := x509.ParseCertificateRequest(der)
	if err != nil {
		tb.Error(err)
	}
	return csr
}

// estMemory is a listener without a network, for tests under synctest.
type estMemory struct {
	conns chan net.Conn
	done  chan struct{}
	once  sync.Once
}

func newESTMemory() *estMemory {
	return &estMemory{conns: make(chan net.Conn), done: make(chan struct{})}
}

func (m *estMemory) Accept() (net.Conn, error) {
	select {
	case c := <-m.conns:
		return c, nil
	case <-m.done:
		return nil, net.ErrClosed
	}
}

func (m *estMemory) Close() error { m.once.Do(func() { close(m.done) }); return nil }

func (m *estMemory) Addr() net.Addr { return estAddr{} }

type estAddr struct{}

func (estAddr) Network() string { return "memory" }
func (estAddr) String() string  { return "ra.test:8084" }

func (m *estMemory) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	here, there := newESTPipe()
	select {
	case m.conns <- there:
		return here, nil
	case <-m.done:
		return nil, errors.New("connection refused")
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// estHalf is one direction of a connection. Unlike net.Pipe it has a buffer, as
// TCP has: nobody waits for the reader.
type estHalf struct {
	mu     sync.Mutex
	more   *sync.Cond
	data   []byte
	closed bool
}

func newESTHalf() *estHalf { h := &estHalf{}; h.more = sync.NewCond(&h.mu); return h }

func (h *estHalf) Read(p []byte) (int, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for len(h.data) == 0 && !h.closed {
		h.more.Wait()
	}
	if len(h.data) == 0 {
		return 0, io.EOF
	}
	n := copy(p, h.data)
	h.data = h.data[n:]
	return n, nil
}

func (h *estHalf) Write(p []byte) (int, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return 0, io.ErrClosedPipe
	}
	h.data = append(h.data, p...)
	h.more.Broadcast()
	return len(p), nil
}

func (h *estHalf) close() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.closed = true
	h.more.Broadcast()
}

// estPipe is one end of a connection in memory.
type estPipe struct{ in, out *estHalf }

func newESTPipe() (a, b net.Conn) {
	x, y := newESTHalf(), newESTHalf()
	return estPipe{x, y}, estPipe{y, x}
}

func (p estPipe) Read(b []byte) (int, error)       { return p.in.Read(b) }
func (p estPipe) Write(b []byte) (int, error)      { return p.out.Write(b) }
func (p estPipe) Close() error                     { p.in.close(); p.out.close(); return nil }
func (p estPipe) LocalAddr() net.Addr              { return estAddr{} }
func (p estPipe) RemoteAddr() net.Addr             { return estAddr{} }
func (p estPipe) SetDeadline(time.Time) error      { return nil }
func (p estPipe) SetReadDeadline(time.Time) error  { return nil }
func (p estPipe) SetWriteDeadline(time.Time) error { return nil }

// estFile writes a file into a new directory and returns its path.
func estFile(tb testing.TB, dir, name string, data []byte) string {
	tb.Helper()
	p := filepath.Join(dir, name)
	if err := os.WriteFile(p, data, 0o600); err != nil {
		tb.Fatal(err)
	}
	return p
}
