package store

import (
	"errors"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/onlineca/onlineca/ra/fault"
)

// again lets the next Ping ask the database.
func (s *Store) again() { s.pinged.at = time.Time{} }

// A database whose disk is full can be read, and is not well. SQLite says the
// same of a limit to its pages as of a full disk: SQLITE_FULL.
func TestPingFindsAFullDisk(t *testing.T) {
	s, err := Open(t.Context(), filepath.Join(t.TempDir(), "requests.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if err := s.Ping(t.Context()); err != nil {
		t.Fatal(err)
	}
	limit := func(pages string) {
		t.Helper()
		s.again()
		// The free pages that a probe leaves behind are room as well.
		for _, stmt := range []string{"VACUUM", "PRAGMA max_page_count = " + pages} {
			if _, err := s.group.conn.ExecContext(t.Context(), stmt); err != nil {
				t.Fatal(err)
			}
		}
	}
	limit("1") // SQLite makes it as many as there are
	err = s.Ping(t.Context())
	if !errors.Is(err, fault.DiskFull) || !strings.Contains(err.Error(), "full") {
		t.Errorf("%v", err)
	}
	if _, err := s.Counts(t.Context()); err != nil {
		t.Errorf("it cannot be read either: %v", err)
	}
	limit("1000000")
	if err := s.Ping(t.Context()); err != nil {
		t.Errorf("after the disk was cleared: %v", err)
	}
}

// However often it is asked, little is written, and nothing stays.
func TestPingIsThrottled(t *testing.T) {
	s, err := Open(t.Context(), filepath.Join(t.TempDir(), "requests.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	changes := func() (n int) {
		t.Helper()
		if err := s.group.conn.QueryRowContext(t.Context(), "SELECT total_changes()").Scan(&n); err != nil {
			t.Fatal(err)
		}
		return n
	}
	before := changes()
	for range 100 {
		if err := s.Ping(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if n := changes() - before; n != 2 {
		t.Errorf("%d rows changed, want one written and removed", n)
	}
	left := -1
	if err := s.group.conn.QueryRowContext(t.Context(), "SELECT COUNT(*) FROM probes").Scan(&left); err != nil || left != 0 {
		t.Errorf("%d probes are left, %v", left, err)
	}
	pages := func() (n int) {
		t.Helper()
		if err := s.group.conn.QueryRowContext(t.Context(), "PRAGMA page_count").Scan(&n); err != nil {
			t.Fatal(err)
		}
		return n
	}
	was := pages()
	for range 50 {
		s.again()
		if err := s.Ping(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if n := pages(); n != was {
		t.Errorf("50 probes made %d pages %d", was, n)
	}
}
