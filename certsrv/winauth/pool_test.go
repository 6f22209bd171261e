package winauth

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"
)

func newPool(tb testing.TB, cfg Config) *Pool {
	tb.Helper()
	p, err := NewPool(cfg)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(p.Close)
	return p
}

// do sends one request and reads the whole answer.
func do(ctx context.Context, p *Pool, method, url, body string) (int, string, error) {
	var r io.Reader
	if body != "" {
		r = strings.NewReader(body)
	}
	req, err := http.NewRequestWithContext(ctx, method, url, r)
	if err != nil {
		return 0, "", err
	}
	resp, err := p.RoundTrip(req)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(b), err
}

func TestThirtyTwoWorkersShareEightLogins(t *testing.T) {
	s := start(t, func(s *fakeIIS) { s.epa = "require" })
	p := newPool(t, s.config())
	const workers, each = 32, 10
	var wg sync.WaitGroup
	for range workers {
		wg.Go(func() {
			for range each {
				status, body, err := do(t.Context(), p, http.MethodPost, s.URL+"/certsrv/certfnsh.asp", strings.Repeat("x", 1500))
				if err != nil || status != 200 || body != "POST /certsrv/certfnsh.asp 1500" {
					t.Errorf("%d %q %v", status, body, err)
				}
			}
		})
	}
	wg.Wait()
	if s.ok.Load() > 8 || s.type1.Load() != s.ok.Load() || s.failed.Load() != 0 || s.posts.Load() != workers*each {
		t.Errorf("%d logins, %d type 1, %d failed, %d posts", s.ok.Load(), s.type1.Load(), s.failed.Load(), s.posts.Load())
	}
	if st := p.Stats(); st.Handshakes != s.ok.Load() || st.Requests != workers*each || st.Idle != st.Open || st.Rejected != 0 {
		t.Errorf("%+v", st)
	}
	p.Close()
	if st := p.Stats(); st.Open != 0 || st.Idle != 0 {
		t.Errorf("after Close: %+v", st)
	}
}

// A wrong password costs one failed logon, however many wait, and none while
// the pause lasts.
func TestWrongPasswordIsTriedOnce(t *testing.T) {
	s := start(t, nil)
	cfg := s.config()
	cfg.Credential.Password = "wrong"
	now := time.Date(2026, 1, 15, 8, 0, 0, 0, time.UTC)
	var mu sync.Mutex
	cfg.TLS.Time = time.Now
	cfg.Now = func() time.Time { mu.Lock(); defer mu.Unlock(); return now }
	cfg.LoginPause = 10 * time.Minute
	p := newPool(t, cfg)
	var wg sync.WaitGroup
	var rejected, suspended int
	for range 32 {
		wg.Go(func() {
			_, _, err := do(t.Context(), p, http.MethodPost, s.URL+"/certsrv/certfnsh.asp", "a=b")
			mu.Lock()
			defer mu.Unlock()
			switch {
			case errors.Is(err, ErrSuspended):
				suspended++
			case errors.Is(err, ErrRejected):
				rejected++
			default:
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if s.failed.Load() != 1 || rejected == 0 || rejected+suspended != 32 || s.posts.Load() != 0 {
		t.Fatalf("%d failed logons; %d rejected, %d suspended; %d posts", s.failed.Load(), rejected, suspended, s.posts.Load())
	}
	_, err := p.Login(t.Context())
	var se *SuspendedError
	if !errors.As(err, &se) || se.Until != now.Add(cfg.LoginPause) || strings.Contains(err.Error(), "wrong\"") {
		t.Fatalf("%v", err)
	}
	mu.Lock()
	now = now.Add(cfg.LoginPause)
	mu.Unlock()
	if _, err := p.Login(t.Context()); !errors.Is(err, ErrRejected) || s.failed.Load() != 2 {
		t.Errorf("after the pause: %v, %d failed logons", err, s.failed.Load())
	}
}

// Table of client settings against what servers want.
func TestExtendedProtection(t *testing.T) {
	other := selfSigned(t).Leaf
	for _, tc := range []struct {
		name    string
		epa     string
		client  EPA
		given   bool // bind to the server's own certificate as a given one
		noStamp bool
		want    error
		mic     bool
	}{
		{name: "off, bound", client: EPA{}, mic: true},
		{name: "off, unbound", client: EPA{Binding: BindOff}, mic: true},
		{name: "off, wrong", client: EPA{Binding: BindCertificate, Certificate: other}, mic: true},
		{name: "accept, bound", epa: "accept", mic: true},
		{name: "accept, unbound", epa: "accept", client: EPA{Binding: BindOff}, mic: true},
		{name: "accept, wrong", epa: "accept", client: EPA{Binding: BindCertificate, Certificate: other}, want: ErrRejected},
		{name: "require, bound", epa: "require", mic: true},
		{name: "require, bound, no MIC", epa: "require", client: EPA{NoMIC: true}},
		{name: "require, bound, no timestamp", epa: "require", noStamp: true},
		{name: "require, given certificate", epa: "require", given: true, mic: true},
		{name: "require, unbound", epa: "require", client: EPA{Binding: BindOff}, want: ErrRejected},
		{name: "require, wrong", epa: "require", client: EPA{Binding: BindCertificate, Certificate: other}, want: ErrRejected},
		{name: "require, unbound, probe", epa: "require", client: EPA{Binding: BindOff, Probe: true}, want: ErrBinding},
		{name: "accept, wrong, probe", epa: "accept", client: EPA{Binding: BindCertificate, Certificate: other, Probe: true}, want: ErrBinding},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := start(t, func(s *fakeIIS) { s.epa, s.noMIC = tc.epa, tc.noStamp })
			cfg := s.config()
			cfg.EPA = tc.client
			if tc.given {
				cfg.EPA = EPA{Binding: BindCertificate, Certificate: s.cert}
			}
			_, err := newPool(t, cfg).Login(t.Context())
			if !errors.Is(err, tc.want) || (err == nil) != (tc.want == nil) {
				t.Fatalf("got %v, want %v", err, tc.want)
			}
			if err != nil {
				return
			}
			if s.lastMIC.Load() != tc.mic || s.lastBound.Load() == (tc.client.Binding == BindOff) {
				t.Errorf("MIC %v, bound %v", s.lastMIC.Load(), s.lastBound.Load())
			}
			if spn := s.lastSPN.Load(); tc.client.Binding != BindOff && spn != string(utf16LE("HTTP/127.0.0.1")) {
				t.Errorf("target name %q", spn)
			}
		})
	}
}

func TestProbe(t *testing.T) {
	for mode, want := range map[string]string{"": "off", "accept": "accept", "require": "required"} {
		s := start(t, func(s *fakeIIS) { s.epa = mode })
		p := newPool(t, s.config())
		r, err := p.Probe(t.Context())
		if err != nil || r.Mode() != want {
			t.Errorf("%q: %v, %q", mode, err, r.Mode())
		}
		if st := p.Stats(); st.Open != 0 {
			t.Errorf("%+v", st)
		}
	}
	s := start(t, func(s *fakeIIS) { s.epa = "accept" })
	cfg := s.config()
	cfg.EPA = EPA{Binding: BindCertificate, Certificate: selfSigned(t).Leaf}
	if r, err := newPool(t, cfg).Probe(t.Context()); err != nil || r.Mode() != "refused" {
		t.Errorf("%v, %q", err, r.Mode())
	}
	cfg = s.config()
	cfg.Credential.Password = "wrong"
	p := newPool(t, cfg)
	if r, err := p.Probe(t.Context()); !errors.Is(err, ErrRejected) || r.Mode() != "unknown" {
		t.Errorf("%v, %q", err, r.Mode())
	}
	before := s.failed.Load()
	if _, err := p.Login(t.Context()); !errors.Is(err, ErrSuspended) || s.failed.Load() != before {
		t.Errorf("after a refused probe: %v", err)
	}
}

func TestSchemes(t *testing.T) {
	for _, tc := range []struct {
		providers []string
		type1     int64
		want      error
	}{
		{[]string{"Negotiate", "NTLM"}, 1, nil},
		{[]string{"NTLM"}, 1, nil},
		{[]string{"Negotiate"}, 1, nil}, // raw NTLM under Negotiate
		{[]string{"Basic realm=\"a, b\""}, 0, ErrNTLMNotOffered},
		{nil, 0, ErrNTLMNotOffered},
	} {
		s := start(t, func(s *fakeIIS) { s.providers = tc.providers })
		p := newPool(t, s.config())
		_, err := p.Login(t.Context())
		if !errors.Is(err, tc.want) || (err == nil) != (tc.want == nil) || s.type1.Load() != tc.type1 {
			t.Errorf("%v: %v, %d type 1", tc.providers, err, s.type1.Load())
		}
		if s.failed.Load() != 0 {
			t.Errorf("%v: %d failed logons", tc.providers, s.failed.Load())
		}
	}
}

func TestServerThatIsNotCertsrv(t *testing.T) {
	closing := func(w http.ResponseWriter, r *http.Request) bool {
		w.Header().Set("Connection", "close")
		return false
	}
	status := func(n int) func(http.ResponseWriter, *http.Request) bool {
		return func(w http.ResponseWriter, _ *http.Request) bool { w.WriteHeader(n); return true }
	}
	challenge := func(v string) func(http.ResponseWriter, *http.Request) bool {
		return func(w http.ResponseWriter, _ *http.Request) bool {
			w.Header().Set("WWW-Authenticate", v)
			w.WriteHeader(http.StatusUnauthorized)
			return true
		}
	}
	for _, tc := range []struct {
		name   string
		before func(http.ResponseWriter, *http.Request) bool
		leg    Leg
		is     error
		text   string
	}{
		{"anonymous", status(200), LegNegotiate, ErrNotChallenged, "status 200"},
		{"not found", status(404), LegNegotiate, ErrNotChallenged, "status 404"},
		{"503", status(503), LegNegotiate, nil, "status 503"},
		{"closes between the legs", closing, LegAuthenticate, ErrConnectionClosed, ""},
		{"bad base64", challenge("NTLM !!!"), LegNegotiate, nil, "base64"},
		{"no challenge", challenge("NTLM"), LegNegotiate, nil, "without a challenge"},
		{"garbage", challenge("NTLM AAAA"), LegAuthenticate, nil, "shorter than its header"},
		{"kerberos only", challenge("Negotiate"), LegNegotiate, ErrNTLMNotOffered, "only Negotiate"},
		{"endless body", func(w http.ResponseWriter, _ *http.Request) bool {
			w.WriteHeader(http.StatusUnauthorized)
			for {
				if _, err := w.Write(make([]byte, 4096)); err != nil {
					return true
				}
			}
		}, LegNegotiate, nil, "larger than 65536 bytes"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := start(t, func(s *fakeIIS) { s.before = tc.before })
			_, err := newPool(t, s.config()).Login(t.Context())
			var leg *LegError
			if !errors.As(err, &leg) || leg.Leg != tc.leg || tc.is != nil && !errors.Is(err, tc.is) || !strings.Contains(err.Error(), tc.text) {
				t.Errorf("%v", err)
			}
			if strings.Contains(err.Error(), "S3cret") {
				t.Error("the error shows the password")
			}
		})
	}
}

// The server forgets a connection's login; the request is sent once more, on a
// new session, and no third time.
func TestForgottenLogin(t *testing.T) {
	for _, tc := range []struct {
		name   string
		always bool
		want   int
	}{{"once", false, 200}, {"always", true, 401}} {
		t.Run(tc.name, func(t *testing.T) {
			var mu sync.Mutex
			forget := 0
			s := start(t, nil)
			s.handle = func(w http.ResponseWriter, r *http.Request) {
				mu.Lock()
				defer mu.Unlock()
				if r.Method == http.MethodPost && (forget > 0 || tc.always) {
					forget--
					s.deny(w, s.providers...)
					return
				}
				b, _ := io.ReadAll(r.Body)
				_, _ = w.Write(b)
			}
			p := newPool(t, s.config())
			if _, err := p.Login(t.Context()); err != nil {
				t.Fatal(err)
			}
			forget = 1
			status, body, err := do(t.Context(), p, http.MethodPost, s.URL+"/certsrv/x", "a=b")
			if err != nil || status != tc.want || status == 200 && body != "a=b" {
				t.Errorf("%d %q %v", status, body, err)
			}
			if s.posts.Load() != 2 || s.ok.Load() != 2 {
				t.Errorf("%d posts, %d logins", s.posts.Load(), s.ok.Load())
			}
			if st := p.Stats(); tc.always && st.Open != 0 || st.Open != st.Idle {
				t.Errorf("%+v", st)
			}
		})
	}
}

// A body that cannot be had again is not sent again.
func TestBodyThatCannotBeRepeated(t *testing.T) {
	s := start(t, nil)
	p := newPool(t, s.config())
	if _, err := p.Login(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.handle = func(w http.ResponseWriter, _ *http.Request) { s.deny(w, s.providers...) }
	req, _ := http.NewRequestWithContext(t.Context(), http.MethodPost, s.URL+"/certsrv/x", io.NopCloser(strings.NewReader("a=b")))
	resp, err := p.RoundTrip(req)
	if err != nil || resp.StatusCode != http.StatusUnauthorized {
		t.Fatal(resp, err)
	}
	resp.Body.Close()
	if s.posts.Load() != 1 {
		t.Errorf("%d posts", s.posts.Load())
	}
}

func TestOtherHostIsRefused(t *testing.T) {
	s := start(t, nil)
	p := newPool(t, s.config())
	for _, u := range []string{"https://127.0.0.2/certsrv", "http" + strings.TrimPrefix(s.URL, "https"), "https://127.0.0.1/"} {
		if _, _, err := do(t.Context(), p, http.MethodGet, u, ""); !errors.Is(err, ErrWrongHost) {
			t.Errorf("%s: %v", u, err)
		}
	}
	if s.conns.Load() != 0 {
		t.Error("a connection was made")
	}
}

// A server restart between two requests is not noticed by the caller.
func TestServerDropsIdleSessions(t *testing.T) {
	s := start(t, nil)
	p := newPool(t, s.config())
	for i := range 5 {
		if _, body, err := do(t.Context(), p, http.MethodPost, s.URL+"/certsrv/x", "a=b"); err != nil || body != "POST /certsrv/x 3" {
			t.Fatalf("%d: %q %v", i, body, err)
		}
		s.CloseClientConnections()
	}
	if s.posts.Load() != 5 {
		t.Errorf("%d posts", s.posts.Load())
	}
}

// A pool that was logged in waits for a server that is down for a moment; one
// that never was does not.
func TestOutage(t *testing.T) {
	s := start(t, nil)
	cfg := s.config()
	var mu sync.Mutex
	down, dials := true, 0
	var d net.Dialer
	cfg.DialContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
		mu.Lock()
		dials++
		isDown := down
		if dials >= 4 {
			down = false
		}
		mu.Unlock()
		if isDown {
			addr = "127.0.0.1:1" // nothing listens there
		}
		return d.DialContext(ctx, network, addr)
	}
	p := newPool(t, cfg)
	_, err := p.Login(t.Context())
	var ph *PhaseError
	if !errors.As(err, &ph) || ph.Phase != PhaseConnect || ph.Sent || dials != 1 {
		t.Fatalf("first login: %v after %d dials", err, dials)
	}
	down = false
	if _, err := p.Login(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.CloseClientConnections()
	down, dials = true, 0
	if _, _, err := do(t.Context(), p, http.MethodPost, s.URL+"/certsrv/x", "a=b"); err != nil {
		t.Errorf("%v after %d dials", err, dials)
	}
	if dials != 5 || s.posts.Load() != 1 {
		t.Errorf("%d dials, %d posts", dials, s.posts.Load())
	}
}

// Each phase that runs out of time is named.
func TestPhases(t *testing.T) {
	hang := func(_ http.ResponseWriter, r *http.Request) bool {
		_, _ = io.Copy(io.Discard, r.Body) // net/http watches the connection only after that
		<-r.Context().Done()
		return true
	}
	short := func(cfg *Config) { cfg.LoginTimeout = 100 * time.Millisecond }
	for _, tc := range []struct {
		name   string
		server func(*fakeIIS)
		client func(*Config)
		phase  Phase
		leg    Leg
		sent   bool
	}{
		{"dns", nil, func(c *Config) {
			short(c)
			c.URL = strings.Replace(c.URL, "127.0.0.1", "lab-dc.invalid", 1)
			c.Resolver = &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
				<-ctx.Done()
				return nil, ctx.Err()
			}}
		}, PhaseDNS, 0, false},
		{"connect", nil, func(c *Config) {
			short(c)
			c.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
				<-ctx.Done()
				return nil, ctx.Err()
			}
		}, PhaseConnect, 0, false},
		{"tls", nil, func(c *Config) {
			short(c)
			c.DialContext = func(context.Context, string, string) (net.Conn, error) {
				a, b := net.Pipe()
				go func() { _, _ = io.Copy(io.Discard, b) }()
				return a, nil
			}
		}, PhaseTLS, 0, false},
		{"leg 1", func(s *fakeIIS) { s.before = hang }, func(c *Config) {
			c.LoginTimeout = time.Second // TLS comes first, on a busy machine, too
		}, PhaseFirstByte, LegNegotiate, false},
		{"first byte", func(s *fakeIIS) {
			s.before = func(w http.ResponseWriter, r *http.Request) bool {
				return r.URL.Path != "/certsrv" && hang(w, r)
			}
		}, func(*Config) {}, PhaseFirstByte, 0, true},
		{"body", func(s *fakeIIS) {
			s.before = func(w http.ResponseWriter, r *http.Request) bool {
				if r.URL.Path == "/certsrv" {
					return false
				}
				_, _ = io.WriteString(w, "12345")
				w.(http.Flusher).Flush()
				return hang(w, r)
			}
		}, func(*Config) {}, PhaseBody, 0, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := start(t, tc.server)
			cfg := s.config()
			tc.client(&cfg)
			p := newPool(t, cfg)
			x := &Exchange{Timeout: 100 * time.Millisecond}
			_, _, err := do(WithExchange(t.Context(), x), p, http.MethodPost, strings.Replace(s.URL, "127.0.0.1", p.url.Hostname(), 1)+"/certsrv/x", "a=b")
			var ph *PhaseError
			if !errors.As(err, &ph) || ph.Phase != tc.phase || !ph.Timeout() || x.Sent != tc.sent {
				t.Fatalf("%v; sent %v", err, x.Sent)
			}
			if tc.phase == PhaseBody && ph.Received != 5 {
				t.Errorf("%d bytes received", ph.Received)
			}
			var leg *LegError
			if errors.As(err, &leg) != (tc.leg != 0) || leg != nil && leg.Leg != tc.leg {
				t.Errorf("leg of %v", err)
			}
			if st := p.Stats(); st.Open != 0 || len(p.slots) != 0 {
				t.Errorf("%+v, %d places taken", st, len(p.slots))
			}
		})
	}
}

// A lease ends with its context although nobody closes the body.
func TestLeaseEndsWithItsContext(t *testing.T) {
	s := start(t, nil)
	cfg := s.config()
	cfg.Sessions = 1
	p := newPool(t, cfg)
	ctx, cancel := context.WithCancel(t.Context())
	req, _ := http.NewRequestWithContext(ctx, http.MethodGet, s.URL+"/certsrv/x", nil)
	if _, err := p.RoundTrip(req); err != nil {
		t.Fatal(err)
	}
	x := &Exchange{Timeout: 20 * time.Millisecond}
	_, _, err := do(WithExchange(t.Context(), x), p, http.MethodGet, s.URL+"/certsrv/x", "")
	var ph *PhaseError
	if !errors.As(err, &ph) || ph.Phase != PhaseQueue || x.Sent {
		t.Fatalf("while the only session is lent: %v", err)
	}
	cancel()
	if _, _, err := do(t.Context(), p, http.MethodGet, s.URL+"/certsrv/x", ""); err != nil {
		t.Fatal(err)
	}
}

func TestClose(t *testing.T) {
	s := start(t, nil)
	entered := make(chan struct{})
	s.before = func(_ http.ResponseWriter, r *http.Request) bool {
		if r.URL.Path == "/certsrv/hang" {
			close(entered)
			<-r.Context().Done()
			return true
		}
		return false
	}
	p := newPool(t, s.config())
	errc := make(chan error)
	go func() {
		_, _, err := do(t.Context(), p, http.MethodGet, s.URL+"/certsrv/hang", "")
		errc <- err
	}()
	<-entered
	p.Close()
	p.Close()
	if err := <-errc; !errors.Is(err, ErrClosed) {
		t.Errorf("request in flight: %v", err)
	}
	if _, _, err := do(t.Context(), p, http.MethodGet, s.URL+"/certsrv/x", ""); !errors.Is(err, ErrClosed) {
		t.Errorf("after Close: %v", err)
	}
}

// An idle session ends by itself.
func TestIdleTimeout(t *testing.T) {
	s := start(t, nil)
	cfg := s.config()
	cfg.IdleTimeout = 20 * time.Millisecond
	p := newPool(t, cfg)
	if _, err := p.Login(t.Context()); err != nil {
		t.Fatal(err)
	}
	giveUp := time.After(10 * time.Second)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for p.Stats().Open != 0 {
		select {
		case <-giveUp:
			t.Fatalf("%+v", p.Stats())
		case <-tick.C:
		}
	}
	if _, err := p.Login(t.Context()); err != nil || s.ok.Load() != 2 {
		t.Errorf("%v, %d logins", err, s.ok.Load())
	}
}

// Login asks for the page where somebody is logged in, and logs in where not.
func TestLogin(t *testing.T) {
	s := start(t, nil)
	p := newPool(t, s.config())
	login := func(reused bool) {
		t.Helper()
		l, err := p.Login(t.Context())
		if err != nil || l.Status != http.StatusMovedPermanently || l.Reused != reused || l.Length == 0 {
			t.Errorf("%+v %v", l, err)
		}
	}
	login(false)
	login(true)
	forget := true
	s.before = func(w http.ResponseWriter, r *http.Request) bool {
		if forget && r.Header.Get("Authorization") == "" {
			forget = false
			s.deny(w, s.providers...)
			return true
		}
		return false
	}
	login(false)
	s.CloseClientConnections()
	login(false)
	s.before = func(w http.ResponseWriter, _ *http.Request) bool { w.WriteHeader(http.StatusBadGateway); return true }
	var se *StatusError
	if _, err := p.Login(t.Context()); !errors.As(err, &se) || se.Status != http.StatusBadGateway {
		t.Errorf("%v", err)
	}
	if st := p.Stats(); st.Open != 0 || s.ok.Load() != 3 {
		t.Errorf("%+v, %d logins", st, s.ok.Load())
	}
}

// What a refusal says, and what it does not.
func TestRejectedErrorText(t *testing.T) {
	for _, tc := range []struct {
		e    RejectedError
		want string
	}{
		{RejectedError{MIC: true}, "the channel binding (EPA) is for another certificate"},
		{RejectedError{Binding: BindCertificate}, "to the configured certificate"},
		{RejectedError{Binding: BindOff}, "or the server requires a channel binding (EPA)"},
		{RejectedError{Probed: true}, "it is not the channel binding"},
		{RejectedError{Probed: true, BindingRefused: true}, "logs in without a channel binding, but not with one"},
		{RejectedError{Probed: true, BindingRefused: true, Binding: BindOff}, "logs in with a channel binding, but not without one"},
	} {
		tc.e.Username, tc.e.Offered = `LABDOM\ra-user`, []string{"Negotiate", "NTLM"}
		if got := tc.e.Error(); !strings.Contains(got, tc.want) || !strings.Contains(got, tc.e.Username) {
			t.Errorf("%+v: %s", tc.e, got)
		}
	}
}

// A connection that is gone between the legs costs a login one more, and only
// one, and no credentials.
func TestConnectionGoneBetweenTheLegs(t *testing.T) {
	for gone, good := range map[int64]bool{1: true, 2: false} {
		s := start(t, func(s *fakeIIS) {
			s.before = func(w http.ResponseWriter, _ *http.Request) bool {
				if s.conns.Load() <= gone {
					w.Header().Set("Connection", "close")
				}
				return false
			}
		})
		p, err := NewPool(s.config())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(p.Close)
		if _, err = p.Login(t.Context()); good != (err == nil) || !good && !errors.Is(err, ErrConnectionClosed) {
			t.Errorf("%d connections gone: %v", gone, err)
		}
		if n := s.conns.Load(); n != 2 || s.failed.Load() != 0 {
			t.Errorf("%d connections gone: %d made, %d logins failed", gone, n, s.failed.Load())
		}
	}
}
