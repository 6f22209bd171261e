package winauth

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strings"
	"time"
)

// The defaults of a [Config].
const (
	DefaultSessions     = 8
	DefaultIdleTimeout  = 90 * time.Second // IIS closes after 120 s (connectionTimeout)
	DefaultLoginTimeout = 10 * time.Second
	DefaultLoginPause   = 10 * time.Minute
	DefaultReconnect    = 5 * time.Second
)

// Config says where to log in, as whom and how. URL and Credential are
// required; the zero value of everything else is useful.
type Config struct {
	// URL is the page that the login is made on, https://host[:port]/path.
	// Requests go to this host and port and to no other.
	URL string
	// Credential is the account of every session of the pool.
	Credential Credential
	// TLS is the client's TLS configuration, nil for the system's roots. It is
	// cloned; ServerName defaults to the URL's host, ALPN is always http/1.1.
	TLS *tls.Config
	// EPA is Extended Protection for Authentication; the zero value is on.
	EPA EPA

	// Sessions is how many connections there may be at a time, 0 for 8.
	Sessions int
	// IdleTimeout is how long an unused session is kept, 0 for 90 s. It must
	// be shorter than the server's own.
	IdleTimeout time.Duration
	// LoginTimeout is the time for one login: resolving, connecting, TLS and
	// both legs. 0 means 10 s.
	LoginTimeout time.Duration
	// LoginPause is how long no login is attempted after the server refused
	// one, so that a wrong password cannot lock the account. 0 means 10 min,
	// a negative value no pause.
	LoginPause time.Duration
	// Reconnect is how long a pool that has been logged in before rides out a
	// server that cannot be reached: logins are tried again, with growing
	// pauses, until this long after the first failure. 0 means 5 s, a negative
	// value that the first failure is final. A first login is never repeated.
	Reconnect time.Duration

	// UserAgent is the User-Agent of logins, empty for Go's own.
	UserAgent string
	// DialContext opens TCP connections, nil for a net.Dialer.
	DialContext func(ctx context.Context, network, address string) (net.Conn, error)
	// Resolver resolves names when DialContext is nil; nil for the system's.
	Resolver *net.Resolver
	// Now is the clock, nil for time.Now.
	Now func() time.Time
}

// EPA is Extended Protection for Authentication (KB5005413, MS-NLMP 3.1.5.1.2):
// the login names the TLS certificate and the service that it is meant for.
type EPA struct {
	// Binding says what certificate the login is bound to.
	Binding Binding
	// Certificate is the one to bind to when Binding is BindCertificate.
	Certificate *x509.Certificate
	// NoMIC leaves out the message integrity code, which is otherwise sent
	// when the server's challenge carries a timestamp.
	NoMIC bool
	// Probe asks why, when a login is refused: one more login, with the binding
	// left out if it was sent and sent if it was left out. If that one is
	// accepted the error is [ErrBinding] instead of [ErrRejected]. With a wrong
	// password a probe is a second failed logon at the domain controller.
	Probe bool
}

// Binding says which certificate a login is bound to.
type Binding uint8

const (
	// BindAuto binds to the certificate of the TLS connection.
	BindAuto Binding = iota
	// BindOff sends no channel binding.
	BindOff
	// BindCertificate binds to EPA.Certificate: the one that IIS itself
	// presents to a device that ends TLS in front of it.
	BindCertificate
)

// String returns "auto", "off" or "certificate".
func (b Binding) String() string {
	switch b {
	case BindOff:
		return "off"
	case BindCertificate:
		return "certificate"
	default:
		return "auto"
	}
}

// withDefaults fills in what was left out.
func (c Config) withDefaults() Config {
	for _, d := range []struct {
		v   *time.Duration
		def time.Duration
	}{
		{&c.IdleTimeout, DefaultIdleTimeout},
		{&c.LoginTimeout, DefaultLoginTimeout},
		{&c.LoginPause, DefaultLoginPause},
		{&c.Reconnect, DefaultReconnect},
	} {
		if *d.v == 0 {
			*d.v = d.def
		}
	}
	if c.Sessions == 0 {
		c.Sessions = DefaultSessions
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.DialContext == nil {
		c.DialContext = (&net.Dialer{Resolver: c.Resolver}).DialContext
	}
	return c
}

// target checks c and returns its URL and its host with port.
func (c Config) target() (*url.URL, string, error) {
	u, err := url.Parse(c.URL)
	if err != nil {
		return nil, "", fmt.Errorf("winauth: the login URL %q is none: %w", c.URL, err)
	}
	switch {
	case u.Scheme != "https":
		return nil, "", fmt.Errorf("winauth: the login URL %q does not begin with https://: credentials are sent over TLS only", c.URL)
	case u.Hostname() == "":
		return nil, "", fmt.Errorf("winauth: the login URL %q names no host", c.URL)
	case u.User != nil:
		return nil, "", fmt.Errorf("winauth: the login URL for host %s carries credentials: they belong in Credential", u.Hostname())
	case c.Credential.Username == "":
		return nil, "", errors.New("winauth: no user name")
	case c.Sessions < 0:
		return nil, "", fmt.Errorf("winauth: %d sessions: a pool needs at least one", c.Sessions)
	case c.IdleTimeout < 0 || c.LoginTimeout < 0:
		return nil, "", errors.New("winauth: a negative timeout")
	case c.EPA.Binding == BindCertificate && c.EPA.Certificate == nil:
		return nil, "", errors.New("winauth: channel binding is to be made to a given certificate, but none is given")
	case c.EPA.Binding > BindCertificate:
		return nil, "", fmt.Errorf("winauth: channel binding %d is none", c.EPA.Binding)
	}
	return u, hostPort(u), nil
}

// hostPort returns u's host in lower case, and its port even if it is 443.
func hostPort(u *url.URL) string {
	port := u.Port()
	if port == "" {
		port = "443"
	}
	return net.JoinHostPort(strings.ToLower(u.Hostname()), port)
}
