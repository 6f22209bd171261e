package testenv

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/onlineca/onlineca/testenv/internal/ntlm"
	"github.com/onlineca/onlineca/testenv/internal/page"
)

// The account that a mock has when its Config names none.
const (
	DefaultUser     = `LAB\ciscora`
	DefaultPassword = "Phones-need-certs-1" //nolint:gosec // of a mock
)

// Account is somebody who may log in.
type Account struct {
	// Domain is the NetBIOS domain. Default: the mock's.
	Domain string
	// Name is the account's name without its domain.
	Name string
	// Password is in clear: NTLM's proof is made of it.
	Password string
}

// EPA is IIS's setting for extended protection (tokenChecking).
type EPA string

// IIS's None, Allow and Require.
const (
	EPAOff     EPA = "off"
	EPAAccept  EPA = "accept"
	EPARequire EPA = "require"
)

// Scheme is a way to authenticate that the server offers.
type Scheme string

// The schemes. Kerberos stands for the provider Negotiate:Kerberos: it offers
// Negotiate and turns NTLM away; the mock has no Kerberos to log in with. Basic
// is the feature that Windows does not install by default.
const (
	SchemeNegotiate Scheme = "Negotiate"
	SchemeNTLM      Scheme = "NTLM"
	SchemeKerberos  Scheme = "Negotiate:Kerberos"
	SchemeBasic     Scheme = "Basic"
)

// Language is the language of the pages' prose. Their element IDs and numbers
// are the same in all.
type Language string

// The languages of the pages.
const (
	English = Language(page.English)
	German  = Language(page.German)
	French  = Language(page.French)
)

// Config says what a mock is like. The zero value is a certsrv on a port of
// 127.0.0.1 with one account ([DefaultUser], [DefaultPassword]) and the
// templates of [DefaultTemplates].
type Config struct {
	// Listener is where to serve; without one, Addr is listened on, by default
	// 127.0.0.1:0. The mock closes it, whether it can start or not.
	Listener net.Listener
	Addr     string
	// Hostnames are the names and addresses in the IIS certificate, the first
	// of them in URL. Default: 127.0.0.1, localhost, ::1.
	Hostnames []string

	// PKI is the hierarchy to issue from. Default: one for the whole process,
	// on ECDSA P-256.
	PKI *PKI
	// Renewals is how often the CA of the default PKI has been renewed: 0 to
	// [MaxRenewals]. A PKI that is given has its own number.
	Renewals int
	// Certificate is the IIS certificate. Default: a good one from PKI for
	// Hostnames; see [PKI.ServerCertificate] for bad ones.
	Certificate *tls.Certificate

	// Domain and DNSDomain are the directory's names, Computer the server's.
	// Defaults: LAB, lab.example, LAB-IIS.
	Domain, DNSDomain, Computer string
	// Accounts are those that may log in.
	Accounts []Account
	// LockoutThreshold is after how many failed logons in a row an account is
	// locked, until [Certsrv.Unlock]. 0: never.
	LockoutThreshold int

	// Templates are what the CA issues by. Default: [DefaultTemplates].
	Templates []Template
	// Standalone makes a CA without templates, of which pages show no list.
	Standalone bool
	// SANAttribute honours the request attribute "SAN:", as a CA does whose
	// administrator set EDITF_ATTRIBUTESUBJECTALTNAME2.
	SANAttribute bool
	// FirstReqID is the first request's number. Default 1.
	FirstReqID int

	// Language of the pages. Default English.
	Language Language

	// EPA is the policy for channel bindings. Default off.
	EPA EPA
	// RequireMIC refuses NTLM without a message integrity code.
	RequireMIC bool
	// Schemes are offered in this order. Default: Negotiate, NTLM.
	Schemes []Scheme
	// AnonymousAllowed lets everybody in, unasked: a misconfiguration that
	// exists.
	AnonymousAllowed bool
	// AuthPersistSingleRequest forgets who is on a connection after each
	// request, as IIS's setting of that name does.
	AuthPersistSingleRequest bool
	// HTTP2 offers HTTP/2 and resets its streams with HTTP_1_1_REQUIRED, as
	// http.sys does where Windows authentication is needed.
	HTTP2 bool
	// TrustFront serves plain HTTP and believes the header X-Remote-User, for a
	// web server in front that authenticates. Never let anybody else reach it.
	TrustFront bool

	// IdleTimeout is how long a connection may be silent. Default 2 minutes, as
	// IIS's connectionTimeout.
	IdleTimeout time.Duration
	// Delay is waited before every answer to an authenticated request.
	Delay time.Duration
	// Clock is the server's. Default time.Now.
	Clock func() time.Time
	// Log receives one event.WebRequest for every request. Nil is silence.
	Log *zap.Logger
}

// complete checks c and fills in its defaults.
func (c *Config) complete() error {
	c.Addr = or(c.Addr, "127.0.0.1:0")
	c.Domain = or(c.Domain, "LAB")
	c.DNSDomain = or(c.DNSDomain, "lab.example")
	c.Computer = or(c.Computer, "LAB-IIS")
	if len(c.Hostnames) == 0 {
		c.Hostnames = []string{"127.0.0.1", "localhost", "::1"}
	}
	if c.Clock == nil {
		c.Clock = time.Now
	}
	if c.IdleTimeout == 0 {
		c.IdleTimeout = 2 * time.Minute
	}
	if c.FirstReqID == 0 {
		c.FirstReqID = 1
	}
	if c.Templates == nil && !c.Standalone {
		c.Templates = DefaultTemplates()
	}
	if c.Language == "" {
		c.Language = English
	}
	if err := c.completeLogin(); err != nil {
		return err
	}
	return c.check()
}

func (c *Config) completeLogin() error {
	if c.EPA == "" {
		c.EPA = EPAOff
	}
	if len(c.Schemes) == 0 {
		c.Schemes = []Scheme{SchemeNegotiate, SchemeNTLM}
	}
	if len(c.Accounts) == 0 {
		domain, name, _ := strings.Cut(DefaultUser, `\`)
		c.Accounts = []Account{{Domain: domain, Name: name, Password: DefaultPassword}}
	}
	c.Accounts = slices.Clone(c.Accounts)
	for i := range c.Accounts {
		a := &c.Accounts[i]
		a.Domain = or(a.Domain, c.Domain)
		if a.Name == "" || strings.ContainsAny(a.Name, `\@`) {
			return fmt.Errorf("testenv: account name %q: give the name alone, and the domain in Domain", a.Name)
		}
	}
	return nil
}

func (c *Config) check() error {
	if !page.Language(c.Language).Known() {
		return fmt.Errorf("testenv: no pages in language %q; there are %v", c.Language, page.Languages())
	}
	if _, ok := bindings[c.EPA]; !ok {
		return fmt.Errorf("testenv: EPA %q is none of off, accept, require", c.EPA)
	}
	for _, s := range c.Schemes {
		switch s {
		case SchemeNegotiate, SchemeNTLM, SchemeKerberos, SchemeBasic:
		default:
			return fmt.Errorf("testenv: scheme %q is none of Negotiate, NTLM, Negotiate:Kerberos, Basic", s)
		}
	}
	for _, t := range c.Templates {
		if t.Name == "" {
			return errors.New("testenv: a template has no Name")
		}
	}
	if c.Standalone && len(c.Templates) > 0 {
		return errors.New("testenv: a stand-alone CA has no templates")
	}
	return nil
}

var bindings = map[EPA]ntlm.Binding{
	EPAOff:     ntlm.BindingOff,
	EPAAccept:  ntlm.BindingAccept,
	EPARequire: ntlm.BindingRequire,
}
