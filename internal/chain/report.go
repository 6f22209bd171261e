package chain

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"

	"github.com/onlineca/onlineca/ra/fault"
)

// WriteJSON writes the verdict as JSON, in the form of docs/check-schema.md.
func (v *Verdict) WriteJSON(w io.Writer) error {
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	return e.Encode(v)
}

// WriteText writes the verdict for a person at a terminal.
func (v *Verdict) WriteText(w io.Writer) error {
	var b strings.Builder
	paragraph(&b, "", fmt.Sprintf("%s (%s)", v.Title, v.Profile))
	fmt.Fprintf(&b, "checked for %s\n", stamp(v.At))
	v.writeInputs(&b)
	writeChain(&b, "Chain", v.Chain)
	writeChain(&b, "Chain of the other side", v.Peer)
	v.writeComparison(&b)
	v.writeChecks(&b)
	v.writeFindings(&b)
	v.writeRepair(&b)
	v.writeEnd(&b)
	_, err := io.WriteString(w, b.String())
	return err
}

func (v *Verdict) writeInputs(b *strings.Builder) {
	b.WriteString("\nGiven\n")
	for _, in := range v.Inputs {
		role := map[string]string{"file": "", "trust": "trust store: ", "peer": "other side: ", "peer-trust": "other trust store: "}[in.Role]
		paragraph(b, "  ", fmt.Sprintf("%s%s: %s, %s", role, in.Name, in.Format, plural(in.Certificates, "certificate")))
		for _, n := range in.Notes {
			paragraph(b, "    note: ", n)
		}
		if in.Error != "" {
			paragraph(b, "    error: ", in.Error)
		}
	}
}

func plural(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

func writeChain(b *strings.Builder, title string, certs []CertInfo) {
	if len(certs) == 0 {
		return
	}
	fmt.Fprintf(b, "\n%s\n", title)
	t := table{{"No.", "Issued to", "Issued by", "Valid"}}
	for _, c := range certs {
		number := "-"
		if c.Position > 0 {
			number = fmt.Sprint(c.Position)
		}
		t = append(t, []string{number, shorten(c.IssuedTo, 22), shorten(c.IssuedBy, 18),
			c.NotBefore.Format("2006-01-02") + " to " + c.NotAfter.Format("2006-01-02")})
	}
	t.write(b)
}

// writeComparison is the table of the vendor's article.
func (v *Verdict) writeComparison(b *strings.Builder) {
	if len(v.Comparison) == 0 {
		return
	}
	b.WriteString("\nComparison\n")
	t := table{{"Source", "", "", "Target", ""}, {"Issued To", "Issued By", "", "Issued To", "Issued By"}}
	for i, p := range v.Comparison {
		sign := "X"
		if p.Match {
			sign = "<->"
		}
		source, target := "", ""
		if i == 0 {
			source, target = " (source)", " (target)"
		}
		t = append(t, []string{fit(p.SourceTo, source, 19), fit(p.SourceBy, "", 14), sign, fit(p.TargetTo, target, 19), fit(p.TargetBy, "", 14)})
	}
	t.write(b)
}

// fit makes a name with a suffix as wide as a column.
func fit(name, suffix string, n int) string {
	if name == "" {
		return "-"
	}
	return shorten(name, n-len(suffix)) + suffix
}

func (v *Verdict) writeChecks(b *strings.Builder) {
	b.WriteString("\nChecks, in the appliance's order\n")
	words := map[Outcome]string{Pass: "pass", Fail: "FAIL", Warned: "warn", Skipped: "skip"}
	longest := 0
	for _, c := range v.Checks {
		longest = max(longest, len(c.Rule))
	}
	for _, c := range v.Checks {
		says := c.Says
		if c.Result == Skipped {
			says += " - not checked: " + c.Reason
		}
		paragraph(b, fmt.Sprintf("  %s  %-*s  ", words[c.Result], longest, c.Rule), says)
	}
	for i, s := range v.States {
		if i == 0 {
			b.WriteString("\nWhat the Expressway shows\n")
		}
		fmt.Fprintf(b, "  %-16s %s\n", s.Name+":", s.Value)
	}
}

// headline is the shortest thing that can be said of a finding.
func (f *Finding) headline() string {
	switch {
	case f.Code != "" && f.Text != "":
		return f.Code + ": " + f.Text
	case f.Text != "":
		return f.Text
	case f.Fault != fault.Unknown:
		return f.Code + ": " + f.Fault.Row().Symptom
	}
	return f.Detail
}

func (v *Verdict) writeFindings(b *strings.Builder) {
	first := v.First()
	for i, f := range v.Findings() {
		b.WriteString("\n")
		mark := fmt.Sprintf("%d. ", i+1)
		if f.Level == Warning {
			mark += "Warning: "
		}
		paragraph(b, mark, f.headline())
		if f.headline() == f.Detail {
			f.Detail = ""
		}
		field := func(name, text string) {
			if text != "" {
				paragraph(b, fmt.Sprintf("   %-11s ", name), text)
			}
		}
		field("rule", f.Rule)
		if f.MessageArgs != nil {
			quoted := make([]string, len(f.MessageArgs))
			for i, a := range f.MessageArgs {
				quoted[i] = quote(a)
			}
			field("MessageArgs", "["+strings.Join(quoted, ",")+"]")
		}
		field("what", f.Detail)
		if c := f.Certificate; c != nil {
			field("certificate", where(c))
		}
		field("fix", f.Fix)
		if f.Command != "" {
			fmt.Fprintf(b, "   command     %s\n", f.Command)
		}
		if f.Basis == Inferred && f.Text != "" {
			field("note", "no document shows this text for exactly this defect; it is inferred")
		}
		if first != nil && f.Level == Error && f.Log != "" && f.Rule == first.Rule && f.Detail == first.Detail {
			fmt.Fprintf(b, "   log         %s:\n%s\n", f.LogFile, f.Log)
		}
	}
}

// where says which certificate is meant.
func where(c *CertInfo) string {
	s := fmt.Sprintf("%s, issued by %s, valid %s to %s", c.Subject, c.Issuer, c.NotBefore.Format("2006-01-02"), c.NotAfter.Format("2006-01-02"))
	switch {
	case c.Position > 0:
		// The number is that of the table above, over all files.
		s += fmt.Sprintf("; number %d, from %s", c.Position, c.Source)
	case c.Source != "":
		s += "; from " + c.Source
	}
	return s
}

func (v *Verdict) writeRepair(b *strings.Builder) {
	r := v.Repair
	if r == nil {
		return
	}
	b.WriteString("\n")
	text := fmt.Sprintf("%s written: %s", Printable(r.File), plural(len(r.Certificates), "certificate"))
	for i, c := range r.Added {
		text += [...]string{", added: ", ", "}[min(i, 1)] + c.IssuedTo
	}
	paragraph(b, "Repair: ", text+".")
	if r.Missing != "" {
		paragraph(b, "        ", "Still missing: "+r.Missing+".")
	}
	if r.Accepted {
		paragraph(b, "        ", "The appliance would take it.")
	} else {
		paragraph(b, "        ", fmt.Sprintf("The appliance would still refuse it (%s): %s", r.Rule, r.Text))
	}
}

func (v *Verdict) writeEnd(b *strings.Builder) {
	fmt.Fprintf(b, "\nNot checked: %s\n\n", strings.Join(v.NotChecked, ", "))
	switch n := len(v.Findings()); {
	case v.Accepted && n == 0:
		b.WriteString("ACCEPTED: every rule that was checked is satisfied.\n")
		return
	case v.Accepted:
		fmt.Fprintf(b, "ACCEPTED, with %s.\n", plural(n, "warning"))
		return
	}
	broken := 0
	for _, c := range v.Checks {
		if c.Result == Fail {
			broken++
		}
	}
	verb := "are"
	if broken == 1 {
		verb = "is"
	}
	paragraph(b, "REFUSED: ", fmt.Sprintf("%s %s broken. The first to show is:", plural(broken, "rule"), verb))
	paragraph(b, "         ", v.First().headline())
}
