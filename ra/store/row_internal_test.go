package store

import (
	"path/filepath"
	"testing"
	"time"
)

// begun is a request of a client that has been begun.
func begun(t *testing.T, s *Store, name string) Record {
	t.Helper()
	_, r := costly(t)
	r.Client.Name = name
	rec, mine, err := s.Begin(t.Context(), r, Claim{Owner: "me", Lease: time.Minute, Authority: "ca"}, time.Now())
	if err != nil || !mine {
		t.Fatal(mine, err)
	}
	return rec
}

// A record is saved by its row's number; a file that has been rewritten meanwhile
// has other numbers, and another record's row is left alone.
func TestRowsOfAFileThatWasRewritten(t *testing.T) {
	s, err := Open(t.Context(), filepath.Join(t.TempDir(), "requests.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	first, second, third := begun(t, s, "1"), begun(t, s, "2"), begun(t, s, "3")
	for _, text := range []string{"DELETE FROM requests WHERE rowid = 1", "UPDATE requests SET rowid = 1 WHERE rowid = 2", "UPDATE requests SET rowid = 2 WHERE rowid = 3"} {
		if _, err := s.group.conn.ExecContext(t.Context(), text); err != nil {
			t.Fatal(err)
		}
	}
	if first.row != 1 || second.row != 2 || third.row != 3 {
		t.Fatalf("rows %d, %d and %d: the test proves nothing", first.row, second.row, third.row)
	}
	for i, rec := range []Record{second, third} {
		rec.State, rec.ReqID, rec.Serial = Issued, 7+i, "abc"
		if saved, err := s.Save(t.Context(), rec, "me"); err != nil || !saved {
			t.Fatal(saved, err)
		}
	}
	for i, id := range []string{second.ID, third.ID} {
		if rec, err := s.Show(t.Context(), id); err != nil || rec.State != Issued || rec.ReqID != 7+i {
			t.Errorf("%+v, %v", rec, err)
		}
	}
}
