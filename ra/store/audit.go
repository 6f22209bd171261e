package store

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/onlineca/onlineca/ra/fault"
)

// AuditLine is one certificate in the audit log. Times are as in RFC 3339, in
// text: encoding/json takes longer over two of them than over all the rest.
type AuditLine struct {
	Time         string `json:"time"`
	Serial       string `json:"serial"` // hexadecimal
	Subject      string `json:"subject"`
	NotAfter     string `json:"not_after"`
	Client       string `json:"client,omitempty"`
	ClientMethod string `json:"client_method,omitempty"`
	ClientAddr   string `json:"client_addr,omitempty"`
	Operation    string `json:"operation"`
	Label        string `json:"label,omitempty"`
	Template     string `json:"template,omitempty"`
	ReqID        int    `json:"req_id,omitempty"`
	CSRHash      string `json:"csr_hash"`
	Record       string `json:"record"`
}

// audit writes a line for every certificate, before the certificate is noted in
// the database: it never has none. A process that dies between the two leaves a
// line to the next, which does not write it again.
type audit struct {
	store *Store
	w     io.Writer // nil for no log
	log   *zap.Logger

	syncing chan struct{} // has room for whoever syncs
	mu      sync.Mutex
	flush   func() error      // puts the lines on the disk, nil for a log that is on none
	first   time.Time         // when the first line was written that no sync has begun for, zero if there is none
	under   time.Time         // the same of the sync that is under way
	due     *time.Timer       // syncs, nil if nobody has set it
	mending mending           // what makes up for lines that are lost
	torn    bool              // the last line has no end
	text    bytes.Buffer      // what is being written
	encode  *json.Encoder     // into text
	has     map[auditKey]bool // lines whose certificates the database may not have
}

func newAudit(s *Store, w io.Writer, log *zap.Logger) *audit {
	a := &audit{store: s, w: w, log: log, has: map[auditKey]bool{}, syncing: make(chan struct{}, 1)}
	a.encode = json.NewEncoder(&a.text)
	if f, ok := w.(*AuditFile); ok {
		a.has = f.last
		if f.regular {
			a.flush = f.flush
		}
	}
	return a
}

// sync sees to it that the lines are on the disk. A log that cannot be synced
// keeps no certificate from anybody.
func (a *audit) sync() {
	if a.flush == nil {
		return
	}
	a.syncing <- struct{}{} // nobody goes on while another's sync has his line
	defer func() { <-a.syncing }()
	a.mu.Lock()
	if a.due != nil {
		a.due.Stop()
		a.due = nil
	}
	a.under, a.first = a.first, time.Time{}
	due, since := !a.under.IsZero(), a.mending.since
	a.mu.Unlock()
	if !due {
		return
	}
	err := a.flush()
	a.mu.Lock()
	defer a.mu.Unlock()
	a.under = time.Time{}
	switch {
	case err != nil:
		a.log.Error("the audit log could not be synced: a power failure would lose its last lines", zap.Error(err))
	case since.Equal(a.mending.since): // or it has been truncated meanwhile
		a.mending.rooted = true
	}
}

// syncEvery is how long lines stay off the disk that can be made up for, unless
// a sync takes longer. syncLate is when nobody goes on without it.
const (
	syncEvery = time.Second
	syncLate  = 10 * time.Second
)

// secure has lines that were written on the disk, now or soon. Soon is enough
// where the next process would see that the line is not there: see [audit.mend].
func (a *audit) secure(lines []*line) {
	now := time.Now()
	a.mu.Lock()
	soon := now.Sub(a.oldest(now)) < syncLate
	for _, l := range lines {
		soon = a.mending.covers(l.rec, now) && soon
	}
	if soon && a.due == nil && !a.first.IsZero() {
		a.due = time.AfterFunc(syncEvery, a.sync)
	}
	a.mu.Unlock()
	if !soon {
		a.sync()
	}
}

// oldest is when the oldest line was written that may not be on the disk, now if
// all are.
func (a *audit) oldest(now time.Time) time.Time {
	switch {
	case !a.under.IsZero():
		return a.under
	case !a.first.IsZero():
		return a.first
	default:
		return now
	}
}

// unsaved notes that the database did not take the certificate of a line, which
// will come again.
func (a *audit) unsaved(l *line) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.has[l.key] = true
}

// line is the line of one certificate on its way into an audit log.
type line struct {
	log     *audit
	key     auditKey
	rec     *Record // what it says, not to be changed before it is written
	size    int     // of its text, with the line break
	written bool    // it is in the log
	err     error   // why it is not
}

// newLine is the line of a certificate, nil where there is no log. The text is
// made when it is written, beside those of the same transaction: a processor that
// does one thing many times does it three times as fast.
func (a *audit) newLine(r *Record) *line {
	if a.w == nil {
		return nil
	}
	return &line{log: a, key: auditKey{r.ID, r.Serial}, rec: r}
}

func (r *Record) auditLine() AuditLine {
	return AuditLine{
		Time: r.Updated.Format(time.RFC3339Nano), Serial: r.Serial, Subject: r.Subject, NotAfter: r.NotAfter.Format(time.RFC3339Nano),
		Client: r.ClientName, ClientMethod: r.ClientMethod, ClientAddr: r.ClientAddr,
		Operation: string(r.Operation), Label: r.Label, Template: r.Template,
		ReqID: r.ReqID, CSRHash: hashOf(r.CSR), Record: r.ID,
	}
}

// write writes lines of this log, all of them with one call, and notes which of
// them are there. Those that are there already are not written again.
func (a *audit) write(lines ...*line) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.text.Reset()
	if a.torn {
		a.text.WriteByte('\n')
	}
	end, missing := a.text.Len(), lines[:0:0]
	for _, l := range lines {
		if l.written = l.written || a.has[l.key]; l.written {
			continue
		}
		before := a.text.Len()
		if err := a.encode.Encode(l.rec.auditLine()); err != nil {
			return fmt.Errorf("store: write the audit log: %w", err)
		}
		l.size = a.text.Len() - before
		missing = append(missing, l)
	}
	if len(missing) == 0 {
		return nil
	}
	text := a.text.Bytes()
	n, err := a.w.Write(text)
	if err != nil {
		err = fault.New(fault.DiskFull, "store: write the audit log", err)
	}
	if n > 0 {
		if a.first.IsZero() {
			a.first = time.Now()
		}
		if f, ok := a.w.(*AuditFile); ok && f.regular {
			a.mending.grown(f, n, missing[0].rec)
		}
		a.torn = text[n-1] != '\n'
	}
	for _, l := range missing {
		end += l.size
		l.written, l.err = end-1 <= n, err // the line break can still come
	}
	return err
}

// writeLines has lines in their logs, as far as that can be done.
func writeLines(lines []*line) {
	for len(lines) > 0 {
		log := lines[0].log
		var other []*line // of another enroller on the same database
		mine := slices.DeleteFunc(lines, func(l *line) bool {
			if l.log != log {
				other = append(other, l)
			}
			return l.log != log
		})
		_ = log.write(mine...) // each line says what became of it
		log.secure(mine)
		lines = other
	}
}

// leftovers writes the lines of certificates that were saved before a time and
// have none: the log could not be written then, or there was none.
func (a *audit) leftovers(ctx context.Context, before time.Time) error {
	if a.w == nil {
		return nil
	}
	records, err := a.store.unaudited(ctx, before)
	if err != nil || len(records) == 0 {
		return err
	}
	lines := make([]*line, len(records))
	for i := range records {
		lines[i] = a.newLine(&records[i])
	}
	err = a.write(lines...)
	a.sync()
	lines = slices.DeleteFunc(lines, func(l *line) bool { return !l.written })
	if len(lines) == 0 {
		return err
	}
	ids := make([]string, len(lines))
	for i, l := range lines {
		ids[i] = l.key.record
	}
	saveErr := a.store.setAudited(ctx, true, ids)
	if saveErr != nil {
		for _, l := range lines {
			a.unsaved(l)
		}
	}
	return errors.Join(err, saveErr)
}

// auditBatch is how many lines are made up for at a time.
const auditBatch = 500

// unaudited lists issued certificates that the audit log does not have.
func (s *Store) unaudited(ctx context.Context, before time.Time) ([]Record, error) {
	rows, err := s.db.QueryContext(ctx, s.bind(selectRecord+"WHERE state = 'issued' AND audited = 0 AND updated_at < ? ORDER BY updated_at LIMIT ?"), stamp(before), auditBatch)
	if err != nil {
		return nil, s.fault("read", err)
	}
	all, err := scanAll(rows)
	if err != nil {
		return nil, s.fault("read", err)
	}
	return all, nil
}

// setAudited notes whether records have their lines.
func (s *Store) setAudited(ctx context.Context, audited bool, ids []string) error {
	return s.transact(ctx, "write to", func(tx *sql.Tx) error {
		for _, id := range ids {
			if _, err := tx.ExecContext(ctx, s.bind("UPDATE requests SET audited = ? WHERE id = ?"), truth(audited), id); err != nil {
				return err
			}
		}
		return nil
	})
}
