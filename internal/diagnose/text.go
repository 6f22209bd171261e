package diagnose

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"golang.org/x/term"
)

// The colours of the text, and how each is switched off.
const (
	bold  = "\x1b[1m"
	red   = "\x1b[31m"
	green = "\x1b[32m"
	amber = "\x1b[33m"
	grey  = "\x1b[90m"
	reset = "\x1b[0m"
)

// WriteText writes the report for people.
func (r Report) WriteText(w io.Writer, colour Colour) error {
	b := bufio.NewWriter(w)
	t := &text{w: b, colour: colour == ColourOn || colour == ColourAuto && isTerminal(w)}
	t.summary(r)
	for _, n := range r.Notes {
		t.say("  %s %s\n", t.in(amber, "note:"), n)
	}
	t.findings(r)
	for _, c := range r.Clusters {
		t.say("\n%s\n", t.in(bold, "=== "+c.Name))
		t.summary(c)
		t.findings(c)
	}
	t.read(r)
	for _, c := range r.Clusters {
		t.clocks(c)
	}
	return b.Flush()
}

func (t *text) findings(r Report) {
	t.starts(r)
	t.enrolments(r)
	t.missing(r)
}

// isTerminal reports whether colours are welcome (https://no-color.org).
func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && os.Getenv("NO_COLOR") == "" && term.IsTerminal(int(f.Fd()))
}

type text struct {
	w      io.Writer
	colour bool
}

func (t *text) say(format string, args ...any) { fmt.Fprintf(t.w, format, args...) }

func (t *text) in(colour, s string) string {
	if !t.colour {
		return s
	}
	return colour + s + reset
}

func (t *text) summary(r Report) {
	n := r.Totals
	switch r.Verdict {
	case "nothing-wrong":
		t.say("%s", t.in(green+bold, "Nothing wrong."))
	case "faults":
		t.say("%s", t.in(red+bold, "Faults found."))
	default:
		t.say("%s", t.in(amber+bold, "Could not tell."))
	}
	if len(r.Clusters) > 0 {
		t.say(" %d clusters,", len(r.Clusters))
	}
	t.say(" %s", plural(n.Enrolments, "enrolment"))
	if r.Device != "" {
		t.say(" of %s", printable([]byte(r.Device)))
	}
	t.say(": %d good, %d failed", n.Good, n.Failed)
	for _, p := range []struct {
		n    int
		what string
	}{{n.Pending, "pending"}, {n.Unfinished, "without an end in the logs"}, {n.Slow, "good but slow"}} {
		if p.n > 0 {
			t.say(", %d %s", p.n, p.what)
		}
	}
	if n.Starts > 0 {
		t.say("; %s of the service, %d failed", plural(n.Starts, "start"), n.FailedStarts)
	}
	t.say(".\n")
	for _, f := range r.Faults {
		t.say("  %5d × %s", f.Count, t.codes(f.Codes, f.Confidence))
		if len(f.Devices) > 0 {
			t.say("  %s", strings.Join(f.Devices, ", "))
			if f.Count > len(f.Devices) {
				t.say(", …")
			}
		}
		t.say("\n")
	}
}

func (t *text) codes(codes []string, c Confidence) string {
	s := strings.Join(codes, " or ")
	if len(codes) > 6 {
		s = strings.Join(codes[:3], ", ") + fmt.Sprintf(" or %d others", len(codes)-3)
	}
	if s == "" {
		s = "no known fault"
	}
	colour := red
	if c == Unsure {
		colour = amber
	}
	return t.in(colour, s) + " (" + string(c) + ")"
}

func (t *text) starts(r Report) {
	for _, s := range r.Starts {
		if s.Finding == nil {
			continue
		}
		t.say("\n%s", t.in(bold, "Start of the service"))
		if s.Time != nil {
			t.say(" at %s", s.Time.Format("2006-01-02 15:04:05Z"))
		}
		t.say(" (%s): %s\n", strings.Join(s.Logs, ", "), t.in(red, "failed"))
		t.finding(s.Finding)
	}
}

func (t *text) enrolments(r Report) {
	for _, e := range r.Enrolments {
		if e.Outcome == OutcomeGood && !e.Slow && e.Finding == nil {
			continue
		}
		t.enrolment(e)
	}
	quiet := 0
	for _, e := range r.Enrolments {
		if e.Outcome == OutcomeGood && !e.Slow && e.Finding == nil {
			if quiet == 0 {
				t.say("\n%s\n", t.in(bold, "Good enrolments"))
			}
			quiet++
			t.say("  %-20s %s  %8s%s\n", name(e), when(e), ms(e.Duration), where(e))
		}
	}
	if left := r.Totals.Enrolments - r.Totals.Listed; left > 0 && len(r.Clusters) == 0 {
		t.say("  … and %d more that are not listed.\n", left)
	}
}

func (t *text) enrolment(e Enrolment) {
	colour := red
	outcome := string(e.Outcome)
	if e.Outcome != OutcomeFailed {
		colour = amber
	}
	if e.Slow {
		outcome = "good, but slow"
	}
	t.say("\n%s at %s: %s after %s", t.in(bold, name(e)), when(e), t.in(colour, outcome), ms(e.Duration))
	if e.Several {
		t.say(" (matched by time and order)")
	}
	t.say("\n")
	for _, m := range e.Timeline {
		mark := " "
		what := m.What
		if m.Bad {
			mark, what = t.in(red, "!"), t.in(red, m.What)
		}
		t.say("  %s %+9.3f s  %-9s %s  %s\n", mark, float64(m.Offset)/1000, m.Log, what, t.in(grey, place(m.File, m.Line)))
	}
	if e.Slow {
		t.say("  the time went into:%s\n", where(e))
	}
	if e.Finding != nil {
		t.finding(e.Finding)
	}
}

func (t *text) finding(f *Finding) {
	t.say("  %s %s\n", t.in(bold, "fault:"), t.codes(f.Codes, f.Confidence))
	for _, p := range []struct{ name, text string }{
		{"what:", f.Symptom}, {"cause:", f.Cause}, {"fix:", f.Fix}, {"note:", f.Note}, {"bug:", f.Bug},
	} {
		if p.text != "" {
			t.say("  %-6s %s\n", p.name, p.text)
		}
	}
	for _, e := range f.Evidence {
		if e.File == "" {
			t.say("    %s: %s\n", e.Log, e.Text)
			continue
		}
		t.say("    %s\n      %s\n", t.in(grey, place(e.File, e.Line)), e.Text)
	}
	if len(f.Missing) > 0 {
		t.say("  not there, and it would say more: %s\n", strings.Join(f.Missing, ", "))
	}
}

func (t *text) missing(r Report) {
	if len(r.Missing) == 0 {
		return
	}
	t.say("\n%s\n", t.in(bold, "What is missing"))
	for _, m := range r.Missing {
		t.say("  no %s: %s.\n      collect it: %s\n", m.Log, m.Why, m.Collect)
	}
}

func (t *text) read(r Report) {
	t.say("\n%s\n", t.in(bold, "What was read"))
	others := 0
	for _, f := range r.Files {
		if f.Log == "" {
			others++
			continue
		}
		if f.SameAs != "" {
			t.say("  %-9s %s: the same as %s\n", f.Log, f.Name, f.SameAs)
			continue
		}
		t.say("  %-9s %s: %s, %s", f.Log, f.Name, plural(f.Lines, "line"), bytesText(f.Bytes))
		if f.Unknown > 0 {
			t.say(", %d of them not understood", f.Unknown)
		}
		if f.Cut > 0 {
			t.say(", %d too long to keep whole", f.Cut)
		}
		t.say("\n")
	}
	if others > 0 {
		t.say("  %s without a line of any log of the chain\n", plural(others, "file"))
	}
	t.clocks(r)
	for _, p := range r.Problems {
		t.say("  %s %s: %s\n", t.in(amber, "not read:"), p.File, p.Text)
	}
}

func (t *text) clocks(r Report) {
	for _, c := range r.Clocks {
		t.say("  clock of %s in %s: ", c.Log, c.Folder)
		if c.Known {
			t.say("%s", c.Zone)
			if c.Skew != 0 {
				t.say(" and %+.1f s", c.Skew)
			}
			t.say(" (%s)\n", c.How)
		} else {
			t.say("%s\n", c.How)
		}
	}
}

// name is what an enrolment is called.
func name(e Enrolment) string {
	switch {
	case e.Device != "":
		return e.Device
	case e.ReqID != 0:
		return fmt.Sprintf("request %d", e.ReqID)
	}
	return "a device not named"
}

func when(e Enrolment) string {
	if e.Start == nil {
		return e.Clock + " (no date)"
	}
	return e.Start.Format("2006-01-02 15:04:05.000Z")
}

// where says into which exchanges the time went, the longest first.
func where(e Enrolment) string {
	all := slices.Clone(e.Exchanges)
	slices.SortStableFunc(all, func(x, y Exchange) int { return int(y.Duration - x.Duration) })
	var parts []string
	for i, x := range all {
		if i < 3 && x.Duration > 0 {
			parts = append(parts, fmt.Sprintf("%s %s", x.What, ms(x.Duration)))
		}
	}
	if len(parts) == 0 {
		return ""
	}
	return "  " + strings.Join(parts, ", ")
}

func place(file string, line int) string {
	if file == "" {
		return ""
	}
	return fmt.Sprintf("%s:%d", file, line)
}

func plural(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}
