package app

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.uber.org/zap/zapcore"

	"github.com/onlineca/onlineca/estserver"
)

// Validate reports everything that is wrong with the settings, one line each,
// the key first. It opens no file and asks nobody.
func (s *Settings) Validate() error {
	v := new(mistakes)
	v.address("listen", s.Listen)
	if (s.TLS.Certificate == "") != (s.TLS.Key == "") {
		v.add("tls", "certificate and key go together: give both or neither")
	}
	if s.Admin.Listen != "" {
		v.address("admin.listen", s.Admin.Listen)
	} else if s.Admin.PProf {
		v.add("admin.listen", "missing: pprof needs an address to be served on")
	}
	s.Certsrv.validate(v)
	s.EST.validate(v)
	s.Requests.validate(v)
	s.CAPF.validate(v)
	if s.CAPF.Listen != "" && s.EST.Plain {
		v.add("capf.listen", "CAPF asks the EST server over TLS, which est.plain switches off: run CAPF in a process of its own")
	}
	if _, err := zapcore.ParseLevel(s.Logs.Level); err != nil {
		v.add("logs.level", "%q is none of debug, info, warn, error", s.Logs.Level)
	}
	return v.err()
}

func (c *CertsrvSettings) validate(v *mistakes) {
	c.validateURLs(v)
	if c.Username == "" {
		v.add("certsrv.username", `missing: the account that requests certificates, for example CONTOSO\svc-ra`)
	}
	if c.PasswordFile == "" {
		v.add("certsrv.password_file", "missing: a file that holds the account's password on one line")
	}
	if c.Template == "" {
		v.add("certsrv.template", "missing: the name (CN) of the certificate template, for example CiscoRA")
	}
	v.oneOf("certsrv.missing_template", c.MissingTemplate, "refuse", "warn")
	v.oneOf("certsrv.extended_protection.channel_binding", c.ExtendedProtection.ChannelBinding, "auto", "off", "certificate")
	v.oneOf("certsrv.extended_protection.mic", c.ExtendedProtection.MIC, "auto", "off")
	if (c.ExtendedProtection.ChannelBinding == "certificate") != (c.ExtendedProtection.Certificate != "") {
		v.add("certsrv.extended_protection", "channel_binding: certificate and certificate: FILE go together")
	}
	v.between("certsrv.sessions", c.Sessions, 1, 256)
	for _, d := range []struct {
		key   string
		value time.Duration
	}{
		{"certsrv.timeouts.login", c.Timeouts.Login}, {"certsrv.timeouts.page", c.Timeouts.Page},
		{"certsrv.timeouts.submit", c.Timeouts.Submit}, {"certsrv.timeouts.fetch", c.Timeouts.Fetch},
		{"certsrv.breaker.pause", c.Breaker.Pause}, {"certsrv.login_pause", c.LoginPause}, {"certsrv.chain_refresh", c.ChainRefresh},
	} {
		if d.value < time.Millisecond {
			v.add(d.key, "%v is too short; write a duration with its unit, for example 10s", d.value)
		}
	}
	for _, text := range append(slices.Clone(c.SAN), c.Marker) {
		if strings.ContainsAny(text, "\r\n") {
			v.add("certsrv.san, certsrv.marker", "%q holds a line break, which would start another request attribute", text)
		}
	}
}

// targets are the addresses of certsrv in order of preference.
func (c *CertsrvSettings) targets() []string {
	if len(c.URLs) > 0 {
		return c.URLs
	}
	return []string{c.URL}
}

func (c *CertsrvSettings) validateURLs(v *mistakes) {
	if len(c.URLs) > 0 && c.URL != "" && c.URL != c.URLs[0] {
		v.add("certsrv.urls", "url is given as well: choose one")
	}
	key, seen := "certsrv.url", map[string]bool{}
	if len(c.URLs) > 0 {
		key = "certsrv.urls"
	}
	for _, text := range c.targets() {
		u, err := url.Parse(text)
		switch {
		case text == "":
			v.add(key, "missing: the address of Web Enrollment, for example https://ca.example.com/certsrv")
			continue
		case err != nil || u.Scheme != "https" || u.Hostname() == "":
			v.add(key, "%q is not an address of the form https://ca.example.com/certsrv", text)
			continue
		case u.User != nil:
			v.add(key, "must not hold a user name or password: use certsrv.username and certsrv.password_file")
		}
		if name := hostPort(u); seen[name] {
			v.add(key, "%s is named twice", name)
		} else {
			seen[name] = true
		}
	}
}

// hostPort is the host of an https address, in lower case, with its port.
func hostPort(u *url.URL) string {
	port := u.Port()
	if port == "" {
		port = "443"
	}
	return net.JoinHostPort(strings.ToLower(u.Hostname()), port)
}

func (e *ESTSettings) validate(v *mistakes) {
	if strings.ContainsAny(e.Realm, "\"\\\r\n") {
		v.add("est.realm", "%q holds a quote, a backslash or a line break", e.Realm)
	}
	v.between("est.max_requests", e.MaxRequests, 1, 1000000)
	if _, err := e.proxies(); err != nil {
		v.add("est.trusted_proxies", "%v", err)
	}
	if len(e.TrustedProxies) == 0 && (e.Plain || e.ProxyCertificateHeader != "") {
		v.add("est.trusted_proxies", "missing: plain and proxy_certificate_header are for a proxy in front, whose network must be named")
	}
	for name, l := range e.Labels {
		if l == nil {
			v.add("est.labels."+name, "empty: write {} for a label with nothing of its own")
		}
	}
	for name, l := range e.all() {
		l.validate(v, labelKey(name))
		if e.Plain && l.ProofOfPossession == "required" {
			v.add(labelKey(name)+".proof_of_possession", "required, but with est.plain TLS ends at the proxy, and there is nothing to compare: choose optional or off")
		}
	}
}

// labelKey is where the settings of a label stand.
func labelKey(name string) string {
	if name == "" {
		return "est"
	}
	return "est.labels." + name
}

func (l *LabelSettings) validate(v *mistakes, key string) {
	a := &l.Auth
	v.oneOf(key+".auth.require", a.Require, "any", "all")
	if a.Certsrv && a.Users != "" {
		v.add(key+".auth", "certsrv and users both read HTTP Basic credentials: choose one")
	}
	if l.Rate.Every < 0 || l.Rate.Burst < 0 {
		v.add(key+".rate", "every %v and burst %d: neither may be negative", l.Rate.Every, l.Rate.Burst)
	}
	if a.Anonymous && (a.Certsrv || a.Users != "" || a.Tokens != "" || len(a.ClientCA) > 0 || a.OwnChain) {
		v.add(key+".auth", "anonymous lets everybody in; leave the other ways out")
	}
	if a.Grace < 0 {
		v.add(key+".auth.grace", "%v is negative", a.Grace)
	}
	if _, err := a.keyUsages(); err != nil {
		v.add(key+".auth.key_usages", "%v", err)
	}
	v.oneOf(key+".certificates", l.Certificates, "lsc", "any")
	v.oneOf(key+".proof_of_possession", l.ProofOfPossession, "off", "optional", "required")
	for _, r := range []struct{ key, text string }{
		{".auth.subject", a.Subject}, {".policy.subject", l.Policy.Subject}, {".policy.san_names", l.Policy.SANNames},
	} {
		if _, err := pattern(r.text); err != nil {
			v.add(key+r.key, "%v", err)
		}
	}
	if _, err := estserver.ParseCSRAttrs(l.CSRAttrs); err != nil {
		v.add(key+".csrattrs", "%v", err)
	}
}

// pattern compiles a regular expression; an empty one is nil.
func pattern(text string) (*regexp.Regexp, error) {
	if text == "" {
		return nil, nil //nolint:nilnil // No pattern is a value here.
	}
	return regexp.Compile(text)
}

// proxies parses the networks of trusted proxies; an address is a network of
// its own.
func (e *ESTSettings) proxies() ([]netip.Prefix, error) {
	var all []netip.Prefix
	for _, text := range e.TrustedProxies {
		if addr, err := netip.ParseAddr(text); err == nil {
			all = append(all, netip.PrefixFrom(addr, addr.BitLen()))
			continue
		}
		p, err := netip.ParsePrefix(text)
		if err != nil {
			return nil, fmt.Errorf("%q is neither an address nor a network such as 10.0.0.0/24", text)
		}
		all = append(all, p)
	}
	return all, nil
}

// mistakes gathers what is wrong, so that a person mends a file in one go.
type mistakes struct{ all []error }

func (m *mistakes) add(key, format string, args ...any) {
	m.all = append(m.all, fmt.Errorf("%s: %s", key, fmt.Sprintf(format, args...)))
}

func (m *mistakes) err() error { return errors.Join(m.all...) }

func (m *mistakes) oneOf(key, value string, may ...string) {
	if !slices.Contains(may, value) {
		m.add(key, "%q is none of %s", value, strings.Join(may, ", "))
	}
}

func (m *mistakes) between(key string, value, low, high int) {
	if value < low || value > high {
		m.add(key, "%d is not between %d and %d", value, low, high)
	}
}

func (m *mistakes) address(key, value string) {
	_, port, err := net.SplitHostPort(value)
	if err != nil {
		m.add(key, "%q is not an address of the form 127.0.0.1:8084", value)
		return
	}
	if n, err := strconv.Atoi(port); err != nil || n < 0 || n > 65535 {
		m.add(key, "%q is not a port number", port)
	}
}
