package diagnose

import (
	"slices"
	"strings"

	"github.com/onlineca/onlineca/ra/event"
	"github.com/onlineca/onlineca/ra/fault"
)

// estFacts gathers the EST requests of an error.log. Lines of nginx name their
// connection; those of libEST do not. What libEST says of one request stands
// together and ends with the access line: that whole block is given to the
// request that it fits best.
type estFacts struct {
	requests []*request
	open     []*request // not ended yet, in the order in which they began
	block    *estBlock
	now      int64 // the latest time that the log has named
}

// estBlock is what libEST says of a request that fails, up to its access line.
type estBlock struct {
	clock      *clock
	first      point
	authFailed point
	rc         int
	rcAt       point
	status     int
	statusAt   point
	body       string
	notes      []mark
}

// maxOpenConns bounds the requests whose end has not come, and openFor for how
// long one is waited for, in milliseconds.
const (
	maxOpenConns = 4096
	openFor      = 600_000
)

func (f *estFacts) on(k *clock, p point, last ref, r event.Record) {
	f.now = max(f.now, p.at)
	if r.Conn.Number > 0 {
		f.conn(k, p, last, r)
		return
	}
	switch e := r.Event.(type) {
	case event.ESTNoPeerCertificate:
		f.fresh(k, p)
	case event.ESTAuthFailed:
		if f.block != nil {
			f.end(k, p, f.block.first.ref, nil) // its end is missing
		}
		f.failing(k, p).authFailed = p
	case event.ESTEnrollFailed:
		b := f.failing(k, p)
		b.rc, b.rcAt = e.RC, p
	case event.ESTRequestFailed:
		if b := f.failing(k, p); b.rc == 0 {
			b.rc, b.rcAt = e.RV, p
		}
	case event.ESTHTTPError:
		b := f.failing(k, p)
		b.status, b.statusAt, b.body = e.Status, p, e.Body
	case event.ProductText:
		if codes := codesInText(e.Text); codes != nil {
			b := f.failing(k, p)
			b.notes = addNote(b.notes, codes, p, e.Text)
		}
	case event.ESTAccess:
		f.end(k, p, last, &e)
	}
}

func addNote(notes []mark, codes []fault.Code, p point, text string) []mark {
	if len(notes) == 8 {
		return notes
	}
	return append(notes, mark{codes: codes, point: p, text: strings.Clone(text)})
}

// conn takes a line of nginx.
func (f *estFacts) conn(k *clock, p point, last ref, r event.Record) {
	q := f.of(k, p, r.Conn)
	q.touch(p)
	switch e := r.Event.(type) {
	case event.UpstreamDone:
		q.done(e.Step, p)
	case event.UpstreamFailed:
		q.failures = append(q.failures, failure{step: e.Step, curl: e.Curl, text: e.Text, url: e.URL, point: p, to: last})
	case event.ProductText:
		if codes := codesInText(e.Text); codes != nil {
			q.notes = addNote(q.notes, codes, p, e.Text)
		}
	}
}

// of finds the request of a connection. The first line of nginx about one comes
// right after libEST has begun to speak of it.
func (f *estFacts) of(k *clock, p point, c event.Conn) *request {
	var begun *request
	for _, q := range slices.Backward(f.open) {
		if q.conn == c.Number {
			return q
		}
		if q.conn == 0 && begun == nil {
			begun = q
		}
	}
	if begun == nil {
		begun = f.fresh(k, p)
	}
	begun.conn, begun.client = c.Number, c.Client
	return begun
}

// failing is the block that is open, or a new one.
func (f *estFacts) failing(k *clock, p point) *estBlock {
	if f.block == nil {
		f.block = &estBlock{clock: k, first: p}
	}
	return f.block
}

// end gives a block, and its access line, to a request.
func (f *estFacts) end(k *clock, p point, last ref, e *event.ESTAccess) {
	b := f.block
	f.block = nil
	if b == nil && e.Status == 401 {
		f.asked()
		return
	}
	q := f.choose(b, e)
	if q == nil {
		q = f.fresh(k, p)
		if b != nil {
			q.first = b.first
		}
	}
	if b != nil {
		q.authFailed, q.rc, q.rcAt, q.status, q.statusAt, q.body = b.authFailed, b.rc, b.rcAt, b.status, b.statusAt, b.body
		q.notes = append(q.notes, b.notes...)
	}
	q.last = point{max(q.last.at, f.now), last}
	if q.conn == 0 {
		q.last.at = 0 // nothing says when it was but the access line
	}
	if e != nil {
		q.path = e.Path
		if q.status == 0 {
			q.status, q.statusAt = e.Status, p
		}
		q.access(*e)
		q.finished = true
	}
	f.open = slices.DeleteFunc(f.open, func(o *request) bool { return o == q })
}

// asked ends a request by which a client was only asked for its credentials: a
// connection that has them is told more before it is refused.
func (f *estFacts) asked() {
	for i, q := range slices.Backward(f.open) {
		if q.conn == 0 {
			q.finished = true
			f.open = slices.Delete(f.open, i, i+1)
			return
		}
	}
}

// choose finds the request that a block and its access line are of, nil for
// none of those that are open. Of several that fit alike a failure is that of
// the one that nginx spoke of last, and a success that of the one that has
// waited longest; if they have not come equally far, the choice is noted as
// doubtful.
func (f *estFacts) choose(b *estBlock, e *event.ESTAccess) *request {
	if b != nil && b.rc == fault.ESTAuthFail && !b.authFailed.set() {
		return nil // refused for its certificate, before anything else was said
	}
	var best *request
	rank, mixed := 100, false
	for _, q := range f.open {
		if e != nil && q.client != "" && q.client != e.Client {
			continue
		}
		switch r := q.fit(b, e); {
		case r < rank:
			best, rank, mixed = q, r, false
		case r == rank:
			mixed = mixed || q.stage() != best.stage()
			if b != nil && q.last.ref.line > best.last.ref.line {
				best = q
			}
		}
	}
	if best != nil {
		best.mixed = mixed
	}
	return best
}

// fit says how well a block and its access line fit a request; 0 is best.
func (q *request) fit(b *estBlock, e *event.ESTAccess) int {
	r := 0
	switch failed := len(q.failures) > 0 || len(q.notes) > 0; {
	case b != nil && !failed:
		r += 2
	case b == nil && failed:
		r += 8
	case b == nil && !q.login.set():
		r += 2 // one that succeeded has logged in, if any has
	}
	if e != nil && q.first.at != 0 && abs(q.first.at-localTime(e)) > 1500 {
		r += 4 // it has not begun when that connection did
	}
	return r
}

// stage is how far a request has come by the lines of nginx.
func (q *request) stage() [3]bool {
	return [3]bool{q.login.set(), q.page.set(), len(q.failures) > 0}
}

// localTime is the time of an access line by the clock of nginx's own lines: the
// birth of the connection.
func localTime(e *event.ESTAccess) int64 {
	_, offset := e.Time.Zone()
	return e.Time.UnixMilli() + int64(offset)*1000
}

func (f *estFacts) fresh(k *clock, p point) *request {
	if len(f.open) >= maxOpenConns {
		f.open = slices.Delete(f.open, 0, len(f.open)/2)
	}
	f.open = slices.DeleteFunc(f.open, func(q *request) bool { return q.last.at != 0 && q.last.at < f.now-openFor })
	q := &request{clock: k, first: p, last: p}
	f.requests = append(f.requests, q)
	f.open = append(f.open, q)
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
func (q *request) access(e event.ESTAccess) {
	if q.client == "" {
		q.client = e.Client
	}
	_, offset := e.Time.Zone()
	q.clock.zone, q.clock.hasZone = secondsToDuration(offset), true
	local := localTime(&e)
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
	if b := f.block; b != nil {
		f.end(b.clock, b.first, b.first.ref, nil)
	}
	f.requests = slices.DeleteFunc(f.requests, func(q *request) bool { return !q.counts() })
	f.open = nil
}
