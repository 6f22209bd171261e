package app

import (
	"crypto/tls"
	"net"
	"os"
	"strings"
	"testing"

	"github.com/onlineca/onlineca/testenv"
)

type listensAt struct {
	net.Listener
	addr string
}

func (l listensAt) Addr() net.Addr { return l }
func (listensAt) Network() string  { return "tcp" }
func (l listensAt) String() string { return l.addr }

// What is printed is an address that a client can use.
func TestReachableAt(t *testing.T) {
	m := testenv.New(t, testenv.Config{})
	cert := func(names ...string) tls.Certificate {
		t.Helper()
		c, err := m.PKI.ServerCertificate(testenv.ServerOptions{Names: names})
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	self, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		listen string
		cert   tls.Certificate
		want   string
	}{
		{"127.0.0.1:8084", cert("ra.example.com"), "127.0.0.1:8084"},
		{"[::1]:8084", tls.Certificate{}, "[::1]:8084"},
		{"[::]:8084", cert("*.example.com", "ra.example.com"), "ra.example.com:8084"},
		{"0.0.0.0:8084", cert("ra.example.com", self), self + ":8084"},
		{"0.0.0.0:8084", tls.Certificate{}, self + ":8084"},
	} {
		got, remark := reachableAt(listensAt{addr: c.listen}, c.cert)
		if got != c.want || (remark != "") != (got != c.listen) || strings.ContainsAny(remark, "\n") {
			t.Errorf("%s: %s%s, want %s", c.listen, got, remark, c.want)
		}
	}
}
