package diagnose

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/onlineca/onlineca/ra/fault"
)

// maxListed bounds the failed enrolments that are listed one by one.
const maxListed = 2000

// listed are the enrolments that the report shows one by one: the failed ones,
// the slow ones, and some of the good ones.
func (a *analysis) listed() []*enrolment {
	good, bad := max(0, a.o.Good), maxListed
	var all []*enrolment
	for _, e := range a.enrolments {
		left := &bad
		if e.outcome == OutcomeGood && e.verdict == nil && !a.slow(e) {
			left = &good
		}
		if *left > 0 {
			*left--
			all = append(all, e)
		}
	}
	return all
}

func (a *analysis) slow(e *enrolment) bool {
	return e.outcome == OutcomeGood && e.to-e.from >= a.o.Slow.Milliseconds()
}

// wanted are the lines that the report shows.
func (a *analysis) wanted() map[ref]bool {
	want := map[ref]bool{}
	add := func(r ref) {
		if r.line != 0 {
			want[r] = true
		}
	}
	for _, e := range a.listed() {
		for _, m := range a.timeline(e) {
			add(m.ref)
		}
		if e.verdict != nil {
			e.verdict.refs(add)
		}
	}
	for _, s := range a.starts {
		if s.verdict != nil {
			s.verdict.refs(add)
		}
	}
	return want
}

func (v *verdict) refs(add func(ref)) {
	for _, x := range v.evidence {
		add(x.ref)
		if x.to.file == x.ref.file {
			for l := x.ref.line + 1; l <= x.to.line && l < x.ref.line+4; l++ {
				add(ref{x.ref.file, l})
			}
		}
	}
}

// report builds what is written.
func (a *analysis) report(w *walker) Report {
	b := &builder{a: a, w: w}
	r := Report{
		Schema: Schema, Faults: []Fault{}, Starts: []Start{}, Enrolments: []Enrolment{},
		Missing: []Missing{}, Clocks: []Clock{}, Files: []File{}, Problems: []Problem{},
	}
	for _, e := range a.listed() {
		r.Enrolments = append(r.Enrolments, b.enrolment(e))
	}
	for _, s := range a.starts {
		r.Starts = append(r.Starts, b.start(s))
	}
	for _, name := range w.order {
		f := *w.files[name]
		r.Totals.Lines += f.Lines
		r.Totals.UnknownLines += f.Unknown
		r.Files = append(r.Files, f)
	}
	for _, k := range a.facts.clocks {
		if k.log != logStart {
			r.Clocks = append(r.Clocks, k.report())
		}
	}
	slices.SortFunc(r.Clocks, func(x, y Clock) int {
		return cmp.Or(cmp.Compare(x.Log, y.Log), cmp.Compare(x.Folder, y.Folder))
	})
	w.mu.Lock()
	r.Problems = append(r.Problems, w.problems...)
	w.mu.Unlock()
	a.count(&r)
	r.Faults = a.sum()
	r.Missing = a.allMissing()
	a.decide(&r)
	return r
}

func (a *analysis) count(r *Report) {
	t := &r.Totals
	t.Enrolments, t.Listed, t.Starts = len(a.enrolments), len(r.Enrolments), len(a.starts)
	for _, e := range a.enrolments {
		switch e.outcome {
		case OutcomeGood:
			t.Good++
		case OutcomeFailed:
			t.Failed++
		case OutcomePending:
			t.Pending++
		default:
			t.Unfinished++
		}
		if a.slow(e) {
			t.Slow++
		}
	}
	for _, s := range a.starts {
		if s.verdict != nil {
			t.FailedStarts++
		}
	}
}

// decide sets the verdict and the exit status: 1 if a fault was named, 3 if
// something failed and nothing could be named, or nothing could be read.
func (a *analysis) decide(r *Report) {
	named, unnamed := 0, 0
	for _, f := range r.Faults {
		if f.Confidence == Unsure {
			unnamed += f.Count
		} else {
			named += f.Count
		}
	}
	recognised := slices.ContainsFunc(r.Files, func(f File) bool { return f.Log != "" })
	switch {
	case named > 0:
		r.Verdict, r.Exit = "faults", ExitFaults
	case unnamed > 0, !recognised, r.Totals.Unfinished > 0 && r.Totals.Good == 0, slices.ContainsFunc(r.Problems, func(p Problem) bool { return p.Refused }):
		r.Verdict, r.Exit = "could-not-tell", ExitCouldNotTell
	default:
		r.Verdict, r.Exit = "nothing-wrong", ExitNothingWrong
	}
}

// sum counts the findings of each kind.
func (a *analysis) sum() []Fault {
	at := map[string]int{}
	all := []Fault{}
	add := func(v *verdict, device string) {
		if v == nil {
			return
		}
		key := joinCodes(v.codes) + string(v.sure)
		i, ok := at[key]
		if !ok {
			i = len(all)
			at[key] = i
			all = append(all, Fault{Codes: names(v.codes), Confidence: v.sure})
		}
		f := &all[i]
		f.Count++
		if device != "" && len(f.Devices) < 5 && !slices.Contains(f.Devices, device) {
			f.Devices = append(f.Devices, device)
		}
	}
	for _, s := range a.starts {
		add(s.verdict, "")
	}
	for _, e := range a.enrolments {
		add(e.verdict, e.device)
	}
	slices.SortStableFunc(all, func(x, y Fault) int { return cmp.Compare(y.Count, x.Count) })
	return all
}

// allMissing lists each missing log once, with what it would tell.
func (a *analysis) allMissing() []Missing {
	why := map[fault.Log][]string{}
	add := func(v *verdict) {
		if v == nil {
			return
		}
		for _, log := range v.missing {
			what := joinCodes(v.codes)
			switch {
			case len(v.codes) == 0:
				what = "why it failed"
			case len(v.codes) == 1:
				what = "whether it is really " + what
			case len(v.codes) > 4:
				what = "which of " + joinCodes(v.codes[:3]) + " and others it is"
			default:
				what = "which of " + what + " it is"
			}
			if !slices.Contains(why[log], what) && len(why[log]) < 3 {
				why[log] = append(why[log], what)
			}
		}
	}
	for _, s := range a.starts {
		add(s.verdict)
	}
	for _, e := range a.enrolments {
		add(e.verdict)
	}
	all := []Missing{}
	for _, log := range allLogs {
		if len(why[log]) > 0 {
			all = append(all, Missing{Log: string(log), Why: "it would tell " + strings.Join(why[log], "; and "), Collect: howToCollect[log]})
		}
	}
	return all
}

func names(codes []fault.Code) []string {
	all := make([]string, len(codes))
	for i, c := range codes {
		all[i] = c.String()
	}
	return all
}

// report says what was found about a clock. Zones are multiples of a quarter
// of an hour; what remains is a clock that is wrong.
func (k *clock) report() Clock {
	c := Clock{Log: string(k.log), Folder: k.name, Known: k.placed, Matches: k.matches, How: k.how}
	if !k.placed {
		return c
	}
	ahead := -k.offset
	if day := int64(24 * time.Hour / time.Millisecond); abs(ahead) > 2*day {
		ahead = ((ahead+day/2)%day+day)%day - day/2 // a date, and what is left of a day
	}
	step := (15 * time.Minute).Milliseconds()
	zone := (abs(ahead) + step/2) / step * step
	if ahead < 0 {
		zone = -zone
	}
	c.Skew = float64((ahead-zone)/100) / 10
	sign := '+'
	if zone < 0 {
		sign = '-'
	}
	minutes := abs(zone) / 60_000
	c.Zone = fmt.Sprintf("UTC%c%02d:%02d", sign, minutes/60, minutes%60)
	return c
}
