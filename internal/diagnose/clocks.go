package diagnose

import (
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/onlineca/onlineca/ra/fault"
)

// yearOne is the day of a CAPF trace whose day is not known, in Unix
// milliseconds.
var yearOne = time.Time{}.UnixMilli()

// series are the moments of one clock by what happened, to be compared with
// those of another clock.
type series map[string][]int64

// pairs says what happens at the same moment in two logs.
var pairs = map[[2]fault.Log][][2]string{
	{logError, logOwn}: {{"ended", "ended"}},
	{logError, logIIS}: {{"login", "login"}, {"chain", "chain"}, {"good", "fetched"}, {"ended", "submitted"}},
	{logCAPF, logOwn}:  {{"called", "called"}, {"answered", "answered"}, {"answered", "ended"}},
	{logCAPF, logError}: {
		{"answered", "ended"}, {"called", "ended"},
	},
	{logCAPF, logIIS}: {{"fetched", "fetched"}, {"called", "knocked"}, {"called", "submitted"}},
}

// align finds what each clock differs from UTC. Logs in UTC come first, then
// those whose lines have a date, then CAPF traces, whose date is found along
// with the zone: the year one is just a large difference.
func (a *analysis) align() {
	all := a.series()
	for _, log := range []fault.Log{logError, logCAPF} {
		for _, k := range a.all.clocks {
			if k.log == log {
				a.alignClock(k, all)
			}
		}
	}
}

func (a *analysis) alignClock(k *clock, all map[*clock]series) {
	k.dated = k.dated || !undated(all[k])
	limit := int64(math.MaxInt64)
	if k.dated {
		limit = (15 * time.Hour).Milliseconds()
	}
	if zone, ok := a.o.Zones[string(k.log)]; ok {
		k.zone, k.hasZone, k.how = zone, true, "the zone was given"
	}
	var best match
	if k.hasZone && k.dated {
		guess := -k.zone.Milliseconds()
		k.offset, k.placed = guess, true
		if k.how == "" {
			k.how = "its own lines name the zone"
		}
		best = a.bestMatch(k, all, guess, (30 * time.Minute).Milliseconds())
	}
	if !k.placed || best.n < all[k].longest()/2 {
		// A clock can be wrong by hours, but then much has to speak for it.
		if m := a.bestMatch(k, all, 0, limit); !k.placed || m.n >= 4 && m.n > 2*best.n {
			best = m
		}
	}
	if best.n == 0 {
		a.unmatched(k)
		return
	}
	k.offset, k.matches, k.placed, k.dated = best.offset, best.n, true, true
	k.how = fmt.Sprintf("%s that %s has too", plural(best.n, "moment"), logName[best.log])
}

// bestMatch compares a clock with all those that are known.
func (a *analysis) bestMatch(k *clock, all map[*clock]series, guess, limit int64) match {
	var best match
	for _, log := range []fault.Log{logOwn, logError, logIIS} {
		for _, reference := range a.all.clocks {
			if reference.log != log || !reference.placed || reference == k {
				continue
			}
			if m := compare(k, all[k], reference, all[reference], guess, limit); m.better(best) {
				m.log = log
				best = m
			}
		}
	}
	return best
}

// match is a difference between two clocks: how many moments speak for it, and
// how far it is from one that a zone makes.
type match struct {
	log    fault.Log
	offset int64
	n      int
	skew   int64
}

// wrongClock is how far a clock may be off before a match by few moments is
// rather a chance one.
const wrongClock = 3 * 60_000

// better prefers a difference that a zone explains, then the one for which
// more speaks.
func (m match) better(o match) bool {
	switch {
	case m.n == 0 || o.n == 0:
		return m.n > o.n
	case (m.skew < wrongClock) != (o.skew < wrongClock) && max(m.n, o.n) < 5:
		return m.skew < wrongClock
	}
	return m.n > o.n
}

// unmatched places a clock that no other log says anything about.
func (a *analysis) unmatched(k *clock) {
	if k.placed {
		return
	}
	k.how = "no other log to compare it with: its zone is not known"
	if k.log == logCAPF && !k.dated {
		if a.o.Day.IsZero() {
			k.how = "it has no date, and no other log to find one from"
			return
		}
		y, m, d := a.o.Day.Date()
		k.offset, k.dated = time.Date(y, m, d, 0, 0, 0, 0, time.UTC).UnixMilli()-yearOne, true
		k.how = "the day was given"
	}
	if k.hasZone {
		k.offset -= k.zone.Milliseconds()
		k.placed = true
		k.how += ", and the zone"
	}
}

// longest is how many moments there are of the most frequent kind.
func (s series) longest() int {
	n := 0
	for _, all := range s {
		n = max(n, len(all))
	}
	return n
}

// undated reports whether a series lies in the year one.
func undated(s series) bool {
	for _, all := range s {
		for _, at := range all {
			return at < yearOne+(366*24*time.Hour).Milliseconds()
		}
	}
	return true
}

// compare finds the difference between two clocks under which most moments of
// one fall on moments of the other.
func compare(k *clock, s series, reference *clock, r series, guess, limit int64) match {
	var best match
	for _, p := range pairs[[2]fault.Log{k.log, reference.log}] {
		if len(s[p[0]]) == 0 || len(r[p[1]]) == 0 {
			continue
		}
		diffs := differences{xs: s[p[0]], ys: r[p[1]], guess: guess - reference.offset, limit: limit}.frequent()
		if len(diffs) == 0 {
			continue
		}
		for i := range diffs {
			diffs[i] += reference.offset
		}
		step, host := (15 * time.Minute).Milliseconds(), int64(0)
		if k.log == logCAPF && reference.log == logError {
			step, host = (24 * time.Hour).Milliseconds(), reference.offset // the same machine's clock
		}
		m := vote(diffs, step, host)
		m.n = min(m.n, len(s[p[0]]))
		if m.better(best) {
			best = m
		}
	}
	return best
}

// series gathers the moments of every clock. They are counted first, so that
// long logs take no more room than they need.
func (a *analysis) series() map[*clock]series {
	n := map[*clock]map[string]int{}
	a.moments(func(k *clock, what string, _ int64, ok bool) {
		if n[k] == nil {
			n[k] = map[string]int{}
		}
		if ok {
			n[k][what]++
		}
	})
	all := map[*clock]series{}
	for k, kinds := range n {
		all[k] = series{}
		for what, n := range kinds {
			all[k][what] = make([]int64, 0, n)
		}
	}
	a.moments(func(k *clock, what string, at int64, ok bool) {
		if ok {
			all[k][what] = append(all[k][what], at)
		}
	})
	for _, s := range all {
		for _, moments := range s {
			slices.Sort(moments)
		}
	}
	return all
}

// moments calls add for everything that has a moment, ok telling whether it is
// of that kind.
func (a *analysis) moments(add func(k *clock, what string, at int64, ok bool)) {
	a.all.each(func(fact any) {
		switch f := fact.(type) {
		case *session:
			add(f.clock, "called", f.called.at, f.called.set())
			add(f.clock, "answered", f.answered.at, f.answered.set())
			add(f.clock, "fetched", f.answered.at, f.answered.set() && f.rv == 0)
			add(f.clock, "seen", f.last.at, !f.answered.set())
		case *request:
			add(f.clock, "ended", f.last.at, f.last.at != 0)
			add(f.clock, "good", f.last.at, f.last.at != 0 && f.status < 400)
			add(f.clock, "login", f.login.at, f.login.set())
		case *own:
			add(f.clock, "ended", f.end.at, f.done)
		case *exchange:
			at, ok := f.end.at, f.status < 400
			add(f.clock, "login", at, ok && f.web == webLogin)
			add(f.clock, "knocked", f.start(), !ok && f.web == webLogin && !f.user)
			add(f.clock, "fetched", at, ok && f.web == webFetch)
			add(f.clock, "submitted", at, ok && f.web == webSubmit)
			add(f.clock, "chain", at, ok && f.web == webChain)
		}
	})
	for _, s := range a.all.starts {
		add(s.clock, "login", s.login.at, s.log == logError && s.login.set())
		add(s.clock, "chain", s.chainAt.at, s.log == logError && s.chainAt.set())
	}
}
