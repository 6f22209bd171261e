package store

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/binary"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/google/uuid"
	"modernc.org/sqlite"

	"github.com/onlineca/onlineca/ra/fault"
)

// ErrOwned says that another process works on the requests of an SQLite file.
var ErrOwned = errors.New("another registration authority has this file, and one file serves one: stop that one, or share a PostgreSQL (store: postgres://…)")

// Owner is a process's sign of life, a lock that the operating system or the
// database takes away from it the moment it dies. Whoever sees that the lock is
// free need not wait for the lease on a request to end.
type Owner struct {
	store *Store
	name  string
	db    *sql.DB   // of SQLite: the file that the lock is on
	conn  *sql.Conn // holds the lock
}

// ownerMark begins the names of owners that hold a lock. Others are known by
// their leases only.
const ownerMark = "lock-"

// sqliteBusy is SQLITE_BUSY (https://sqlite.org/rescode.html#busy).
const sqliteBusy = 5

// ownerPatience is how long a process waits for another to give an SQLite file
// up. Who is being stopped has its port until then, so it is not worth long.
const ownerPatience = time.Second

// Own makes this process one that works on requests, and takes up what dead
// ones have left: see [Owner.Bury]. An SQLite file has one such process at a
// time; where another lives, the error wraps [ErrOwned]. Operators' commands need
// not own anything.
func (s *Store) Own(ctx context.Context) (*Owner, error) {
	o := &Owner{store: s, name: ownerMark + uuid.NewString()}
	err := o.open()
	if err == nil {
		err = o.lock(ctx)
	}
	if err == nil {
		_, err = o.Bury(ctx, time.Now())
	}
	if err != nil {
		return nil, errors.Join(err, o.Close())
	}
	return o, nil
}

// Name is what the process is called in leases.
func (o *Owner) Name() string { return o.name }

// open opens the file that the lock is on: a file beside the database, which
// stays empty. The database itself must stay open to operators' commands.
func (o *Owner) open() error {
	const doing = "store: open the lock of the database"
	if o.store.postgres {
		return nil
	}
	path, err := filepath.Abs(o.store.name)
	if err == nil {
		path, err = filepath.EvalSymlinks(path) // one file, one lock
	}
	if err != nil {
		return fault.New(fault.DiskFull, doing, err)
	}
	path += "-owner"
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return fault.New(fault.DiskFull, doing, err)
	}
	_ = f.Close() // nothing was written
	query := url.Values{"_pragma": {fmt.Sprintf("busy_timeout(%d)", ownerPatience.Milliseconds()), "journal_mode(MEMORY)"}}
	if o.db, err = sql.Open("sqlite", sqliteAddress(path, query)); err != nil {
		return fault.New(fault.DiskFull, doing, err)
	}
	return nil
}

// lock takes the lock in a connection of its own, and keeps both. SQLite's is
// that of a transaction which never ends (https://sqlite.org/lockingv3.html),
// PostgreSQL's an advisory lock of the session (its manual, section 13.3.5).
func (o *Owner) lock(ctx context.Context) (err error) {
	if !o.store.postgres {
		if o.conn, err = o.db.Conn(ctx); err == nil {
			_, err = o.conn.ExecContext(ctx, "BEGIN EXCLUSIVE")
		}
		if e, ok := errors.AsType[*sqlite.Error](err); ok && e.Code()&0xff == sqliteBusy {
			return fmt.Errorf("store: %s: %w", o.store.name, ErrOwned)
		}
	} else {
		var free bool
		if o.conn, err = o.store.db.Conn(ctx); err == nil {
			err = o.conn.QueryRowContext(ctx, "SELECT pg_try_advisory_lock($1)", lockNumber(o.name)).Scan(&free)
		}
		if err == nil && !free {
			err = errors.New("the session that had the lock has not ended yet")
		}
	}
	if err != nil {
		return o.store.fault("lock", err)
	}
	return nil
}

// lockNumber is the number of an owner's advisory lock.
func lockNumber(name string) int64 {
	sum := sha256.Sum256([]byte(name))
	return int64(binary.BigEndian.Uint64(sum[:8]))
}

// Keep renews the connection that holds the lock if it has been lost. Until it
// is back others may take this process for dead, and its requests over: that
// costs them a search, and nothing else.
func (o *Owner) Keep(ctx context.Context) error {
	if o.conn != nil {
		lost := o.conn.PingContext(ctx) != nil && ctx.Err() == nil
		if !lost {
			return nil
		}
		_ = o.conn.Close()
		o.conn = nil
	}
	err := o.lock(ctx)
	if err != nil && o.conn != nil {
		_ = o.conn.Close() // err says what is wrong
		o.conn = nil
	}
	return err
}

// Bury has the requests that dead processes were working on taken up at once,
// and returns how many there were: one that was being submitted is of unknown
// outcome, and all of them are due. With SQLite every other owner is dead; with
// PostgreSQL those whose lock is free.
//
// What is known of a dead process is that it can have sent a request until now,
// so that is when its grace begins. PostgreSQL says only that it has lost the
// process; that one may still live, beyond a broken network, until its lease
// ends: there the grace begins with that.
func (o *Owner) Bury(ctx context.Context, now time.Time) (n int, err error) {
	owners, err := o.others(ctx)
	if err != nil {
		return 0, err
	}
	for _, owner := range owners {
		buried, err := o.bury(ctx, owner, now)
		n += buried
		if err != nil {
			return n, err
		}
	}
	return n, nil
}

// others are those who have claimed requests, apart from this process.
func (o *Owner) others(ctx context.Context) (names []string, err error) {
	s := o.store
	rows, err := s.db.QueryContext(ctx, s.bind(`SELECT DISTINCT lease_owner FROM requests
		WHERE state >= 'pending' AND lease_owner <> '' AND lease_owner <> ?`), o.name)
	if err != nil {
		return nil, s.fault("read", err)
	}
	defer func() { _ = rows.Close() }() // what fails shows in rows.Err
	for rows.Next() {
		var name string
		if err := rows.Scan(&name); err != nil {
			return nil, s.fault("read", err)
		}
		names = append(names, name)
	}
	if err := rows.Err(); err != nil {
		return nil, s.fault("read", err)
	}
	return names, nil
}

// buryRequests makes the claims of one owner void.
const buryRequests = `UPDATE requests SET
	submitted_at = CASE WHEN state <> 'submitting' THEN submitted_at WHEN lease_until < ? THEN lease_until ELSE ? END,
	tries = CASE WHEN state = 'submitting' THEN 0 ELSE tries END,
	state = CASE WHEN state = 'submitting' THEN 'unknown' ELSE state END,
	updated_at = ?, next_at = ?, lease_owner = '', lease_until = 0
	WHERE state >= 'pending' AND lease_owner = ?`

// bury takes up the requests of one owner, if that is dead.
func (o *Owner) bury(ctx context.Context, owner string, now time.Time) (n int, err error) {
	s := o.store
	sent := stamp(now)
	if s.postgres {
		if !strings.HasPrefix(owner, ownerMark) {
			return 0, nil // its lease alone says whether it lives
		}
		sent = stamp(time.Unix(1<<40, 0)) // when the lease ends, whenever that is
	}
	err = s.transact(ctx, "write to", func(tx *sql.Tx) error {
		n = 0
		if s.postgres {
			free := false
			if err := tx.QueryRowContext(ctx, "SELECT pg_try_advisory_xact_lock($1)", lockNumber(owner)).Scan(&free); err != nil || !free {
				return err
			}
		}
		done, err := tx.ExecContext(ctx, s.bind(buryRequests), sent, sent, stamp(now), stamp(now), owner)
		if err != nil {
			return err
		}
		rows, err := done.RowsAffected()
		n = int(rows)
		return err
	})
	return n, err
}

// watch keeps the lock, and looks for processes that have died. With SQLite
// there can be none.
func (o *Owner) watch(ctx context.Context, now time.Time) error {
	if o == nil || !o.store.postgres {
		return nil
	}
	err := o.Keep(ctx)
	_, buryErr := o.Bury(ctx, now)
	return errors.Join(err, buryErr)
}

// Close gives the lock up. The store stays open.
func (o *Owner) Close() error {
	if o.conn != nil {
		if o.store.postgres {
			// It goes back to the pool; one that is lost has no lock any more.
			_, _ = o.conn.ExecContext(context.Background(), "SELECT pg_advisory_unlock_all()")
		}
		_ = o.conn.Close() // with SQLite, the lock goes with the file
		o.conn = nil
	}
	if o.db != nil {
		if err := o.db.Close(); err != nil {
			return o.store.fault("unlock", err)
		}
	}
	return nil
}
