package storetest

import (
	"database/sql"
	"errors"
	"testing"
	"time"

	"github.com/onlineca/onlineca/ra/store"
)

// owners has processes die that were working on requests.
func (s *suite) owners(t *testing.T) {
	s.now = time.Now().Truncate(time.Microsecond)
	first := s.own(t, s.store)
	s.claim.Owner = first.Name()
	sending, _ := s.begin(t, Request(t, "SEP1", "ciscora"), s.now)
	asked, _ := s.begin(t, Request(t, "SEP2", "ciscora"), s.now)
	asked.State, asked.ReqID, asked.Tries, asked.Next = store.Pending, 9, 3, s.now
	s.save(t, asked, first.Name())
	s.take(t, asked.ID, first.Name(), s.now)
	s.claim.Owner = "without a lock"
	other, _ := s.begin(t, Request(t, "SEP3", "ciscora"), s.now)

	if s.postgres {
		second := s.own(t, openStore(t, s.location))
		if n, err := second.Bury(t.Context(), s.now); n != 0 || err != nil {
			t.Errorf("%d requests of the living were taken up, %v", n, err)
		}
		s.release(t, second)
	} else if o, err := openStore(t, s.location).Own(t.Context()); !errors.Is(err, store.ErrOwned) {
		t.Errorf("a file has two owners: %v, %v", o, err)
	}

	s.release(t, first)
	second := s.own(t, openStore(t, s.location))
	defer s.release(t, second)
	got := s.record(t, sending.ID)
	sent := got.Submitted.Sub(s.now)
	if got.State != store.Unknown || got.LeaseOwner != "" || got.Tries != 0 || got.Next.After(time.Now()) || sent < 0 || s.postgres != (sent == s.claim.Lease) {
		t.Errorf("what was being submitted, %v ago: %+v", sent, got)
	}
	if got := s.record(t, asked.ID); got.State != store.Pending || got.LeaseOwner != "" || got.Tries != 3 || got.ReqID != 9 || !got.Submitted.Equal(asked.Submitted) {
		t.Errorf("what was being asked after: %+v", got)
	}
	// With PostgreSQL it may live: only its lease tells.
	if got := s.record(t, other.ID); s.postgres != (got.State == store.Submitting) {
		t.Errorf("of an owner without a lock: %+v", got)
	}
	for _, id := range []string{sending.ID, asked.ID} {
		if _, mine := s.take(t, id, second.Name(), time.Now()); !mine {
			t.Errorf("%s cannot be claimed", id)
		}
	}
	if s.postgres {
		s.cutOff(t, second, sending.ID)
	}
}

// cutOff breaks the connection that holds a living owner's lock. Another
// process takes its requests over; it takes the lock again.
func (s *suite) cutOff(t *testing.T, owner *store.Owner, id string) {
	t.Helper()
	db, err := sql.Open("pgx", s.location)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = db.Close() }() // only asked
	var ended bool
	if err := db.QueryRowContext(t.Context(), "SELECT pg_terminate_backend(pid, 10000) FROM pg_locks WHERE locktype = 'advisory'").Scan(&ended); err != nil || !ended {
		t.Fatal(ended, err)
	}
	third := s.own(t, openStore(t, s.location))
	defer s.release(t, third)
	if got := s.record(t, id); got.LeaseOwner != "" || got.State != store.Unknown {
		t.Errorf("its request: %+v", got)
	}
	if err := owner.Keep(t.Context()); err != nil {
		t.Error(err)
	}
	s.take(t, id, owner.Name(), time.Now())
	if n, err := third.Bury(t.Context(), time.Now()); n != 0 || err != nil {
		t.Errorf("with its lock back: %d requests were taken up, %v", n, err)
	}
}

func (s *suite) own(t *testing.T, at *store.Store) *store.Owner {
	t.Helper()
	o, err := at.Own(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return o
}

func (s *suite) release(t *testing.T, o *store.Owner) {
	t.Helper()
	if err := o.Close(); err != nil {
		t.Error(err)
	}
}

func (s *suite) record(t *testing.T, id string) store.Record {
	t.Helper()
	rec, err := s.store.Show(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	return rec
}
