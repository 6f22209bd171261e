package testenv

import (
	"crypto/x509"
	"net/http"
	"slices"
	"strconv"
	"time"
)

// faultKind is a row of the table of faults.
type faultKind struct {
	name   string
	effect string
	// steps are where it can happen, the default first. StepAny among them
	// means everywhere.
	steps []Step
	// files says that it happens to certificates and PKCS#7 alone, and not to
	// the pages of the same step.
	files bool
	// duration and code are the defaults of the parameter that it takes.
	duration time.Duration
	code     HRESULT

	// before runs before the request is answered. An answer that it returns is
	// given instead of the application's.
	before func(*exchange, *armed) *answer
	// end breaks the connection of a request that before has answered with gone;
	// nil closes it.
	end func(*exchange, *armed)
	// after changes the application's answer.
	after func(*exchange, *armed, *answer)
	// deliver sends the answer in its own way.
	deliver func(http.ResponseWriter, *exchange, *armed, answer)
	// certificate and chain change what is sent in an answer's file.
	certificate func(*exchange, *x509.Certificate) ([]byte, error)
	chain       func(*exchange, []*x509.Certificate) ([]*x509.Certificate, error)
}

// FaultDoc describes one fault, for documentation.
type FaultDoc struct {
	// Name is the name by which it is injected.
	Name string `json:"name"`
	// Parameter is "duration", "code" or empty, Default what it is if not given.
	Parameter string `json:"parameter,omitempty"`
	Default   string `json:"default,omitempty"`
	// Steps are where it can happen, the default first; "any" stands for all.
	Steps []Step `json:"steps"`
	// Effect says what happens.
	Effect string `json:"effect"`
}

// Faults lists every fault there is: the one table that Inject, the command
// line, the control API and the documentation share.
func Faults() []FaultDoc {
	var out []FaultDoc
	for _, k := range faultKinds {
		d := FaultDoc{Name: k.name, Steps: k.steps, Effect: k.effect}
		switch {
		case k.duration != 0:
			d.Parameter, d.Default = "duration", k.duration.String()
		case k.code != 0:
			d.Parameter, d.Default = "code", "0x"+strconv.FormatUint(uint64(k.code), 16)
		}
		out = append(out, d)
	}
	return out
}

var (
	anyStep     = []Step{StepAny, StepHandshake}
	submitOnly  = []Step{StepSubmit}
	fetchOnly   = []Step{StepFetch}
	answersOnly = []Step{StepAny}
)

var faultKinds = slices.Concat(networkFaults, loginFaults, contentFaults, caFaults)

var networkFaults = []faultKind{
	{
		name: "slow", steps: anyStep, duration: 11 * time.Second,
		effect: "waits before anything is done; then all is well",
		before: func(x *exchange, a *armed) *answer {
			if !x.wait(a.Duration) {
				return gone()
			}
			return nil
		},
	},
	{
		name: "slow-answer", steps: anyStep, duration: 11 * time.Second,
		effect: "does what was asked, a submission included, and waits before it answers",
		after: func(x *exchange, a *armed, out *answer) {
			if !x.wait(a.Duration) {
				out.win32 = win32NetnameGone
			}
		},
	},
	{
		name: "hang", steps: anyStep,
		effect: "does nothing and never answers",
		before: func(x *exchange, _ *armed) *answer {
			<-x.r.Context().Done()
			return gone()
		},
	},
	{
		name: "close", steps: anyStep,
		effect: "closes the connection; nothing was done",
		before: func(*exchange, *armed) *answer { return gone() },
	},
	{
		name: "reset", steps: anyStep,
		effect: "resets the connection (RST); nothing was done",
		before: func(*exchange, *armed) *answer { return gone() },
		end:    func(x *exchange, _ *armed) { abort(x.conn.net) },
	},
	{
		name: "answer-lost", steps: append([]Step{StepSubmit}, anyStep...),
		effect:  "does what was asked, issues the certificate, and closes the connection without an answer",
		deliver: func(w http.ResponseWriter, x *exchange, _ *armed, _ answer) { x.abort(w) },
	},
	{
		name: "truncated", steps: answersOnly,
		effect:  "announces the whole body, sends half of it and closes the connection",
		deliver: truncated,
	},
	{
		name: "stalled", steps: answersOnly,
		effect:  "announces the whole body, sends half of it and nothing more",
		deliver: stalled,
	},
	{
		name: "endless", steps: answersOnly,
		effect:  "sends a body that never ends",
		deliver: endless,
	},
	{
		name: "garbage", steps: anyStep,
		effect:  "answers something that is not HTTP",
		deliver: garbage,
	},
	{
		name: "restart", steps: anyStep, duration: time.Millisecond,
		effect: "breaks all connections at once, as iisreset does, and turns new ones away for the given time",
		before: func(*exchange, *armed) *answer { return gone() },
		end:    func(x *exchange, a *armed) { x.s.Restart(a.Duration) },
	},
}

var loginFaults = []faultKind{
	{
		name: "session-lost", steps: answersOnly,
		effect: "forgets who is on the connection and answers 401, as after a recycled worker",
		before: func(x *exchange, _ *armed) *answer {
			x.conn.user, x.user, x.loggedIn = "", "", false
			a := x.s.plain(2, win32AccessDenied).answer()
			return &a
		},
	},
	{
		name: "bad-challenge", steps: []Step{StepHandshake},
		effect: "sends a challenge that is none",
		after: func(_ *exchange, _ *armed, a *answer) {
			a.header[authenticateHeader] = []string{"NTLM TlRMTVNTUAACAAAA"}
		},
	},
	{
		name: "lost-challenge", steps: []Step{StepHandshake},
		effect: "forgets the challenge it has sent, as when the legs of a login are split over two connections",
		after:  func(x *exchange, _ *armed, _ *answer) { x.conn.pending = nil },
	},
	{
		name: "clock-wrong", steps: anyStep, duration: 2 * time.Hour,
		effect: "shows a Date that is wrong by the given time",
		after: func(x *exchange, a *armed, out *answer) {
			out.header.Set("Date", x.s.conf.Clock().Add(a.Duration).UTC().Format(http.TimeFormat))
		},
	},
	{
		name: "status-500", steps: anyStep,
		effect: "answers 500; nothing was done",
		before: func(*exchange, *armed) *answer { a := serverError(); return &a },
	},
	{
		name: "status-503", steps: anyStep,
		effect: "answers 503, as http.sys does while the application pool is stopped",
		before: func(*exchange, *armed) *answer { a := unavailable(); return &a },
	},
	{
		name: "status-404", steps: answersOnly,
		effect: "answers 404, as where web enrolment is not installed",
		before: func(*exchange, *armed) *answer { a := notFound(); return &a },
	},
	{
		name: "elsewhere", steps: answersOnly,
		effect: "redirects to another host",
		before: func(x *exchange, _ *armed) *answer {
			a := x.s.redirectToSlash(x)
			a.status = http.StatusFound
			a.header.Set("Location", "https://elsewhere.example/certsrv/")
			return &a
		},
	},
}

// statusGone marks an answer that is never sent, because the connection is gone.
const statusGone = -1

func gone() *answer { return &answer{status: statusGone, win32: win32NetnameGone} }
