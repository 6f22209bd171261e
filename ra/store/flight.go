package store

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/onlineca/onlineca/ra"
)

// flight is a request that this process works on, and those who wait for it.
type flight struct {
	done chan struct{}
	res  ra.Result
	err  error
}

// crew works on flights. Whoever has ended one waits a while for the next: the
// stack that a submission needs is grown by then, which costs a new goroutine as
// much as all the rest.
type crew struct {
	idle chan func()
	over <-chan struct{} // closed when there will be no more flights
}

// crewRest is how long somebody waits for a flight.
const crewRest = time.Second

func (c crew) fly(f func()) {
	select {
	case c.idle <- f:
	default:
		go c.work(f)
	}
}

func (c crew) work(f func()) {
	rest := time.NewTimer(crewRest)
	defer rest.Stop()
	for {
		f()
		rest.Reset(crewRest)
		select {
		case f = <-c.idle:
		case <-rest.C:
			return
		case <-c.over:
			return
		}
	}
}

// life is a context that ends with the process, not with the client whose values
// it has.
type life struct {
	context.Context
	client context.Context
}

// Value asks the process's context first: a context made from this one finds
// there what ends it.
func (l life) Value(key any) any {
	if v := l.Context.Value(key); v != nil {
		return v
	}
	return l.client.Value(key)
}

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
	running  chan struct{} // closed when the extension under way has ended; nil for none
	stop     func()        // ends it
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

// release ends the keeping of the claim, not the work.
func (l *lease) release() {
	l.mu.Lock()
	l.released = true
	l.timer.Stop()
	running := l.running
	if running != nil {
		l.stop()
	}
	l.mu.Unlock()
	if running != nil {
		<-running
	}
}

// tick prolongs the claim, and sets the time to do so again.
func (l *lease) tick() {
	l.mu.Lock()
	if l.released {
		l.mu.Unlock()
		return
	}
	running := make(chan struct{})
	ctx, stop := context.WithCancel(l.work)
	defer stop()
	l.running, l.stop = running, stop
	l.mu.Unlock()
	held := l.extend(ctx)
	l.mu.Lock()
	l.running = nil
	if held && !l.released {
		l.timer.Reset(l.d.cfg.Lease / 3)
	}
	l.mu.Unlock()
	close(running)
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
