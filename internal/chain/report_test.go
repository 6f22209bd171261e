package chain

import (
	"bytes"
	"crypto/x509"
	"encoding/json"
	"flag"
	"math/big"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/onlineca/onlineca/ra/fault"
)

var update = flag.Bool("update", false, "write the reports in testdata/report anew")

// reports are verdicts that show every part of a report.
func reports(t *testing.T) map[string]*Verdict {
	t.Helper()
	root := issue(t, nil, "Root-CA", asCA)
	inter := issue(t, root, "Inter-CA1", asCA)
	inter2 := issue(t, root, "Inter-CA2", asCA)
	leaf := issue(t, inter, "OMENT-310", asServer("oment-310.example.com"))
	weak := issue(t, inter, "OMENT-310", asServer("oment-310.example.com"), usage(1), extended())
	target := issue(t, inter2, "OMENT-400", asServer("oment-400.example.com"))
	trust := inputs(input(t, "trust.pem", root, inter))
	upload := Options{Profile: OMEUpload, At: now, Files: inputs(inputBytes(t, "oment.cer", weak.cert.Raw)), CSR: request(t, leaf.key, "OMENT-310"), Trust: trust}
	refused := check(t, upload)
	_, r, err := Repair(upload)
	if err != nil {
		t.Fatal(err)
	}
	r.File = "fixed.pem"
	refused.Repair = r
	return map[string]*Verdict{
		"accepted":  check(t, Options{Profile: OMEUpload, Files: inputs(input(t, "chain.pem", leaf, inter, root))}),
		"refused":   refused,
		"warned":    check(t, Options{Profile: OMEUpload, Files: inputs(input(t, "chain.pem", leaf, inter, root)), At: now.AddDate(1, 0, 0)}),
		"migration": check(t, Options{Profile: OMEMigration, Files: inputs(input(t, "source.pem", leaf, inter, root)), Peer: inputs(input(t, "target.pem", target, inter2, root))}),
		"traversal": check(t, Options{Profile: ExpresswayTraversal, Files: inputs(input(t, "c.pem", leaf, inter)), Peer: inputs(input(t, "e.pem", target, inter2)), Trust: trust, PeerAddress: []string{"oment-400.example.com"}, VerifyName: "oment-310.example.com"}),
		"lsc":       check(t, Options{Profile: CAPFLSC, Files: inputs(input(t, "lsc.pem", weak, inter)), VerifyName: "SEP001122334455"}),
		"path":      check(t, Options{Profile: Expressway, Files: inputs(input(t, "exp.pem", leaf)), Trust: inputs(input(t, "trust.pem", root, issueSerial(t, issue(t, nil, "Other-Root", asCA), inter, 77), inter))}),
		"iis":       check(t, Options{Profile: CUCMIIS, Files: inputs(input(t, "iis.pem", leaf)), Trust: inputs(input(t, "trust.pem", inter2)), VerifyName: "lab-dc.example.com"}),
	}
}

// issueSerial certifies a CA a second time.
func issueSerial(t *testing.T, issuer, ca *authority, serial int64) *authority {
	t.Helper()
	return issueKey(t, issuer, ca.key, ca.cert.Subject.CommonName, asCA, func(c *x509.Certificate) { c.SerialNumber = big.NewInt(serial) })
}

// TestReports compares the reports with those in testdata, which somebody has
// read; -update writes them.
func TestReports(t *testing.T) {
	for name, v := range reports(t) {
		var b bytes.Buffer
		if err := v.WriteText(&b); err != nil {
			t.Fatal(err)
		}
		file := filepath.Join("testdata", "report", name+".txt")
		if *update {
			if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(file, b.Bytes(), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(string(want), b.String()); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
		fits(t, name, b.String())
	}
}

// fits fails the test if a report is wider than eighty columns, but for what is
// to be copied whole.
func fits(t *testing.T, name, report string) {
	t.Helper()
	whole := regexp.MustCompile(`^(\[ERROR\]| Error uploading|nginx: |   command )`)
	for line := range strings.Lines(report) {
		line = strings.TrimSuffix(line, "\n")
		if columns(line) > 80 && !whole.MatchString(line) {
			t.Errorf("%s: a line of %d: %s", name, columns(line), line)
		}
	}
}

// TestReportsFit breaks every rule of every profile with names that are long,
// without a place to break them, and in characters that are wide.
func TestReportsFit(t *testing.T) {
	n := 0
	for _, k := range allKinds() {
		for _, name := range []string{strings.Repeat("x", 64), strings.Repeat("expressway-core.", 4), strings.Repeat("\ud55c\uad6d\uc5b4 ", 12)} {
			for _, r := range k.rows {
				s := k.scene()
				s.cn, s.interCN, s.verifyName = name, name+"CA", name
				if s.peerCN != "" {
					s.peerCN, s.peerAddress = name+"P", name
				}
				r.breaks(s)
				var b strings.Builder
				if err := check(t, s.options(t)).WriteText(&b); err != nil {
					t.Fatal(err)
				}
				fits(t, string(k.profile)+"/"+r.name, b.String())
				n++
			}
		}
	}
	t.Logf("%d reports", n)
}

func TestColumns(t *testing.T) {
	for s, want := range map[string]int{"": 0, "abc": 3, "\ud55c\uad6d": 4, "e\u0301": 1, "\u65e5a": 3} {
		if got := columns(s); got != want {
			t.Errorf("%q: %d", s, got)
		}
	}
	for in, want := range map[string]string{"short": "short", "a longer name": "a long~", "\ud55c\uad6d\uc5b4\ud55c": "\ud55c\uad6d\uc5b4~"} {
		if got := shorten(in, 7); got != want {
			t.Errorf("%q: %q", in, got)
		}
	}
}

// fields collects the JSON names of a type and of what it is made of.
func fields(t reflect.Type, into map[string]bool) {
	switch t.Kind() {
	case reflect.Pointer, reflect.Slice:
		fields(t.Elem(), into)
	case reflect.Struct:
		if t == reflect.TypeFor[time.Time]() {
			return
		}
		for i := range t.NumField() {
			name, _, _ := strings.Cut(t.Field(i).Tag.Get("json"), ",")
			if name == "" || name == "-" {
				continue
			}
			into[t.Name()+"."+name] = true
			fields(t.Field(i).Type, into)
		}
	}
}

// TestSchemaIsDocumented: docs/check-schema.md has a line for every field, and
// none for a field that is not there.
func TestSchemaIsDocumented(t *testing.T) {
	doc, err := os.ReadFile("../../docs/check-schema.md")
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]bool{}
	fields(reflect.TypeFor[Verdict](), want)
	got := map[string]bool{}
	section := ""
	for line := range strings.Lines(string(doc)) {
		if m := regexp.MustCompile("^## .*\\(`(\\w+)`\\)").FindStringSubmatch(line); m != nil {
			section = m[1]
		}
		if m := regexp.MustCompile("^\\| `(\\w+)` \\|").FindStringSubmatch(line); m != nil {
			got[section+"."+m[1]] = true
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-code +docs/check-schema.md):\n%s", diff)
	}
	if !strings.Contains(string(doc), Schema) {
		t.Errorf("the document is not about %s", Schema)
	}
}

// TestRulesAreDocumented: docs/check.md names every profile with its rules in
// their order.
func TestRulesAreDocumented(t *testing.T) {
	doc, err := os.ReadFile("../../docs/check.md")
	if err != nil {
		t.Fatal(err)
	}
	got := map[string][]string{}
	section := ""
	for line := range strings.Lines(string(doc)) {
		if m := regexp.MustCompile("^### `([a-z-]+)`").FindStringSubmatch(line); m != nil {
			section = m[1]
		} else if strings.HasPrefix(line, "## ") {
			section = ""
		}
		if m := regexp.MustCompile("^\\| `([a-z-]+)` \\|").FindStringSubmatch(line); m != nil && section != "" {
			got[section] = append(got[section], m[1])
		}
	}
	want := map[string][]string{}
	for _, p := range profiles() {
		for _, r := range p.rules() {
			want[string(p.name)] = append(want[string(p.name)], r.id)
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-code +docs/check.md):\n%s", diff)
	}
}

func TestJSONHasNoNullLists(t *testing.T) {
	for name, v := range reports(t) {
		var b bytes.Buffer
		if err := v.WriteJSON(&b); err != nil {
			t.Fatal(err)
		}
		var m map[string]any
		if err := json.Unmarshal(b.Bytes(), &m); err != nil {
			t.Fatal(err)
		}
		for _, list := range []string{"inputs", "chain", "peerChain", "checks", "comparison", "states", "notChecked"} {
			if _, ok := m[list].([]any); !ok {
				t.Errorf("%s: %s is %v", name, list, m[list])
			}
		}
		if m["accepted"] != v.Accepted || m["schema"] != Schema {
			t.Errorf("%s: %v %v", name, m["accepted"], m["schema"])
		}
	}
}

func TestDistinguishedNames(t *testing.T) {
	c := issue(t, nil, "Root, \"CA\"", asCA).cert
	if got := Distinguished(c.RawSubject); got != `CN=Root\, \"CA\"` {
		t.Error(got)
	}
	for raw, want := range map[string]string{
		"\x30\x00": "(empty name)", "junk": "(unreadable name)",
		"\x30\x29\x31\x13\x30\x11\x06\x0a\x09\x92\x26\x89\x93\xf2\x2c\x64\x01\x19\x16\x03com\x31\x12\x30\x10\x06\x03\x55\x04\x03\x0c\x09lab-ca\x1b[m": `CN=lab-ca\u001b[m,DC=com`,
	} {
		if got := Distinguished([]byte(raw)); got != want {
			t.Errorf("%q: %q, want %q", raw, got, want)
		}
	}
}

// Codes that are reported are those of the table of faults.
func TestFaultCodes(t *testing.T) {
	for _, c := range []fault.Code{fault.LSCKeyUsage, fault.CACNCAPF, fault.InvalidLSC, fault.CAPFTrustMissing} {
		f := faultFinding(c, "", nil)
		if got, ok := fault.Lookup(f.Code); !ok || got != c || f.Fix == "" {
			t.Errorf("%s", f.Code)
		}
	}
}
