package app

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"errors"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/onlineca/onlineca/ra/fault"
	"github.com/onlineca/onlineca/testenv"
)

// site is a registration authority in front of one or two mocks, served.
type site struct {
	*RA
	est    string // https://127.0.0.1:PORT/.well-known/est/
	client *http.Client
	stop   func() // tells Serve to end
	served func() error
}

// hostSettings are settings for mocks in order of preference. Everybody may
// enrol.
func hostSettings(mocks ...*testenv.Certsrv) Settings {
	s := DefaultSettings()
	for _, m := range mocks {
		s.Certsrv.URLs = append(s.Certsrv.URLs, m.URL+"/certsrv")
	}
	s.Certsrv.Username, s.Certsrv.Template = testenv.DefaultUser, "CiscoRA"
	s.EST.Template = "CiscoRA"
	s.EST.Auth = AuthSettings{Anonymous: true, Require: "any"}
	s.Admin.Listen = "127.0.0.1:0"
	return s
}

func hostParts(t *testing.T, m *testenv.Certsrv) Parts {
	t.Helper()
	cert, err := m.PKI.ServerCertificate(testenv.ServerOptions{Names: []string{"127.0.0.1"}})
	if err != nil {
		t.Fatal(err)
	}
	return Parts{Password: testenv.DefaultPassword, Roots: []*x509.Certificate{m.Root}, Certificate: cert}
}

func startSite(t *testing.T, s Settings, p Parts) *site {
	t.Helper()
	r, err := StartRA(t.Context(), s, p)
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- r.Serve(ctx, l) }()
	x := &site{
		RA: r, est: "https://" + l.Addr().String() + "/.well-known/est/", stop: cancel,
		client: &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool(p.Roots)}}},
		served: sync.OnceValue(func() error { return <-done }),
	}
	t.Cleanup(func() {
		cancel()
		x.client.CloseIdleConnections()
		if err := x.served(); err != nil {
			t.Error(err)
		}
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	})
	return x
}

// enroll sends a new request to path and returns the status, Retry-After and
// the body.
func (x *site) enroll(t *testing.T, path string) (status int, retry, body string) {
	t.Helper()
	status, retry, body, err := x.tryEnroll(path, nil)
	if err != nil {
		t.Fatal(err)
	}
	return status, retry, body
}

func (x *site) tryEnroll(path string, auth func(*http.Request)) (status int, retry, body string, err error) {
	der, err := newRequest()
	if err != nil {
		return 0, "", "", err
	}
	return x.post(path, der, auth)
}

// newRequest is a PKCS#10 request with a key of its own, in DER.
func newRequest() ([]byte, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	return x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: pkix.Name{CommonName: "SEP001122334455"}}, key)
}

// post sends a request; auth may be nil.
func (x *site) post(path string, der []byte, auth func(*http.Request)) (status int, retry, body string, err error) {
	req, err := http.NewRequest(http.MethodPost, x.est+path, strings.NewReader(base64.StdEncoding.EncodeToString(der)))
	if err != nil {
		return 0, "", "", err
	}
	req.Header.Set("Content-Type", "application/pkcs10")
	if auth != nil {
		auth(req)
	}
	resp, err := x.client.Do(req)
	if err != nil {
		return 0, "", "", err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	return resp.StatusCode, resp.Header.Get("Retry-After"), string(text), err
}

// until waits for something that another goroutine brings about.
func until(t *testing.T, what string, done func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for !done() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("in vain: %s", what)
		}
	}
}

// The first host dies, enrolments go on at the second; it comes back, and is
// used again.
func TestFailOver(t *testing.T) {
	a, err := testenv.Start(testenv.Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { a.Close() }()
	b := testenv.New(t, testenv.Config{FirstReqID: 1000})
	s := hostSettings(a, b)
	s.Certsrv.Breaker = BreakerSettings{Failures: 3, Pause: 50 * time.Millisecond}
	x := startSite(t, s, hostParts(t, a))
	for range 3 {
		if status, _, body := x.enroll(t, "simpleenroll"); status != http.StatusOK {
			t.Fatalf("%d %s", status, body)
		}
	}
	if a.Submissions() != 3 || b.Submissions() != 0 {
		t.Fatalf("%d and %d submissions, want 3 and 0", a.Submissions(), b.Submissions())
	}
	address := strings.TrimPrefix(a.URL, "https://")
	a.Close()
	for i := range 10 {
		if status, _, body := x.enroll(t, "simpleenroll"); status != http.StatusOK {
			t.Fatalf("enrolment %d without the first host: %d %s", i, status, body)
		}
	}
	if b.Submissions() != 10 {
		t.Errorf("%d submissions at the second host, want 10", b.Submissions())
	}
	if is := x.Readiness(time.Now()); !is.Ready {
		t.Errorf("one host of two will do:\n%s", is)
	}
	if a, err = testenv.Start(testenv.Config{Addr: address, FirstReqID: 50}); err != nil {
		t.Fatal(err)
	}
	tries := 0
	until(t, "the first host is used again", func() bool {
		tries++
		if status, _, body := x.enroll(t, "simpleenroll"); status != http.StatusOK {
			t.Fatalf("%d %s", status, body)
		}
		return a.Submissions() > 0
	})
	if total := a.Submissions() + b.Submissions() - 10; total != tries {
		t.Errorf("%d submissions for %d requests", total, tries)
	}
	before := b.Submissions()
	for range 3 {
		x.enroll(t, "simpleenroll")
	}
	if b.Submissions() != before {
		t.Error("the second host is still asked")
	}
}

// What may have been submitted at the first host is not submitted at the
// second.
func TestWhatWasSubmittedStays(t *testing.T) {
	for name, c := range map[string]struct {
		fault     testenv.Fault
		submitted int
		status    int
	}{
		"answer lost":           {testenv.AnswerLost, 1, http.StatusBadGateway},
		"reset in the answer":   {testenv.Truncated, 1, http.StatusBadGateway},
		"500 to the POST":       {testenv.Status500, 0, http.StatusBadGateway},
		"CA stopped":            {testenv.CAStopped, 0, http.StatusBadGateway},
		"CA out of RPC's reach": {testenv.RPCDown, 0, http.StatusBadGateway},
		"denied":                {testenv.Deny.With(0x80094001), 1, http.StatusBadRequest},
	} {
		t.Run(name, func(t *testing.T) {
			a, b := testenv.New(t, testenv.Config{}), testenv.New(t, testenv.Config{})
			x := startSite(t, hostSettings(a, b), hostParts(t, a))
			a.Inject(c.fault, testenv.On(testenv.StepSubmit))
			status, _, body := x.enroll(t, "simpleenroll")
			if status != c.status || b.Submissions() != 0 || b.Begun(testenv.StepSubmit) != 0 {
				t.Errorf("%d %s; the second host had %d submissions", status, body, b.Submissions())
			}
			if a.Submissions() != c.submitted {
				t.Errorf("%d submissions at the first host, want %d", a.Submissions(), c.submitted)
			}
		})
	}
}

// With a store, what was submitted at the first host and whose answer was lost
// is found again there; what was not submitted there goes to the second. Either
// way there is one submission for one request.
func TestFailOverWithStore(t *testing.T) {
	a, b := testenv.New(t, testenv.Config{}), testenv.New(t, testenv.Config{})
	s := hostSettings(a, b)
	dir := t.TempDir()
	s.Store, s.Requests.Audit = filepath.Join(dir, "requests.db"), filepath.Join(dir, "audit.jsonl")
	x := startSite(t, s, hostParts(t, a))
	der, err := newRequest()
	if err != nil {
		t.Fatal(err)
	}
	if status, _, body := x.enroll(t, "simpleenroll"); status != http.StatusOK { // so that a number is known
		t.Fatalf("%d %s", status, body)
	}
	a.Inject(testenv.AnswerLost, testenv.On(testenv.StepSubmit))
	until(t, "the lost certificate is found again", func() bool {
		status, _, _, err := x.post("simpleenroll", der, nil)
		if err != nil {
			t.Fatal(err)
		}
		return status == http.StatusOK
	})
	if a.Submissions() != 2 || b.Begun(testenv.StepSubmit) != 0 {
		t.Errorf("%d and %d submissions, want 2 and 0", a.Submissions(), b.Begun(testenv.StepSubmit))
	}
	if v := value(x.scrape(t), "onlineca_requests", "state=issued"); v != 2 {
		t.Errorf("%v records are issued, want 2", v)
	}

	a.Restart(0)
	a.Inject(testenv.Status503, testenv.On(testenv.StepHandshake), testenv.Times(testenv.Forever))
	if status, _, body := x.enroll(t, "simpleenroll"); status != http.StatusOK || b.Submissions() != 1 || a.Submissions() != 2 {
		t.Errorf("%d %s: %d and %d submissions", status, body, a.Submissions(), b.Submissions())
	}
	b.Close()
	// Neither can be asked: the request has not left, so nothing is unknown.
	if status, _, body := x.enroll(t, "simpleenroll"); status == http.StatusOK {
		t.Errorf("%d %s", status, body)
	}
	if v := value(x.scrape(t), "onlineca_requests", "state=unknown"); v > 0 {
		t.Errorf("%v requests are in the dark, but none has left", v)
	}
	for _, c := range x.Readiness(time.Now()).Checks {
		if c.Name == "store" && !c.OK {
			t.Errorf("%+v", c)
		}
	}
}

// A host of another CA gets nothing: its numbers and its chain are others.
func TestHostOfAnotherCA(t *testing.T) {
	pki, err := testenv.NewPKI(testenv.PKIConfig{CAName: "ANOTHER-CA"})
	if err != nil {
		t.Fatal(err)
	}
	a, b := testenv.New(t, testenv.Config{}), testenv.New(t, testenv.Config{PKI: pki})
	p := hostParts(t, a)
	p.Roots = append(p.Roots, b.Root)
	x := startSite(t, hostSettings(a, b), p)
	a.Close()
	status, _, body := x.enroll(t, "simpleenroll")
	if status != http.StatusBadGateway || b.Begun(testenv.StepSubmit) != 0 {
		t.Errorf("%d %s; %d submissions", status, body, b.Submissions())
	}
	if _, err := x.upstreams.Targets()[1].CACerts(t.Context()); !errors.Is(err, fault.WrongHost) || !strings.Contains(err.Error(), `its CA is "ANOTHER-CA"`) {
		t.Errorf("its chain: %v", err)
	}
	if _, err := x.upstreams.Targets()[1].Fetch(t.Context(), 1, nil); !errors.Is(err, fault.WrongHost) {
		t.Errorf("its numbers: %v", err)
	}
}

// A login that fails for a reason of the host goes on at the next; one that is
// refused does not.
func TestLoginsAndFailOver(t *testing.T) {
	a, b := testenv.New(t, testenv.Config{}), testenv.New(t, testenv.Config{})
	s := hostSettings(a, b)
	x := startSite(t, s, hostParts(t, a))
	a.Restart(0) // the sessions are gone, so that the next request logs in
	a.Inject(testenv.Status503, testenv.On(testenv.StepHandshake), testenv.Times(testenv.Forever))
	if status, _, body := x.enroll(t, "simpleenroll"); status != http.StatusOK || b.Submissions() != 1 || a.Submissions() != 0 {
		t.Errorf("%d %s: %d and %d submissions", status, body, a.Submissions(), b.Submissions())
	}

	p := hostParts(t, a)
	p.Password = "not the password"
	a.ClearFaults()
	before := a.FailedLogons()
	if _, err := StartRA(t.Context(), s, p); !errors.Is(err, fault.BadCredentials) {
		t.Errorf("a wrong password: %v", err)
	}
	if a.FailedLogons()-before != 1 || b.FailedLogons() != 0 {
		t.Errorf("%d and %d logins were refused, want 1 and 0", a.FailedLogons()-before, b.FailedLogons())
	}
}

// Clients whose credentials are passed through: as above.
func TestClientCredentialsAndFailOver(t *testing.T) {
	a, b := testenv.New(t, testenv.Config{}), testenv.New(t, testenv.Config{})
	s := hostSettings(a, b)
	s.EST.Auth = AuthSettings{Certsrv: true, Require: "any"}
	x := startSite(t, s, hostParts(t, a))
	as := func(password string) func(*http.Request) {
		return func(r *http.Request) { r.SetBasicAuth(testenv.DefaultUser, password) }
	}
	if status, _, _, err := x.tryEnroll("simpleenroll", as("wrong")); err != nil || status != http.StatusUnauthorized {
		t.Errorf("a wrong password: %d, %v", status, err)
	}
	if a.FailedLogons() != 1 || b.FailedLogons() != 0 || b.Challenges() != 0 {
		t.Errorf("%d and %d logins were refused, want 1 and 0", a.FailedLogons(), b.FailedLogons())
	}
	a.Close()
	if status, _, body, err := x.tryEnroll("simpleenroll", as(testenv.DefaultPassword)); err != nil || status != http.StatusOK {
		t.Errorf("the right one, the first host being down: %d, %v, %s", status, err, body)
	}
}

func TestStartWithoutThePreferredHost(t *testing.T) {
	a, b := testenv.New(t, testenv.Config{}), testenv.New(t, testenv.Config{})
	a.Close()
	x := startSite(t, hostSettings(a, b), hostParts(t, b))
	if status, _, body := x.enroll(t, "simpleenroll"); status != http.StatusOK || b.Submissions() != 1 {
		t.Errorf("%d %s", status, body)
	}
	b.Close()
	if _, err := StartRA(t.Context(), hostSettings(a, b), hostParts(t, b)); !errors.Is(err, fault.ConnectionRefused) {
		t.Errorf("neither is there: %v", err)
	}
}

// The server is told to end while the CA is still at it: the client gets its
// certificate, and until then the admin address says what goes on.
func TestShutdownFinishesWhatWasSubmitted(t *testing.T) {
	for _, store := range []string{noStore, filepath.Join(t.TempDir(), "requests.db")} {
		t.Run("store "+filepath.Base(store), func(t *testing.T) { testShutdown(t, store) })
	}
}

func testShutdown(t *testing.T, store string) {
	m := testenv.New(t, testenv.Config{})
	s := hostSettings(m)
	s.Store, s.Requests.Audit = store, filepath.Join(t.TempDir(), "audit.jsonl")
	x := startSite(t, s, hostParts(t, m))
	m.Inject(testenv.Slow.For(time.Second), testenv.On(testenv.StepSubmit))
	type answer struct {
		status int
		body   string
		err    error
	}
	got := make(chan answer, 1)
	go func() {
		status, _, body, err := x.tryEnroll("simpleenroll", nil)
		got <- answer{status, body, err}
	}()
	until(t, "the request is submitted", func() bool { return m.Begun(testenv.StepSubmit) == 1 })
	x.stop()
	until(t, "the service says that it ends", func() bool { return !x.Readiness(time.Now()).Ready })
	if is := x.Readiness(time.Now()); is.Checks[0].Name != "shutdown" {
		t.Errorf("%+v", is)
	}
	if len(m.Issued()) != 0 {
		t.Fatal("the certificate was issued before the server was told to end: nothing is shown")
	}
	if a := <-got; a.err != nil || a.status != http.StatusOK {
		t.Errorf("%d %s, %v", a.status, a.body, a.err)
	}
	if err := x.served(); err != nil {
		t.Errorf("Serve: %v", err)
	}
	if len(m.Issued()) != 1 {
		t.Errorf("%d certificates", len(m.Issued()))
	}
	if _, err := x.client.Get(x.est + "cacerts"); err == nil {
		t.Error("the port still answers")
	}
}
