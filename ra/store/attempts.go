package store

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/binary"
	"encoding/hex"
	"time"

	"github.com/google/uuid"

	"github.com/onlineca/onlineca/ra"
)

// Ledger is the database as an [ra.Ledger]: what it counts outlives the process,
// and is one count for all that share the database.
func (s *Store) Ledger() ra.Ledger { return ledger{s} }

type ledger struct{ s *Store }

// accountHash stands for an account. It has the same length for every name that
// a stranger may send, and does not show what was typed into the wrong field.
func accountHash(a ra.Attempt) string {
	sum := sha256.Sum256([]byte(a.Scope + "\x00" + a.Account))
	return hex.EncodeToString(sum[:])
}

// Reserve enters an attempt. Attempts at one account follow each other: SQLite
// has one writer, and in PostgreSQL a lock on the account is held until the
// transaction ends.
func (l ledger) Reserve(ctx context.Context, a ra.Attempt, now time.Time, may func(ra.Tally) bool) (id string, t ra.Tally, err error) {
	s, account := l.s, accountHash(a)
	if err := s.pruneAttempts(ctx, a, now); err != nil {
		return "", ra.Tally{}, err
	}
	err = s.transact(ctx, "write to", func(tx *sql.Tx) error {
		id = ""
		if s.postgres {
			sum := sha256.Sum256([]byte(account))
			if _, err := tx.ExecContext(ctx, "SELECT pg_advisory_xact_lock($1)", int64(binary.BigEndian.Uint64(sum[:]))); err != nil {
				return err
			}
		}
		var err error
		if t, err = s.tally(ctx, tx, a, account, now); err != nil || !may(t) {
			return err
		}
		id = uuid.NewString()
		_, err = tx.ExecContext(ctx, s.bind("INSERT INTO attempts (id, scope, account, addr, refused, began_at) VALUES (?, ?, ?, ?, 0, ?)"),
			id, clean(a.Scope), account, clean(a.Addr), stamp(now))
		return err
	})
	return id, t, err
}

// pruneEvery is how often attempts that no longer count are removed.
const pruneEvery = time.Minute

// pruneAttempts removes the rows of a scope that no longer count, now and then.
func (s *Store) pruneAttempts(ctx context.Context, a ra.Attempt, now time.Time) error {
	s.prunes.Lock()
	due := now.Sub(s.pruned[a.Scope]) >= pruneEvery
	if due {
		if s.pruned == nil {
			s.pruned = map[string]time.Time{}
		}
		s.pruned[a.Scope] = now
	}
	s.prunes.Unlock()
	if !due {
		return nil
	}
	query := "SELECT id FROM attempts WHERE scope = ? AND began_at <= ?"
	if s.postgres {
		query += " FOR UPDATE SKIP LOCKED" // another process may be at it
	}
	return s.transact(ctx, "write to", func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, s.bind("DELETE FROM attempts WHERE id IN ("+query+")"), clean(a.Scope), stamp(now.Add(-a.Window)))
		return err
	})
}

// ForgetAttempts removes attempts of all scopes that were begun before a time.
func (s *Store) ForgetAttempts(ctx context.Context, before time.Time) error {
	return s.transact(ctx, "write to", func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, s.bind("DELETE FROM attempts WHERE began_at <= ?"), stamp(before))
		return err
	})
}

// tally counts what there is against an attempt. What was begun before the lease
// and has no outcome counts as refused.
func (s *Store) tally(ctx context.Context, tx *sql.Tx, a ra.Attempt, account string, now time.Time) (t ra.Tally, err error) {
	const refused = "(refused = 1 OR began_at <= ?)"
	const counts = " FROM attempts WHERE scope = ? AND began_at > ?"
	scope, since, dead, open := clean(a.Scope), stamp(now.Add(-a.Window)), stamp(now.Add(-a.Lease)), int64(0)
	if a.Local { // what is dead is neither refused nor open
		dead, open = 0, dead
	}
	var tries int
	var oldest, oldestFrom int64
	for _, q := range []struct {
		query string
		args  []any
		into  []any
	}{
		{"SELECT COUNT(*)" + counts, []any{scope, since}, []any{&t.All}},
		{"SELECT COUNT(*)" + counts + " AND account = ? AND (refused = 1 OR began_at > ?)", []any{scope, since, account, open}, []any{&tries}},
		{"SELECT COUNT(*), COALESCE(MIN(began_at), 0)" + counts + " AND account = ? AND " + refused, []any{scope, since, account, dead}, []any{&t.Refused, &oldest}},
		{"SELECT COUNT(*), COALESCE(MIN(began_at), 0)" + counts + " AND addr <> '' AND addr = ? AND " + refused, []any{scope, since, clean(a.Addr), dead}, []any{&t.FromAddr, &oldestFrom}},
	} {
		if err := tx.QueryRowContext(ctx, s.bind(q.query), q.args...).Scan(q.into...); err != nil {
			return ra.Tally{}, err
		}
	}
	t.Open, t.Oldest, t.OldestFromAddr = tries-t.Refused, at(oldest), at(oldestFrom)
	return t, nil
}

// Settle writes what became of an attempt.
func (l ledger) Settle(ctx context.Context, id string, a ra.Attempt, o ra.AttemptOutcome) error {
	s, account := l.s, accountHash(a)
	return s.transact(ctx, "write to", func(tx *sql.Tx) error {
		run := func(query string, args ...any) error {
			_, err := tx.ExecContext(ctx, s.bind(query), args...)
			return err
		}
		if o == ra.AttemptRefused {
			return run("UPDATE attempts SET refused = 1 WHERE id = ?", id)
		}
		if o == ra.AttemptGood {
			const before = " WHERE scope = ? AND account = ? AND (refused = 1 OR began_at <= (SELECT began_at FROM attempts WHERE id = ?) - ?)"
			args := []any{clean(a.Scope), account, id, a.Lease.Microseconds()}
			if err := run("DELETE FROM attempts"+before+" AND addr = ''", args...); err != nil {
				return err
			}
			if err := run("UPDATE attempts SET account = ''"+before, args...); err != nil {
				return err
			}
		}
		return run("DELETE FROM attempts WHERE id = ?", id)
	})
}
