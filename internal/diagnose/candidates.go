package diagnose

import (
	"slices"

	"github.com/onlineca/onlineca/ra/event"
	"github.com/onlineca/onlineca/ra/fault"
)

// road says how far a request had come on its way through certsrv when it
// failed, by what the log of IIS has of it.
type road uint8

const (
	unsubmitted road = 1 << iota // certfnsh.asp has not answered
	submitted                    // it has, and certnew.cer has not
	fetched                      // certnew.cer has answered
)

// roads are the faults that do not happen everywhere on the way. What is
// noted when it ends, or never, counts as not noted, too.
var roads = func() map[fault.Code]road {
	all := map[fault.Code]road{
		fault.EnrollTimeout: unsubmitted | submitted, fault.OutcomeUnknown: unsubmitted | submitted,
		fault.FetchTimeout: submitted | fetched, fault.Pending: submitted | fetched, fault.Revoked: submitted | fetched,
		fault.DeniedByPolicy: submitted | fetched,
	}
	for _, c := range []fault.Code{
		fault.LoginTimeout, fault.BadCredentials, fault.LoginSuspended, fault.NTLMDisabled, fault.NotChallenged,
		fault.EPARequired, fault.PageTimeout, fault.ChainTimeout, fault.ChainUnreadable, fault.Template, fault.CAStopped,
		fault.MalformedCSR, fault.BadCSRSignature, fault.RequestRefused, fault.ClientCertificate, fault.NotAuthorized, fault.Busy,
	} {
		all[c] = unsubmitted
	}
	for _, c := range wayFaults {
		all[c] = unsubmitted
	}
	for _, c := range []fault.Code{
		fault.TemplateDenied, fault.NoTemplate, fault.KeyTooShort, fault.RevocationOffline, fault.RPCUnavailable, fault.CAAccessDenied,
	} {
		all[c] = submitted
	}
	for _, c := range []fault.Code{fault.WrongKeyCertificate, fault.CertificateUnreadable, fault.DeniedByAdmin, fault.NoSuchRequest} {
		all[c] = fetched
	}
	return all
}()

// neverMeant are the codes that no log of the product is ever explained by:
// they stand for what has no code, for a mistake of this program, or for a
// program that was interrupted.
var neverMeant = []fault.Code{fault.Unknown, fault.Internal, fault.Canceled}

// candidates are the faults that agree with everything that is there of an
// enrolment: those given, as the likelier ones, and behind them the others of
// the table, in its order.
func (a *analysis) candidates(e *enrolment, first ...fault.Code) []fault.Code {
	all := slices.Clone(first)
	noted, crowd := a.noted(e)
	for _, c := range fault.Codes() {
		switch r, limited := roads[c]; {
		case slices.Contains(all, c), slices.Contains(neverMeant, c), !e.couldBe(c):
		case limited && noted != 0 && r&noted == 0:
		case !crowd && e.passed(c):
		default:
			all = append(all, c)
		}
	}
	return all
}

// unsure is the verdict that names every candidate, the likelier ones first.
func (a *analysis) unsure(e *enrolment, note string, first ...fault.Code) *verdict {
	return &verdict{codes: a.candidates(e, first...), sure: Unsure, note: note}
}

// couldBe reports whether a fault agrees with what the client was told. What
// CAPF's number leaves open is more than what the table says of it: whatever
// is answered with an error of the server is 94 there.
func (e *enrolment) couldBe(c fault.Code) bool {
	r := c.Row()
	if e.session != nil && e.session.rv == fault.ESTUnknown && e.told() == 0 {
		return r.EST == fault.ESTUnknown || r.HTTP >= 500
	}
	if e.session == nil && e.told() == 0 {
		return r.HTTP != 0
	}
	return e.allows(c)
}

// told is the HTTP status that the client was answered with, 0 if no log says.
func (e *enrolment) told() int {
	switch {
	case e.own != nil && e.own.done:
		return e.own.status
	case e.request != nil && e.request.status > 0:
		return e.request.status
	}
	return 0
}

// noted says how far the log of IIS has an enrolment, 0 for not known: what
// one of several did that failed at the same time can be another's.
func (a *analysis) noted(e *enrolment) (far road, crowd bool) {
	if a.crowded(e) {
		return 0, true
	}
	switch {
	case e.first(webFetch) != nil:
		if a.contested(e, webFetch) {
			return 0, false
		}
		return fetched, false
	case e.first(webSubmit) != nil:
		if a.contested(e, webSubmit) {
			return 0, false
		}
		return submitted, false
	case a.hasIIS && a.covered(e) && !a.unclaimedNear(e):
		return unsubmitted, false
	}
	return 0, false
}

// unclaimedNear reports whether IIS has a submission of the same time that
// nobody could be given.
func (a *analysis) unclaimedNear(e *enrolment) bool {
	return slices.ContainsFunc(a.facts.exchanges, func(x *exchange) bool {
		end := x.clock.utc(x.end.at)
		return !x.claim && (x.web == webSubmit || x.web == webFetch) && end >= e.from-slack && x.clock.utc(x.start()) <= e.to+slack
	})
}

// crowded reports whether another enrolment that has no certificate ran at the
// same time.
func (a *analysis) crowded(e *enrolment) bool {
	for _, o := range a.enrolments {
		if o.from > e.to+slack {
			return false
		}
		if o != e && o.to >= e.from-slack && !o.succeeded() && !o.isStart() {
			return true
		}
	}
	return false
}

// passed reports whether error.log shows that a request had left behind what a
// fault would have stopped it at.
func (e *enrolment) passed(c fault.Code) bool {
	if e.request == nil || e.request.mixed || !e.request.login.set() {
		return false
	}
	switch c {
	case fault.LoginTimeout, fault.BadCredentials, fault.LoginSuspended, fault.NTLMDisabled, fault.EPARequired, fault.ClientCertificate:
		return true
	case fault.PageTimeout:
		return e.request.page.set()
	}
	return slices.Contains(wayFaults, c)
}

// loginFailed reports whether error.log has a login of this request that
// certsrv refused.
func (q *request) loginFailed() bool {
	return slices.ContainsFunc(q.failures, func(f failure) bool { return f.step == event.StepLogin })
}
