package winauth

import (
	"context"
	"errors"
	"sync"
	"time"
)

// gate decides who may log in, and when, so that a wrong password costs one
// failed logon however many wait for a session.
//
// A login goes alone, unless one has just succeeded and others were waiting
// for it: those go together, and whoever comes while they are at it. After a
// refusal nobody goes until the pause is over.
type gate struct {
	now   func() time.Time
	pause time.Duration

	mu      sync.Mutex
	leading *flight // the login that the others wait for
	flying  int     // logins that follow a success
	until   time.Time
	last    *RejectedError
}

// flight is one login that others wait for.
type flight struct {
	waiters int
	done    chan struct{}
	err     error
}

// enter waits until the caller may log in. leave must be called with the
// login's outcome.
func (g *gate) enter(ctx context.Context) (leave func(error), err error) {
	for {
		g.mu.Lock()
		if err := g.suspended(); err != nil {
			g.mu.Unlock()
			return nil, err
		}
		switch {
		case g.flying > 0:
			g.flying++
			g.mu.Unlock()
			return g.landed, nil
		case g.leading == nil:
			f := &flight{done: make(chan struct{})}
			g.leading = f
			g.mu.Unlock()
			return func(err error) { g.led(f, err) }, nil
		}
		f := g.leading
		f.waiters++
		g.mu.Unlock()

		var rejected *RejectedError
		switch err := g.wait(ctx, f); {
		case errors.As(err, &rejected):
			return nil, err // the login that this caller waited for as well
		case ctx.Err() != nil:
			return nil, ctx.Err()
		case err == nil:
			return g.landed, nil
		}
	}
}

// wait waits for f and returns its outcome. A caller that gives up no longer
// counts as a waiter.
func (g *gate) wait(ctx context.Context, f *flight) error {
	select {
	case <-f.done:
		if f.err == nil && ctx.Err() != nil {
			g.landed(ctx.Err())
		}
		return f.err
	case <-ctx.Done():
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	select {
	case <-f.done:
		if f.err == nil {
			g.flying-- // its place among those who follow
		}
	default:
		f.waiters--
	}
	return ctx.Err()
}

// led ends a login that went alone.
func (g *gate) led(f *flight, err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	f.err = err
	g.leading = nil
	if err == nil {
		g.flying += f.waiters
	}
	g.note(err)
	close(f.done)
}

// landed ends a login that followed a success.
func (g *gate) landed(err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.flying--
	g.note(err)
}

// note begins the pause if err is a refusal. The lock is held.
func (g *gate) note(err error) {
	if rejected := (*RejectedError)(nil); errors.As(err, &rejected) && g.pause > 0 {
		g.until, g.last = g.now().Add(g.pause), rejected
	}
}

// suspended returns a SuspendedError during a pause. The lock is held.
func (g *gate) suspended() error {
	if g.last == nil {
		return nil
	}
	if g.now().Before(g.until) {
		return &SuspendedError{Until: g.until, Last: g.last}
	}
	g.last = nil
	return nil
}
