package store

import (
	"context"
	"database/sql"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Filter chooses records. Every field that is not zero must match.
type Filter struct {
	States []State
	// Subject and Client are parts of the request's subject and of the client's
	// name, without regard to case.
	Subject, Client string
	// Serial is a certificate's serial number as [ParseSerial] returns it.
	Serial string
	// ReqID is a number at the certificate authority.
	ReqID int
	// Since and Until bound the time when the request first came.
	Since, Until time.Time
	// Limit is how many records are wanted at most, the newest; 0 means all.
	Limit int
}

// where is the filter as SQL.
func (f Filter) where() (clause string, args []any) {
	var terms []string
	add := func(term string, values ...any) {
		terms = append(terms, term)
		args = append(args, values...)
	}
	if len(f.States) > 0 {
		marks := strings.TrimSuffix(strings.Repeat("?, ", len(f.States)), ", ")
		values := make([]any, len(f.States))
		for i, s := range f.States {
			values[i] = string(s)
		}
		add("state IN ("+marks+")", values...)
	}
	for column, part := range map[string]string{"subject": f.Subject, "client_name": f.Client} {
		if part != "" {
			add("LOWER("+column+`) LIKE ? ESCAPE '\'`, "%"+likeEscape.Replace(strings.ToLower(part))+"%")
		}
	}
	if f.Serial != "" {
		add("serial = ?", f.Serial)
	}
	if f.ReqID != 0 {
		add("req_id = ?", f.ReqID)
	}
	if !f.Since.IsZero() {
		add("created_at >= ?", stamp(f.Since))
	}
	if !f.Until.IsZero() {
		add("created_at < ?", stamp(f.Until))
	}
	if len(terms) > 0 {
		clause = "WHERE " + strings.Join(terms, " AND ") + " "
	}
	clause += "ORDER BY id DESC" // IDs are in the order of time
	if f.Limit > 0 {
		clause += " LIMIT ?"
		args = append(args, f.Limit)
	}
	return clause, args
}

// ParseSerial reads a serial number in hexadecimal as people find it: in upper
// or lower case, with or without leading zeros, 0x, colons or blanks.
func ParseSerial(text string) (string, error) {
	digits := strings.NewReplacer(":", "", " ", "").Replace(strings.ToLower(strings.TrimSpace(text)))
	digits = strings.TrimLeft(strings.TrimPrefix(digits, "0x"), "0")
	if len(digits)%2 == 1 {
		digits = "0" + digits // records have whole bytes
	}
	if _, err := hex.DecodeString(digits); err != nil || digits == "" {
		return "", fmt.Errorf("%q is not a serial number in hexadecimal, such as 5e000000a1", text)
	}
	return digits, nil
}

var likeEscape = strings.NewReplacer(`\`, `\\`, "%", `\%`, "_", `\_`)

// List returns the records that f chooses, oldest first.
func (s *Store) List(ctx context.Context, f Filter) ([]Record, error) {
	clause, args := f.where()
	rows, err := s.db.QueryContext(ctx, s.bind(selectRecord+clause), args...)
	if err != nil {
		return nil, s.fault("read", err)
	}
	all, err := scanAll(rows)
	if err != nil {
		return nil, s.fault("read", err)
	}
	slices.Reverse(all)
	return all, nil
}

// Counts returns how many records there are of each state, for metrics.
func (s *Store) Counts(ctx context.Context) (map[State]int, error) {
	rows, err := s.db.QueryContext(ctx, "SELECT state, COUNT(*) FROM requests GROUP BY state")
	if err != nil {
		return nil, s.fault("read", err)
	}
	defer func() { _ = rows.Close() }() // what fails shows in rows.Err
	counts := map[State]int{}
	for rows.Next() {
		var state string
		var n int
		if err := rows.Scan(&state, &n); err != nil {
			return nil, s.fault("read", err)
		}
		counts[State(state)] = n
	}
	if err := rows.Err(); err != nil {
		return nil, s.fault("read", err)
	}
	return counts, nil
}

// What [Store.Show] says of an ID.
var (
	// ErrNotFound: no record has the ID, or one that begins so.
	ErrNotFound = errors.New("store: no such record")
	// ErrAmbiguous: several have an ID that begins so.
	ErrAmbiguous = errors.New("store: which record is meant is not clear")
)

// ambiguousShown is how many records an ambiguous ID is answered with.
const ambiguousShown = 5

// Show returns the record with that ID, or the only one whose ID begins so.
func (s *Store) Show(ctx context.Context, id string) (Record, error) {
	if id == "" {
		return Record{}, ErrNotFound
	}
	rows, err := s.db.QueryContext(ctx, s.bind(selectRecord+`WHERE id LIKE ? ESCAPE '\' ORDER BY created_at DESC LIMIT ?`), likeEscape.Replace(id)+"%", ambiguousShown+1)
	if err != nil {
		return Record{}, s.fault("read", err)
	}
	found, err := scanAll(rows)
	switch {
	case err != nil:
		return Record{}, s.fault("read", err)
	case len(found) == 0:
		return Record{}, fmt.Errorf("%w: none has an ID that begins with %q", ErrNotFound, id)
	case len(found) > 1:
		return Record{}, ambiguous(id, found)
	}
	return found[0], nil
}

// ambiguous names the records that an ID can mean, the newest first.
func ambiguous(id string, found []Record) error {
	var b strings.Builder
	for i, r := range found {
		if i == ambiguousShown {
			b.WriteString("; and there are more")
			break
		}
		if i > 0 {
			b.WriteString("; ")
		}
		fmt.Fprintf(&b, "%s (%s, %s)", r.ID, r.Subject, r.State)
	}
	return fmt.Errorf("%w: several begin with %q; give more of the ID: %s", ErrAmbiguous, id, b.String())
}

// Retry is an operator's decision about a request. One that is pending is asked
// after at once. One whose outcome is unknown, that was denied or that expired
// is taken for one that never reached the certificate authority: when the
// client asks again, it is submitted again. For an unknown one that is right
// only if the operator has seen on the CA that there is no certificate. One
// that has been issued, or is being submitted, is refused.
func (s *Store) Retry(ctx context.Context, id string, now time.Time) (Record, error) {
	return s.decide(ctx, id, now, func(r *Record) error {
		switch r.State {
		case Pending:
			r.Next = now
		case Unknown, Denied, Expired, Failed:
			r.State, r.ReqID, r.Next, r.Tries = Failed, 0, time.Time{}, 0
		default:
			return fmt.Errorf("store: request %s is %s; there is nothing to try again", r.ID, r.State)
		}
		return nil
	})
}

// Assign is an operator's answer to the question what became of a request: it
// has that number at the certificate authority. The certificate is fetched when
// the registration authority next looks.
func (s *Store) Assign(ctx context.Context, id string, reqID int, now time.Time) (Record, error) {
	if reqID <= 0 {
		return Record{}, fmt.Errorf("store: %d is not a request number", reqID)
	}
	return s.decide(ctx, id, now, func(r *Record) error {
		if r.State == Issued || r.State == Submitting {
			return fmt.Errorf("store: request %s is %s; its number cannot be changed", r.ID, r.State)
		}
		r.State, r.ReqID, r.Next, r.Tries = Pending, reqID, now, 0
		return nil
	})
}

// Forget removes a record. What the certificate authority has of it stays
// there. One that is being submitted is refused.
func (s *Store) Forget(ctx context.Context, id string, now time.Time) (Record, error) {
	r, err := s.decide(ctx, id, now, func(r *Record) error {
		if r.State == Submitting {
			return fmt.Errorf("store: request %s is being submitted; it cannot be forgotten now", r.ID)
		}
		return nil
	})
	if err != nil {
		return Record{}, err
	}
	if _, err := s.change(ctx, "DELETE FROM requests WHERE id = ?", r.ID); err != nil {
		return Record{}, err
	}
	return r, nil
}

// decide changes a record that nobody is working on.
func (s *Store) decide(ctx context.Context, id string, now time.Time, change func(*Record) error) (Record, error) {
	r, err := s.Show(ctx, id)
	if err != nil {
		return Record{}, err
	}
	id = r.ID
	var refused error
	err = s.transact(ctx, "write to", func(tx *sql.Tx) error {
		query := selectRecord + "WHERE id = ?"
		if s.postgres {
			query += " FOR UPDATE"
		}
		var err error
		if r, err = scan(tx.QueryRowContext(ctx, s.bind(query), id)); err != nil {
			return err
		}
		refused = nil
		if r.State == Submitting && !r.LeaseUntil.After(now) {
			r.orphaned(now)
		}
		if r.LeaseUntil.After(now) && r.State != Submitting {
			refused = fmt.Errorf("store: request %s is being asked after at this moment; try again", r.ID)
			return nil
		}
		if refused = change(&r); refused == nil {
			r.Updated = now
			return s.update(ctx, tx, r)
		}
		return nil
	})
	if err == nil {
		err = refused
	}
	return r, err
}
