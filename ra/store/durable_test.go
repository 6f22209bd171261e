package store_test

import (
	"bytes"
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/onlineca/onlineca/ra"
	"github.com/onlineca/onlineca/ra/fault"
	"github.com/onlineca/onlineca/ra/store"
	"github.com/onlineca/onlineca/ra/store/storetest"
)

// bench is a registration authority on a fake clock: a database, an authority
// and the durable enroller between them, with Run beside it.
type bench struct {
	t     *testing.T
	store *store.Store
	ca    *storetest.Authority
	audit bytes.Buffer
	*store.Durable
	stop func()
	dead []*store.Durable
}

// durable runs a test in a bubble, which also fails if a goroutine stays behind.
func durable(t *testing.T, first int, change func(*store.Config), test func(t *testing.T, b *bench)) {
	path := sqliteFile(t)
	synctest.Test(t, func(t *testing.T) {
		s, err := store.Open(t.Context(), path)
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		b := &bench{t: t, store: s, ca: storetest.NewAuthority(t, first)}
		b.start(change)
		test(t, b)
		b.stop()
		for _, d := range append(b.dead, b.Durable) {
			if err := d.Close(t.Context()); err != nil {
				t.Error(err)
			}
		}
	})
}

// start makes a process. What was there before is as good as dead.
func (b *bench) start(change func(*store.Config)) {
	b.t.Helper()
	cfg := store.Config{Store: b.store, Next: b.ca, Fetch: b.ca, Authority: "ca", Audit: &b.audit, Tick: 10 * time.Second}
	if change != nil {
		change(&cfg)
	}
	d, err := store.NewDurable(cfg)
	if err != nil {
		b.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(b.t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := d.Run(ctx); err != nil {
			b.t.Error(err)
		}
	}()
	if b.Durable != nil {
		b.dead = append(b.dead, b.Durable)
	}
	b.Durable, b.stop = d, func() { cancel(); <-done }
}

func (b *bench) record(device string) store.Record {
	b.t.Helper()
	recs, err := b.store.List(b.t.Context(), store.Filter{Subject: "CN=" + device})
	if err != nil || len(recs) == 0 {
		b.t.Fatalf("%d records of %s, %v", len(recs), device, err)
	}
	return recs[len(recs)-1]
}

func (b *bench) state(device string, want store.State) {
	b.t.Helper()
	if rec := b.record(device); rec.State != want {
		b.t.Errorf("%s is %s (%s: %s), want %s", device, rec.State, rec.Code, rec.Message, want)
	}
}

func (b *bench) submissions(device string, want int) {
	b.t.Helper()
	if n := b.ca.Submissions(device); n != want {
		b.t.Errorf("%s was submitted %d times, want %d", device, n, want)
	}
}

// enroll wants a certificate.
func (b *bench) enroll(r ra.Request) ra.Result {
	b.t.Helper()
	res, err := b.Enroll(b.t.Context(), r)
	if err != nil || res.State != ra.Issued || !bytes.Equal(res.Certificate.RawSubjectPublicKeyInfo, r.CSR.RawSubjectPublicKeyInfo) {
		b.t.Errorf("%+v, %v", res, err)
	}
	return res
}

// refused wants a fault.
func (b *bench) refused(r ra.Request, code fault.Code) *fault.Fault {
	b.t.Helper()
	res, err := b.Enroll(b.t.Context(), r)
	if !errors.Is(err, code) {
		b.t.Errorf("%+v, %v; want %v", res, err, code)
		return new(fault.Fault)
	}
	return fault.Of(err)
}

// sleep lets the background work.
func (b *bench) sleep(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
	time.Sleep(100 * time.Millisecond) // changes wait some milliseconds for others
	synctest.Wait()
}

// slowly is for tests that take days: fewer looks at the database.
func slowly(c *store.Config) { c.Tick, c.PendingFor = 2*time.Minute, 48*time.Hour }

// failing is an Answer that fails with err before or after a request arrives.
func failing(arrived bool, err error) func(context.Context, ra.Request, bool) error {
	return func(_ context.Context, _ ra.Request, now bool) error {
		if now == arrived {
			return err
		}
		return nil
	}
}

func lost() error { return fault.New(fault.OutcomeUnknown, "submit", errors.New("EOF")) }

func TestTheSameRequestGetsTheSameCertificate(t *testing.T) {
	durable(t, 7, slowly, func(t *testing.T, b *bench) {
		r := storetest.Request(t, "SEP1", "ciscora")
		first := b.enroll(r)
		b.sleep(23 * time.Hour)
		if again := b.enroll(r); !again.Certificate.Equal(first.Certificate) || again.ReqID != 7 {
			t.Errorf("%+v", again)
		}
		b.submissions("SEP1", 1)
		b.sleep(2 * time.Hour)
		if later := b.enroll(r); later.Certificate.Equal(first.Certificate) {
			t.Error("the certificate is kept for ever")
		}
		b.submissions("SEP1", 2)
		r.Client.Name = "somebody"
		b.enroll(r)
		b.submissions("SEP1", 3)
	})
}

func TestASlowAuthorityCostsNobodyACertificate(t *testing.T) {
	durable(t, 7, nil, func(t *testing.T, b *bench) {
		b.ca.Answer = func(_ context.Context, _ ra.Request, arrived bool) error {
			if arrived {
				time.Sleep(20 * time.Second)
			}
			return nil
		}
		r := storetest.Request(t, "SEP1", "ciscora")
		start := time.Now()
		f := b.refused(r, fault.InProgress)
		if took := time.Since(start); took != 8*time.Second || f.RetryAfter != 10*time.Second || f.Code.Row().HTTP != 202 {
			t.Errorf("answered after %v: %v", took, f)
		}
		b.refused(r, fault.InProgress) // joins
		if took := time.Since(start); took != 16*time.Second {
			t.Errorf("%v", took)
		}
		b.enroll(r)
		if took := time.Since(start); took != 20*time.Second {
			t.Errorf("collected after %v", took)
		}
		b.submissions("SEP1", 1)
	})
}

func TestAClientThatGoesAwayDoesNotStopItsRequest(t *testing.T) {
	durable(t, 7, nil, func(t *testing.T, b *bench) {
		b.ca.Answer = func(ctx context.Context, _ ra.Request, _ bool) error {
			select {
			case <-time.After(5 * time.Second):
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		r := storetest.Request(t, "SEP1", "ciscora")
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := b.Enroll(ctx, r); !errors.Is(err, fault.Canceled) {
			t.Error(err)
		}
		b.sleep(10 * time.Second)
		b.state("SEP1", store.Issued)
		b.enroll(r)
		b.submissions("SEP1", 1)
	})
}

func TestManyAtOnceAreOneSubmission(t *testing.T) {
	durable(t, 7, nil, func(t *testing.T, b *bench) {
		b.ca.Answer = func(context.Context, ra.Request, bool) error { time.Sleep(time.Second); return nil }
		r := storetest.Request(t, "SEP1", "ciscora")
		var all sync.WaitGroup
		for range 20 {
			all.Go(func() { b.enroll(r) })
		}
		all.Wait()
		b.submissions("SEP1", 1)
	})
}

// However soon it is certain that a request never arrived: one ask is one
// submission at most.
func TestPendingRequestsArePolledInTheBackground(t *testing.T) {
	durable(t, 7, slowly, func(t *testing.T, b *bench) {
		b.ca.Manual = true
		r := storetest.Request(t, "SEP1", "ciscora")
		for range 2 {
			res, err := b.Enroll(t.Context(), r)
			if err != nil || res.State != ra.Pending || res.ReqID != 7 || res.RetryAfter < 10*time.Second || res.Message != "Taken Under Submission" {
				t.Errorf("%+v, %v", res, err)
			}
		}
		b.submissions("SEP1", 1)
		before := b.ca.Fetches()
		b.sleep(24 * time.Hour)
		// 5 s doubling to 10 min: some 130 in a day, not 17,000.
		if n := b.ca.Fetches() - before; n < 110 || n > 150 {
			t.Errorf("asked %d times in a day", n)
		}
		b.stop()
		b.start(slowly) // the process is restarted
		b.ca.Approve(t)
		b.sleep(13 * time.Minute)
		b.state("SEP1", store.Issued)
		b.enroll(r)
		b.submissions("SEP1", 1)
	})
}

func TestPendingRequestsEnd(t *testing.T) {
	durable(t, 7, slowly, func(t *testing.T, b *bench) {
		b.ca.Manual = true
		ask := func(device string) ra.Request {
			r := storetest.Request(t, device, "ciscora")
			if res, err := b.Enroll(t.Context(), r); err != nil || res.State != ra.Pending {
				t.Errorf("%+v, %v", res, err)
			}
			return r
		}
		ask("SEP1")
		b.ca.Deny()
		b.sleep(time.Hour)
		b.state("SEP1", store.Denied)
		if rec := b.record("SEP1"); rec.Code != "denied-by-admin" || rec.ReqID != 7 {
			t.Errorf("%+v", rec)
		}
		ask("SEP2")
		b.sleep(49 * time.Hour)
		b.state("SEP2", store.Expired)
		ask("SEP4")
		b.ca.Delete(b.record("SEP4").ReqID)
		b.sleep(time.Hour)
		b.state("SEP4", store.Expired)
		if rec := b.record("SEP4"); rec.Code != "no-such-request" {
			t.Errorf("%+v", rec)
		}
		// The client that comes back when it is due learns it first.
		r := ask("SEP3")
		b.stop()
		b.ca.Deny()
		time.Sleep(2 * time.Minute)
		if f := b.refused(r, fault.DeniedByAdmin); f.ReqID != 10 {
			t.Errorf("%v", f)
		}
		b.submissions("SEP3", 1)
		b.start(slowly)
	})
}

// A client that was told to come back asks what became of its request, and not
// for another one, which a manager would have to deny again.
func TestARefusalIsToldToWhomItConcerns(t *testing.T) {
	for name, refuse := range map[string]func(b *bench, r ra.Request){
		"denied while nobody asked": func(b *bench, r ra.Request) {
			b.ca.Manual = true
			if res, err := b.Enroll(b.t.Context(), r); err != nil || res.State != ra.Pending {
				b.t.Errorf("%+v, %v", res, err)
			}
			b.ca.Deny()
			b.sleep(time.Hour)
		},
		"denied when the client had gone": func(b *bench, r ra.Request) {
			b.ca.Answer = func(_ context.Context, _ ra.Request, arrived bool) error {
				if !arrived {
					return nil
				}
				time.Sleep(time.Minute)
				return &fault.Fault{Code: fault.DeniedByAdmin, Op: "submit", ReqID: 7, Message: "no"}
			}
			b.refused(r, fault.InProgress)
			b.sleep(2 * time.Minute)
		},
	} {
		t.Run(name, func(t *testing.T) {
			durable(t, 7, nil, func(t *testing.T, b *bench) {
				r := storetest.Request(t, "SEP1", "ciscora")
				refuse(b, r)
				b.state("SEP1", store.Denied)
				for range 2 { // the first answer may be lost
					if f := b.refused(r, fault.DeniedByAdmin); f.ReqID != 7 {
						t.Error(f)
					}
				}
				b.submissions("SEP1", 1)
				b.ca.Manual, b.ca.Answer = false, nil
				b.sleep(2 * time.Minute)
				b.enroll(r) // asked for again
				b.submissions("SEP1", 2)
			})
		})
	}
}

func TestADenialIsTheLastWordUntilTheClientAsksAgain(t *testing.T) {
	durable(t, 7, nil, func(t *testing.T, b *bench) {
		b.ca.Answer = failing(true, &fault.Fault{Code: fault.DeniedByPolicy, Op: "submit", ReqID: 7, Message: "no such template"})
		r := storetest.Request(t, "SEP1", "ciscora")
		if f := b.refused(r, fault.DeniedByPolicy); f.Message != "no such template" {
			t.Error(f)
		}
		b.state("SEP1", store.Denied)
		b.sleep(time.Hour)
		b.submissions("SEP1", 1)
		b.ca.Answer = nil
		b.enroll(r)
		if recs, err := b.store.List(t.Context(), store.Filter{}); err != nil || len(recs) != 2 {
			t.Errorf("%d records, %v: the denial belongs on record", len(recs), err)
		}
	})
}

func TestWhatNeverLeftIsTriedAgainWithTheNextAsk(t *testing.T) {
	durable(t, 7, nil, func(t *testing.T, b *bench) {
		r := storetest.Request(t, "SEP1", "ciscora")
		for _, code := range []fault.Code{fault.BadCredentials, fault.DNS, fault.Busy, fault.Template, fault.LoginTimeout} {
			b.ca.Answer = failing(false, fault.New(code, "submit", nil))
			b.refused(r, code)
			b.state("SEP1", store.Failed)
		}
		b.ca.Answer = nil
		b.enroll(r)
		if rec := b.record("SEP1"); rec.Attempts != 6 || rec.Code != "" {
			t.Errorf("%+v", rec)
		}
		b.submissions("SEP1", 1)
	})
}

func TestACertificateThatCouldNotBeFetchedIsFetchedLater(t *testing.T) {
	durable(t, 7, nil, func(t *testing.T, b *bench) {
		b.ca.Answer = failing(true, &fault.Fault{Code: fault.FetchTimeout, Op: "fetch", ReqID: 7})
		r := storetest.Request(t, "SEP1", "ciscora")
		b.refused(r, fault.FetchTimeout)
		b.state("SEP1", store.Pending)
		b.sleep(time.Minute)
		b.state("SEP1", store.Issued)
		b.enroll(r)
		b.submissions("SEP1", 1)
	})
}

func TestAPanicIsAFaultAndItsRequestIsLookedFor(t *testing.T) {
	durable(t, 7, nil, func(t *testing.T, b *bench) {
		b.enroll(storetest.Request(t, "SEP0", "ciscora"))
		b.ca.Answer = func(_ context.Context, _ ra.Request, arrived bool) error {
			if arrived {
				panic("boom")
			}
			return nil
		}
		r := storetest.Request(t, "SEP1", "ciscora")
		b.refused(r, fault.Internal)
		b.ca.Answer = nil
		b.sleep(time.Minute)
		b.enroll(r)
		b.submissions("SEP1", 1)
	})
}

func TestADatabaseThatFailsStopsSubmissions(t *testing.T) {
	durable(t, 7, nil, func(t *testing.T, b *bench) {
		r := storetest.Request(t, "SEP1", "ciscora")
		b.ca.Answer = func(_ context.Context, _ ra.Request, arrived bool) error {
			if arrived { // it fails just when there is something to write
				return b.store.Close()
			}
			return nil
		}
		b.enroll(r) // the client gets what the authority said
		b.refused(storetest.Request(t, "SEP2", "ciscora"), fault.DiskFull)
		b.submissions("SEP2", 0)
	})
}

func TestCloseFinishesWhatWasSubmitted(t *testing.T) {
	for patient, state := range map[bool]store.State{true: store.Issued, false: store.Unknown} {
		durable(t, 7, nil, func(t *testing.T, b *bench) {
			b.ca.Answer = func(ctx context.Context, _ ra.Request, arrived bool) error {
				if !arrived {
					return nil
				}
				select {
				case <-time.After(20 * time.Second):
					return nil
				case <-ctx.Done():
					return fault.New(fault.OutcomeUnknown, "submit", ctx.Err())
				}
			}
			r := storetest.Request(t, "SEP1", "ciscora")
			b.refused(r, fault.InProgress)
			b.stop()
			ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
			defer cancel()
			if patient {
				ctx = t.Context()
			}
			if err := b.Close(ctx); err != nil {
				t.Error(err)
			}
			b.state("SEP1", state)
			b.refused(storetest.Request(t, "SEP2", "ciscora"), fault.InProgress)
			b.submissions("SEP2", 0)
		})
	}
}

// A request that proves possession is signed anew for every connection.
// withChallenge adds a challengePassword to a request and signs it again.
func TestNewDurableChecksItsConfiguration(t *testing.T) {
	if _, err := store.NewDurable(store.Config{}); err == nil {
		t.Error("an empty configuration was accepted")
	}
}

// Another process has taken over a request that still waits for its turn here,
// since the database could not be reached from here: it must not be sent.
func TestWhoHasLostTheClaimSendsNothing(t *testing.T) {
	durable(t, 7, nil, func(t *testing.T, b *bench) {
		var waited time.Duration
		b.ca.Answer = func(ctx context.Context, _ ra.Request, arrived bool) error {
			start := time.Now()
			select {
			case <-time.After(4 * time.Minute):
			case <-ctx.Done():
			}
			waited = time.Since(start)
			return ctx.Err()
		}
		r := storetest.Request(t, "SEP1", "ciscora")
		b.refused(r, fault.InProgress)
		other := store.Claim{Owner: "other", Lease: time.Hour, Authority: "ca"}
		if _, mine, err := b.store.Claim(t.Context(), b.record("SEP1").ID, other, time.Now().Add(time.Minute)); err != nil || !mine {
			t.Fatal(mine, err)
		}
		b.refused(r, fault.InProgress)
		b.sleep(time.Minute)
		if waited == 0 || waited > time.Minute {
			t.Errorf("it waited for %v", waited)
		}
		b.submissions("SEP1", 0)
		if rec := b.record("SEP1"); rec.LeaseOwner != "other" {
			t.Errorf("%+v", rec)
		}
	})
}
