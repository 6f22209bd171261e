package ra_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/onlineca/onlineca/ra"
	"github.com/onlineca/onlineca/ra/event"
	"github.com/onlineca/onlineca/ra/fault"
)

// step is one request to a breaker, and what it is like afterwards.
type step struct {
	wait time.Duration // before it
	err  error         // what the target answers
	shed bool          // the target is not asked
	then ra.BreakerState
}

func TestBreaker(t *testing.T) {
	down, denied := fault.ConnectionRefused, fault.DeniedByPolicy
	for name, steps := range map[string][]step{
		"opens after three in a row": {
			{err: down, then: ra.BreakerClosed}, {err: fault.ServerError, then: ra.BreakerClosed}, {err: fault.CAStopped, then: ra.BreakerOpen},
			{shed: true, then: ra.BreakerOpen}, {wait: 29 * time.Second, shed: true, then: ra.BreakerOpen},
		},
		"a success between": {
			{err: down, then: ra.BreakerClosed}, {err: down, then: ra.BreakerClosed}, {then: ra.BreakerClosed},
			{err: down, then: ra.BreakerClosed}, {err: down, then: ra.BreakerClosed},
		},
		"a denial is a success of the target": {
			{err: down, then: ra.BreakerClosed}, {err: down, then: ra.BreakerClosed}, {err: denied, then: ra.BreakerClosed},
			{err: down, then: ra.BreakerClosed}, {err: down, then: ra.BreakerClosed},
		},
		"a refused login says nothing": {
			{err: down, then: ra.BreakerClosed}, {err: down, then: ra.BreakerClosed}, {err: fault.BadCredentials, then: ra.BreakerClosed},
			{err: fault.LoginSuspended, then: ra.BreakerClosed}, {err: down, then: ra.BreakerOpen},
		},
		"denials and refusals never open it": {
			{err: denied, then: ra.BreakerClosed}, {err: denied, then: ra.BreakerClosed}, {err: denied, then: ra.BreakerClosed}, {err: denied, then: ra.BreakerClosed},
			{err: fault.BadCredentials, then: ra.BreakerClosed}, {err: fault.BadCredentials, then: ra.BreakerClosed}, {err: fault.BadCredentials, then: ra.BreakerClosed},
			{err: fault.MalformedCSR, then: ra.BreakerClosed}, {err: fault.MalformedCSR, then: ra.BreakerClosed}, {err: fault.MalformedCSR, then: ra.BreakerClosed},
		},
		"the trial succeeds": {
			{err: down, then: ra.BreakerClosed}, {err: down, then: ra.BreakerClosed}, {err: down, then: ra.BreakerOpen},
			{wait: 30 * time.Second, then: ra.BreakerClosed}, {err: down, then: ra.BreakerClosed},
		},
		"the trial is denied": {
			{err: down, then: ra.BreakerClosed}, {err: down, then: ra.BreakerClosed}, {err: down, then: ra.BreakerOpen},
			{wait: 30 * time.Second, err: denied, then: ra.BreakerClosed},
		},
		"the trial fails": {
			{err: down, then: ra.BreakerClosed}, {err: down, then: ra.BreakerClosed}, {err: down, then: ra.BreakerOpen},
			{wait: 30 * time.Second, err: down, then: ra.BreakerOpen}, {wait: 29 * time.Second, shed: true, then: ra.BreakerOpen},
			{wait: time.Second, then: ra.BreakerClosed},
		},
		"the trial says nothing": {
			{err: down, then: ra.BreakerClosed}, {err: down, then: ra.BreakerClosed}, {err: down, then: ra.BreakerOpen},
			{wait: 30 * time.Second, err: fault.BadCredentials, then: ra.BreakerHalfOpen}, {then: ra.BreakerClosed},
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := ra.NewBreaker("ca1", ra.BreakerConfig{Failures: 3})
				for i, s := range steps {
					time.Sleep(s.wait)
					asked := false
					err := b.Do(t.Context(), "enrol", func() error { asked = true; return s.err })
					if asked == s.shed {
						t.Fatalf("step %d: asked is %v", i, asked)
					}
					if s.shed {
						f := fault.Of(err)
						if f.Code != fault.Busy || !f.Unsent || f.Target != "ca1" || f.RetryAfter < time.Second || f.RetryAfter > 30*time.Second {
							t.Fatalf("step %d: shed with %+v", i, f)
						}
					} else if !errors.Is(err, s.err) {
						t.Fatalf("step %d: %v, want %v", i, err, s.err)
					}
					if got := b.Status().State; got != s.then {
						t.Fatalf("step %d: the breaker is %s, want %s", i, got, s.then)
					}
				}
			})
		})
	}
}

func TestBreakerLetsOneTrialThrough(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := ra.NewBreaker("ca1", ra.BreakerConfig{Failures: 1, Pause: time.Minute})
		_ = b.Do(t.Context(), "enrol", func() error { return fault.ConnectTimeout })
		time.Sleep(time.Minute)
		release, asked := make(chan struct{}), 0
		done := make(chan error)
		go func() {
			done <- b.Do(t.Context(), "enrol", func() error { asked++; <-release; return nil })
		}()
		synctest.Wait()
		for range 10 {
			if err := b.Do(t.Context(), "enrol", func() error { asked++; return nil }); !errors.Is(err, fault.Busy) {
				t.Fatalf("beside the trial: %v", err)
			}
		}
		close(release)
		if err := <-done; err != nil || asked != 1 || b.Status().State != ra.BreakerClosed {
			t.Errorf("%v, asked %d times, %+v", err, asked, b.Status())
		}
	})
}

// What was begun before the breaker opened decides nothing afterwards, and a
// panic of the trial does not keep the next one out.
func TestBreakerOldNewsAndPanics(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := ra.NewBreaker("ca1", ra.BreakerConfig{Failures: 1, Pause: time.Minute})
		release, done := make(chan error), make(chan error)
		for range 2 {
			go func() { done <- b.Do(t.Context(), "enrol", func() error { return <-release }) }()
		}
		synctest.Wait()
		_ = b.Do(t.Context(), "enrol", func() error { return fault.ConnectTimeout })
		until := b.Status().Until
		time.Sleep(time.Second)
		release <- fault.ConnectTimeout
		<-done
		release <- nil
		<-done
		if s := b.Status(); s.State != ra.BreakerOpen || !s.Until.Equal(until) || s.Opened != 1 {
			t.Errorf("old news changed it: %+v, was open until %v", s, until)
		}
		time.Sleep(time.Minute)
		func() {
			defer func() { _ = recover() }()
			_ = b.Do(t.Context(), "enrol", func() error { panic("oh") })
		}()
		if err := b.Do(t.Context(), "enrol", func() error { return nil }); err != nil || b.Status().State != ra.BreakerClosed {
			t.Errorf("after a panic: %v, %+v", err, b.Status())
		}
	})
}

// A caller that gives up is not the target's fault.
func TestBreakerAndImpatientCallers(t *testing.T) {
	b := ra.NewBreaker("ca1", ra.BreakerConfig{Failures: 1})
	ctx, cancel := context.WithCancel(t.Context())
	_ = b.Do(ctx, "enrol", func() error { cancel(); return fmt.Errorf("lost: %w", fault.OutcomeUnknown) })
	if s := b.Status(); s.State != ra.BreakerClosed {
		t.Errorf("%+v", s)
	}
	never := ra.NewBreaker("ca1", ra.BreakerConfig{Failures: -1})
	for range 100 {
		_ = never.Do(t.Context(), "enrol", func() error { return fault.ConnectTimeout })
	}
	if s := never.Status(); s.State != ra.BreakerClosed {
		t.Errorf("switched off: %+v", s)
	}
}

func TestBreakerReportsItsChanges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		core, logs := observer.New(zapcore.DebugLevel)
		b := ra.NewBreaker("ca1", ra.BreakerConfig{Failures: 1, Log: zap.New(core)})
		_ = b.Do(t.Context(), "enrol", func() error { return fault.CAStopped })
		time.Sleep(30 * time.Second)
		_ = b.Do(t.Context(), "enrol", func() error { return nil })
		want := []string{"closed>open ca-stopped", "open>half-open ca-stopped", "half-open>closed "}
		var got []string
		for _, l := range logs.All() {
			e, _, _ := event.Of(l.Context)
			c := e.(event.BreakerChanged)
			got = append(got, c.From+">"+c.To+" "+c.Code)
		}
		if fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("got %q, want %q", got, want)
		}
	})
}
