package estserver

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"slices"
	"sync"
)

// TLSConfig is what Serve listens with: TLS 1.2, without which libEST does not
// connect, and 1.3; HTTP/1.1 or, where that is all a client offers, 1.0; a client certificate is asked for, with the
// names of the CAs that are of use, but verified by the handler, which can tell
// the client what is wrong with it. There are no session tickets: a resumed
// TLS 1.2 session may have no tls-unique value to prove possession by.
func (s *Server) TLSConfig() *tls.Config {
	base := &tls.Config{
		MinVersion:       tls.VersionTLS12,
		CurvePreferences: []tls.CurveID{tls.X25519, tls.CurveP256, tls.CurveP384},
		// Clients that speak HTTP/1.0 say so: curl --http1.0 for one.
		NextProtos: []string{"http/1.1", "http/1.0"},
		GetCertificate: func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
			return s.current.Load().cfg.GetCertificate(hello)
		},
		ClientAuth:             tls.RequestClientCert,
		SessionTicketsDisabled: true,
	}
	base.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		now := s.current.Load()
		return s.tls.config(base, now, now.ownChain(hello.Context())), nil
	}
	return base
}

// ownChain is the chain if any label trusts it. A chain that cannot be had only
// makes the list of names shorter.
func (s *settings) ownChain(ctx context.Context) []*x509.Certificate {
	for _, l := range s.labels {
		if c := l.Auth.Certificates; c != nil && c.OwnChain {
			certs, _ := s.cfg.Chain.CACerts(ctx)
			return certs
		}
	}
	return nil
}

// clientCAs are the issuers that a client is told of, or nil, by which it is
// told nothing and presents what it has.
func (s *settings) clientCAs(chain []*x509.Certificate) *x509.CertPool {
	pool, n := x509.NewCertPool(), len(chain)
	for _, c := range chain {
		pool.AddCert(c)
	}
	for _, l := range s.labels {
		if l.Auth.Certificates == nil {
			continue
		}
		for _, c := range l.Auth.Certificates.CAs {
			pool.AddCert(c)
			n++
		}
	}
	if n == 0 {
		return nil
	}
	return pool
}

// tlsCache keeps the configuration for the settings and the chain that were
// current last.
type tlsCache struct {
	mu    sync.Mutex
	of    *settings
	chain []*x509.Certificate
	cfg   *tls.Config
}

func (c *tlsCache) config(base *tls.Config, of *settings, chain []*x509.Certificate) *tls.Config {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.cfg == nil || c.of != of || !slices.EqualFunc(c.chain, chain, (*x509.Certificate).Equal) {
		c.of, c.chain = of, chain
		c.cfg = base.Clone()
		c.cfg.GetConfigForClient = nil
		c.cfg.ClientCAs = of.clientCAs(chain)
	}
	return c.cfg
}
