package store

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

// groupSize is how many changes share one transaction at most.
const groupSize = 64

// gather is how long a transaction waits for more changes while others come: a
// commit costs as much for sixty-four as for one, and certsrv takes a hundred
// times as long.
const gather = 4 * time.Millisecond

// quiet is after how long without changes nobody is at work any more.
const quiet = 100 * time.Millisecond

// group is the one writer of an SQLite database within this process. Changes
// that come while another is being written to the disk, or shortly after one
// another, share a transaction. A change is done when the transaction that it
// is part of is on the disk.
type group struct {
	conn *sql.Conn // all changes are made on it

	mu     sync.Mutex
	queue  []*change
	wake   chan struct{} // tells the writer that the queue is not empty
	urgent chan struct{} // tells it not to wait for more
	closed bool
	done   chan struct{} // closed when the writer has ended

	lite lite // the writer's own

	// How many changes there were, and in how many transactions.
	changes, commits atomic.Int64
}

// change is one change and its outcome.
type change struct {
	ctx context.Context
	// One of the two makes it: f any change, in a transaction of its own;
	// quick one of those that every enrolment needs.
	f     func(tx *sql.Tx) error
	quick func(l *lite) error
	line  *line // goes into the audit log before the quick change, nil for none
	err   error
	// then is told when the change is done or has failed, by the writer, which
	// makes no other change meanwhile: it must not wait for one.
	then func(err error)
}

var errClosed = errors.New("the database is closed")

func newGroup(ctx context.Context, db *sql.DB) (*group, error) {
	conn, err := db.Conn(ctx)
	if err != nil {
		return nil, err
	}
	g := &group{conn: conn, wake: make(chan struct{}, 1), urgent: make(chan struct{}, 1), done: make(chan struct{})}
	go g.write()
	return g, nil
}

// close waits for the changes that are queued.
func (g *group) close() error {
	g.mu.Lock()
	if !g.closed {
		g.closed = true
		close(g.wake)
	}
	g.mu.Unlock()
	<-g.done
	return g.conn.Close()
}

// do makes a change, and waits for it.
func (g *group) do(c *change) error {
	done := make(chan struct{})
	c.then = func(error) { close(done) }
	g.post(c)
	<-done
	return c.err
}

// post has a change made. It may be made twice, if what shared its transaction
// failed; what it has found out counts only when there is no error.
func (g *group) post(c *change) {
	g.mu.Lock()
	if g.closed {
		g.mu.Unlock()
		c.err = errClosed
		c.then(c.err)
		return
	}
	g.queue = append(g.queue, c)
	if len(g.queue) == 1 {
		tell(g.wake)
	}
	if c.quick == nil {
		tell(g.urgent) // it shares no transaction
	}
	g.mu.Unlock()
}

// tell sends to somebody who may have been told already.
func tell(who chan struct{}) {
	select {
	case who <- struct{}{}:
	default:
	}
}

// write makes changes until the store is closed.
func (g *group) write() {
	defer close(g.done)
	defer g.lite.close()
	pause := time.NewTimer(gather)
	defer pause.Stop()
	last, at := 0, time.Time{} // changes in the last transaction, and when it was made
	for range g.wake {
		if time.Since(at) > quiet {
			last = 0
		}
		for {
			if last > 1 {
				// Others are at work, who will come as well.
				pause.Reset(gather)
				select {
				case <-pause.C:
				case <-g.urgent:
				}
			}
			batch := g.take()
			if len(batch) == 0 {
				break
			}
			last, at = g.make(batch), time.Now()
			for _, c := range batch {
				c.then(c.err)
			}
		}
	}
	// What was queued at the end.
	for batch := g.take(); len(batch) > 0; batch = g.take() {
		g.make(batch)
		for _, c := range batch {
			c.then(c.err)
		}
	}
}

// take takes changes from the queue.
func (g *group) take() []*change {
	g.mu.Lock()
	defer g.mu.Unlock()
	n := min(len(g.queue), groupSize)
	batch := g.queue[:n:n]
	g.queue = g.queue[n:]
	return batch
}

// make makes changes: the quick ones in one transaction, each of the others in
// its own. It says how many quick ones there were.
func (g *group) make(batch []*change) int {
	g.changes.Add(int64(len(batch)))
	var quick []*change
	for _, c := range batch {
		if c.quick != nil {
			quick = append(quick, c)
		} else {
			g.commits.Add(1)
			// Not in the change's own context: the driver may report that the
			// beginning was cancelled when the transaction has begun, and leave
			// it open. What f does can be cancelled.
			if c.err = c.ctx.Err(); c.err == nil {
				c.err = transact(context.WithoutCancel(c.ctx), g.conn, c.f)
			}
		}
	}
	if len(quick) == 0 {
		return 0
	}
	g.commits.Add(1)
	err := g.conn.Raw(func(conn any) error {
		g.lite.conn, _ = conn.(driver.Conn)
		if g.lite.transact(quick) != nil {
			// One of them spoils it for the others, or there is no other.
			for i, c := range quick {
				c.err = g.lite.transact(quick[i : i+1])
			}
		}
		return nil
	})
	if err != nil { // the connection is gone
		for _, c := range quick {
			c.err = err
		}
	}
	return len(quick)
}

// transact makes a change in a transaction of its own. A panic is an error, so
// that nobody waits for ever.
func transact(ctx context.Context, db interface {
	BeginTx(context.Context, *sql.TxOptions) (*sql.Tx, error)
}, f func(tx *sql.Tx) error) (err error) {
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
	if err := f(tx); err != nil {
		return err
	}
	return tx.Commit()
}
