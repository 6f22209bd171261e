package app

import (
	"fmt"
	"io"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/onlineca/onlineca/internal/chain"
)

// DoctorText writes a report for a person at a terminal, in lines of at most
// 80 characters: the steps as they come (see DoctorOptions.Observe), then what
// is wrong and what to do about it.
type DoctorText struct {
	W io.Writer
	// Color marks the steps' outcomes in colour.
	Color bool

	begun bool
}

// doctorWidth is how wide a report is made. A word that is longer than a line
// is not broken: it may be something to copy.
const doctorWidth = 80

var doctorMarks = map[DoctorStatus]struct{ word, color string }{
	DoctorOK:   {"ok  ", "\x1b[32m"},
	DoctorWarn: {"warn", "\x1b[33m"},
	DoctorFail: {"FAIL", "\x1b[1;31m"},
	DoctorSkip: {"skip", "\x1b[2m"},
}

// mark is the word for a status, in colour if there is to be any.
func (t *DoctorText) mark(s DoctorStatus) string {
	m := doctorMarks[s]
	if !t.Color {
		return m.word
	}
	return m.color + m.word + "\x1b[0m"
}

// Step writes one step, its facts and certificates.
func (t *DoctorText) Step(s DoctorStep) {
	var b strings.Builder
	if !t.begun {
		t.begun = true
		b.WriteString("      step                 time  outcome\n")
	}
	took := elapsed(s.took)
	if s.Status == DoctorSkip {
		took = "-"
	}
	label := fmt.Sprintf("%-15s  %8s  ", s.Step, took)
	indent := strings.Repeat(" ", len("ok    ")+len(label))
	for i, line := range wrap(s.Summary, doctorWidth-len(indent)) {
		if i == 0 {
			line = t.mark(s.Status) + "  " + label + line
		} else {
			line = indent + line
		}
		b.WriteString(line + "\n")
	}
	for _, c := range s.Certificates {
		writeCertificate(&b, c)
	}
	for _, n := range s.Notes {
		hanging(&b, "        - ", n)
	}
	fmt.Fprint(t.W, b.String())
}

// elapsed is a duration in a few letters.
func elapsed(d time.Duration) string {
	switch {
	case d < time.Millisecond:
		return "<1 ms"
	case d < time.Second:
		return fmt.Sprintf("%d ms", d.Milliseconds())
	default:
		return fmt.Sprintf("%.1f s", d.Seconds())
	}
}

func writeCertificate(b *strings.Builder, c DoctorCertificate) {
	number := fmt.Sprintf("%8d  ", c.Position)
	indent := strings.Repeat(" ", len(number))
	hanging(b, number, c.Subject)
	by := "issued by " + c.Issuer
	if c.Issuer == c.Subject {
		by = "self-signed"
	}
	hanging(b, indent, by)
	hanging(b, indent, fmt.Sprintf("%s to %s, %s", day(c.NotBefore), day(c.NotAfter), c.Key))
	if len(c.KeyUsage) > 0 {
		hanging(b, indent, "for "+strings.Join(c.KeyUsage, ", "))
	}
	if len(c.Names) > 0 {
		hanging(b, indent, "names "+strings.Join(c.Names, ", "))
	}
}

// End writes what is wrong, and the verdict.
func (t *DoctorText) End(r *DoctorReport) {
	var b strings.Builder
	for i := range r.Steps {
		s := &r.Steps[i]
		for _, p := range s.Problems {
			title := s.Step
			if p.Code != "" {
				title += ": " + p.Code
			}
			fmt.Fprintf(&b, "\n%s  %s\n", t.mark(p.Level), title)
			hanging(&b, "      what   ", p.What)
			hanging(&b, "      cause  ", p.Cause)
			hanging(&b, "      fix    ", p.Fix)
		}
	}
	b.WriteString("\n")
	if e := r.Issued; e != nil {
		hanging(&b, "", e.words())
		if e.Revoke != "" {
			b.WriteString("  " + e.Revoke + "\n")
		}
	}
	if l := r.Step(stepLogin); r.FailedLogons > 0 || l != nil && l.Status != DoctorSkip {
		hanging(&b, "", fmt.Sprintf("This run caused %s of %s.", times(r.FailedLogons), chain.Printable(r.Username)))
	}
	hanging(&b, "", r.verdict())
	fmt.Fprint(t.W, b.String())
}

func (e *DoctorEnrollment) words() string {
	switch {
	case e.Certificate != nil:
		return fmt.Sprintf("Certificate %d of the CA (%s) was for this test. On the CA, revoke it:", e.ReqID, e.Certificate.Subject)
	case e.State == "pending":
		return fmt.Sprintf("Request %d waits on the CA and was for this test. Deny it there:", e.ReqID)
	default:
		return "A certificate may have been issued for this test: see enrolment."
	}
}

func (r *DoctorReport) verdict() string {
	failed, warned := r.count(DoctorFail), r.count(DoctorWarn)
	also := ""
	if warned > 0 {
		also = fmt.Sprintf(" %s to look at.", plural(warned, "warning"))
	}
	switch {
	case r.Interrupted:
		return "Interrupted before the end."
	case failed > 0:
		return fmt.Sprintf("A phone would fail: %s failed.%s", plural(failed, "step"), also)
	case !r.Enroll:
		return "A phone would succeed, as far as can be seen without --enroll." + also
	default:
		return "A phone would succeed." + also
	}
}

func plural(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// hanging writes text after a label, further lines below its beginning. Empty
// text is left out, its label as well.
func hanging(b *strings.Builder, label, text string) {
	indent := strings.Repeat(" ", utf8.RuneCountInString(label))
	for i, line := range wrap(text, doctorWidth-len(indent)) {
		if i > 0 {
			label = indent
		}
		b.WriteString(label + line + "\n")
	}
}

// wrap breaks text into lines of at most width characters, between words.
func wrap(text string, width int) []string {
	var lines []string
	line, length := "", 0
	for word := range strings.FieldsSeq(text) {
		n := utf8.RuneCountInString(word)
		switch {
		case line == "":
			line, length = word, n
		case length+1+n > width:
			lines = append(lines, line)
			line, length = word, n
		default:
			line += " " + word
			length += 1 + n
		}
	}
	if line != "" {
		lines = append(lines, line)
	}
	return lines
}
