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
	work  context.Context // ends with the claim
	end   context.CancelFunc
	until time.Time

	mu             sync.Mutex
	timer          *time.Timer
	released, lost bool
}

// hold keeps the claim on a record until it is released, which ends the work. If
// it is lost, because the database could not be reached or this process was
// suspended, the work ends as well: what still waits for its turn must not be sent
// when others may already have found that it never arrived.
func (d *Durable) hold(work context.Context, end context.CancelFunc, id string) *lease {
	l := &lease{d: d, id: id, work: work, end: end, until: time.Now().Add(d.cfg.Lease)}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.timer = time.AfterFunc(d.cfg.Lease/3, l.tick)
	return l
}

// release ends the keeping of the claim, and the work. It waits for nothing.
func (l *lease) release() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.released = true
	l.timer.Stop()
	l.end()
}

// isLost tells whether another process may have the claim.
func (l *lease) isLost() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.lost
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
		l.mu.Lock()
		l.lost = true
		l.mu.Unlock()
		l.end()
		return false
	}
	return true
}
