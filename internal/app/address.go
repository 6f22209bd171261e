package app

import (
	"crypto/tls"
	"net"
	"os"
	"strings"
)

// reachableAt is an address by which a client can reach what listens on l, host
// and port, and a remark where it is one of several. Who listens on every
// address ([::] or 0.0.0.0) is reached by a name: by one that the certificate has,
// if there is a certificate, or by that of this machine.
func reachableAt(l net.Listener, cert tls.Certificate) (hostPort, remark string) {
	addr := l.Addr().String()
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return addr, ""
	}
	if ip := net.ParseIP(host); ip == nil || !ip.IsUnspecified() {
		return addr, ""
	}
	return net.JoinHostPort(ownName(cert), port), " (on every address of this machine)"
}

// ownName is what this machine is called in a certificate, or by itself.
func ownName(cert tls.Certificate) string {
	self, err := os.Hostname()
	if err != nil || self == "" {
		self = "localhost"
	}
	if len(cert.Certificate) == 0 {
		return self
	}
	leaf := leafOf(cert)
	if leaf.VerifyHostname(self) == nil {
		return self
	}
	for _, name := range leaf.DNSNames {
		if !strings.HasPrefix(name, "*") {
			return name
		}
	}
	return self
}
