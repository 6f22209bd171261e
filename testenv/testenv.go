// Package testenv stands in for Windows: a mock of IIS with AD CS Web
// Enrollment, strict where the real one is strict, and broken in whatever way a
// test asks for.
//
// It works in the manner of net/http/httptest: [New] in a test, [Start]
// elsewhere. Clients log in with NTLM, which is verified for real, on each TCP
// connection; the pages are recognised by the same marks as the real ones; the
// certificates come from a throw-away PKI whose root says in its subject that
// it is not to be trusted.
//
// Faults are values, listed by [Faults], injected with [Certsrv.Inject].
// Programs in other languages drive a mock over HTTP: see
// [Certsrv.ControlHandler].
package testenv

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/onlineca/onlineca/testenv/internal/ntlm"
	"github.com/onlineca/onlineca/testenv/internal/page"
)

// Certsrv is a running mock.
type Certsrv struct {
	// URL is the server's address without a path: https://127.0.0.1:PORT.
	URL string
	// Root is the certificate of the root that the mock's certificates lead to.
	Root *x509.Certificate
	// PKI is the hierarchy that the mock began with; see [Certsrv.RenewCA].
	PKI *PKI

	conf     Config
	ca       *ca
	site     page.Site
	ntlm     *ntlm.Server
	accounts accounts
	faults   faultList
	log      requestLog

	server   *http.Server
	listener *gate
	binding  []byte
	ctx      context.Context
	stop     context.CancelFunc
	running  sync.WaitGroup
	mu       sync.Mutex
	closed   bool
}

// Start runs a mock until its Close.
func Start(c Config) (*Certsrv, error) {
	s, err := start(&c)
	if err != nil && c.Listener != nil {
		_ = c.Listener.Close()
	}
	return s, err
}

func start(c *Config) (*Certsrv, error) {
	if err := c.complete(); err != nil {
		return nil, err
	}
	if c.PKI == nil {
		pki, err := sharedPKI(c.Renewals)
		if err != nil {
			return nil, err
		}
		c.PKI = pki
	}
	if c.Certificate == nil && !c.TrustFront {
		cert, err := c.PKI.ServerCertificate(ServerOptions{Names: c.Hostnames})
		if err != nil {
			return nil, err
		}
		c.Certificate = &cert
	}
	if c.Listener == nil {
		l, err := (&net.ListenConfig{}).Listen(context.Background(), "tcp", c.Addr)
		if err != nil {
			return nil, fmt.Errorf("testenv: %w", err)
		}
		c.Listener = l
	}
	s := newCertsrv(*c)
	return s, s.serve()
}

// New runs a mock for the length of a test. The test fails if it cannot start.
func New(tb testing.TB, c Config) *Certsrv {
	tb.Helper()
	s, err := Start(c)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(s.Close)
	return s
}

func newCertsrv(c Config) *Certsrv {
	s := &Certsrv{
		Root: c.PKI.Root, PKI: c.PKI, conf: c, ca: newCA(&c),
		site:     page.Site{CA: c.PKI.conf.CAName, Language: page.Language(c.Language)},
		accounts: accounts{threshold: c.LockoutThreshold, failed: map[string]int{}},
	}
	s.ctx, s.stop = context.WithCancel(context.Background())
	s.ntlm = &ntlm.Server{
		Domain: c.Domain, Computer: c.Computer,
		DNSDomain: c.DNSDomain, DNSComputer: strings.ToLower(c.Computer) + "." + c.DNSDomain,
		Binding: bindings[c.EPA], RequireMIC: c.RequireMIC, Password: s.password, Now: c.Clock,
	}
	return s
}

// serve starts to answer on the listener.
func (s *Certsrv) serve() error {
	s.listener = newGate(s.conf.Listener)
	s.server = &http.Server{
		Handler:           s,
		ReadHeaderTimeout: s.conf.IdleTimeout,
		IdleTimeout:       s.conf.IdleTimeout,
		MaxHeaderBytes:    64 << 10,
		ErrorLog:          log.New(io.Discard, "", 0), // faults break connections on purpose
		BaseContext:       func(net.Listener) context.Context { return s.ctx },
		ConnContext:       s.newConn,
	}
	var l net.Listener = s.listener
	scheme := "http"
	if !s.conf.TrustFront {
		scheme = "https"
		conf, err := s.tlsConfig()
		if err != nil {
			return err
		}
		l = tls.NewListener(l, conf)
	}
	s.URL = scheme + "://" + s.hostPort()
	s.running.Go(func() { _ = s.server.Serve(l) })
	return nil
}

// tlsConfig offers what http.sys does: HTTP/1.1, and HTTP/2 if asked to.
func (s *Certsrv) tlsConfig() (*tls.Config, error) {
	cert := *s.conf.Certificate
	if cert.Leaf == nil {
		if len(cert.Certificate) == 0 {
			return nil, errors.New("testenv: Config.Certificate holds no certificate")
		}
		leaf, err := x509.ParseCertificate(cert.Certificate[0])
		if err != nil {
			return nil, fmt.Errorf("testenv: Config.Certificate: %w", err)
		}
		cert.Leaf = leaf
	}
	s.binding = ntlm.ServerEndPoint(cert.Leaf)
	conf := &tls.Config{
		Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12, NextProtos: []string{"http/1.1"},
		Time: s.conf.Clock,
	}
	s.server.TLSNextProto = map[string]func(*http.Server, *tls.Conn, http.Handler){}
	if s.conf.HTTP2 {
		conf.NextProtos = []string{"h2", "http/1.1"}
		s.server.TLSNextProto["h2"] = s.refuseHTTP2
	}
	return conf, nil
}

func (s *Certsrv) hostPort() string {
	host := s.conf.Hostnames[0]
	addr, ok := s.conf.Listener.Addr().(*net.TCPAddr)
	if !ok {
		return host
	}
	return net.JoinHostPort(host, strconv.Itoa(addr.Port))
}

// Close ends the mock: what waits for an answer loses its connection. It
// returns when nothing of the mock runs any more, and may be called twice.
func (s *Certsrv) Close() {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	s.stop()
	_ = s.server.Close()
	s.running.Wait()
}

// enter counts somebody in for whom Close waits, unless it has been called.
func (s *Certsrv) enter() (ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return false
	}
	s.running.Add(1)
	return true
}

// Restart breaks every connection, as iisreset does: who was logged in is no
// longer. For the time down, new connections are accepted and closed at once.
func (s *Certsrv) Restart(down time.Duration) { s.listener.restart(down) }

// Pool holds the root alone: what a client needs to trust the mock.
func (s *Certsrv) Pool() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(s.Root)
	return pool
}

// RootPEM is the root's certificate in PEM.
func (s *Certsrv) RootPEM() []byte { return certPEM(s.Root) }

// Client returns an HTTP/1.1 client that trusts the mock's root. It does not
// log in, and it keeps no connections, so that it leaves nothing behind.
func (s *Certsrv) Client() *http.Client {
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	return &http.Client{Transport: &http.Transport{
		TLSClientConfig:   &tls.Config{RootCAs: s.Pool(), MinVersion: tls.VersionTLS12},
		Protocols:         protocols,
		DisableKeepAlives: true,
	}}
}

// Approve issues the certificate of a pending request.
func (s *Certsrv) Approve(id int) error {
	if err := s.ca.approve(id); err != nil {
		return fmt.Errorf("testenv: approve: %w", err)
	}
	return nil
}

// Deny refuses a pending request in the name of a certificate manager.
func (s *Certsrv) Deny(id int) error {
	if err := s.ca.deny(id, s.conf.Domain+`\certmanager`); err != nil {
		return fmt.Errorf("testenv: deny: %w", err)
	}
	return nil
}

// Revoke revokes an issued certificate: it is on the next CRL.
func (s *Certsrv) Revoke(id int) error {
	if err := s.ca.revoke(id); err != nil {
		return fmt.Errorf("testenv: revoke: %w", err)
	}
	return nil
}

// RenewCA gives the issuing CA a new certificate with a new key, as its
// administrator would: certcarc.asp counts one renewal more, and what is issued
// from now on is signed by it. It returns the hierarchy as it is now; neither
// [Certsrv.PKI] nor other mocks on the same hierarchy change.
func (s *Certsrv) RenewCA() (*PKI, error) {
	p, err := s.ca.renew()
	if err != nil {
		return nil, fmt.Errorf("testenv: renew the CA: %w", err)
	}
	return p, nil
}

// Database lists the CA's requests in the order of their numbers.
func (s *Certsrv) Database() []CARequest { return s.ca.list() }

// Issued lists the requests that have a certificate.
func (s *Certsrv) Issued() []CARequest {
	var out []CARequest
	for _, r := range s.ca.list() {
		if r.Certificate != nil {
			out = append(out, r)
		}
	}
	return out
}

// Submissions is how many requests have reached the certificate authority.
func (s *Certsrv) Submissions() int { return s.ca.count() }
