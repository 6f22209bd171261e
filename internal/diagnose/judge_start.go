package diagnose

import (
	"slices"

	"github.com/onlineca/onlineca/ra/fault"
)

// starting is one start of the service, as several logs show it.
type starting struct {
	parts   []*start
	at      int64 // UTC, 0 if no log says
	ok      bool
	verdict *verdict
}

// judgeStarts joins the starts that several logs show, and names the fault of
// those that failed.
func (a *analysis) judgeStarts() {
	byLog := map[fault.Log][]*start{}
	for _, s := range a.all.starts {
		byLog[s.log] = append(byLog[s.log], s)
	}
	// Our own log names codes, error.log has times, the printout has neither.
	for _, log := range []fault.Log{logOwn, logError, logStart} {
		for _, s := range byLog[log] {
			v := a.verdictOfStart(s)
			if t := a.sameStart(s, v); t != nil {
				t.join(s, v)
				continue
			}
			t := &starting{verdict: v, ok: v == nil && (s.chain || s.pid != 0 || s.chainAt.set()), parts: []*start{s}}
			if s.first.at != 0 {
				t.at = s.clock.utc(s.first.at)
			}
			a.starts = append(a.starts, t)
		}
	}
	slices.SortStableFunc(a.starts, func(x, y *starting) int {
		if x.at == 0 || y.at == 0 {
			return 0
		}
		return int(x.at/1000 - y.at/1000)
	})
	for _, t := range a.starts {
		if t.verdict != nil {
			t.verdict.missing = a.missing(t.verdict)
		}
	}
}

// sameStart finds the start that another log shows already. The printout has
// no times, so its starts are taken in their order.
func (a *analysis) sameStart(s *start, v *verdict) *starting {
	var candidates []*starting
	for _, t := range a.starts {
		if t.has(s.log) || (t.verdict == nil) != (v == nil) {
			continue
		}
		if v != nil && len(v.codes) > 0 && len(t.verdict.codes) > 0 && len(common(v.codes, t.verdict.codes)) == 0 {
			continue
		}
		if s.first.at != 0 && t.at != 0 && abs(s.clock.utc(s.first.at)-t.at) > 2*slack {
			continue
		}
		candidates = append(candidates, t)
	}
	if len(candidates) == 0 {
		return nil
	}
	return candidates[0]
}

func (t *starting) has(log fault.Log) bool {
	return slices.ContainsFunc(t.parts, func(s *start) bool { return s.log == log })
}

// join adds what another log says of the start.
func (t *starting) join(s *start, v *verdict) {
	t.parts = append(t.parts, s)
	if v == nil {
		t.ok = t.ok || s.chain || s.pid != 0
		return
	}
	if c := common(t.verdict.codes, v.codes); len(c) > 0 {
		if len(c) < len(t.verdict.codes) || len(c) == 1 {
			t.verdict.sure = v.sure
			if len(c) == 1 {
				t.verdict.sure, t.verdict.note = Certain, ""
			}
		}
		t.verdict.codes = c
	} else if len(t.verdict.codes) == 0 {
		t.verdict.codes, t.verdict.sure, t.verdict.note = v.codes, v.sure, v.note
	}
	t.verdict.add(v.evidence...)
}

func common(a, b []fault.Code) []fault.Code {
	var c []fault.Code
	for _, x := range a {
		if slices.Contains(b, x) {
			c = append(c, x)
		}
	}
	return c
}

// verdictOfStart returns nil for a start that did not fail.
func (a *analysis) verdictOfStart(s *start) *verdict {
	if len(s.failures) == 0 && !s.noChain.set() {
		return nil
	}
	v := &verdict{sure: Unsure}
	for _, f := range s.failures {
		v.add(evid{log: s.log, at: s.utc(f.point), ref: f.ref, to: f.to})
		if codes := ofFailure(f); codes != nil && len(v.codes) == 0 {
			v.codes, v.sure, v.note = codes, Certain, noteOf(codes)
			if len(codes) > 1 {
				v.sure = Likely
			}
		}
	}
	if s.noChain.set() {
		v.add(evid{log: s.log, at: s.utc(s.noChain), ref: s.noChain.ref})
	}
	if len(v.codes) == 0 {
		a.startByWeb(s, v)
	}
	return v
}

func (s *start) utc(p point) int64 {
	if p.at == 0 {
		return 0
	}
	return s.clock.utc(p.at)
}

// startByWeb: the login failed, but not by libcurl's fault. The log of IIS has
// the reason.
func (a *analysis) startByWeb(s *start, v *verdict) {
	var near []*exchange
	a.all.each(func(fact any) {
		x, ok := fact.(*exchange)
		if ok && len(near) < 1000 && (s.first.at == 0 || abs(x.clock.utc(x.end.at)-s.utc(s.first)) < patience) {
			near = append(near, x)
		}
	})
	if codes, x := ofLogins(near); codes != nil {
		v.codes, v.sure = codes, Likely
		v.add(x.evid())
		return
	}
	if len(s.failures) == 0 {
		v.codes = []fault.Code{fault.ChainUnreadable}
		v.note = "The chain did not arrive, and nothing says why."
		return
	}
	v.codes = append(slices.Clone(refusals), fault.NotChallenged)
	v.note = "The login failed without an error of the connection: the web server refused it. How, the IIS log says."
}
