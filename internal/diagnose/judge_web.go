package diagnose

import (
	"fmt"
	"net/http"
	"slices"

	"github.com/onlineca/onlineca/ra/fault"
)

// byLogin: the EST client was refused with 401. The product says the same for
// a refused password and for a template that is not offered; what it did
// before it said so tells them apart.
func (a *analysis) byLogin(e *enrolment) *verdict {
	q := e.request
	refused := e.session != nil && e.session.rv == fault.ESTAuthFail ||
		q != nil && (q.rc == fault.ESTAuthFail || q.status == 401) || e.own != nil && e.own.status == 401
	if !refused {
		return nil
	}
	if q == nil {
		return a.refusedByWeb(e)
	}
	auth := q.evids(q.authFailed, q.rcAt)
	switch {
	case q.mixed:
		v := a.refusedByWeb(e)
		v.add(auth...)
		return v
	case q.page.set():
		v := ofCodes([]fault.Code{fault.Template}, append(q.evids(q.login, q.page), auth...)...)
		v.note = "The login and certrqxt.asp succeeded, and only then was the client refused: the template is none of those on that page."
		v.add(a.noSubmission(e)...)
		return v
	case q.login.set():
		v := a.unsure(e, "The login succeeded; that certrqxt.asp was read is not logged.", fault.Template, fault.PageUnreadable)
		v.add(append(q.evids(q.login), auth...)...)
		return v
	}
	return a.refusedLogin(e, auth)
}

// The faults of a login that certsrv refuses. What tells them apart is in the
// log of IIS.
var refusals = []fault.Code{fault.BadCredentials, fault.NTLMDisabled, fault.EPARequired}

// refusedLogin: no login is noted as successful. The log of IIS has the
// reason.
func (a *analysis) refusedLogin(e *enrolment, auth []evid) *verdict {
	for _, f := range e.request.failures {
		auth = append(auth, e.request.failure(f))
	}
	if codes, x := ofLogins(e.web); codes != nil {
		v := ofCodes(codes, append(auth, x.evid())...)
		v.sure = Likely
		if codes[0] == fault.BadCredentials {
			v.sure = Certain
		}
		return v
	}
	if len(e.web) > 0 || a.present[logIIS] && !e.request.loginFailed() { // and it has no login that was refused
		v := a.refusedByWeb(e)
		v.add(auth...)
		return v
	}
	if q := e.request; !q.authFailed.set() && q.rcAt.set() && !q.loginFailed() {
		v := a.unsure(e, "The client was refused, and libEST does not say that its user name and password were: perhaps it was its certificate. The IIS log says whether Windows refused a login.",
			append([]fault.Code{fault.ClientCertificate}, refusals...)...)
		v.add(auth...)
		return v
	}
	if !e.request.loginFailed() {
		v := a.unsure(e, "The client was refused, and no login to certsrv is noted before: neither one that succeeded nor one that failed. Whether Windows refused one, the IIS log says.", refusals...)
		v.add(auth...)
		return v
	}
	v := &verdict{codes: slices.Clone(refusals), sure: Likely}
	v.add(auth...)
	v.note = "The client was refused because the login to certsrv failed. Whether Windows refused the password or the kind of login, only the IIS log says."
	return v
}

// refusedByWeb: the client was refused, and there is no error.log, or it does
// not say why.
func (a *analysis) refusedByWeb(e *enrolment) *verdict {
	if codes, x := ofLogins(e.web); codes != nil {
		return &verdict{codes: codes, sure: Likely, evidence: []evid{x.evid()}}
	}
	if x := e.first(webPage); x != nil && x.status < 400 && e.first(webSubmit) == nil && !a.contested(e, webPage) {
		v := &verdict{codes: []fault.Code{fault.Template}, sure: Likely, evidence: []evid{x.evid()}}
		v.note = "certrqxt.asp was loaded, and nothing was submitted: the template is none of those on that page."
		v.add(a.noSubmission(e)...)
		return v
	}
	v := a.unsure(e, "The client was refused with 401. The product says so for a wrong password and for a template that is not offered.", append([]fault.Code{fault.Template}, refusals...)...)
	if a.present[logIIS] && a.covered(e) && len(e.web) == 0 {
		v.add(evid{log: logIIS, words: "no request to certsrv between the beginning and the end of this enrolment"})
	}
	return v
}

// noSubmission is the evidence that nothing was submitted.
func (a *analysis) noSubmission(e *enrolment) []evid {
	if !a.present[logIIS] || e.first(webSubmit) != nil {
		return nil
	}
	var all []evid
	if x := e.first(webPage); x != nil {
		all = append(all, x.evid())
	}
	return append(all, evid{log: logIIS, words: "no POST to certfnsh.asp between the beginning and the end of this enrolment"})
}

// pageFault is the fault of a page that is not delivered in time.
var pageFault = map[web]fault.Code{
	webLogin: fault.LoginTimeout, webPage: fault.PageTimeout, webSubmit: fault.EnrollTimeout,
	webFetch: fault.FetchTimeout, webChain: fault.ChainTimeout,
}

// byWeb: what the web server of the certificate authority saw of it.
func (a *analysis) byWeb(e *enrolment) *verdict {
	if len(e.web) == 0 {
		return a.unseen(e)
	}
	if v := a.slowPage(e); v != nil {
		return v
	}
	if codes, x := ofLogins(e.web); codes != nil {
		return &verdict{codes: codes, sure: Likely, evidence: []evid{x.evid()}}
	}
	for _, x := range e.web {
		if x.status == 403 || x.status == 404 || x.status >= 500 {
			return &verdict{codes: []fault.Code{fault.ServerError}, sure: Likely, evidence: []evid{x.evid()}}
		}
	}
	submit, fetch, page := e.first(webSubmit), e.first(webFetch), e.first(webPage)
	switch {
	case submit != nil && fetch == nil:
		return a.refusedByCA(e, "200 on certfnsh.asp, but no certnew.cer", submit)
	case fetch != nil:
		return a.refusedByCA(e, "200 on certnew.cer", fetch)
	case page != nil && e.allows(fault.Template):
		v := a.unsure(e, "certrqxt.asp was loaded, and nothing was submitted, as it is when the template is not offered; error.log would say so.", fault.Template)
		v.add(page.evid())
		v.add(a.noSubmission(e)...)
		return v
	}
	return a.hanging(e)
}

// tooLate: the registration authority had the certificate, and CAPF had
// stopped waiting for it. That error.log says so is not enough, for it does not
// say when.
func (a *analysis) tooLate(e *enrolment) *verdict {
	if e.session == nil || e.session.rv != fault.ESTSSLRead || e.own != nil && e.own.status != 200 {
		return nil
	}
	v := &verdict{codes: []fault.Code{fault.ESTReadTimeout}, sure: Likely}
	slow, fetch := e.slowest(), e.first(webFetch)
	switch {
	case e.own != nil && e.own.done:
		v.sure = Certain
		v.add(evid{log: logOwn, at: e.own.end.at, ref: e.own.end.ref})
	case e.request != nil && e.request.status != -1:
		return nil
	case fetch == nil || slow == nil || a.contested(e, webFetch) || slow == fetch || fetch.clock.utc(fetch.end.at) < e.to-slack/2:
		if e.request == nil || a.present[logIIS] {
			return nil
		}
		v = a.unsure(e, "", fault.ESTReadTimeout)
	}
	if e.request != nil {
		v.add(e.request.evids(e.request.statusAt)...)
	}
	v.note = "The registration authority had the certificate when CAPF had stopped waiting: it is issued, and the phone has not got it."
	if slow != nil {
		v.note += fmt.Sprintf(" Most of the time went into %s: %s.", webName[slow.web], ms(int64(slow.took)))
		v.add(slow.evid())
	}
	if fetch != nil {
		v.add(fetch.evid())
	}
	return v
}

// slowest is the exchange with certsrv that took longest, nil if none took a
// noticeable time.
func (e *enrolment) slowest() *exchange {
	var worst *exchange
	for _, x := range e.web {
		if x.took >= 100 && (worst == nil || x.took > worst.took) {
			worst = x
		}
	}
	return worst
}

// slowPage: a page took as long as the client waits.
func (a *analysis) slowPage(e *enrolment) *verdict {
	waited := e.to - e.from
	var worst *exchange
	for _, x := range e.web {
		if worst == nil || x.took > worst.took {
			worst = x
		}
	}
	code, ok := pageFault[worst.web]
	if !ok || int64(worst.took) < 9500 && (int64(worst.took) < waited*8/10 || worst.took < 100 || !e.lostPatience()) {
		return nil
	}
	v := &verdict{codes: []fault.Code{code}, sure: Likely, evidence: []evid{worst.evid()}}
	v.note = fmt.Sprintf("The page took %s, as long as the client waited.", ms(int64(worst.took)))
	if code == fault.EnrollTimeout && a.fetchedAfter(e, worst) {
		v.codes = append(v.codes, fault.ESTReadTimeout)
		v.note += " A certificate was fetched at that time, and whether it was this one's, the IIS log does not say: if it was, the registration authority waited for it, and CAPF did not."
	}
	return v
}

// fetchedAfter reports whether a certificate was fetched right after a slow
// submission, maybe this one's: what error.log has of the request can tell that
// it was not.
func (a *analysis) fetchedAfter(e *enrolment, submit *exchange) bool {
	if q := e.request; q != nil && !q.mixed && q.status >= 500 {
		return false
	}
	end := submit.clock.utc(submit.end.at)
	return slices.ContainsFunc(a.facts.exchanges, func(x *exchange) bool {
		return x.web == webFetch && x.status < 400 && abs(x.clock.utc(x.end.at)-end) <= doubt
	})
}

// lostPatience reports whether the EST client gave up waiting.
func (e *enrolment) lostPatience() bool {
	return e.session != nil && (e.session.rv == fault.ESTSSLRead || e.session.rv < 0)
}

// hanging: a login was begun, and nothing came of it.
func (a *analysis) hanging(e *enrolment) *verdict {
	first := e.first(webLogin)
	if first == nil || !e.lostPatience() {
		return nil
	}
	for _, x := range e.web {
		if x.user || x.status < 400 {
			return nil
		}
	}
	return &verdict{
		codes: []fault.Code{fault.LoginTimeout}, sure: Likely, evidence: []evid{first.evid()},
		note: "The login was begun, and the web server never noted its end.",
	}
}

// refusedByCA: the request was submitted and came to nothing. What the page
// said stands in no log of the product; what the client was told narrows it.
func (a *analysis) refusedByCA(e *enrolment, line string, x *exchange) *verdict {
	likelier := slices.DeleteFunc(showing(logIIS, line), func(c fault.Code) bool { return !e.couldBe(c) })
	note := "The request reached the CA, and no certificate came back. What the CA said stands in none of the product's logs: look the request up under Failed Requests and Pending Requests on the CA."
	if x.web == webFetch {
		note = fmt.Sprintf("certnew.cer was delivered, and the phone has no certificate. What it held stands in none of the product's logs: look request %d up on the CA.", x.reqID)
	}
	v := a.unsure(e, note, likelier...)
	if len(v.codes) == 0 {
		return nil
	}
	if len(v.codes) == 1 {
		v.sure = Likely
	}
	v.add(x.evid())
	return v
}

// mayHaveLeft reports whether the client can have gone before its answer, which
// is then a 500 that nobody read.
func (e *enrolment) mayHaveLeft() bool {
	return e.session == nil || e.session.rv <= 0 || e.session.rv == fault.ESTSSLRead
}

// allows reports whether a fault agrees with what the client was told.
func (e *enrolment) allows(c fault.Code) bool {
	r := c.Row()
	switch {
	case e.own != nil && e.own.done:
		return r.HTTP == e.own.status
	case e.request != nil && e.request.status > 0:
		return r.HTTP == e.request.status || e.request.status == http.StatusInternalServerError && c == fault.ESTReadTimeout && e.mayHaveLeft()
	case e.session != nil && e.session.rv > 0:
		return r.EST == e.session.rv
	}
	return true
}

// unseen: the web server never heard of it, though its log covers the time.
func (a *analysis) unseen(e *enrolment) *verdict {
	if !a.lostUpstream(e) || !a.covered(e) {
		return nil
	}
	if a.startBefore(e) != nil {
		return nil // the start's own fault says more
	}
	v := a.unsure(e, "certsrv never heard of the request: it failed on the way there. How, error.log and the CiscoRA log say.", wayFaults...)
	v.add(evid{log: logIIS, words: "no request to certsrv between the beginning and the end of this enrolment"})
	return v
}

// lostUpstream reports whether the client was told that the registration
// authority could not get the certificate.
func (a *analysis) lostUpstream(e *enrolment) bool {
	switch {
	case e.session != nil && e.session.rv > 0:
		return e.session.rv == fault.ESTSSLRead || e.session.rv == fault.ESTUnknown || e.session.rv == fault.ESTHTTPWrite
	case e.request != nil:
		return e.request.status >= 500
	}
	return false
}

// covered reports whether the log of IIS covers the time of an enrolment.
func (a *analysis) covered(e *enrolment) bool {
	return a.webFrom <= e.from && e.to <= a.webTo
}

// byStart: the service could not reach certsrv since its start.
func (a *analysis) byStart(e *enrolment) *verdict {
	s := a.startBefore(e)
	if s == nil || !a.lostUpstream(e) {
		return nil
	}
	v := &verdict{codes: s.verdict.codes, sure: Likely, evidence: slices.Clone(s.verdict.evidence)}
	v.note = "The service could not reach certsrv at its start, and nothing shows that it could since."
	return v
}

// startBefore finds the failed start under which an enrolment ran: the last
// one before it, if it failed. Starts whose log has no times count only if
// there are no others and all of them failed alike.
func (a *analysis) startBefore(e *enrolment) *starting {
	var last, undated *starting
	for _, s := range a.starts {
		if s.at != 0 && e.dated() {
			if s.at <= e.from {
				last = s
			}
			continue
		}
		if s.verdict == nil || undated != nil && !slices.Equal(s.verdict.codes, undated.verdict.codes) {
			return nil
		}
		undated = s
	}
	if last == nil {
		last = undated
	}
	if last == nil || last.verdict == nil {
		return nil
	}
	return last
}

// specific reports whether the number that CAPF's EST client came back with
// says more than that the registration authority failed.
func (s *session) specific() bool {
	return s.rv != fault.ESTSSLRead && s.rv != fault.ESTUnknown
}

// byNumber: the number that CAPF's EST client came back with stands for one
// fault only.
func (a *analysis) byNumber(e *enrolment) *verdict {
	if e.session == nil || e.session.rv <= 0 || !e.session.specific() || len(ofRV(e.session.rv)) != 1 {
		return nil
	}
	return a.byRV(e)
}

// byRV: the number that CAPF's EST client came back with.
func (a *analysis) byRV(e *enrolment) *verdict {
	if e.session == nil || e.session.rv <= 0 {
		return nil
	}
	s := e.session
	waited := s.answered.at - s.called.at
	if !s.specific() {
		if s.rv != fault.ESTSSLRead {
			return a.unsure(e, "The registration authority answered with an error; what it was, its own logs say.", ofRV(s.rv)...)
		}
		v := a.unsure(e, "CAPF only says that the registration authority did not answer; the reason is on the registration authority's side.", fault.ESTReadTimeout)
		if s.called.set() {
			v.note = fmt.Sprintf("CAPF gave up after %s. ", ms(waited)) + v.note
			v.add(s.evid(s.called))
		}
		return v
	}
	switch s.rv {
	case fault.ESTCAEnrollRetry:
		return a.toldToWait(e)
	case fault.ESTSSLConnect:
		return noHandshake(waited)
	}
	codes := ofRV(s.rv)
	if len(codes) == 1 {
		return &verdict{codes: codes, sure: Certain}
	}
	v := a.unsure(e, "", codes...)
	if len(v.codes) == 0 {
		v.note = fmt.Sprintf("CAPF's EST client came back with %d (%s), which no fault of the table stands for.", s.rv, fault.ESTName(s.rv))
	}
	return v
}

// atOnce is how soon a handshake fails that is refused, in milliseconds: one
// that takes longer may have run out of time.
const atOnce = 200

// noHandshake: CAPF and the EST server did not come to terms over TLS. Who
// refused whom CAPF does not say, and a handshake that took its time was
// perhaps not refused at all.
func noHandshake(waited int64) *verdict {
	v := &verdict{
		codes: []fault.Code{fault.ESTServerTrust, fault.ClientCertificate, fault.ESTUnreachable}, sure: Likely,
		note: "The TLS handshake between CAPF and the registration authority failed. Which side ended it, and why, CAPF does not say.",
	}
	if waited < atOnce {
		return v
	}
	v.sure = Unsure
	v.note += fmt.Sprintf(" It took %s: perhaps the registration authority did not answer.", ms(waited))
	for _, c := range fault.Codes() {
		if c.Row().EST == fault.ESTSSLRead && !slices.Contains(neverMeant, c) {
			v.codes = append(v.codes, c)
		}
	}
	return v
}

// toldToWait: the client was told to come back. The product says no more of
// it, and neither does its own web server's log: that a certificate was fetched
// after the answer shows only that the CA was not done by then.
func (a *analysis) toldToWait(e *enrolment) *verdict {
	v := a.unsure(e, "The registration authority told the client to come back. Whether a CA manager has to approve the request, the page of Pending Requests on the CA says; if the registration authority is onlineca, its own log names the reason.", fault.Pending, fault.InProgress, fault.Busy)
	if x := e.first(webSubmit); x != nil {
		v.add(x.evid())
	}
	if x := e.first(webFetch); x != nil {
		v.add(x.evid())
	}
	return v
}
