package estserver

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"regexp"
	"strings"
	"time"

	"github.com/onlineca/onlineca/ra/event"
)

// correlationHeader carries the id that follows one request through CAPF, EST
// and certsrv.
const correlationHeader = "X-Correlation-ID"

var correlationID = regexp.MustCompile(`^[A-Za-z0-9._-]{1,64}$`)

// connection is what is known of a TCP connection from its beginning.
type connection struct {
	number int
	peer   netip.Addr
	server string
	born   time.Time
}

type connectionKey struct{}

// newConnection numbers a connection, as nginx does.
func (s *Server) newConnection(remote, local string) *connection {
	c := &connection{number: int(s.connections.Add(1)), server: local, born: time.Now()}
	if ap, err := netip.ParseAddrPort(remote); err == nil {
		c.peer = ap.Addr().Unmap()
	}
	return c
}

// connContext is http.Server.ConnContext.
func (s *Server) connContext(ctx context.Context, c net.Conn) context.Context {
	server := s.listenAddr.Load()
	if server == nil {
		local := c.LocalAddr().String()
		server = &local
	}
	return context.WithValue(ctx, connectionKey{}, s.newConnection(c.RemoteAddr().String(), *server))
}

// connectionOf finds the connection of a request; under somebody else's
// http.Server each request is one.
func (s *Server) connectionOf(r *http.Request) *connection {
	if c, ok := r.Context().Value(connectionKey{}).(*connection); ok {
		return c
	}
	local := ""
	if a, ok := r.Context().Value(http.LocalAddrContextKey).(net.Addr); ok {
		local = a.String()
	}
	return s.newConnection(r.RemoteAddr, local)
}

// listenName writes a listener's address as nginx does: 0.0.0.0:8084, also for
// one that listens on every address of both families.
func listenName(a net.Addr) string {
	s := a.String()
	if port, ok := strings.CutPrefix(s, "[::]:"); ok {
		return "0.0.0.0:" + port
	}
	return s
}

// identify finds out where the request comes from, what certificate came with
// it, and under which id and connection it is reported.
func (x *exchange) identify(ctx context.Context) context.Context {
	addr := x.conn.peer
	if x.r.TLS != nil {
		x.peer = x.r.TLS.PeerCertificates
	}
	if x.s.trusts(addr) {
		x.proxied = true
		addr = x.s.forwardedFor(x.r, addr)
		x.peer = nil // that would be the proxy's own
		if h := x.s.cfg.ProxyCertificateHeader; h != "" {
			x.peer, x.peerErr = proxiedCertificates(x.r.Header.Get(h))
		}
	}
	if addr.IsValid() {
		x.client.Addr = addr.String()
	}
	id := x.r.Header.Get(correlationHeader)
	if !correlationID.MatchString(id) {
		id = rand.Text()
	}
	ctx = event.WithConn(ctx, event.Conn{Number: x.conn.number, Client: x.client.Addr, Server: x.conn.server})
	return event.WithID(ctx, id)
}

// trusts says whether an address is that of a configured proxy.
func (s *settings) trusts(a netip.Addr) bool {
	for _, p := range s.cfg.TrustedProxies {
		if a.IsValid() && p.Contains(a) {
			return true
		}
	}
	return false
}

// forwardedFor is the client's address by the words of a trusted proxy: the
// last in X-Forwarded-For that is not itself a trusted proxy. What stands
// before it anybody could have written.
func (s *settings) forwardedFor(r *http.Request, peer netip.Addr) netip.Addr {
	hops := strings.Split(strings.Join(r.Header.Values("X-Forwarded-For"), ","), ",")
	for i := len(hops) - 1; i >= 0; i-- {
		a, err := netip.ParseAddr(strings.TrimSpace(hops[i]))
		if err != nil {
			return peer
		}
		if peer = a.Unmap(); !s.trusts(peer) {
			return peer
		}
	}
	return peer
}

// proxiedCertificates reads what a proxy hands on of the certificates that a
// client has shown: URL-encoded PEM, the client's own first, nothing for none. All
// of it must be readable, or another's certificate might be taken for the client's.
func proxiedCertificates(header string) (certs []*x509.Certificate, err error) {
	text, err := url.QueryUnescape(strings.ReplaceAll(header, "+", "%2B"))
	if err != nil {
		return nil, err
	}
	for rest := []byte(text); len(bytes.TrimSpace(rest)) > 0; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			return nil, fmt.Errorf("no PEM after %d certificates", len(certs))
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, err
		}
		certs = append(certs, cert)
	}
	return certs, nil
}
