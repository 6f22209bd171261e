package store

import (
	"context"
	"time"

	"go.uber.org/zap"

	"github.com/onlineca/onlineca/ra"
	"github.com/onlineca/onlineca/ra/fault"
)

// flight is a request that this process works on, and those who wait for it. It
// belongs to the store's writer while that writes, and otherwise to the goroutine
// that flies; those who wait look at nothing before done.
type flight struct {
	d   *Durable
	r   ra.Request
	rec Record // what is known of the request
	key string
	ctx context.Context // of the process, with the client's values

	limit time.Time // when the submission ends, and what is done instead of one

	done chan struct{} // closed when it has landed
	res  ra.Result
	err  error
}

// takeOff writes the request down and has somebody go on from there. With SQLite
// the writer does that, and so nobody waits for it.
func (f *flight) takeOff() {
	d := f.d
	if d.cfg.Store.postgres {
		d.crew.fly(func() { f.fly(false, nil) })
		return
	}
	d.cfg.Store.first(f.ctx, &f.rec, d.claim, time.Now(), func(mine bool, err error) {
		d.crew.fly(func() { f.fly(mine, err) })
	})
}

// fly works on the request until there is something to tell those who wait, or
// its certificate is being written down. mine says that it has been begun. A panic
// is a fault like any other, and leaves the outcome of the request unknown.
func (f *flight) fly(mine bool, err error) {
	d := f.d
	f.limit = time.Now().Add(d.cfg.SubmitTimeout)
	whole := false
	defer func() {
		if whole {
			return
		}
		p := recover() // nil if an enroller ended its goroutine
		d.log.Error("enrolment panicked", zap.Any("panic", p), zap.Stack("stack"))
		f.land(ra.Result{}, fault.Newf(fault.Internal, "enrol", "panic: %v", p))
	}()
	if err != nil {
		f.land(ra.Result{}, err)
	} else {
		f.proceed(mine)
	}
	whole = true
}

// land tells those who wait.
func (f *flight) land(res ra.Result, err error) {
	f.res, f.err = res, err
	f.d.mu.Lock()
	delete(f.d.flights, f.key)
	f.d.mu.Unlock()
	close(f.done)
	f.d.work.Done()
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

// crewRoom is how much of the stack is in use meanwhile, in bytes: of one that is
// in use by less than a quarter, the collector takes half, and a signature needs
// more than 16 KB.
const crewRoom = 9 << 10

//go:noinline
func occupy(room *[crewRoom]byte) { room[0] = 1 }

func (c crew) fly(f func()) {
	select {
	case c.idle <- f:
	default:
		go c.work(f)
	}
}

func (c crew) work(f func()) {
	var room [crewRoom]byte
	occupy(&room)
	defer occupy(&room)
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
