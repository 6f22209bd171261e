package store

import (
	"context"
	"sync"
	"time"

	"go.uber.org/zap"
)

// lease is a claim that is being kept.
type lease struct {
	d     *Durable
	id    string
	work  context.Context
	lose  context.CancelCauseFunc
	until time.Time

	mu       sync.Mutex
	timer    *time.Timer
	released bool
}

// hold keeps the claim on a record until it is released. If it is lost, because
// the database could not be reached or this process was suspended, the work's
// context ends: what still waits for its turn must not be sent when others may
// already have found that it never arrived.
func (d *Durable) hold(ctx context.Context, id string) (work context.Context, l *lease) {
	l = &lease{d: d, id: id, until: time.Now().Add(d.cfg.Lease)}
	l.work, l.lose = context.WithCancelCause(ctx)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.timer = time.AfterFunc(d.cfg.Lease/3, l.tick)
	return l.work, l
}

// release ends the keeping of the claim, and the work. It waits for nothing.
func (l *lease) release() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.released = true
	l.timer.Stop()
	l.lose(nil)
}

// tick prolongs the claim, and sets the time to do so again.
func (l *lease) tick() {
	if !l.extend() {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.released {
		l.timer.Reset(l.d.cfg.Lease / 3)
	}
}

// extend prolongs the claim. It returns false if that was the last time.
func (l *lease) extend() bool {
	d := l.d
	next := time.Now().Add(d.cfg.Lease)
	held, err := d.cfg.Store.Extend(l.work, l.id, d.claim.Owner, next)
	switch {
	case l.work.Err() != nil:
		return false
	case err == nil && held:
		l.until = next
		return true
	}
	d.log.Warn("the claim on a request could not be prolonged", zap.String("record", l.id), zap.Bool("held", held), zap.Error(err))
	if err == nil || time.Now().After(l.until) {
		l.lose(errClaimLost)
		return false
	}
	return true
}
