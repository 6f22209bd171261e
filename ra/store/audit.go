package store

import (
	"context"
	"database/sql"
	"encoding/json"
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

// OpenAudit opens an audit log for appending, readable by its owner alone.
func OpenAudit(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, fault.New(fault.DiskFull, "open the audit log", err)
	}
	return f, nil
}

// audit writes a line for every certificate. A line is written before that is
// noted in the database, so after a crash a certificate can have two lines,
// which its serial number shows; it never has none.
type audit struct {
	store *Store
	w     io.Writer // nil for no log

	mu    sync.Mutex
	queue []Record // issued by this process, no line yet
}

// add queues a certificate that this process has got.
func (a *audit) add(r Record) {
	if a.w == nil {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.queue = append(a.queue, r)
}

// flush writes what is queued.
func (a *audit) flush(ctx context.Context) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if err := a.write(ctx, a.queue); err != nil {
		return err
	}
	a.queue = nil
	return nil
}

// leftovers writes the lines of certificates that were saved before a time and
// have none: the process that got them died, or had no audit log.
func (a *audit) leftovers(ctx context.Context, before time.Time) error {
	if a.w == nil {
		return nil
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	records, err := a.store.unaudited(ctx, before)
	if err != nil {
		return err
	}
	return a.write(ctx, records)
}

func (a *audit) write(ctx context.Context, records []Record) error {
	if len(records) == 0 {
		return nil
	}
	for _, r := range records {
		line, err := json.Marshal(AuditLine{
			Time: r.Updated, Serial: r.Serial, Subject: r.Subject, NotAfter: r.NotAfter,
			Client: r.ClientName, ClientMethod: r.ClientMethod, ClientAddr: r.ClientAddr,
			Operation: string(r.Operation), Label: r.Label, Template: r.Template,
			ReqID: r.ReqID, CSRHash: r.CSRHash, Record: r.ID,
		})
		if err != nil {
			return fmt.Errorf("store: write the audit log: %w", err)
		}
		if _, err := a.w.Write(append(line, '\n')); err != nil {
			return fault.New(fault.DiskFull, "store: write the audit log", err)
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

const updateAudited = "UPDATE requests SET audited = 1 WHERE id = ?"

func (s *Store) setAudited(ctx context.Context, records []Record) error {
	if !s.postgres {
		return s.quick(ctx, "write to", func(l *lite) error {
			for _, r := range records {
				if _, err := l.exec(updateAudited, r.ID); err != nil {
					return err
				}
			}
			return nil
		})
	}
	return s.transact(ctx, "write to", func(tx *sql.Tx) error {
		set := s.in(ctx, tx, updateAudited)
		for _, r := range records {
			if _, err := set.ExecContext(ctx, r.ID); err != nil {
				return err
			}
		}
		return nil
	})
}
