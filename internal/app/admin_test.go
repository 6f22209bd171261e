package app

import (
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/onlineca/onlineca/ra"
	"github.com/onlineca/onlineca/ra/fault"
	"github.com/onlineca/onlineca/testenv"
)

// get asks the admin handler.
func (x *site) get(t *testing.T, path, accept string) (status int, contentType, body string) {
	t.Helper()
	req := httptest.NewRequest(http.MethodGet, path, nil)
	if accept != "" {
		req.Header.Set("Accept", accept)
	}
	w := httptest.NewRecorder()
	x.AdminHandler(false).ServeHTTP(w, req)
	return w.Code, w.Header().Get("Content-Type"), w.Body.String()
}

// Certsrv in trouble: so many failures, then nothing is asked of it, clients
// are told to come back, and /readyz says why. Once it is well, all is.
func TestBreakerShedsAsRetryAfter(t *testing.T) {
	m := testenv.New(t, testenv.Config{})
	s := hostSettings(m)
	s.Certsrv.Breaker = BreakerSettings{Failures: 3, Pause: 100 * time.Millisecond}
	x := startSite(t, s, hostParts(t, m))
	if status, kind, body := x.get(t, "/readyz", ""); status != http.StatusOK || !strings.HasPrefix(kind, "text/plain") || !strings.HasPrefix(body, "ready\n") {
		t.Errorf("%d %s %s", status, kind, body)
	}
	m.Inject(testenv.Status500, testenv.On(testenv.StepSubmit), testenv.Times(testenv.Forever))
	for i := range 3 {
		if status, _, body := x.enroll(t, "simpleenroll"); status != http.StatusBadGateway {
			t.Fatalf("failure %d: %d %s", i, status, body)
		}
	}
	// The pause is over soon, and the trial fails: whatever is asked of certsrv
	// from here on is a trial.
	shed := 0
	until(t, "a request is shed", func() bool {
		asked := m.Begun(testenv.StepSubmit)
		status, retry, _ := x.enroll(t, "simpleenroll")
		if status != http.StatusAccepted {
			return false
		}
		if n, err := strconv.Atoi(retry); err != nil || n < 1 || m.Begun(testenv.StepSubmit) != asked {
			t.Errorf("Retry-After %q, asked %d times", retry, m.Begun(testenv.StepSubmit)-asked)
		}
		shed++
		return shed == 3
	})
	until(t, "readyz says that the breaker is open", func() bool {
		x.enroll(t, "simpleenroll") // a failed trial opens it again
		status, kind, body := x.get(t, "/readyz?format=json", "")
		if status == http.StatusOK {
			return false // half-open just now
		}
		var is Readiness
		if err := json.Unmarshal([]byte(body), &is); err != nil || status != http.StatusServiceUnavailable || kind != "application/json" {
			t.Fatalf("%d %s %s: %v", status, kind, body, err)
		}
		for _, c := range is.Checks {
			if strings.HasPrefix(c.Name, "certsrv 127.0.0.1:") && !c.OK && strings.Contains(c.Text, "breaker open until") && strings.Contains(c.Text, "web server of certsrv answered with an error") {
				return true
			}
		}
		t.Fatalf("it does not say why: %s", body)
		return false
	})
	m.ClearFaults()
	until(t, "an enrolment succeeds again", func() bool { status, _, _ := x.enroll(t, "simpleenroll"); return status == http.StatusOK })
	if status, kind, body := x.get(t, "/readyz", "application/json"); status != http.StatusOK || kind != "application/json" || !strings.Contains(body, `"ready": true`) {
		t.Errorf("%d %s %s", status, kind, body)
	}
}

// Where passwords are passed through to a certsrv that is left alone, the
// client is not refused: it comes back.
func TestBreakerAndPassedThroughPasswords(t *testing.T) {
	m := testenv.New(t, testenv.Config{})
	s := hostSettings(m)
	s.EST.Auth = AuthSettings{Certsrv: true, Require: "any"}
	s.Certsrv.Breaker = BreakerSettings{Failures: 1, Pause: time.Hour}
	x := startSite(t, s, hostParts(t, m))
	m.Inject(testenv.Status500, testenv.On(testenv.StepPage))
	auth := func(r *http.Request) { r.SetBasicAuth(testenv.DefaultUser, testenv.DefaultPassword) }
	if status, _, body, err := x.tryEnroll("simpleenroll", auth); err != nil || status != http.StatusBadGateway {
		t.Fatalf("%d %s, %v", status, body, err)
	}
	asked := len(m.Requests())
	status, retry, body, err := x.tryEnroll("simpleenroll", auth)
	if n, bad := strconv.Atoi(retry); err != nil || status != http.StatusAccepted || bad != nil || n < 3500 || len(m.Requests()) != asked {
		t.Errorf("%d, Retry-After %q, %s, %v", status, retry, body, err)
	}
}

// A refused login of the service's own account is said, for as long as no
// other is tried.
func TestReadyzSaysThatTheLoginIsRefused(t *testing.T) {
	m := testenv.New(t, testenv.Config{LockoutThreshold: 1})
	s := hostSettings(m)
	s.EST.Auth = AuthSettings{Certsrv: true, Require: "any"}
	x := startSite(t, s, hostParts(t, m))
	// Somebody locks the account with another password, then IIS restarts.
	if status, _, _, err := x.tryEnroll("simpleenroll", func(r *http.Request) { r.SetBasicAuth(testenv.DefaultUser, "guess") }); err != nil || status != http.StatusUnauthorized {
		t.Fatal(status, err)
	}
	if status, _, body := x.get(t, "/readyz", ""); status != http.StatusOK {
		t.Errorf("a client's bad password is no trouble of the service: %d %s", status, body)
	}
	m.Restart(0)
	_ = x.chain.Refresh(t.Context())
	status, _, body := x.get(t, "/readyz", "")
	if status != http.StatusServiceUnavailable || !strings.Contains(body, "FAILED  certsrv 127.0.0.1:") || !strings.Contains(body, "login refused at") {
		t.Errorf("%d %s", status, body)
	}
	if strings.Contains(body, testenv.DefaultPassword) {
		t.Error("it shows the password")
	}
	if is := x.Readiness(time.Now().Add(s.Certsrv.LoginPause)); !is.Ready {
		t.Errorf("the pause is over and nobody knows better:\n%s", is)
	}
}

// Every check by itself, at times of its own.
func TestChecks(t *testing.T) {
	certPEM, _, err := selfSigned([]string{"a"}, testTime)
	if err != nil {
		t.Fatal(err)
	}
	certs, err := parsePEM(certPEM)
	if err != nil {
		t.Fatal(err)
	}
	trouble := fault.New(fault.ConnectTimeout, "certsrv: log in", nil)
	for _, c := range []struct {
		name  string
		check Check
		ok    bool
		text  string
	}{
		{"good chain", checkChain(certs, nil, testTime), true, "1 certificates; onlineca EST server expires on"},
		{"expired chain", checkChain(certs, nil, testTime.Add(2*ownValidity)), false, "expired on"},
		{"early chain", checkChain(certs, nil, testTime.Add(-time.Hour)), false, "is the clock right?"},
		{"no chain", checkChain(nil, nil, testTime), false, "not there"},
		{"queue", checkQueue(ra.LoadStatus{Running: 8, Waiting: 9, Capacity: 10}), true, "8 enrolments with certsrv, 9 of at most 10 wait"},
		{"full queue", checkQueue(ra.LoadStatus{Running: 8, Waiting: 10, Capacity: 10}), false, "10 of at most 10"},
		{"store", checkStore(nil), true, "it can be written to"},
		{"store that is gone", checkStore(fault.New(fault.DiskFull, "store: ping", nil)), false, "store: ping"},
		{"no queue", checkQueue(ra.LoadStatus{Running: 8}), true, "8 enrolments"},
		{"new host", checkTarget(ra.TargetStatus{Breaker: ra.BreakerStatus{State: ra.BreakerClosed}}, time.Minute, testTime), true, "not asked yet"},
		{"good host", checkTarget(ra.TargetStatus{Success: testTime, Breaker: ra.BreakerStatus{State: ra.BreakerClosed}}, time.Minute, testTime), true, "good at"},
		{"shaky host", checkTarget(ra.TargetStatus{Breaker: ra.BreakerStatus{State: ra.BreakerClosed, Failures: 2, Cause: trouble}}, time.Minute, testTime), true, "2 failures in a row; the last: certsrv: log in"},
		{"open", checkTarget(ra.TargetStatus{Breaker: ra.BreakerStatus{State: ra.BreakerOpen, Failures: 5, Cause: trouble, Until: testTime}}, time.Minute, testTime), false, "breaker open until"},
		{"half-open", checkTarget(ra.TargetStatus{Breaker: ra.BreakerStatus{State: ra.BreakerHalfOpen, Failures: 5, Cause: trouble}}, time.Minute, testTime), true, "trial"},
		{"refused", checkTarget(ra.TargetStatus{Refused: trouble, Since: testTime, Breaker: ra.BreakerStatus{State: ra.BreakerClosed}}, time.Minute, testTime.Add(59*time.Second)), false, "login refused"},
		{"refused long ago", checkTarget(ra.TargetStatus{Refused: trouble, Since: testTime, Breaker: ra.BreakerStatus{State: ra.BreakerClosed}}, time.Minute, testTime.Add(time.Minute)), true, "not asked yet"},
	} {
		if c.check.OK != c.ok || !strings.Contains(c.check.Text, c.text) {
			t.Errorf("%s: %+v, want %v and %q", c.name, c.check, c.ok, c.text)
		}
	}
}

// The port itself: what is there, what is not, and what healthcheck makes of
// it.
func TestAdminPort(t *testing.T) {
	m := testenv.New(t, testenv.Config{})
	s := hostSettings(m)
	x := startSite(t, s, hostParts(t, m))
	for _, profiles := range []bool{false, true} {
		admin, err := startAdmin(t.Context(), AdminSettings{Listen: "127.0.0.1:0"}, nil)
		if err != nil {
			t.Fatal(err)
		}
		address := admin.listen.Addr().String()
		for what, status := range map[string]int{"GET /healthz": 200, "GET /readyz": 503, "GET /metrics": 404} {
			method, path, _ := strings.Cut(what, " ")
			if got := ask(t, method, "http://"+address+path); got != status {
				t.Errorf("before the start is over: %s answers %d, want %d", what, got, status)
			}
		}
		if err := Healthcheck(t.Context(), Settings{Admin: AdminSettings{Listen: address}}); err == nil || !strings.Contains(err.Error(), "logging in to certsrv") {
			t.Errorf("healthcheck before the start is over: %v", err)
		}
		admin.answerFor(x.RA, AdminSettings{PProf: profiles})
		want := map[string]int{
			"GET /healthz": 200, "HEAD /healthz": 200, "GET /readyz": 200, "GET /metrics": 200, "GET /": 404, "POST /healthz": 405,
			"GET /.well-known/est/cacerts": 404, "GET /debug/pprof/": 404, "GET /debug/pprof/goroutine": 404,
		}
		if profiles {
			want["GET /debug/pprof/"], want["GET /debug/pprof/goroutine"], want["GET /debug/pprof/cmdline"] = 200, 200, 200
		}
		for what, status := range want {
			method, path, _ := strings.Cut(what, " ")
			if got := ask(t, method, "http://"+address+path); got != status {
				t.Errorf("profiles %v: %s answers %d, want %d", profiles, what, got, status)
			}
		}
		if err := Healthcheck(t.Context(), Settings{Admin: AdminSettings{Listen: address}}); err != nil {
			t.Errorf("healthcheck: %v", err)
		}
		admin.close()
		if err := Healthcheck(t.Context(), Settings{Admin: AdminSettings{Listen: address}}); err == nil {
			t.Error("healthcheck of a port that is closed: no error")
		}
	}
	x.draining.Store(true)
	admin, err := startAdmin(t.Context(), AdminSettings{Listen: "127.0.0.1:0"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	admin.answerFor(x.RA, AdminSettings{})
	defer admin.close()
	_, port, _ := net.SplitHostPort(admin.listen.Addr().String())
	err = Healthcheck(t.Context(), Settings{Admin: AdminSettings{Listen: "0.0.0.0:" + port}})
	if err == nil || !strings.Contains(err.Error(), "being shut down") || strings.Contains(err.Error(), "\nok") {
		t.Errorf("healthcheck of a server that ends: %v", err)
	}
	var none *adminServer
	none.close()
	if none, err = startAdmin(context.Background(), AdminSettings{}, nil); none != nil || err != nil {
		t.Errorf("no address: %v, %v", none, err)
	}
}

func ask(t *testing.T, method, url string) int {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	_, _ = io.Copy(io.Discard, resp.Body)
	return resp.StatusCode
}
