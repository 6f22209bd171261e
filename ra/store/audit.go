package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"github.com/onlineca/onlineca/ra/fault"
)

// AuditLine is one certificate in the audit log.
type AuditLine struct {
	Time         time.Time `json:"time"`
	Serial       string    `json:"serial"` // hexadecimal
	Subject      string    `json:"subject"`
	NotAfter     time.Time `json:"not_after"`
	Client       string    `json:"client,omitempty"`
	ClientMethod string    `json:"client_method,omitempty"`
	ClientAddr   string    `json:"client_addr,omitempty"`
	Operation    string    `json:"operation"`
	Label        string    `json:"label,omitempty"`
	Template     string    `json:"template,omitempty"`
	ReqID        int       `json:"req_id,omitempty"`
	CSRHash      string    `json:"csr_hash"`
	Record       string    `json:"record"`
}

// OpenAudit opens an audit log for appending, readable by its owner alone. Half
// a line, which is what a machine leaves that lost its power, is ended.
func OpenAudit(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fault.New(fault.DiskFull, "open the audit log", err)
	}
	if err := endLine(f); err != nil {
		_ = f.Close() // err says what is wrong
		return nil, fault.New(fault.DiskFull, "open the audit log", err)
	}
	return f, nil
}

// endLine sees to it that a file ends with a line break, if it can be read.
func endLine(f *os.File) error {
	info, err := f.Stat()
	if err != nil || !info.Mode().IsRegular() || info.Size() == 0 {
		return err
	}
	last := make([]byte, 1)
	if _, err := f.ReadAt(last, info.Size()-1); err != nil || last[0] == '\n' {
		return err
	}
	_, err = f.WriteString("\n")
	return err
}

// audit writes a line for every certificate, before the certificate is noted in
// the database. So after a crash a certificate can have two lines, which its
// serial number shows; it never has none.
type audit struct {
	store *Store
	w     io.Writer // nil for no log

	mu   sync.Mutex
	torn bool // the last line may not have its end
}

var errNoAudit = errors.New("store: there is no audit log")

// line writes the line of a certificate.
func (a *audit) line(r Record) error {
	if a.w == nil {
		return errNoAudit
	}
	line, err := json.Marshal(AuditLine{
		Time: r.Updated, Serial: r.Serial, Subject: r.Subject, NotAfter: r.NotAfter,
		Client: r.ClientName, ClientMethod: r.ClientMethod, ClientAddr: r.ClientAddr,
		Operation: string(r.Operation), Label: r.Label, Template: r.Template,
		ReqID: r.ReqID, CSRHash: r.CSRHash, Record: r.ID,
	})
	if err != nil {
		return fmt.Errorf("store: write the audit log: %w", err)
	}
	line = append(line, '\n')
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.torn {
		line = append([]byte{'\n'}, line...)
	}
	_, err = a.w.Write(line)
	if a.torn = err != nil; a.torn {
		return fault.New(fault.DiskFull, "store: write the audit log", err)
	}
	return nil
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
	for _, r := range records {
		if err := a.line(r); err != nil {
			return err
		}
	}
	return a.store.setAudited(ctx, records)
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

func (s *Store) setAudited(ctx context.Context, records []Record) error {
	return s.transact(ctx, "write to", func(tx *sql.Tx) error {
		for _, r := range records {
			if _, err := tx.ExecContext(ctx, s.bind("UPDATE requests SET audited = 1 WHERE id = ?"), r.ID); err != nil {
				return err
			}
		}
		return nil
	})
}
