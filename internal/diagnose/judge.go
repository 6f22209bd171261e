package diagnose

import (
	"math"
	"slices"
	"strings"
	"time"

	"github.com/onlineca/onlineca/ra/fault"
)

// Confidence says how sure a finding is.
type Confidence string

// A finding is certain when a log names the fault, likely when everything that
// is there points to it, and unsure when what is there does not tell.
const (
	Certain Confidence = "certain"
	Likely  Confidence = "likely"
	Unsure  Confidence = "unsure"
)

// verdict is what a failure turned out to be.
type verdict struct {
	codes    []fault.Code
	sure     Confidence
	note     string
	evidence []evid
	missing  []fault.Log
}

// evid is a line, or the absence of one, that speaks for a verdict.
type evid struct {
	log   fault.Log
	at    int64 // UTC, 0 for none
	ref   ref
	to    ref
	words string // said instead of a line
}

// look notes what there is.
func (a *analysis) look() {
	a.present = map[fault.Log]bool{}
	for _, k := range a.all.clocks {
		a.present[k.log] = true
	}
	a.webFrom, a.webTo = math.MaxInt64, math.MinInt64
	a.all.each(func(fact any) {
		switch f := fact.(type) {
		case *session:
			a.hasTrace = a.hasTrace || f.clock.log == logCAPF
			a.hasSessions = a.hasSessions || f.matters()
		case *request:
			a.hasRequests = true
		case *own:
			a.hasOwn = true
		case *exchange:
			a.hasIIS = a.hasIIS || f.clock.log == logIIS
			at := f.clock.utc(f.end.at)
			a.webFrom, a.webTo = min(a.webFrom, at), max(a.webTo, at)
		}
	})
}

// isStart reports whether what the log of IIS shows alone is the start of the
// service: a login and the chain, nothing else, all well.
func (e *enrolment) isStart() bool {
	if e.session != nil || e.own != nil || e.request != nil || e.first(webChain) == nil {
		return false
	}
	return !slices.ContainsFunc(e.web, func(x *exchange) bool {
		return x.web == webSubmit || x.web == webFetch || x.web == webPage || x.status >= 400 && x.win32 != winNoCredentials
	})
}

// outcomeOf says what became of an enrolment, whatever the reason.
func (e *enrolment) outcomeOf() Outcome {
	switch {
	case e.session != nil:
		return e.outcomeOfSession()
	case e.own != nil && e.own.done:
		switch {
		case e.own.status == 202:
			return OutcomePending
		case e.own.status < 400:
			return OutcomeGood
		}
		return OutcomeFailed
	case e.own != nil && len(e.own.failures) == 0:
		return OutcomeGood // only a remark, judged by its marks
	case e.own != nil:
		return OutcomeFailed
	case e.request != nil:
		switch {
		case e.request.failed():
			return OutcomeFailed
		case e.request.status == 0:
			return OutcomeUnfinished
		case e.request.status == 202:
			return OutcomePending
		}
		return OutcomeGood
	}
	return e.outcomeOfWeb()
}

func (e *enrolment) outcomeOfSession() Outcome {
	s := e.session
	switch {
	case s.statusFailed(), s.rv > 0, s.notSigned.set(), len(s.marks) > 0:
		if s.rv == fault.ESTCAEnrollRetry {
			return OutcomePending
		}
		return OutcomeFailed
	case s.rv == 0:
		return OutcomeGood
	case e.own != nil && e.own.done && e.own.status >= 400, e.request != nil && e.request.failed():
		return OutcomeFailed
	case e.own != nil && e.own.done || e.request != nil && e.request.status != 0:
		return OutcomeGood
	}
	return OutcomeUnfinished
}

// outcomeOfWeb judges by the log of IIS alone.
func (e *enrolment) outcomeOfWeb() Outcome {
	if x := e.first(webFetch); x != nil && x.status < 400 {
		return OutcomeGood
	}
	if e.first(webSubmit) == nil && e.first(webPage) == nil {
		if codes, _ := ofLogins(e.web); codes == nil && !e.serverError() {
			return OutcomeUnfinished
		}
	}
	return OutcomeFailed
}

func (e *enrolment) serverError() bool {
	return slices.ContainsFunc(e.web, func(x *exchange) bool { return x.status == 403 || x.status == 404 || x.status >= 500 })
}

// verdictOf goes from what names the fault to what only hints at it.
func (a *analysis) verdictOf(e *enrolment) *verdict {
	v := a.firstOf(e)
	if e.session != nil {
		s := e.session
		if s.answered.set() && s.rv > 0 {
			v.add(s.evid(s.answered))
		}
		if s.statusFailed() {
			v.add(s.evid(s.statusAt))
		}
	}
	v.missing = a.missing(v)
	return v
}

func (a *analysis) firstOf(e *enrolment) *verdict {
	for _, try := range []func(*enrolment) *verdict{
		a.byOwn, a.byFailures, a.byNotes, a.byReason, a.byMarks, a.byStatus, a.byLogin, a.byNumber, a.tooLate, a.byWeb, a.byStart, a.byAbsence, a.byRV,
	} {
		if v := try(e); v != nil {
			return v
		}
	}
	return a.unsure(e, "No log that is there says why.")
}

// byOwn: our own log names the code.
func (a *analysis) byOwn(e *enrolment) *verdict {
	if e.own == nil {
		return nil
	}
	if c, ok := fault.Lookup(e.own.code); ok && c != fault.Unknown {
		v := &verdict{codes: []fault.Code{c}, sure: Certain}
		for _, f := range e.own.failures {
			v.add(evid{log: logOwn, at: f.at, ref: f.ref})
		}
		v.add(evid{log: logOwn, at: e.own.end.at, ref: e.own.end.ref})
		a.support(e, v)
		return v
	}
	return nil
}

// support adds the lines of the product's logs that say the same.
func (a *analysis) support(e *enrolment, v *verdict) {
	if e.request == nil {
		return
	}
	for _, f := range e.request.failures {
		v.add(e.request.failure(f))
	}
	v.add(e.request.evids(e.request.authFailed, e.request.rcAt)...)
}

// byFailures: an exchange with certsrv failed, and libcurl says how.
func (a *analysis) byFailures(e *enrolment) *verdict {
	if e.own != nil {
		for _, f := range e.own.failures {
			if codes := ofFailure(f); codes != nil {
				return ofCodes(codes, evid{log: logOwn, at: f.at, ref: f.ref})
			}
		}
	}
	if e.request == nil {
		return nil
	}
	for _, f := range e.request.failures {
		if codes := ofFailure(f); codes != nil {
			v := ofCodes(codes, e.request.failure(f))
			v.note = noteOf(codes)
			return v
		}
	}
	return nil
}

// ofCodes is the verdict of what a log says in words: certain if one fault
// says it so, and likely to be one of them if several do.
func ofCodes(codes []fault.Code, ev ...evid) *verdict {
	v := &verdict{codes: codes, sure: Certain}
	if len(codes) > 1 {
		v.sure = Likely
	}
	v.add(ev...)
	return v
}

// noteOf explains codes that cannot be told apart.
func noteOf(codes []fault.Code) string {
	if printedAlike(codes) {
		return "The product prints the same text for both. Look at the certificate of IIS (openssl s_client -connect HOST:443 -showcerts): if issuer and subject are the same it is self-signed, else a certificate of its chain is not trusted."
	}
	return ""
}

// byNotes: a text in error.log, or of the certificate authority, names a
// Windows status.
func (a *analysis) byNotes(e *enrolment) *verdict {
	if e.own != nil {
		if codes := codesInText(e.own.err); codes != nil {
			return ofCodes(codes, evid{log: logOwn, at: e.own.end.at, ref: e.own.end.ref})
		}
	}
	if e.request == nil {
		return nil
	}
	for _, n := range e.request.notes {
		return ofCodes(n.codes, e.request.evids(n.point)...)
	}
	if codes := codesInText(e.request.body); codes != nil {
		return ofCodes(codes, e.request.evids(e.request.statusAt)...)
	}
	return nil
}

// byReason: our own CAPF names what its EST client came back with. Of what lies
// behind the EST server it knows as little as the product's.
func (a *analysis) byReason(e *enrolment) *verdict {
	if e.session == nil || e.session.reason == nil || !e.session.specific() {
		return nil
	}
	m := e.session.reason
	switch m.codes[0] {
	case fault.RequestRefused, fault.InProgress, fault.BadCredentials:
		return nil // the registration authority's logs say more
	}
	return ofCodes(m.codes, evid{log: logOwn, at: m.at, ref: m.ref})
}

// byAbsence: our own log has CAPF and the registration authority in it, CAPF was
// answered with an error, and the registration authority has no such request:
// somebody else answered.
func (a *analysis) byAbsence(e *enrolment) *verdict {
	if e.session == nil || e.session.reason == nil || e.own != nil || e.request != nil || e.session.reason.codes[0] != fault.ESTServerError {
		return nil
	}
	if !a.hasOwn && !slices.ContainsFunc(a.starts, func(s *starting) bool { return s.has(logOwn) }) {
		return nil
	}
	m := e.session.reason
	return &verdict{
		codes: []fault.Code{fault.ESTServerError}, sure: Likely,
		evidence: []evid{{log: logOwn, at: m.at, ref: m.ref}, {log: logOwn, words: "no EST request of this enrolment"}},
		note:     "The registration authority's log has no such request: what stands before it, a proxy or a load balancer, answered in its place.",
	}
}

// byMarks: a line of the CAPF trace, or of our own log, is a fault's own.
func (a *analysis) byMarks(e *enrolment) *verdict {
	if e.own != nil {
		for _, m := range e.own.marks {
			return ofCodes(m.codes, evid{log: logOwn, at: m.at, ref: m.ref})
		}
	}
	if e.session == nil {
		return nil
	}
	for _, m := range e.session.marks {
		if e.session.rv > 0 && e.session.answered.at <= m.at {
			continue // what came after the enrolment did not cause it
		}
		return a.narrowed(e, m.codes, e.session.evid(m.point))
	}
	return nil
}

// byStatus: the operation's status is a fault's own.
func (a *analysis) byStatus(e *enrolment) *verdict {
	if e.session == nil || !e.session.statusFailed() {
		return nil
	}
	codes := codesInTrace(e.session.status.Text)
	if codes == nil {
		return nil
	}
	return a.narrowed(e, codes, e.session.evid(e.session.statusAt))
}

// lockoutAfter and lockoutFor are CAPF's: ten wrong strings, ten minutes.
const lockoutAfter = 10

const lockoutFor = 10 * time.Minute

// narrowed tells apart the faults that end with the same status.
func (a *analysis) narrowed(e *enrolment, codes []fault.Code, ev evid) *verdict {
	v := ofCodes(codes, ev)
	switch {
	case slices.Contains(codes, fault.AuthStringLockout):
		n := 0
		for _, o := range a.kept {
			if s := o.session; s != nil && s != e.session && s.device == e.device && s.status != nil &&
				s.status.Text == e.session.statusText() && o.to <= e.from && e.from-o.to < lockoutFor.Milliseconds() {
				n++
			}
		}
		v.codes, v.sure = []fault.Code{fault.AuthString}, Certain
		if n >= lockoutAfter {
			v.codes = []fault.Code{fault.AuthStringLockout}
			v.note = "The device gave ten wrong strings within ten minutes before."
		}
	case slices.Contains(codes, fault.InvalidLSC):
		v.sure = Likely
		v.note = "The status is the same whether this phone's LSC is bad or the CA's chain is missing from CAPF-trust. If every phone with an LSC fails so, it is the chain."
	}
	return v
}

func (s *session) statusText() string {
	if s == nil || s.status == nil {
		return ""
	}
	return s.status.Text
}

func (v *verdict) add(ev ...evid) {
	for _, x := range ev {
		if !slices.ContainsFunc(v.evidence, func(y evid) bool { return x.ref == y.ref && x.words == y.words }) {
			v.evidence = append(v.evidence, x)
		}
	}
}

func (s *session) evid(p point) evid {
	return evid{log: s.clock.log, at: s.clock.utc(p.at), ref: p.ref}
}

func (q *request) evids(points ...point) []evid {
	var all []evid
	for _, p := range points {
		if p.set() {
			all = append(all, evid{log: q.clock.log, at: q.atOf(p), ref: p.ref})
		}
	}
	return all
}

func (q *request) failure(f failure) evid {
	return evid{log: q.clock.log, at: q.atOf(f.point), ref: f.ref, to: f.to}
}

// atOf dates a line, that of the request's end if it has no time of its own.
func (q *request) atOf(p point) int64 {
	if p.at == 0 {
		return q.to()
	}
	return q.clock.utc(p.at)
}

func (x *exchange) evid() evid {
	return evid{log: x.clock.log, at: x.clock.utc(x.end.at), ref: x.end.ref}
}

// logName is what a log is called in sentences.
var logName = map[fault.Log]string{
	logCAPF: "the CAPF trace", logStart: "the CiscoRA log", logError: "error.log", logIIS: "the IIS log", logOwn: "onlineca.jsonl",
}

func joinCodes(codes []fault.Code) string {
	names := make([]string, len(codes))
	for i, c := range codes {
		names[i] = c.String()
	}
	return strings.Join(names, ", ")
}
