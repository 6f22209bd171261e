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
	for _, e := range a.kept {
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
		Schema: Schema, Device: a.o.Device, Faults: []Fault{}, Starts: []Start{}, Enrolments: []Enrolment{},
		Missing: []Missing{}, Clocks: []Clock{}, Files: []File{}, Problems: []Problem{},
	}
	slices.SortStableFunc(a.kept, func(x, y *enrolment) int { return cmp.Compare(x.from, y.from) })
	for _, e := range a.kept {
		r.Enrolments = append(r.Enrolments, b.enrolment(e))
	}
	r.Totals = a.totals
	r.Totals.Listed = len(r.Enrolments)
	for _, s := range a.starts {
		if !a.wantedStart(s) {
			continue
		}
		r.Totals.Starts++
		r.Starts = append(r.Starts, b.start(s))
		if s.verdict != nil {
			r.Totals.FailedStarts++
		}
		a.faults.add(s.verdict, "")
	}
	for _, name := range w.order {
		f := *w.files[name]
		if a.folder != nil && !a.folder.holds(name) {
			continue
		}
		r.Totals.Lines += f.Lines
		r.Totals.UnknownLines += f.Unknown
		r.Files = append(r.Files, f)
	}
	slices.SortFunc(r.Files, func(x, y File) int { return natural(x.Name, y.Name) })
	for _, k := range a.all.clocks {
		if k.log != logStart {
			r.Clocks = append(r.Clocks, k.report())
		}
	}
	slices.SortFunc(r.Clocks, func(x, y Clock) int {
		return cmp.Or(cmp.Compare(x.Log, y.Log), cmp.Compare(x.Folder, y.Folder))
	})
	if a.folder != nil {
		r.Name = a.folder.name
	}
	w.mu.Lock()
	r.Problems, r.Notes = append(r.Problems, w.problems...), w.notes
	w.mu.Unlock()
	r.Faults = append(r.Faults, a.faults.all...)
	slices.SortStableFunc(r.Faults, func(x, y Fault) int { return cmp.Compare(y.Count, x.Count) })
	r.Missing = a.faults.missing()
	if len(r.Faults) == 0 && !a.present[logCAPF] && !a.present[logOwn] {
		r.Missing = append(r.Missing, Missing{Log: string(logCAPF), Why: phonesUnseen, Collect: howToCollect[logCAPF]})
	}
	r.decide()
	return r
}

// phonesUnseen is why CAPF's trace is missed where nothing wrong was found.
const phonesUnseen = "what fails between a phone and CAPF shows nowhere else"

// unseen tells whether logs without CAPF's say nothing at all: neither an
// enrolment nor a start of the service.
func (r *Report) unseen() bool {
	return r.Totals.Enrolments == 0 && r.Totals.Starts == 0 &&
		slices.ContainsFunc(r.Missing, func(m Missing) bool { return m.Why == phonesUnseen })
}

// count adds an enrolment to the totals.
func (a *analysis) count(e *enrolment) {
	t := &a.totals
	t.Enrolments++
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
	a.faults.add(e.verdict, e.device)
}

// decide sets the verdict and the exit status: 1 if a fault was named, 3 if
// something failed and nothing could be named, or nothing could be read or seen.
func (r *Report) decide() {
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
	case unnamed > 0, !recognised, r.Device != "" && r.Totals.Enrolments == 0, r.unseen(), r.Totals.Unfinished > 0 && r.Totals.Good == 0, slices.ContainsFunc(r.Problems, func(p Problem) bool { return !p.harmless }):
		r.Verdict, r.Exit = "could-not-tell", ExitCouldNotTell
	default:
		r.Verdict, r.Exit = "nothing-wrong", ExitNothingWrong
	}
}

// faultSum counts the findings of each kind, and gathers what is missing.
type faultSum struct {
	at  map[string]int
	all []Fault
	why map[fault.Log][]string
}

func (s *faultSum) add(v *verdict, device string) {
	if v == nil {
		return
	}
	if s.at == nil {
		s.at, s.why = map[string]int{}, map[fault.Log][]string{}
	}
	key := joinCodes(v.codes) + string(v.sure)
	i, ok := s.at[key]
	if !ok {
		i = len(s.all)
		s.at[key] = i
		s.all = append(s.all, Fault{Codes: names(v.codes), Confidence: v.sure})
	}
	f := &s.all[i]
	f.Count++
	if device != "" && len(f.Devices) < 5 && !slices.Contains(f.Devices, device) {
		f.Devices = append(f.Devices, device)
	}
	for _, log := range v.missing {
		if what := wouldTell(v.codes); !slices.Contains(s.why[log], what) && len(s.why[log]) < 3 {
			s.why[log] = append(s.why[log], what)
		}
	}
}

// wouldTell says what a missing log would tell.
func wouldTell(codes []fault.Code) string {
	switch {
	case len(codes) == 0:
		return "why it failed"
	case len(codes) == 1:
		return "whether it is really " + joinCodes(codes)
	case len(codes) > 4:
		return "which of " + joinCodes(codes[:3]) + " and others it is"
	}
	return "which of " + joinCodes(codes) + " it is"
}

// missing lists each missing log once.
func (s *faultSum) missing() []Missing {
	all := []Missing{}
	for _, log := range allLogs {
		if why := s.why[log]; len(why) > 0 {
			all = append(all, Missing{Log: string(log), Why: "it would tell " + strings.Join(why, "; and "), Collect: howToCollect[log]})
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
