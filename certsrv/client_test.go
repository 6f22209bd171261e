package certsrv_test

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/onlineca/onlineca/certsrv"
	"github.com/onlineca/onlineca/ra"
	"github.com/onlineca/onlineca/ra/event"
	"github.com/onlineca/onlineca/ra/fault"
	"github.com/onlineca/onlineca/testenv"
)

// The client is all that the registration authority needs of an upstream.
var (
	_ ra.Enroller      = (*certsrv.Client)(nil)
	_ ra.ChainSource   = (*certsrv.Client)(nil)
	_ ra.Authenticator = (*certsrv.Client)(nil)
)

var testKey = sync.OnceValue(func() crypto.Signer {
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	return k
})

func newCSR(tb testing.TB, cn string, key crypto.Signer) *x509.CertificateRequest {
	tb.Helper()
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: pkix.Name{CommonName: cn}}, key)
	if err != nil {
		tb.Fatal(err)
	}
	csr, err := x509.ParseCertificateRequest(der)
	if err != nil {
		tb.Fatal(err)
	}
	return csr
}

func request(tb testing.TB, cn string) ra.Request {
	tb.Helper()
	return ra.Request{Operation: ra.Enroll, CSR: newCSR(tb, cn, testKey())}
}

// config returns a client's configuration for s, with its default account.
func config(s *testenv.Certsrv) certsrv.Config {
	return certsrv.Config{
		URL: s.URL + "/certsrv", Username: testenv.DefaultUser, Password: testenv.DefaultPassword,
		Template: "CiscoRA", Roots: s.Pool(),
	}
}

// watched is config, and what a client with it logs.
func watched(s *testenv.Certsrv) (certsrv.Config, *observer.ObservedLogs) {
	cfg := config(s)
	core, logs := observer.New(zap.DebugLevel)
	cfg.Logger = zap.New(core)
	return cfg, logs
}

func newClient(tb testing.TB, cfg certsrv.Config) *certsrv.Client {
	tb.Helper()
	c, err := certsrv.New(cfg)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(c.Close)
	return c
}

// counts are what a server saw.
type counts struct{ requests, logins, failed int }

func count(s *testenv.Certsrv) counts {
	var n counts
	for _, r := range s.Requests() {
		switch {
		case r.Login:
			n.logins++
		case r.Status == 401 && r.Win32 != 2148074254:
			n.failed++
		case r.Status == 200:
			n.requests++
		}
	}
	return n
}

func TestEnroll(t *testing.T) {
	s := testenv.New(t, testenv.Config{EPA: testenv.EPARequire, RequireMIC: true})
	c := newClient(t, config(s))
	r := request(t, "SEP001122334455")
	res, err := c.Enroll(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	if res.State != ra.Issued || res.ReqID == 0 || res.Certificate.Subject.CommonName != "SEP001122334455" {
		t.Errorf("%+v", res)
	}
	chain, err := c.CACerts(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := res.Certificate.CheckSignatureFrom(chain[0]); err != nil {
		t.Error(err)
	}
	if !chain[len(chain)-1].Equal(s.Root) {
		t.Error("the chain does not end at the root")
	}
}

// An enrolment costs two requests and no login.
func TestSteadyStateCosts(t *testing.T) {
	s := testenv.New(t, testenv.Config{})
	c := newClient(t, config(s))
	if err := c.Login(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.ResetRequests()
	for range 3 {
		if _, err := c.Enroll(t.Context(), request(t, "SEP001122334455")); err != nil {
			t.Fatal(err)
		}
	}
	if all := s.Requests(); len(all) != 6 {
		t.Errorf("3 enrolments cost %d requests: %+v", len(all), all)
	}
	if n := count(s); n.logins != 0 || n.failed != 0 {
		t.Errorf("%+v", n)
	}
}

// 320 enrolments by 32 workers over 8 sessions: 8 logins, and none that failed.
//
// net/http closes a connection instead of using it again when its own goroutine
// has not run for 50 ms, as happens on a machine that is very busy. That costs a
// login more, so the count is looked at up to three times.
func TestThirtyTwoWorkers(t *testing.T) {
	want := counts{requests: 640, logins: 8}
	var got counts
	for range 3 {
		if got = thirtyTwoWorkers(t); got == want || t.Failed() {
			return
		}
	}
	t.Errorf("%+v, want %+v", got, want)
}

func thirtyTwoWorkers(t *testing.T) counts {
	t.Helper()
	s := testenv.New(t, testenv.Config{EPA: testenv.EPARequire, LockoutThreshold: 2})
	c := newClient(t, config(s))
	r := request(t, "SEP001122334455")
	var wg sync.WaitGroup
	for range 32 {
		wg.Go(func() {
			for range 10 {
				if _, err := c.Enroll(t.Context(), r); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	n, st := count(s), c.Stats()
	if n.requests != 640 || n.failed != 0 || st.Requests != 640 || st.Rejected != 0 || st.Open > 8 || st.Idle != st.Open || int(st.Handshakes) != n.logins {
		t.Errorf("%+v, %+v", n, st)
	}
	return n
}

// The events of a start, in the product's order, and the requests that IIS logs.
func TestStart(t *testing.T) {
	s := testenv.New(t, testenv.Config{Renewals: 2})
	cfg, logs := watched(s)
	cfg.UserAgent = "CiscoRA 1.0"
	c := newClient(t, cfg)
	if err := c.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	events := eventsOf(logs)
	if len(events) != 3 {
		t.Fatalf("%+v", events)
	}
	login, chain := events[0].(event.UpstreamDone), events[1].(event.UpstreamDone)
	if login.Step != event.StepLogin || login.URL != s.URL+"/certsrv" || login.Status != 301 || login.Reused ||
		chain.Step != event.StepChain || chain.URL != s.URL+"/certsrv/certnew.p7b?ReqID=CACert&Renewal=2&Enc=bin" || !chain.Reused {
		t.Errorf("%+v", events)
	}
	if got := events[2]; got != (event.ChainRetrieved{Certificates: 2}) {
		t.Errorf("%+v", got)
	}
	var lines []string
	for _, r := range s.Requests() {
		lines = append(lines, r.Method+" "+r.Path+" "+r.UserAgent)
	}
	const ua = " CiscoRA 1.0"
	want := []string{"GET /certsrv" + ua, "GET /certsrv" + ua, "GET /certsrv/certcarc.asp" + ua, "GET /certsrv/certnew.p7b" + ua}
	if strings.Join(lines, "\n") != strings.Join(want, "\n") {
		t.Errorf("%q", lines)
	}
	s.ResetRequests()
	if certs, err := c.CACerts(t.Context()); err != nil || len(certs) != 2 || len(s.Requests()) != 0 {
		t.Errorf("the chain of the start was fetched again: %v", err)
	}
	if _, err := c.CACerts(t.Context()); err != nil || len(s.Requests()) != 2 {
		t.Errorf("the chain was not fetched again: %v", err)
	}
}

func eventsOf(logs *observer.ObservedLogs) []event.Event {
	var out []event.Event
	for _, e := range logs.TakeAll() {
		if ev, _, ok := event.Of(e.Context); ok {
			out = append(out, ev)
		}
	}
	return out
}

// A look for a lost answer asks for numbers that are mostly others', or nobody's:
// that is no failure, and is not reported as one. Asked for by its own number, a
// certificate for another key is.
func TestLookEvents(t *testing.T) {
	s := testenv.New(t, testenv.Config{})
	cfg, logs := watched(s)
	c := newClient(t, cfg)
	other, err := c.Enroll(t.Context(), request(t, "SEP001122334455"))
	if err != nil {
		t.Fatal(err)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	mine := ra.Request{Operation: ra.Enroll, CSR: newCSR(t, "SEP001122334456", key)}
	failures := func(ctx context.Context, id int, want fault.Code) (n int) {
		logs.TakeAll()
		if _, err := c.Fetch(ctx, id, mine.CSR); !errors.Is(err, want) {
			t.Errorf("request %d: %v, want %v", id, err, want)
		}
		for _, e := range eventsOf(logs) {
			if _, bad := e.(event.UpstreamFailed); bad {
				n++
			}
		}
		return n
	}
	look := ra.Looking(t.Context())
	for id, code := range map[int]fault.Code{other.ReqID: fault.WrongKeyCertificate, 99999: fault.NoSuchRequest} {
		if n := failures(look, id, code); n != 0 {
			t.Errorf("%v of a look is reported as %d failures", code, n)
		}
		if n := failures(t.Context(), id, code); n != 1 {
			t.Errorf("%v is reported as %d failures", code, n)
		}
	}
	s.Inject(testenv.Status500, testenv.On(testenv.StepFetch), testenv.Times(2))
	if n := failures(look, other.ReqID, fault.ServerError); n == 0 {
		t.Error("a server that fails is not reported, because it was a look")
	}
}

// The events of an enrolment, with and without a login before it.
func TestEnrollEvents(t *testing.T) {
	s := testenv.New(t, testenv.Config{})
	cfg, logs := watched(s)
	c := newClient(t, cfg)
	for _, want := range []string{"login false, submit false, fetch true", "submit true, fetch true"} {
		if _, err := c.Enroll(t.Context(), request(t, "SEP001122334455")); err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, e := range eventsOf(logs) {
			d := e.(event.UpstreamDone)
			got = append(got, fmt.Sprintf("%s %v", d.Step, d.Reused))
		}
		if strings.Join(got, ", ") != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

// The events by which the product's log shows a client's credentials verified.
func TestAuthenticateEvents(t *testing.T) {
	s := testenv.New(t, testenv.Config{})
	cfg, logs := watched(s)
	cfg.Template, cfg.StrictTemplate = "CiscoRAA", true
	c := newClient(t, cfg)
	err := c.Authenticate(t.Context(), ra.Credentials{Username: testenv.DefaultUser, Password: testenv.DefaultPassword})
	if f := fault.Of(err); f == nil || f.Code != fault.Template || !strings.Contains(err.Error(), "CiscoRA") {
		t.Fatalf("%v", err)
	}
	var kinds []string
	for _, e := range eventsOf(logs) {
		kinds = append(kinds, e.Kind())
		if d, ok := e.(event.UpstreamData); ok && d.Length < 100 {
			t.Errorf("%+v", d)
		}
	}
	if got := strings.Join(kinds, " "); got != "upstream-data upstream-done upstream-data upstream-done" {
		t.Error(got)
	}
}

func TestAuthenticate(t *testing.T) {
	s := testenv.New(t, testenv.Config{Accounts: []testenv.Account{
		{Name: "ciscora", Password: testenv.DefaultPassword}, {Name: "second", Password: "another-1"},
	}, LockoutThreshold: 3})
	now := time.Now()
	var mu sync.Mutex
	cfg := config(s)
	cfg.Now = func() time.Time { mu.Lock(); defer mu.Unlock(); return now }
	c := newClient(t, cfg)
	own := ra.Credentials{Username: testenv.DefaultUser, Password: testenv.DefaultPassword}
	auth := func(user, password string) error {
		return c.Authenticate(t.Context(), ra.Credentials{Username: user, Password: password})
	}
	if err := c.Authenticate(t.Context(), own); err != nil {
		t.Fatal(err)
	}
	s.ResetRequests()
	if err := c.Authenticate(t.Context(), own); err != nil || count(s).logins != 0 {
		t.Errorf("own credentials: %v, %d logins", err, count(s).logins)
	}
	for _, form := range []string{`LAB\second`, `lab\Second`} {
		if err := auth(form, "another-1"); err != nil {
			t.Errorf("%s: %v", form, err)
		}
	}
	if err := auth("", "x"); !errors.Is(err, fault.BadCredentials) {
		t.Errorf("no name: %v", err)
	}
	s.ResetRequests()

	// Many at a time, in several forms of the name: one failed logon.
	var wg sync.WaitGroup
	for i := range 20 {
		wg.Go(func() {
			user := []string{`LAB\second`, "second@lab.example", "SECOND"}[i%3]
			err := auth(user, "wrong")
			if !errors.Is(err, fault.BadCredentials) && !errors.Is(err, fault.LoginSuspended) || strings.Contains(err.Error(), "another-1") {
				t.Errorf("%s: %v", user, err)
			}
		})
	}
	wg.Wait()
	if n := count(s).failed; n != 1 {
		t.Errorf("%d failed logons", n)
	}
	if err := auth(`LAB\second`, "another-1"); !errors.Is(err, fault.LoginSuspended) || fault.Of(err).RetryAfter <= 0 {
		t.Errorf("in the pause: %v", err)
	}
	// Nobody can suspend the registration authority's own login so.
	if err := auth(testenv.DefaultUser, "wrong"); !errors.Is(err, fault.BadCredentials) {
		t.Error(err)
	}
	if err := c.Authenticate(t.Context(), own); err != nil {
		t.Error(err)
	}
	mu.Lock()
	now = now.Add(11 * time.Minute)
	mu.Unlock()
	if err := auth(`LAB\second`, "another-1"); err != nil {
		t.Errorf("after the pause: %v", err)
	}
}

// What certsrv says, in every language, becomes the same outcome.
func TestOutcomes(t *testing.T) {
	for _, lang := range []testenv.Language{testenv.English, testenv.German, testenv.French} {
		t.Run(string(lang), func(t *testing.T) {
			s := testenv.New(t, testenv.Config{Language: lang})
			c := newClient(t, config(s))
			for _, tc := range []struct {
				name    string
				inject  []testenv.Fault
				req     func(*ra.Request)
				want    fault.Code
				hresult uint32
				reqID   bool
			}{
				{name: "unknown template", req: func(r *ra.Request) { r.Template = "No-Such" }, want: fault.Template, hresult: 0x80094800, reqID: true},
				{name: "template denied", inject: []testenv.Fault{testenv.Deny.With(0x80094012)}, want: fault.TemplateDenied, hresult: 0x80094012, reqID: true},
				{name: "no template information", inject: []testenv.Fault{testenv.Deny.With(0x80094801)}, want: fault.NoTemplate, hresult: 0x80094801, reqID: true},
				{name: "key length", inject: []testenv.Fault{testenv.Deny.With(0x80094811)}, want: fault.KeyTooShort, hresult: 0x80094811, reqID: true},
				{name: "revocation offline", inject: []testenv.Fault{testenv.Deny.With(0x80092013)}, want: fault.RevocationOffline, hresult: 0x80092013, reqID: true},
				{name: "unknown status", inject: []testenv.Fault{testenv.Deny.With(0x80094815)}, want: fault.DeniedByPolicy, hresult: 0x80094815, reqID: true},
				{name: "terse", inject: []testenv.Fault{testenv.DenyTerse.With(0x80094012)}, want: fault.TemplateDenied, hresult: 0x80094012, reqID: true},
				{name: "RPC", inject: []testenv.Fault{testenv.RPCDown}, want: fault.RPCUnavailable, hresult: 0x800706ba},
				{name: "double hop", inject: []testenv.Fault{testenv.AccessDenied}, want: fault.CAAccessDenied, hresult: 0x80070005},
				{name: "CA stopped", inject: []testenv.Fault{testenv.CAStopped}, want: fault.RPCUnavailable, hresult: 0x800706ba},
				{name: "revoked", inject: []testenv.Fault{testenv.Revoked}, want: fault.Revoked, reqID: true},
				{name: "other page", inject: []testenv.Fault{testenv.UnknownPage}, want: fault.PageUnreadable},
				{name: "empty", inject: []testenv.Fault{testenv.Empty}, want: fault.PageUnreadable},
				{name: "line break", req: func(r *ra.Request) { r.Template = "CiscoRA\r\nSAN:dns=evil" }, want: fault.RequestRefused},
				{name: "no CSR", req: func(r *ra.Request) { r.CSR = nil }, want: fault.MalformedCSR},
				{name: "CSR that is none", req: func(r *ra.Request) {
					csr := *r.CSR
					csr.Raw = csr.Raw[:40]
					r.CSR = &csr
				}, want: fault.MalformedCSR},
			} {
				for _, f := range tc.inject {
					s.Inject(f, testenv.On(testenv.StepSubmit))
				}
				r := request(t, "SEP001122334455")
				if tc.req != nil {
					tc.req(&r)
				}
				_, err := c.Enroll(t.Context(), r)
				f := fault.Of(err)
				if f == nil || f.Code != tc.want || tc.hresult != 0 && f.HRESULT != tc.hresult || (f.ReqID != 0) != tc.reqID && tc.reqID {
					t.Errorf("%s: %v (%+v)", tc.name, err, f)
				}
				if (tc.want == fault.PageUnreadable) != errors.Is(err, fault.OutcomeUnknown) {
					t.Errorf("%s: is the outcome known? %v", tc.name, err)
				}
				s.ClearFaults()
			}
		})
	}
}

func TestFetchOutcomes(t *testing.T) {
	s := testenv.New(t, testenv.Config{})
	c := newClient(t, config(s))
	r := request(t, "SEP001122334455")
	for _, tc := range []struct {
		inject testenv.Fault
		want   fault.Code
	}{
		{testenv.OtherKey, fault.WrongKeyCertificate},
		{testenv.HTMLCertificate, fault.CertificateUnreadable},
		{testenv.BadCertificate, fault.CertificateUnreadable},
		{testenv.Truncated, fault.ConnectionLost},
		{testenv.Endless, fault.BodyTooLarge},
		{testenv.Garbage, fault.PageUnreadable},
		{testenv.Status500, fault.ServerError},
		{testenv.Status404, fault.ServerError},
		{testenv.Elsewhere, fault.WrongHost},
	} {
		// Twice, because a fetch that loses its connection is repeated.
		s.Inject(tc.inject, testenv.On(testenv.StepFetch), testenv.Times(2))
		_, err := c.Enroll(t.Context(), r)
		f := fault.Of(err)
		if f == nil || f.Code != tc.want || f.ReqID == 0 || errors.Is(err, fault.OutcomeUnknown) {
			t.Errorf("%v: %v", tc.inject, err)
		}
		s.ClearFaults()
	}
	if _, err := c.Fetch(t.Context(), 99999, r.CSR); fault.Of(err) == nil || fault.Of(err).Code != fault.NoSuchRequest {
		t.Errorf("unknown number: %v", err)
	}
	if _, err := c.Fetch(t.Context(), 1, nil); !errors.Is(err, fault.Internal) {
		t.Errorf("no CSR: %v", err)
	}
	s.Inject(testenv.CloseConnection, testenv.On(testenv.StepFetch))
	if _, err := c.Enroll(t.Context(), r); err != nil {
		t.Errorf("a fetch whose connection is lost once: %v", err)
	}
}

func TestPending(t *testing.T) {
	s := testenv.New(t, testenv.Config{Language: testenv.German})
	c := newClient(t, config(s))
	r := request(t, "SEP001122334455")
	hold := func() int {
		s.Inject(testenv.Hold)
		res, err := c.Enroll(t.Context(), r)
		if err != nil || res.State != ra.Pending || res.ReqID == 0 || res.RetryAfter != certsrv.DefaultRetryAfter {
			t.Fatalf("%+v %v", res, err)
		}
		if res, err = c.Fetch(t.Context(), res.ReqID, r.CSR); err != nil || res.State != ra.Pending || res.Message == "" {
			t.Fatalf("poll: %+v %v", res, err)
		}
		return res.ReqID
	}
	id := hold()
	if err := s.Approve(id); err != nil {
		t.Fatal(err)
	}
	if res, err := c.Fetch(t.Context(), id, r.CSR); err != nil || res.State != ra.Issued || res.Certificate == nil {
		t.Errorf("%+v %v", res, err)
	}
	id = hold()
	if err := s.Deny(id); err != nil {
		t.Fatal(err)
	}
	_, err := c.Fetch(t.Context(), id, r.CSR)
	if f := fault.Of(err); f == nil || f.Code != fault.DeniedByAdmin || f.ReqID != id || !strings.Contains(f.Message, `\`) {
		t.Errorf("%v", err)
	}
}

// What is lost after the POST is never sent again, and is said to be unknown.
func TestOutcomeUnknown(t *testing.T) {
	start := func(limit time.Duration) (*testenv.Certsrv, *certsrv.Client) {
		s := testenv.New(t, testenv.Config{})
		cfg := config(s)
		cfg.Timeouts.Submit = limit
		c := newClient(t, cfg)
		if err := c.Login(t.Context()); err != nil {
			t.Fatal(err)
		}
		return s, c
	}
	for _, tc := range []struct {
		inject testenv.Fault
		want   fault.Code
	}{
		{testenv.AnswerLost, fault.OutcomeUnknown},
		{testenv.CloseConnection, fault.OutcomeUnknown},
		{testenv.Reset, fault.OutcomeUnknown},
		{testenv.Truncated, fault.OutcomeUnknown},
		{testenv.Endless, fault.OutcomeUnknown},
		{testenv.Garbage, fault.OutcomeUnknown},
		{testenv.Hang, fault.EnrollTimeout},
		{testenv.Stalled, fault.EnrollTimeout},
		{testenv.SlowAnswer, fault.EnrollTimeout},
		{testenv.Status500, fault.ServerError},
	} {
		limit := time.Minute
		if tc.want == fault.EnrollTimeout {
			limit = 150 * time.Millisecond
		}
		s, c := start(limit)
		s.Inject(tc.inject, testenv.On(testenv.StepSubmit))
		_, err := c.Enroll(t.Context(), request(t, "SEP001122334455"))
		f := fault.Of(err)
		if f == nil || f.Code != tc.want || f.Code != fault.EnrollTimeout && !errors.Is(err, fault.OutcomeUnknown) {
			t.Errorf("%v: %v", tc.inject, err)
		}
		if tc.want == fault.EnrollTimeout && !strings.HasPrefix(f.CurlText(), "Operation timed out after ") {
			t.Errorf("%v: %q", tc.inject, f.CurlText())
		}
		s.Close() // nothing is recorded any more
		posts := 0
		for _, r := range s.Requests() {
			if r.Method == http.MethodPost {
				posts++
			}
		}
		if posts != 1 {
			t.Errorf("%v: %d POSTs", tc.inject, posts)
		}
		if f.Unsent {
			t.Errorf("%v: said to be unsent", tc.inject)
		}
	}
	s, c := start(time.Minute)
	ctx, cancel := context.WithCancel(t.Context())
	s.Inject(testenv.Hang, testenv.On(testenv.StepSubmit))
	time.AfterFunc(30*time.Millisecond, cancel)
	if _, err := c.Enroll(ctx, request(t, "SEP001122334455")); !errors.Is(err, fault.OutcomeUnknown) || !errors.Is(err, context.Canceled) {
		t.Errorf("interrupted: %v", err)
	}
}

// Given up before anything was sent is given up, and nothing else.
func TestCanceled(t *testing.T) {
	s := testenv.New(t, testenv.Config{})
	c := newClient(t, config(s))
	ctx, cancel := context.WithCancel(t.Context())
	s.Inject(testenv.Hang, testenv.On(testenv.StepHandshake))
	time.AfterFunc(30*time.Millisecond, cancel)
	if _, err := c.Enroll(ctx, request(t, "SEP001122334455")); !errors.Is(err, fault.Canceled) || errors.Is(err, fault.OutcomeUnknown) {
		t.Errorf("%v", err)
	}
	c.Close()
	if _, err := c.Enroll(t.Context(), request(t, "SEP001122334455")); !errors.Is(err, fault.Canceled) {
		t.Errorf("after Close: %v", err)
	}
}

func TestProbe(t *testing.T) {
	for mode, want := range map[testenv.EPA]string{testenv.EPAOff: "off", testenv.EPAAccept: "accept", testenv.EPARequire: "required"} {
		s := testenv.New(t, testenv.Config{EPA: mode})
		p, err := newClient(t, config(s)).Probe(t.Context())
		if err != nil || p.Mode() != want {
			t.Errorf("%s: %q, %v", mode, p.Mode(), err)
		}
	}
	s := testenv.New(t, testenv.Config{})
	cfg := config(s)
	cfg.Password = "wrong"
	if _, err := newClient(t, cfg).Probe(t.Context()); !errors.Is(err, fault.BadCredentials) {
		t.Errorf("%v", err)
	}
}

// IIS can be set to forget the login after each request. That is no wrong
// password, and costs no failed logon.
func TestLoginThatDoesNotLast(t *testing.T) {
	s := testenv.New(t, testenv.Config{AuthPersistSingleRequest: true})
	c := newClient(t, config(s))
	_, err := c.Enroll(t.Context(), request(t, "SEP001122334455"))
	if !errors.Is(err, fault.ServerError) || errors.Is(err, fault.OutcomeUnknown) || !strings.Contains(err.Error(), "authPersistSingleRequest") || s.FailedLogons() != 0 {
		t.Errorf("%v, %d failed logons", err, s.FailedLogons())
	}
}

// A session that the server has forgotten is replaced, and the request sent
// again: it was not taken.
func TestForgottenSession(t *testing.T) {
	s := testenv.New(t, testenv.Config{})
	c := newClient(t, config(s))
	if err := c.Login(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.Inject(testenv.SessionLost, testenv.On(testenv.StepSubmit))
	if _, err := c.Enroll(t.Context(), request(t, "SEP001122334455")); err != nil || s.Submissions() != 1 || s.Handshakes() != 2 {
		t.Errorf("%v, %d submissions, %d logins", err, s.Submissions(), s.Handshakes())
	}
}

// The attributes of a request as they reach the CA, and where they do not.
func TestRequestAttributes(t *testing.T) {
	s := testenv.New(t, testenv.Config{SANAttribute: true})
	cfg := config(s)
	cfg.SAN, cfg.Marker = []string{"dns={cn}.example.com"}, "lab"
	res, err := newClient(t, cfg).Enroll(t.Context(), request(t, "SEP001122334455"))
	if err != nil {
		t.Fatal(err)
	}
	if len(res.Certificate.DNSNames) != 1 || res.Certificate.DNSNames[0] != "SEP001122334455.example.com" {
		t.Errorf("%v", res.Certificate.DNSNames)
	}
}

// A login that fails before a fetch does not lose the request's number.
func TestFetchKeepsTheNumber(t *testing.T) {
	s := testenv.New(t, testenv.Config{})
	cfg := config(s)
	cfg.Reconnect = -1
	c := newClient(t, cfg)
	r := request(t, "SEP001122334455")
	sub, err := c.Submit(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	s.Close()
	_, err = c.Fetch(t.Context(), sub.ReqID, r.CSR)
	if f := fault.Of(err); f == nil || f.Code != fault.ConnectionRefused || f.ReqID != sub.ReqID || f.Unsent {
		t.Errorf("%+v", f)
	}
	_, err = c.Submit(t.Context(), r)
	if f := fault.Of(err); f == nil || f.Code != fault.ConnectionRefused || f.ReqID != 0 || !f.Unsent {
		t.Errorf("%+v", f)
	}
}

// The first certificate of a CA is the oldest that it still has.
func TestFirstCACert(t *testing.T) {
	s := testenv.New(t, testenv.Config{Renewals: 2})
	c := newClient(t, config(s))
	first, err := c.FirstCACert(t.Context())
	if err != nil || !first.Equal(s.PKI.Issuing[0]) {
		t.Errorf("%v, %v", first, err)
	}
	s.Inject(testenv.RPCDown, testenv.On(testenv.StepChain), testenv.Times(1))
	if second, err := c.FirstCACert(t.Context()); err != nil || !second.Equal(s.PKI.Issuing[1]) {
		t.Errorf("the first is not there any more: %v, %v", second, err)
	}
	s.Inject(testenv.CloseConnection, testenv.On(testenv.StepChain), testenv.Times(testenv.Forever))
	if got, err := c.FirstCACert(t.Context()); err == nil {
		t.Errorf("a connection that breaks says nothing of the certificate, but %v", got.Subject)
	}
}

// A reader of English pages makes nothing of others, the same request granted
// or not; of English ones it makes what everybody does.
func TestEnglishOnly(t *testing.T) {
	for lang, known := range map[testenv.Language]bool{testenv.English: true, testenv.German: false, testenv.French: false} {
		s := testenv.New(t, testenv.Config{Language: lang})
		cfg := config(s)
		cfg.EnglishOnly = true
		c := newClient(t, cfg)
		_, err := c.Enroll(t.Context(), request(t, "SEP001122334455"))
		if known != (err == nil) || !known && (!errors.Is(err, fault.PageLanguage) || !errors.Is(err, fault.OutcomeUnknown)) {
			t.Errorf("%s: %v", lang, err)
		}
		s.Inject(testenv.Deny.With(0x80094012))
		if _, err := c.Enroll(t.Context(), request(t, "SEP001122334455")); !errors.Is(err, fault.TemplateDenied) && known || !errors.Is(err, fault.PageLanguage) && !known {
			t.Errorf("%s, denied: %v", lang, err)
		}
		s.Inject(testenv.UnknownPage)
		if _, err := c.Enroll(t.Context(), request(t, "SEP001122334455")); errors.Is(err, fault.PageLanguage) {
			t.Errorf("%s, no page of certsrv's: %v", lang, err)
		}
	}
}
