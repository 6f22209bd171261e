package ra

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/onlineca/onlineca/ra/fault"
)

// Concurrency bounds what is under way at once. The zero value is useful.
type Concurrency struct {
	// Running is how many requests may be with the next Enroller at once.
	// 0 means 8.
	Running int
	// Waiting is how many more may wait for their turn. 0 means 1000; a
	// negative number means none.
	Waiting int
	// RetryAfter is what a request that finds the queue full is told to wait.
	// 0 means 10 seconds.
	RetryAfter time.Duration
	// Load, if set, is kept up to date.
	Load *Load
}

// Load counts what [LimitConcurrency] does. The zero value is ready; it may be
// shared by limits that follow each other.
type Load struct{ running, waiting, refused, capacity atomic.Int64 }

// LoadStatus is how things stand.
type LoadStatus struct {
	// Running requests are under way, Waiting ones wait for their turn, of which
	// there may be Capacity.
	Running, Waiting, Capacity int64
	// Refused is how many found the queue full so far.
	Refused int64
}

// Status is how things stand.
func (l *Load) Status() LoadStatus {
	return LoadStatus{Running: l.running.Load(), Waiting: l.waiting.Load(), Capacity: l.capacity.Load(), Refused: l.refused.Load()}
}

// LimitConcurrency returns an Enroller that hands at most c.Running requests on
// at once. Others wait until their context ends; when c.Waiting are waiting
// already, the request is refused with fault.Busy at once.
func LimitConcurrency(next Enroller, c Concurrency) Enroller {
	if c.Running <= 0 {
		c.Running = 8
	}
	if c.Waiting == 0 {
		c.Waiting = 1000
	}
	c.Waiting = max(c.Waiting, 0)
	if c.RetryAfter <= 0 {
		c.RetryAfter = 10 * time.Second
	}
	load := c.Load
	if load == nil {
		load = new(Load)
	}
	load.capacity.Store(int64(c.Waiting))
	running := make(chan struct{}, c.Running)
	admitted := make(chan struct{}, c.Running+c.Waiting)
	return EnrollerFunc(func(ctx context.Context, r Request) (Result, error) {
		select {
		case admitted <- struct{}{}:
			defer func() { <-admitted }()
		default:
			load.refused.Add(1)
			return Result{}, &fault.Fault{
				Code: fault.Busy, Op: "enrol", RetryAfter: c.RetryAfter, Unsent: true,
				Err: fmt.Errorf("%d requests are under way and %d wait", c.Running, c.Waiting),
			}
		}
		load.waiting.Add(1)
		select {
		case running <- struct{}{}:
			load.waiting.Add(-1)
			load.running.Add(1)
			defer func() { load.running.Add(-1); <-running }()
		case <-ctx.Done():
			load.waiting.Add(-1)
			return Result{}, fault.New(fault.Canceled, "wait for a turn to enrol", ctx.Err())
		}
		return next.Enroll(ctx, r)
	})
}
