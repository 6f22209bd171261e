package ra_test

import (
	"context"
	"crypto/x509"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/onlineca/onlineca/ra"
	"github.com/onlineca/onlineca/ra/fault"
)

// host is an upstream that answers everything in one way, and counts.
type host struct {
	err                             error
	enrolled, fetched, chains, auth int
}

func (h *host) Enroll(context.Context, ra.Request) (ra.Result, error) {
	h.enrolled++
	return ra.Result{State: ra.Pending, ReqID: 7}, h.err
}

func (h *host) Fetch(_ context.Context, id int, _ *x509.CertificateRequest) (ra.Result, error) {
	h.fetched++
	return ra.Result{State: ra.Pending, ReqID: id}, h.err
}

func (h *host) CACerts(context.Context) ([]*x509.Certificate, error) {
	h.chains++
	return []*x509.Certificate{{}}, h.err
}

func (h *host) Authenticate(context.Context, ra.Credentials) error { h.auth++; return h.err }

func pair(cfg ra.BreakerConfig) (a, b *host, f *ra.Failover) {
	a, b = new(host), new(host)
	return a, b, ra.NewFailover(nil, ra.NewTarget("a", a, cfg), ra.NewTarget("b", b, cfg))
}

// left is a fault of a request that has left, still one that has not.
func left(c fault.Code) error  { return fault.New(c, "submit", nil) }
func still(c fault.Code) error { return &fault.Fault{Code: c, Op: "log in", Unsent: true} }

// What may be asked elsewhere, and what may not.
func TestWhatFailsOver(t *testing.T) {
	for _, c := range []struct {
		name                   string
		err                    error
		enroll, chain, askAuth bool
	}{
		{"refused connection", still(fault.ConnectionRefused), true, true, true},
		{"no such name", still(fault.DNS), true, true, true},
		{"TLS", still(fault.TLSHandshake), true, true, true},
		{"expired certificate", still(fault.Expired), true, true, true},
		{"login timeout", still(fault.LoginTimeout), true, true, false},
		{"login answered 503", still(fault.ServerError), true, true, false},
		{"no NTLM", still(fault.NTLMDisabled), true, true, false},
		{"cut in the login", still(fault.ConnectionLost), true, true, false},
		{"no free session", still(fault.Busy), true, true, true},
		{"refused connection of the fetch", &fault.Fault{Code: fault.ConnectionRefused, ReqID: 7}, false, true, true},
		{"answer lost", left(fault.OutcomeUnknown), false, true, false},
		{"submit timeout", left(fault.EnrollTimeout), false, true, false},
		{"submit answered 500", left(fault.ServerError), false, true, false},
		{"CA out of reach", left(fault.RPCUnavailable), false, true, false},
		{"bad credentials", still(fault.BadCredentials), false, false, false},
		{"suspended login", still(fault.LoginSuspended), false, false, false},
		{"Extended Protection", still(fault.EPARequired), false, false, false},
		{"denied", left(fault.DeniedByPolicy), false, false, false},
		{"malformed", left(fault.MalformedCSR), false, false, false},
		{"canceled", still(fault.Canceled), false, false, false},
		{"unknown", errors.New("what"), false, false, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			a, b, f := pair(ra.BreakerConfig{})
			a.err = c.err
			check := func(what string, over bool, asked int, err error) {
				t.Helper()
				switch {
				case over && (asked != 1 || err != nil):
					t.Errorf("%s: the second host was asked %d times: %v", what, asked, err)
				case !over && (asked != 0 || !errors.Is(err, fault.Of(c.err).Code)):
					t.Errorf("%s: the second host was asked %d times: %v", what, asked, err)
				}
			}
			res, err := f.Enroll(t.Context(), ra.Request{})
			check("Enroll", c.enroll, b.enrolled, err)
			if c.enroll && res.Target != "b" || !c.enroll && fault.Of(err).Target != "a" {
				t.Errorf("the target is %q, that of the fault %q", res.Target, fault.Of(err).Target)
			}
			_, err = f.CACerts(t.Context())
			check("CACerts", c.chain, b.chains, err)
			check("Authenticate", c.askAuth, b.auth, f.Authenticate(t.Context(), ra.Credentials{}))
			if a.enrolled != 1 || a.chains != 1 || a.auth != 1 {
				t.Errorf("the first host was not asked once each: %+v", a)
			}
		})
	}
}

// The preferred host is left alone while its breaker is open, and used again
// when it is back.
func TestPreferredHostComesBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b, f := pair(ra.BreakerConfig{Failures: 2, Pause: time.Minute})
		a.err = left(fault.ServerError) // has left: each of these fails
		for range 2 {
			if _, err := f.Enroll(t.Context(), ra.Request{}); !errors.Is(err, fault.ServerError) {
				t.Fatal(err)
			}
		}
		for range 10 {
			if res, err := f.Enroll(t.Context(), ra.Request{}); err != nil || res.Target != "b" {
				t.Fatalf("%+v, %v", res, err)
			}
		}
		if a.enrolled != 2 || b.enrolled != 10 {
			t.Errorf("asked %d and %d times, want 2 and 10", a.enrolled, b.enrolled)
		}
		time.Sleep(time.Minute)
		a.err = still(fault.ConnectionRefused) // still down: the trial goes on to b
		if res, err := f.Enroll(t.Context(), ra.Request{}); err != nil || res.Target != "b" || a.enrolled != 3 {
			t.Errorf("%+v, %v, asked %d times", res, err, a.enrolled)
		}
		time.Sleep(time.Minute)
		a.err = nil
		if res, err := f.Enroll(t.Context(), ra.Request{}); err != nil || res.Target != "a" {
			t.Errorf("back: %+v, %v", res, err)
		}
	})
}

func TestNoHostLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b, f := pair(ra.BreakerConfig{Failures: 1, Pause: time.Minute})
		a.err, b.err = still(fault.ConnectionRefused), still(fault.ConnectTimeout)
		if _, err := f.Enroll(t.Context(), ra.Request{}); !errors.Is(err, fault.ConnectionRefused) || fault.Of(err).Target != "a" {
			t.Errorf("the first failure is to be reported: %v", err)
		}
		time.Sleep(20 * time.Second)
		_, err := f.Enroll(t.Context(), ra.Request{})
		if got := fault.Of(err); got.Code != fault.Busy || got.RetryAfter != 40*time.Second || a.enrolled+b.enrolled != 2 {
			t.Errorf("%v, retry after %v, asked %d and %d times", err, got.RetryAfter, a.enrolled, b.enrolled)
		}
	})
}

// A number is asked for at the host of a name, whatever its state, or at the
// first that can be asked.
func TestFetch(t *testing.T) {
	a, b, f := pair(ra.BreakerConfig{})
	to, err := f.Target("b")
	if err != nil {
		t.Fatal(err)
	}
	b.err = still(fault.ConnectionRefused)
	if _, err := to.Fetch(t.Context(), 7, nil); !errors.Is(err, fault.ConnectionRefused) || a.fetched != 0 || b.fetched != 1 {
		t.Errorf("%v, asked %d and %d times", err, a.fetched, b.fetched)
	}
	if to, err = f.Target(""); err != nil || to.Name() != "a" {
		t.Errorf("no name: %v, %v", to, err)
	}
	if _, err := f.Target("c"); err == nil || !fault.Of(err).Code.Row().Unsettled {
		t.Errorf("a host that is gone: %v", err)
	}
	if res, err := f.Fetch(t.Context(), 9, nil); err != nil || res.Target != "a" || res.ReqID != 9 {
		t.Errorf("%+v, %v", res, err)
	}
	a.err, b.err = fault.New(fault.FetchTimeout, "fetch", nil), nil
	if res, err := f.Fetch(t.Context(), 9, nil); err != nil || res.Target != "b" {
		t.Errorf("the first in trouble: %+v, %v", res, err)
	}
	a.err = fault.NoSuchRequest
	if _, err := f.Fetch(t.Context(), 9, nil); !errors.Is(err, fault.NoSuchRequest) {
		t.Errorf("a number that the CA does not know: %v", err)
	}
}

// Only the service's own account tells about the account: clients' bad
// passwords do not.
func TestTargetStatus(t *testing.T) {
	h := new(host)
	target := ra.NewTarget("a", h, ra.BreakerConfig{})
	h.err = still(fault.BadCredentials)
	_ = target.Authenticate(t.Context(), ra.Credentials{Username: "stranger"})
	if s := target.Status(); s.Refused != nil {
		t.Errorf("a client's password: %+v", s)
	}
	_, _ = target.CACerts(t.Context())
	if s := target.Status(); s.Refused == nil || s.Refused.Code != fault.BadCredentials || s.Since.IsZero() {
		t.Errorf("%+v", s)
	}
	h.err = nil
	_, _ = target.CACerts(t.Context())
	if s := target.Status(); s.Refused != nil || s.Success.IsZero() {
		t.Errorf("%+v", s)
	}
}

func TestLoad(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var load ra.Load
		release := make(chan struct{})
		e := ra.LimitConcurrency(ra.EnrollerFunc(func(context.Context, ra.Request) (ra.Result, error) {
			<-release
			return ra.Result{}, nil
		}), ra.Concurrency{Running: 2, Waiting: 3, Load: &load})
		ctx, cancel := context.WithCancel(t.Context())
		for i := range 7 {
			c := t.Context()
			if i == 4 {
				c = ctx
			}
			go func() { _, _ = e.Enroll(c, ra.Request{}) }()
			synctest.Wait()
		}
		if got, want := load.Status(), (ra.LoadStatus{Running: 2, Waiting: 3, Capacity: 3, Refused: 2}); got != want {
			t.Errorf("%+v, want %+v", got, want)
		}
		cancel()
		synctest.Wait()
		if got := load.Status().Waiting; got != 2 {
			t.Errorf("%d wait, want 2", got)
		}
		close(release)
		synctest.Wait()
		if got, want := load.Status(), (ra.LoadStatus{Capacity: 3, Refused: 2}); got != want {
			t.Errorf("%+v, want %+v", got, want)
		}
	})
}
