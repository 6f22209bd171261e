package capf

import (
	"crypto/x509"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/onlineca/onlineca/ra/fault"
)

// tableRows is how many results are listed one by one. Of a larger batch only
// what went wrong is.
const tableRows = 50

// WriteTable writes the summary for a person: a table of the results, the
// totals, and for each kind of failure what to do about it. Of a batch of more
// than 50 only failures and warnings are listed.
func (s Summary) WriteTable(w io.Writer) error {
	rows := s.Results
	if len(rows) > tableRows {
		rows = slices.DeleteFunc(slices.Clone(rows), func(r JobResult) bool {
			return (r.Err == nil || r.Outcome == OutcomeCanceled) && len(r.Warnings) == 0
		})
	}
	if len(rows) > 0 {
		tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
		fmt.Fprintln(tw, "DEVICE\tRESULT\tTIME\tSERIAL\tNOT AFTER\tSUBJECT OR REASON")
		for _, r := range rows {
			fmt.Fprintln(tw, tableRow(r))
		}
		if err := tw.Flush(); err != nil {
			return fmt.Errorf("write the summary: %w", err)
		}
	}
	_, err := io.WriteString(w, s.totals()+s.hints())
	if err != nil {
		return fmt.Errorf("write the summary: %w", err)
	}
	return nil
}

func tableRow(r JobResult) string {
	cells := []string{r.Device, string(r.Outcome), "-", "-", "-", ""}
	if r.Took > 0 {
		cells[2] = r.Took.Round(time.Millisecond).String()
	}
	if r.Certificate != nil {
		cells[3] = serialText(r.Certificate)
		cells[4] = r.Certificate.NotAfter.UTC().Format(time.DateOnly)
		cells[5] = r.Certificate.Subject.String()
	}
	if r.Err != nil {
		cells[5] = oneLine(r.Err.Error())
	}
	for _, w := range r.Warnings {
		cells[5] += "; warning: " + oneLine(w.Error())
	}
	for i, c := range cells {
		cells[i] = strings.Map(estPrintable, c)
	}
	return strings.Join(cells, "\t")
}

func serialText(c *x509.Certificate) string { return fmt.Sprintf("%x", c.SerialNumber) }

// totals is one line: how many of each outcome, and how long it took.
func (s Summary) totals() string {
	parts := []string{fmt.Sprintf("%d issued", s.Issued)}
	for _, p := range []struct {
		n    int
		text string
	}{{s.Skipped, "there already"}, {s.Failed, "failed"}, {s.Canceled, "not done"}} {
		if p.n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", p.n, p.text))
		}
	}
	devices := "devices"
	if len(s.Results) == 1 {
		devices = "device"
	}
	return fmt.Sprintf("%d %s: %s, in %v\n", len(s.Results), devices, strings.Join(parts, ", "), s.Took.Round(time.Millisecond))
}

// hints is one line for each kind of failure, in the order of the table of
// faults.
func (s Summary) hints() string {
	count := map[fault.Code]int{}
	for _, r := range s.Results {
		if r.Outcome == OutcomeFailed && r.Code != fault.Unknown {
			count[r.Code]++
		}
		for _, w := range r.Warnings {
			count[fault.Of(w).Code]++
		}
	}
	var b strings.Builder
	for _, code := range slices.Sorted(maps.Keys(count)) {
		fmt.Fprintf(&b, "hint: %s (%d): %s\n", code.String(), count[code], code.Row().Fix)
	}
	return b.String()
}
