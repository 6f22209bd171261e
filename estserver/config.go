package estserver

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/netip"
	"regexp"
	"time"

	"github.com/globalsign/est"
	"go.uber.org/zap"

	"github.com/onlineca/onlineca/ra"
)

// Config is what a [Server] needs. Enroller, Chain and Default.Auth must be
// given; the zero value of everything else is useful.
type Config struct {
	// Enroller gets every request that passed authentication and policy.
	Enroller ra.Enroller
	// Chain is what /cacerts answers with. It should keep the chain itself
	// (ra.Chain): it is asked for every request.
	Chain ra.ChainSource
	// Default serves the paths without a label, Labels those with one
	// (RFC 7030 section 3.2.2). A label is 1 to 128 letters, digits and the
	// characters . _ - and is not the name of an operation.
	Default Label
	Labels  map[string]Label

	// GetCertificate delivers the server's TLS certificate. An ECDSA P-256 key
	// costs a tenth of the processor time of an RSA key.
	GetCertificate func(*tls.ClientHelloInfo) (*tls.Certificate, error)
	// Plain serves HTTP without TLS, for behind a proxy on the same machine.
	// It needs TrustedProxies.
	Plain bool
	// TrustedProxies are the addresses of TLS-terminating proxies. Only from
	// them are X-Forwarded-For and ProxyCertificateHeader believed.
	TrustedProxies []netip.Prefix
	// ProxyCertificateHeader is the request header in which such a proxy hands
	// on the client's certificate: PEM, URL-encoded, as nginx's
	// $ssl_client_escaped_cert is. Empty means none is believed.
	ProxyCertificateHeader string

	// Realm is that of the HTTP Basic challenge. Empty means "estrealm",
	// libEST's own.
	Realm    string
	Limits   Limits
	Timeouts Timeouts
	// Logger may be nil.
	Logger *zap.Logger
}

// Label is one way in: what may be asked for and by whom.
type Label struct {
	// Template is the AD CS template of requests by this label. Empty means
	// the enroller's own default.
	Template string
	Auth     Auth
	// Policy says which requests are let through.
	Policy ra.Policy
	// Rate bounds how often one client may enrol. Nil means no bound.
	Rate *ra.Rate
	// CSRAttrs are answered to /csrattrs; see [ParseCSRAttrs]. Without any,
	// the answer is 204.
	CSRAttrs est.CSRAttrs
	// PoP says whether a request must be linked to its TLS connection.
	PoP PoP
	// Reenroll says what /simplereenroll asks of a client.
	Reenroll Reenroll
	// ServerKeygen switches /serverkeygen on (RFC 7030 section 4.4). The key is
	// delivered once and never stored.
	ServerKeygen bool
}

// Auth says who may enrol. At least one means must be given.
type Auth struct {
	// Basic verifies HTTP Basic credentials, nil for none.
	Basic ra.Authenticator
	// BasicMethod is what such a client's ra.Client.Method says. Empty means
	// "basic".
	BasicMethod string
	// Tokens verifies one-time passwords given by HTTP Basic, with the
	// device's name as the user name. They are tried before Basic.
	Tokens Tokens
	// Certificates accepts TLS client certificates, nil for none.
	Certificates *CertificateAuth
	// RequireAll demands a certificate and a password; otherwise either will
	// do.
	RequireAll bool
	// Anonymous lets everybody in. It excludes all of the above.
	Anonymous bool
}

// Tokens knows one-time passwords. A token stays good for the key that it was
// first used with, so that a client can ask again until it has its certificate.
type Tokens interface {
	// Authenticate says whether the token is the device's and has not expired.
	ra.Authenticator
	// Spend binds the token to a public key, given by the SHA-256 of its
	// SubjectPublicKeyInfo. It fails if the token is bound to another.
	Spend(c ra.Credentials, key [32]byte) error
}

// CertificateAuth says which TLS client certificates are good. They are
// verified here and not by the TLS stack, so that a client with a bad one gets
// an answer that says why.
type CertificateAuth struct {
	// CAs are the trusted issuers, roots and intermediates alike.
	CAs []*x509.Certificate
	// OwnChain trusts the issuers in Config.Chain too: those of the
	// certificates that clients got here and come to renew.
	OwnChain bool
	// Subject must match the whole subject in the form of RFC 2253. Nil allows
	// any.
	Subject *regexp.Regexp
	// KeyUsages are the extended key usages of which a certificate must have
	// one. A certificate without that extension may be used for anything.
	// Empty means clientAuth.
	KeyUsages []x509.ExtKeyUsage
	// Grace is how long after its expiry a certificate may still be used for
	// /simplereenroll.
	Grace time.Duration
}

// PoP is how strictly proof of possession is taken (RFC 7030 section 3.5): the
// request's challengePassword holds, in base64, the tls-unique value of a
// TLS 1.2 connection (RFC 5929) or the tls-exporter value of a TLS 1.3
// connection (RFC 9266). Clients whose certificate carries the extended key
// usage id-kp-cmcRA are exempt: they pass on what others have signed.
type PoP int

// The zero PoP ignores a challengePassword.
const (
	PoPOff      PoP = iota // not looked at
	PoPOptional            // must be right if it is there
	PoPRequired            // must be there; /csrattrs says so
)

// Reenroll says what /simplereenroll asks of a client.
type Reenroll struct {
	// WithoutCertificate lets clients renew that did not present the
	// certificate to be renewed; the names are then not compared.
	WithoutCertificate bool
	// FewerNames lets a request leave out alternative names that the
	// certificate has, for certificate authorities that add some themselves.
	FewerNames bool
}

// Limits bound what a client may send.
type Limits struct {
	// Body is the longest request body in bytes. 0 means 65536, which is also
	// the most.
	Body int64
	// Headers is the most bytes of request line and headers. 0 means 16384.
	Headers int
}

// Timeouts bound how long a client may take, and how long an answer may.
type Timeouts struct {
	// ReadHeader bounds the TLS handshake and, after it, the request's header.
	// 0 means 10 s.
	ReadHeader time.Duration
	// Read bounds the whole request. 0 means 20 s.
	Read time.Duration
	// Write bounds handling and answer together. 0 means 90 s.
	Write time.Duration
	// Idle bounds the wait for the next request on a connection. 0 means 30 s.
	Idle time.Duration
	// Shutdown bounds how long requests under way may take to finish once the
	// server's context has ended. 0 means 30 s.
	Shutdown time.Duration
	// RetryAfter is what a client is told to wait when the fault itself does
	// not say. 0 means 60 s.
	RetryAfter time.Duration
}

const maxBody = 64 << 10 // that of globalsign/est

func (c *Config) setDefaults() {
	if c.Realm == "" {
		c.Realm = "estrealm"
	}
	if c.Limits.Body <= 0 {
		c.Limits.Body = maxBody
	}
	if c.Limits.Headers <= 0 {
		c.Limits.Headers = 16 << 10
	}
	for _, t := range []struct {
		d       *time.Duration
		seconds time.Duration
	}{
		{&c.Timeouts.ReadHeader, 10}, {&c.Timeouts.Read, 20}, {&c.Timeouts.Write, 90},
		{&c.Timeouts.Idle, 30}, {&c.Timeouts.Shutdown, 30}, {&c.Timeouts.RetryAfter, 60},
	} {
		if *t.d <= 0 {
			*t.d = t.seconds * time.Second
		}
	}
}

var labelPattern = regexp.MustCompile(`^[A-Za-z0-9._-]{1,128}$`)

func (c *Config) check() error {
	switch {
	case c.Enroller == nil:
		return errors.New("estserver: Config.Enroller is missing")
	case c.Chain == nil:
		return errors.New("estserver: Config.Chain is missing")
	case c.Limits.Body > maxBody:
		return fmt.Errorf("estserver: Limits.Body is %d, at most %d is possible", c.Limits.Body, maxBody)
	case c.Plain && len(c.TrustedProxies) == 0:
		return errors.New("estserver: Config.Plain without TrustedProxies: HTTP without TLS is for behind a proxy only")
	case c.ProxyCertificateHeader != "" && len(c.TrustedProxies) == 0:
		return errors.New("estserver: Config.ProxyCertificateHeader without TrustedProxies: nobody's header would be believed")
	}
	for name := range c.Labels {
		if !labelPattern.MatchString(name) || name == "." || name == ".." {
			return fmt.Errorf("estserver: %q cannot be a label: 1 to 128 letters, digits, '.', '_' and '-'", name)
		}
		if _, taken := operations[name]; taken {
			return fmt.Errorf("estserver: %q cannot be a label: it is the name of an operation", name)
		}
	}
	return nil
}

func (a *Auth) check() error {
	means := a.Basic != nil || a.Tokens != nil || a.Certificates != nil
	switch {
	case a.Anonymous && means:
		return errors.New("auth: Anonymous excludes every other means")
	case !a.Anonymous && !means:
		return errors.New("auth: no means are given: say Basic, Tokens or Certificates, or Anonymous")
	case a.RequireAll && (a.Certificates == nil || a.Basic == nil && a.Tokens == nil):
		return errors.New("auth: RequireAll needs Certificates, and Basic or Tokens")
	case a.Certificates != nil && len(a.Certificates.CAs) == 0 && !a.Certificates.OwnChain:
		return errors.New("auth: Certificates needs CAs, or OwnChain")
	}
	return nil
}
