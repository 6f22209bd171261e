package storetest

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/onlineca/onlineca/ra"
	"github.com/onlineca/onlineca/ra/fault"
	"github.com/onlineca/onlineca/ra/store"
)

func (s *suite) once(t *testing.T) {
	r := Request(t, "SEP1", "ciscora")
	rec, mine := s.begin(t, r, s.now)
	if !mine || rec.State != store.Submitting || rec.Attempts != 1 || rec.LeaseOwner != "process-1" {
		t.Errorf("%+v, %v", rec, mine)
	}
	again, mine := s.begin(t, r, s.now.Add(30*time.Second))
	if mine || again.ID != rec.ID || again.State != store.Submitting {
		t.Errorf("%+v, %v", again, mine)
	}
	for name, other := range map[string]func(*ra.Request){
		"client":    func(r *ra.Request) { r.Client.Name = "somebody" },
		"method":    func(r *ra.Request) { r.Client.Method = "certificate" },
		"label":     func(r *ra.Request) { r.Label = "routers" },
		"template":  func(r *ra.Request) { r.Template = "WebServer" },
		"operation": func(r *ra.Request) { r.Operation = ra.Reenroll },
		"request":   func(r *ra.Request) { r.CSR = Request(t, "SEP1", "").CSR },
	} {
		o := r
		other(&o)
		if _, mine := s.begin(t, o, s.now); !mine {
			t.Errorf("another %s is another request", name)
		}
	}
	r.Client.Addr = "192.0.2.8:9"
	if _, mine := s.begin(t, r, s.now); mine {
		t.Error("another address does not make another request")
	}
}

func (s *suite) race(t *testing.T) {
	r := Request(t, "SEP1", "ciscora")
	stores := []*store.Store{s.store, openStore(t, s.location)}
	var mine atomic.Int32
	var all sync.WaitGroup
	for i := range 16 {
		all.Go(func() {
			c := s.claim
			c.Owner = fmt.Sprint("process-", i)
			_, m, err := stores[i%2].Begin(t.Context(), r, c, s.now)
			if err != nil {
				t.Error(err)
			}
			if m {
				mine.Add(1)
			}
		})
	}
	all.Wait()
	if mine.Load() != 1 {
		t.Errorf("%d processes may submit", mine.Load())
	}
	if recs, err := s.store.List(t.Context(), store.Filter{}); err != nil || len(recs) != 1 {
		t.Errorf("%d records, %v", len(recs), err)
	}
}

// spoilt begins many requests at once, some of whose clients are gone. Changes
// that share a transaction must not share a failure.
func (s *suite) spoilt(t *testing.T) {
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	requests := make([]ra.Request, 40)
	for i := range requests {
		requests[i] = Request(t, fmt.Sprint("SEP", i), "ciscora")
	}
	var all sync.WaitGroup
	for i, r := range requests {
		all.Go(func() {
			if i%4 == 0 {
				if _, mine, err := s.store.Begin(gone, r, s.claim, s.now); mine || !errors.Is(err, fault.Canceled) {
					t.Errorf("%d: %v, %v", i, mine, err)
				}
			} else if _, mine, err := s.store.Begin(t.Context(), r, s.claim, s.now); !mine || err != nil {
				t.Errorf("%d: %v, %v", i, mine, err)
			}
		})
	}
	all.Wait()
	if recs, err := s.store.List(t.Context(), store.Filter{}); err != nil || len(recs) != 30 {
		t.Errorf("%d records, %v", len(recs), err)
	}
}

// cancelled changes records while those who want it go away, at any moment of
// it. Whoever comes afterwards finds the database as usable as before.
func (s *suite) cancelled(t *testing.T) {
	rec, _ := s.begin(t, Request(t, "SEP1", "ciscora"), s.now)
	n := 400
	if s.postgres {
		n = 40 // each costs a connection, and the server makes no more than so many at once
	}
	for i := range n {
		ctx, cancel := context.WithCancel(t.Context())
		gone := time.AfterFunc(time.Duration(i%40)*5*time.Microsecond, cancel)
		_, _, err := s.store.Claim(ctx, rec.ID, s.claim, s.now)
		if err != nil && !errors.Is(err, fault.Canceled) {
			t.Errorf("after %d changes: %v", i, err)
		}
		gone.Stop()
		cancel()
		if t.Failed() {
			return
		}
	}
	if _, _, err := s.store.Claim(t.Context(), rec.ID, s.claim, s.now); err != nil {
		t.Error(err)
	}
}

func (s *suite) issued(t *testing.T) {
	r := Request(t, "SEP1", "ciscora")
	rec, _ := s.begin(t, r, s.now)
	if !s.save(t, s.certificate(t, rec, r), "process-1") {
		t.Fatal("not saved")
	}
	again, mine := s.begin(t, r, s.now.Add(59*time.Minute))
	if mine || again.State != store.Issued || again.ReqID != 7 || again.Serial != "1007" || again.LeaseOwner != "" {
		t.Errorf("%+v, %v", again, mine)
	}
	anew, mine := s.begin(t, r, s.now.Add(61*time.Minute))
	if !mine || anew.ID == rec.ID || anew.AfterReqID != 7 || !anew.Current {
		t.Errorf("%+v, %v", anew, mine)
	}
	recs, err := s.store.List(t.Context(), store.Filter{States: []store.State{store.Issued}})
	if err != nil || len(recs) != 1 || recs[0].Current {
		t.Errorf("the first certificate is not on record any more: %+v, %v", recs, err)
	}
	// One that has run out does not answer, however long it is kept.
	short := Request(t, "SEP2", "ciscora")
	rec, _ = s.begin(t, short, s.now)
	rec = s.certificate(t, rec, short)
	rec.NotAfter = s.now.Add(time.Minute)
	s.save(t, rec, "process-1")
	if _, mine := s.begin(t, short, s.now.Add(2*time.Minute)); !mine {
		t.Error("an expired certificate answers")
	}
}

func (s *suite) dead(t *testing.T) {
	r := Request(t, "SEP1", "ciscora")
	s.begin(t, r, s.now)
	if rec, mine := s.begin(t, r, s.now.Add(time.Minute)); mine || rec.State != store.Unknown || rec.LeaseOwner != "" {
		t.Errorf("%+v, %v: it must be settled before it is submitted again", rec, mine)
	}
	if rec, mine := s.begin(t, r, s.now.Add(48*time.Hour)); mine || rec.State != store.Unknown {
		t.Errorf("%+v, %v: time alone settles nothing", rec, mine)
	}
}

func (s *suite) again(t *testing.T) {
	r := Request(t, "SEP1", "ciscora")
	first, _ := s.begin(t, r, s.now)
	first.State, first.Code, first.Message = store.Failed, "bad-credentials", "no"
	s.save(t, first, "process-1")
	second, mine := s.begin(t, r, s.now.Add(time.Second))
	if !mine || second.ID != first.ID || second.Attempts != 2 || !second.Created.Equal(first.Created) || second.Code != "" {
		t.Errorf("%+v, %v", second, mine)
	}
	for _, end := range []store.State{store.Denied, store.Expired} {
		second.State = end
		s.save(t, second, "process-1")
		third, mine := s.begin(t, r, s.now.Add(time.Minute))
		if !mine || third.ID == second.ID || third.Attempts != 1 {
			t.Errorf("after %s: %+v, %v", end, third, mine)
		}
		second = third
	}
}

func (s *suite) lostClaim(t *testing.T) {
	r := Request(t, "SEP1", "ciscora")
	rec, _ := s.begin(t, r, s.now)
	s.begin(t, r, s.now.Add(2*time.Minute)) // it is unknown now
	late := rec
	late.State = store.Failed
	if s.save(t, late, "process-1") {
		t.Error("a process that has lost its claim changed the record")
	}
	if held, err := s.store.Extend(t.Context(), rec.ID, "process-1", s.now.Add(time.Hour)); held || err != nil {
		t.Errorf("a lost claim was extended: %v", err)
	}
	if !s.save(t, s.certificate(t, rec, r), "process-1") {
		t.Error("the certificate was thrown away")
	}
	second := s.certificate(t, rec, Request(t, "SEP1", "ciscora"))
	if s.save(t, second, "process-1") {
		t.Error("a certificate was overwritten")
	}
}

func (s *suite) take(t *testing.T, id, owner string, now time.Time) (store.Record, bool) {
	t.Helper()
	c := s.claim
	c.Owner = owner
	rec, mine, err := s.store.Claim(t.Context(), id, c, now)
	if err != nil {
		t.Fatal(err)
	}
	return rec, mine
}

func (s *suite) claims(t *testing.T) {
	r := Request(t, "SEP1", "ciscora")
	rec, _ := s.begin(t, r, s.now)
	if _, mine := s.take(t, rec.ID, "process-2", s.now); mine {
		t.Error("a request that is being submitted was claimed")
	}
	now := s.now.Add(2 * time.Minute)
	got, mine := s.take(t, rec.ID, "process-2", now)
	if !mine || got.State != store.Unknown {
		t.Errorf("%+v, %v", got, mine)
	}
	if _, mine := s.take(t, rec.ID, "process-3", now); mine {
		t.Error("two processes claimed it")
	}
	if held, err := s.store.Extend(t.Context(), rec.ID, "process-2", now.Add(time.Hour)); !held || err != nil {
		t.Errorf("%v, %v", held, err)
	}
	if _, mine := s.take(t, rec.ID, "process-3", now.Add(30*time.Minute)); mine {
		t.Error("the extension does not hold")
	}
	got.State, got.ReqID = store.Denied, 9
	s.save(t, got, "process-2")
	if rec, mine := s.take(t, rec.ID, "process-3", now.Add(2*time.Hour)); mine || rec.State != store.Denied {
		t.Errorf("a settled request was claimed: %+v", rec)
	}
	if _, mine := s.take(t, "no-such-id", "process-3", now); mine {
		t.Error("a record that is not there was claimed")
	}
}

func (s *suite) due(t *testing.T) {
	set := func(device string, state store.State, next time.Time) string {
		rec, _ := s.begin(t, Request(t, device, "ciscora"), s.now)
		rec.State, rec.Next = state, next
		s.save(t, rec, "process-1")
		return rec.ID
	}
	second := set("SEP2", store.Pending, s.now.Add(20*time.Second))
	first := set("SEP1", store.Unknown, s.now.Add(10*time.Second))
	set("SEP3", store.Pending, s.now.Add(time.Hour))
	set("SEP4", store.Issued, s.now)
	set("SEP5", store.Denied, s.now)
	dead, _ := s.begin(t, Request(t, "SEP6", "ciscora"), s.now)
	foreign := s.claim
	foreign.Authority = "another"
	if _, _, err := s.store.Begin(t.Context(), Request(t, "SEP7", "ciscora"), foreign, s.now); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		after time.Duration
		limit int
		want  []string
	}{
		{0, 9, nil},
		{30 * time.Second, 9, []string{first, second}},
		{30 * time.Second, 1, []string{first}},
		{time.Minute, 9, []string{dead.ID, first, second}},
	} {
		got, err := s.store.Due(t.Context(), "ca", s.now.Add(c.after), c.limit)
		if err != nil || fmt.Sprint(got) != fmt.Sprint(c.want) {
			t.Errorf("after %v: %v, %v, want %v", c.after, got, err, c.want)
		}
	}
}

func (s *suite) numbers(t *testing.T) {
	for i, device := range []string{"SEP1", "SEP2", "SEP3"} {
		rec, _ := s.begin(t, Request(t, device, "ciscora"), s.now)
		if want := []int{0, 40, 42}[i]; rec.AfterReqID != want {
			t.Errorf("%s comes after %d, want %d", device, rec.AfterReqID, want)
		}
		rec.State, rec.ReqID = store.Pending, []int{40, 42, 41}[i]
		s.save(t, rec, "process-1")
	}
	known, err := s.store.Numbers(t.Context(), "ca", 41)
	if err != nil || len(known) != 2 || !known[41] || !known[42] {
		t.Errorf("%v, %v", known, err)
	}
	if known, err := s.store.Numbers(t.Context(), "another", 0); err != nil || len(known) != 0 {
		t.Errorf("%v, %v", known, err)
	}
}

func (s *suite) openings(t *testing.T) {
	at := s.location
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			again, err := store.Open(t.Context(), at)
			if err != nil {
				t.Error(err)
				return
			}
			if err := errors.Join(again.Ping(t.Context()), again.Close()); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
}

func (s *suite) processes(t *testing.T) {
	release := make(chan struct{})
	s.ca.Answer = func(ctx context.Context, _ ra.Request, arrived bool) error {
		if arrived {
			<-release
		}
		return nil
	}
	var processes []*store.Durable
	for _, at := range []*store.Store{s.store, openStore(t, s.location)} {
		d, err := store.NewDurable(store.Config{Store: at, Next: s.ca, Fetch: s.ca, Authority: "ca", Patience: time.Minute})
		if err != nil {
			t.Fatal(err)
		}
		processes = append(processes, d)
	}
	r := Request(t, "SEP1", "ciscora")
	results := make(chan ra.Result, 8)
	for i := range 8 {
		go func() {
			res, err := processes[i%2].Enroll(t.Context(), r)
			if err != nil {
				t.Error(err)
			}
			results <- res
		}()
	}
	close(release)
	for range 8 {
		if res := <-results; res.ReqID != 7 || res.Certificate == nil {
			t.Errorf("%+v", res)
		}
	}
	if n := s.ca.Submissions("SEP1"); n != 1 {
		t.Errorf("submitted %d times", n)
	}
	for _, d := range processes {
		if err := d.Close(t.Context()); err != nil {
			t.Error(err)
		}
	}
}

func (s *suite) closed(t *testing.T) {
	at, err := store.Open(t.Context(), s.location)
	if err != nil {
		t.Fatal(err)
	}
	if err := at.Close(); err != nil {
		t.Fatal(err)
	}
	want := fault.DiskFull
	if store.IsPostgres(s.location) {
		want = fault.Database
	}
	_, _, err = at.Begin(t.Context(), Request(t, "SEP1", "ciscora"), s.claim, s.now)
	if !errors.Is(err, want) {
		t.Error(err)
	}
	if err := at.Ping(t.Context()); !errors.Is(err, want) {
		t.Error(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.store.List(ctx, store.Filter{}); !errors.Is(err, fault.Canceled) {
		t.Error(err)
	}
}
