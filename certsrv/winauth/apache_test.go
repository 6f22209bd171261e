package winauth

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/onlineca/onlineca/internal/interop"
)

// apache starts Apache with gss-ntlmssp before a server that counts POSTs.
func apache(t *testing.T) (a *interop.ApacheServer, cfg Config, posts *atomic.Int64) {
	t.Helper()
	posts = new(atomic.Int64)
	backend := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		if r.Method == http.MethodPost {
			posts.Add(1)
		}
		fmt.Fprintf(w, "%s %s %d", r.Header.Get("X-Remote-User"), r.URL.Path, len(b))
	}))
	t.Cleanup(backend.Close)
	a = interop.Apache(t, backend.URL, interop.User{Domain: "LABDOM", Name: "ra-user", Password: "S3cret!pw"})
	roots := x509.NewCertPool()
	roots.AddCert(a.Root)
	return a, Config{
		URL: a.URL + "/certsrv", Credential: Credential{`LABDOM\ra-user`, "S3cret!pw"},
		TLS: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12},
	}, posts
}

// 320 requests by 32 goroutines over 8 sessions: 8 connections, each with one
// login. On a machine that is very busy net/http may close a connection instead
// of using it again, so the count is looked at up to three times.
func TestApache(t *testing.T) {
	conns := 0
	for range 3 {
		if conns = throughApache(t); conns == 8 || t.Failed() {
			return
		}
	}
	t.Errorf("Apache saw %d connections, want 8", conns)
}

// throughApache sends the requests and returns how many connections Apache saw.
func throughApache(t *testing.T) int {
	t.Helper()
	a, cfg, posts := apache(t)
	p := newPool(t, cfg)
	var wg sync.WaitGroup
	for range 32 {
		wg.Go(func() {
			for range 10 {
				status, body, err := do(t.Context(), p, http.MethodPost, a.URL+"/certsrv/certfnsh.asp", strings.Repeat("x", 1500))
				if err != nil || status != 200 || !strings.HasSuffix(body, "/certsrv/certfnsh.asp 1500") || !strings.Contains(body, "ra-user") {
					t.Errorf("%d %q %v", status, body, err)
				}
			}
		})
	}
	wg.Wait()
	st := p.Stats()
	if st.Requests != 320 || st.Rejected != 0 || posts.Load() != 320 {
		t.Errorf("%+v, %d POSTs", st, posts.Load())
	}
	p.Close()
	refused, conns := 0, map[int]bool{}
	for _, l := range a.Log(t, 320+2*int(st.Handshakes)) { // two legs each
		conns[l.Port] = true
		if l.Status == http.StatusUnauthorized {
			refused++
		}
	}
	if len(conns) != int(st.Handshakes) || refused != len(conns) { // one 401, the challenge, for each
		t.Errorf("Apache saw %d connections and answered 401 %d times", len(conns), refused)
	}
	return len(conns)
}

func TestApacheRefusesAWrongPassword(t *testing.T) {
	a, cfg, posts := apache(t)
	cfg.Credential.Password = "wrong"
	p := newPool(t, cfg)
	var wg sync.WaitGroup
	for range 32 {
		wg.Go(func() {
			_, _, err := do(context.Background(), p, http.MethodPost, a.URL+"/certsrv/x", "a=b")
			if !errors.Is(err, ErrRejected) && !errors.Is(err, ErrSuspended) {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if st := p.Stats(); st.Rejected != 1 || posts.Load() != 0 {
		t.Errorf("%+v, %d POSTs", st, posts.Load())
	}
	if n := len(a.Log(t, 2)); n != 2 {
		t.Errorf("Apache saw %d requests for one refused login", n)
	}
}

// What Apache can judge of Extended Protection: it verifies the MIC, and takes
// any channel binding.
func TestApacheExtendedProtection(t *testing.T) {
	_, cfg, _ := apache(t)
	for name, epa := range map[string]EPA{
		"binding and MIC": {},
		"binding":         {NoMIC: true},
		"MIC":             {Binding: BindOff},
		"neither":         {Binding: BindOff, NoMIC: true},
		"given":           {Binding: BindCertificate, Certificate: selfSigned(t).Leaf},
	} {
		cfg.EPA = epa
		if _, err := newPool(t, cfg).Login(t.Context()); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	p := newPool(t, cfg)
	if r, err := p.Probe(t.Context()); err != nil || r.Mode() != "off" {
		t.Errorf("%q, %v", r.Mode(), err)
	}
	// The user's name does not mind its case, the domain's does here.
	cfg.EPA = EPA{}
	for user, want := range map[string]error{`LABDOM\RA-USER`: nil, `labdom\ra-user`: ErrRejected} {
		cfg.Credential.Username = user
		if _, err := newPool(t, cfg).Login(t.Context()); !errors.Is(err, want) || (err == nil) != (want == nil) {
			t.Errorf("%s: %v", user, err)
		}
	}
}

// A wrong MIC under a right proof is refused: Apache does look at it.
func TestApacheVerifiesTheMIC(t *testing.T) {
	_, cfg, _ := apache(t)
	p := newPool(t, cfg)
	for flip, want := range map[byte]int{0: http.StatusOK, 1: http.StatusUnauthorized} {
		s, err := p.open(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		neg, _ := negotiateMessage()
		scheme, challenge, err := p.negotiate(t.Context(), s, neg)
		if err != nil {
			t.Fatal(err)
		}
		msg, mic, err := authenticateMessage(neg, challenge, cfg.Credential, extra{mic: true})
		if err != nil || !mic {
			t.Fatalf("MIC %v, %v", mic, err)
		}
		msg[micAt] ^= flip
		if a, err := p.leg(t.Context(), s, scheme, msg); err != nil || a.status != want {
			t.Errorf("MIC changed by %d: status %d, %v", flip, a.status, err)
		}
		s.close()
	}
}
