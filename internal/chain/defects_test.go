package chain

import (
	"crypto/x509"
	"net"
	"net/url"
	"strings"
	"testing"
)

// TestNameConstraints goes through RFC 5280 section 4.2.1.10.
func TestNameConstraints(t *testing.T) {
	ip := func(s string) *net.IPNet {
		_, n, err := net.ParseCIDR(s)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	uri := func(s string) *url.URL {
		u, err := url.Parse(s)
		if err != nil {
			t.Fatal(err)
		}
		return u
	}
	for _, c := range []struct {
		name string
		ca   x509.Certificate
		leaf x509.Certificate
		says string
	}{
		{"no constraint", x509.Certificate{}, x509.Certificate{DNSNames: []string{"a"}}, ""},
		{"host in its domain", x509.Certificate{PermittedDNSDomains: []string{"example.com"}}, x509.Certificate{DNSNames: []string{"A.Example.com"}}, ""},
		{"the domain itself", x509.Certificate{PermittedDNSDomains: []string{"example.com"}}, x509.Certificate{DNSNames: []string{"example.com"}}, ""},
		{"a name that only ends so", x509.Certificate{PermittedDNSDomains: []string{"example.com"}}, x509.Certificate{DNSNames: []string{"badexample.com"}}, "does not permit the DNS name badexample.com"},
		{"leading dot", x509.Certificate{PermittedDNSDomains: []string{".example.com"}}, x509.Certificate{DNSNames: []string{"example.com"}}, "does not permit"},
		{"excluded", x509.Certificate{ExcludedDNSDomains: []string{"sub.example.com"}}, x509.Certificate{DNSNames: []string{"a.sub.example.com"}}, "excludes the DNS name"},
		{"wildcard that covers an excluded name", x509.Certificate{ExcludedDNSDomains: []string{"sub.example.com"}}, x509.Certificate{DNSNames: []string{"*.example.com"}}, "excludes the DNS name"},
		{"another kind of name", x509.Certificate{PermittedDNSDomains: []string{"example.com"}}, x509.Certificate{IPAddresses: []net.IP{net.IPv4(1, 2, 3, 4)}}, ""},
		{"address inside", x509.Certificate{PermittedIPRanges: []*net.IPNet{ip("10.0.0.0/8")}}, x509.Certificate{IPAddresses: []net.IP{net.IPv4(10, 2, 3, 4)}}, ""},
		{"address outside", x509.Certificate{PermittedIPRanges: []*net.IPNet{ip("10.0.0.0/8")}}, x509.Certificate{IPAddresses: []net.IP{net.IPv4(11, 2, 3, 4)}}, "does not permit the address 11.2.3.4"},
		{"mailbox", x509.Certificate{PermittedEmailAddresses: []string{"a@example.com"}}, x509.Certificate{EmailAddresses: []string{"a@EXAMPLE.com"}}, ""},
		{"another mailbox", x509.Certificate{PermittedEmailAddresses: []string{"a@example.com"}}, x509.Certificate{EmailAddresses: []string{"A@example.com"}}, "does not permit the mail address"},
		{"mail host", x509.Certificate{PermittedEmailAddresses: []string{"example.com"}}, x509.Certificate{EmailAddresses: []string{"a@example.com"}}, ""},
		{"mail of a host below", x509.Certificate{PermittedEmailAddresses: []string{"example.com"}}, x509.Certificate{EmailAddresses: []string{"a@sub.example.com"}}, "does not permit the mail address"},
		{"mail domain", x509.Certificate{PermittedEmailAddresses: []string{".example.com"}}, x509.Certificate{EmailAddresses: []string{"a@sub.example.com"}}, ""},
		{"URI host", x509.Certificate{PermittedURIDomains: []string{"example.com"}}, x509.Certificate{URIs: []*url.URL{uri("https://example.com:1/x")}}, ""},
		{"URI elsewhere", x509.Certificate{ExcludedURIDomains: []string{".example.com"}}, x509.Certificate{URIs: []*url.URL{uri("https://a.example.com/x")}}, "excludes the URI"},
	} {
		got := (&judge{proofs: newProofs()}).outsideConstraints(&c.ca, []*x509.Certificate{&c.leaf})
		if c.says == "" && got != "" || !strings.Contains(got, c.says) {
			t.Errorf("%s: %q, want %q", c.name, got, c.says)
		}
	}
}
