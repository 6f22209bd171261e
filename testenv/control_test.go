package testenv_test

import (
	"context"
	"encoding/json"
	"flag"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/onlineca/onlineca/ra/event"
	"github.com/onlineca/onlineca/testenv"
)

// control calls the control API.
func control(t *testing.T, base, method, path, body string) (int, string) {
	t.Helper()
	req, err := http.NewRequest(method, base+"/control/"+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json; charset=utf-8")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(b)
}

func TestControl(t *testing.T) {
	v := visit(t, testenv.Config{})
	api := httptest.NewServer(v.s.ControlHandler())
	defer api.Close()
	csr, _ := newCSR(t, "SEP001122334455")
	v.submit(csr, "CertificateTemplate:CiscoRAManual")
	v.submit(csr, "CertificateTemplate:CiscoRAManual")
	for _, tc := range []struct {
		method, path, body string
		status             int
		want               string
	}{
		{"POST", "approve", `{"req_id": 1}`, 204, ""},
		{"POST", "approve", `{"req_id": 1}`, 422, "not pending"},
		{"POST", "approve", `{"req_id": 99}`, 404, "no such request"},
		{"POST", "deny", `{"req_id": 2}`, 204, ""},
		{"POST", "revoke", `{"req_id": 2}`, 404, "request 2"},
		{"POST", "approve", `{"reqid": 1}`, 400, "unknown field"},
		{"POST", "approve", `{"req_id": 1}{"req_id": 2}`, 400, "more than one"},
		{"POST", "approve", ``, 400, "the body is empty"},
		{"GET", "", ``, 200, "POST   /control/faults"},
		{"POST", "approve", strings.Repeat(" ", 70_000), 413, "too large"},
		{"GET", "approve", ``, 405, ""},
		{"GET", "nosuch", ``, 404, ""},
		{"POST", "faults", `{"fault": "hang@submit*2"}`, 204, ""},
		{"POST", "faults", `{"fault": "hang@nowhere"}`, 422, "no step"},
		{"GET", "faults", ``, 200, `"waiting":["hang@submit*2"]`},
		{"DELETE", "faults", ``, 204, ""},
		{"GET", "faults", ``, 200, `"waiting":[]`},
		{"POST", "restart", `{"down": "1us"}`, 204, ""},
		{"POST", "restart", `{"down": "-1s"}`, 422, "down is"},
		{"POST", "unlock", `{}`, 204, ""},
		{"POST", "renew", `{}`, 204, ""},
		{"GET", "counts", ``, 200, `"submissions":2`},
		{"GET", "issued", ``, 200, `"subject":"CN=SEP001122334455"`},
		{"GET", "root", ``, 200, "-----BEGIN CERTIFICATE-----"},
		{"DELETE", "requests", ``, 204, ""},
		{"GET", "requests", ``, 200, "[]"},
	} {
		status, body := control(t, api.URL, tc.method, tc.path, tc.body)
		if status != tc.status || !strings.Contains(body, tc.want) {
			t.Errorf("%s %s %s: %d %q, want %d %q", tc.method, tc.path, tc.body, status, body, tc.status, tc.want)
		}
	}
	v.get("/certsrv/certrqxt.asp")
	_, body := control(t, api.URL, "GET", "requests", "")
	var list []testenv.Request
	if err := json.Unmarshal([]byte(body), &list); err != nil || len(list) != 1 {
		t.Fatalf("requests %v: %s", err, body)
	}
	want := v.s.Requests()[0]
	if !list[0].Time.Equal(want.Time) {
		t.Errorf("time %v, want %v", list[0].Time, want.Time)
	}
	if want.Time = list[0].Time; list[0] != want {
		t.Errorf("request %+v, want %+v", list[0], want)
	}
}

// TestControlIsDocumented: docs/certsrv.md has every call, and no other.
func TestControlIsDocumented(t *testing.T) {
	doc, err := os.ReadFile("../docs/certsrv.md")
	if err != nil {
		t.Fatal(err)
	}
	var documented []string
	for _, m := range regexp.MustCompile("(?m)^\\| ([A-Z]+) \\| `/control/(\\w+)` \\| (?:`([^`]*)`)? ?\\|").FindAllStringSubmatch(string(doc), -1) {
		documented = append(documented, strings.TrimSpace(m[1]+" "+m[2]+" "+m[3]))
	}
	v := visit(t, testenv.Config{})
	api := httptest.NewServer(v.s.ControlHandler())
	defer api.Close()
	_, list := control(t, api.URL, "GET", "", "")
	var there []string
	for _, m := range regexp.MustCompile(`(?m)^([A-Z]+) +/control/(\w+) +(\{.*?\})?`).FindAllStringSubmatch(list, -1) {
		there = append(there, strings.TrimSpace(m[1]+" "+m[2]+" "+m[3]))
	}
	if diff := cmp.Diff(there, documented); diff != "" || len(there) < 10 {
		t.Errorf("%d calls (-there +documented):\n%s", len(there), diff)
	}
}

// TestControlIsNotForWebPages: what a page in a browser can send is refused.
func TestControlIsNotForWebPages(t *testing.T) {
	v := visit(t, testenv.Config{})
	api := httptest.NewServer(v.s.ControlHandler())
	defer api.Close()
	resp, err := http.Post(api.URL+"/control/faults", "text/plain", strings.NewReader(`{"fault":"hang"}`))
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusUnsupportedMediaType || len(v.s.Waiting()) != 0 {
		t.Errorf("status %d, waiting %q", resp.StatusCode, v.s.Waiting())
	}
}

func TestServeAlone(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ready, ended := make(chan *testenv.Certsrv), make(chan error)
	go func() {
		ended <- testenv.ServeAlone(ctx, testenv.Alone{
			Control: l, Faults: []string{"status-503@handshake"}, Ready: func(s *testenv.Certsrv) { ready <- s },
		})
	}()
	s := <-ready
	if resp, err := s.Client().Get(s.URL + "/certsrv/"); err != nil || resp.StatusCode != http.StatusServiceUnavailable {
		t.Errorf("with a fault: %v, %v", resp, err)
	}
	base := "http://" + l.Addr().String()
	if status, body := control(t, base, "GET", "counts", ""); status != 200 {
		t.Errorf("control: %d %s", status, body)
	}
	banner := s.Banner("root.pem", base)
	for _, want := range []string{s.URL + "/certsrv/", `LAB\ciscora`, "CiscoRA", "root.pem", base + "/control/", "not to be trusted"} {
		if !strings.Contains(banner, want) {
			t.Errorf("the banner lacks %q:\n%s", want, banner)
		}
	}
	if strings.Contains(banner, testenv.DefaultPassword) {
		t.Error("the banner shows a password")
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if err := testenv.ServeAlone(t.Context(), testenv.Alone{Faults: []string{"nosuch"}}); err == nil {
		t.Error("a fault that there is not is accepted")
	}
}

// TestEvents: one event.WebRequest for each request, as IIS logs them.
func TestEvents(t *testing.T) {
	core, logs := observer.New(zap.InfoLevel)
	s := testenv.New(t, testenv.Config{Log: zap.New(core)})
	c := dialRaw(t, s.URL, s.Pool())
	c.Path = "/certsrv/certnew.p7b?ReqID=CACert&Renewal=0&Enc=bin"
	c.login(good)
	var got []event.WebRequest
	for _, entry := range logs.All() {
		e, _, ok := event.Of(entry.Context)
		w, isWeb := e.(event.WebRequest)
		if !ok || !isWeb {
			t.Fatalf("event %v", entry)
		}
		got = append(got, w)
	}
	if len(got) != 2 {
		t.Fatalf("%d events", len(got))
	}
	w := got[1]
	if w.Stem != "/certsrv/certnew.p7b" || w.Query != "ReqID=CACert&Renewal=0&Enc=bin" || w.User != testenv.DefaultUser ||
		w.ServerIP != "127.0.0.1" || w.ClientIP != "127.0.0.1" || w.Port == 0 || w.Status != 200 || w.Win32 != 0 || w.UserAgent != "Mozilla/5.0 (raw)" {
		t.Errorf("%+v", w)
	}
	if got[0].User != "" || got[0].Status != 401 || got[0].Substatus != 1 || got[0].Win32 != 2148074254 {
		t.Errorf("%+v", got[0])
	}
}

func TestBadConfig(t *testing.T) {
	for name, c := range map[string]testenv.Config{
		"language": {Language: "tlh"},
		"EPA":      {EPA: "sometimes"},
		"scheme":   {Schemes: []testenv.Scheme{"Digest"}},
		"account":  {Accounts: []testenv.Account{{Name: `LAB\user`}}},
		"template": {Templates: []testenv.Template{{DisplayName: "no name"}}},
		"renewals": {Renewals: 7},
		"address":  {Addr: "127.0.0.1:port"},
		"both":     {Standalone: true, Templates: testenv.DefaultTemplates()},
	} {
		if s, err := testenv.Start(c); err == nil {
			s.Close()
			t.Errorf("%s: accepted", name)
		}
	}
}

var update = flag.Bool("update", false, "write FAULTS.md anew")

// TestFaultsAreDocumented compares FAULTS.md with the table.
func TestFaultsAreDocumented(t *testing.T) {
	const intro = "# Faults of the mock\n\n" +
		"Written by `go test ./testenv -run TestFaultsAreDocumented -update` from the table in the code.\n\n" +
		"In Go: `s.Inject(testenv.Hang, testenv.On(testenv.StepSubmit), testenv.Times(2))`. As text, on the command line\n" +
		"(`onlineca certsrv --fault`) and for the control API: `name[:parameter][@step][*times]`, as in `hang@submit*2`,\n" +
		"`slow:12s@login`, `deny:0x80094012`, `rpc-down*forever`. Without a step, a fault happens at the first that its row\n" +
		"names; `any` is every step but `handshake`, which is a leg of a login. Without a number, it happens once.\n\n"
	want := intro + testenv.FaultsMarkdown()
	if *update {
		if err := os.WriteFile("FAULTS.md", []byte(want), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile("FAULTS.md")
	if err != nil || string(got) != want {
		t.Errorf("FAULTS.md is not what the table says (%v): run the test with -update", err)
	}
}
