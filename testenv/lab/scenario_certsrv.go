package lab

import (
	"crypto/x509"
	"io"
	"net"
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/onlineca/onlineca/capf"
	"github.com/onlineca/onlineca/internal/app"
	"github.com/onlineca/onlineca/ra/event"
	"github.com/onlineca/onlineca/ra/fault"
	"github.com/onlineca/onlineca/testenv"
)

// loginScenarios are the failures of the login to certsrv.
var loginScenarios = map[fault.Code]scenario{
	fault.LoginTimeout: {
		done: "IIS accepts connections and TLS, and never answers the login to /certsrv.",
		note: noRA, waits: 2,
		set: func(s *stage) {
			s.startFails()
			s.loginTimeout()
			s.atStart = []string{"hang@handshake*forever"}
		},
	},
	fault.BadCredentials: {
		done: "The password that CAPF gives its EST client is not that of the account. The registration authority itself has the right one, and has started.",
		note: "The registration authority logs in to certsrv with what the EST client shows, and is refused there: what looks like an EST failure is a refused Windows login. Its log has no successful login_to_certsrv_ca for this request, which tells it from a template that is not offered.",
		set:  func(s *stage) { s.onEST(wrongPassword) },
	},
	fault.LoginSuspended: {
		done: "The password that CAPF gives its EST client is wrong, and a second phone comes a moment after the first.",
		note: "The first phone's failure is bad-credentials. The second one is not tried at IIS at all, so that the account is not locked: IIS logs nothing of it.",
		set: func(s *stage) {
			s.inTurn = true
			s.onEST(wrongPassword)
		},
		phones: 2, before: []fault.Code{fault.BadCredentials},
	},
	fault.NTLMDisabled: {
		done: "Windows authentication on /certsrv has one provider left, Negotiate:Kerberos.",
		note: noRA, waits: 1,
		set: func(s *stage) {
			s.startFails()
			s.onCertsrv(func(c *testenv.Config) { c.Schemes = []testenv.Scheme{testenv.SchemeKerberos} })
		},
	},
	fault.NotChallenged: {
		done: "Windows authentication is switched off for the certsrv application, and Anonymous access on: nobody is asked for a login.",
		note: noRA, waits: 1,
		set: func(s *stage) {
			s.startFails()
			s.onSettings(func(c *app.Settings) { c.Certsrv.URL = s.anonymousIIS() })
		},
	},
	fault.EPARequired: {
		done:  "Extended Protection is Required on certsrv, and the registration authority logs in without a channel binding, as the product does.",
		note:  noRA + " The client sees the same 401 as for a wrong password. IIS tells the two apart (2148074310, SEC_E_BAD_BINDINGS), and so does a second login with a channel binding, which this program tries if certsrv.extended_protection.probe is set, as it is here: the second pair of lines in the log of IIS is its own, and not the product's; without it, it names bad-credentials.",
		waits: 1,
		set: func(s *stage) {
			s.startFails()
			s.onCertsrv(func(c *testenv.Config) { c.EPA = testenv.EPARequire })
			s.onSettings(func(c *app.Settings) {
				c.Certsrv.ExtendedProtection = app.EPASettings{ChannelBinding: "off", Probe: true}
			})
		},
	},
	fault.WrongHost: {
		done: "certrqxt.asp redirects to another host, as a portal in front of certsrv does.",
		set:  func(s *stage) { s.running = []string{"elsewhere@page*forever"} },
	},
}

// anonymousIIS starts a web server that serves everybody /certsrv/ and pays no
// attention to logins, writes the log of IIS, and lives as long as the run. It
// returns the address of its certsrv.
func (s *stage) anonymousIIS() string {
	cert, err := s.pki.ServerCertificate(testenv.ServerOptions{})
	if err != nil {
		s.err = err
		return ""
	}
	l, err := (&net.ListenConfig{}).Listen(s.ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		s.err = err
		return ""
	}
	n, _ := strconv.Atoi(port(l.Addr()))
	serve := serveHTTP(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		_, _ = io.WriteString(w, "<html><body>Microsoft Active Directory Certificate Services</body></html>\r\n")
		event.Emit(s.ctx, s.log, event.WebRequest{
			Time: time.Now(), ServerIP: "127.0.0.1", Method: r.Method, Stem: r.URL.Path, Query: r.URL.RawQuery, Port: n,
			ClientIP: "127.0.0.1", UserAgent: r.UserAgent(), Status: http.StatusOK,
		})
	})
	go func() { _ = serve(s.ctx, l, cert) }()
	return "https://localhost:" + port(l.Addr()) + "/certsrv"
}

func wrongPassword(c *capf.ESTConfig) { c.Password = "not-" + c.Password }

// pageScenarios are the failures of certsrv's pages, its chain and its
// templates.
var pageScenarios = map[fault.Code]scenario{
	fault.PageTimeout: {
		done: "certrqxt.asp, which looks up the templates in Active Directory, never answers.", waits: 1,
		set: func(s *stage) {
			s.impatient()
			s.onSettings(func(c *app.Settings) { c.Certsrv.Timeouts.Page = s.timeout })
			s.running = []string{"hang@page*forever"}
		},
	},
	fault.PageLanguage: {
		done: "Web Enrollment was installed in German, and the registration authority reads English pages only, as the product does.",
		note: "This program reads the pages in every language, by what is the same in all of them; here it is told to look for the English headings. The certificate is issued, and nobody fetches it.",
		set: func(s *stage) {
			s.onCertsrv(func(c *testenv.Config) { c.Language = testenv.German })
			s.onParts(func(p *app.Parts) { p.EnglishOnly = true })
		},
	},
	fault.PageUnreadable: {
		done: "certfnsh.asp answers with a page that has none of the marks of Web Enrollment.",
		set:  func(s *stage) { s.running = []string{"unknown-page@submit*forever"} },
	},
	fault.BodyTooLarge: {
		done: "certrqxt.asp answers with a body that never ends.",
		set:  func(s *stage) { s.running = []string{"endless@page*forever"} },
	},
	fault.ServerError: {
		done: "certrqxt.asp ends with an error of ASP: status 500.",
		set:  func(s *stage) { s.running = []string{"status-500@page*forever"} },
	},
	fault.ChainTimeout: {
		done: "The login succeeds, and certnew.p7b, the CA's chain, is never answered.",
		note: noRA, waits: 2,
		set: func(s *stage) {
			s.startFails()
			s.onSettings(func(c *app.Settings) { c.Certsrv.Timeouts.Page = s.timeout })
			s.atStart = s.atChain("hang")
		},
	},
	fault.ChainUnreadable: {
		done: "What certnew.p7b delivers as the CA's chain is no PKCS#7.",
		note: noRA, waits: 1,
		set: func(s *stage) {
			s.startFails()
			s.atStart = s.atChain("bad-chain")
		},
	},
	fault.Template: {
		done: "The Online CA Template is set to CicsoRA, which is a typo of CiscoRA.",
		note: "The login and certrqxt.asp are good: the template is looked for in the list on that page, is not there, and the EST client is told that its login failed (401). Nothing is submitted.",
		set:  func(s *stage) { s.onSettings(func(c *app.Settings) { setTemplate(c, "CicsoRA") }) },
	},
	fault.TemplateDenied: {
		done: "The account has no Enroll right on the template CiscoRA. The registration authority submits all the same (missing_template: warn), and the CA's policy denies the request.",
		set: func(s *stage) {
			s.onSettings(func(c *app.Settings) { c.Certsrv.MissingTemplate = "warn" })
			s.template(func(t *testenv.Template) { t.Enrol = []string{labDomain + `\somebody`} })
		},
	},
	fault.NoTemplate: {
		done: "No template is configured, and the CA is an enterprise CA.",
		set:  func(s *stage) { s.onSettings(func(c *app.Settings) { setTemplate(c, "") }) },
	},
}

// atChain has a fault happen to certnew.p7b, not to the page before it.
func (s *stage) atChain(fault string) []string {
	return []string{"slow:1ns@chain", fault + "@chain*forever"}
}

func setTemplate(c *app.Settings, name string) {
	c.Certsrv.Template, c.EST.Template = name, name
}

// template changes the template that the phones' certificates are issued by.
func (s *stage) template(f func(*testenv.Template)) {
	s.onCertsrv(func(c *testenv.Config) {
		c.Templates = slices.Clone(testenv.DefaultTemplates())
		for i := range c.Templates {
			if c.Templates[i].Name == labTemplate {
				f(&c.Templates[i])
			}
		}
	})
}

// requestScenarios are what the certificate authority says of a request.
var requestScenarios = map[fault.Code]scenario{
	fault.KeyTooShort: {
		done: "The template wants RSA keys of 4096 bits at least, and the phones make keys of 2048 bits.",
		set:  func(s *stage) { s.template(func(t *testenv.Template) { t.MinKeySize = 4096 }) },
	},
	fault.RequestRefused: {
		done: "The registration authority's policy allows keys on the curve P-384 only (est.policy.keys), and the phones make RSA keys.",
		set: func(s *stage) {
			s.onSettings(func(c *app.Settings) { c.EST.Policy.Keys = []string{"p384"} })
		},
	},
	fault.DeniedByPolicy: {
		done: "The CA's policy module denies every request: the template builds the subject from a DNS name that the account does not have (0x8009480f).",
		set:  func(s *stage) { s.running = []string{"deny:0x8009480f@submit*forever"} },
	},
	fault.DeniedByAdmin: {
		done:   "A CA manager denies the request (0x80094014).",
		note:   "In the lab the manager is quick: certfnsh.asp says that the request was denied, certnew.cer says by what. A real manager takes hours; the client is told to come back meanwhile.",
		set:    func(s *stage) { s.running = []string{"deny-terse:0x80094014@submit*forever"} },
		before: []fault.Code{fault.DeniedByPolicy},
	},
	fault.RevocationOffline: {
		done: "The CA cannot reach a revocation list that it needs, and denies the request (0x80092013).",
		set:  func(s *stage) { s.running = []string{"deny:0x80092013@submit*forever"} },
	},
	fault.Revoked: {
		done: "The certificate is revoked in the moment of its issue, before it is fetched.",
		set:  func(s *stage) { s.running = []string{"revoked@submit*forever"} },
	},
	fault.Pending: {
		done: "The template wants the approval of a CA manager.",
		note: "CAPF does not wait: it ends with EST_ERR_CA_ENROLL_RETRY, and the phone is told to come back.",
		set:  func(s *stage) { s.template(func(t *testenv.Template) { t.ManualApproval = true }) },
	},
	fault.CAStopped: {
		done: "Active Directory Certificate Services (CertSvc) is stopped. IIS runs, and its pages say that the service has not been started.",
		set:  func(s *stage) { s.running = []string{"ca-stopped@page*forever"} },
	},
	fault.RPCUnavailable: {
		done: "The pages of certsrv are there, but the web server's call to the certificate authority fails when the request is submitted (0x800706ba).",
		set:  func(s *stage) { s.running = []string{"rpc-down@submit*forever"} },
	},
	fault.CAAccessDenied: {
		done: "Web server and CA are two machines, and the web server may not pass the login on: the CA denies access to its call (0x80070005).",
		set:  func(s *stage) { s.running = []string{"access-denied@submit*forever"} },
	},
}

// answerScenarios are the failures after a request was submitted, and of the
// certificate that comes back.
var answerScenarios = map[fault.Code]scenario{
	fault.EnrollTimeout: {
		done: "certfnsh.asp issues the certificate, and is not done answering when the time is over.", waits: 1,
		set: func(s *stage) {
			s.impatient()
			s.onSettings(func(c *app.Settings) { c.Certsrv.Timeouts.Submit = s.timeout })
			s.running = []string{"slow-answer:" + (2 * s.timeout).String() + "@submit*forever"}
		},
	},
	fault.FetchTimeout: {
		done: "The certificate is issued, and certnew.cer, which delivers it, is not answered in time.", waits: 1,
		set: func(s *stage) {
			s.impatient()
			s.onSettings(func(c *app.Settings) { c.Certsrv.Timeouts.Fetch = s.timeout })
			s.running = []string{"slow:" + (2 * s.timeout).String() + "@fetch*forever"}
		},
	},
	fault.OutcomeUnknown: {
		done: "The CA issues the certificate, and the connection breaks before certfnsh.asp is answered.",
		set:  func(s *stage) { s.running = []string{"answer-lost@submit*forever"} },
	},
	fault.WrongKeyCertificate: {
		done: "certnew.cer delivers a certificate of the same CA that is for another key than the request's.",
		set:  func(s *stage) { s.running = []string{"other-key@fetch*forever"} },
	},
	fault.CertificateUnreadable: {
		done: "What certnew.cer delivers in the armour of a certificate is not one.",
		set:  func(s *stage) { s.running = []string{"bad-certificate@fetch*forever"} },
	},
	fault.LSCKeyUsage: {
		done: "The template issues certificates without the key usage keyEncipherment.",
		note: "The enrolment succeeds, in every log of the product. The phone fails later, when it registers in secure mode. Our own log says so at once.",
		set: func(s *stage) {
			s.template(func(t *testenv.Template) { t.KeyUsage = x509.KeyUsageDigitalSignature })
		},
		good: true,
	},
	fault.CACNCAPF: {
		done: "The issuing CA has the common name CAPF-LAB.",
		note: "The enrolment succeeds, in every log of the product. CUCM takes the issuer for itself. Our own log says so at once.",
		set: func(s *stage) {
			s.pki, s.err = testenv.NewPKI(testenv.PKIConfig{CAName: "CAPF-LAB"})
		},
		good: true,
	},
}
