package diagnose

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/onlineca/onlineca/ra/event"
	"github.com/onlineca/onlineca/ra/fault"
)

// moment is one point of a timeline before its line has been fetched.
type moment struct {
	at   int64 // UTC
	log  fault.Log
	ref  ref
	what string
	bad  bool
}

// timeline gathers what the logs have of an enrolment, in the order of time.
func (a *analysis) timeline(e *enrolment) []moment {
	var all []moment
	if e.session != nil {
		all = append(all, e.session.moments()...)
	}
	if e.request != nil {
		all = append(all, e.request.moments()...)
	}
	for _, x := range e.web {
		all = append(all, moment{
			at: x.clock.utc(x.end.at), log: x.clock.log, ref: x.end.ref,
			what: fmt.Sprintf("%s answered %d.%d after %s", webName[x.web], x.status, x.sub, ms(int64(x.took))),
			bad:  x.status >= 400 && x.win32 != winNoCredentials,
		})
	}
	if e.own != nil {
		all = append(all, e.own.moments()...)
	}
	// IIS and error.log count in seconds: within one, the lines have the order.
	slices.SortStableFunc(all, func(x, y moment) int {
		return cmp.Or(cmp.Compare(x.at, y.at), cmp.Compare(x.log, y.log), cmp.Compare(x.ref.file, y.ref.file), cmp.Compare(x.ref.line, y.ref.line))
	})
	return all
}

// webName says which request to certsrv one was.
var webName = map[web]string{
	webOther: "another page of certsrv", webLogin: "GET /certsrv (login)", webPage: "GET certrqxt.asp (templates)",
	webSubmit: "POST certfnsh.asp (the request)", webFetch: "GET certnew.cer (the certificate)", webChain: "GET of the CA chain",
}

func (s *session) moments() []moment {
	var all []moment
	add := func(p point, bad bool, format string, args ...any) {
		if p.set() {
			all = append(all, moment{at: s.clock.utc(p.at), log: s.clock.log, ref: p.ref, what: fmt.Sprintf(format, args...), bad: bad})
		}
	}
	if !s.called.set() {
		add(s.begin, false, "session begins")
	}
	add(s.called, false, "CAPF calls the registration authority")
	if s.answered.set() {
		what := fmt.Sprintf("CAPF gets %d bytes of PKCS#7", s.pkcs7)
		if s.rv > 0 {
			what = fmt.Sprintf("CAPF gives up: %d (%s)", s.rv, fault.ESTName(s.rv))
		}
		add(s.answered, s.rv > 0, "%s", what)
	}
	for _, m := range s.marks {
		add(m.point, true, "CAPF names a fault")
	}
	if s.status != nil {
		add(s.statusAt, s.statusFailed(), "device status: %s", printable([]byte(s.status.Text)))
	}
	return all
}

func (q *request) moments() []moment {
	var all []moment
	add := func(p point, bad bool, what string) {
		if p.set() {
			all = append(all, moment{at: q.atOf(p), log: q.clock.log, ref: p.ref, what: what, bad: bad})
		}
	}
	add(q.login, false, "login to certsrv succeeded")
	add(q.page, false, "certrqxt.asp loaded")
	add(q.chain, false, "CA chain loaded")
	for _, f := range q.failures {
		add(f.point, true, failureText(f))
	}
	for _, n := range q.notes {
		add(n.point, true, "names a fault")
	}
	add(q.authFailed, true, "the EST client is refused")
	if q.rc != 0 {
		add(q.rcAt, true, "EST request failed: "+fault.ESTName(q.rc))
	}
	what := fmt.Sprintf("EST client answered %d", q.status)
	if q.status == -1 {
		what = "EST client answered with the certificate"
	}
	add(q.statusAt, q.status >= 400, what)
	return all
}

// stepName says which exchange with certsrv one was.
var stepName = map[event.UpstreamStep]string{
	event.StepLogin: "login to certsrv", event.StepPage: "certrqxt.asp", event.StepChain: "CA chain",
	event.StepSubmit: "submission", event.StepFetch: "fetching the certificate",
}

func failureText(f failure) string {
	if f.curl != 0 {
		return fmt.Sprintf("%s failed: curl %d", stepName[f.step], f.curl)
	}
	return stepName[f.step] + " failed"
}

func (o *own) moments() []moment {
	var all []moment
	add := func(p point, bad bool, what string) {
		all = append(all, moment{at: p.at, log: o.clock.log, ref: p.ref, what: what, bad: bad})
	}
	for _, s := range o.steps {
		add(s.point, false, fmt.Sprintf("%s done after %s", stepName[s.step], ms(s.took.Milliseconds())))
	}
	for _, f := range o.failures {
		add(f.point, true, failureText(f))
	}
	for _, m := range o.marks {
		add(m.point, true, "names a fault: "+joinCodes(m.codes))
	}
	if o.done {
		add(o.end, o.status >= 400, fmt.Sprintf("registration authority answers %d after %s", o.status, ms(o.took.Milliseconds())))
	}
	return all
}

// exchanges say where the time of an enrolment went: our own log counts in
// nanoseconds, IIS in milliseconds.
func (e *enrolment) exchanges() []Exchange {
	var all []Exchange
	if e.own != nil {
		for _, s := range e.own.steps {
			all = append(all, Exchange{What: stepName[s.step], Duration: s.took.Milliseconds()})
		}
	}
	if len(all) > 0 {
		return all
	}
	for _, x := range e.web {
		all = append(all, Exchange{What: webName[x.web], Duration: int64(x.took), Status: int(x.status)})
	}
	return all
}

// builder turns the analysis into the report's own types.
type builder struct {
	a *analysis
	w *walker
}

func (b *builder) enrolment(e *enrolment) Enrolment {
	out := Enrolment{
		Device: printable([]byte(e.device)), Duration: e.to - e.from, Outcome: e.outcome, Slow: b.a.slow(e), Several: e.several,
		Exchanges: e.exchanges(), Finding: b.finding(e.verdict), Timeline: []Moment{},
	}
	if s := e.session; s != nil {
		out.Session, out.ID = s.number, s.id
	}
	if o := e.own; o != nil {
		out.ID, out.ReqID = o.id, o.reqID
	}
	if x := e.first(webFetch); x != nil && out.ReqID == 0 {
		out.ReqID = int(x.reqID)
	}
	at := time.UnixMilli(e.from).UTC()
	if e.dated() {
		out.Start = &at
	} else {
		out.Clock = at.Format("15:04:05.000")
	}
	for _, m := range b.a.timeline(e) {
		out.Timeline = append(out.Timeline, Moment{
			Offset: m.at - e.from, Log: string(m.log), File: b.file(m.ref), Line: int(m.ref.line),
			What: m.what, Text: b.w.texts[m.ref], Bad: m.bad,
		})
	}
	return out
}

func (b *builder) file(r ref) string {
	if r.line == 0 {
		return ""
	}
	return b.w.order[r.file]
}

func (b *builder) finding(v *verdict) *Finding {
	if v == nil {
		return nil
	}
	f := &Finding{Codes: names(v.codes), Confidence: v.sure, Note: v.note, Evidence: []Evidence{}}
	f.Symptom, f.Cause, f.Fix, f.Bug = describe(v.codes)
	for _, x := range v.evidence {
		f.Evidence = append(f.Evidence, b.evidence(x)...)
	}
	for _, log := range v.missing {
		f.Missing = append(f.Missing, string(log))
	}
	return f
}

// evidence shows the lines of one piece of evidence.
func (b *builder) evidence(x evid) []Evidence {
	if x.words != "" {
		return []Evidence{{Log: string(x.log), Text: x.words}}
	}
	var all []Evidence
	v := verdict{evidence: []evid{x}}
	v.refs(func(r ref) {
		text, ok := b.w.texts[r]
		if !ok || len(all) > 0 && dialectOf([]byte(text)) == other {
			return
		}
		ev := Evidence{Log: string(x.log), File: b.file(r), Line: int(r.line), Text: text}
		if at := time.UnixMilli(x.at).UTC(); x.at > yearOne+(400*24*time.Hour).Milliseconds() && x.at != 0 {
			ev.Time = &at
		}
		all = append(all, ev)
	})
	return all
}

func (b *builder) start(s *starting) Start {
	out := Start{OK: s.verdict == nil && s.ok, Finding: b.finding(s.verdict), Logs: []string{}}
	for _, p := range s.parts {
		out.Logs = append(out.Logs, string(p.log))
		out.PID = cmp.Or(out.PID, p.pid)
		if out.File == "" {
			out.File, out.Line = b.file(p.first.ref), int(p.first.ref.line)
		}
	}
	if s.at != 0 {
		at := time.UnixMilli(s.at).UTC()
		out.Time = &at
	}
	return out
}
