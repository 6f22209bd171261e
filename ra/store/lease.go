package store

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"
)

// lease is a claim that is being kept.
type lease struct {
	d     *Durable
	id    string
	work  context.Context
	end   context.CancelFunc // ends work
	until time.Time
	lost  atomic.Bool

	mu       sync.Mutex
	timer    *time.Timer
	stop     context.CancelFunc // ends the extension under way, nil for none
	released bool
}

// hold keeps the claim on a record until it is released. If it is lost, because
// the database could not be reached or this process was suspended, the work is
// ended: what still waits for its turn must not be sent when others may already
// have found that it never arrived.
func (d *Durable) hold(work context.Context, end context.CancelFunc, id string) *lease {
	l := &lease{d: d, id: id, work: work, end: end, until: time.Now().Add(d.cfg.Lease)}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.timer = time.AfterFunc(d.cfg.Lease/3, l.tick)
	return l
}

// release ends the keeping of the claim, not the work. It waits for nothing.
func (l *lease) release() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.released = true
	l.timer.Stop()
	if l.stop != nil {
		l.stop()
	}
}

// tick prolongs the claim, and sets the time to do so again.
func (l *lease) tick() {
	l.mu.Lock()
	if l.released {
		l.mu.Unlock()
		return
	}
	ctx, stop := context.WithCancel(l.work)
	l.stop = stop
	l.mu.Unlock()
	held := l.extend(ctx)
	stop()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.stop = nil
	if held && !l.released {
		l.timer.Reset(l.d.cfg.Lease / 3)
	}
}

// extend prolongs the claim. It returns false if that was the last time.
func (l *lease) extend(ctx context.Context) bool {
	d := l.d
	next := time.Now().Add(d.cfg.Lease)
	held, err := d.cfg.Store.Extend(ctx, l.id, d.claim.Owner, next)
	switch {
	case ctx.Err() != nil:
		return false
	case err == nil && held:
		l.until = next
		return true
	}
	d.log.Warn("the claim on a request could not be prolonged", zap.String("record", l.id), zap.Bool("held", held), zap.Error(err))
	if err == nil || time.Now().After(l.until) {
		l.lost.Store(true)
		l.end()
		return false
	}
	return true
}
