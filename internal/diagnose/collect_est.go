package diagnose

import (
	"slices"
	"strings"

	"github.com/onlineca/onlineca/ra/event"
)

// estFacts gathers the EST requests of an error.log. Lines of nginx name their
// connection; those of libEST do not, and belong to the connection that spoke
// last, or to the one that speaks next if they begin a request.
type estFacts struct {
	requests []*request
	byConn   map[int]*request
	cur      *request
	floating *request // begun by libEST, connection not known yet
}

// maxOpenConns bounds the connections whose end has not come.
const maxOpenConns = 4096

func (f *estFacts) on(k *clock, p point, last ref, r event.Record) {
	if r.Conn.Number > 0 {
		f.conn(k, p, r)
	}
	if _, ok := r.Event.(event.ESTNoPeerCertificate); ok {
		f.floating = f.fresh(k, p)
		f.cur = f.floating
	}
	switch e := r.Event.(type) {
	case event.ESTReferer, event.ESTUserAgent, event.ESTShutdownFailed:
		// They follow the access line, which ends the request.
	case event.ESTAccess:
		// A request that succeeded has logged in, if any has.
		if q := f.oldest(); q != nil && q.login.set() && e.Status < 400 && f.cur != nil && !f.cur.login.set() {
			f.cur = q
		}
		f.skipFinished()
	default:
		f.skipFinished()
	}
	if f.cur == nil {
		f.cur = f.fresh(k, p)
		f.floating = f.cur
	}
	q := f.cur
	q.touch(p)
	switch e := r.Event.(type) {
	case event.UpstreamDone:
		q.done(e.Step, p)
	case event.UpstreamFailed:
		q.failures = append(q.failures, failure{step: e.Step, curl: e.Curl, text: e.Text, url: e.URL, point: p, to: last})
	default:
		f.lib(q, p, last, r.Event)
	}
}

// conn finds the request that a line of nginx belongs to.
func (f *estFacts) conn(k *clock, p point, r event.Record) {
	q := f.byConn[r.Conn.Number]
	if q == nil {
		if q = f.floating; q == nil {
			q = f.fresh(k, p)
		}
		f.floating = nil
		q.conn, q.client = r.Conn.Number, r.Conn.Client
		if f.byConn == nil || len(f.byConn) >= maxOpenConns {
			f.byConn = map[int]*request{}
		}
		f.byConn[r.Conn.Number] = q
	}
	f.cur = q
}

// skipFinished leaves a request that has ended.
func (f *estFacts) skipFinished() {
	if f.cur != nil && f.cur.finished {
		f.cur = f.oldest()
	}
}

// oldest returns the connection that has waited longest for its end: where
// several speak at once, the first to come is the first to go.
func (f *estFacts) oldest() *request {
	var first *request
	for _, q := range f.byConn {
		if !q.finished && (first == nil || q.conn < first.conn) {
			first = q
		}
	}
	return first
}

// lib takes what libEST says of a request.
func (f *estFacts) lib(q *request, p point, last ref, e event.Event) {
	switch e := e.(type) {
	case event.ESTAuthFailed:
		q.authFailed = p
	case event.ESTEnrollFailed:
		q.rc, q.rcAt = e.RC, p
	case event.ESTRequestFailed:
		if q.rc == 0 {
			q.rc, q.rcAt = e.RV, p
		}
	case event.ESTHTTPError:
		q.status, q.statusAt, q.body = e.Status, p, e.Body
	case event.ProductText:
		if codes := codesInText(e.Text); codes != nil && len(q.notes) < 8 {
			q.notes = append(q.notes, mark{codes: codes, point: p, text: strings.Clone(e.Text)})
		}
	case event.ESTAccess:
		if e.Status == 401 && q.rc == 0 && q.conn != 0 {
			// Somebody else is asked for credentials: a connection that has
			// them is told more before it is refused.
			f.floating = nil
			return
		}
		q.path = e.Path
		if q.status == 0 {
			q.status, q.statusAt = e.Status, p
		}
		q.access(e, p)
		q.last.ref, q.finished = last, true
		delete(f.byConn, q.conn)
		f.cur, f.floating = q, nil
	case event.ESTShutdownFailed:
		f.cur = nil
	}
}

func (f *estFacts) fresh(k *clock, p point) *request {
	q := &request{clock: k, first: p, last: p}
	f.requests = append(f.requests, q)
	return q
}

// touch notes the latest line. Those of libEST have no time.
func (q *request) touch(p point) {
	if p.at == 0 {
		p.at = q.last.at
	}
	if q.first.at == 0 {
		q.first.at = p.at
	}
	q.last = p
}

// access reads the time of the access line, which is the birth of the
// connection, and the zone of the server's clock.
func (q *request) access(e event.ESTAccess, p point) {
	if q.client == "" {
		q.client = e.Client
	}
	_, offset := e.Time.Zone()
	q.clock.zone, q.clock.hasZone = secondsToDuration(offset), true
	local := e.Time.UnixMilli() + int64(offset)*1000
	if q.first.at == 0 || local < q.first.at {
		q.first.at = local
	}
	if q.last.at == 0 {
		q.last.at = local
	}
}

func (q *request) done(s event.UpstreamStep, p point) {
	switch s {
	case event.StepLogin:
		q.login = p
	case event.StepPage:
		q.page = p
	case event.StepChain:
		q.chain = p
	}
}

// counts reports whether it is a request for a certificate: not a client that
// came and went, nor the 401 by which a client is asked for its credentials.
func (q *request) counts() bool {
	if len(q.notes) > 0 || q.failed() && (q.status != 401 || q.rc != 0 || q.authFailed.set() || len(q.failures) > 0) {
		return true
	}
	if q.status == 401 || q.path != "" && !strings.Contains(q.path, "enroll") {
		return false
	}
	return q.status != 0 || q.login.set()
}

func (f *estFacts) finish() {
	f.requests = slices.DeleteFunc(f.requests, func(q *request) bool { return !q.counts() })
	f.byConn, f.cur, f.floating = nil, nil, nil
}

// startFacts gathers the starts of the service.
type startFacts struct {
	list []*start
	cur  *start
}

// again reports whether an event belongs to another start: what has ended does
// not begin anew, and a start tries everything once.
func (s *start) again(k *clock, e event.Event) bool {
	switch e := e.(type) {
	case event.RAValueMissing:
		return s.clock != k || s.ended || s.began && strings.HasSuffix(e.What, "Chain")
	case event.UpstreamFailed:
		return s.clock != k || s.ended || slices.ContainsFunc(s.failures, func(f failure) bool { return f.step == e.Step })
	case event.UpstreamDone:
		return s.clock != k || s.ended
	}
	return s.clock != k
}

func (f *startFacts) on(k *clock, p point, last ref, e event.Event) {
	if f.cur == nil || f.cur.again(k, e) {
		f.cur = &start{clock: k, log: k.log, first: p}
		f.list = append(f.list, f.cur)
	}
	s := f.cur
	s.last = point{p.at, last}
	switch e := e.(type) {
	case event.RAValueMissing:
		s.began = true
	case event.UpstreamDone:
		switch e.Step {
		case event.StepLogin:
			s.login = p
		case event.StepChain:
			s.chainAt = p
		}
	case event.UpstreamFailed:
		s.failures = append(s.failures, failure{step: e.Step, curl: e.Curl, text: e.Text, url: e.URL, code: e.Code, err: e.Error, point: p, to: last})
	case event.ChainUnavailable:
		s.noChain, s.ended = p, true
	case event.ChainRetrieved:
		s.chain, s.ended = true, true
	case event.RAStarted:
		s.pid, s.ended = e.PID, true
		f.cur = nil
	case event.ProductText:
		if codes := codesInText(e.Text); codes != nil && len(s.notes) < 8 {
			s.notes = append(s.notes, mark{codes: codes, point: p, text: strings.Clone(e.Text)})
		}
	}
}
