package app

import (
	"bytes"
	"context"
	"crypto/x509"
	"fmt"
	"net/url"
	"sync"
	"sync/atomic"

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
}

// newUpstreams makes the clients. Nobody is asked yet.
func newUpstreams(s Settings, p Parts) (*upstreams, error) {
	u := new(upstreams)
	var targets []*ra.Target
	family := new(family)
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
		if len(s.Certsrv.URLs) > 1 {
			up = &sibling{Client: client, name: name, family: family}
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

// family is the CA that several hosts are web servers of. The first host that
// delivers its chain says which one.
type family struct {
	mu sync.Mutex
	ca *x509.Certificate
}

// same says whether a host of issuing CA ca belongs to the family. A renewed CA
// keeps its name.
func (f *family) same(ca *x509.Certificate) (is *x509.Certificate, ok bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.ca == nil {
		f.ca = ca
	}
	return f.ca, bytes.Equal(f.ca.RawSubject, ca.RawSubject)
}

// sibling is one of several hosts. It is asked for nothing before it has shown
// that it is a web server of the same CA as the others: a request number of
// another CA would be looked up in vain, and the certificates of another CA
// would not lead to what /cacerts delivers.
type sibling struct {
	*certsrv.Client
	name   string
	family *family
	proven atomic.Bool
}

// CACerts fetches the chain, if it is the family's.
func (s *sibling) CACerts(ctx context.Context) ([]*x509.Certificate, error) {
	certs, err := s.Client.CACerts(ctx)
	if err != nil {
		return nil, err
	}
	if ca, ok := s.family.same(certs[0]); !ok {
		s.proven.Store(false)
		return nil, fault.Newf(fault.WrongHost, "ask certsrv "+s.name,
			"its CA is %q, that of the other hosts %q: certsrv.urls are web servers of one CA", certs[0].Subject.CommonName, ca.Subject.CommonName)
	}
	s.proven.Store(true)
	return certs, nil
}

// prove fetches the chain unless that has been done.
func (s *sibling) prove(ctx context.Context) error {
	if s.proven.Load() {
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
