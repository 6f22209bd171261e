package certsrv_test

import (
	"context"
	"crypto"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/onlineca/onlineca/certsrv"
	"github.com/onlineca/onlineca/certsrv/winauth"
	"github.com/onlineca/onlineca/ra"
	"github.com/onlineca/onlineca/ra/event"
	"github.com/onlineca/onlineca/ra/fault"
	"github.com/onlineca/onlineca/testenv"
)

// dialTo has every name lead to s.
func dialTo(s *testenv.Certsrv) func(context.Context, string, string) (net.Conn, error) {
	addr := strings.TrimPrefix(s.URL, "https://")
	return func(ctx context.Context, network, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, network, addr)
	}
}

// What goes wrong on the way to certsrv: code, and curl's words as they stand
// in the product's log.
func TestWayThere(t *testing.T) {
	good := testenv.New(t, testenv.Config{})
	pki := good.PKI
	serve := func(o testenv.ServerOptions) *testenv.Certsrv {
		if o.Names == nil {
			o.Names = []string{"lab-dc.michamen.com"}
		}
		cert, err := pki.ServerCertificate(o)
		if err != nil {
			t.Fatal(err)
		}
		return testenv.New(t, testenv.Config{PKI: pki, Certificate: &cert})
	}
	pipe := func(serve func(net.Conn)) func(context.Context, string, string) (net.Conn, error) {
		return func(context.Context, string, string) (net.Conn, error) {
			a, b := net.Pipe()
			go serve(b)
			return a, nil
		}
	}
	now := time.Now()
	for _, tc := range []struct {
		name string
		s    *testenv.Certsrv
		cfg  func(*certsrv.Config)
		want fault.Code
		curl int
		text string
		leg  winauth.Leg
	}{
		{name: "DNS", want: fault.DNS, curl: 6, text: "Could not resolve: lab-dc.michamen.com (Domain name not found)", cfg: func(c *certsrv.Config) {
			c.DialContext = func(context.Context, string, string) (net.Conn, error) {
				return nil, &net.OpError{Op: "dial", Err: &net.DNSError{Err: "no such host", Name: "lab-dc.michamen.com", IsNotFound: true}}
			}
		}},
		{name: "DNS timeout", want: fault.DNS, curl: 6, text: "Resolving timed out after ", cfg: func(c *certsrv.Config) {
			c.Timeouts.Login = 100 * time.Millisecond
			c.DialContext = nil
			c.Resolver = &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
				<-ctx.Done()
				return nil, ctx.Err()
			}}
		}},
		{name: "refused", want: fault.ConnectionRefused, curl: 7, text: "Failed to connect to lab-dc.michamen.com: Connection refused", cfg: func(c *certsrv.Config) {
			c.DialContext = func(ctx context.Context, network, _ string) (net.Conn, error) {
				return (&net.Dialer{}).DialContext(ctx, network, "127.0.0.1:1")
			}
		}},
		{name: "no route", want: fault.ConnectionRefused, curl: 7, text: "Failed to connect to lab-dc.michamen.com: No route to host", cfg: func(c *certsrv.Config) {
			c.DialContext = func(context.Context, string, string) (net.Conn, error) {
				return nil, &net.OpError{Op: "dial", Err: syscall.EHOSTUNREACH}
			}
		}},
		{name: "connect timeout", want: fault.ConnectTimeout, curl: 28, text: "Connection timed out after ", cfg: func(c *certsrv.Config) {
			c.Timeouts.Login = 100 * time.Millisecond
			c.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
				<-ctx.Done()
				return nil, ctx.Err()
			}
		}},
		{name: "TLS hangs", want: fault.LoginTimeout, curl: 28, text: "Operation timed out after ", cfg: func(c *certsrv.Config) {
			c.Timeouts.Login = 100 * time.Millisecond
			c.DialContext = pipe(func(c net.Conn) { _, _ = io.Copy(io.Discard, c) })
		}},
		{name: "no TLS", want: fault.TLSHandshake, curl: 35, text: "SSL connect error", cfg: func(c *certsrv.Config) {
			c.DialContext = pipe(func(c net.Conn) {
				_, _ = c.Read(make([]byte, 1<<16))
				_, _ = io.WriteString(c, "HTTP/1.1 400 Bad Request\r\n\r\n")
				_ = c.Close()
			})
		}},
		{name: "closed in TLS", want: fault.TLSHandshake, curl: 35, text: "SSL connect error", cfg: func(c *certsrv.Config) {
			c.DialContext = pipe(func(c net.Conn) { _, _ = c.Read(make([]byte, 1<<16)); _ = c.Close() })
		}},
		{name: "untrusted", want: fault.UntrustedChain, curl: 60, text: "unable to get local issuer certificate", s: serve(testenv.ServerOptions{}), cfg: func(c *certsrv.Config) {
			c.Roots = x509.NewCertPool()
		}},
		{name: "no intermediate", want: fault.UntrustedChain, curl: 60, text: "unable to get local issuer certificate", s: serve(testenv.ServerOptions{OmitIntermediate: true})},
		{name: "self-signed", want: fault.SelfSigned, curl: 60, text: "unable to get local issuer certificate", s: serve(testenv.ServerOptions{SelfSigned: true})},
		{name: "name", want: fault.NameMismatch, curl: 51, text: "SSL: certificate subject name 'lab-dc' does not match target host name 'lab-dc.michamen.com'", s: serve(testenv.ServerOptions{Names: []string{"lab-dc"}})},
		{name: "common name only", want: fault.NameMismatch, curl: 51, text: "'lab-dc.michamen.com' does not match", s: serve(testenv.ServerOptions{NoSAN: true})},
		{name: "not yet", want: fault.NotYetValid, curl: 60, text: "certificate is not yet valid", s: serve(testenv.ServerOptions{NotBefore: now.Add(time.Hour)})},
		{name: "expired", want: fault.Expired, curl: 60, text: "certificate has expired", s: serve(testenv.ServerOptions{NotBefore: now.Add(-2 * time.Hour), NotAfter: now.Add(-time.Hour)})},
		{name: "clock is wrong", want: fault.NotYetValid, curl: 60, text: "certificate is not yet valid", s: serve(testenv.ServerOptions{}), cfg: func(c *certsrv.Config) {
			c.Now = func() time.Time { return now.AddDate(-1, 0, 0) }
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := tc.s
			if s == nil {
				s = good
			}
			cfg, logs := watched(s)
			cfg.URL, cfg.DialContext = "https://lab-dc.michamen.com/certsrv", dialTo(s)
			if tc.cfg != nil {
				tc.cfg(&cfg)
			}
			for _, enroll := range []bool{false, true} { // a submission that never began is no unknown outcome
				c := newClient(t, cfg)
				var err error
				if enroll {
					_, err = c.Enroll(t.Context(), request(t, "SEP001122334455"))
				} else {
					err = c.Start(t.Context())
				}
				f := fault.Of(err)
				if f == nil || f.Code != tc.want || !strings.Contains(f.CurlText(), tc.text) || errors.Is(err, fault.OutcomeUnknown) || f.Unsent != enroll {
					t.Fatalf("%v\ncurl text %q", err, f.CurlText())
				}
				failed := eventsOf(logs)
				want := event.UpstreamFailed{Step: event.StepLogin, URL: "https://lab-dc.michamen.com:443/certsrv", Curl: tc.curl}
				if !enroll && (failed[len(failed)-1] != (event.ChainUnavailable{Curl: tc.curl}) || len(failed) != 2) {
					t.Errorf("%+v", failed)
				}
				got, _ := failed[0].(event.UpstreamFailed)
				if got.Step != want.Step || got.URL != want.URL || got.Curl != want.Curl || got.Text != f.CurlText() || got.Code != tc.want.String() {
					t.Errorf("%+v", got)
				}
			}
		})
	}

	t.Run("common name allowed", func(t *testing.T) {
		core, logs := observer.New(zap.WarnLevel)
		for _, o := range []testenv.ServerOptions{{NoSAN: true}, {}, {Names: []string{"lab-dc"}, NoSAN: true}, {NoSAN: true, SelfSigned: true}, {NoSAN: true, NotBefore: now.Add(time.Hour)}} {
			s := serve(o)
			cfg := config(s)
			cfg.URL, cfg.DialContext = "https://lab-dc.michamen.com/certsrv", dialTo(s)
			cfg.MatchCommonName, cfg.Logger = true, zap.New(core)
			err := newClient(t, cfg).Login(t.Context())
			want := []fault.Code{}
			switch {
			case o.SelfSigned:
				want = append(want, fault.SelfSigned)
			case !o.NotBefore.IsZero():
				want = append(want, fault.NotYetValid)
			case o.Names != nil && o.Names[0] == "lab-dc":
				want = append(want, fault.NameMismatch)
			}
			if len(want) == 0 && err != nil || len(want) == 1 && !errors.Is(err, want[0]) {
				t.Errorf("%+v: %v", o, err)
			}
		}
		if n := logs.FilterMessageSnippet("accepted by its common name").Len(); n != 1 {
			t.Errorf("warned %d times", n)
		}
	})
}

// What goes wrong at the login.
func TestLoginFaults(t *testing.T) {
	for _, tc := range []struct {
		name   string
		server testenv.Config
		inject []testenv.Fault
		cfg    func(*certsrv.Config)
		want   fault.Code
		text   string
	}{
		{name: "password", cfg: func(c *certsrv.Config) { c.Password = "S3cret-and-wrong" }, want: fault.BadCredentials, text: "channel binding sent"},
		{name: "Kerberos only", server: testenv.Config{Schemes: []testenv.Scheme{testenv.SchemeKerberos}}, want: fault.NTLMDisabled, text: "only Negotiate"},
		{name: "Basic only", server: testenv.Config{Schemes: []testenv.Scheme{testenv.SchemeBasic}}, want: fault.NTLMDisabled, text: "only Basic"},
		{name: "EPA", server: testenv.Config{EPA: testenv.EPARequire}, cfg: func(c *certsrv.Config) { c.EPA.Binding = winauth.BindOff }, want: fault.BadCredentials, text: "or the server requires a channel binding"},
		{name: "EPA, probed", server: testenv.Config{EPA: testenv.EPARequire}, cfg: func(c *certsrv.Config) { c.EPA = winauth.EPA{Binding: winauth.BindOff, Probe: true} }, want: fault.EPARequired, text: "logs in with a channel binding, but not without one"},
		{name: "password, probed", cfg: func(c *certsrv.Config) { c.Password = "S3cret-and-wrong"; c.EPA.Probe = true }, want: fault.BadCredentials, text: "it is not the channel binding"},
		{name: "challenge that is none", inject: []testenv.Fault{testenv.BadChallenge}, want: fault.PageUnreadable},
		{name: "challenge forgotten", inject: []testenv.Fault{testenv.LostChallenge}, want: fault.BadCredentials},
		{name: "500", inject: []testenv.Fault{testenv.Status500}, want: fault.ServerError},
		{name: "503", inject: []testenv.Fault{testenv.Status503}, want: fault.ServerError},
		{name: "closed", inject: []testenv.Fault{testenv.CloseConnection}, want: fault.ConnectionLost},
		{name: "reset", inject: []testenv.Fault{testenv.Reset}, want: fault.ConnectionLost},
		{name: "garbage", inject: []testenv.Fault{testenv.Garbage}, want: fault.PageUnreadable},
		{name: "hang", inject: []testenv.Fault{testenv.Hang}, want: fault.LoginTimeout, text: "NEGOTIATE (type 1)"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := testenv.New(t, tc.server)
			for _, f := range tc.inject {
				s.Inject(f, testenv.On(testenv.StepHandshake))
			}
			cfg := config(s)
			if tc.want == fault.LoginTimeout {
				cfg.Timeouts.Login = 300 * time.Millisecond
			}
			if tc.cfg != nil {
				tc.cfg(&cfg)
			}
			_, err := newClient(t, cfg).Enroll(t.Context(), request(t, "SEP001122334455"))
			f := fault.Of(err)
			if f == nil || f.Code != tc.want || !strings.Contains(err.Error(), tc.text) || errors.Is(err, fault.OutcomeUnknown) {
				t.Errorf("%v", err)
			}
			if strings.Contains(err.Error(), "S3cret") || strings.Contains(err.Error(), testenv.DefaultPassword) {
				t.Errorf("the error shows the password: %v", err)
			}
		})
	}
}

// Time that runs out has another code at each step.
func TestTimeoutsByStep(t *testing.T) {
	const short = 100 * time.Millisecond
	for _, tc := range []struct {
		name string
		step testenv.Step
		cfg  certsrv.Timeouts
		run  func(*certsrv.Client) error
		want fault.Code
		id   bool
	}{
		{"login", testenv.StepLogin, certsrv.Timeouts{Login: short}, func(c *certsrv.Client) error { return c.Login(t.Context()) }, fault.LoginTimeout, false},
		{"page", testenv.StepPage, certsrv.Timeouts{Page: short}, func(c *certsrv.Client) error { _, err := c.Templates(t.Context()); return err }, fault.PageTimeout, false},
		{"chain", testenv.StepChain, certsrv.Timeouts{Page: short}, func(c *certsrv.Client) error { _, err := c.CACerts(t.Context()); return err }, fault.ChainTimeout, false},
		{"submit", testenv.StepSubmit, certsrv.Timeouts{Submit: short}, func(c *certsrv.Client) error {
			_, err := c.Enroll(t.Context(), request(t, "SEP001122334455"))
			return err
		}, fault.EnrollTimeout, false},
		{"fetch", testenv.StepFetch, certsrv.Timeouts{Fetch: short}, func(c *certsrv.Client) error {
			_, err := c.Enroll(t.Context(), request(t, "SEP001122334455"))
			return err
		}, fault.FetchTimeout, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := testenv.New(t, testenv.Config{})
			cfg := config(s)
			cfg.Timeouts = tc.cfg
			c := newClient(t, cfg)
			s.Inject(testenv.Hang, testenv.On(tc.step), testenv.Times(testenv.Forever))
			err := tc.run(c)
			f := fault.Of(err)
			if f == nil || f.Code != tc.want || f.Code.Row().Curl != 28 || (f.ReqID != 0) != tc.id {
				t.Fatalf("%v", err)
			}
			ms, _, _ := strings.Cut(strings.TrimPrefix(f.CurlText(), "Operation timed out after "), " ")
			if n, err := strconv.Atoi(ms); err != nil || n < 100 || !strings.HasSuffix(f.CurlText(), "milliseconds with 0 bytes received") {
				t.Errorf("%q", f.CurlText())
			}
			var ph *winauth.PhaseError
			if !errors.As(err, &ph) || ph.Phase != winauth.PhaseFirstByte {
				t.Errorf("the phase is not named: %v", err)
			}
			if st := c.Stats(); st.Open != st.Idle {
				t.Errorf("%+v", st)
			}
		})
	}
}

// A login that breaks off after the credentials were sent may have counted as a
// wrong one; before that, and after it was let in, it has not.
func TestUnjudgedLogins(t *testing.T) {
	guess := ra.Credentials{Username: `LAB\somebody`, Password: "guess"}
	for _, tc := range []struct {
		name     string
		cfg      func(*certsrv.Config)
		unjudged bool
		fault    testenv.Fault
		step     testenv.Step
		c        ra.Credentials
	}{
		{name: "the answer to the credentials is lost", fault: testenv.Hang, step: testenv.StepLogin, c: ra.Credentials{Username: `LAB\phone`, Password: "right"}, unjudged: true},
		{name: "the challenge is not one", fault: testenv.BadChallenge, step: testenv.StepHandshake, c: guess},
		{name: "the list of templates does not come", fault: testenv.Hang, step: testenv.StepPage, c: ra.Credentials{Username: `LAB\phone`, Password: "right"}},
		{name: "there is no connection", c: guess, cfg: func(c *certsrv.Config) {
			c.Reconnect = -1
			c.DialContext = func(context.Context, string, string) (net.Conn, error) {
				return nil, &net.OpError{Op: "dial", Err: syscall.ECONNREFUSED}
			}
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			domain, name, _ := strings.Cut(testenv.DefaultUser, `\`)
			s := testenv.New(t, testenv.Config{Accounts: []testenv.Account{
				{Domain: domain, Name: name, Password: testenv.DefaultPassword}, {Name: "phone", Password: "right"},
			}})
			cfg := config(s)
			cfg.Timeouts = certsrv.Timeouts{Login: 100 * time.Millisecond, Page: 100 * time.Millisecond}
			if tc.cfg != nil {
				tc.cfg(&cfg)
			} else {
				s.Inject(tc.fault, testenv.On(tc.step), testenv.Times(testenv.Forever))
			}
			err := newClient(t, cfg).Authenticate(t.Context(), tc.c)
			if f := fault.Of(err); f == nil || errors.Is(err, fault.BadCredentials) || f.Unjudged != tc.unjudged {
				t.Errorf("%+v", f)
			}
		})
	}
}

func TestTemplates(t *testing.T) {
	s := testenv.New(t, testenv.Config{Templates: []testenv.Template{
		{Name: "CiscoRA", DisplayName: "Cisco RA & phones"}, {Name: "User", DisplayName: "User"},
	}})
	cfg := config(s)
	cfg.StrictTemplate = true
	own := ra.Credentials{Username: cfg.Username, Password: cfg.Password}
	for template, text := range map[string]string{
		"CiscoRA": "", "ciscora": "", "Cisco RA & phones": `is the display name of the template "CiscoRA"`, "Nobody": "is not among CiscoRA, User",
	} {
		cfg.Template = template
		err := newClient(t, cfg).Authenticate(t.Context(), own)
		if text == "" && err != nil || text != "" && (!errors.Is(err, fault.Template) || !strings.Contains(err.Error(), text)) {
			t.Errorf("%s: %v", template, err)
		}
	}
	cfg.StrictTemplate = false
	core, logs := observer.New(zap.WarnLevel)
	cfg.Logger = zap.New(core)
	c := newClient(t, cfg)
	s.Inject(testenv.NoTemplates, testenv.Times(2))
	if err := c.Authenticate(t.Context(), own); err != nil || logs.Len() != 1 {
		t.Errorf("%v, %d warnings", err, logs.Len())
	}
	if l, err := c.Templates(t.Context()); err != nil || len(l) != 0 {
		t.Errorf("%v %v", l, err)
	}
	l, err := c.Templates(t.Context())
	if err != nil || len(l) != 2 || l[0].Name != "CiscoRA" || l[0].DisplayName != "Cisco RA & phones" {
		t.Errorf("%+v %v", l, err)
	}
	for _, f := range []testenv.Fault{testenv.CAStopped, testenv.Status500, testenv.UnknownPage, testenv.Endless, testenv.Truncated} {
		want := map[string]fault.Code{"ca-stopped": fault.CAStopped, "status-500": fault.ServerError, "unknown-page": fault.PageUnreadable, "endless": fault.BodyTooLarge, "truncated": fault.ConnectionLost}[f.Name]
		s.Inject(f, testenv.On(testenv.StepPage))
		if _, err := c.Templates(t.Context()); !errors.Is(err, want) {
			t.Errorf("%v: %v", f, err)
		}
	}

	alone := testenv.New(t, testenv.Config{Standalone: true})
	cfg = config(alone)
	cfg.StrictTemplate, cfg.Template = true, ""
	if err := newClient(t, cfg).Authenticate(t.Context(), own); err != nil {
		t.Errorf("a stand-alone CA: %v", err)
	}
}

func TestChain(t *testing.T) {
	for renewals := range testenv.MaxRenewals + 1 {
		s := testenv.New(t, testenv.Config{Renewals: renewals})
		c := newClient(t, config(s))
		chain, err := c.CACerts(t.Context())
		if err != nil || len(chain) != 2 || !chain[0].Equal(s.PKI.Current()) || !chain[1].Equal(s.Root) {
			t.Errorf("%d renewals: %v %v", renewals, chain, err)
		}
	}
	s := testenv.New(t, testenv.Config{})
	c := newClient(t, config(s))
	// The first request of the two finds the newest certificate.
	for _, f := range []testenv.Fault{testenv.CAStopped, testenv.RPCDown} {
		s.Inject(f, testenv.On(testenv.StepChain))
		if _, err := c.CACerts(t.Context()); !errors.Is(err, fault.CAStopped) {
			t.Errorf("%v: %v", f, err)
		}
	}
	s.Inject(testenv.UnknownPage, testenv.On(testenv.StepChain))
	if _, err := c.CACerts(t.Context()); !errors.Is(err, fault.PageUnreadable) {
		t.Errorf("another page: %v", err)
	}
	for _, tc := range []struct {
		inject testenv.Fault
		want   fault.Code
	}{
		{testenv.BadChain, fault.ChainUnreadable},
		{testenv.ChainNoRoot, fault.ChainUnreadable},
		{testenv.HTMLCertificate, fault.ChainUnreadable},
		{testenv.RPCDown, fault.RPCUnavailable},
		{testenv.Endless, fault.BodyTooLarge},
	} {
		s.Inject(testenv.Slow.For(time.Millisecond), testenv.On(testenv.StepChain))
		s.Inject(tc.inject, testenv.On(testenv.StepChain))
		if _, err := c.CACerts(t.Context()); !errors.Is(err, tc.want) {
			t.Errorf("%v: %v", tc.inject, err)
		}
		s.ClearFaults()
	}
}

// Certificates of other signatures bind as well as the usual one.
func TestBindingByHash(t *testing.T) {
	pki := testenv.New(t, testenv.Config{}).PKI
	for _, h := range []crypto.Hash{crypto.SHA256, crypto.SHA384, crypto.SHA512} {
		cert, err := pki.ServerCertificate(testenv.ServerOptions{Hash: h})
		if err != nil {
			t.Fatal(err)
		}
		s := testenv.New(t, testenv.Config{PKI: pki, Certificate: &cert, EPA: testenv.EPARequire})
		if err := newClient(t, config(s)).Login(t.Context()); err != nil {
			t.Errorf("%v: %v", h, err)
		}
	}
}

// Client by server: EPA mode, binding, MIC and scheme.
func TestExtendedProtectionTable(t *testing.T) {
	pki := testenv.New(t, testenv.Config{}).PKI
	other, err := pki.ServerCertificate(testenv.ServerOptions{})
	if err != nil {
		t.Fatal(err)
	}
	schemes := [][]testenv.Scheme{{testenv.SchemeNegotiate, testenv.SchemeNTLM}, {testenv.SchemeNTLM}, {testenv.SchemeNegotiate}}
	for _, mode := range []testenv.EPA{testenv.EPAOff, testenv.EPAAccept, testenv.EPARequire} {
		for _, scheme := range schemes {
			for _, wantMIC := range []bool{false, true} {
				s := testenv.New(t, testenv.Config{PKI: pki, EPA: mode, Schemes: scheme, RequireMIC: wantMIC})
				for _, binding := range []string{"auto", "off", "wrong"} {
					for _, noMIC := range []bool{false, true} {
						cfg := config(s)
						cfg.EPA.NoMIC = noMIC
						switch binding {
						case "off":
							cfg.EPA.Binding = winauth.BindOff
						case "wrong":
							cfg.EPA.Binding, cfg.EPA.Certificate = winauth.BindCertificate, other.Leaf
						}
						good := (!wantMIC || !noMIC) && (mode == testenv.EPAOff || binding == "auto" || binding == "off" && mode == testenv.EPAAccept)
						err := newClient(t, cfg).Login(t.Context())
						if good && err != nil || !good && !errors.Is(err, fault.BadCredentials) {
							t.Errorf("server: EPA %s, MIC required %v, %v; client: binding %s, MIC %v: %v", mode, wantMIC, scheme, binding, !noMIC, err)
						}
					}
				}
			}
		}
	}
}

func TestNewRefusesBadSettings(t *testing.T) {
	for text, change := range map[string]func(*certsrv.Config){
		"https://host":      func(c *certsrv.Config) { c.URL = "http://ca/certsrv" },
		"without credent":   func(c *certsrv.Config) { c.URL = "https://a:hunter2@ca/certsrv" },
		"no user name":      func(c *certsrv.Config) { c.Username = "" },
		"timeout of -1s":    func(c *certsrv.Config) { c.Timeouts.Fetch = -time.Second },
		"control character": func(c *certsrv.Config) { c.Template = "a\r\nSAN:dns=x" },
		"sessions":          func(c *certsrv.Config) { c.Sessions = -1 },
	} {
		cfg := certsrv.Config{URL: "https://ca.example.com/certsrv", Username: "u", Password: "p"}
		change(&cfg)
		if _, err := certsrv.New(cfg); err == nil || !strings.Contains(err.Error(), text) || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: %v", text, err)
		}
	}
}

// The CA is renewed under a client that runs: what it kept of the start is not
// what the CA has now, and requests go on across it.
func TestRenewalWhileRunning(t *testing.T) {
	s := testenv.New(t, testenv.Config{})
	c := newClient(t, config(s))
	r := request(t, "SEP001122334455")
	enrol := func(pki *testenv.PKI) {
		t.Helper()
		chain, err := c.CACerts(t.Context())
		if err != nil || len(chain) != 2 || !chain[0].Equal(pki.Current()) || !chain[1].Equal(s.Root) {
			t.Fatalf("%d certificates: %v %v", len(pki.Issuing), chain, err)
		}
		res, err := c.Enroll(t.Context(), r)
		if err != nil {
			t.Fatal(err)
		}
		if err := res.Certificate.CheckSignatureFrom(chain[0]); err != nil {
			t.Errorf("%d certificates: %v", len(pki.Issuing), err)
		}
	}
	newest := s.PKI
	enrol(newest)
	pending, err := c.Enroll(t.Context(), ra.Request{Operation: ra.Enroll, CSR: r.CSR, Template: "CiscoRAManual"})
	if err != nil || pending.State != ra.Pending {
		t.Fatal(pending, err)
	}
	for range testenv.MaxRenewals {
		if newest, err = s.RenewCA(); err != nil {
			t.Fatal(err)
		}
		enrol(newest)
	}
	// What was submitted to the first is issued by the last.
	if err := s.Approve(pending.ReqID); err != nil {
		t.Fatal(err)
	}
	res, err := c.Fetch(t.Context(), pending.ReqID, r.CSR)
	if err != nil || res.State != ra.Issued {
		t.Fatal(res, err)
	}
	if err := res.Certificate.CheckSignatureFrom(newest.Current()); err != nil {
		t.Error(err)
	}
}
