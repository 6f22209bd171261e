// Package app joins the rooms: settings in, running servers out. It is the one
// place where certsrv, the EST server and CAPF meet, for `onlineca serve` and
// for the lab alike.
package app

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/goccy/go-yaml"

	"github.com/onlineca/onlineca/ra/store"
)

// Settings is what onlineca.yaml says. Its zero value, with a certsrv URL, an
// account and a template added, is a working registration authority.
//
// Relative paths are relative to the file. A key that Settings does not have is
// an error.
type Settings struct {
	// Listen is the EST server's address. Default 127.0.0.1:8084: the product's
	// port, and nothing beyond loopback unless told to.
	Listen string `yaml:"listen,omitempty"`
	// State is the directory of what the server keeps: its own certificate,
	// unless tls names one. Default: onlineca-state beside the settings file.
	State string `yaml:"state,omitempty"`

	// Store is where requests are remembered: an SQLite file (default:
	// requests.db in the state directory), postgres://…, or "none".
	Store    string          `yaml:"store,omitempty"`
	Requests RequestSettings `yaml:"requests,omitempty"`

	TLS     TLSSettings     `yaml:"tls,omitempty"`
	Certsrv CertsrvSettings `yaml:"certsrv"`
	EST     ESTSettings     `yaml:"est,omitempty"`
	CAPF    CAPFSettings    `yaml:"capf,omitempty"`
	Logs    LogSettings     `yaml:"logs,omitempty"`
	Admin   AdminSettings   `yaml:"admin,omitempty"`
}

// TLSSettings is the EST server's own certificate. Without one, a self-signed
// certificate is made on the first start and kept in the state directory.
type TLSSettings struct {
	Certificate string `yaml:"certificate,omitempty"` // PEM, leaf first, then intermediates
	Key         string `yaml:"key,omitempty"`         // PEM
	// Names are the DNS names and addresses of a certificate made on the first
	// start, beside localhost and this machine's name.
	Names []string `yaml:"names,omitempty"`
}

// CertsrvSettings is the AD CS Web Enrollment to ask.
type CertsrvSettings struct {
	URL string `yaml:"url,omitempty"` // https://ca.example.com/certsrv
	// URLs are several web servers of the same CA in order of preference,
	// instead of URL: see ra.Failover for when the next one is asked.
	URLs []string `yaml:"urls,omitempty"`
	// Breaker says when a certsrv that is in trouble is left alone.
	Breaker BreakerSettings `yaml:"breaker,omitempty"`

	Username     string `yaml:"username"`      // DOMAIN\user, user@domain or user
	PasswordFile string `yaml:"password_file"` // one line; environment variables are expanded in the path
	Template     string `yaml:"template"`      // the template's name (CN), not its display name
	// MissingTemplate says what to do when certsrv does not offer the template
	// to the account: "refuse" as in the product (default), or "warn".
	MissingTemplate string `yaml:"missing_template,omitempty"`

	TLS CertsrvTLSSettings `yaml:"tls,omitempty"`
	// ExtendedProtection says what the login is bound to.
	ExtendedProtection EPASettings `yaml:"extended_protection,omitempty"`

	Timeouts TimeoutSettings `yaml:"timeouts,omitempty"`
	// Sessions is how many authenticated connections are kept. Default 8.
	Sessions int `yaml:"sessions,omitempty"`
	// LoginPause is how long no login is tried after one was refused, so that a
	// wrong password cannot lock the account. Default 10m.
	LoginPause time.Duration `yaml:"login_pause,omitempty"`
	// ChainRefresh is how often the CA's chain is fetched anew. Default 1h.
	ChainRefresh time.Duration `yaml:"chain_refresh,omitempty"`
	// UserAgent is sent to certsrv. IIS answers differently to browsers, so it
	// should contain "Mozilla". Default: a value that does.
	UserAgent string `yaml:"user_agent,omitempty"`

	// SAN and Marker are extra request attributes.
	SAN    []string `yaml:"san,omitempty"`    // dns=name; needs EDITF_ATTRIBUTESUBJECTALTNAME2 on the CA
	Marker string   `yaml:"marker,omitempty"` // a text to find requests by in the CA's database
}

// BreakerSettings is the circuit breaker of each certsrv: see ra.Breaker.
type BreakerSettings struct {
	// Failures is after how many in a row nothing is asked of it. Default 5;
	// a negative number switches the breaker off.
	Failures int `yaml:"failures,omitempty"`
	// Pause is how long, before one request is let through as a trial. Default
	// 30s.
	Pause time.Duration `yaml:"pause,omitempty"`
}

// CertsrvTLSSettings is how the certificate of IIS is verified.
type CertsrvTLSSettings struct {
	// CA names PEM files with the trusted roots and intermediates. Default: the
	// system's.
	CA []string `yaml:"ca,omitempty"`
	// MatchCommonName accepts a certificate that has the host's name as its
	// common name only, as curl does.
	MatchCommonName bool `yaml:"match_common_name,omitempty"`
}

// EPASettings is Extended Protection for Authentication.
type EPASettings struct {
	// ChannelBinding is "auto" (default: bind to the certificate that certsrv
	// presents), "off", or "certificate".
	ChannelBinding string `yaml:"channel_binding,omitempty"`
	// Certificate is the PEM file to bind to when ChannelBinding is
	// "certificate": that of IIS itself, behind a device that ends TLS.
	Certificate string `yaml:"certificate,omitempty"`
	// MIC is "auto" (default: sent when the server sends its time) or "off".
	MIC string `yaml:"mic,omitempty"`
	// Probe has a refused login tried once more with the other setting of the
	// binding, so that a refused binding is told from a refused password. Off
	// by default: where it is the password, the second attempt counts towards
	// the account's lockout, too.
	Probe bool `yaml:"probe,omitempty"`
}

// TimeoutSettings bounds each exchange with certsrv. Default 10s each, as in
// the product.
type TimeoutSettings struct {
	Login  time.Duration `yaml:"login,omitempty"`
	Page   time.Duration `yaml:"page,omitempty"`
	Submit time.Duration `yaml:"submit,omitempty"`
	Fetch  time.Duration `yaml:"fetch,omitempty"`
}

// ESTSettings is the face towards EST clients. The settings of a label that
// stand directly in it are those of the paths without a label.
type ESTSettings struct {
	// Realm of the Basic challenge. Default "estrealm", as libEST's.
	Realm         string `yaml:"realm,omitempty"`
	LabelSettings `yaml:",inline"`
	// Labels are further ways in, /.well-known/est/LABEL/…, each with settings
	// of its own (RFC 7030 section 3.2.2).
	Labels map[string]*LabelSettings `yaml:"labels,omitempty"`

	// MaxRequests bounds how many enrolments wait at once. Default 1000.
	MaxRequests int `yaml:"max_requests,omitempty"`
	// TrustedProxies are the networks of proxies that end TLS in front, and
	// ProxyCertificateHeader the header in which they hand the client's
	// certificate on. Neither is believed from anywhere else.
	TrustedProxies         []string `yaml:"trusted_proxies,omitempty"`
	ProxyCertificateHeader string   `yaml:"proxy_certificate_header,omitempty"`
	// Plain serves HTTP without TLS, to such a proxy.
	Plain bool `yaml:"plain,omitempty"`
}

// LabelSettings is one way in: what may be asked for, and by whom.
type LabelSettings struct {
	// Template is the certificate template. Default: certsrv.template.
	Template string         `yaml:"template,omitempty"`
	Auth     AuthSettings   `yaml:"auth,omitempty"`
	Policy   PolicySettings `yaml:"policy,omitempty"`
	// Certificates says what they are for: "lsc" are looked at when they are
	// issued, and reported if no phone would take them; "any" are not. Default:
	// lsc for the paths without a label, any for labels.
	Certificates string `yaml:"certificates,omitempty"`
	// CSRAttrs is what /csrattrs asks for, in words ("rsa2048",
	// "extKeyUsage") or object identifiers. None: 204.
	CSRAttrs []string `yaml:"csrattrs,omitempty"`
	// ProofOfPossession links a request to its TLS connection (RFC 7030 section
	// 3.5): off (default, as in the product), optional or required.
	ProofOfPossession string `yaml:"proof_of_possession,omitempty"`
	// ReenrollWithoutCertificate lets clients renew that do not present the
	// certificate to be renewed.
	ReenrollWithoutCertificate bool `yaml:"reenroll_without_certificate,omitempty"`
	// ReenrollFewerNames lets a renewal leave out alternative names, for CAs
	// that add some of their own.
	ReenrollFewerNames bool `yaml:"reenroll_fewer_names,omitempty"`
	// Rate bounds how often one client may enrol. Without it there is no bound.
	Rate RateSettings `yaml:"rate,omitempty"`
	// ServerKeygen switches /serverkeygen on.
	ServerKeygen bool `yaml:"serverkeygen,omitempty"`
}

// AuthSettings selects the ways to authenticate. None selected means Certsrv.
type AuthSettings struct {
	// Certsrv passes HTTP Basic credentials through to certsrv, as the product
	// does: whoever can log in there and is offered the template may enrol.
	Certsrv bool `yaml:"certsrv,omitempty"`
	// Users is a file of user:bcrypt-hash lines, as `htpasswd -B` writes them.
	Users string `yaml:"users,omitempty"`
	// Tokens is a file of one-time passwords, which `onlineca token create`
	// makes; the user name is the device's.
	Tokens string `yaml:"tokens,omitempty"`
	// ClientCA names PEM files with the CAs of TLS client certificates, and
	// OwnChain trusts those of the certificates issued here.
	ClientCA []string `yaml:"client_ca,omitempty"`
	OwnChain bool     `yaml:"own_chain,omitempty"`
	// Subject is a regular expression that the whole subject of a client
	// certificate must match, in the form CN=…,OU=….
	Subject string `yaml:"subject,omitempty"`
	// KeyUsages are the extended key usages of which a client certificate must
	// have one, unless it has none at all. Default: clientAuth.
	KeyUsages []string `yaml:"key_usages,omitempty"`
	// Grace is how long after its expiry a certificate may still renew itself.
	Grace time.Duration `yaml:"grace,omitempty"`
	// Require is "any" (default) or "all": certificate and password.
	Require string `yaml:"require,omitempty"`
	// Remember is how long credentials that certsrv verified are not verified
	// again. Default 5m; a negative value switches it off.
	Remember time.Duration `yaml:"remember,omitempty"`
	// Anonymous lets everybody in who reaches the port. For labs.
	Anonymous bool `yaml:"anonymous,omitempty"`
}

// RateSettings is an allowance: one request for each Every, Burst at once.
type RateSettings struct {
	Every time.Duration `yaml:"every,omitempty"`
	Burst int           `yaml:"burst,omitempty"`
}

// PolicySettings says which requests are passed on. See ra.Policy for the
// defaults and the words.
type PolicySettings struct {
	Keys               []string `yaml:"keys,omitempty"`
	Hashes             []string `yaml:"hashes,omitempty"`
	Subject            string   `yaml:"subject,omitempty"`
	SANTypes           []string `yaml:"san_types,omitempty"`
	SANNames           string   `yaml:"san_names,omitempty"`
	SubjectNamesClient bool     `yaml:"subject_names_client,omitempty"`
}

// LogSettings says where the logs go. The default is JSON on standard error.
type LogSettings struct {
	// Directory gets the log tree: the dialects of the product, and JSON.
	Directory string `yaml:"directory,omitempty"`
	// Level of the JSON log: debug, info, warn or error. Default info.
	Level string `yaml:"level,omitempty"`
}

// AdminSettings is the face towards whoever runs the server: plain HTTP, for
// the machine itself and for monitoring.
type AdminSettings struct {
	// Listen is where /healthz, /readyz and /metrics are. Default: nowhere.
	// Without a host, as in ":8085", it is this machine alone.
	Listen string `yaml:"listen,omitempty"`
	// PProf serves Go's profiles under /debug/pprof/ there.
	PProf bool `yaml:"pprof,omitempty"`
}

// maxSettingsFile bounds what is read as a settings file.
const maxSettingsFile = 1 << 20

// ReadSettings reads and validates a settings file. Every mistake is reported,
// with its line where it has one.
func ReadSettings(path string) (Settings, error) {
	f, err := os.Open(path)
	if err != nil {
		return Settings{}, fmt.Errorf("read settings: %w (--config names the file)", err)
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxSettingsFile+1))
	if err != nil {
		return Settings{}, fmt.Errorf("read settings: %w", err)
	}
	if len(text) > maxSettingsFile {
		return Settings{}, fmt.Errorf("read settings: %s is larger than %d bytes: not a settings file", path, maxSettingsFile)
	}
	s, err := ParseSettings(text)
	if err != nil {
		return Settings{}, fmt.Errorf("%s: %w", path, err)
	}
	s.resolve(filepath.Dir(path))
	if err := s.Validate(); err != nil {
		return Settings{}, fmt.Errorf("%s: %w", path, err)
	}
	s.Certsrv.URL = s.Certsrv.targets()[0]
	return s, nil
}

// ParseSettings decodes YAML and fills in the defaults. It does not validate.
func ParseSettings(text []byte) (Settings, error) {
	var s Settings
	dec := yaml.NewDecoder(bytes.NewReader(text), yaml.Strict())
	switch err := dec.Decode(&s); {
	case errors.Is(err, io.EOF):
		return Settings{}, errors.New("the file is empty")
	case err != nil:
		return Settings{}, settingsError(text, err)
	}
	s.defaults()
	return s, nil
}

func (s *Settings) defaults() {
	orString(&s.Listen, "127.0.0.1:8084")
	orString(&s.State, "onlineca-state")
	orString(&s.Certsrv.MissingTemplate, "refuse")
	orString(&s.Certsrv.ExtendedProtection.ChannelBinding, "auto")
	orString(&s.Certsrv.ExtendedProtection.MIC, "auto")
	t := &s.Certsrv.Timeouts
	for _, d := range []*time.Duration{&t.Login, &t.Page, &t.Submit, &t.Fetch} {
		orDuration(d, 10*time.Second)
	}
	if s.Certsrv.Sessions == 0 {
		s.Certsrv.Sessions = 8
	}
	if s.Certsrv.Breaker.Failures == 0 {
		s.Certsrv.Breaker.Failures = 5
	}
	orDuration(&s.Certsrv.Breaker.Pause, 30*time.Second)
	if strings.HasPrefix(s.Admin.Listen, ":") {
		s.Admin.Listen = "127.0.0.1" + s.Admin.Listen
	}
	orDuration(&s.Certsrv.LoginPause, 10*time.Minute)
	orDuration(&s.Certsrv.ChainRefresh, time.Hour)
	orString(&s.Store, filepath.Join(s.State, "requests.db"))
	s.Requests.defaults(s.State)
	s.CAPF.defaults(s.State)
	orString(&s.EST.Realm, "estrealm")
	orString(&s.EST.Certificates, "lsc")
	s.EST.defaults(s.Certsrv.Template)
	for _, l := range s.EST.Labels {
		if l != nil {
			l.defaults(s.Certsrv.Template)
		}
	}
	if s.EST.MaxRequests == 0 {
		s.EST.MaxRequests = 1000
	}
	orString(&s.Logs.Level, "info")
}

func (l *LabelSettings) defaults(template string) {
	orString(&l.Template, template)
	orString(&l.Certificates, "any")
	orString(&l.ProofOfPossession, "off")
	orString(&l.Auth.Require, "any")
	orDuration(&l.Auth.Remember, 5*time.Minute)
	if a := &l.Auth; !a.Certsrv && a.Users == "" && a.Tokens == "" && len(a.ClientCA) == 0 && !a.OwnChain && !a.Anonymous {
		a.Certsrv = true
	}
}

func orString(p *string, v string) {
	if *p == "" {
		*p = v
	}
}

func orDuration(p *time.Duration, v time.Duration) {
	if *p == 0 {
		*p = v
	}
}

// resolve makes every path absolute or relative to dir, the file's directory.
func (s *Settings) resolve(dir string) {
	s.Certsrv.PasswordFile = os.ExpandEnv(s.Certsrv.PasswordFile)
	for _, p := range []*string{
		&s.State, &s.TLS.Certificate, &s.TLS.Key, &s.Certsrv.PasswordFile,
		&s.Certsrv.ExtendedProtection.Certificate, &s.Logs.Directory,
	} {
		*p = under(dir, *p)
	}
	if s.Store != noStore && !store.IsPostgres(s.Store) {
		s.Store = under(dir, s.Store)
	}
	for _, p := range []*string{&s.Requests.Audit, &s.CAPF.Devices, &s.CAPF.Certificate, &s.CAPF.PasswordFile} {
		*p = under(dir, *p)
	}
	underAll(dir, s.Certsrv.TLS.CA)
	underAll(dir, s.CAPF.LSCTrust)
	underAll(dir, s.CAPF.MICTrust)
	for _, l := range s.EST.all() {
		l.Auth.Users = under(dir, l.Auth.Users)
		l.Auth.Tokens = under(dir, l.Auth.Tokens)
		underAll(dir, l.Auth.ClientCA)
	}
}

// all lists the settings of every way in by its label, "" for none.
func (e *ESTSettings) all() map[string]*LabelSettings {
	all := map[string]*LabelSettings{"": &e.LabelSettings}
	for name, l := range e.Labels {
		if l != nil {
			all[name] = l
		}
	}
	return all
}

func underAll(dir string, paths []string) {
	for i := range paths {
		paths[i] = under(dir, paths[i])
	}
}

func under(dir, path string) string {
	if path == "" || filepath.IsAbs(path) {
		return path
	}
	return filepath.Join(dir, path)
}

// DefaultSettings are the settings of an empty file, without a store: what is
// needed is missing, everything else has its default.
func DefaultSettings() Settings {
	var s Settings
	s.defaults()
	s.Store = noStore
	return s
}
