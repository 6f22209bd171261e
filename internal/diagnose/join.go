package diagnose

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"github.com/onlineca/onlineca/ra/fault"
)

// analysis is the work on the facts of one run.
type analysis struct {
	o Options
	// folder is where the cluster's logs lie, nil if there is one cluster.
	folder *folder
	all    *facts // everything that was read
	facts  *facts // those of the slice of time that is being joined

	enrolments []*enrolment // of the slice
	kept       []*enrolment // those that the report shows
	leftGood   int          // how many more may be kept
	leftBad    int

	starts  []*starting
	totals  Totals
	faults  faultSum
	present map[fault.Log]bool
	// What there is of each kind, in all the logs.
	hasTrace, hasIIS, hasSessions, hasOwn, hasRequests bool
	webFrom, webTo                                     int64 // what the log of IIS covers
}

// enrolment is one request for a certificate, as the logs show it.
type enrolment struct {
	session *session
	request *request
	own     *own
	web     []*exchange
	device  string
	// from and to are when the EST request ran, in UTC as far as known.
	from, to int64
	// several tells that another enrolment could have been meant by what was
	// matched by time and order.
	several bool
	outcome Outcome
	verdict *verdict
}

// slack is how far the moments of two logs may differ after their clocks have
// been compared.
const slack = 4000

// patience is how long CAPF's EST client waits, and a little more.
const patience = 10_500

// join makes enrolments of the facts.
func (a *analysis) join() {
	a.prefer()
	for _, s := range a.facts.sessions {
		if !s.matters() {
			continue
		}
		e := &enrolment{session: s, device: s.device}
		e.from, e.to = s.span()
		a.enrolments = append(a.enrolments, e)
	}
	a.sort()
	a.joinOwn()
	a.joinRequests()
	if !a.hasSessions && !a.hasOwn && !a.hasRequests {
		a.webAlone()
	} else {
		a.sort()
		a.joinWeb()
	}
	a.sort()
}

func (a *analysis) sort() {
	slices.SortStableFunc(a.enrolments, func(x, y *enrolment) int { return cmp.Compare(x.from, y.from) })
}

// prefer leaves out what our own log repeats of the logs that are there.
func (a *analysis) prefer() {
	f := a.facts
	if a.hasTrace {
		ids := map[string][]*session{}
		for _, s := range f.sessions {
			if s.clock.log == logOwn && s.id != "" {
				ids[s.device] = append(ids[s.device], s)
			}
		}
		f.sessions = slices.DeleteFunc(f.sessions, func(s *session) bool { return s.clock.log == logOwn })
		for _, s := range f.sessions {
			if twin := nearestSession(s, ids[s.device]); twin != nil {
				s.id, s.reason = twin.id, twin.reason
			}
		}
	}
	if a.hasIIS {
		f.exchanges = slices.DeleteFunc(f.exchanges, func(x *exchange) bool { return x.clock.log == logOwn })
	}
	slices.SortStableFunc(f.exchanges, func(x, y *exchange) int {
		return cmp.Compare(x.clock.utc(x.end.at), y.clock.utc(y.end.at))
	})
}

// nearestSession finds the session of our own log that a session of the trace
// is.
func nearestSession(s *session, all []*session) *session {
	var best *session
	gap := int64(slack)
	for _, t := range all {
		if d := abs(s.clock.utc(s.begin.at) - t.clock.utc(t.begin.at)); d <= gap && t.rv == s.rv {
			best, gap = t, d
		}
	}
	return best
}

// matters reports whether a session is an enrolment, or an operation that
// failed before it became one.
func (s *session) matters() bool {
	return s.called.set() || s.rv >= 0 || s.notSigned.set() || len(s.marks) > 0 || s.statusFailed()
}

func (s *session) statusFailed() bool {
	return s.status != nil && s.status.Code > 1
}

// span is when the session's EST request ran.
func (s *session) span() (from, to int64) {
	from, to = s.begin.at, s.last.at
	if s.called.set() {
		from = s.called.at
		to = max(from, min(to, from+patience))
	}
	if s.answered.set() {
		to = s.answered.at
		if !s.called.set() {
			from = max(from, to-patience)
		}
	}
	return s.clock.utc(from), s.clock.utc(to)
}

// joinOwn gives each enrolment the request of our own log: by the correlation
// id, else by the device and the time. What is left becomes an enrolment of
// its own.
func (a *analysis) joinOwn() {
	byID := map[string]*own{}
	byDevice := map[string][]*own{}
	for _, o := range a.facts.owns {
		if o.id != "" {
			byID[o.id] = o
		}
		if d := a.deviceOfOwn(o); d != "" {
			byDevice[d] = append(byDevice[d], o)
		}
	}
	for _, e := range a.enrolments {
		o := byID[e.session.id]
		if o == nil || e.session.id == "" || o.claim {
			o = nil
			for _, c := range byDevice[e.device] {
				if !c.claim && c.end.at >= e.from-slack && c.first.at <= e.to+slack {
					o = c
					break
				}
			}
		}
		if o != nil {
			o.claim, e.own = true, o
		}
	}
	for _, o := range a.facts.owns {
		if !o.claim {
			o.claim = true
			a.enrolments = append(a.enrolments, &enrolment{own: o, device: a.deviceOfOwn(o), from: o.first.at, to: o.end.at})
		}
	}
	a.sort()
}

// deviceOfOwn names the device of a request of our own log: by its correlation
// id, else by the common name that was asked for.
func (a *analysis) deviceOfOwn(o *own) string {
	if d := a.facts.devices[o.id]; d != "" {
		return d
	}
	for part := range strings.SplitSeq(o.subject, ",") {
		if v, ok := strings.CutPrefix(strings.TrimSpace(part), "CN="); ok {
			return v
		}
	}
	return ""
}

// joinRequests gives each enrolment the request of error.log that fits best by
// its time and its outcome. What is left over becomes an enrolment of its own
// if it failed, or if there is nothing else.
func (a *analysis) joinRequests() {
	type pair struct {
		e    *enrolment
		q    *request
		cost int64
	}
	requests := slices.Clone(a.facts.requests)
	slices.SortStableFunc(requests, func(x, y *request) int {
		return cmp.Or(cmp.Compare(x.from(), y.from()), cmp.Compare(x.conn, y.conn))
	})
	var fits []pair
	lo := 0
	for _, e := range a.enrolments {
		for lo < len(requests) && requests[lo].from() < e.from-slack-2*patience {
			lo++
		}
		for _, q := range requests[lo:] {
			if q.from() > e.to+slack {
				break
			}
			if q.to() >= e.from-slack && !contradicts(e, q) {
				fits = append(fits, pair{e, q, cost(e, q)})
			}
		}
	}
	// What fits about as well is taken in the order in which it began.
	slices.SortStableFunc(fits, func(x, y pair) int { return cmp.Compare(x.cost/2000, y.cost/2000) })
	taken := map[*request]bool{}
	for _, p := range fits {
		switch {
		case p.e.request != nil:
			p.e.several = p.e.several || !taken[p.q]
		case !taken[p.q]:
			p.e.request, taken[p.q], p.q.claim = p.q, true, true
		}
	}
	alone := !a.hasSessions && !a.hasOwn
	for _, q := range requests {
		if !taken[q] && (alone || q.failed()) {
			q.claim = true
			a.enrolments = append(a.enrolments, &enrolment{request: q, from: q.from(), to: q.to()})
		}
	}
}

func (q *request) from() int64 { return q.clock.utc(q.first.at) }
func (q *request) to() int64   { return q.clock.utc(q.last.at) }

func (q *request) failed() bool {
	return q.rc != 0 || q.status >= 400 || len(q.failures) > 0 || q.authFailed.set()
}

// contradicts reports whether a request cannot be the one of an enrolment. An
// enrolment that failed may belong to a request that succeeded: the answer
// came too late.
func contradicts(e *enrolment, q *request) bool {
	switch {
	case e.session != nil && e.session.rv == 0:
		return q.failed()
	case e.own != nil && e.own.done && q.status != 0:
		return e.own.status != q.status && (e.own.status != 200 || q.status > 0)
	}
	return false
}

// cost is how badly a request fits an enrolment, in milliseconds.
func cost(e *enrolment, q *request) int64 {
	c := abs(q.from()-e.from) + abs(q.to()-e.to)
	if e.session != nil && e.session.rv > 0 && !q.failed() {
		c += patience
	}
	if e.session != nil && e.session.rv == q.rc && q.rc != 0 {
		c -= slack
	}
	return c
}

// wantedOf reports whether an enrolment was asked for.
func (a *analysis) wantedOf(e *enrolment) bool {
	if a.o.Device != "" && !strings.EqualFold(e.device, a.o.Device) {
		return false
	}
	return a.o.Since.IsZero() || !e.dated() || !time.UnixMilli(e.to).Before(a.o.Since)
}

// wantedStart reports whether a start of the service was asked for.
func (a *analysis) wantedStart(s *starting) bool {
	return a.o.Since.IsZero() || s.at == 0 || !time.UnixMilli(s.at).Before(a.o.Since)
}

// dated reports whether the enrolment's time has a date.
func (e *enrolment) dated() bool { return e.from > yearOne+(400*24*time.Hour).Milliseconds() }
