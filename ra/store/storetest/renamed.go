package storetest

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/onlineca/onlineca/ra"
	"github.com/onlineca/onlineca/ra/fault"
	"github.com/onlineca/onlineca/ra/store"
)

// adopt: records under another name are still those of their requests.
func (s *suite) adopt(t *testing.T) {
	states := []store.State{store.Pending, store.Unknown, store.Issued, store.Failed}
	requests, ids := make([]ra.Request, len(states)), make([]string, len(states))
	for i, state := range states {
		requests[i] = Request(t, fmt.Sprint("SEP", i), "ciscora")
		rec, _ := s.begin(t, requests[i], s.now)
		if rec.State, rec.ReqID = state, i; state == store.Issued {
			rec = s.certificate(t, rec, requests[i])
		}
		s.save(t, rec, "process-1")
		ids[i] = rec.ID
	}
	var wg sync.WaitGroup
	for range 4 { // processes that start at the same moment
		at := openStore(t, s.location)
		wg.Go(func() {
			if _, err := at.Adopt(t.Context(), "ca", "ca (2)"); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	s.claim.Authority = "ca (2)"
	for i, state := range states {
		rec, mine := s.begin(t, requests[i], s.now.Add(time.Second))
		if rec.ID != ids[i] || mine != (state == store.Failed) || rec.Authority != "ca (2)" {
			t.Errorf("%s: %+v, %v", state, rec, mine)
		}
	}
	if n, err := s.store.Adopt(t.Context(), "ca", "ca (2)"); n != 0 || err != nil {
		t.Errorf("again: %d, %v", n, err)
	}
	if others, err := s.store.OpenElsewhere(t.Context(), "ca (2)"); err != nil || len(others) != 0 {
		t.Errorf("%v, %v", others, err)
	}
	if others, err := s.store.OpenElsewhere(t.Context(), "another"); err != nil || others["ca (2)"] != 3 {
		t.Errorf("%v, %v", others, err)
	}
}

// rewind: a certificate authority that was set up anew hands out low numbers
// again, and an answer that is lost then is found among those.
func (s *suite) rewind(t *testing.T) {
	old, anew := NewAuthority(t, 5000), NewAuthority(t, 1)
	at := &replaced{Authority: old}
	d, err := store.NewDurable(store.Config{Store: s.store, Next: at, Fetch: at, Authority: "ca", Patience: time.Minute, Grace: time.Nanosecond})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = d.Close(context.Background()) }()
	enrol := func(r ra.Request) (ra.Result, error) { return d.Enroll(t.Context(), r) }
	before, waiting := Request(t, "SEP1", "ciscora"), Request(t, "SEP2", "ciscora")
	if _, err := enrol(before); err != nil {
		t.Fatal(err)
	}
	old.Manual = true
	if res, err := enrol(waiting); err != nil || res.State != ra.Pending || res.ReqID != 5001 {
		t.Fatal(res, err)
	}
	at.Authority = anew
	if res, err := enrol(Request(t, "SEP3", "ciscora")); err != nil || res.ReqID != 1 {
		t.Fatal(res, err)
	}
	numbers, err := s.store.Numbers(t.Context(), "ca", 1)
	if err != nil || len(numbers) != 1 || !numbers[1] {
		t.Errorf("known by now: %v, %v", numbers, err)
	}
	lost := Request(t, "SEP4", "ciscora")
	anew.Answer = func(_ context.Context, _ ra.Request, arrived bool) error {
		if arrived {
			return fault.New(fault.OutcomeUnknown, "test", nil)
		}
		return nil
	}
	res, err := enrol(lost)
	if err != nil || res.ReqID != 2 || anew.Submissions("SEP4") != 1 {
		t.Errorf("%+v, %v after %d submissions", res, err, anew.Submissions("SEP4"))
	}
	all, err := s.store.List(t.Context(), store.Filter{Subject: "SEP2"})
	if err != nil || len(all) != 1 || all[0].State != store.Expired || all[0].Authority == "ca" {
		t.Errorf("what was pending: %+v, %v", all, err)
	}
	if res, err := enrol(before); err != nil || res.ReqID != 5000 {
		t.Errorf("what was issued does not answer any more: %+v, %v", res, err)
	}
}

// replaced is a certificate authority in place of another.
type replaced struct{ *Authority }
