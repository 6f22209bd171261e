package store_test

import (
	"context"
	"crypto/x509"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/onlineca/onlineca/ra"
	"github.com/onlineca/onlineca/ra/fault"
	"github.com/onlineca/onlineca/ra/store"
	"github.com/onlineca/onlineca/ra/store/storetest"
)

func TestALostAnswerIsFoundAgainAtOnce(t *testing.T) {
	for _, err := range []error{
		lost(),
		fault.New(fault.EnrollTimeout, "submit", context.DeadlineExceeded),
		fault.New(fault.PageUnreadable, "submit", fault.OutcomeUnknown),
		errors.New("an error that nobody knows"),
	} {
		durable(t, 7, nil, func(t *testing.T, b *bench) {
			b.enroll(storetest.Request(t, "SEP0", "ciscora"))
			b.ca.Others(t, 40)
			b.ca.Answer = failing(true, err)
			r := storetest.Request(t, "SEP1", "ciscora")
			start := time.Now()
			if res := b.enroll(r); res.ReqID != 48 || time.Since(start) != 0 {
				t.Errorf("%v: %+v after %v", err, res, time.Since(start))
			}
			b.submissions("SEP1", 1)
			b.state("SEP1", store.Issued)
		})
	}
}

func TestARequestThatNeverArrivedIsSubmittedAgainOnlyWhenThatIsCertain(t *testing.T) {
	durable(t, 7, nil, func(t *testing.T, b *bench) {
		b.enroll(storetest.Request(t, "SEP0", "ciscora"))
		b.ca.Answer = failing(false, lost())
		r := storetest.Request(t, "SEP1", "ciscora")
		if f := b.refused(r, fault.InProgress); f.RetryAfter < 5*time.Second {
			t.Errorf("%v", f)
		}
		b.ca.Answer = nil
		b.sleep(time.Minute)
		b.refused(r, fault.InProgress)
		b.submissions("SEP1", 0) // it may still be on its way
		b.sleep(2 * time.Minute)
		b.state("SEP1", store.Failed)
		b.submissions("SEP1", 0) // and nobody has asked since
		b.enroll(r)
		b.submissions("SEP1", 1)
	})
}

func TestOneAskIsOneSubmission(t *testing.T) {
	durable(t, 7, func(c *store.Config) { c.Grace = time.Nanosecond }, func(t *testing.T, b *bench) {
		b.enroll(storetest.Request(t, "SEP0", "ciscora"))
		asked := 0
		b.ca.Answer = func(_ context.Context, _ ra.Request, arrived bool) error {
			if asked++; !arrived {
				time.Sleep(time.Millisecond)
			}
			return lost()
		}
		b.refused(storetest.Request(t, "SEP1", "ciscora"), fault.InProgress)
		if asked != 1 {
			t.Errorf("submitted %d times", asked)
		}
	})
}

func TestARequestThatArrivesLateIsFound(t *testing.T) {
	durable(t, 7, nil, func(t *testing.T, b *bench) {
		b.enroll(storetest.Request(t, "SEP0", "ciscora"))
		b.ca.Answer = failing(false, lost())
		r := storetest.Request(t, "SEP1", "ciscora")
		b.refused(r, fault.InProgress)
		b.ca.Answer = nil
		b.sleep(80 * time.Second)
		if _, err := b.ca.Enroll(t.Context(), r); err != nil { // IIS lets go of it
			t.Fatal(err)
		}
		b.sleep(2 * time.Minute)
		b.state("SEP1", store.Issued)
		b.enroll(r)
		b.submissions("SEP1", 1)
	})
}

func TestADeadProcessLosesNothing(t *testing.T) {
	for arrived, submissions := range map[bool]int{false: 0, true: 1} {
		durable(t, 7, nil, func(t *testing.T, b *bench) {
			b.enroll(storetest.Request(t, "SEP0", "ciscora"))
			r := storetest.Request(t, "SEP1", "ciscora")
			dead := store.Claim{Owner: "dead", Lease: 30 * time.Second, Authority: "ca", Keep: time.Hour}
			if _, mine, err := b.store.Begin(t.Context(), r, dead, time.Now()); err != nil || !mine {
				t.Fatal(mine, err)
			}
			if arrived {
				if _, err := b.ca.Enroll(t.Context(), r); err != nil {
					t.Fatal(err)
				}
			}
			b.refused(r, fault.InProgress)
			b.submissions("SEP1", submissions)
			b.sleep(4 * time.Minute)
			b.enroll(r)
			b.submissions("SEP1", 1)
		})
	}
}

func TestWithoutAnyNumberToStartFrom(t *testing.T) {
	// A small authority: its numbers can be seen whole, from 1 to the end.
	durable(t, 1, nil, func(t *testing.T, b *bench) {
		b.ca.Others(t, 30)
		b.ca.Answer = failing(true, lost())
		if res := b.enroll(storetest.Request(t, "SEP1", "ciscora")); res.ReqID != 31 {
			t.Errorf("%+v", res)
		}
		b.ca.Answer = nil
	})
	durable(t, 1, nil, func(t *testing.T, b *bench) {
		b.ca.Others(t, 1)
		b.ca.Answer = failing(false, lost())
		r := storetest.Request(t, "SEP1", "ciscora")
		b.refused(r, fault.InProgress)
		b.ca.Answer = nil
		b.sleep(4 * time.Minute)
		b.enroll(r)
		b.submissions("SEP1", 1)
	})
	// A large one whose old rows are gone: nothing is certain until a number
	// from about that time is known.
	durable(t, 70_000, nil, func(t *testing.T, b *bench) {
		b.ca.Answer = failing(true, lost())
		r := storetest.Request(t, "SEP1", "ciscora")
		b.refused(r, fault.InProgress)
		b.sleep(time.Hour)
		if f := b.refused(r, fault.OutcomeUnknown); !strings.Contains(f.Error(), b.record("SEP1").ID) {
			t.Errorf("%v does not name the record", f)
		}
		b.submissions("SEP1", 1)
		b.ca.Answer = nil
		b.enroll(storetest.Request(t, "SEP2", "ciscora"))
		b.sleep(11 * time.Minute)
		if res := b.enroll(r); res.ReqID != 70_000 {
			t.Errorf("%+v", res)
		}
		b.submissions("SEP1", 1)
	})
}

func TestAnOperatorSettlesWhatCannotBe(t *testing.T) {
	durable(t, 70_000, nil, func(t *testing.T, b *bench) {
		b.ca.Answer = failing(true, lost())
		one, two := storetest.Request(t, "SEP1", "ciscora"), storetest.Request(t, "SEP2", "ciscora")
		b.refused(one, fault.InProgress)
		b.ca.Answer = failing(false, lost())
		b.refused(two, fault.InProgress)
		b.ca.Answer = nil
		b.sleep(time.Hour)
		for device, settle := range map[string]func(id string) (store.Record, error){
			"SEP1": func(id string) (store.Record, error) { return b.store.Assign(t.Context(), id, 70_000, time.Now()) },
			"SEP2": func(id string) (store.Record, error) { return b.store.Retry(t.Context(), id, time.Now()) },
		} {
			if _, err := settle(b.record(device).ID); err != nil {
				t.Error(err)
			}
		}
		if res := b.enroll(one); res.ReqID != 70_000 {
			t.Errorf("%+v", res)
		}
		b.enroll(two)
		b.submissions("SEP1", 1)
		b.submissions("SEP2", 1)
	})
}

func TestALostAnswerOfAPendingRequest(t *testing.T) {
	durable(t, 7, slowly, func(t *testing.T, b *bench) {
		b.enroll(storetest.Request(t, "SEP0", "ciscora"))
		b.ca.Manual = true
		b.ca.Answer = failing(true, lost())
		r := storetest.Request(t, "SEP1", "ciscora")
		b.refused(r, fault.InProgress)
		b.sleep(24 * time.Hour)
		b.state("SEP1", store.Unknown) // 8 is pending, but whose is it?
		if f := b.refused(r, fault.OutcomeUnknown); !strings.Contains(f.Error(), "[8]") {
			t.Error(f)
		}
		b.ca.Approve(t)
		b.sleep(13 * time.Minute)
		if res := b.enroll(r); res.ReqID != 8 {
			t.Errorf("%+v", res)
		}
		b.submissions("SEP1", 1)
	})
}

func TestTheSearchIsBoundedAndGoesOnWhereItStopped(t *testing.T) {
	durable(t, 7, func(c *store.Config) { c.ScanLimit = 50 }, func(t *testing.T, b *bench) {
		b.enroll(storetest.Request(t, "SEP0", "ciscora"))
		b.ca.Others(t, 170)
		b.ca.Answer = failing(true, lost())
		r := storetest.Request(t, "SEP1", "ciscora")
		before := b.ca.Fetches()
		b.refused(r, fault.InProgress)
		if n := b.ca.Fetches() - before; n != 50 {
			t.Errorf("looked at %d numbers", n)
		}
		b.sleep(time.Minute)
		b.state("SEP1", store.Issued)
		if n := b.ca.Fetches() - before; n != 171 {
			t.Errorf("looked at %d numbers in all", n)
		}
		if res := b.enroll(r); res.ReqID != 178 {
			t.Errorf("%+v", res)
		}
	})
}

func TestAnAuthorityThatIsDownSettlesNothing(t *testing.T) {
	durable(t, 7, func(c *store.Config) { c.Fetch = down{} }, func(t *testing.T, b *bench) {
		b.enroll(storetest.Request(t, "SEP0", "ciscora"))
		b.ca.Answer = failing(false, lost())
		b.refused(storetest.Request(t, "SEP1", "ciscora"), fault.InProgress)
		b.sleep(time.Hour)
		b.state("SEP1", store.Unknown)
		if rec := b.record("SEP1"); rec.Code != "connection-refused" || time.Until(rec.Next) <= 0 {
			t.Errorf("%+v", rec)
		}
	})
}

type down struct{}

func (down) Fetch(context.Context, int, *x509.CertificateRequest) (ra.Result, error) {
	return ra.Result{}, fault.New(fault.ConnectionRefused, "fetch", nil)
}

// A request that has waited for its turn was sent long after it was written
// down: the time in which it can still turn up begins then.
func TestTheGraceBeginsWhenItCanHaveBeenSent(t *testing.T) {
	arrivesLate := func(t *testing.T, b *bench, r ra.Request) {
		b.ca.Answer = nil
		b.sleep(70 * time.Second)
		b.refused(r, fault.InProgress)
		if _, err := b.ca.Enroll(t.Context(), r); err != nil { // IIS lets go of it
			t.Fatal(err)
		}
		b.sleep(3 * time.Minute)
		b.enroll(r)
		b.submissions("SEP1", 1)
	}
	t.Run("of a process that lives", func(t *testing.T) {
		durable(t, 7, nil, func(t *testing.T, b *bench) {
			b.enroll(storetest.Request(t, "SEP0", "ciscora"))
			b.ca.Answer = func(context.Context, ra.Request, bool) error { time.Sleep(3 * time.Minute); return lost() }
			r := storetest.Request(t, "SEP1", "ciscora")
			b.refused(r, fault.InProgress)
			b.sleep(3 * time.Minute)
			b.state("SEP1", store.Unknown)
			arrivesLate(t, b, r)
		})
	})
	t.Run("of a process that died", func(t *testing.T) {
		durable(t, 7, nil, func(t *testing.T, b *bench) {
			b.enroll(storetest.Request(t, "SEP0", "ciscora"))
			r := storetest.Request(t, "SEP1", "ciscora")
			dead := store.Claim{Owner: "dead", Lease: 30 * time.Second, Authority: "ca", Keep: time.Hour}
			rec, mine, err := b.store.Begin(t.Context(), r, dead, time.Now())
			if err != nil || !mine {
				t.Fatal(mine, err)
			}
			for range 18 { // three minutes
				if held, err := b.store.Extend(t.Context(), rec.ID, dead.Owner, time.Now().Add(dead.Lease)); err != nil || !held {
					t.Fatal(held, err)
				}
				b.sleep(10 * time.Second)
			}
			arrivesLate(t, b, r)
		})
	})
}

// The owner of a request dies while it is being submitted. With the next one it
// is looked for at once, and what the authority has issued is delivered at the
// first contact, whenever that is; only its absence takes the grace to prove.
func TestADeadOwnersRequestsAreSettledAtOnce(t *testing.T) {
	for _, arrived := range []time.Duration{-time.Second, 20 * time.Second, time.Hour} {
		durable(t, 7, nil, func(t *testing.T, b *bench) {
			b.enroll(storetest.Request(t, "SEP0", "ciscora"))
			own := func() *store.Owner {
				o, err := b.store.Own(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				return o
			}
			dead := own()
			r := storetest.Request(t, "SEP1", "ciscora")
			claim := store.Claim{Owner: dead.Name(), Lease: 30 * time.Second, Authority: "ca", Keep: time.Hour}
			if _, mine, err := b.store.Begin(t.Context(), r, claim, time.Now()); err != nil || !mine {
				t.Fatal(mine, err)
			}
			reach := func() {
				if _, err := b.ca.Enroll(t.Context(), r); err != nil {
					t.Fatal(err)
				}
			}
			if arrived < 0 {
				reach()
			}
			if err := dead.Close(); err != nil {
				t.Fatal(err)
			}
			b.stop()
			if err := b.Close(t.Context()); err != nil {
				t.Fatal(err)
			}
			next := own()
			defer next.Close()
			b.start(func(c *store.Config) { c.Owner = next })
			start := time.Now()
			if arrived >= 0 {
				b.refused(r, fault.InProgress)
				time.Sleep(arrived)
			}
			if arrived == 20*time.Second {
				reach()
			}
			b.enroll(r)
			b.submissions("SEP1", 1)
			if took := time.Since(start); took > max(arrived, 0)+time.Second {
				t.Errorf("delivered after %v, arrived after %v", took, arrived)
			}
		})
	}
}

// The look that proves the absence is made when the grace ends, not with the
// next of the growing pauses.
func TestTheGraceIsAsLongAsItSays(t *testing.T) {
	durable(t, 7, func(c *store.Config) { c.Tick = time.Second }, func(t *testing.T, b *bench) {
		b.enroll(storetest.Request(t, "SEP0", "ciscora"))
		b.ca.Answer = failing(false, lost())
		b.refused(storetest.Request(t, "SEP1", "ciscora"), fault.InProgress)
		b.sleep(99 * time.Second)
		b.state("SEP1", store.Unknown)
		b.sleep(2 * time.Second)
		b.state("SEP1", store.Failed)
	})
}

// slowFetch takes its time with each number.
type slowFetch struct {
	*storetest.Authority
	takes time.Duration
}

func (s slowFetch) Fetch(ctx context.Context, id int, csr *x509.CertificateRequest) (ra.Result, error) {
	time.Sleep(s.takes)
	return s.Authority.Fetch(ctx, id, csr)
}

// neverArrived is a request that was lost on its way, and looked for until the
// pauses between looks have grown beyond what is left of its grace, and when that
// ends.
func (b *bench) neverArrived() (r ra.Request, end time.Time) {
	b.t.Helper()
	b.enroll(storetest.Request(b.t, "SEP0", "ciscora"))
	b.ca.Answer = failing(false, lost())
	r = storetest.Request(b.t, "SEP1", "ciscora")
	b.refused(r, fault.InProgress)
	b.ca.Answer = nil
	for range 3 {
		b.sleep(20 * time.Second)
		b.refused(r, fault.InProgress)
	}
	return r, b.record("SEP1").Submitted.Add(100 * time.Second)
}

// A look that begins before the grace ends and finishes after it proves nothing,
// and is not the last for a long time either: who asked is told to come back,
// and then it is settled.
func TestALookAcrossTheEndOfTheGraceIsNotTheLast(t *testing.T) {
	slow := func(c *store.Config) {
		c.Fetch, c.Tick = slowFetch{c.Fetch.(*storetest.Authority), time.Second}, time.Hour
	}
	durable(t, 7, slow, func(t *testing.T, b *bench) {
		r, end := b.neverArrived()
		b.sleep(time.Until(end) - time.Second)
		f := b.refused(r, fault.InProgress)
		if !time.Now().After(end) {
			t.Fatal("the look was over before the grace: the test tests nothing")
		}
		b.submissions("SEP1", 0) // it may have arrived while the look went on
		b.sleep(f.RetryAfter)
		b.enroll(r)
		b.submissions("SEP1", 1)
	})
}

// Who is told to come back comes after the next look is due, not a moment
// before it.
func TestWhoComesBackFindsTheNextLookDue(t *testing.T) {
	durable(t, 7, func(c *store.Config) { c.Tick = time.Hour }, func(t *testing.T, b *bench) {
		r, end := b.neverArrived()
		b.sleep(time.Until(end) - 11400*time.Millisecond)
		f := b.refused(r, fault.InProgress)
		b.sleep(f.RetryAfter)
		b.enroll(r)
		b.submissions("SEP1", 1)
	})
}
