package capf

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"time"

	"github.com/go-resty/resty/v2"
	"go.uber.org/zap"

	"github.com/onlineca/onlineca/ra/fault"
)

// What libEST and CAPF do unless told otherwise: EST_SSL_READ_TIMEOUT_DEF and
// the largest answer of libEST 3.2.0 (est.h, est_locl.h), the User-Agent that
// CAPF is seen with in the registration authority's log, and the largest
// request body that libEST's server takes.
const (
	DefaultESTTimeout   = 10 * time.Second
	DefaultESTRawLimit  = 2_000_000
	DefaultESTUserAgent = "Cisco EST client 1.0"
	DefaultESTRetryWait = time.Minute

	estRequestLimit = 8192
)

// ESTConfig says how to reach an EST server. Server is all that is needed.
type ESTConfig struct {
	// Server is the server's address, https://HOST[:PORT]; the product's
	// registration authority listens on port 8084.
	Server string
	// Label is the EST label (RFC 7030 section 3.2.2), empty for none.
	Label string
	// Roots are the trust anchors for the server's certificate; nil means
	// those of the system.
	Roots *x509.CertPool
	// Username and Password answer the server's Basic challenge. They are
	// never sent before one.
	Username string
	Password string
	// Certificate is the TLS client certificate, nil for none.
	Certificate *tls.Certificate
	// Timeout limits each phase of an exchange: to resolve and connect, the
	// TLS handshake, sending, and from the end of the request to the end of
	// the answer. 0 means 10 seconds, as in the product.
	Timeout time.Duration
	// AnswerTimeout limits the last of these phases by itself, as libEST's
	// est_client_set_read_timeout does. 0 means Timeout.
	AnswerTimeout time.Duration
	// RetryWait is how long one enrolment may wait in all for a server that
	// answers 202 with Retry-After. 0 means one minute; less than 0 means not
	// to wait at all, as CAPF does.
	RetryWait time.Duration
	// UserAgent is the User-Agent header, "Cisco EST client 1.0" if empty.
	UserAgent string
	// RawLimit is the largest body of an answer in bytes; 0 means 2,000,000.
	RawLimit int
	// Tolerant accepts answers that RFC 7030 allows but Cisco's EST client
	// does not: without a Content-Length, with another spelling of the content
	// type, with a challenge that is not the first or not spelled "Basic".
	Tolerant bool
	// Dial makes the TCP connection; nil means a net.Dialer.
	Dial func(ctx context.Context, network, addr string) (net.Conn, error)
	// Logger gets a line when the client waits; nil is silent.
	Logger *zap.Logger
}

// ESTClient enrols over EST (RFC 7030) in the manner of Cisco's libEST client:
// HTTP/1.1, one connection for each request, credentials after the challenge,
// never a request repeated whose fate is not known. It may be used by any
// number of goroutines.
type ESTClient struct {
	cfg  ESTConfig
	base string
	http *resty.Client
	log  *zap.Logger
}

// Answer is what an EST server answered a request for a certificate with.
type Answer struct {
	// Raw is the PKCS#7 in DER, not yet looked into: the trace shows its
	// length. See [ParsePKCS7].
	Raw []byte
}

// estLabel is a label that every EST server takes as one path segment.
var estLabel = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._~-]{0,127}$`)

// estOperations may not be labels (RFC 7030 section 3.2.2).
var estOperations = map[string]bool{
	"cacerts": true, "simpleenroll": true, "simplereenroll": true,
	"fullcmc": true, "serverkeygen": true, "csrattrs": true,
}

// NewESTClient checks the configuration and returns a client. Nothing is sent.
func NewESTClient(cfg ESTConfig) (*ESTClient, error) {
	base, err := estBase(cfg.Server, cfg.Label)
	if err != nil {
		return nil, err
	}
	if cfg.Timeout <= 0 {
		cfg.Timeout = DefaultESTTimeout
	}
	if cfg.AnswerTimeout <= 0 {
		cfg.AnswerTimeout = cfg.Timeout
	}
	if cfg.RetryWait == 0 {
		cfg.RetryWait = DefaultESTRetryWait
	}
	if cfg.RawLimit <= 0 {
		cfg.RawLimit = DefaultESTRawLimit
	}
	if cfg.UserAgent == "" {
		cfg.UserAgent = DefaultESTUserAgent
	}
	log := cfg.Logger
	if log == nil {
		log = zap.NewNop()
	}
	return &ESTClient{cfg: cfg, base: base, http: estHTTP(cfg), log: log}, nil
}

// estBase is the address that operations are appended to, with a final slash.
func estBase(server, label string) (string, error) {
	u, err := url.Parse(server)
	if err != nil {
		// The parser's own error quotes the address, which may hold a password.
		return "", errors.New("est client: the server's address cannot be parsed; it has the form https://HOST:PORT")
	}
	switch {
	case u.User != nil:
		return "", errors.New("est client: the server's address must not hold a user name or password; give them by themselves")
	case u.Scheme != "https" || u.Hostname() == "":
		return "", fmt.Errorf("est client: the server's address is %q, it must have the form https://HOST:PORT", server)
	case strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.Fragment != "":
		return "", fmt.Errorf("est client: the server's address %q must end after the port; the path is always /.well-known/est", server)
	case label != "" && (!estLabel.MatchString(label) || estOperations[label]):
		return "", fmt.Errorf("est client: %q cannot be an EST label: 1 to 128 letters, digits, '.', '_', '~' or '-', and not the name of an operation", label)
	}
	base := "https://" + u.Host + "/.well-known/est/"
	if label != "" {
		base += label + "/"
	}
	return base, nil
}

// estHTTP is a client without cookies, proxies, redirects or retries. Every
// request has a connection to itself, as with libEST, whose server answers one
// request a connection; TLS sessions are resumed.
func estHTTP(cfg ESTConfig) *resty.Client {
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	tlsConfig := &tls.Config{
		MinVersion:         tls.VersionTLS12,
		RootCAs:            cfg.Roots,
		ClientSessionCache: tls.NewLRUClientSessionCache(4),
	}
	if cfg.Certificate != nil {
		// Given whatever CAs the server names, so that a wrong certificate is
		// refused by the server and not silently left out here.
		tlsConfig.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			return cfg.Certificate, nil
		}
	}
	dial := cfg.Dial
	if dial == nil {
		dial = new(net.Dialer).DialContext
	}
	client := resty.NewWithClient(&http.Client{
		Transport: &http.Transport{
			DialContext:            estDial(dial),
			TLSClientConfig:        tlsConfig,
			Protocols:              protocols,
			DisableKeepAlives:      true,
			DisableCompression:     true,
			MaxResponseHeaderBytes: 64 << 10,
		},
	})
	client.SetRedirectPolicy(resty.RedirectPolicyFunc(func(*http.Request, []*http.Request) error {
		return http.ErrUseLastResponse
	}))
	client.SetDoNotParseResponse(true).SetDisableWarn(true).SetLogger(estSilence{})
	return client
}

// estSilence keeps resty's own messages out of the logs: every error comes
// back to the caller anyway.
type estSilence struct{}

func (estSilence) Errorf(string, ...any) {}
func (estSilence) Warnf(string, ...any)  {}
func (estSilence) Debugf(string, ...any) {}

// CACerts asks for the certificates of the certificate authority (RFC 7030
// section 4.1), in the server's order.
func (c *ESTClient) CACerts(ctx context.Context) ([]*x509.Certificate, error) {
	op := "est: get the CA certificates from " + c.base + "cacerts"
	r, err := c.ask(ctx, op, http.MethodGet, "cacerts", nil)
	if err != nil {
		return nil, err
	}
	if r.status != http.StatusOK {
		return nil, c.refusal(op, r)
	}
	raw, err := c.decode(op, r, "application/pkcs7-mime")
	if err != nil {
		return nil, err
	}
	certs, err := ParsePKCS7(raw)
	if err != nil {
		return nil, estFault(fault.ESTAnswerUnreadable, op, &ESTError{RV: fault.ESTHTTPUnsupported, Status: r.status, Err: err})
	}
	return certs, nil
}

// Enroll sends a PKCS#10 request in DER for a new certificate (RFC 7030
// section 4.2.1). The error wraps a *fault.Fault, and an [*ESTError] if the
// exchange itself failed.
func (c *ESTClient) Enroll(ctx context.Context, csrDER []byte) (*Answer, error) {
	return c.enroll(ctx, "simpleenroll", csrDER)
}

// Reenroll is [ESTClient.Enroll] for the renewal of a certificate (RFC 7030
// section 4.2.2).
func (c *ESTClient) Reenroll(ctx context.Context, csrDER []byte) (*Answer, error) {
	return c.enroll(ctx, "simplereenroll", csrDER)
}

func (c *ESTClient) enroll(ctx context.Context, operation string, csrDER []byte) (*Answer, error) {
	op := "est: enrol at " + c.base + operation
	body := encodeBase64(csrDER)
	if len(body) > estRequestLimit {
		return nil, estFault(fault.MalformedCSR, op, &ESTError{RV: fault.ESTBadPKCS10,
			Err: fmt.Errorf("the request has %d bytes in base64, EST servers take %d", len(body), estRequestLimit)})
	}
	left := c.cfg.RetryWait
	for {
		r, err := c.ask(ctx, op, http.MethodPost, operation, body)
		if err != nil {
			return nil, err
		}
		switch r.status {
		case http.StatusOK:
			raw, err := c.decode(op, r, "application/pkcs7-mime; smime-type=certs-only")
			if err != nil {
				return nil, err
			}
			return &Answer{Raw: raw}, nil
		case http.StatusAccepted:
			if left, err = c.wait(ctx, op, r, left); err != nil {
				return nil, err
			}
		default:
			return nil, c.refusal(op, r)
		}
	}
}
