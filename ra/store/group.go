package store

import (
	"context"
	"database/sql"
	"fmt"
	"sync"
)

// groupSize is how many changes share one transaction at most.
const groupSize = 64

// group lets changes that come while another is being written to the disk share
// the next transaction. SQLite has one writer at a time, and each transaction
// waits for the disk; a change is done when the transaction that it is part of
// is on the disk.
type group struct {
	db *sql.DB

	mu      sync.Mutex
	queue   []*change
	writing bool
}

// change is one change and its outcome.
type change struct {
	ctx  context.Context
	f    func(tx *sql.Tx) error
	err  error
	done chan struct{}
}

// do makes a change. f may be called again, if what shared its transaction
// failed; what it has found out counts only when do returns nil.
func (g *group) do(ctx context.Context, f func(tx *sql.Tx) error) error {
	c := &change{ctx: ctx, f: f, done: make(chan struct{})}
	g.mu.Lock()
	g.queue = append(g.queue, c)
	if !g.writing {
		g.writing = true
		go g.write() //nolint:gosec // It serves everybody who comes meanwhile; each change has its own context.
	}
	g.mu.Unlock()
	<-c.done
	return c.err
}

// write makes the changes that are queued until there are none.
func (g *group) write() {
	for {
		g.mu.Lock()
		n := min(len(g.queue), groupSize)
		if n == 0 {
			g.writing = false
			g.mu.Unlock()
			return
		}
		batch := g.queue[:n:n]
		g.queue = g.queue[n:]
		g.mu.Unlock()
		if n == 1 || transact(context.Background(), g.db, batch...) != nil {
			// One of them spoils it for the others, or there is no other.
			for _, c := range batch {
				c.err = transact(c.ctx, g.db, c)
			}
		}
		for _, c := range batch {
			close(c.done)
		}
	}
}

// transact makes changes in one transaction. A panic of one is an error, so
// that nobody waits for ever.
func transact(ctx context.Context, db *sql.DB, changes ...*change) (err error) {
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v", p)
		}
		if err != nil {
			_ = tx.Rollback() // err says what is wrong
		}
	}()
	for _, c := range changes {
		if err := c.ctx.Err(); err != nil {
			return err
		}
		if err := c.f(tx); err != nil {
			return err
		}
	}
	return tx.Commit()
}
