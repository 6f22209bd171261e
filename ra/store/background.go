package store

import (
	"context"
	"sync"
	"time"

	"go.uber.org/zap"
)

// dueBatch is how many requests are picked up at a time.
const dueBatch = 64

// Run asks after requests that are pending or unknown, with growing pauses, and
// writes the audit log, until ctx ends. It returns nil.
func (d *Durable) Run(ctx context.Context) error {
	tick := time.NewTicker(d.cfg.Tick)
	defer tick.Stop()
	lastLeftovers, lastAttempts := time.Time{}, time.Time{}
	for {
		now := time.Now()
		d.note(ctx, "look for processes that have died", d.cfg.Owner.watch(ctx, now))
		d.round(ctx, now)
		if now.Sub(lastLeftovers) >= d.cfg.Lease {
			lastLeftovers = now
			d.note(ctx, "write the audit log", d.audit.leftovers(ctx, now.Add(-d.cfg.Lease)))
		}
		if now.Sub(lastAttempts) >= attemptsKept/2 {
			lastAttempts = now
			d.note(ctx, "remove old attempts to log in", d.cfg.Store.ForgetAttempts(ctx, now.Add(-attemptsKept)))
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
	}
}

// attemptsKept is how long attempts to log in stay where nobody logs in any more:
// far longer than they count.
const attemptsKept = 12 * time.Hour

// round asks after everything that is due.
func (d *Durable) round(ctx context.Context, now time.Time) {
	ids, err := d.cfg.Store.Due(ctx, d.cfg.Authority, now, dueBatch)
	d.note(ctx, "look for requests to ask after", err)
	next := make(chan string)
	var workers sync.WaitGroup
	for range min(d.cfg.Workers, len(ids)) {
		workers.Go(func() {
			for id := range next {
				_, err := d.ask(ctx, id, now, true)
				d.note(ctx, "ask after request "+id, err)
			}
		})
	}
	for _, id := range ids {
		next <- id
	}
	close(next)
	workers.Wait()
}

// note reports an error of the background, which has no caller. It is tried
// again in the next round.
func (d *Durable) note(ctx context.Context, doing string, err error) {
	if err != nil && ctx.Err() == nil {
		d.log.Warn("store: "+doing, zap.Error(err))
	}
}
