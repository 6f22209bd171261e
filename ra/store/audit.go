package store

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
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

// AuditFile is an audit log on the disk. It knows what the process before it
// wrote last.
type AuditFile struct {
	*os.File
	regular bool // it can be synced and read
	last    map[auditKey]bool
}

// auditKey tells one certificate from another.
type auditKey struct{ record, serial string }

// auditTail is how much of an audit log is read when it is opened, in bytes:
// some thousand lines, more than a process can have under way when it dies.
const auditTail = 1 << 20

// OpenAudit opens an audit log for appending, readable by its owner alone. Half
// a line, which is what a machine leaves that lost its power, is ended.
func OpenAudit(path string) (*AuditFile, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fault.New(fault.DiskFull, "open the audit log", err)
	}
	a := &AuditFile{File: f, last: map[auditKey]bool{}}
	if err := a.readTail(); err != nil {
		_ = f.Close() // err says what is wrong
		return nil, fault.New(fault.DiskFull, "open the audit log", err)
	}
	return a, nil
}

// readTail notes which certificates have the last lines, and sees to it that
// the file ends with a line break. Of what is no regular file nothing is read.
func (a *AuditFile) readTail() error {
	info, err := a.Stat()
	if err != nil {
		return err
	}
	a.regular = info.Mode().IsRegular()
	if !a.regular || info.Size() == 0 {
		return nil
	}
	tail := make([]byte, min(info.Size(), auditTail))
	if _, err := a.ReadAt(tail, info.Size()-int64(len(tail))); err != nil {
		return err
	}
	for text := range bytes.Lines(tail) {
		var l AuditLine
		if json.Unmarshal(text, &l) == nil { // the first and the last may be half a line
			a.last[auditKey{l.Record, l.Serial}] = true
		}
	}
	if tail[len(tail)-1] == '\n' {
		return nil
	}
	_, err = a.WriteString("\n")
	return err
}

// audit writes a line for every certificate, before the certificate is noted in
// the database: it never has none. A process that dies between the two leaves a
// line to the next, which does not write it again.
type audit struct {
	store *Store
	w     io.Writer // nil for no log
	log   *zap.Logger

	syncing  sync.Mutex
	mu       sync.Mutex
	unsynced bool              // lines may not be on the disk yet
	torn     bool              // the last line has no end
	text     []byte            // what is being written, kept for the next time
	has      map[auditKey]bool // lines whose certificates the database may not have
}

func newAudit(s *Store, w io.Writer, log *zap.Logger) *audit {
	a := &audit{store: s, w: w, log: log, has: map[auditKey]bool{}}
	if f, ok := w.(*AuditFile); ok {
		a.has = f.last
	}
	return a
}

// sync sees to it that the lines are on the disk, as the database's own will be
// a moment later. A log that cannot be synced keeps no certificate from anybody.
func (a *audit) sync() {
	f, ok := a.w.(*AuditFile)
	if !ok || !f.regular {
		return
	}
	a.syncing.Lock() // nobody goes on while another's sync has his line
	defer a.syncing.Unlock()
	a.mu.Lock()
	due := a.unsynced
	a.unsynced = false
	a.mu.Unlock()
	if !due {
		return
	}
	if err := f.Sync(); err != nil {
		a.log.Error("the audit log could not be synced: a power failure would lose its last lines", zap.Error(err))
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
	text    []byte
	written bool  // it is in the log
	err     error // why it is not
}

// newLine makes the line of a certificate, nil where there is no log.
func (a *audit) newLine(r Record) (*line, error) {
	if a.w == nil {
		return nil, nil
	}
	text, err := json.Marshal(AuditLine{
		Time: r.Updated.Format(time.RFC3339Nano), Serial: r.Serial, Subject: r.Subject, NotAfter: r.NotAfter.Format(time.RFC3339Nano),
		Client: r.ClientName, ClientMethod: r.ClientMethod, ClientAddr: r.ClientAddr,
		Operation: string(r.Operation), Label: r.Label, Template: r.Template,
		ReqID: r.ReqID, CSRHash: r.CSRHash, Record: r.ID,
	})
	if err != nil {
		return nil, fmt.Errorf("store: write the audit log: %w", err)
	}
	return &line{log: a, key: auditKey{r.ID, r.Serial}, text: append(text, '\n')}, nil
}

// write writes lines of this log, all of them with one call, and notes which of
// them are there. Those that are there already are not written again.
func (a *audit) write(lines ...*line) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.text = a.text[:0]
	if a.torn {
		a.text = append(a.text, '\n')
	}
	end, missing := len(a.text), lines[:0:0]
	for _, l := range lines {
		if l.written = l.written || a.has[l.key]; !l.written {
			missing = append(missing, l)
			a.text = append(a.text, l.text...)
		}
	}
	if len(missing) == 0 {
		return nil
	}
	n, err := a.w.Write(a.text)
	if err != nil {
		err = fault.New(fault.DiskFull, "store: write the audit log", err)
	}
	a.unsynced = true
	if n > 0 {
		a.torn = a.text[n-1] != '\n'
	}
	for _, l := range missing {
		end += len(l.text)
		l.written, l.err = end-1 <= n, err // the line break can still come
	}
	return err
}

// writeLines has lines in their logs, on the disk, as far as that can be done.
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
		log.sync()
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
	for i, r := range records {
		if lines[i], err = a.newLine(r); err != nil {
			return err
		}
	}
	err = a.write(lines...)
	a.sync()
	lines = slices.DeleteFunc(lines, func(l *line) bool { return !l.written })
	if len(lines) == 0 {
		return err
	}
	saveErr := a.store.setAudited(ctx, lines)
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

func (s *Store) setAudited(ctx context.Context, lines []*line) error {
	return s.transact(ctx, "write to", func(tx *sql.Tx) error {
		for _, l := range lines {
			if _, err := tx.ExecContext(ctx, s.bind("UPDATE requests SET audited = 1 WHERE id = ?"), l.key.record); err != nil {
				return err
			}
		}
		return nil
	})
}
