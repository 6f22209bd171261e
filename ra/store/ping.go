package store

import (
	"context"
	"crypto/rand"
	"database/sql"
	"encoding/base64"
	"fmt"
	"sync"
	"time"

	"github.com/google/uuid"
)

// pingEvery is how long one answer of [Store.Ping] serves everybody who asks,
// so that many questions do not wear the disk.
const pingEvery = 5 * time.Second

// probeSize is how much a probe writes, in bytes: about what an enrolment adds
// to the tables, the indexes and the log, so that a disk which is full for one is
// full for the other. It is random, for what can be compressed takes no room.
const probeSize = 12 << 10

// probeLife is how long a probe may lie there whose process died.
const probeLife = time.Minute

// pinged is the last answer of [Store.Ping].
type pinged struct {
	mu  sync.Mutex
	at  time.Time
	err error
}

// Ping tells whether the database takes what is written to it: it commits a
// probe and removes it. A database that can be read and not written, because its
// disk is full or it has become read-only, can take no request. An answer is
// given again for five seconds.
func (s *Store) Ping(ctx context.Context) error {
	s.pinged.mu.Lock()
	defer s.pinged.mu.Unlock()
	now := time.Now()
	if !s.pinged.at.IsZero() && now.Sub(s.pinged.at) < pingEvery {
		return s.pinged.err
	}
	err := s.probe(ctx, now)
	if ctx.Err() == nil || err == nil {
		s.pinged.at = now
	}
	s.pinged.err = err
	return err
}

// probe writes and removes a row, in two transactions: what one transaction
// makes and removes need not reach the disk.
func (s *Store) probe(ctx context.Context, now time.Time) error {
	filler := make([]byte, probeSize)
	_, _ = rand.Read(filler) // crypto/rand ends the process rather than fail
	id := uuid.NewString()
	err := s.transact(ctx, "write to", func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, s.bind("INSERT INTO probes (id, written_at, filler) VALUES (?, ?, ?)"),
			id, stamp(now), base64.StdEncoding.EncodeToString(filler))
		return err
	})
	if err != nil {
		return err
	}
	return s.transact(ctx, "write to", func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, s.bind("DELETE FROM probes WHERE id = ? OR written_at < ?"), id, stamp(now.Add(-probeLife)))
		if err != nil {
			return fmt.Errorf("remove a probe: %w", err)
		}
		return nil
	})
}
