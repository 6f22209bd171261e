package diagnose_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/onlineca/onlineca/internal/diagnose"
	"github.com/onlineca/onlineca/ra/event"
)

var dnsFailure = event.UpstreamFailed{Step: event.StepLogin, URL: host + "/certsrv", Curl: 6, Text: "Could not resolve: lab-dcc.michamen.com (Domain name not found)"}

// A service that could not reach certsrv at its start fails every enrolment
// after it, and CAPF only says 35.
func TestEnrolmentsAfterAFailedStart(t *testing.T) {
	w := newWorld(20)
	w.start(event.RAValueMissing{What: "CA Chain"}, event.RAValueMissing{What: "CA Cert response"}, dnsFailure, event.ChainUnavailable{}, event.RAStarted{PID: 31070})
	device := w.enrol(noon, ending{rv: 35, after: 10 * time.Second})
	dir := t.TempDir()
	w.write(t, dir)
	r := run(t, diagnose.Options{Paths: []string{dir}})
	if r.Totals.FailedStarts != 1 || r.Starts[0].PID != 31070 || r.Starts[0].Finding.Codes[0] != "dns" {
		t.Errorf("%+v", r.Starts)
	}
	if e := find(r, device); e == nil || !slices.Equal(e.Finding.Codes, []string{"dns"}) || e.Finding.Confidence != diagnose.Likely {
		t.Errorf("%s", text(t, r))
	}
}

// The same start in CiscoRA's printout and in error.log is one start, and a
// good one after it takes the blame away.
func TestStartsOfTwoLogs(t *testing.T) {
	w := newWorld(21)
	w.start(event.RAValueMissing{What: "CA Chain"}, dnsFailure, event.ChainUnavailable{}, event.RAStarted{PID: 1},
		event.RAValueMissing{What: "CA Chain"}, event.ESTNoSRP{}, event.RAStarted{PID: 2})
	w.errorLog(noon.Add(-time.Hour), event.Conn{}, dnsFailure, event.ChainUnavailable{})
	w.errorLog(noon.Add(-time.Minute), event.Conn{}, event.UpstreamDone{Step: event.StepLogin, URL: host}, event.UpstreamDone{Step: event.StepChain, URL: host}, event.ChainRetrieved{})
	surround(w, 6)
	device := w.enrol(noon, ending{rv: 35, after: 10 * time.Second})
	dir := t.TempDir()
	w.write(t, dir)
	r := run(t, diagnose.Options{Paths: []string{dir}})
	if r.Totals.Starts != 2 || r.Totals.FailedStarts != 1 || len(r.Starts[0].Logs) != 2 || len(r.Starts[1].Logs) != 2 || r.Starts[1].Finding != nil {
		t.Errorf("%+v", r.Starts)
	}
	if e := find(r, device); e == nil || slices.Contains(e.Finding.Codes, "dns") && e.Finding.Confidence != diagnose.Unsure {
		t.Errorf("%s", text(t, r))
	}
}

// What ends without an EST request is named by its status.
func TestStatuses(t *testing.T) {
	for status, code := range map[string]string{
		"Fail:CAPF_OP_FAIL_INVALID_AUTH_STR:3": "auth-string", "Fail:CAPF_OP_FAIL_LATE_REQUEST:11": "deadline-passed",
		"Fail:CAPF_OP_FAIL_OP_TIMED_OUT:8": "keygen-timeout", "Fail:CAPF_OP_FAIL_PHONE_COMM_ERROR:7": "phone-unreachable",
		"Fail:CAPF_OP_FAIL_INVALID_MIC:5": "invalid-mic", "Fail:CAPF_OP_FAIL_INVALID_LSC:4": "invalid-lsc",
	} {
		w := newWorld(22)
		i := strings.LastIndex(status, ":")
		n := 0
		_, _ = fmt.Sscan(status[i+1:], &n)
		w.capf(noon, event.CAPFOperationStatus{Device: "SEP1", Operation: "OPERATION_UPGRADE", Text: status[:i], Code: n, DBStatus: "X", DBNumber: 9})
		dir := t.TempDir()
		w.write(t, dir)
		r := run(t, diagnose.Options{Paths: []string{dir}})
		if e := find(r, "SEP1"); e == nil || e.Finding == nil || !slices.Contains(e.Finding.Codes, code) || r.Exit != 1 {
			t.Errorf("%s: %s", status, text(t, r))
		}
	}
}

// After ten wrong strings within ten minutes the device is locked out.
func TestLockout(t *testing.T) {
	w := newWorld(23)
	for i := range 11 {
		w.capf(noon.Add(time.Duration(i)*30*time.Second), event.CAPFOperationStatus{
			Device: "SEP1", Operation: "OPERATION_UPGRADE", Text: "Fail:CAPF_OP_FAIL_INVALID_AUTH_STR", Code: 3, DBStatus: "X", DBNumber: 10,
		})
	}
	dir := t.TempDir()
	w.write(t, dir)
	r := run(t, diagnose.Options{Paths: []string{dir}})
	got := map[string]int{}
	for _, f := range r.Faults {
		got[f.Codes[0]] = f.Count
	}
	if got["auth-string"] != 10 || got["auth-string-lockout"] != 1 {
		t.Errorf("%+v", r.Faults)
	}
}

// Our own log names the code, also where the product's logs cannot.
func TestOwnLog(t *testing.T) {
	lines := `{"level":"info","ts":"2026-11-21T20:59:31.1Z","kind":"capf-enroll-called","event":{"session":5,"device":"SEP1","csr_file":"x"},"id":"a"}
{"level":"warn","ts":"2026-11-21T20:59:32.1Z","kind":"upstream-failed","event":{"step":"submit","url":"https://ca/certsrv/certfnsh.asp","code":"template-denied","error":"x"},"id":"a","conn":{"number":1,"client":"::1","server":"x:1"}}
{"level":"warn","ts":"2026-11-21T20:59:32.2Z","kind":"est-request","event":{"operation":"simpleenroll","client":"::1","status":400,"code":"template-denied","error":"denied","duration_ns":1000000000},"id":"a","conn":{"number":1,"client":"::1","server":"x:1"}}
{"level":"error","ts":"2026-11-21T20:59:32.3Z","kind":"capf-enrolled","event":{"session":5,"device":"SEP1","rv":13,"name":"EST_ERR_HTTP_BAD_REQ","pkcs7_length":0},"id":"a"}
{"level":"info","ts":"2026-11-21T20:59:33Z","kind":"plain words"}
{"level":"info","ts":"2026-11-21T20:59:33Z","kind":"est-request","event":{"operation":"cacerts","client":"::1","status":200},"id":"b"}
{"torn":
`
	file := filepath.Join(t.TempDir(), "x")
	if err := os.WriteFile(file, []byte(lines), 0o600); err != nil {
		t.Fatal(err)
	}
	r := run(t, diagnose.Options{Paths: []string{file}})
	e := find(r, "SEP1")
	if e == nil || e.Finding == nil || !slices.Equal(e.Finding.Codes, []string{"template-denied"}) || e.Finding.Confidence != diagnose.Certain ||
		r.Totals.Enrolments != 1 || r.Totals.UnknownLines != 1 {
		t.Errorf("%+v\n%s", r.Totals, text(t, r))
	}
}

// What our own service asks certsrv for in the background, long after its start,
// is no start, and what it finds there is nobody's failure.
func TestBackgroundIsNoStart(t *testing.T) {
	var lines strings.Builder
	at := noon
	say := func(kind, body string) {
		at = at.Add(time.Second)
		fmt.Fprintf(&lines, `{"level":"info","ts":%q,"kind":%q,"event":%s}`+"\n", at.UTC().Format(time.RFC3339Nano), kind, body)
	}
	say("ra-value-missing", `{"what":"CA Chain"}`)
	say("ra-value-missing", `{"what":"CA Cert response"}`)
	say("upstream-done", `{"step":"login","url":"https://ca/certsrv"}`)
	say("upstream-done", `{"step":"chain","url":"https://ca/certsrv/certnew.p7b"}`)
	say("chain-retrieved", `{}`)
	say("ra-started", `{"pid":4711}`)
	for range 3 {
		say("upstream-done", `{"step":"login","url":"https://ca/certsrv"}`)
		say("upstream-failed", `{"step":"fetch","url":"https://ca/certsrv/certnew.cer","code":"wrong-key-certificate","error":"x"}`)
		say("upstream-failed", `{"step":"login","url":"https://ca/certsrv","code":"dns","error":"x"}`)
	}
	file := filepath.Join(t.TempDir(), "x")
	if err := os.WriteFile(file, []byte(lines.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	r := run(t, diagnose.Options{Paths: []string{file}})
	if r.Totals.Starts != 1 || r.Totals.FailedStarts != 0 || len(r.Faults) != 0 || r.Starts[0].PID != 4711 {
		t.Errorf("%+v\n%s", r.Totals, text(t, r))
	}
}

// A TLS handshake with the EST server that fails at once was refused by one of
// the two; one that takes long can have any reason for which nobody answers.
func TestNoHandshake(t *testing.T) {
	for after, sure := range map[time.Duration]diagnose.Confidence{20 * time.Millisecond: diagnose.Likely, 10 * time.Second: diagnose.Unsure} {
		w := newWorld(24)
		device := w.enrol(noon, ending{rv: 38, after: after})
		dir := t.TempDir()
		w.write(t, dir)
		e := find(run(t, diagnose.Options{Paths: []string{dir}}), device)
		if e == nil || e.Finding == nil || e.Finding.Confidence != sure || e.Finding.Codes[0] != "est-server-trust" ||
			slices.Contains(e.Finding.Codes, "ntlm-disabled") != (sure == diagnose.Unsure) {
			t.Errorf("after %v: %+v", after, e.Finding)
		}
	}
}
