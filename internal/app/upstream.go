package app

import (
	"bytes"
	"context"
	"crypto/x509"
	"fmt"
	"net/url"
	"sync"

	"go.uber.org/zap"

	"github.com/onlineca/onlineca/certsrv"
	"github.com/onlineca/onlineca/ra"
	"github.com/onlineca/onlineca/ra/fault"
)

// upstreams are the certsrv hosts of the settings as one: each behind a
// breaker, in order of preference.
type upstreams struct {
	*ra.Failover
	clients []*certsrv.Client // in the order of Failover.Targets
	family  *family
}

// newUpstreams makes the clients. Nobody is asked yet.
func newUpstreams(s Settings, p Parts) (*upstreams, error) {
	u := &upstreams{family: new(family)}
	var targets []*ra.Target
	// Where request numbers are kept, and where several hosts are to be one CA,
	// it matters which CA it is.
	matters := len(s.Certsrv.URLs) > 1 || s.Store != noStore
	for _, address := range s.Certsrv.targets() {
		name, err := targetName(address)
		if err != nil {
			return nil, err
		}
		cfg := s.certsrvConfig(address, p)
		if len(s.Certsrv.URLs) > 1 {
			cfg.Reconnect = -1 // rather than waiting for a host, the next is asked
		}
		client, err := certsrv.New(cfg)
		if err != nil {
			u.Close()
			return nil, err
		}
		u.clients = append(u.clients, client)
		var up ra.Upstream = client
		if matters {
			up = &sibling{Client: client, name: name, family: u.family}
		}
		targets = append(targets, ra.NewTarget(name, up, s.breaker(p.Log)))
	}
	u.Failover = ra.NewFailover(p.Log, targets...)
	return u, nil
}

// targetName is what a host is called in logs, metrics and records: its name
// and port.
func targetName(address string) (string, error) {
	u, err := url.Parse(address)
	if err != nil {
		return "", fmt.Errorf("certsrv.url: %w", err)
	}
	return hostPort(u), nil
}

func (s *Settings) breaker(log *zap.Logger) ra.BreakerConfig {
	return ra.BreakerConfig{Failures: s.Certsrv.Breaker.Failures, Pause: s.Certsrv.Breaker.Pause, Log: log}
}

// Start logs in to the first host that can be asked and fetches the CA's chain.
// A refused login is final: it would be refused by the next host as well, and
// count twice.
func (u *upstreams) Start(ctx context.Context) error {
	var first error
	for _, c := range u.clients {
		err := c.Start(ctx)
		if err == nil {
			return nil
		}
		if first == nil {
			first = err
		}
		if fault.Of(err).Code.Row().Upstream < fault.Troubled {
			return err
		}
	}
	return first
}

// family is the CA that all hosts are web servers of, and stays the same for as
// long as the process lives. The first host that delivers its chain says which.
type family struct {
	mu sync.Mutex
	ca *x509.Certificate // the first that it was given
}

// first is the CA's first certificate, nil before any host was asked.
func (f *family) first() *x509.Certificate {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.ca
}

// same says whether the CA whose first certificate is ca is the family's. A
// renewal adds to a CA's certificates; what the first one's key is stays, and
// with it the database that request numbers are of.
func (f *family) same(ca *x509.Certificate) (is *x509.Certificate, ok bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.ca == nil {
		f.ca = ca
	}
	return f.ca, bytes.Equal(f.ca.RawSubjectPublicKeyInfo, ca.RawSubjectPublicKeyInfo)
}

// sibling is one of the hosts. It is asked for nothing before it has shown that
// it is a web server of the same CA as the others, and as before: a request
// number of another CA would be looked up in vain, or be somebody else's, and
// the certificates of another CA would not lead to what /cacerts delivers.
type sibling struct {
	*certsrv.Client
	name   string
	family *family

	mu     sync.Mutex
	proven *x509.Certificate // the CA's newest, as of the last proof; nil if it failed
}

// CACerts fetches the chain, if it is the family's.
func (s *sibling) CACerts(ctx context.Context) ([]*x509.Certificate, error) {
	certs, err := s.Client.CACerts(ctx)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	known := s.proven != nil && s.proven.Equal(certs[0])
	s.mu.Unlock()
	if known {
		return certs, nil
	}
	first, err := s.FirstCACert(ctx)
	if err != nil {
		return nil, err
	}
	ca, ok := s.family.same(first)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.proven = nil; !ok {
		return nil, s.stranger(first, ca)
	}
	s.proven = certs[0]
	return certs, nil
}

// stranger says that a host's CA is not the family's.
func (s *sibling) stranger(is, want *x509.Certificate) error {
	const op = "ask certsrv "
	if bytes.Equal(is.RawSubject, want.RawSubject) {
		return fault.Newf(fault.WrongHost, op+s.name,
			"its CA is called %q, as before or as at the other hosts, but is another one (its first certificate has another key): if it has been installed anew, restart onlineca", is.Subject.CommonName)
	}
	return fault.Newf(fault.WrongHost, op+s.name,
		"its CA is %q, that of before or of the other hosts is %q: certsrv.urls are web servers of one CA; if there is a new CA, restart onlineca", is.Subject.CommonName, want.Subject.CommonName)
}

// prove fetches the chain unless that has been done.
func (s *sibling) prove(ctx context.Context) error {
	s.mu.Lock()
	known := s.proven != nil
	s.mu.Unlock()
	if known {
		return nil
	}
	_, err := s.CACerts(ctx)
	return err
}

// Enroll submits r, once.
func (s *sibling) Enroll(ctx context.Context, r ra.Request) (ra.Result, error) {
	if err := s.prove(ctx); err != nil {
		f := *fault.Of(err)
		f.Unsent = true
		return ra.Result{}, &f
	}
	return s.Client.Enroll(ctx, r)
}

// Fetch asks what became of a request.
func (s *sibling) Fetch(ctx context.Context, reqID int, csr *x509.CertificateRequest) (ra.Result, error) {
	if err := s.prove(ctx); err != nil {
		return ra.Result{}, err
	}
	return s.Client.Fetch(ctx, reqID, csr)
}

// Close ends the sessions.
func (u *upstreams) Close() {
	for _, c := range u.clients {
		c.Close()
	}
}
