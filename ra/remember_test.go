package ra_test

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/onlineca/onlineca/ra"
	"github.com/onlineca/onlineca/ra/event"
	"github.com/onlineca/onlineca/ra/fault"
)

// authFunc is an ra.Authenticator that counts.
type authFunc struct {
	asked atomic.Int32
	f     func(ctx context.Context, c ra.Credentials) error
}

func (a *authFunc) Authenticate(ctx context.Context, c ra.Credentials) error {
	a.asked.Add(1)
	return a.f(ctx, c)
}

// password accepts one password for every user.
func password(want string) *authFunc {
	return &authFunc{f: func(_ context.Context, c ra.Credentials) error {
		if c.Password != want {
			return fault.Newf(fault.BadCredentials, "test", "no")
		}
		return nil
	}}
}

func TestRememberForgetsAfterFiveMinutes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		next := password("right")
		r := ra.NewRemember(next, ra.RememberConfig{})
		good := ra.Credentials{Username: "ciscora", Password: "right"}
		ask := func(c ra.Credentials, want error, asked int32) {
			t.Helper()
			if err := r.Authenticate(t.Context(), c); !errors.Is(err, want) {
				t.Errorf("%v: %v, want %v", c, err, want)
			}
			if n := next.asked.Load(); n != asked {
				t.Errorf("asked %d times, want %d", n, asked)
			}
		}
		ask(good, nil, 1)
		ask(good, nil, 1)
		// Neither another user with this password, nor a shifted boundary
		// between the two, is what was verified.
		ask(ra.Credentials{Username: "ciscoraright"}, fault.BadCredentials, 2)
		ask(ra.Credentials{Username: "ciscora", Password: "wrong"}, fault.BadCredentials, 3)
		ask(ra.Credentials{Username: "ciscora", Password: "wrong"}, fault.BadCredentials, 4)
		ask(good, nil, 4)
		time.Sleep(5*time.Minute - time.Second)
		ask(good, nil, 4)
		time.Sleep(time.Second)
		ask(good, nil, 5)
		r.Forget()
		ask(good, nil, 6)
	})
}

// Many phones that come at once with the same account cost one login.
func TestRememberAsksOnceForEqualCredentials(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		next := &authFunc{f: func(ctx context.Context, _ ra.Credentials) error {
			select {
			case <-time.After(time.Second):
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		}}
		r := ra.NewRemember(next, ra.RememberConfig{})
		first, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		var ok, gone atomic.Int32
		for i := range 320 {
			ctx := t.Context()
			if i == 0 {
				ctx = first
			}
			wg.Go(func() {
				switch err := r.Authenticate(ctx, ra.Credentials{Username: "ciscora", Password: "p"}); {
				case err == nil:
					ok.Add(1)
				case errors.Is(err, fault.Canceled):
					gone.Add(1)
				default:
					t.Error(err)
				}
			})
			synctest.Wait()
		}
		cancel() // the one who came first leaves; the others get their answer
		wg.Wait()
		if next.asked.Load() != 1 || ok.Load() != 319 || gone.Load() != 1 {
			t.Errorf("asked %d, ok %d, gone %d", next.asked.Load(), ok.Load(), gone.Load())
		}
	})
}

// When nobody waits any more, the login is broken off.
func TestRememberBreaksOffWhatNobodyWaitsFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var ended atomic.Bool
		next := &authFunc{f: func(ctx context.Context, _ ra.Credentials) error {
			<-ctx.Done()
			ended.Store(true)
			return ctx.Err()
		}}
		r := ra.NewRemember(next, ra.RememberConfig{})
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := r.Authenticate(ctx, ra.Credentials{Username: "u"}); !errors.Is(err, fault.Canceled) {
			t.Errorf("%v", err)
		}
		synctest.Wait()
		if !ended.Load() {
			t.Error("the login goes on")
		}
	})
}

func TestRememberSurvivesAPanic(t *testing.T) {
	next := &authFunc{f: func(context.Context, ra.Credentials) error { panic("upstream") }}
	r := ra.NewRemember(next, ra.RememberConfig{})
	for range 2 {
		if err := r.Authenticate(t.Context(), ra.Credentials{Username: "u"}); !errors.Is(err, fault.Internal) {
			t.Errorf("%v", err)
		}
	}
}

// The memory is bounded: what expires first makes room.
func TestRememberIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		next := password("p")
		r := ra.NewRemember(next, ra.RememberConfig{Max: 3})
		names := []string{"a", "b", "c", "d"}
		for _, n := range names {
			if err := r.Authenticate(t.Context(), ra.Credentials{Username: n, Password: "p"}); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Second)
		}
		for i, asked := range []int32{4, 4, 4} { // d, c, b are remembered
			_ = r.Authenticate(t.Context(), ra.Credentials{Username: names[3-i], Password: "p"})
			if n := next.asked.Load(); n != asked {
				t.Errorf("%s: asked %d times, want %d", names[3-i], n, asked)
			}
		}
		if _ = r.Authenticate(t.Context(), ra.Credentials{Username: "a", Password: "p"}); next.asked.Load() != 5 {
			t.Error("a is still remembered")
		}
	})
}

// client is a context of a client at addr.
func client(ctx context.Context, addr string) context.Context {
	return event.WithConn(ctx, event.Conn{Number: 1, Client: addr})
}

// However many guess, under whatever form of the name, the domain sees two
// wrong attempts in half an hour.
func TestAttemptsNeverLockADomainAccount(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		next := password("right")
		quick := next.f
		next.f = func(ctx context.Context, c ra.Credentials) error {
			time.Sleep(time.Second) // of a fake clock: all the others come meanwhile
			return quick(ctx, c)
		}
		a := ra.NewAttempts(next, ra.AttemptsConfig{})
		var wg sync.WaitGroup
		for i := range 100 {
			wg.Go(func() {
				user := []string{`LAB\ciscora`, "CISCORA", "ciscora@lab.example.com", "ciscora"}[i%4]
				ctx := client(t.Context(), "192.0.2."+string(rune('0'+i%10)))
				_ = a.Authenticate(ctx, ra.Credentials{Username: user, Password: "guess" + string(rune(i))})
			})
		}
		wg.Wait()
		if n := next.asked.Load(); n != 2 {
			t.Errorf("the domain saw %d attempts, want 2", n)
		}
		err := a.Authenticate(client(t.Context(), "192.0.2.99"), ra.Credentials{Username: "ciscora", Password: "right"})
		if f := fault.Of(err); f == nil || f.Code != fault.LoginSuspended || f.RetryAfter > 30*time.Minute || f.RetryAfter < 29*time.Minute {
			t.Errorf("%v", err)
		}
		time.Sleep(30 * time.Minute)
		if err := a.Authenticate(client(t.Context(), "192.0.2.99"), ra.Credentials{Username: "ciscora", Password: "right"}); err != nil {
			t.Error(err)
		}
	})
}

// Credentials that were good before are tried even while the account is being
// guessed at, but only once more if they have become wrong.
func TestAttemptsLetTheOwnerIn(t *testing.T) {
	current := "right"
	next := &authFunc{f: func(_ context.Context, c ra.Credentials) error {
		if c.Password != current {
			return fault.Newf(fault.BadCredentials, "test", "no")
		}
		return nil
	}}
	a := ra.NewAttempts(next, ra.AttemptsConfig{})
	owner := ra.Credentials{Username: "ciscora", Password: "right"}
	try := func(c ra.Credentials, want error) {
		t.Helper()
		if err := a.Authenticate(client(t.Context(), "192.0.2.1"), c); !errors.Is(err, want) {
			t.Errorf("%v, want %v", err, want)
		}
	}
	try(owner, nil)
	for _, want := range []error{fault.BadCredentials, fault.BadCredentials, fault.LoginSuspended} {
		try(ra.Credentials{Username: "ciscora", Password: "guess"}, want)
	}
	try(owner, nil)
	for _, want := range []error{fault.BadCredentials, fault.BadCredentials, fault.LoginSuspended} {
		try(ra.Credentials{Username: "ciscora", Password: "guess"}, want)
	}
	current = "changed"
	try(owner, fault.BadCredentials)
	try(owner, fault.LoginSuspended)
	if n := next.asked.Load(); n != 7 {
		t.Errorf("the domain saw %d attempts, want 7", n)
	}
}

// One address that tries one account after the other is stopped as well, others
// are not, and an upstream that is down counts against nobody.
func TestAttemptsPerAddress(t *testing.T) {
	down := false
	next := &authFunc{f: func(_ context.Context, c ra.Credentials) error {
		if down {
			return fault.New(fault.LoginTimeout, "test", nil)
		}
		return fault.New(fault.BadCredentials, "test", nil)
	}}
	a := ra.NewAttempts(next, ra.AttemptsConfig{PerAddr: 5, Max: 6})
	try := func(addr, user string, want error) {
		t.Helper()
		if err := a.Authenticate(client(t.Context(), addr), ra.Credentials{Username: user}); !errors.Is(err, want) {
			t.Errorf("%s from %s: %v, want %v", user, addr, err, want)
		}
	}
	down = true
	for range 10 {
		try("192.0.2.1", "u", fault.LoginTimeout)
	}
	down = false
	for _, u := range []string{"a", "b", "c", "d", "e"} {
		try("192.0.2.1", u, fault.BadCredentials)
	}
	try("192.0.2.1", "f", fault.LoginSuspended)
	try("192.0.2.2", "f", fault.BadCredentials)
	// Six accounts are being guessed at: there is no room to watch a seventh.
	try("192.0.2.2", "g", fault.LoginSuspended)
}
