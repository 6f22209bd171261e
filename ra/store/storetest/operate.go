package storetest

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/onlineca/onlineca/ra/store"
)

func (s *suite) roundTrip(t *testing.T) {
	r := Request(t, "SEP1", "DOMAIN\\cisco\x00ra")
	r.Label = "pho\xffnes"
	rec, _ := s.begin(t, r, s.now)
	rec = s.certificate(t, rec, r)
	rec.Code, rec.Message = "pending", "Denied by \x00 \xc3\x28 $1 ? 'quoted' \"so\""
	rec.Updated, rec.Next, rec.Tries = s.now.Add(time.Second), s.now.Add(time.Hour), 3
	if !s.save(t, rec, "process-1") {
		t.Fatal("not saved")
	}
	got, err := s.store.Show(t.Context(), rec.ID)
	if err != nil {
		t.Fatal(err)
	}
	want := rec
	want.Message = "Denied by \uFFFD \uFFFD( $1 ? 'quoted' \"so\""
	want.LeaseOwner, want.LeaseUntil = "", time.Time{}
	if diff := cmp.Diff(want, got, cmpopts.IgnoreUnexported(store.Record{})); diff != "" {
		t.Error(diff)
	}
	if !bytes.Equal(got.CSR, r.CSR.Raw) || got.Label != "pho\uFFFDnes" || got.ClientName != "DOMAIN\\cisco\uFFFDra" || len(got.CSRHash) != 64 {
		t.Errorf("%+v", got)
	}
	if csr, err := got.Request(); err != nil || !bytes.Equal(csr.Raw, r.CSR.Raw) {
		t.Error(err)
	}
}

// fill makes records of every state, SEP0 and on, a minute apart.
func (s *suite) fill(t *testing.T) []store.Record {
	t.Helper()
	var all []store.Record
	for i, state := range store.States() {
		now := s.now.Add(time.Duration(i) * time.Minute)
		rec, _ := s.begin(t, Request(t, fmt.Sprintf("SEP%d", i), []string{"ciscora", "100%_sure"}[i%2]), now)
		if state != store.Submitting {
			rec.State, rec.ReqID = state, 100+i
			if state == store.Issued {
				rec.Serial = "1a2b"
			}
			s.save(t, rec, "process-1")
		}
		all = append(all, rec)
	}
	return all
}

func (s *suite) list(t *testing.T) {
	s.fill(t)
	counts, err := s.store.Counts(t.Context())
	if err != nil || len(counts) != len(store.States()) || counts[store.Issued] != 1 {
		t.Errorf("%v, %v", counts, err)
	}
	for name, c := range map[string]struct {
		filter store.Filter
		want   []string
	}{
		"all":         {store.Filter{}, []string{"SEP0", "SEP1", "SEP2", "SEP3", "SEP4", "SEP5", "SEP6"}},
		"newest":      {store.Filter{Limit: 2}, []string{"SEP5", "SEP6"}},
		"states":      {store.Filter{States: []store.State{store.Denied, store.Pending}}, []string{"SEP2", "SEP4"}},
		"subject":     {store.Filter{Subject: "cn=sep3"}, []string{"SEP3"}},
		"client":      {store.Filter{Client: "100%_"}, []string{"SEP1", "SEP3", "SEP5"}},
		"no wildcard": {store.Filter{Client: "100_"}, nil},
		"serial":      {store.Filter{Serial: "1a2b"}, []string{"SEP3"}},
		"number":      {store.Filter{ReqID: 104}, []string{"SEP4"}},
		"time":        {store.Filter{Since: s.now.Add(2 * time.Minute), Until: s.now.Add(4 * time.Minute)}, []string{"SEP2", "SEP3"}},
		"together":    {store.Filter{Client: "CISCO", Since: s.now.Add(time.Minute), Limit: 9}, []string{"SEP2", "SEP4", "SEP6"}},
		"none":        {store.Filter{Subject: "'; DROP TABLE requests; --"}, nil},
	} {
		recs, err := s.store.List(t.Context(), c.filter)
		var got []string
		for _, r := range recs {
			got = append(got, r.Subject[len("CN="):])
		}
		if err != nil || fmt.Sprint(got) != fmt.Sprint(c.want) {
			t.Errorf("%s: %v, %v, want %v", name, got, err, c.want)
		}
	}
}

func (s *suite) show(t *testing.T) {
	all := s.fill(t)
	for _, id := range []string{all[3].ID, all[3].ID[:len(all[3].ID)-1]} {
		if got, err := s.store.Show(t.Context(), id); err != nil || got.ID != all[3].ID {
			t.Errorf("%s: %+v, %v", id, got, err)
		}
	}
	_, err := s.store.Show(t.Context(), all[0].ID[:1])
	if !errors.Is(err, store.ErrAmbiguous) || !strings.Contains(err.Error(), all[6].ID+" (CN=SEP6, expired)") || strings.Contains(err.Error(), all[0].ID) || !strings.Contains(err.Error(), "there are more") {
		t.Errorf("several: %v", err)
	}
	for _, id := range []string{"", "%", "zzz"} {
		if got, err := s.store.Show(t.Context(), id); !errors.Is(err, store.ErrNotFound) {
			t.Errorf("%q: %+v, %v", id, got, err)
		}
	}
}

// outcome says what a decision made of each state: "" if it was refused.
func (s *suite) outcome(t *testing.T, decide func(id string) (store.Record, error)) map[store.State]store.State {
	t.Helper()
	after := map[store.State]store.State{}
	for i, rec := range s.fill(t) {
		state := store.States()[i]
		got, err := decide(rec.ID)
		if err == nil {
			after[state] = got.State
		} else if now, _ := s.store.Show(t.Context(), rec.ID); now.State != state {
			t.Errorf("%s: refused (%v), but now it is %s", state, err, now.State)
		}
	}
	return after
}

func (s *suite) decide(t *testing.T) {
	fresh := func() time.Time { return s.now.Add(20 * time.Second) } // the submission is still claimed
	got := s.outcome(t, func(id string) (store.Record, error) { return s.store.Retry(t.Context(), id, fresh()) })
	want := map[store.State]store.State{
		store.Unknown: store.Failed, store.Pending: store.Pending, store.Denied: store.Failed,
		store.Failed: store.Failed, store.Expired: store.Failed,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("retry: %s", diff)
	}
	got = s.outcome(t, func(id string) (store.Record, error) { return s.store.Assign(t.Context(), id, 77, fresh()) })
	want = map[store.State]store.State{
		store.Unknown: store.Pending, store.Pending: store.Pending, store.Denied: store.Pending,
		store.Failed: store.Pending, store.Expired: store.Pending,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("assign: %s", diff)
	}
	got = s.outcome(t, func(id string) (store.Record, error) { return s.store.Forget(t.Context(), id, fresh()) })
	if len(got) != 6 || got[store.Submitting] != "" {
		t.Errorf("forget: %v", got)
	}
	if _, err := s.store.Assign(t.Context(), "x", 0, s.now); err == nil {
		t.Error("0 was taken for a number")
	}
	s.decideWhileAsked(t)
}

// decideWhileAsked refuses to interfere with a process at work.
func (s *suite) decideWhileAsked(t *testing.T) {
	rec, _ := s.begin(t, Request(t, "SEP9", "ciscora"), s.now)
	rec.State = store.Unknown
	s.save(t, rec, "process-1")
	s.take(t, rec.ID, "process-2", s.now)
	if _, err := s.store.Retry(t.Context(), rec.ID, s.now); err == nil {
		t.Error("a request was retried that a process is asking after")
	}
	r := Request(t, "SEP10", "ciscora")
	dead, _ := s.begin(t, r, s.now)
	if got, err := s.store.Retry(t.Context(), dead.ID, s.now.Add(time.Hour)); err != nil || got.State != store.Failed {
		t.Errorf("%+v, %v: its process is dead", got, err)
	}
	if again, mine := s.begin(t, r, s.now.Add(time.Hour)); !mine || again.ID != dead.ID {
		t.Errorf("%+v, %v", again, mine)
	}
	forgotten, err := s.store.Forget(t.Context(), rec.ID, s.now.Add(time.Hour))
	if err != nil || forgotten.ID != rec.ID {
		t.Error(err)
	}
	if _, err := s.store.Show(t.Context(), rec.ID); !errors.Is(err, store.ErrNotFound) {
		t.Error(err)
	}
}
