package estserver

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"slices"
	"sync"
)

// TLSConfig is what Serve listens with: TLS 1.2, without which libEST does not
// connect, and 1.3; HTTP/1.1 only; a client certificate is asked for, with the
// names of the CAs that are of use, but verified by the handler, which can tell
// the client what is wrong with it. There are no session tickets: a resumed
// TLS 1.2 session may have no tls-unique value to prove possession by.
func (s *Server) TLSConfig() *tls.Config {
	base := &tls.Config{
		MinVersion:             tls.VersionTLS12,
		CurvePreferences:       []tls.CurveID{tls.X25519, tls.CurveP256, tls.CurveP384},
		NextProtos:             []string{"http/1.1"},
		GetCertificate:         s.cfg.GetCertificate,
		ClientAuth:             tls.RequestClientCert,
		SessionTicketsDisabled: true,
	}
	base.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		return s.tls.forChain(s.ownChain(hello.Context()), func(chain []*x509.Certificate) *tls.Config {
			cfg := base.Clone()
			cfg.GetConfigForClient = nil
			cfg.ClientCAs = s.clientCAs(chain)
			return cfg
		}), nil
	}
	return base
}

// ownChain is the chain if any label trusts it. A chain that cannot be had only
// makes the list of names shorter.
func (s *Server) ownChain(ctx context.Context) []*x509.Certificate {
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
func (s *Server) clientCAs(chain []*x509.Certificate) *x509.CertPool {
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

// tlsCache keeps the configuration for the chain that was current last.
type tlsCache struct {
	mu    sync.Mutex
	chain []*x509.Certificate
	cfg   *tls.Config
}

func (c *tlsCache) forChain(chain []*x509.Certificate, build func([]*x509.Certificate) *tls.Config) *tls.Config {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.cfg == nil || !slices.EqualFunc(c.chain, chain, (*x509.Certificate).Equal) {
		c.chain, c.cfg = chain, build(chain)
	}
	return c.cfg
}
