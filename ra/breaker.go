package ra

import (
	"context"
	"fmt"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/onlineca/onlineca/ra/event"
	"github.com/onlineca/onlineca/ra/fault"
)

// BreakerState is what a [Breaker] does with requests.
type BreakerState string

// The states of a breaker.
const (
	// BreakerClosed lets all pass.
	BreakerClosed BreakerState = "closed"
	// BreakerOpen lets none pass.
	BreakerOpen BreakerState = "open"
	// BreakerHalfOpen lets one pass, whose outcome decides.
	BreakerHalfOpen BreakerState = "half-open"
)

// BreakerStates are all of them.
func BreakerStates() []BreakerState {
	return []BreakerState{BreakerClosed, BreakerOpen, BreakerHalfOpen}
}

// BreakerConfig says when a [Breaker] opens and for how long. The zero value is
// useful.
type BreakerConfig struct {
	// Failures is after how many in a row it opens. 0 means 5; a negative
	// number means never.
	Failures int
	// Pause is how long it stays open before one request is let through to see
	// whether things are better. 0 means 30 seconds.
	Pause time.Duration
	// Log may be nil.
	Log *zap.Logger
}

// Breaker keeps requests from a target that is in trouble: they would only wait
// for the same failure, and keep the target from recovering. What counts is
// decided by the table of faults (fault.Row.Upstream): failures of the target,
// and never denials, refused logins or callers that went away.
type Breaker struct {
	target string
	cfg    BreakerConfig

	mu       sync.Mutex
	open     bool // or half-open
	until    time.Time
	trial    bool // the one request of a half-open breaker is under way
	failures int  // in a row
	period   int  // counts changes; what was begun before the last does not count
	opened   int64
	cause    *fault.Fault
}

// BreakerStatus is what is known of a breaker's target.
type BreakerStatus struct {
	State BreakerState
	// Failures is how many there were in a row.
	Failures int
	// Opened is how often the breaker has opened.
	Opened int64
	// Until is when an open breaker becomes half-open, zero otherwise.
	Until time.Time
	// Cause is the last failure that counted, nil since the last success.
	Cause *fault.Fault
}

// NewBreaker returns the closed breaker of a target.
func NewBreaker(target string, cfg BreakerConfig) *Breaker {
	if cfg.Failures == 0 {
		cfg.Failures = 5
	}
	if cfg.Pause <= 0 {
		cfg.Pause = 30 * time.Second
	}
	return &Breaker{target: target, cfg: cfg}
}

// Status is how things stand.
func (b *Breaker) Status() BreakerStatus {
	b.mu.Lock()
	defer b.mu.Unlock()
	s := BreakerStatus{State: b.state(time.Now()), Failures: b.failures, Opened: b.opened, Cause: b.cause}
	if s.State == BreakerOpen {
		s.Until = b.until
	}
	return s
}

func (b *Breaker) state(now time.Time) BreakerState {
	switch {
	case !b.open:
		return BreakerClosed
	case now.Before(b.until):
		return BreakerOpen
	default:
		return BreakerHalfOpen
	}
}

// Do calls f, and learns from its error, unless the breaker is open. Then f is
// not called and the error is a fault.Busy that is Unsent, with the time to wait.
func (b *Breaker) Do(ctx context.Context, op string, f func() error) error {
	period, trial, err := b.enter(ctx, op)
	if err != nil {
		return err
	}
	panicked := true
	defer func() {
		if panicked {
			b.leave(ctx, period, trial, fault.Silent, nil)
		}
	}()
	err = f()
	panicked = false
	b.leave(ctx, period, trial, health(ctx, err), fault.Of(err))
	return err
}

// health is what an outcome says about the target. A caller whose patience was
// over broke the exchange off itself.
func health(ctx context.Context, err error) fault.Health {
	switch {
	case err == nil:
		return fault.Working
	case ctx.Err() != nil:
		return fault.Silent
	default:
		return fault.Of(err).Code.Row().Upstream
	}
}

// enter lets a request through, or not.
func (b *Breaker) enter(ctx context.Context, op string) (period int, trial bool, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	now := time.Now()
	switch {
	case !b.open:
		return b.period, false, nil
	case !b.trial && !now.Before(b.until):
		b.trial = true
		b.report(ctx, BreakerOpen, BreakerHalfOpen)
		return b.period, true, nil
	}
	return 0, false, &fault.Fault{
		Code: fault.Busy, Op: op, Target: b.target, Unsent: true,
		RetryAfter: max(b.until.Sub(now), time.Second).Round(time.Second),
		Err:        fmt.Errorf("certsrv %s is in trouble (%s) and is left alone for a while", b.target, b.cause.Code.String()),
	}
}

// leave learns from an outcome.
func (b *Breaker) leave(ctx context.Context, period int, trial bool, h fault.Health, cause *fault.Fault) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if trial {
		b.trial = false
	}
	if period != b.period || b.cfg.Failures < 0 {
		return // begun before the breaker opened or closed: old news
	}
	switch h {
	case fault.Silent:
	case fault.Working:
		b.failures, b.cause = 0, nil
		if b.open {
			b.open = false
			b.period++
			b.report(ctx, BreakerHalfOpen, BreakerClosed)
		}
	default:
		b.failures++
		b.cause = cause
		if trial || b.failures >= b.cfg.Failures {
			from := BreakerClosed
			if trial {
				from = BreakerHalfOpen
			}
			b.open, b.until = true, time.Now().Add(b.cfg.Pause)
			b.period++
			b.opened++
			b.report(ctx, from, BreakerOpen)
		}
	}
}

func (b *Breaker) report(ctx context.Context, from, to BreakerState) {
	e := event.BreakerChanged{Target: b.target, From: string(from), To: string(to)}
	if b.cause != nil {
		e.Code, e.Error = b.cause.Code.String(), b.cause.Error()
	}
	event.Emit(ctx, b.cfg.Log, e)
}
