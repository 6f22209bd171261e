package store

import (
	"path/filepath"
	"testing"
	"testing/synctest"
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

// The highest number is remembered for a moment only: another process, an
// operator's command, may have corrected one that was wrong.
func TestHighestNumberOfAnotherProcess(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "requests.db")
		s, err := Open(t.Context(), path)
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		operator, err := Open(t.Context(), path)
		if err != nil {
			t.Fatal(err)
		}
		defer operator.Close()
		rec := begun(t, s, "1")
		if rec.AfterReqID != 0 {
			t.Fatalf("the first request comes after %d", rec.AfterReqID)
		}
		rec.State, rec.ReqID, rec.Serial = Issued, 70, "abc"
		if saved, err := s.Save(t.Context(), rec, "me"); err != nil || !saved {
			t.Fatal(saved, err)
		}
		if n := begun(t, s, "2").AfterReqID; n != 70 {
			t.Errorf("the second request comes after %d, want 70", n)
		}
		if _, err := operator.change(t.Context(), "UPDATE requests SET req_id = 7 WHERE id = ?", rec.ID); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * highestFor)
		if n := begun(t, s, "3").AfterReqID; n != 7 {
			t.Errorf("the third request comes after %d, want 7", n)
		}
		// What this process changes otherwise is noticed at once.
		if _, err := s.change(t.Context(), "UPDATE requests SET req_id = 5 WHERE id = ?", rec.ID); err != nil {
			t.Fatal(err)
		}
		if n := begun(t, s, "4").AfterReqID; n != 5 {
			t.Errorf("the fourth request comes after %d, want 5", n)
		}
	})
}
