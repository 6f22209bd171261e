package lab

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/onlineca/onlineca/internal/zaplog"
	"github.com/onlineca/onlineca/ra/fault"
)

// testTimeout is what a scenario waits for where nothing ever answers. A machine
// that has much else to do can take longer for what does answer: a failure that
// did not come out as it should gets a second chance with patientTimeout.
const (
	testTimeout    = 300 * time.Millisecond
	patientTimeout = 5 * time.Second
)

// everything reproduces every failure once for all tests, several the same
// with three phones each.
var (
	everything = sync.OnceValues(func() (map[fault.Code]Reproduction, error) { return allWith(1) })
	several    = sync.OnceValues(func() (map[fault.Code]Reproduction, error) { return allWith(3) })
)

func allWith(phones int) (map[fault.Code]Reproduction, error) {
	dir, err := os.MkdirTemp("", "onlineca-lab-test")
	if err != nil {
		return nil, err
	}
	cleanup.dirs = append(cleanup.dirs, dir)
	c := ReproduceConfig{
		All: true, Out: filepath.Join(dir, "out"), Timeout: testTimeout, Bundle: phones == 1, Phones: phones,
	}
	all, err := Reproduce(cleanup.ctx, c)
	byCode := map[fault.Code]Reproduction{}
	for _, r := range all {
		if err == nil && len(r.Differences) > 0 {
			r, err = secondChance(c, r)
		}
		byCode[r.Code] = r
	}
	return byCode, err
}

// secondChance reproduces one failure by itself and with more patience.
func secondChance(c ReproduceConfig, r Reproduction) (Reproduction, error) {
	c.All, c.Codes, c.Out, c.Timeout = false, []string{r.Code.String()}, r.Dir, patientTimeout
	all, err := Reproduce(cleanup.ctx, c)
	if err != nil {
		return r, err
	}
	return all[0], nil
}

func reproduced(t *testing.T, code fault.Code) Reproduction { return oneOf(t, everything, code) }

func severalOf(t *testing.T, code fault.Code) Reproduction { return oneOf(t, several, code) }

func oneOf(t *testing.T, from func() (map[fault.Code]Reproduction, error), code fault.Code) Reproduction {
	t.Helper()
	all, err := from()
	if err != nil {
		t.Fatal(err)
	}
	r, ok := all[code]
	if !ok {
		t.Fatalf("%s was not reproduced", code.String())
	}
	return r
}

func TestEveryRowHasAScenarioOrAReason(t *testing.T) {
	for _, c := range fault.Codes() {
		s, can := scenarios[c]
		why, cannot := noScenario[c]
		if can == cannot {
			t.Errorf("%s: scenario %v, reason why there is none %v: one of the two", c.String(), can, cannot)
		}
		if can && (!strings.HasSuffix(s.done, ".") || s.set == nil) {
			t.Errorf("%s: the scenario does not say what it does, or does nothing", c.String())
		}
		if cannot && why == "" {
			t.Errorf("%s: the reason is empty", c.String())
		}
	}
}

func TestEveryFailureAppearsAsItsRowSays(t *testing.T) {
	for _, c := range reproducible() {
		t.Run(c.String(), func(t *testing.T) {
			for _, d := range reproduced(t, c).Differences {
				t.Error(d)
			}
		})
	}
}

// What a reproduction is checked by must be able to say no: the logs of one
// failure are not those of another.
func TestOtherFailuresAreNotTakenForIt(t *testing.T) {
	for code, other := range map[fault.Code]fault.Code{
		fault.Template:       fault.BadCredentials,
		fault.BadCredentials: fault.Template,
		fault.LoginTimeout:   fault.ChainTimeout,
		fault.ChainTimeout:   fault.LoginTimeout,
		fault.EnrollTimeout:  fault.FetchTimeout,
		fault.SelfSigned:     fault.UntrustedChain,
		fault.Pending:        fault.Busy,
		fault.AuthString:     fault.InvalidLSC,
	} {
		logs, err := readLogs(reproduced(t, code).Dir)
		if err != nil {
			t.Fatal(err)
		}
		r := &run{
			code: other, scenario: scenarios[other], config: &ReproduceConfig{Timeout: testTimeout}, phones: 1,
			logs: logs, cast: &cast{table: &deviceTable{}},
		}
		if got := r.differences(r.look()); len(got) == 0 {
			t.Errorf("the logs of %s pass for %s", code.String(), other.String())
		}
	}
}

// The product's traces do not say why an enrolment failed, and neither do ours.
func TestTheTraceDoesNotSayWhatTheProductDoesNot(t *testing.T) {
	for _, code := range []fault.Code{fault.Template, fault.DeniedByPolicy, fault.MalformedCSR, fault.ESTUnreachable, fault.CAPFTrustMissing} {
		trace, err := os.ReadFile(filepath.Join(reproduced(t, code).Dir, filepath.FromSlash(zaplog.CAPFFile)))
		if err != nil {
			t.Fatal(err)
		}
		if symptom := code.Row().Symptom; bytes.Contains(trace, []byte(symptom)) || bytes.Contains(trace, []byte("["+code.String()+"]")) {
			t.Errorf("the CAPF trace of %s says: %s", code.String(), symptom)
		}
	}
}

// startLines begin every start of the service. Of the document's extracts of a
// start the good one and that of the DNS failure show them; the others begin
// behind them, with the failure itself.
const startLines = "nginx: [warn] CA Chain requested but this value has not yet been set\n" +
	"nginx: [warn] CA Cert response requested but this value has not yet been set\n"

// The lines of the failed starts are the document's: every line from the first
// to the last, in its order, and no other, names and numbers apart.
func TestFailedStartsAreTheDocuments(t *testing.T) {
	for code, extract := range map[fault.Code]string{
		fault.UntrustedChain: "ces-untrusted-chain.stdout",
		fault.SelfSigned:     "ces-self-signed.stdout",
		fault.NameMismatch:   "ces-name-mismatch.stdout",
		fault.DNS:            "ces-dns.stdout",
		fault.NotYetValid:    "ces-not-yet-valid.stdout",
		fault.LoginTimeout:   "ces-login-timeout.stdout",
		fault.ChainTimeout:   "ces-chain-timeout.stdout",
	} {
		text, err := os.ReadFile("../../internal/logfmt/nginx/testdata/" + extract)
		if err != nil {
			t.Fatal(err)
		}
		want := string(text)
		if !strings.HasPrefix(want, startLines) {
			want = startLines + want
		}
		got, err := os.ReadFile(filepath.Join(reproduced(t, code).Dir, filepath.FromSlash(zaplog.StdoutFile)))
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(normalLines(want), normalLines(string(got))); diff != "" {
			t.Errorf("%s: %s", extract, diff)
		}
	}
}

// What the document prints of a request in error.log, and of a session in the
// trace of CAPF, comes out in one piece, line by line. Before and behind it our
// logs have more, as the product's do: the extracts are cut out of a log.
func TestTheExtractsComeOutInOnePiece(t *testing.T) {
	for _, c := range []struct {
		code    fault.Code
		extract string
		log     string
	}{
		{fault.Template, "libest/testdata/ces-template.error.log", zaplog.ErrorFile},
		{fault.LoginTimeout, "cucm/testdata/capf-fail-ssl-read.txt", zaplog.CAPFFile},
		{fault.ChainTimeout, "cucm/testdata/capf-fail-ssl-read.txt", zaplog.CAPFFile},
		{fault.EnrollTimeout, "cucm/testdata/capf-fail-ssl-read.txt", zaplog.CAPFFile},
	} {
		text, err := os.ReadFile("../../internal/logfmt/" + c.extract)
		if err != nil {
			t.Fatal(err)
		}
		log, err := os.ReadFile(filepath.Join(reproduced(t, c.code).Dir, filepath.FromSlash(c.log)))
		if err != nil {
			t.Fatal(err)
		}
		want, got := normalLines(string(text)), normalLines(string(log))
		end := max(0, slices.Index(got, want[len(want)-1])+1) // the last line of the extract is the rarest
		for end < len(got) && !slices.Equal(got[max(0, end-len(want)):end], want) {
			end++
		}
		if got := got[max(0, end-len(want)):end]; !slices.Equal(got, want) {
			t.Errorf("%s, %s: %s", c.code.String(), c.extract, cmp.Diff(want, got))
		}
	}
}

// What the log of IIS has of the fetch of a certificate is the document's line,
// to the letter but for names, times and numbers.
func TestTheFetchIsTheDocuments(t *testing.T) {
	text, err := os.ReadFile("../../internal/logfmt/iis/testdata/iis-install.log")
	if err != nil {
		t.Fatal(err)
	}
	logs, err := readLogs(reproduced(t, fault.LSCKeyUsage).Dir)
	if err != nil {
		t.Fatal(err)
	}
	fetch := regexp.MustCompile(`GET /certsrv/certnew\.cer (ReqID=)\d+(\S+) \d+ \S+ \S+ (\S+ - 200 0 0) \d+$`)
	want := fetch.FindStringSubmatch(strings.TrimSpace(string(text)))
	lines := logs.files[fault.LogIIS].lines
	got := fetch.FindStringSubmatch(lines[len(lines)-1])
	if want == nil || got == nil || !slices.Equal(want[1:], got[1:]) {
		t.Errorf("%q, want %q", got, want)
	}
}

// normal replaces what differs from run to run: names, dates and numbers.
var normal = []struct{ from, to string }{
	{`^\d\d:\d\d:\d\d\.\d{3} `, "TIME "},
	{`^\d{4}/\d\d/\d\d \d\d:\d\d:\d\d `, "DATE "},
	{`\[\d\d/\w{3}/\d{4}:\d\d:\d\d:\d\d [+-]\d{4}\]`, "[DATE]"},
	{`\d+#\d+: \*\d+ `, "PID: *N "},
	{`\d+:SEP[0-9A-F]{12}`, "N:DEVICE"},
	{`SEP[0-9A-F]{12}`, "DEVICE"},
	{`https://[^/]+/`, "https://HOST/"},
	{`Could not resolve: \S+`, "Could not resolve: HOST"},
	{`subject name '[^']*' does not match target host name '[^']*'`, "subject name 'NAME' does not match target host name 'HOST'"},
	{`\d+ milliseconds`, "N milliseconds"},
	{`client: \S+, server: \S+`, "client: IP, server: IP"},
	{`--> \d+\.\d+\.\d+\.\d+ \[`, "--> IP ["},
	{`\(/[A-Z]+=[^)]*\)`, "(SUBJECT)"},
	{`data len: \d+`, "data len: N"},
	{`addded \d+ to`, "addded N to"},
	{`\|\s+`, "|   "},
}

// normalLines are the lines of a log without what differs from run to run.
func normalLines(text string) []string {
	var lines []string
	begins := regexp.MustCompile(`^(\d\d|\*\*\*EST|nginx: |EnrollmentService)`)
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if !begins.MatchString(line) && len(lines) > 0 { // it goes on, as in the body of an answer
			if line != "" {
				lines[len(lines)-1] += " " + line
			}
			continue
		}
		for _, n := range normal {
			line = regexp.MustCompile(n.from).ReplaceAllString(line, n.to)
		}
		lines = append(lines, line)
	}
	return lines
}

// What CAPF waits is the time between its call and EST_ERR_SSL_READ.
func TestCAPFWaitsItsTime(t *testing.T) {
	logs, err := readLogs(reproduced(t, fault.LoginTimeout).Dir)
	if err != nil {
		t.Fatal(err)
	}
	var called, ended time.Time
	for _, e := range logs.entries {
		switch e.Kind {
		case "capf-enroll-called":
			called = e.At
		case "capf-enrolled":
			ended = e.At
		}
	}
	if wait := ended.Sub(called); called.IsZero() || wait < testTimeout*4/5 {
		t.Errorf("%v between the call and its failure, the client's timeout is %v", wait, testTimeout*4/5)
	}
}

// Whoever interrupts a run is not told that its failure did not appear.
func TestInterruptedReproduction(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	dir := t.TempDir()
	var said bytes.Buffer
	go func() {
		for ctx.Err() == nil { // until the chain runs
			if text, _ := os.ReadFile(filepath.Join(dir, filepath.FromSlash(zaplog.JSONFile))); bytes.Contains(text, []byte(`"kind":"capf-`)) {
				cancel()
				return
			}
			runtime.Gosched()
		}
	}()
	_, err := Reproduce(ctx, ReproduceConfig{Codes: []string{"page-timeout"}, Out: dir, ProductTiming: true, Result: &said})
	if !errors.Is(err, context.Canceled) || said.Len() > 0 {
		t.Errorf("%v\n%s", err, said.Bytes())
	}
	if _, err := os.Stat(filepath.Join(dir, reportFile)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("there is a report: %v", err)
	}
}

func TestReports(t *testing.T) {
	for _, c := range reproducible() {
		r := reproduced(t, c)
		text, err := os.ReadFile(filepath.Join(r.Dir, reportFile))
		if err != nil {
			t.Fatal(err)
		}
		for _, want := range []string{
			"# " + c.String() + ": ", scenarios[c].done, "\n```mermaid\nsequenceDiagram\n", "(" + diagramFile + ")",
			"appeared exactly", "\n▶ ", zaplog.CAPFFile, zaplog.StdoutFile, zaplog.ErrorFile, zaplog.IISDir, zaplog.JSONFile,
		} {
			if !strings.Contains(string(text), want) {
				t.Errorf("%s: the report has no %q", c.String(), want)
			}
		}
		svg, err := os.ReadFile(filepath.Join(r.Dir, diagramFile))
		if err != nil {
			t.Fatal(err)
		}
		if err := wellFormed(string(svg)); err != nil {
			t.Errorf("%s: the diagram is no XML: %v", c.String(), err)
		}
		if !regexp.MustCompile(`class="(note|arrow) bad"`).Match(svg) {
			t.Errorf("%s: the diagram shows no failure", c.String())
		}
	}
}

func wellFormed(s string) error {
	for d := xml.NewDecoder(strings.NewReader(s)); ; {
		if _, err := d.Token(); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
	}
}

func TestBundle(t *testing.T) {
	f, err := os.Open(reproduced(t, fault.Template).Bundle)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for r := tar.NewReader(z); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if n, err := io.Copy(io.Discard, r); n == 0 || n != h.Size || err != nil {
			t.Errorf("%s: %d of %d bytes, %v", h.Name, n, h.Size, err)
		}
		names = append(names, h.Name)
	}
	web := regexp.MustCompile(`^template/inetpub/logs/LogFiles/W3SVC1/u_ex\d{6}\.log$`)
	for _, want := range []func(string) bool{
		func(s string) bool { return s == "template/activelog/cm/trace/capf/sdi/capf00000001.txt" },
		func(s string) bool { return s == "template/activelog/cm/trace/capf/sdi/nginx00000001.txt" },
		func(s string) bool { return s == "template/nginx/error.log" },
		web.MatchString,
	} {
		if !slices.ContainsFunc(names, want) {
			t.Errorf("a file is missing among %q", names)
		}
	}
	if slices.ContainsFunc(names, func(s string) bool { return strings.Contains(s, "onlineca") }) {
		t.Errorf("a log that the product does not have is among %q", names)
	}
}

// One code is reproduced in the directory itself, and the next run replaces it.
func TestOneCodeInItsDirectory(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "one")
	for _, name := range []string{"deadline-passed", "unknown-device"} {
		all, err := Reproduce(t.Context(), ReproduceConfig{Codes: []string{name, name}, Out: dir, Timeout: testTimeout})
		if err != nil || len(all) != 1 || all[0].Dir != dir || len(all[0].Differences) > 0 {
			t.Fatalf("%v, %+v", err, all)
		}
		text, err := os.ReadFile(filepath.Join(dir, reportFile))
		if err != nil || !strings.HasPrefix(string(text), "# "+name+":") {
			t.Errorf("%v, the report begins %.40q", err, text)
		}
	}
	trace, err := os.ReadFile(filepath.Join(dir, filepath.FromSlash(zaplog.CAPFFile)))
	if err != nil || strings.Contains(string(trace), "LATE_REQUEST") {
		t.Errorf("%v: the trace of the first run is still there", err)
	}
}

func TestWhatCannotBeReproduced(t *testing.T) {
	for name, want := range map[string]string{
		"no-such": "no failure is called", "internal": "cannot be reproduced", "": "no failure is called",
	} {
		_, err := Reproduce(t.Context(), ReproduceConfig{Codes: []string{name}, Out: t.TempDir()})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", name, err)
		}
	}
	if _, err := Reproduce(t.Context(), ReproduceConfig{Out: t.TempDir()}); err == nil {
		t.Error("nothing at all was reproduced")
	}
	// Somebody's own files are left alone.
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "mine"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Reproduce(t.Context(), ReproduceConfig{Codes: []string{"deadline-passed"}, Out: dir}); err == nil {
		t.Error("a directory with somebody's files was taken")
	}
}

func TestSeveralPhones(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "out")
	all, err := Reproduce(t.Context(), ReproduceConfig{Codes: []string{"template"}, Phones: 3, Out: dir, Timeout: testTimeout})
	if err != nil || len(all[0].Differences) > 0 {
		t.Fatal(err, all)
	}
	logs, err := readLogs(dir)
	if err != nil {
		t.Fatal(err)
	}
	failed := map[string]bool{}
	for _, e := range logs.entries {
		if e.Kind == "enrolment failed" {
			failed[e.Device] = true
		}
	}
	if len(failed) != 3 {
		t.Errorf("%d phones failed: %v", len(failed), failed)
	}
}

func TestDrawing(t *testing.T) {
	hostile := `</text><script>alert(1)</script> & "quotes" ` + "\x00\x01\u202e" + strings.Repeat("x", 300)
	d := diagram{title: hostile, steps: []step{
		{from: aPhone, to: aCAPF, text: hostile},
		{from: anRA, note: true, text: hostile, bad: true},
		{from: anIIS, to: anRA, text: ""},
	}}
	svg := string(d.svg())
	if err := wellFormed(svg); err != nil {
		t.Error(err)
	}
	if strings.Contains(svg, "<script") {
		t.Error("the text was not escaped")
	}
	m := d.mermaid()
	if strings.Contains(m, "<script") || strings.Count(m, "\n") != 1+int(parties)+len(d.steps) {
		t.Errorf("Mermaid: %s", m)
	}
}

func TestWrap(t *testing.T) {
	for _, s := range []string{"", "short", strings.Repeat("word ", 50), strings.Repeat("x", 99), "GET /certsrv/certnew.p7b?ReqID=CACert&Renewal=0&Enc=bin", "é" + strings.Repeat("ü ", 70)} {
		lines := wrap(s, 24)
		for _, l := range lines {
			if n := len([]rune(l)); n > 24 {
				t.Errorf("%q has %d characters", l, n)
			}
		}
		strip := func(s string) string { return strings.ReplaceAll(s, " ", "") }
		if strip(strings.Join(lines, "")) != strip(s) {
			t.Errorf("%q became %q", s, lines)
		}
	}
}

func TestTheTableOfTheTimes(t *testing.T) {
	for _, d := range Scenarios() {
		if d.Reason != "" {
			continue
		}
		if waits := scenarios[d.Code].waits; d.Product-d.Takes != time.Duration(waits)*(productTimeout-shortTimeout) {
			t.Errorf("%s takes %v, %v with the product's timing", d.Code.String(), d.Takes, d.Product)
		}
		// What it really waited: none that is said to wait is done at once.
		if r := reproduced(t, d.Code); scenarios[d.Code].waits > 0 && r.Took < testTimeout*4/5 {
			t.Errorf("%s is said to wait, and took %v", d.Code.String(), r.Took)
		}
	}
}

func ExampleFailureTable() {
	fmt.Println(strings.Count(FailureTable(), "\n") == len(fault.Codes())+2)
	// Output: true
}
