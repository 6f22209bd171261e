package app

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"html"
	"io"
	"net/http"
	"regexp"
	"strings"
	"time"

	"github.com/onlineca/onlineca/certsrv"
	"github.com/onlineca/onlineca/certsrv/winauth"
	"github.com/onlineca/onlineca/ra/fault"
)

// checkLogin logs in as the settings say. A refused login is tried once more
// with the channel binding the other way round: that tells Extended Protection
// from a bad password, and costs the second of two failed logons at most.
func (c *checkup) checkLogin(ctx context.Context, st *DoctorStep) {
	if why := c.unfit(); why != "" {
		st.skip("%s", why)
		return
	}
	cfg := c.settings.certsrvConfig(c.settings.Certsrv.URL, Parts{Password: c.files.password, Roots: c.files.roots, EPA: c.files.epa, Dial: c.o.Dial})
	cfg.EPA.Probe = false // a step of its own tries the other setting
	cfg.Sessions = 1
	// One refusal is the last: a pause that outlasts this run.
	cfg.LoginPause = 24 * time.Hour
	client, err := c.login(ctx, cfg)
	if err == nil {
		c.client, c.config = client, cfg
		st.say("%s, %s", c.settings.Certsrv.Username, bindingWords(cfg.EPA.Binding))
		return
	}
	var rejected *winauth.RejectedError
	if !errors.As(err, &rejected) {
		st.failErr(err)
		return
	}
	other := cfg
	other.EPA.Binding = winauth.BindOff
	if cfg.EPA.Binding == winauth.BindOff {
		other.EPA.Binding = winauth.BindAuto
	}
	client, otherErr := c.login(ctx, other)
	if otherErr == nil {
		c.client, c.config = client, other
		c.explainBinding(st, cfg.EPA.Binding)
		return
	}
	c.explainRefusal(st, rejected, otherErr)
}

// unfit says why no credentials are sent, "" if they are.
func (c *checkup) unfit() string {
	for _, s := range []string{stepChain, stepHostName, stepClock} {
		if st := c.status(s); st == DoctorFail || st == DoctorSkip {
			return "because the server's certificate is not known to be good (" + s + "): credentials are not sent to such a server"
		}
	}
	if !c.secrets {
		return "because the account or a file that it needs is missing (settings)"
	}
	return ""
}

// login makes a client and logs in with it.
func (c *checkup) login(ctx context.Context, cfg certsrv.Config) (*certsrv.Client, error) {
	client, err := certsrv.New(cfg)
	if err != nil {
		return nil, err
	}
	c.clients = append(c.clients, client)
	return client, client.Login(ctx)
}

func bindingWords(b winauth.Binding) string {
	switch b {
	case winauth.BindOff:
		return "without channel binding"
	case winauth.BindCertificate:
		return "bound to the configured certificate"
	default:
		return "bound to the TLS connection"
	}
}

// explainBinding is about a login that is refused as configured, and accepted
// with the channel binding the other way round.
func (c *checkup) explainBinding(st *DoctorStep, configured winauth.Binding) {
	user := c.settings.Certsrv.Username
	st.note("where requests of one connection are spread over several servers, a login can be refused by chance: if another run ends otherwise, look for 401 1 2148074248 in the IIS log")
	if configured == winauth.BindOff {
		c.binding = "required"
		p := st.fail(fault.EPARequired, "%s is refused without a channel binding, and accepted with one: the password is good", user)
		p.Cause = "Extended Protection is Required on certsrv, and the settings switch channel binding off."
		p.Fix = "Set certsrv.extended_protection.channel_binding: auto."
		return
	}
	c.binding = "refused"
	p := st.fail(fault.EPARequired, "%s is refused %s, and accepted without a channel binding: the password is good", user, bindingWords(configured))
	p.Cause = "IIS compares the binding with another certificate than the one that this machine was shown: TLS ends at a device in between."
	p.Fix = "Set certsrv.extended_protection to channel_binding: certificate, with the certificate that IIS itself presents; or to channel_binding: off, as long as IIS does not require one."
	if configured == winauth.BindCertificate {
		p.Cause = "The certificate that the settings bind to (certsrv.extended_protection.certificate) is not the one that IIS presents."
	}
}

// explainRefusal is about a login that is refused either way.
func (c *checkup) explainRefusal(st *DoctorStep, first *winauth.RejectedError, other error) {
	st.say("certsrv refuses %s", first.Username)
	p := st.fail(fault.BadCredentials, "certsrv refuses %s (%s)", first.Username, times(c.failedLogons()))
	not := []string{
		"NTLM switched off: certsrv sent a challenge (it offers " + strings.Join(first.Offered, ", ") + ")",
		"a split handshake: both halves of each login went over one connection",
	}
	if errors.Is(other, winauth.ErrRejected) {
		not = append(not, "Extended Protection: refused with a channel binding and without, unless TLS ends at a device in between")
	} else {
		p.What += fmt.Sprintf("; whether Extended Protection is why could not be found out: %s", other)
	}
	for _, n := range not {
		st.note("it is not %s", n)
	}
	if !strings.ContainsAny(first.Username, `\@`) {
		p.Fix += ` The name has no domain: an account of a domain is written DOMAIN\user or user@domain.`
	}
}

func times(n int) string {
	switch n {
	case 0:
		return "no failed logon"
	case 1:
		return "1 failed logon"
	default:
		return fmt.Sprintf("%d failed logons", n)
	}
}

// mayLogIn says why a step that may log in is not taken, "" if it is.
func (c *checkup) mayLogIn() string {
	switch {
	case c.client == nil && c.status(stepLogin) == DoctorFail:
		return "because login failed"
	case c.client == nil:
		return "because login was skipped"
	case c.failedLogons() >= mostFailedLogons:
		return fmt.Sprintf("because %s are enough: another could lock the account", times(c.failedLogons()))
	default:
		return ""
	}
}

// checkBinding finds out what certsrv does with channel bindings.
func (c *checkup) checkBinding(ctx context.Context, st *DoctorStep) {
	switch c.binding {
	case "required":
		st.Status = DoctorFail
		st.say("required, and switched off in the settings")
		return
	case "refused":
		st.Status = DoctorFail
		st.say("the binding is refused, no binding is accepted")
		return
	}
	if why := c.mayLogIn(); why != "" {
		st.skip("%s", why)
		return
	}
	before := c.failedLogons()
	p, err := c.client.Probe(ctx)
	if n := c.failedLogons() - before; n > 0 {
		st.note("the probe caused %s: certsrv refused what it was meant to refuse", times(n))
	}
	if err != nil {
		st.say("could not be found out")
		w := st.warn(fault.Of(err).Code, "%s", err)
		w.Cause = "The login itself worked; a probe of it did not."
		return
	}
	switch mode := p.Mode(); mode {
	case "off":
		st.say("off: certsrv does not look at bindings")
		st.note("logins can be relayed to this server (KB5005413 wants Extended Protection: Required)")
	case "accept":
		st.say("accepted: a wrong binding is refused, a missing one is not")
	case "required":
		st.say("required")
	case "refused":
		st.say("a binding is refused, none is accepted")
		w := st.warn(fault.Unknown, "a login that is bound to the TLS connection is refused")
		w.Cause = "TLS ends at a device in front of IIS. As long as IIS does not require a binding, logins without one work."
		w.Fix = "Leave certsrv.extended_protection.channel_binding off, or bind to the certificate that IIS itself presents."
	default:
		st.say("could not be found out")
		w := st.warn(fault.Unknown, "bound: %s; unbound: %s", outcome(p.Bound), outcome(p.Unbound))
		w.Cause = "The logins of the probe ended otherwise than by yes or no."
	}
}

func outcome(err error) string {
	if err == nil {
		return "accepted"
	}
	return err.Error()
}

// checkLanguage looks at the language of the pages. The product reads English
// only; for this program nothing depends on it.
func (c *checkup) checkLanguage(ctx context.Context, st *DoctorStep) {
	if why := c.mayLogIn(); why != "" {
		st.skip("%s", why)
		return
	}
	page, err := c.welcomePage(ctx)
	if err != nil {
		st.skip("because the page could not be had: %s", err)
		return
	}
	switch l := language(page); l {
	case "English":
		st.say("English")
	case "":
		st.say("not English, and not known here; this program reads any")
		st.note("Unified CM reads English pages only")
	default:
		st.say("%s; this program reads any", l)
		st.note("Unified CM reads English pages only")
	}
}

// maxPage limits the welcome page, which has some 10 kB.
const maxPage = 256 << 10

// welcomePage logs in on a connection of its own and fetches /certsrv/. The
// server must present the certificate that has been verified.
func (c *checkup) welcomePage(ctx context.Context) ([]byte, error) {
	leaf := c.certs[0]
	p, err := winauth.NewPool(winauth.Config{
		URL: c.base, Credential: winauth.Credential{Username: c.config.Username, Password: c.config.Password},
		TLS: &tls.Config{
			InsecureSkipVerify: true, MinVersion: tls.VersionTLS12, ServerName: c.host, //nolint:gosec // Compared below with what has been verified.
			VerifyConnection: func(s tls.ConnectionState) error {
				if !s.PeerCertificates[0].Equal(leaf) {
					return errors.New("the server presents another certificate than before")
				}
				return nil
			},
		},
		EPA: c.config.EPA, Sessions: 1, LoginTimeout: c.config.Timeouts.Login, LoginPause: c.config.LoginPause,
		Reconnect: -1, UserAgent: c.config.UserAgent, DialContext: c.o.Dial,
	})
	if err != nil {
		return nil, err
	}
	c.pools = append(c.pools, p)
	x := &winauth.Exchange{Timeout: c.settings.Certsrv.Timeouts.Page}
	req, err := http.NewRequestWithContext(winauth.WithExchange(ctx, x), http.MethodGet, c.base+"/", nil)
	if err != nil {
		return nil, err
	}
	resp, err := p.RoundTrip(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("status %d", resp.StatusCode)
	}
	return io.ReadAll(io.LimitReader(resp.Body, maxPage))
}

var (
	langMark    = regexp.MustCompile(`(?i)<html[^>]*\blang="?([a-z]{2})\b`)
	contentMark = regexp.MustCompile(`(?i)<meta[^>]*content-language[^>]*content="?([a-z]{2})\b`)
	tagMark     = regexp.MustCompile(`(?s)<!--.*?-->|<script.*?</script>|<[^>]*>`)
)

// languages are known by their code and by how the welcome page greets.
var languages = []struct{ name, code, greeting string }{
	{"English", "en", "Welcome"},
	{"German", "de", "Willkommen"},
	{"French", "fr", "Bienvenue"},
	{"Spanish", "es", "Bienvenido"},
	{"Italian", "it", "Benvenut"},
	{"Portuguese", "pt", "Bem-vindo"},
	{"Dutch", "nl", "Welkom"},
	{"Swedish", "sv", "Välkommen"},
	{"Polish", "pl", "Witamy"},
	{"Russian", "ru", "Добро пожаловать"},
	{"Japanese", "ja", "ようこそ"},
	{"Chinese", "zh", "欢迎"},
}

// language guesses the language of a page: by what it says of itself, else by
// its greeting. "" is one that is not known.
func language(page []byte) string {
	page = bytes.ToValidUTF8(page, nil)
	for _, mark := range []*regexp.Regexp{langMark, contentMark} {
		if m := mark.FindSubmatch(page); m != nil {
			for _, l := range languages {
				if strings.EqualFold(string(m[1]), l.code) {
					return l.name
				}
			}
		}
	}
	text := html.UnescapeString(string(tagMark.ReplaceAll(page, []byte(" "))))
	for _, l := range languages {
		if strings.Contains(text, l.greeting) {
			return l.name
		}
	}
	return ""
}
