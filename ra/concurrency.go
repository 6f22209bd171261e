package ra

import (
	"context"
	"fmt"
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
	running := make(chan struct{}, c.Running)
	admitted := make(chan struct{}, c.Running+c.Waiting)
	return EnrollerFunc(func(ctx context.Context, r Request) (Result, error) {
		select {
		case admitted <- struct{}{}:
			defer func() { <-admitted }()
		default:
			return Result{}, &fault.Fault{
				Code: fault.Busy, Op: "enrol", RetryAfter: c.RetryAfter,
				Err: fmt.Errorf("%d requests are under way and %d wait", c.Running, c.Waiting),
			}
		}
		select {
		case running <- struct{}{}:
			defer func() { <-running }()
		case <-ctx.Done():
			return Result{}, fault.New(fault.Canceled, "wait for a turn to enrol", ctx.Err())
		}
		return next.Enroll(ctx, r)
	})
}
