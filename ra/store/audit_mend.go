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

// mending is what a log must keep to for [audit.mend] to find the lines that it
// has lost. A line for which it does not is synced before anything else is done.
type mending struct {
	rooted bool      // the disk has the first line
	since  time.Time // what the first line says
	newest time.Time // of the certificates with a line, when the last was begun, by its ID
	end    int64     // how long the file was after the last line
}

// mendable is how long after it was begun an enrolment may end for its line to be
// synced soon rather than at once.
const mendable = 10 * time.Second

// lastMoments is how far back from the newest certificate mend looks. One without
// a line was begun mendable before it, and nobody has gone on for longer than
// syncLate without that line.
const lastMoments = mendable + syncLate + 20*time.Second

// covers tells whether mend would see that a certificate has no line: this process
// has begun it, a moment ago, the newest certificate is of about that time, by the
// clock that made the IDs, and the log began before.
func (m *mending) covers(r *Record, now time.Time) bool {
	began, newest := idTime(r.ID), m.newest
	if began.After(newest) {
		m.newest = began
	}
	return m.rooted && r.row != 0 && now.Sub(r.Created) < mendable &&
		began.Sub(newest).Abs() < mendable && !at(stamp(r.Updated)).Before(m.since)
}

// grown notes that a log has n bytes more, from a certificate's line on. A log that
// is not as long as it would be has been truncated, and begins with this line.
func (m *mending) grown(f *AuditFile, n int, r *Record) {
	end := int64(0)
	if info, err := f.Stat(); err == nil {
		end = info.Size()
	}
	if end < m.end+int64(n) || m.since.IsZero() {
		m.rooted, m.since = false, r.Updated
	}
	m.end = end
}

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
	// What a process that was killed has written may be in the system's memory.
	flushErr := a.flush()
	if flushErr != nil {
		a.log.Error("the audit log could not be synced: a power failure would lose its last lines", zap.Error(flushErr))
	}
	missing, newest, err := a.store.lastAudited(ctx)
	if err == nil {
		a.mending, err = mendingOf(f, newest)
	}
	if err != nil {
		return err
	}
	a.mending.rooted = flushErr == nil && !a.mending.since.IsZero()
	if len(missing) == 0 || a.mending.since.IsZero() {
		return nil
	}
	err = f.backwards(func(l AuditLine) bool {
		delete(missing, auditKey{l.Record, l.Serial})
		return len(missing) > 0
	})
	if err != nil {
		return fmt.Errorf("store: read the audit log: %w", err)
	}
	var lost []string
	for key, issued := range missing {
		if issued.Before(a.mending.since) {
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

// mendingOf looks at a log.
func mendingOf(f *AuditFile, newest time.Time) (mending, error) {
	info, err := f.Stat()
	if err != nil {
		return mending{}, fmt.Errorf("store: read the audit log: %w", err)
	}
	since, err := f.since()
	if err != nil {
		return mending{}, fmt.Errorf("store: read the audit log: %w", err)
	}
	return mending{since: since, newest: newest, end: info.Size()}, nil
}

// idTime is when an ID was made, zero for one that does not say so.
func idTime(id string) time.Time {
	u, err := uuid.Parse(id)
	if err != nil || u.Version() != 7 {
		return time.Time{}
	}
	return time.Unix(u.Time().UnixTime())
}

// lastAudited lists the newest certificates that have a line, with the time of
// each, and says when the newest was begun.
func (s *Store) lastAudited(ctx context.Context) (all map[auditKey]time.Time, newest time.Time, err error) {
	const audited = "WHERE state = 'issued' AND audited = 1"
	var id string
	err = s.db.QueryRowContext(ctx, "SELECT id FROM requests "+audited+" ORDER BY id DESC LIMIT 1").Scan(&id)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, time.Time{}, nil
	}
	if err != nil {
		return nil, time.Time{}, s.fault("read", err)
	}
	newest = idTime(id)
	ms := max(0, newest.Add(-lastMoments).UnixMilli())
	from := fmt.Sprintf("%08x-%04x", ms>>16, ms&0xffff) // RFC 9562 section 5.7
	rows, err := s.db.QueryContext(ctx, "SELECT id, serial, updated_at FROM requests "+audited+" AND id >= ?", from)
	if err != nil {
		return nil, time.Time{}, s.fault("read", err)
	}
	defer func() { _ = rows.Close() }() // what fails shows in rows.Err
	all = map[auditKey]time.Time{}
	for rows.Next() {
		var key auditKey
		var updated int64
		if err := rows.Scan(&key.record, &key.serial, &updated); err != nil {
			return nil, time.Time{}, s.fault("read", err)
		}
		all[key] = at(updated)
	}
	if err := rows.Err(); err != nil {
		return nil, time.Time{}, s.fault("read", err)
	}
	return all, newest, nil
}
