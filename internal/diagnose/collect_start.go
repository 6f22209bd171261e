package diagnose

import (
	"slices"
	"strings"

	"github.com/onlineca/onlineca/ra/event"
)

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

// takes reports whether an event belongs to the start under way, if there is one.
func (f *startFacts) takes(k *clock, e event.Event) bool { return f.cur != nil && !f.cur.again(k, e) }

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
