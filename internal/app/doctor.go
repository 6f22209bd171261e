package app

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"net/url"
	"strings"
	"time"

	"github.com/onlineca/onlineca/certsrv"
	"github.com/onlineca/onlineca/certsrv/winauth"
)

// DoctorOptions is what `onlineca doctor` was told. Config is required.
type DoctorOptions struct {
	// Config is the settings file.
	Config string
	// URL is which of several certsrv hosts to test, one of certsrv.urls. Empty
	// means the first.
	URL string
	// Enroll has one throw-away certificate issued.
	Enroll bool
	// Observe is called with each step when it is done. It may be nil.
	Observe func(DoctorStep)

	// Lookup resolves a name to addresses, nil for the system's resolver.
	Lookup func(ctx context.Context, host string) ([]string, error)
	// Dial opens TCP connections, nil for a net.Dialer.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
}

// Doctor walks the road from the settings to a certificate, as the
// registration authority does at its start and with its first request, one
// step after the other. It stops at nothing that it can still test, and sends
// no credentials to a server whose certificate is not good.
//
// It causes at most two failed logons, whatever it finds, and says how many.
// Each wait of it is bounded by the timeouts of the settings. When ctx ends,
// the steps that are left are skipped.
func Doctor(ctx context.Context, o DoctorOptions) DoctorReport {
	c := &checkup{o: o, settings: DefaultSettings(), report: DoctorReport{
		Schema: DoctorSchema, Config: o.Config, At: time.Now().UTC(), Enroll: o.Enroll, Steps: []DoctorStep{},
	}}
	if c.o.Lookup == nil {
		c.o.Lookup = net.DefaultResolver.LookupHost
	}
	if c.o.Dial == nil {
		c.o.Dial = (&net.Dialer{}).DialContext
	}
	defer c.close()
	for _, s := range doctorSteps {
		c.perform(ctx, s)
	}
	c.report.FailedLogons = c.failedLogons()
	c.report.Interrupted = ctx.Err() != nil
	c.report.OK = !c.report.Interrupted && c.report.count(DoctorFail) == 0
	return c.report
}

// The steps, by their names.
const (
	stepSettings  = "settings"
	stepName      = "name"
	stepTCP       = "tcp"
	stepTLS       = "tls"
	stepChain     = "server-chain"
	stepHostName  = "host-name"
	stepClock     = "clock"
	stepSchemes   = "schemes"
	stepLogin     = "login"
	stepBinding   = "channel-binding"
	stepLanguage  = "page-language"
	stepTemplate  = "template"
	stepCAChain   = "ca-chain"
	stepEnrolment = "enrolment"
	stepKeyUsage  = "key-usage"
)

// doctorStep is one step and what it needs: where one of those has failed or
// was skipped, the step is skipped.
type doctorStep struct {
	name  string
	needs []string
	run   func(*checkup, context.Context, *DoctorStep)
}

// doctorSteps is the road, in its order.
var doctorSteps = []doctorStep{
	{stepSettings, nil, (*checkup).checkSettings},
	{stepName, nil, (*checkup).checkName},
	{stepTCP, []string{stepName}, (*checkup).checkTCP},
	{stepTLS, []string{stepTCP}, (*checkup).checkTLS},
	{stepChain, nil, (*checkup).checkServerChain},
	{stepHostName, nil, (*checkup).checkHostName},
	{stepClock, nil, (*checkup).checkClock},
	{stepSchemes, nil, (*checkup).checkSchemes},
	{stepLogin, []string{stepTLS, stepSchemes}, (*checkup).checkLogin},
	{stepBinding, nil, (*checkup).checkBinding},
	{stepLanguage, nil, (*checkup).checkLanguage},
	{stepTemplate, nil, (*checkup).checkTemplate},
	{stepCAChain, nil, (*checkup).checkCAChain},
	{stepEnrolment, nil, (*checkup).checkEnrolment},
	{stepKeyUsage, nil, (*checkup).checkKeyUsage},
}

// checkup is what has been found out so far.
type checkup struct {
	o        DoctorOptions
	report   DoctorReport
	settings Settings
	files    parts
	url      *url.URL // of certsrv, nil if the settings name none
	base     string   // without a slash at its end
	host     string   // without port
	addrs    []string // with port
	trust    bool     // the trusted certificates could be read
	secrets  bool     // every file that a login needs could be read

	conn  net.Conn // through TLS, for what needs no login
	state tls.ConnectionState
	certs []*x509.Certificate
	first *greeting // the answer to a request without a login

	clients  []*certsrv.Client
	pools    []*winauth.Pool
	client   *certsrv.Client // logged in; nil if nobody is
	config   certsrv.Config  // of client
	binding  string          // what is known of channel bindings without a probe
	caChain  []*x509.Certificate
	enrolled *x509.Certificate
}

// perform runs one step and reports it.
func (c *checkup) perform(ctx context.Context, s doctorStep) {
	st := DoctorStep{Step: s.name, Status: DoctorOK, Notes: []string{}, Problems: []DoctorProblem{}}
	start := time.Now()
	switch why := c.unmet(s.needs); {
	case ctx.Err() != nil:
		st.skip("because of the interruption")
	case why != "":
		st.skip("%s", why)
	default:
		s.run(c, ctx, &st)
	}
	if !st.timed {
		st.took = time.Since(start)
	}
	if ctx.Err() != nil && st.Status == DoctorFail {
		// What failed because somebody pressed Ctrl-C has not failed.
		st.Problems = []DoctorProblem{}
		st.skip("because of the interruption")
	}
	st.Milliseconds = float64(st.took.Microseconds()) / 1000
	st.clean()
	c.report.Steps = append(c.report.Steps, st)
	if c.o.Observe != nil {
		c.o.Observe(st)
	}
}

// unmet says why a step that needs others cannot be taken, "" if it can.
func (c *checkup) unmet(needs []string) string {
	for _, n := range needs {
		for i := range c.report.Steps {
			s := &c.report.Steps[i]
			if s.Step != n {
				continue
			}
			switch s.Status {
			case DoctorFail:
				return fmt.Sprintf("because %s failed", n)
			case DoctorSkip:
				return fmt.Sprintf("because %s was skipped", n)
			default:
			}
		}
	}
	return ""
}

// status is the status of a step that is done.
func (c *checkup) status(name string) DoctorStatus {
	for i := range c.report.Steps {
		if c.report.Steps[i].Step == name {
			return c.report.Steps[i].Status
		}
	}
	return DoctorSkip
}

// within is the time for one exchange that no client bounds by itself.
func (c *checkup) within(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, c.settings.Certsrv.Timeouts.Login)
}

// failedLogons counts the logins that certsrv refused.
func (c *checkup) failedLogons() int {
	n := int64(0)
	for _, client := range c.clients {
		n += client.Stats().Rejected
	}
	for _, p := range c.pools {
		n += p.Stats().Rejected
	}
	return int(n)
}

// mostFailedLogons is how often an account may be refused before no login is
// tried any more. Domains lock accounts after three failures or more.
const mostFailedLogons = 2

func (c *checkup) close() {
	if c.conn != nil {
		_ = c.conn.Close()
	}
	for _, client := range c.clients {
		client.Close()
	}
	for _, p := range c.pools {
		p.Close()
	}
}

// setURL takes the address of certsrv apart, as the client does.
func (c *checkup) setURL() {
	u, err := url.Parse(c.settings.Certsrv.URL)
	if err != nil || u.Scheme != "https" || u.Hostname() == "" || u.User != nil {
		return
	}
	path := strings.TrimRight(u.Path, "/")
	if path == "" {
		path = "/certsrv"
	}
	c.url, c.host = u, u.Hostname()
	c.base = "https://" + u.Host + path
}

func (c *checkup) port() string {
	if p := c.url.Port(); p != "" {
		return p
	}
	return "443"
}
