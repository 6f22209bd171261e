package lab

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/onlineca/onlineca/ra/fault"
)

// The lines between which the table stands in README.md.
const (
	tableBegin = "<!-- faults:begin -->"
	tableEnd   = "<!-- faults:end -->"
)

// FailureTable is the table of all failures in Markdown, a line each.
func FailureTable() string {
	var b strings.Builder
	b.WriteString("| code | what is seen | curl | EST_ERR | HTTP | device |\n|---|---|---|---|---|---|\n")
	for _, c := range fault.Codes() {
		row := c.Row()
		fmt.Fprintf(&b, "| [`%s`](docs/failures.md#%s) | %s | %s | %s | %s | %s |\n", row.Name, row.Name, cell(row.Symptom),
			number(row.Curl), number(row.EST), number(row.HTTP), number(row.DeviceStatus))
	}
	return b.String()
}

func number(n int) string {
	if n == 0 {
		return ""
	}
	return strconv.Itoa(n)
}

// ReplaceTable puts the table of failures between its two marks in a text. It
// reports false for a text that does not have them.
func ReplaceTable(text string) (string, bool) {
	begin := strings.Index(text, tableBegin)
	end := strings.Index(text, tableEnd)
	if begin < 0 || end < begin {
		return text, false
	}
	return text[:begin+len(tableBegin)] + "\n" + FailureTable() + text[end:], true
}

const failuresHead = `# Failures

<!-- Written by: go generate ./testenv/lab. The text stands in ra/fault and in the scenarios of testenv/lab. -->

Every failure that this program knows by name: how it looks to each party on
the road, why it happens, what to do, and how to see it for yourself.
` + "`onlineca reproduce CODE`" + ` puts the fault into its place, lets a phone
enrol and leaves the logs that the product would have written;
` + "`onlineca diagnose`" + ` names the failure from such logs.

**curl** is what libcurl reports in the registration authority, with the numbers
of the product's release. **EST client** is what CAPF's EST client ends with.
**HTTP** is what this program's EST server answers. **Device** is the
tkcertificatestatus of the device afterwards, and CAPF's operation code.

`

// FailuresDoc is docs/failures.md.
func FailuresDoc() string {
	var b strings.Builder
	b.WriteString(failuresHead)
	b.WriteString("| code | symptom | takes | with the product's timing |\n|---|---|---|---|\n")
	docs := Scenarios()
	for _, d := range docs {
		takes, product := "not reproduced", ""
		if d.Reason == "" {
			takes, product = fmt.Sprintf("%.0f s", d.Takes.Seconds()), fmt.Sprintf("%.0f s", d.Product.Seconds())
		}
		fmt.Fprintf(&b, "| [`%s`](#%s) | %s | %s | %s |\n", d.Code.String(), d.Code.String(), cell(d.Symptom), takes, product)
	}
	for _, d := range docs {
		writeFailure(&b, d)
	}
	return b.String()
}

// writeFailure is the section of one failure.
func writeFailure(b *strings.Builder, d ScenarioDoc) {
	row := d.Code.Row()
	fmt.Fprintf(b, "\n## %s\n\n%s.\n\n", row.Name, upper(row.Symptom))
	fmt.Fprintf(b, "- **Cause**: %s\n- **What to do**: %s\n", plain(row.Cause), plain(row.Fix))
	item := func(name, format string, args ...any) {
		fmt.Fprintf(b, "- **%s**: %s\n", name, fmt.Sprintf(format, args...))
	}
	if row.Curl != 0 {
		item("curl", "%d, `%s`", row.Curl, strings.NewReplacer("{ms}", "N", "{host}", "HOST", "{subject}", "NAME").Replace(row.CurlText))
	}
	if row.EST != fault.ESTNone {
		item("EST client", "%d, %s", row.EST, fault.ESTName(row.EST))
	}
	if row.HTTP != 0 {
		item("HTTP", "%d", row.HTTP)
	}
	if row.DeviceStatus != 0 {
		item("Device", "tkcertificatestatus %d, operation code %d", row.DeviceStatus, row.Operation)
	}
	if len(row.HRESULTs) > 0 {
		item("Windows", "%s", hresults(row.HRESULTs))
	}
	if row.Bug != "" {
		item("Vendor's bug number", "%s", row.Bug)
	}
	for _, s := range row.Shows {
		item("Seen in", "%s: `%s`", logNames[s.Log], s.Line)
	}
	item("Trying again", "%s", again(row))
	if d.Reason != "" {
		item("Not reproduced", "%s", plain(d.Reason))
		return
	}
	item("Reproduced", "%s", plain(d.What))
	if note := scenarios[d.Code].note; note != "" && note != noRA {
		fmt.Fprintf(b, "\n%s\n", plain(strings.TrimSpace(strings.TrimPrefix(note, noRA))))
	}
}

// logNames are short names of the logs, with what they are called on disk.
var logNames = map[fault.Log]string{
	fault.LogCAPF: "CAPF trace", fault.LogStdout: "CiscoRA's printout", fault.LogError: "error.log",
	fault.LogIIS: "IIS", fault.LogOwn: "onlineca.jsonl",
	fault.DeviceTable: "device table, no log",
}

func hresults(all []uint32) string {
	all = slices.Clone(all)
	slices.Sort(all)
	words := make([]string, len(all))
	for i, h := range all {
		words[i] = fmt.Sprintf("0x%08x", h)
	}
	return strings.Join(words, ", ")
}

func again(row *fault.Row) string {
	text := map[fault.Retry]string{
		fault.Never:    "does not help",
		fault.AfterFix: "helps when the cause is mended",
		fault.Later:    "can help by itself, later",
	}[row.Retry]
	if row.Unsettled {
		text += "; but the request may have been granted: look before it is submitted again"
	}
	return text
}

// plain keeps a sentence of the table from meaning something in Markdown.
func plain(s string) string { return strings.NewReplacer("<", "&lt;", "*", `\*`).Replace(s) }

func upper(s string) string { return strings.ToUpper(s[:1]) + s[1:] }
