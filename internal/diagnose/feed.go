package diagnose

import (
	"cmp"
	"math"
	"slices"
)

// The join goes through the logs in slices of time: enough to hold what
// belongs together, little enough that the length of the logs does not matter.
// sliceFacts is how many facts make a slice, margin how far it looks beyond
// its end for what belongs to its enrolments.
const (
	sliceFacts = 1 << 15
	margin     = 60_000
)

// source yields the facts of one log, or one kind of them, in their order.
type source struct {
	next func() any
	head any
	at   int64
}

func (s *source) advance() {
	if s.head = s.next(); s.head != nil {
		s.at = timeOf(s.head)
	}
}

// timeOf is when a fact happened, in UTC as far as known.
func timeOf(fact any) int64 {
	switch f := fact.(type) {
	case *session:
		if f.called.set() {
			return f.clock.utc(f.called.at)
		}
		return f.clock.utc(f.begin.at)
	case *request:
		return f.from()
	case *exchange:
		return f.clock.utc(f.end.at)
	case *own:
		return f.first.at
	}
	return math.MinInt64
}

// each calls yield for every fact that a log holds.
func (f *facts) each(yield func(any)) {
	for _, s := range f.sources() {
		for fact := s(); fact != nil; fact = s() {
			yield(fact)
		}
	}
}

// sources are iterators over all facts.
func (f *facts) sources() []func() any {
	var all []func() any
	for _, s := range f.streams {
		all = append(all, (&cursor{s: s}).next)
	}
	return append(all, over(f.sessions), over(f.requests), over(f.owns))
}

// over iterates over a list, in the order of time.
func over[F any](list []*F) func() any {
	i := 0
	return func() any {
		if i == len(list) {
			return nil
		}
		i++
		return list[i-1]
	}
}

// feeder gives out the facts of all sources in the order of time.
type feeder struct{ sources []*source }

func newFeeder(f *facts) *feeder {
	sortByTime(f.sessions)
	sortByTime(f.requests)
	sortByTime(f.owns)
	var fd feeder
	for _, next := range f.sources() {
		s := &source{next: next}
		s.advance()
		fd.sources = append(fd.sources, s)
	}
	return &fd
}

func sortByTime[F any](list []*F) {
	slices.SortStableFunc(list, func(x, y *F) int { return cmp.Compare(timeOf(any(x)), timeOf(any(y))) })
}

// slice adds the facts of the next slice to f and returns its end. It reports
// false when there are no more.
func (fd *feeder) slice(f *facts, size int) (end int64, more bool) {
	for range size {
		var first *source
		for _, s := range fd.sources {
			if s.head != nil && (first == nil || s.at < first.at) {
				first = s
			}
		}
		if first == nil {
			return math.MaxInt64, false
		}
		end = first.at
		f.put(first.head)
		first.advance()
	}
	for _, s := range fd.sources {
		for s.head != nil && s.at < end+margin {
			f.put(s.head)
			s.advance()
		}
	}
	return end, true
}

// put adds a fact to those of a slice.
func (f *facts) put(fact any) {
	switch x := fact.(type) {
	case *session:
		f.sessions = append(f.sessions, x)
	case *request:
		f.requests = append(f.requests, x)
	case *exchange:
		f.exchanges = append(f.exchanges, x)
	case *own:
		f.owns = append(f.owns, x)
	}
}

// walk joins and judges all facts, slice by slice.
func (a *analysis) walk() {
	fd := newFeeder(a.all)
	a.facts = &facts{devices: a.all.devices}
	for {
		end, more := fd.slice(a.facts, a.o.slice)
		a.enrolments = nil
		a.join()
		keep := &facts{devices: a.all.devices}
		for _, e := range a.enrolments {
			if e.from < end || !more {
				a.finish(e)
			} else {
				e.undo(keep)
			}
		}
		if !more {
			return
		}
		a.carry(keep, end-margin)
		a.facts = keep
	}
}

// undo gives back what an enrolment has taken, for the next slice.
func (e *enrolment) undo(keep *facts) {
	if e.session != nil {
		keep.put(e.session)
	}
	if e.own != nil {
		e.own.claim = false
		keep.put(e.own)
	}
	if e.request != nil {
		e.request.claim = true // kept here, so not carried again
		keep.put(e.request)
	}
	for _, x := range e.web {
		keep.put(x)
	}
}

// carry keeps what nobody has taken yet and the next slice may need.
func (a *analysis) carry(keep *facts, since int64) {
	for _, q := range a.facts.requests {
		if !q.claim && q.to() >= since {
			keep.requests = append(keep.requests, q)
		}
	}
	for _, x := range a.facts.exchanges {
		if !x.claim && x.clock.utc(x.end.at) >= since {
			keep.exchanges = append(keep.exchanges, x)
		}
	}
	for _, q := range keep.requests {
		q.claim = false
	}
	for _, x := range keep.exchanges {
		x.claim = false
	}
}

// finish judges an enrolment, counts it, and keeps it if it is to be shown.
func (a *analysis) finish(e *enrolment) {
	if e.isStart() || !a.wantedOf(e) {
		return
	}
	e.outcome = e.outcomeOf()
	switch {
	case e.outcome == OutcomeFailed || e.outcome == OutcomePending:
		e.verdict = a.verdictOf(e)
	case e.own != nil && len(e.own.marks) > 0:
		e.verdict = a.byMarks(e)
	}
	a.count(e)
	left := &a.leftBad
	if e.outcome == OutcomeGood && e.verdict == nil && !a.slow(e) {
		left = &a.leftGood
	}
	if *left > 0 {
		*left--
		a.kept = append(a.kept, e)
	}
}
