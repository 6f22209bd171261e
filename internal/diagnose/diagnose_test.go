package diagnose_test

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/onlineca/onlineca/internal/diagnose"
	"github.com/onlineca/onlineca/ra/event"
	"github.com/onlineca/onlineca/ra/fault"
)

func run(tb testing.TB, o diagnose.Options) diagnose.Report {
	tb.Helper()
	r, err := diagnose.Analyse(context.Background(), o)
	if err != nil {
		tb.Fatal(err)
	}
	return r
}

func text(tb testing.TB, r diagnose.Report) string {
	tb.Helper()
	var b bytes.Buffer
	if err := r.WriteText(&b, diagnose.ColourOff); err != nil {
		tb.Fatal(err)
	}
	return b.String()
}

// extractDirs are where the vendor's extracts lie, beside the dialects.
var extractDirs = []string{"../logfmt/cucm/testdata", "../logfmt/nginx/testdata", "../logfmt/iis/testdata"}

// behindReadTimeout is what can be behind EST_ERR_SSL_READ, for all that the
// trace of CAPF says.
const behindReadTimeout = "est-read-timeout dns connection-refused connect-timeout tls-handshake untrusted-chain self-signed name-mismatch " +
	"not-yet-valid expired login-timeout ntlm-disabled not-challenged epa-required page-timeout chain-timeout chain-unreadable enroll-timeout fetch-timeout"

// Every extract of the vendor's document is diagnosed as its name says.
func TestExtracts(t *testing.T) {
	want := map[string]struct {
		codes string
		sure  diagnose.Confidence
		exit  int
	}{
		"capf-fail-ssl-read.txt":     {behindReadTimeout, diagnose.Unsure, 3},
		"capf-install.txt":           {"", "", 0},
		"capf-start.txt":             {"", "", 0},
		"ces-chain-timeout.stdout":   {"chain-timeout", diagnose.Certain, 1},
		"ces-dns.stdout":             {"dns", diagnose.Certain, 1},
		"ces-login-timeout.stdout":   {"login-timeout", diagnose.Certain, 1},
		"ces-name-mismatch.stdout":   {"name-mismatch", diagnose.Certain, 1},
		"ces-not-yet-valid.stdout":   {"not-yet-valid", diagnose.Certain, 1},
		"ces-self-signed.stdout":     {"untrusted-chain self-signed", diagnose.Likely, 1},
		"ces-untrusted-chain.stdout": {"untrusted-chain self-signed", diagnose.Likely, 1},
		"ces-start.error.log":        {"", "", 0},
		"ces-start.stdout":           {"", "", 0},
		"ces-template.error.log":     {"template", diagnose.Certain, 1},
		"iis-install.log":            {"", "", 0},
		"iis-start.log":              {"", "", 3}, // IIS alone does not say whose start it is
	}
	seen := 0
	for _, dir := range extractDirs {
		entries, err := os.ReadDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range entries {
			w, ok := want[f.Name()]
			if f.IsDir() || !ok {
				continue
			}
			seen++
			r := run(t, diagnose.Options{Paths: []string{filepath.Join(dir, f.Name())}})
			codes, sure := "", diagnose.Confidence("")
			for _, x := range r.Faults {
				codes, sure = strings.Join(x.Codes, " "), x.Confidence
			}
			if codes != w.codes || sure != w.sure || r.Exit != w.exit || len(r.Faults) > 1 {
				t.Errorf("%s: %q, %s, exit %d, want %+v\n%s", f.Name(), codes, sure, r.Exit, w, text(t, r))
			}
			if r.Totals.UnknownLines != 0 {
				t.Errorf("%s: %d unknown lines", f.Name(), r.Totals.UnknownLines)
			}
			for _, p := range []*diagnose.Finding{findingOf(r)} {
				if p != nil && (len(p.Evidence) == 0 || p.Evidence[0].Line == 0 || p.Evidence[0].Text == "") {
					t.Errorf("%s: evidence %+v", f.Name(), p.Evidence)
				}
			}
		}
	}
	if seen != len(want) {
		t.Errorf("%d extracts of %d", seen, len(want))
	}
}

func findingOf(r diagnose.Report) *diagnose.Finding {
	for _, s := range r.Starts {
		if s.Finding != nil {
			return s.Finding
		}
	}
	for _, e := range r.Enrolments {
		if e.Finding != nil {
			return e.Finding
		}
	}
	return nil
}

// The document's clocks: error.log is five hours behind UTC and six seconds
// ahead of IIS.
func TestClocksOfTheDocument(t *testing.T) {
	r := run(t, diagnose.Options{Paths: []string{"../logfmt/nginx/testdata/ces-start.error.log", "../logfmt/iis/testdata/iis-start.log"}})
	for _, c := range r.Clocks {
		if c.Log == "error.log" && (c.Zone != "UTC-05:00" || c.Skew != 6 || !c.Known) {
			t.Errorf("%+v", c)
		}
	}
	r = run(t, diagnose.Options{Paths: []string{"../logfmt/cucm/testdata/capf-install.txt", "../logfmt/iis/testdata/iis-install.log"}})
	if len(r.Enrolments) != 1 || r.Enrolments[0].Start == nil || r.Enrolments[0].Start.Format("2006-01-02") != "2019-01-16" ||
		r.Enrolments[0].ReqID != 10 || len(r.Enrolments[0].Exchanges) != 7 {
		t.Errorf("%+v", r.Enrolments)
	}
}

// noon is when the failing enrolment begins.
var noon = time.Date(2019, 1, 16, 18, 0, 0, 123e6, time.UTC)

// surroundings are healthy enrolments around the failing one, some of them at
// the same time.
func surround(w *world, n int) {
	for i := range n {
		w.enrol(noon.Add(time.Duration(i-n/2)*7300*time.Millisecond+time.Duration(w.rand.IntN(5000))*time.Millisecond), w.good())
	}
}

// find returns the finding of a device.
func find(r diagnose.Report, device string) *diagnose.Enrolment {
	for i := range r.Enrolments {
		if r.Enrolments[i].Device == device {
			return &r.Enrolments[i]
		}
	}
	return nil
}

// With all logs there, every fault is named, and nothing else is.
func TestEveryEndingIsNamedAmong200HealthyOnes(t *testing.T) {
	for code, end := range endings() {
		t.Run(code.String(), func(t *testing.T) {
			w := newWorld(1)
			surround(w, 200)
			device := w.enrol(noon, end)
			dir := t.TempDir()
			w.write(t, dir)
			r := run(t, diagnose.Options{Paths: []string{dir}, Good: 1000})
			e := find(r, device)
			if e == nil || e.Finding == nil {
				t.Fatalf("no finding\n%s", text(t, r))
			}
			if diff := cmp.Diff([]string{code.String()}, e.Finding.Codes); diff != "" || e.Finding.Confidence == diagnose.Unsure {
				t.Errorf("%s %s", diff, only(t, r, device))
			}
			if r.Totals.Good != 200 || r.Totals.Failed != 1 || r.Exit != 1 || r.Totals.UnknownLines != 0 {
				t.Errorf("%+v, exit %d\n%s", r.Totals, r.Exit, only(t, r, device))
			}
		})
	}
}

// only shows what the report says of one device.
func only(tb testing.TB, r diagnose.Report, device string) string {
	tb.Helper()
	r.Enrolments = slices.DeleteFunc(slices.Clone(r.Enrolments), func(e diagnose.Enrolment) bool { return e.Device != device && e.Outcome == "good" })
	return text(tb, r)
}

// What cannot be told is said, with the log that would tell it.
func TestWhatIsMissing(t *testing.T) {
	w := newWorld(3)
	device := w.enrol(noon, endings()[fault.Template])
	dir := t.TempDir()
	w.write(t, dir, errorLog, iisLog)
	r := run(t, diagnose.Options{Paths: []string{dir}})
	e := find(r, device)
	if e == nil || e.Finding == nil || r.Exit != 3 || e.Finding.Confidence != diagnose.Unsure {
		t.Fatalf("%s", text(t, r))
	}
	if want := []string{"template", "bad-credentials", "ntlm-disabled", "epa-required", "login-suspended", "client-certificate"}; !slices.Equal(e.Finding.Codes, want) {
		t.Errorf("%v", e.Finding.Codes)
	}
	var logs []string
	for _, m := range r.Missing {
		logs = append(logs, m.Log)
		if m.Collect == "" || m.Why == "" {
			t.Errorf("%+v", m)
		}
	}
	if !slices.Contains(logs, "error.log") || !slices.Contains(logs, "iis") {
		t.Errorf("missing %v", logs)
	}
}

// What every log of the product prints alike is not asked for.
func TestWhatNoLogTellsIsNotMissing(t *testing.T) {
	r := run(t, diagnose.Options{Paths: []string{"../logfmt/nginx/testdata/ces-self-signed.stdout"}})
	if len(r.Faults) != 1 || len(r.Faults[0].Codes) != 2 || len(r.Missing) != 0 {
		t.Errorf("%s", text(t, r))
	}
}

// Our own CAPF says in words what the number of its EST client leaves open.
func TestOwnWordsTellWhatTheNumberDoesNot(t *testing.T) {
	const trace = "14:05:04.628 |   debug 2:SEP74A02FC0A675:Calling enrollCertUsingEST() csr_file=/tmp/capf/csr/SEP74A02FC0A675.csr\n" +
		"14:05:04.630 |   debug 2:SEP74A02FC0A675:Enrollment rv = 9 (EST_ERR_BAD_PKCS10) with pkcs7 length = 0\n" +
		"14:05:04.630 |   debug 2:SEP74A02FC0A675:Online Cert Signing Failed\n"
	own := func(code string) string {
		return `{"level":"info","ts":"2019-01-16T14:05:04.628Z","kind":"capf-enroll-called","event":{"session":2,"device":"SEP74A02FC0A675","csr_file":"x"},"id":"a"}` + "\n" +
			`{"level":"error","ts":"2019-01-16T14:05:04.630Z","kind":"capf-enrolled","event":{"session":2,"device":"SEP74A02FC0A675","rv":9,"name":"EST_ERR_BAD_PKCS10","pkcs7_length":0},"id":"a"}` + "\n" +
			`{"level":"warn","ts":"2019-01-16T14:05:04.630Z","kind":"enrolment failed","device":"SEP74A02FC0A675","code":"` + code + `","error":"x","id":"a"}` + "\n"
	}
	for _, c := range []struct{ trace, own, want string }{
		{trace, own("malformed-csr"), "malformed-csr"},
		{trace, own("bad-csr-signature"), "bad-csr-signature"},
		{"", own("bad-csr-signature"), "bad-csr-signature"},
		{trace, own("no-such-code"), "malformed-csr bad-csr-signature"},
		{trace, "", "malformed-csr bad-csr-signature"},
	} {
		dir := t.TempDir()
		for name, text := range map[string]string{"capf00000001.txt": c.trace, "onlineca.jsonl": c.own} {
			if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		r := run(t, diagnose.Options{Paths: []string{dir}})
		if f := findingOf(r); f == nil || strings.Join(f.Codes, " ") != c.want || (len(f.Codes) == 1) != (f.Confidence == diagnose.Certain) || r.Totals.Enrolments != 1 {
			t.Errorf("want %s:\n%s", c.want, text(t, r))
		}
	}
}

// The registration authority logs in once for two phones that come together:
// that error.log has no login of the second one is no refused password where
// the web server refused none.
func TestNoLoginIsNoRefusedLoginWhereIISHasNone(t *testing.T) {
	w := newWorld(8)
	surround(w, 10)
	end := endings()[fault.Template]
	end.est = func(w *world, t time.Time, c event.Conn) {
		w.errorLog(t, c, event.ESTNoPeerCertificate{})
		w.refused(t, 200*time.Millisecond, 22, 401)
	}
	device := w.enrol(noon, end)
	dir := t.TempDir()
	w.write(t, dir)
	r := run(t, diagnose.Options{Paths: []string{dir}})
	if e := find(r, device); e == nil || e.Finding == nil || !slices.Equal(e.Finding.Codes, []string{"template"}) || e.Finding.Confidence != diagnose.Likely {
		t.Errorf("%s", only(t, r, device))
	}
}

// IIS notes a request without a user for a login that nobody waited for (64,
// ERROR_NETNAME_DELETED), too: nobody was let in by it.
func TestAnonymousAccessIsNotAnAbortedLogin(t *testing.T) {
	for win32, want := range map[string]string{"0": "not-challenged", "64": ""} {
		file := filepath.Join(t.TempDir(), "iis.log")
		line := "2019-01-16 14:05:02 14.48.31.152 GET /certsrv - 443 - 14.48.31.125 CiscoRA+1.0 - 200 0 " + win32 + " 15\n"
		if err := os.WriteFile(file, []byte(line), 0o600); err != nil {
			t.Fatal(err)
		}
		r := run(t, diagnose.Options{Paths: []string{file}})
		got := ""
		if f := findingOf(r); f != nil {
			got = strings.Join(f.Codes, " ")
		}
		if got != want {
			t.Errorf("win32 %s: %q, want %q\n%s", win32, got, want, text(t, r))
		}
	}
}

// Clocks may be wrong by hours and seconds, differently in each log.
func TestWrongClocks(t *testing.T) {
	for _, c := range []struct{ capf, err, web time.Duration }{
		{0, 0, 0}, {time.Hour, 0, 0}, {0, 3 * time.Hour, -7 * time.Second}, {-2 * time.Hour, -2 * time.Hour, 90 * time.Second},
	} {
		w := newWorld(4)
		w.skewCAPF, w.skewError, w.skewIIS = c.capf, c.err, c.web
		surround(w, 30)
		device := w.enrol(noon, endings()[fault.EnrollTimeout])
		dir := t.TempDir()
		w.write(t, dir)
		r := run(t, diagnose.Options{Paths: []string{dir}})
		e := find(r, device)
		if e == nil || e.Finding == nil || !slices.Equal(e.Finding.Codes, []string{"enroll-timeout"}) {
			t.Errorf("%v:\n%s", c, only(t, r, device))
		}
	}
}

// However the logs are cut into slices of time, the report is the same.
func TestSlicesDoNotShow(t *testing.T) {
	w := newWorld(30)
	surround(w, 100)
	at := noon.Add(-5 * time.Minute)
	for _, code := range []fault.Code{fault.Template, fault.EnrollTimeout, fault.BadCredentials, fault.DNS, fault.ESTUnreachable, fault.FetchTimeout} {
		w.enrol(at, endings()[code])
		at = at.Add(97 * time.Second)
	}
	dir := t.TempDir()
	w.write(t, dir)
	o := diagnose.Options{Paths: []string{dir}, Good: 1000}
	whole := run(t, o)
	if whole.Totals.Good != 100 || whole.Totals.Failed != 6 {
		t.Fatalf("%+v", whole.Totals)
	}
	for _, size := range []int{1, 7, 50, 333} {
		if diff := cmp.Diff(whole, run(t, o.WithSlice(size)), cmpopts.IgnoreUnexported(diagnose.File{})); diff != "" {
			t.Errorf("slices of %d: %s", size, diff)
		}
	}
}

// Two phones at once: each gets its own fault.
func TestTwoPhonesInterleaved(t *testing.T) {
	w := newWorld(5)
	surround(w, 10)
	all := endings()
	one := w.enrol(noon, all[fault.LoginTimeout])
	two := w.enrol(noon.Add(150*time.Millisecond), all[fault.DNS])
	dir := t.TempDir()
	w.write(t, dir)
	r := run(t, diagnose.Options{Paths: []string{dir}})
	for device, code := range map[string]string{one: "login-timeout", two: "dns"} {
		if e := find(r, device); e == nil || e.Finding == nil || !slices.Equal(e.Finding.Codes, []string{code}) {
			t.Errorf("%s: %+v\n%s", code, e, only(t, r, device))
		}
	}
}

func TestSlowButGood(t *testing.T) {
	w := newWorld(6)
	surround(w, 5)
	device := w.enrol(noon, ending{after: 7 * time.Second, web: func(w *world, t time.Time) {
		w.login(t)
		w.submit(t.Add(6500*time.Millisecond), 6400*time.Millisecond)
		w.fetch(t.Add(6600 * time.Millisecond))
	}})
	dir := t.TempDir()
	w.write(t, dir)
	r := run(t, diagnose.Options{Paths: []string{dir}})
	e := find(r, device)
	if e == nil || !e.Slow || r.Exit != 0 || r.Totals.Slow != 1 {
		t.Fatalf("%s", text(t, r))
	}
	if out := text(t, r); !strings.Contains(out, "POST certfnsh.asp (the request) 6.4 s") {
		t.Errorf("%s", out)
	}
}

func TestOptions(t *testing.T) {
	w := newWorld(7)
	surround(w, 10)
	device := w.enrol(noon, endings()[fault.DNS])
	dir := t.TempDir()
	w.write(t, dir)
	r := run(t, diagnose.Options{Paths: []string{dir}, Device: strings.ToLower(device)})
	if r.Totals.Enrolments != 1 || r.Enrolments[0].Device != device {
		t.Errorf("device: %+v", r.Totals)
	}
	if r = run(t, diagnose.Options{Paths: []string{dir, "../logfmt/nginx/testdata/ces-start.error.log"}, Since: noon.AddDate(1, 0, 0)}); r.Totals.Starts != 0 || r.Totals.Enrolments != 0 {
		t.Errorf("since the year after: %+v", r.Totals)
	}
	r = run(t, diagnose.Options{Paths: []string{dir}, Since: noon.Add(10 * time.Second)})
	if r.Totals.Failed != 0 || r.Totals.Good == 0 || r.Totals.Good == 10 {
		t.Errorf("since: %+v", r.Totals)
	}
	r = run(t, diagnose.Options{Paths: []string{dir}, Good: -1})
	if r.Totals.Good != 10 || r.Totals.Listed != 1 {
		t.Errorf("good: %+v", r.Totals)
	}
	r = run(t, diagnose.Options{
		Paths: []string{filepath.Join(dir, capfLog)}, Day: noon, Zones: map[string]time.Duration{"capf": -5 * time.Hour},
	})
	if e := find(r, device); e == nil || e.Start == nil || e.Start.Sub(noon).Abs() > 3*time.Second {
		t.Errorf("day and zone: %+v", e)
	}
	for _, o := range []diagnose.Options{
		{}, {Paths: []string{filepath.Join(dir, "nothing")}}, {Paths: []string{dir}, Format: "xml"},
		{Paths: []string{dir}, Zones: map[string]time.Duration{"iis": 1}}, {Paths: []string{dir}, Zones: map[string]time.Duration{"capf": 15 * time.Hour}},
	} {
		r, err := diagnose.Run(context.Background(), o, &bytes.Buffer{})
		if diagnose.ExitStatus(r, err) != diagnose.ExitUsage {
			t.Errorf("%+v: %v", o, err)
		}
	}
}

func TestFormats(t *testing.T) {
	w := newWorld(8)
	surround(w, 3)
	w.enrol(noon, endings()[fault.Template])
	dir := t.TempDir()
	w.write(t, dir)
	for format, want := range map[diagnose.Format]string{
		diagnose.Text: "fault: template (certain)", diagnose.JSON: `"schema": "onlineca.diagnose/1"`, diagnose.HTML: "<code>template</code>",
	} {
		var b bytes.Buffer
		r, err := diagnose.Run(context.Background(), diagnose.Options{Paths: []string{dir}, Format: format}, &b)
		if err != nil || r.Exit != 1 || !strings.Contains(b.String(), want) {
			t.Errorf("%s: %v, exit %d\n%s", format, err, r.Exit, &b)
		}
		if strings.Contains(b.String(), "\x1b") {
			t.Errorf("%s: coloured although it is no terminal", format)
		}
	}
	var b bytes.Buffer
	r := run(t, diagnose.Options{Paths: []string{dir}})
	if err := r.WriteText(&b, diagnose.ColourOn); err != nil || !strings.Contains(b.String(), "\x1b[31m") {
		t.Errorf("%v: no colour", err)
	}
}

// A page must not become one of somebody else's making.
func TestLogsCannotWriteThePage(t *testing.T) {
	dir := t.TempDir()
	line := "12:00:00.000 |   debug 2:SEP1:Enrollment rv = 43 (EST_ERR_IP_CONNECT) with pkcs7 length = 0<script>alert(1)</script>\x1b[31m"
	lines := "12:00:00.000 |   debug 2:SEP1:Calling enrollCertUsingEST() csr_file=<script>\x1b]0;x\x07\n" + line + "\n" +
		"12:00:00.000 |   debug 2:SEP1:Return value from enrollCertUsingEST() : 43\n12:00:00.000 |   debug 2:SEP1:device cannot sign CSR <script>\x1b[2J\n"
	if err := os.WriteFile(filepath.Join(dir, "a<b>.txt"), []byte(lines), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, f := range []diagnose.Format{diagnose.HTML, diagnose.Text} {
		var b bytes.Buffer
		if _, err := diagnose.Run(context.Background(), diagnose.Options{Paths: []string{dir}, Format: f}, &b); err != nil {
			t.Fatal(err)
		}
		if strings.Contains(b.String(), "\x1b") || strings.Contains(b.String(), "\x07") || f == diagnose.HTML && strings.Contains(b.String(), "<script") {
			t.Errorf("%s: %q", f, &b)
		}
	}
}

func ExampleRun() {
	_, err := diagnose.Run(context.Background(), diagnose.Options{Paths: []string{"../logfmt/nginx/testdata/ces-dns.stdout"}}, os.Stdout)
	fmt.Println(err)
	// Output:
	// Faults found. 0 enrolments: 0 good, 0 failed; 1 start of the service, 1 failed.
	//       1 × dns (certain)
	//
	// Start of the service (ces): failed
	//   fault: dns (certain)
	//   what:  the name of the certsrv host does not resolve
	//   cause: The registration authority's resolver does not know the configured Online CA hostname.
	//   fix:   Correct the hostname (Online CA Hostname, certsrv.url), or the DNS server that this machine asks.
	//     ../logfmt/nginx/testdata/ces-dns.stdout:3
	//       nginx: [warn] login_to_certsrv_ca: Curl call for MS CA login failed with return code 6 (Could not resolve: lab-dcc.michamen.com (Domain name not found))
	//     ../logfmt/nginx/testdata/ces-dns.stdout:4
	//       nginx: [warn] login_to_certsrv_ca: URL used: https://lab-dcc.michamen.com:443/certsrv
	//     ../logfmt/nginx/testdata/ces-dns.stdout:5
	//       nginx: [error] retrieve_cacerts: Unable to execute login to certsrv with curl
	//     ../logfmt/nginx/testdata/ces-dns.stdout:6
	//       nginx: [warn] ra_certsrv_ca_plugin_postconf: Unable to retrieve CA Cert chain from CA
	//
	// What was read
	//   ces       ../logfmt/nginx/testdata/ces-dns.stdout: 6 lines, 549 bytes
	// <nil>
}

// A phone that CAPF refuses leaves nothing in the other logs.
func TestNothingIsWellWithoutCAPF(t *testing.T) {
	iis := run(t, diagnose.Options{Paths: []string{"../logfmt/iis/testdata/iis-start.log"}})
	if iis.Exit != diagnose.ExitCouldNotTell || len(iis.Missing) != 1 || iis.Missing[0].Log != "capf" {
		t.Errorf("exit %d, missing %+v", iis.Exit, iis.Missing)
	}
	start := run(t, diagnose.Options{Paths: []string{"../logfmt/nginx/testdata/ces-start.stdout"}})
	if start.Exit != diagnose.ExitNothingWrong || len(start.Missing) != 1 {
		t.Errorf("a start: exit %d, missing %+v", start.Exit, start.Missing)
	}
}
