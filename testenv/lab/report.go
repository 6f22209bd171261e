package lab

import (
	"bytes"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/moby/sys/atomicwriter"

	"github.com/onlineca/onlineca/ra/fault"
)

// logTitles say what each log is, to a person who has never seen one.
var logTitles = map[fault.Log]string{
	fault.LogCAPF:   "CAPF trace",
	fault.LogStdout: "What CiscoRA prints when it starts",
	fault.LogError:  "nginx error.log, with libEST's lines",
	fault.LogIIS:    "IIS",
	fault.LogOwn:    "Our own log",
}

// shownLines bounds how many lines of one log a report shows.
const shownLines = 40

// report writes report.md and diagram.svg.
func (r *run) report(out Reproduction, marks []sighting) error {
	d := r.diagram()
	if err := atomicwriter.WriteFile(filepath.Join(r.dir, diagramFile), d.svg(), 0o644); err != nil {
		return fmt.Errorf("lab: write the diagram: %w", err)
	}
	var b bytes.Buffer
	r.introduce(&b, out)
	r.tell(&b)
	fmt.Fprintf(&b, "## Sequence\n\n![The sequence of messages](%s)\n\n```mermaid\n%s```\n\n", diagramFile, d.mermaid())
	fmt.Fprintf(&b, "## What each log shows\n\nLines marked ▶ are those by which the failure is known.\n\n")
	for _, log := range logOrder {
		r.show(&b, log, marks)
	}
	if err := atomicwriter.WriteFile(filepath.Join(r.dir, reportFile), b.Bytes(), 0o644); err != nil {
		return fmt.Errorf("lab: write the report: %w", err)
	}
	return nil
}

// introduce says what this is, and whether it is what it should be.
func (r *run) introduce(b *bytes.Buffer, out Reproduction) {
	row := r.code.Row()
	fmt.Fprintf(b, "# %s: %s\n\n", row.Name, row.Symptom)
	fmt.Fprintf(b, "Reproduced by `onlineca reproduce %s` on %s, in %.1f s, with %s.\n\n", row.Name,
		r.began.Format(time.RFC1123Z), out.Took.Seconds(), plural(r.phones, "phone"))
	if len(out.Differences) == 0 {
		b.WriteString("It appeared exactly as the table of failures says.\n\n")
	} else {
		b.WriteString("**It did not appear as the table of failures says:**\n\n")
		for _, d := range out.Differences {
			fmt.Fprintf(b, "- %s\n", d)
		}
		b.WriteString("\n")
	}
	fmt.Fprintf(b, "| | |\n|---|---|\n| Cause | %s |\n| What to do | %s |\n", cell(row.Cause), cell(row.Fix))
	for _, kv := range r.facts() {
		fmt.Fprintf(b, "| %s | %s |\n", kv[0], cell(kv[1]))
	}
	b.WriteString("\n")
}

// facts are the numbers by which others know the failure.
func (r *run) facts() [][2]string {
	row := r.code.Row()
	var all [][2]string
	add := func(key, value string) { all = append(all, [2]string{key, value}) }
	if row.Curl != 0 {
		text := strings.NewReplacer("{ms}", "N", "{host}", "HOST", "{subject}", "NAME").Replace(row.CurlText)
		add("libcurl", fmt.Sprintf("%d, %s", row.Curl, text))
	}
	if row.EST != fault.ESTNone {
		add("EST client", fmt.Sprintf("%d, %s", row.EST, fault.ESTName(row.EST)))
	}
	if row.DeviceStatus != 0 {
		add("Device table", fmt.Sprintf("tkcertificatestatus %d, CAPF operation code %d", row.DeviceStatus, row.Operation))
	}
	if row.Bug != "" {
		add("Vendor's bug number", row.Bug)
	}
	return all
}

// tell says what was done and what became of the devices.
func (r *run) tell(b *bytes.Buffer) {
	fmt.Fprintf(b, "## What was done\n\n%s\n\n", r.scenario.done)
	if r.scenario.note != "" {
		fmt.Fprintf(b, "%s\n\n", r.scenario.note)
	}
	if r.scenario.waits > 0 {
		fmt.Fprintf(b, "What never answers was waited for %v here (%s milliseconds in the logs)", r.timeout(), milliseconds(r.timeout()))
		if r.config.ProductTiming {
			b.WriteString(", as the product does.\n\n")
		} else {
			b.WriteString("; the product waits ten seconds (`--product-timing`).\n\n")
		}
	}
	if r.failed != nil {
		fmt.Fprintf(b, "The registration authority said when it gave up: `%s`\n\n", code(r.failed.Error()))
	}
	b.WriteString("| device | EST client | device table | reason |\n|---|---|---|---|\n")
	last := map[string]string{}
	for _, e := range r.logs.entries {
		if e.Kind == "capf-enrolled" && e.Event.RV != nil {
			last[e.Event.Device] = fmt.Sprintf("%d, %s", *e.Event.RV, e.Event.Name)
		}
	}
	names := make([]string, 0, len(r.cast.table.rows))
	for _, d := range r.cast.table.rows {
		names = append(names, d.Name)
	}
	slices.Sort(names)
	for _, n := range names {
		d := r.cast.table.rows[strings.ToLower(n)]
		est := last[n]
		if est == "" {
			est = "not asked"
		}
		fmt.Fprintf(b, "| %s | %s | %d, %s | %s |\n", n, est, int(d.Status), d.Status, cell(d.Reason))
	}
	b.WriteString("\n")
}

// show is one log, with its context and the lines that matter marked.
func (r *run) show(b *bytes.Buffer, log fault.Log, marks []sighting) {
	f := r.logs.files[log]
	fmt.Fprintf(b, "### %s: `%s`\n\n", logTitles[log], f.path)
	marked := r.alsoMarked(log)
	for _, m := range marks {
		if m.Log != log {
			continue
		}
		for _, i := range m.lines {
			marked[i] = true
		}
		if strings.Contains(m.Line, "but no ") || strings.Contains(m.Line, "never ") || len(m.lines) == 0 {
			fmt.Fprintf(b, "Look for: %s.\n\n", m.Line)
		}
	}
	lines := r.excerpt(log, f.lines, marked)
	if len(lines) == 0 {
		b.WriteString("Nothing.\n\n")
		return
	}
	if len(marked) == 0 {
		b.WriteString("Nothing here names the failure.\n\n")
	}
	b.WriteString("```text\n")
	for _, l := range lines {
		b.WriteString(l + "\n")
	}
	b.WriteString("```\n\n")
}

// alsoMarked are the lines that name the failure, though the table does not
// speak of them: our own log has its code, and what is printed at the start
// stands in error.log as well.
func (r *run) alsoMarked(log fault.Log) map[int]bool {
	marked := map[int]bool{}
	switch log {
	case fault.LogOwn:
		for _, i := range r.lookAtOwn(r.code.String()) {
			marked[i] = true
		}
	case fault.LogError:
		for _, s := range r.code.Row().Shows {
			if s.Log != fault.LogStdout {
				continue
			}
			for _, i := range matching(r.logs.files[log].lines, linePattern(s.Line)) {
				marked[i] = true
			}
		}
	}
	return marked
}

// excerpt picks the lines of a log that a report shows.
func (r *run) excerpt(log fault.Log, lines []string, marked map[int]bool) []string {
	var picked []int
	for i, line := range lines {
		if marked[i] || r.ofInterest(log, line) {
			picked = append(picked, i)
		}
	}
	all := len(picked)
	picked = trim(picked, marked)
	var out []string
	if len(picked) < all {
		out = append(out, fmt.Sprintf("  … %d of %d lines …", len(picked), all))
	}
	for _, i := range picked {
		mark := "  "
		if marked[i] {
			mark = "▶ "
		}
		out = append(out, mark+shorten(lines[i], 400))
	}
	return out
}

// trim leaves the marked lines, and of the others so many that the whole is not
// too long: those nearest to a mark, or the last ones.
func trim(picked []int, marked map[int]bool) []int {
	if len(picked) <= shownLines {
		return picked
	}
	at := len(picked) - 1
	for n, i := range picked {
		if marked[i] {
			at = n
			break
		}
	}
	from := max(0, min(at-shownLines/2, len(picked)-shownLines))
	return picked[from : from+shownLines]
}

// ofInterest says whether a line is worth showing beside the marked ones.
func (r *run) ofInterest(log fault.Log, line string) bool {
	switch log {
	case fault.LogCAPF:
		return !strings.Contains(line, "|-->") && !strings.Contains(line, "|<--") && !strings.Contains(line, "|   Select(")
	case fault.LogStdout:
		return !strings.Contains(line, "Adding cert to store")
	case fault.LogOwn:
		return strings.Contains(line, `"code":"`)
	default:
		return true
	}
}

func shorten(s string, n int) string {
	if len(s) <= n {
		return s
	}
	return strings.ToValidUTF8(s[:n], "") + " …"
}

// cell makes a text fit into a cell of a Markdown table.
func cell(s string) string {
	return strings.NewReplacer("|", `\|`, "\n", " ", "<", "&lt;").Replace(s)
}

// code makes a text fit between backquotes.
func code(s string) string { return strings.NewReplacer("`", "'", "\n", " ").Replace(s) }

func plural(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}
