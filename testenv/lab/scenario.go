package lab

import (
	"context"
	"fmt"
	"maps"
	"net"
	"slices"
	"time"

	"go.uber.org/zap"

	"github.com/onlineca/onlineca/capf"
	"github.com/onlineca/onlineca/capf/phone"
	"github.com/onlineca/onlineca/internal/app"
	"github.com/onlineca/onlineca/ra/fault"
	"github.com/onlineca/onlineca/testenv"
)

// The timeouts that a reproduction lets pass: short ones, and the product's.
const (
	shortTimeout   = time.Second
	productTimeout = 10 * time.Second
)

// scenario produces one row of the table of faults: it puts the fault into the
// place where it is in real life.
type scenario struct {
	// done says what is wrong, for the report: whole sentences.
	done string
	// note explains what would puzzle a reader of the logs; it may be empty.
	note string
	// waits is how many of the timeouts pass one after the other.
	waits int
	// set puts the fault into its place.
	set func(*stage)
	// before are codes that our own log rightly names before the row's.
	before []fault.Code
	// phones is how many phones it takes, if it takes more than one.
	phones int
	// good says that the phones get their certificates all the same.
	good bool
}

// scenarios has one entry for every row that can be produced, noScenario for
// every other the reason why it cannot.
var scenarios = collect(wayScenarios, loginScenarios, pageScenarios, requestScenarios, answerScenarios, estScenarios, capfScenarios)

func collect(groups ...map[fault.Code]scenario) map[fault.Code]scenario {
	all := map[fault.Code]scenario{}
	for _, g := range groups {
		maps.Copy(all, g)
	}
	return all
}

// ScenarioDoc describes what can be reproduced.
type ScenarioDoc struct {
	Code    fault.Code
	Symptom string
	// Takes is about how long a reproduction takes, Product how long with the
	// product's timeouts.
	Takes, Product time.Duration
	// What says what is wrong in the chain.
	What string
	// Reason says why there is no scenario; the fields but Code and Symptom
	// are empty then.
	Reason string
}

// Scenarios describes every row of the table of faults, in its order.
func Scenarios() []ScenarioDoc {
	var all []ScenarioDoc
	for _, c := range fault.Codes() {
		d := ScenarioDoc{Code: c, Symptom: c.Row().Symptom, Reason: noScenario[c]}
		if s, ok := scenarios[c]; ok {
			d.Takes = time.Second + time.Duration(s.waits)*shortTimeout
			d.Product = time.Second + time.Duration(s.waits)*productTimeout
			d.What = s.done
		}
		all = append(all, d)
	}
	return all
}

// stage is a chain that is being set up for one reproduction. What its methods
// are given is applied in that order when the chain starts.
type stage struct {
	// timeout is what the scenario lets pass where something never answers.
	timeout time.Duration
	// client is how long CAPF's EST client waits for an answer in such a
	// scenario.
	client time.Duration
	pki    *testenv.PKI
	log    *zap.Logger
	dir    string          // where the run leaves what it leaves
	ctx    context.Context //nolint:containedctx // The life of the run: what is opened for it is closed with it.

	certsrv  []func(*testenv.Config)
	settings []func(*app.Settings)
	parts    []func(*app.Parts)
	est      []func(*capf.ESTConfig)
	server   []func(*capf.ServerConfig)
	enroller []func(*capf.EnrollerConfig)
	device   []func(*capf.Device)
	phone    []func(c *phone.Config, contact int)

	// faults of the mock, in its text form: armed before the registration
	// authority starts, and when it runs.
	atStart, running []string
	// late says that the registration authority is at work on a request when
	// its client has given up.
	late bool
	// broken says that the registration authority is not to start.
	broken bool
	// inTurn has one phone enrol after the other. Otherwise all do at once.
	inTurn bool
	// contacts is how often each phone comes, 1 if 0.
	contacts int
	// front stands at the EST port in place of the registration authority.
	front front
	// request, if not nil, makes the request that CAPF is given in place of a
	// phone: for requests that no phone would sign.
	request func(device string) ([]byte, error)
	// host is the name that certsrv is called by, if not its own.
	host string
	err  error
}

func (s *stage) onCertsrv(f func(*testenv.Config)) { s.certsrv = append(s.certsrv, f) }
func (s *stage) onSettings(f func(*app.Settings))  { s.settings = append(s.settings, f) }
func (s *stage) onParts(f func(*app.Parts))        { s.parts = append(s.parts, f) }
func (s *stage) onEST(f func(*capf.ESTConfig))     { s.est = append(s.est, f) }

// startFails says that the registration authority cannot start: CAPF waits out
// its time at a port that never answers.
func (s *stage) startFails() {
	s.broken = true
	s.givesUp()
}

// impatient has CAPF's EST client give up while the registration authority
// waits for certsrv.
func (s *stage) impatient() {
	s.late = true
	s.givesUp()
}

// givesUp gives CAPF's EST client no more time than certsrv has. Its socket
// stays open when it gives up, as towards the product's registration authority,
// which sits in a call of libcurl and does not notice.
func (s *stage) givesUp() {
	s.onEST(func(c *capf.ESTConfig) {
		c.AnswerTimeout = s.client // the way to it may take as long as this machine needs
		c.Dial = func(ctx context.Context, network, addr string) (net.Conn, error) {
			conn, err := new(net.Dialer).DialContext(ctx, network, addr)
			if err != nil {
				return nil, err
			}
			context.AfterFunc(s.ctx, func() { _ = conn.Close() })
			return lingering{conn}, nil
		}
	})
}

// lingering is a connection that ends for this side alone: the far side is not
// told.
type lingering struct{ net.Conn }

// Close ends what reads and writes on this side.
func (c lingering) Close() error { return c.SetDeadline(time.Unix(1, 0)) }

// Write passes on all but the alert by which TLS says that it closes: two
// bytes, in TLS 1.3 hidden among the data with a type and a tag of 16 bytes
// (RFC 8446 section 5.2).
func (c lingering) Write(p []byte) (int, error) {
	const alert, data = 21, 23
	if len(p) > 0 && (p[0] == alert || p[0] == data && len(p) == 5+2+1+16) {
		return len(p), nil
	}
	return c.Conn.Write(p)
}

// serverCertificate gives IIS another certificate.
func (s *stage) serverCertificate(o testenv.ServerOptions) {
	cert, err := s.pki.ServerCertificate(o)
	if err != nil {
		s.err = err
		return
	}
	s.onCertsrv(func(c *testenv.Config) { c.Certificate = &cert })
}

// called has certsrv called by another name, which dial finds.
func (s *stage) called(host string, dial func(mock string) dialer) {
	s.host = host
	s.onSettings(func(c *app.Settings) {
		mock := hostPort(c.Certsrv.URL)
		c.Certsrv.URL = "https://" + net.JoinHostPort(host, portOf(mock)) + "/certsrv"
		s.onParts(func(p *app.Parts) { p.Dial = dial(mock) })
	})
}

type dialer = func(ctx context.Context, network, addr string) (net.Conn, error)

// dialTo connects to addr whatever is asked for: a hosts file.
func dialTo(addr string) dialer {
	return func(ctx context.Context, network, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, network, addr)
	}
}

// options are what the chain is started with.
func (s *stage) options() options {
	return options{
		certsrv: func(c *testenv.Config) {
			c.PKI = s.pki
			apply(&s.certsrv, c)
		},
		settings: func(c *app.Settings) {
			c.EST.Certificates = "lsc"
			apply(&s.settings, c)
		},
		parts: func(p *app.Parts) { apply(&s.parts, p) },
		est: func(c *capf.ESTConfig) {
			c.RetryWait = -1 // CAPF does not wait
			apply(&s.est, c)
		},
		ready:      func(c *testenv.Certsrv) error { return arm(c, s.atStart) },
		front:      s.front,
		keepFailed: s.broken,
	}
}

// apply lets each function change v. One of them may add further ones.
func apply[T any](list *[]func(*T), v *T) {
	for i := 0; i < len(*list); i++ {
		(*list)[i](v)
	}
}

// arm injects faults into the mock.
func arm(c *testenv.Certsrv, faults []string) error {
	for _, f := range faults {
		if err := c.InjectText(f); err != nil {
			return fmt.Errorf("lab: %w", err)
		}
	}
	return nil
}

// findScenario looks a scenario up by the name of its fault.
func findScenario(name string) (fault.Code, scenario, error) {
	c, ok := fault.Lookup(name)
	if !ok {
		return c, scenario{}, fmt.Errorf("lab: no failure is called %q; onlineca reproduce --list shows all", name)
	}
	s, ok := scenarios[c]
	if !ok {
		return c, s, fmt.Errorf("lab: %s cannot be reproduced: %s", name, noScenario[c])
	}
	return c, s, nil
}

// reproducible lists the codes that have a scenario, in the order of the table.
func reproducible() []fault.Code {
	return slices.DeleteFunc(fault.Codes(), func(c fault.Code) bool {
		_, ok := scenarios[c]
		return !ok
	})
}
