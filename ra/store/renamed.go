package store

import (
	"context"
	"database/sql"
	"fmt"
	"time"

	"github.com/onlineca/onlineca/ra"
	"github.com/onlineca/onlineca/ra/fault"
)

// Adopt gives the records of one authority to another: the same one, by another
// name. It returns how many there were. The name is part of what makes requests
// the same, so their keys change with it.
func (s *Store) Adopt(ctx context.Context, from, to string) (n int, err error) {
	if from == to {
		return 0, nil
	}
	err = s.transact(ctx, "write to", func(tx *sql.Tx) error {
		n = 0
		if s.postgres { // one process after the other
			if _, err := tx.ExecContext(ctx, "SELECT pg_advisory_xact_lock($1)", lockNumber("adopt "+to)); err != nil {
				return err
			}
		}
		rows, err := tx.QueryContext(ctx, s.bind(selectRecord+"WHERE authority = ? AND is_current = 1"), from)
		if err != nil {
			return err
		}
		current, err := scanAll(rows)
		if err != nil {
			return err
		}
		for _, rec := range current {
			if err := s.rename(ctx, tx, rec, to); err != nil {
				return err
			}
		}
		done, err := tx.ExecContext(ctx, s.bind("UPDATE requests SET authority = ? WHERE authority = ?"), to, from)
		if err != nil {
			return err
		}
		past, err := done.RowsAffected()
		n = len(current) + int(past)
		return err
	})
	return n, err
}

// rename gives a current record to another authority, as a past one if the same
// request is on record there already. Another process may be at the same: what it
// has renamed is left alone.
func (s *Store) rename(ctx context.Context, tx *sql.Tx, rec Record, to string) error {
	csr, err := rec.Request()
	if err != nil {
		return fmt.Errorf("record %s: %w", rec.ID, err)
	}
	key, err := KeyOf(ra.Request{
		CSR: csr, Operation: rec.Operation, Label: rec.Label, Template: rec.Template,
		Client: ra.Client{Name: rec.ClientName, Method: rec.ClientMethod},
	}, to)
	if err != nil {
		return fmt.Errorf("record %s: %w", rec.ID, err)
	}
	_, err = tx.ExecContext(ctx, s.bind(`UPDATE requests SET authority = ?, short_key = ?,
		is_current = CASE WHEN EXISTS (SELECT 1 FROM requests o WHERE o.short_key = ? AND o.is_current = 1 AND o.id <> ?) THEN 0 ELSE 1 END
		WHERE id = ? AND authority = ?`), to, key, key, rec.ID, rec.ID, rec.Authority)
	return err
}

// OpenElsewhere counts the open requests of all authorities but one, by
// authority.
func (s *Store) OpenElsewhere(ctx context.Context, authority string) (map[string]int, error) {
	rows, err := s.db.QueryContext(ctx, s.bind(`SELECT authority, COUNT(*) FROM requests
		WHERE state >= 'pending' AND authority <> ? GROUP BY authority`), authority)
	if err != nil {
		return nil, s.fault("read", err)
	}
	defer func() { _ = rows.Close() }() // what fails shows in rows.Err
	others := map[string]int{}
	for rows.Next() {
		var name string
		var n int
		if err := rows.Scan(&name, &n); err != nil {
			return nil, s.fault("read", err)
		}
		others[name] = n
	}
	if err := rows.Err(); err != nil {
		return nil, s.fault("read", err)
	}
	return others, nil
}

// backwards tells whether a request was given a number that is no higher than
// one that was known before it was submitted. Numbers are handed out in order,
// so the certificate authority has another database now, or an operator has
// assigned a number that is wrong.
func (r *Record) backwards() bool {
	return r.ReqID != 0 && r.AfterReqID != 0 && r.ReqID <= r.AfterReqID
}

// Rewind says that the numbers of an authority have begun again: rec was given
// one that is lower than numbers known when it was submitted. Those belong to a
// database that is gone, and are kept under another name, so that answers which
// get lost from now on are not looked for above them. Requests pending under them
// will never be decided, and expire. It returns the former numbers' name and how
// many records have it.
func (s *Store) Rewind(ctx context.Context, rec Record, now time.Time) (name string, n int, err error) {
	name = rec.Authority + " until " + rec.Submitted.UTC().Format(time.RFC3339)
	const former = " WHERE authority = ? AND id <> ? AND req_id >= ? AND req_id <= ? AND updated_at <= ?"
	which := []any{rec.Authority, rec.ID, rec.ReqID, rec.AfterReqID, stamp(rec.Submitted)}
	err = s.transact(ctx, "write to", func(tx *sql.Tx) error {
		run := func(query string, args ...any) (int, error) {
			done, err := tx.ExecContext(ctx, s.bind(query), args...)
			if err != nil {
				return 0, err
			}
			changed, err := done.RowsAffected()
			return int(changed), err
		}
		text := fmt.Sprintf("the authority's numbers have begun again since: request %d came after it", rec.ReqID)
		if _, err := run("UPDATE requests SET state = 'expired', code = ?, message = ?, next_at = 0"+former+" AND state = 'pending'",
			append([]any{fault.NoSuchRequest.String(), text}, which...)...); err != nil {
			return err
		}
		var err error
		if n, err = run("UPDATE requests SET authority = ?"+former, append([]any{name}, which...)...); err != nil {
			return err
		}
		_, err = run("UPDATE requests SET after_req_id = 0 WHERE authority = ? AND after_req_id >= ? AND state IN ('unknown', 'submitting') AND id <> ?",
			rec.Authority, rec.ReqID, rec.ID)
		return err
	})
	return name, n, err
}
