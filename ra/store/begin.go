package store

import (
	"context"
	"database/sql"
	"errors"
	"time"

	"github.com/google/uuid"

	"github.com/onlineca/onlineca/ra"
)

// Claim is a process that wants to work on a request.
type Claim struct {
	// Owner names the process; no two may have the same name.
	Owner string
	// Lease is how long the claim holds unless it is extended. A process that
	// dies holds it that long. The clocks of processes that share a database
	// must not be apart by more than that.
	Lease time.Duration
	// Authority is the certificate authority that will be asked.
	Authority string
	// Keep is how long after it was issued a certificate answers the same
	// request.
	Keep time.Duration
}

// Begin writes down that request r is about to be submitted, and returns mine
// if it is the caller who shall submit it. Otherwise the record says what is
// known of the request already. However many processes call Begin for the same
// request at once, one of them gets mine.
func (s *Store) Begin(ctx context.Context, r ra.Request, c Claim, now time.Time) (rec Record, mine bool, err error) {
	fresh, err := newRecord(r, c.Authority)
	if err != nil {
		return Record{}, false, s.fault("read the request for", err)
	}
	fresh.CSRHash = hashOf(fresh.CSR)
	if !s.postgres {
		first, done := fresh, make(chan struct{})
		s.first(ctx, &first, c, now, func(began bool, problem error) {
			mine, err = began, problem
			close(done)
		})
		if <-done; mine || err != nil {
			return first, mine, err
		}
	}
	return s.claim(ctx, fresh, c, now)
}

// claim is Begin for a record that has been made of the request.
func (s *Store) claim(ctx context.Context, fresh Record, c Claim, now time.Time) (rec Record, mine bool, err error) {
	for {
		again := false
		err = s.transact(ctx, "write to", func(tx *sql.Tx) (err error) {
			rec, mine, again, err = s.begin(ctx, tx, fresh, c, now)
			return err
		})
		if err != nil || !again {
			return rec, mine, err
		}
	}
}

// first writes down a request that nobody has sent before, the common case, and
// tells then. If there is a record of it, mine is false and rec worth nothing.
func (s *Store) first(ctx context.Context, rec *Record, c Claim, now time.Time, then func(mine bool, err error)) {
	if err := rec.begin(c, now); err != nil {
		then(false, err)
		return
	}
	s.group.post(&change{
		ctx: ctx,
		quick: func(l *lite) error {
			highest, err := l.highestOf(rec.Authority)
			if err != nil {
				return err
			}
			rec.AfterReqID = int(highest)
			l.values = s.fresh(l.values[:0], rec)
			rec.row, err = l.insert(insertFirst, l.values...)
			return err
		},
		then: func(err error) { then(err == nil && rec.row != 0, s.failed(err)) },
	})
}

// begin makes of a fresh record one in state Submitting, leased to c.
func (r *Record) begin(c Claim, now time.Time) error {
	r.Attempts++
	r.Submitted, r.Updated = now, now
	r.LeaseOwner, r.LeaseUntil = c.Owner, now.Add(c.Lease)
	if r.ID != "" {
		return nil
	}
	id, err := uuid.NewV7()
	r.ID, r.Created = id.String(), now
	return err
}

// toldFor is how long a refusal that was found out in the background is told
// from the first time on, for an answer can be lost. Then the same request is a
// new one.
const toldFor = time.Minute

// begin is Begin within its transaction. It is to be called again if another
// process inserted the same request at the same moment.
func (s *Store) begin(ctx context.Context, tx *sql.Tx, fresh Record, c Claim, now time.Time) (rec Record, mine, again bool, err error) {
	rec, err = s.current(ctx, tx, fresh.Key)
	switch {
	case errors.Is(err, sql.ErrNoRows):
	case err != nil:
		return Record{}, false, false, err
	case rec.State == Submitting && !rec.LeaseUntil.After(now):
		rec.orphaned(now)
		rec.Next, rec.LeaseOwner, rec.LeaseUntil = now, "", time.Time{}
		return rec, false, false, s.update(ctx, tx, rec)
	case rec.State.open(), rec.State == Issued && now.Before(rec.Updated.Add(c.Keep)) && now.Before(rec.NotAfter):
		return rec, false, false, nil
	case rec.Refused() && now.Before(rec.Next):
		// Its client asks what became of it, and not for another one.
		if soon := now.Add(toldFor); rec.Next.After(soon) {
			rec.Next = soon
			return rec, false, false, s.update(ctx, tx, rec)
		}
		return rec, false, false, nil
	case rec.State == Failed:
		// It never reached the authority: the same record takes the next try.
		fresh.ID, fresh.Created, fresh.Attempts = rec.ID, rec.Created, rec.Attempts
	default:
		rec.Current = false
		if err := s.update(ctx, tx, rec); err != nil {
			return Record{}, false, false, err
		}
	}
	return s.start(ctx, tx, fresh, c, now)
}

// start writes a record in state Submitting, leased to c.
func (s *Store) start(ctx context.Context, tx *sql.Tx, rec Record, c Claim, now time.Time) (_ Record, mine, again bool, err error) {
	if err := s.in(ctx, tx, selectHighest).QueryRowContext(ctx, rec.Authority).Scan(&rec.AfterReqID); err != nil {
		return Record{}, false, false, err
	}
	known := rec.ID != ""
	if err := rec.begin(c, now); err != nil {
		return Record{}, false, false, err
	}
	if known {
		return rec, true, false, s.update(ctx, tx, rec)
	}
	done, err := s.in(ctx, tx, insertRecord).ExecContext(ctx, s.values(rec)...)
	if err != nil {
		return Record{}, false, false, err
	}
	n, err := done.RowsAffected()
	return rec, n == 1, n == 0, err
}

// current reads the current record of a key, and with PostgreSQL locks it; an
// SQLite transaction has the whole database.
func (s *Store) current(ctx context.Context, tx *sql.Tx, key string) (Record, error) {
	return scan(s.in(ctx, tx, selectCurrent).QueryRowContext(ctx, key))
}

// update writes all of a record.
func (s *Store) update(ctx context.Context, tx *sql.Tx, r Record) error {
	_, err := s.in(ctx, tx, updateRecord).ExecContext(ctx, append(s.values(r)[1:], r.ID)...)
	return err
}

// Save writes what became of a request that owner has claimed, and gives the
// claim up. A certificate is saved even by an owner who has lost the claim,
// unless there is one already; anything else is not, and saved is false.
func (s *Store) Save(ctx context.Context, r Record, owner string) (saved bool, err error) {
	return s.save(ctx, r, owner, nil)
}

// save is Save for a record whose line, if there is one, goes into the audit log
// first.
func (s *Store) save(ctx context.Context, r Record, owner string, l *line) (saved bool, err error) {
	if !s.postgres {
		done := make(chan struct{})
		s.saveLite(ctx, &r, owner, l, func(ok bool, problem error) {
			saved, err = ok, problem
			close(done)
		})
		<-done
		return saved, err
	}
	if l != nil {
		writeLines([]*line{l})
		r.Audited = r.Audited || l.written
	}
	err = s.transact(ctx, "write to", func(tx *sql.Tx) error {
		done, err := s.in(ctx, tx, saveOutcome).ExecContext(ctx, s.saving(&r, owner)...)
		if err != nil {
			return err
		}
		n, err := done.RowsAffected()
		saved = n == 1
		return err
	})
	return saved, err
}

// saveLite is save with SQLite. It waits for nothing: then is told, by the writer.
func (s *Store) saveLite(ctx context.Context, r *Record, owner string, l *line, then func(saved bool, err error)) {
	saved := false
	s.group.post(&change{
		ctx: ctx, line: l,
		quick: func(w *lite) error {
			r.Audited = r.Audited || l != nil && l.written
			n, err := int64(0), error(nil)
			if r.plain() && r.row != 0 {
				w.values = append(s.issued(w.values[:0], r, owner), r.row)
				n, err = w.exec(saveIssuedRow, w.values...)
			}
			if n == 0 && err == nil { // or the file has been rewritten, and its rows have new numbers
				query := saveOutcome
				if r.plain() {
					query, w.values = saveIssued, s.issued(w.values[:0], r, owner)
				} else {
					w.values = s.saving(r, owner)
				}
				n, err = w.exec(query, w.values...)
			}
			saved = n == 1
			return err
		},
		then: func(err error) { then(saved && err == nil, s.failed(err)) },
	})
}

// saving are the values of saveOutcome.
func (s *Store) saving(r *Record, owner string) []any {
	return append(s.outcome(r), r.ID, owner, string(r.State))
}

// Extend prolongs a claim. held is false if it has been lost.
func (s *Store) Extend(ctx context.Context, id, owner string, until time.Time) (held bool, err error) {
	n, err := s.change(ctx, "UPDATE requests SET lease_until = ? WHERE id = ? AND lease_owner = ?", stamp(until), id, owner)
	return n == 1, err
}

// Claim claims a request that is open and that nobody has claimed, so that one
// process at a time asks after it. mine is false if somebody was faster or the
// request is settled; the record says so in either case.
func (s *Store) Claim(ctx context.Context, id string, c Claim, now time.Time) (rec Record, mine bool, err error) {
	err = s.transact(ctx, "write to", func(tx *sql.Tx) error {
		mine = false
		query := selectRecord + "WHERE id = ?"
		if s.postgres {
			query += " FOR UPDATE"
		}
		var err error
		rec, err = scan(tx.QueryRowContext(ctx, s.bind(query), id))
		if errors.Is(err, sql.ErrNoRows) {
			return nil // forgotten meanwhile
		}
		if err != nil {
			return err
		}
		if !rec.State.open() || rec.LeaseUntil.After(now) {
			return nil
		}
		if rec.State == Submitting {
			rec.orphaned(now)
		}
		mine = true
		rec.LeaseOwner, rec.LeaseUntil = c.Owner, now.Add(c.Lease)
		return s.update(ctx, tx, rec)
	})
	return rec, mine && err == nil, err
}

// Due lists the requests that have to be asked after now: pending and unknown
// ones whose time has come, and those whose process died while submitting.
func (s *Store) Due(ctx context.Context, authority string, now time.Time, limit int) ([]string, error) {
	rows, err := s.db.QueryContext(ctx, s.bind(`SELECT id FROM requests
		WHERE state >= 'pending' AND next_at <= ? AND lease_until <= ? AND authority = ?
		ORDER BY next_at LIMIT ?`), stamp(now), stamp(now), authority, limit)
	if err != nil {
		return nil, s.fault("read", err)
	}
	defer func() { _ = rows.Close() }() // what fails shows in rows.Err
	var ids []string
	for rows.Next() {
		var id string
		if err := rows.Scan(&id); err != nil {
			return nil, s.fault("read", err)
		}
		ids = append(ids, id)
	}
	if err := rows.Err(); err != nil {
		return nil, s.fault("read", err)
	}
	return ids, nil
}

// Numbers returns the request numbers of an authority from one number on that
// records have already.
func (s *Store) Numbers(ctx context.Context, authority string, from int) (map[int]bool, error) {
	rows, err := s.db.QueryContext(ctx, s.bind("SELECT req_id FROM requests WHERE authority = ? AND req_id >= ? AND req_id > 0"), authority, from)
	if err != nil {
		return nil, s.fault("read", err)
	}
	defer func() { _ = rows.Close() }() // what fails shows in rows.Err
	known := map[int]bool{}
	for rows.Next() {
		var n int
		if err := rows.Scan(&n); err != nil {
			return nil, s.fault("read", err)
		}
		known[n] = true
	}
	if err := rows.Err(); err != nil {
		return nil, s.fault("read", err)
	}
	return known, nil
}
