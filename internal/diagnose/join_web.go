package diagnose

import (
	"cmp"
	"slices"
	"time"
)

// joinWeb gives the requests in the log of IIS to the enrolments. Those that
// succeeded fetched their certificate right before they ended, and submitted
// their request before that; what is left goes to those in whose time it
// began, first come, first served.
func (a *analysis) joinWeb() {
	a.joinFetches()
	begun := a.begun()
	a.joinBegun(begun)
	// IIS notes whole seconds: by the time that it took, a fetch can seem to
	// have begun before the submission.
	a.joinBegun(slices.DeleteFunc(begun, func(x *exchange) bool { return x.web != webFetch }))
	for _, e := range a.enrolments {
		slices.SortStableFunc(e.web, func(x, y *exchange) int { return cmp.Compare(x.end.at, y.end.at) })
	}
}

// joinBegun gives requests, in the order in which they began, to those in
// whose time they did.
func (a *analysis) joinBegun(all []*exchange) {
	var active []*enrolment
	next := 0
	for _, x := range all {
		if x.claim {
			continue
		}
		at := x.clock.utc(x.start())
		for next < len(a.enrolments) && a.enrolments[next].from-slack <= at {
			active = append(active, a.enrolments[next])
			next++
		}
		active = slices.DeleteFunc(active, func(e *enrolment) bool { return e.to+slack < at })
		if e := choose(active, x, at); e != nil {
			e.take(x)
		}
	}
}

func (e *enrolment) take(x *exchange) {
	e.web = append(e.web, x)
	x.claim = true
}

// begun are the requests in the order in which they began: IIS notes them when
// they end.
func (a *analysis) begun() []*exchange {
	all := slices.Clone(a.facts.exchanges)
	slices.SortStableFunc(all, func(x, y *exchange) int {
		return cmp.Compare(x.clock.utc(x.start()), y.clock.utc(y.start()))
	})
	return all
}

// joinFetches gives each good enrolment the certificate that was fetched
// nearest to its end, and the submission before it.
func (a *analysis) joinFetches() {
	type pair struct {
		e    *enrolment
		x    *exchange
		cost int64
	}
	good := slices.DeleteFunc(slices.Clone(a.enrolments), func(e *enrolment) bool { return !e.succeeded() })
	slices.SortStableFunc(good, func(x, y *enrolment) int { return cmp.Compare(x.to, y.to) })
	var fits []pair
	var submits []*exchange
	lo := 0
	for _, x := range a.facts.exchanges {
		if x.web == webSubmit && x.status < 400 {
			submits = append(submits, x)
		}
		if x.web != webFetch || x.status >= 400 {
			continue
		}
		end := x.clock.utc(x.end.at)
		for lo < len(good) && good[lo].to < end-slack {
			lo++
		}
		for _, e := range good[lo:] {
			if e.to > end+slack {
				break
			}
			switch known := e.own != nil && e.own.reqID != 0; {
			case known && e.own.reqID == int(x.reqID):
				fits = append(fits, pair{e, x, -1})
			case !known && x.clock.utc(x.start()) >= e.from-slack/2:
				fits = append(fits, pair{e, x, abs(e.to - end)})
			}
		}
	}
	slices.SortStableFunc(fits, func(x, y pair) int { return cmp.Compare(x.cost/1000, y.cost/1000) })
	for _, p := range fits {
		if f := p.e.first(webFetch); f == nil && !p.x.claim {
			p.e.take(p.x)
		} else if f == nil || p.cost/1000 == abs(p.e.to-f.clock.utc(f.end.at))/1000 && !p.x.claim {
			p.e.several = true
		}
	}
	joinSubmits(good, submits)
}

// joinSubmits gives each enrolment that has its certificate the last
// submission before it was fetched.
func joinSubmits(good []*enrolment, submits []*exchange) {
	good = slices.DeleteFunc(good, func(e *enrolment) bool { return e.first(webFetch) == nil })
	slices.SortStableFunc(good, func(x, y *enrolment) int {
		return cmp.Compare(x.first(webFetch).end.at, y.first(webFetch).end.at)
	})
	lo := 0
	for _, e := range good {
		f := e.first(webFetch)
		var best *exchange
		for lo < len(submits) && submits[lo].clock.utc(submits[lo].end.at) < e.from-2*patience {
			lo++
		}
		for _, x := range submits[lo:] {
			if x.end.at > f.end.at {
				break
			}
			if !x.claim && x.clock.utc(x.start()) >= e.from-slack/2 && (best == nil || x.end.at > best.end.at) {
				best = x
			}
		}
		if best != nil {
			e.take(best)
		}
	}
}

// succeeded reports whether an enrolment has its certificate.
func (e *enrolment) succeeded() bool {
	switch {
	case e.session != nil:
		return e.session.rv == 0
	case e.own != nil:
		return e.own.done && e.own.status == 200
	case e.request != nil:
		return !e.request.failed() && e.request.status != 0 && e.request.status != 202
	}
	return false
}

// choose finds the enrolment that a request to certsrv belongs to.
func choose(active []*enrolment, x *exchange, at int64) *enrolment {
	var best *enrolment
	rank := 100
	several := false
	for _, e := range active {
		r := e.rank(x, at)
		if r < rank {
			best, rank, several = e, r, false
		} else if r == rank && r < 100 {
			several = true
		}
	}
	if best != nil && several {
		best.several = true
	}
	return best
}

// rank says how well a request to certsrv fits an enrolment; 100 is not at
// all.
func (e *enrolment) rank(x *exchange, at int64) int {
	if e.session == nil && e.own != nil && !e.own.done && len(e.own.failures) == 0 {
		return 100 // only a remark: certsrv was not asked
	}
	refused := x.status >= 400 && x.win32 != winNoCredentials
	if e.succeeded() && (refused || x.web == webSubmit) {
		return 100
	}
	if x.web == webFetch && x.reqID != 0 {
		if e.own != nil && e.own.reqID != 0 {
			if e.own.reqID == int(x.reqID) {
				return 0
			}
			return 100
		}
		if f := e.first(webFetch); f != nil {
			if f.reqID == x.reqID {
				return 1
			}
			return 100
		}
		if e.first(webSubmit) == nil || e.succeeded() {
			return 100
		}
	}
	r := 10
	if x.web == webSubmit && e.first(webSubmit) != nil {
		return 100
	}
	if x.web == webLogin || x.web == webPage || x.web == webChain {
		// They come right after the beginning.
		r += int(min(abs(at-e.from)/1000, 30))
		if x.web == webPage && e.first(webPage) != nil {
			r += 15
		}
	}
	if at < e.from-1000 || at > e.to+1000 {
		r += 20
	}
	return r
}

// first finds the first request to a page.
func (e *enrolment) first(w web) *exchange {
	for _, x := range e.web {
		if x.web == w {
			return x
		}
	}
	return nil
}

// webAlone makes enrolments of the log of IIS alone: every submission with the
// fetch that follows it, and logins that came to nothing.
func (a *analysis) webAlone() {
	var cur *enrolment
	var waiting []*enrolment
	for _, x := range a.facts.exchanges {
		at := x.clock.utc(x.start())
		if cur != nil && at-cur.to > 30_000 {
			cur = nil
		}
		waiting = slices.DeleteFunc(waiting, func(e *enrolment) bool { return at-e.to > time.Minute.Milliseconds() })
		e := cur
		switch {
		case x.web == webFetch && len(waiting) > 0:
			e = waiting[0]
			waiting = waiting[1:]
		case e == nil:
			e = &enrolment{from: at}
			a.enrolments = append(a.enrolments, e)
			cur = e
		}
		e.web = append(e.web, x)
		e.to = max(e.to, x.clock.utc(x.end.at))
		x.claim = true
		if x.web == webSubmit {
			waiting = append(waiting, e)
			cur = nil
		}
	}
}
