package testenv

import (
	"crypto/tls"
	"net"
	"sync"
	"time"
)

// gate is a listener that can break all its connections.
type gate struct {
	net.Listener
	mu    sync.Mutex
	conns map[*gatedConn]struct{}
	until time.Time // connections accepted before are closed at once
	total int
}

type gatedConn struct {
	net.Conn
	g    *gate
	once sync.Once
}

func newGate(l net.Listener) *gate {
	return &gate{Listener: l, conns: map[*gatedConn]struct{}{}}
}

// Accept returns the next connection that the gate lets in.
func (g *gate) Accept() (net.Conn, error) {
	for {
		c, err := g.Listener.Accept()
		if err != nil {
			return nil, err
		}
		if conn := g.admit(c); conn != nil {
			return conn, nil
		}
		_ = c.Close()
	}
}

func (g *gate) admit(c net.Conn) net.Conn {
	g.mu.Lock()
	defer g.mu.Unlock()
	if time.Now().Before(g.until) {
		return nil
	}
	conn := &gatedConn{Conn: c, g: g}
	g.conns[conn] = struct{}{}
	g.total++
	return conn
}

func (g *gate) restart(down time.Duration) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.until = time.Now().Add(down)
	for c := range g.conns {
		abort(c.Conn)
	}
}

func (g *gate) counts() (total, open int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.total, len(g.conns)
}

// Close closes the connection and forgets it.
func (c *gatedConn) Close() error {
	c.once.Do(func() {
		c.g.mu.Lock()
		delete(c.g.conns, c)
		c.g.mu.Unlock()
	})
	return c.Conn.Close()
}

// abort ends a connection with a reset where the network knows one. TLS does
// not get to say goodbye.
func abort(c net.Conn) {
	if t, ok := c.(*tls.Conn); ok {
		c = t.NetConn()
	}
	if g, ok := c.(*gatedConn); ok {
		c = g.Conn
	}
	if t, ok := c.(*net.TCPConn); ok {
		_ = t.SetLinger(0)
	}
	_ = c.Close()
}
