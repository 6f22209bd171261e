// Package certsrv is a client of Active Directory Certificate Services Web
// Enrollment, the pages that Windows serves under /certsrv.
//
// A [Client] is an ra.Enroller, an ra.ChainSource and an ra.Authenticator. An
// enrolment costs two requests: POST certfnsh.asp and GET certnew.cer. Logins
// are made once for each connection and kept: see certsrv/winauth.
//
// Pages are recognised by the element IDs and numbers in them, which are the
// same in every language of Windows, and never by their prose.
//
// A submitted request is never submitted again: certsrv has no token by which a
// repetition could be told from a new request, and a POST whose answer is lost
// may have issued a certificate all the same. Such an error is a
// fault.OutcomeUnknown or fault.EnrollTimeout, or wraps fault.OutcomeUnknown.
package certsrv

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/go-resty/resty/v2"
	"go.uber.org/zap"

	"github.com/onlineca/onlineca/certsrv/winauth"
)

// DefaultUserAgent is what certsrv is told unless a Config says otherwise. IIS
// sends other content types to clients that do not call themselves Mozilla.
const DefaultUserAgent = "Mozilla/5.0 (compatible; onlineca)"

// The defaults of a [Config]. The product's timeouts are 10 s each and cannot
// be changed.
const (
	DefaultTimeout    = 10 * time.Second
	DefaultRetryAfter = 5 * time.Minute
)

// maxBody limits an answer of certsrv. Its largest page, certrqxt.asp with
// many templates, has some 100 kB.
const maxBody = 1 << 20

// Config says which certsrv to ask, and how. URL, Username and Password are
// required; the zero value of everything else is useful.
type Config struct {
	// URL is https://host[:port]/certsrv.
	URL string
	// Username is DOMAIN\user, user@domain or user.
	Username string
	Password string

	// Template is the CN, not the display name, of the template that is asked
	// for when a request names none. Empty means none: a stand-alone CA.
	Template string
	// StrictTemplate makes Authenticate refuse clients when certsrv does not
	// offer Template to them. Otherwise that is a warning: certsrv's list
	// leaves out machine templates that may be requested all the same.
	StrictTemplate bool

	// Roots are the trusted roots and intermediates, nil for the system's.
	Roots *x509.CertPool
	// MatchCommonName accepts an IIS certificate that has no subject
	// alternative name at all but the host's name as its common name. curl
	// does, Go does not. It is warned about each time it makes the difference.
	MatchCommonName bool
	// EPA is Extended Protection for Authentication; the zero value is on.
	EPA winauth.EPA

	Timeouts Timeouts
	// Sessions is how many connections there may be at a time, 0 for 8.
	Sessions int
	// IdleTimeout is how long an unused connection is kept, 0 for 90 s.
	IdleTimeout time.Duration
	// LoginPause is how long no login is attempted after the server refused
	// one, 0 for 10 min; see winauth.Config.
	LoginPause time.Duration
	// Reconnect is how long a server that has worked before is waited for when
	// it cannot be reached, 0 for 5 s; see winauth.Config.
	Reconnect time.Duration
	// RetryAfter is what a pending request's Result carries, 0 for 5 min.
	RetryAfter time.Duration

	// SAN are names for the request attribute SAN, each "dns=host" or the like;
	// {cn} stands for the common name of the certificate request. The CA
	// honours it only with EDITF_ATTRIBUTESUBJECTALTNAME2, a setting that lets
	// every client choose its names: put names into the request instead.
	SAN []string
	// Marker is a text that is stored with every request in the CA's database,
	// as the request attribute OnlineCA, with a hash of the request's public
	// key after it. Empty means no such attribute.
	Marker string
	// EnglishOnly reads what became of a request as the product does: on
	// English pages alone. For showing what the product makes of a certsrv in
	// another language; otherwise leave it off.
	EnglishOnly bool
	// UserAgent is the User-Agent of all requests, empty for DefaultUserAgent.
	// The product's is "CiscoRA 1.0".
	UserAgent string

	// DialContext opens TCP connections, nil for a net.Dialer.
	DialContext func(ctx context.Context, network, address string) (net.Conn, error)
	// Resolver resolves names when DialContext is nil, nil for the system's.
	Resolver *net.Resolver
	// Now is the clock, nil for time.Now.
	Now func() time.Time
	// Logger may be nil.
	Logger *zap.Logger
}

// Timeouts bound each exchange with certsrv. 0 means 10 s.
type Timeouts struct {
	Login  time.Duration // resolving, connecting, TLS, both legs of NTLM
	Page   time.Duration // certrqxt.asp, certcarc.asp, certnew.p7b
	Submit time.Duration // certfnsh.asp, in which the CA issues
	Fetch  time.Duration // certnew.cer
}

// Client asks one certsrv with one account. It is safe for concurrent use.
type Client struct {
	cfg      Config
	base     string // https://host[:port]/certsrv, for requests
	shown    string // the same with its port, for people and logs
	host     string // without port
	own      *site
	accounts accounts
	foreign  chan struct{} // one for each login with credentials not our own

	mu       sync.Mutex
	fresh    chain // fetched by Start, for the next CACerts
	template string
}

// SetTemplate replaces [Config.Template] for what begins from now on.
func (c *Client) SetTemplate(name string) error {
	if err := attributeSafe(name); err != nil {
		return fmt.Errorf("certsrv: template: %w", err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.template = name
	return nil
}

// defaultTemplate is the template that is asked for when a request names none.
func (c *Client) defaultTemplate() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.template
}

// site is certsrv as one account sees it.
type site struct {
	pool *winauth.Pool
	http *resty.Client
}

// New returns a client. It does not connect: see [Client.Start].
func New(cfg Config) (*Client, error) {
	for _, t := range []*time.Duration{&cfg.Timeouts.Login, &cfg.Timeouts.Page, &cfg.Timeouts.Submit, &cfg.Timeouts.Fetch} {
		if *t == 0 {
			*t = DefaultTimeout
		} else if *t < 0 {
			return nil, fmt.Errorf("certsrv: a timeout of %v", *t)
		}
	}
	if cfg.RetryAfter == 0 {
		cfg.RetryAfter = DefaultRetryAfter
	}
	if cfg.UserAgent == "" {
		cfg.UserAgent = DefaultUserAgent
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	c := &Client{cfg: cfg, template: cfg.Template}
	if err := c.setURL(); err != nil {
		return nil, err
	}
	for _, a := range append([]string{cfg.Template, cfg.Marker}, cfg.SAN...) {
		if err := attributeSafe(a); err != nil {
			return nil, fmt.Errorf("certsrv: template, marker or SAN: %w", err)
		}
	}
	own, err := c.site(winauth.Credential{Username: cfg.Username, Password: cfg.Password}, cfg.Sessions, cfg.EPA)
	if err != nil {
		return nil, fmt.Errorf("certsrv: %w", err)
	}
	c.own = own
	c.accounts = accounts{now: cfg.Now, pause: loginPause(cfg.LoginPause), all: make(map[string]*account)}
	c.foreign = make(chan struct{}, max(cfg.Sessions, winauth.DefaultSessions))
	return c, nil
}

func loginPause(d time.Duration) time.Duration {
	if d == 0 {
		return winauth.DefaultLoginPause
	}
	return d
}

// setURL takes the configured URL apart.
func (c *Client) setURL() error {
	u, err := url.Parse(c.cfg.URL)
	if err != nil {
		return fmt.Errorf("certsrv: the URL is none: %w", err)
	}
	if u.Scheme != "https" || u.Hostname() == "" || u.User != nil {
		return errors.New("certsrv: the URL must be https://host[:port]/certsrv, without credentials in it")
	}
	path := strings.TrimRight(u.Path, "/")
	if path == "" {
		path = "/certsrv"
	}
	port := u.Port()
	if port == "" {
		port = "443"
	}
	c.host = u.Hostname()
	c.base = "https://" + u.Host + path
	c.shown = "https://" + net.JoinHostPort(c.host, port) + path
	return nil
}

// site returns certsrv as cred sees it.
func (c *Client) site(cred winauth.Credential, sessions int, epa winauth.EPA) (*site, error) {
	pool, err := winauth.NewPool(winauth.Config{
		URL: c.base, Credential: cred, TLS: c.tlsConfig(), EPA: epa,
		Sessions: sessions, IdleTimeout: c.cfg.IdleTimeout, LoginTimeout: c.cfg.Timeouts.Login,
		LoginPause: c.cfg.LoginPause, Reconnect: c.cfg.Reconnect, UserAgent: c.cfg.UserAgent,
		DialContext: c.cfg.DialContext, Resolver: c.cfg.Resolver, Now: c.cfg.Now,
	})
	if err != nil {
		return nil, err
	}
	// The pool decides about connections, logins and repetition; resty must
	// neither retry nor follow: a redirected POST becomes a GET without a body.
	h := resty.NewWithClient(&http.Client{
		Transport:     pool,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	})
	h.SetLogger(silent{}).SetResponseBodyLimit(maxBody).SetHeader("User-Agent", c.cfg.UserAgent)
	return &site{pool: pool, http: h}, nil
}

// tlsConfig is for one pool.
func (c *Client) tlsConfig() *tls.Config {
	t := &tls.Config{RootCAs: c.cfg.Roots, ServerName: c.host, MinVersion: tls.VersionTLS12, Time: c.cfg.Now}
	if c.cfg.MatchCommonName {
		c.matchCommonName(t)
	}
	return t
}

// silent is resty's logger: what is worth saying is in errors and events.
type silent struct{}

func (silent) Errorf(string, ...any) {}
func (silent) Warnf(string, ...any)  {}
func (silent) Debugf(string, ...any) {}

// Close ends all connections. The client cannot be used afterwards.
func (c *Client) Close() { c.own.pool.Close() }

// Stats counts what the client's own sessions have done.
func (c *Client) Stats() winauth.Stats { return c.own.pool.Stats() }

// Probe finds out how certsrv treats channel bindings; see winauth.Pool.Probe
// for what that costs.
func (c *Client) Probe(ctx context.Context) (winauth.Protection, error) {
	p, err := c.own.pool.Probe(ctx)
	if err != nil {
		return p, c.fault(c.loginCall(), err, nil)
	}
	return p, nil
}
