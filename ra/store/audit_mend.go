package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"go.uber.org/zap"
)

// mendable is how long after it was begun an enrolment may end for its line to be
// synced soon rather than at once: [audit.mend] looks at the certificates of the last
// moments only.
const mendable = 10 * time.Second

// lastMoments is how far back mend looks from the newest certificate. One without
// a line was begun mendable before it, and nobody has gone on for longer than
// syncLate without its line.
const lastMoments = mendable + syncLate + 20*time.Second

// mend notes which certificates have lost their lines with the machine's power:
// the database has them on the disk when it says so, the log a moment later. What
// is lost is what was written last, so that a log without any line has lost none,
// for its first is synced at once; it has been put aside. Nothing may have been
// written since the start. The lines are made up for as [audit.leftovers] are.
func (a *audit) mend(ctx context.Context) error {
	f, ok := a.w.(*AuditFile)
	if !ok || !f.regular || a.store.postgres {
		return nil
	}
	missing, err := a.store.lastAudited(ctx)
	if err != nil || len(missing) == 0 {
		return err
	}
	var first string // when the first line of the log was written, once it has been reached
	err = f.backwards(func(l AuditLine) bool {
		if l.Time != "" {
			first = l.Time
		}
		delete(missing, auditKey{l.Record, l.Serial})
		return len(missing) > 0
	})
	if err != nil {
		return fmt.Errorf("store: read the audit log: %w", err)
	}
	since, err := time.Parse(time.RFC3339Nano, first)
	if len(missing) == 0 || err != nil {
		return nil //nolint:nilerr // There is no line.
	}
	var lost []string
	for key, issued := range missing {
		if issued.Before(since) {
			continue // its line was put aside with the log before this one
		}
		lost = append(lost, key.record)
	}
	if len(lost) == 0 {
		return nil
	}
	a.log.Warn("the audit log has lost its last lines, as happens when a machine loses its power; they are written again", zap.Int("lines", len(lost)))
	return a.store.setAudited(ctx, false, lost)
}

// lastAudited lists the newest certificates that have a line, with the time of
// each.
func (s *Store) lastAudited(ctx context.Context) (map[auditKey]time.Time, error) {
	const audited = "WHERE state = 'issued' AND audited = 1"
	var newest string
	err := s.db.QueryRowContext(ctx, "SELECT id FROM requests "+audited+" ORDER BY id DESC LIMIT 1").Scan(&newest)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, nil
	}
	if err != nil {
		return nil, s.fault("read", err)
	}
	id, err := uuid.Parse(newest)
	if err != nil {
		return nil, s.fault("read the record "+newest+" of", err)
	}
	ms := max(0, time.Unix(id.Time().UnixTime()).Add(-lastMoments).UnixMilli())
	from := fmt.Sprintf("%08x-%04x", ms>>16, ms&0xffff) // RFC 9562 section 5.7
	rows, err := s.db.QueryContext(ctx, "SELECT id, serial, updated_at FROM requests "+audited+" AND id >= ?", from)
	if err != nil {
		return nil, s.fault("read", err)
	}
	defer func() { _ = rows.Close() }() // what fails shows in rows.Err
	all := map[auditKey]time.Time{}
	for rows.Next() {
		var key auditKey
		var updated int64
		if err := rows.Scan(&key.record, &key.serial, &updated); err != nil {
			return nil, s.fault("read", err)
		}
		all[key] = at(updated)
	}
	if err := rows.Err(); err != nil {
		return nil, s.fault("read", err)
	}
	return all, nil
}
