package ra_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"
	"golang.org/x/crypto/bcrypt"

	"github.com/onlineca/onlineca/ra"
	"github.com/onlineca/onlineca/ra/event"
	"github.com/onlineca/onlineca/ra/fault"
)

// watch returns a logger and the kinds of what was reported on it.
func watch() (*zap.Logger, *observer.ObservedLogs) {
	core, logs := observer.New(zap.DebugLevel)
	return zap.New(core), logs
}

func TestRecover(t *testing.T) {
	log, logs := watch()
	e := ra.Recover(ra.EnrollerFunc(func(context.Context, ra.Request) (ra.Result, error) { panic("oh") }), log)
	_, err := e.Enroll(t.Context(), ra.Request{})
	if !errors.Is(err, fault.Internal) || strings.Contains(err.Error(), "goroutine") {
		t.Errorf("%v", err)
	}
	if logs.Len() != 1 {
		t.Fatalf("%d entries", logs.Len())
	}
	got, _, _ := event.Of(logs.All()[0].Context)
	if p, ok := got.(event.Panic); !ok || p.Value != "oh" || !strings.Contains(p.Stack, "TestRecover") {
		t.Errorf("%+v", got)
	}
}

func TestLogged(t *testing.T) {
	log, logs := watch()
	outcome := func(res ra.Result, err error) event.Enrollment {
		e := ra.Logged(ra.EnrollerFunc(func(context.Context, ra.Request) (ra.Result, error) { return res, err }), log)
		_, got := e.Enroll(t.Context(), ra.Request{Operation: ra.Enroll, Client: ra.Client{Name: "ciscora", Addr: "192.0.2.1"}})
		if !errors.Is(got, err) {
			t.Errorf("%v became %v", err, got)
		}
		last := logs.All()[logs.Len()-1]
		ev, _, _ := event.Of(last.Context)
		return ev.(event.Enrollment)
	}
	if e := outcome(ra.Result{State: ra.Issued, ReqID: 7, Certificate: &x509.Certificate{SerialNumber: big.NewInt(255)}}, nil); e.State != "issued" || e.ReqID != 7 || e.Serial != "ff" || e.User != "ciscora" {
		t.Errorf("%+v", e)
	}
	if e := outcome(ra.Result{}, &fault.Fault{Code: fault.DeniedByPolicy, ReqID: 8}); e.State != "failed" || e.Code != "denied-by-policy" || e.ReqID != 8 {
		t.Errorf("%+v", e)
	}
}

// So many at once, so many that wait, and no more.
func TestLimitConcurrency(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var running, most atomic.Int32
		release := make(chan struct{})
		e := ra.LimitConcurrency(ra.EnrollerFunc(func(context.Context, ra.Request) (ra.Result, error) {
			most.Store(max(most.Load(), running.Add(1)))
			<-release
			running.Add(-1)
			return ra.Result{State: ra.Issued}, nil
		}), ra.Concurrency{Running: 2, Waiting: 3, RetryAfter: 7 * time.Second})
		var done, busy, canceled atomic.Int32
		enrol := func(ctx context.Context) {
			_, err := e.Enroll(ctx, ra.Request{})
			switch {
			case err == nil:
				done.Add(1)
			case errors.Is(err, fault.Busy):
				if fault.Of(err).RetryAfter != 7*time.Second {
					t.Errorf("RetryAfter %v", fault.Of(err).RetryAfter)
				}
				busy.Add(1)
			case errors.Is(err, fault.Canceled):
				canceled.Add(1)
			default:
				t.Error(err)
			}
		}
		impatient, cancel := context.WithCancel(t.Context())
		for i := range 8 {
			ctx := t.Context()
			if i == 2 {
				ctx = impatient
			}
			go enrol(ctx)
			synctest.Wait()
		}
		if running.Load() != 2 || busy.Load() != 3 {
			t.Errorf("%d running, %d turned away; want 2 and 3", running.Load(), busy.Load())
		}
		cancel()
		synctest.Wait()
		close(release)
		synctest.Wait()
		if done.Load() != 4 || canceled.Load() != 1 || most.Load() != 2 {
			t.Errorf("%d done, %d canceled, %d at once; want 4, 1, 2", done.Load(), canceled.Load(), most.Load())
		}
		for range 10 { // every place is free again
			enrol(t.Context())
		}
		if done.Load() != 14 {
			t.Errorf("%d done, want 14", done.Load())
		}
	})
}

func TestLimitRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := ra.LimitRate(ra.EnrollerFunc(func(context.Context, ra.Request) (ra.Result, error) {
			return ra.Result{}, nil
		}), ra.Rate{Every: 10 * time.Second, Burst: 2, Max: 2})
		try := func(name string, busy bool) {
			t.Helper()
			_, err := e.Enroll(t.Context(), ra.Request{Client: ra.Client{Name: name}})
			if errors.Is(err, fault.Busy) != busy {
				t.Errorf("%s: %v", name, err)
			}
			if busy && (fault.Of(err).RetryAfter <= 0 || fault.Of(err).RetryAfter > 10*time.Second) {
				t.Errorf("RetryAfter %v", fault.Of(err).RetryAfter)
			}
		}
		try("a", false)
		try("a", false)
		try("a", true)
		try("b", false)
		time.Sleep(10 * time.Second)
		try("a", false)
		try("a", true)
		try("c", false) // b is as good as new and makes room
		try("d", false) // no room: shares the rest's allowance with e
		try("e", false)
		try("e", true)
	})
}

// chainFunc is an ra.ChainSource.
type chainFunc func(ctx context.Context) ([]*x509.Certificate, error)

func (f chainFunc) CACerts(ctx context.Context) ([]*x509.Certificate, error) { return f(ctx) }

func TestChain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log, logs := watch()
		old := []*x509.Certificate{{Raw: []byte{1}, SerialNumber: big.NewInt(1)}}
		renewed := []*x509.Certificate{{Raw: []byte{2}, SerialNumber: big.NewInt(2)}}
		var mu sync.Mutex
		answer, fails, asked := old, error(nil), 0
		set := func(certs []*x509.Certificate, err error) {
			mu.Lock()
			defer mu.Unlock()
			answer, fails = certs, err
		}
		c, err := ra.NewChain(t.Context(), chainFunc(func(context.Context) ([]*x509.Certificate, error) {
			mu.Lock()
			defer mu.Unlock()
			asked++
			return answer, fails
		}), ra.ChainConfig{Log: log})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- c.Run(ctx) }()
		check := func(want []*x509.Certificate, n int, kind string) {
			t.Helper()
			synctest.Wait()
			mu.Lock()
			defer mu.Unlock()
			got, err := c.CACerts(t.Context())
			if err != nil || !got[0].Equal(want[0]) || asked != n {
				t.Errorf("%v, %v after %d questions; want %v after %d", got, err, asked, want, n)
			}
			last := ""
			if n := logs.Len(); n > 0 {
				last = logs.All()[n-1].Message
			}
			if last != kind {
				t.Errorf("the last event is %q, want %q", last, kind)
			}
		}
		check(old, 1, "")
		time.Sleep(time.Hour)
		check(old, 2, "")
		set(nil, fault.New(fault.ChainTimeout, "test", nil))
		time.Sleep(time.Hour)
		check(old, 3, "chain-stale")
		set(renewed, nil)
		time.Sleep(time.Minute)
		check(renewed, 4, "chain-changed")
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// signer is a CA of one name and any key.
type signer struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newSigner(t *testing.T) *signer {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	s := &signer{key: key}
	s.cert = s.sign(t, s.template())
	return s
}

func (s *signer) template() *x509.Certificate {
	return &x509.Certificate{Subject: pkix.Name{CommonName: "CA"}, SerialNumber: big.NewInt(1), IsCA: true, BasicConstraintsValid: true}
}

func (s *signer) sign(t *testing.T, template *x509.Certificate) *x509.Certificate {
	t.Helper()
	der, err := x509.CreateCertificate(rand.Reader, template, s.template(), s.key.Public(), s.key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

// A renewed CA shows in what it issues: the chain follows at once, and is
// fetched once, however many notice.
func TestChainFollowsARenewal(t *testing.T) {
	old, renewed, foreign := newSigner(t), newSigner(t), newSigner(t)
	synctest.Test(t, func(t *testing.T) {
		var current atomic.Pointer[signer]
		current.Store(old)
		var fails atomic.Bool
		var asked atomic.Int32
		c, err := ra.NewChain(t.Context(), chainFunc(func(ctx context.Context) ([]*x509.Certificate, error) {
			asked.Add(1)
			if fails.Load() {
				<-ctx.Done()
				return nil, fault.New(fault.ChainTimeout, "test", ctx.Err())
			}
			return []*x509.Certificate{current.Load().cert}, nil
		}), ra.ChainConfig{})
		if err != nil {
			t.Fatal(err)
		}
		enrol := func(by *signer) {
			t.Helper()
			leaf := by.sign(t, &x509.Certificate{Subject: pkix.Name{CommonName: "leaf"}, SerialNumber: big.NewInt(2)})
			res, err := c.Follow(ra.EnrollerFunc(func(context.Context, ra.Request) (ra.Result, error) {
				return ra.Result{State: ra.Issued, Certificate: leaf}, nil
			})).Enroll(t.Context(), ra.Request{})
			if err != nil || res.Certificate != leaf {
				t.Errorf("%+v, %v", res, err)
			}
		}
		check := func(ca *signer, n int32) {
			t.Helper()
			if certs, err := c.CACerts(t.Context()); err != nil || !certs[0].Equal(ca.cert) || asked.Load() != n {
				t.Errorf("%v, %v after %d questions, want %d", certs, err, asked.Load(), n)
			}
		}
		enrol(old)
		check(old, 1)
		current.Store(renewed)
		var wg sync.WaitGroup
		for range 20 {
			wg.Go(func() { enrol(renewed) })
		}
		wg.Wait()
		check(renewed, 2)
		enrol(foreign) // of no CA that the chain will ever have: not asked for each
		enrol(foreign)
		check(renewed, 2)
		time.Sleep(time.Minute)
		fails.Store(true)
		began := time.Now()
		enrol(foreign)
		check(renewed, 3)
		if d := time.Since(began); d > 3*time.Second { // of the bubble's clock
			t.Errorf("the client waited %v", d)
		}
	})
}

func TestChainThatCannotBeFetched(t *testing.T) {
	for _, p := range []struct {
		certs []*x509.Certificate
		err   error
		want  error
	}{
		{nil, fault.New(fault.DNS, "certsrv: look up ca.example.com", nil), fault.DNS},
		{nil, nil, fault.ChainUnreadable},
	} {
		_, err := ra.NewChain(t.Context(), chainFunc(func(context.Context) ([]*x509.Certificate, error) { return p.certs, p.err }), ra.ChainConfig{})
		if !errors.Is(err, p.want) {
			t.Errorf("%v, want %v", err, p.want)
		}
	}
}

func TestUserList(t *testing.T) {
	hash := func(p string) string {
		h, err := bcrypt.GenerateFromPassword([]byte(p), bcrypt.MinCost)
		if err != nil {
			t.Fatal(err)
		}
		return string(h)
	}
	long := strings.Repeat("x", 72)
	// htpasswd writes $2y$, which is the same function.
	text := "# phones\n\nalice:" + strings.Replace(hash("wonder"), "$2a$", "$2y$", 1) + "\nbob:" + hash(long) + "\n"
	path := filepath.Join(t.TempDir(), "users")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	l, err := ra.LoadUserList(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range []struct {
		user, password string
		ok             bool
	}{
		{"alice", "wonder", true}, {"alice", "wonde", false}, {"alice", "", false}, {"Alice", "wonder", false},
		{"bob", long, true}, {"bob", long + "y", false}, {"nobody", "nobody", false}, {"", "", false},
	} {
		err := l.Authenticate(t.Context(), ra.Credentials{Username: p.user, Password: p.password})
		if p.ok != (err == nil) || !p.ok && !errors.Is(err, fault.BadCredentials) {
			t.Errorf("%s/%.10s: %v", p.user, p.password, err)
		}
	}
	if err := os.WriteFile(path, []byte("alice:{SHA}abc\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := l.Reload(); err == nil || !strings.Contains(err.Error(), "line 1: the hash of alice is not bcrypt") {
		t.Errorf("%v", err)
	}
	if l.Len() != 2 {
		t.Error("a broken file replaced the list")
	}
	for says, text := range map[string]string{
		"line 2: it is not user:hash": "\nalice\n", "line 2: alice is listed twice": "alice:" + hash("a") + "\nalice:" + hash("b"),
	} {
		if _, err := ra.ParseUserList([]byte(text)); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%v, want %q", err, says)
		}
	}
}
