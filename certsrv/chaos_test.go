package certsrv_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"runtime"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/onlineca/onlineca/certsrv"
	"github.com/onlineca/onlineca/ra"
	"github.com/onlineca/onlineca/ra/fault"
	"github.com/onlineca/onlineca/testenv"
)

// chaosLimit is the time for each exchange: short, because many will hang, and
// long enough for a busy machine.
const chaosLimit = time.Second

// chaosSize is how many enrolments the chaos test makes: ONLINECA_CHAOS, or few.
func chaosSize(t *testing.T) int {
	t.Helper()
	v := os.Getenv("ONLINECA_CHAOS")
	if v == "" {
		return 500
	}
	n, err := strconv.Atoi(v)
	if err != nil || n < 1 {
		t.Fatalf("ONLINECA_CHAOS=%q: give a number of enrolments, such as 10000", v)
	}
	return n
}

// trouble is what the chaos test injects, and where.
var trouble = []struct {
	fault testenv.Fault
	steps []testenv.Step
}{
	{testenv.CloseConnection, []testenv.Step{testenv.StepSubmit, testenv.StepFetch, testenv.StepHandshake}},
	{testenv.Reset, []testenv.Step{testenv.StepSubmit, testenv.StepFetch, testenv.StepHandshake}},
	{testenv.AnswerLost, []testenv.Step{testenv.StepSubmit, testenv.StepFetch}},
	{testenv.Truncated, []testenv.Step{testenv.StepSubmit, testenv.StepFetch}},
	{testenv.Stalled, []testenv.Step{testenv.StepSubmit, testenv.StepFetch}},
	{testenv.Hang, []testenv.Step{testenv.StepSubmit, testenv.StepFetch, testenv.StepHandshake}},
	{testenv.Slow.For(20 * time.Millisecond), []testenv.Step{testenv.StepSubmit, testenv.StepFetch}},
	{testenv.SlowAnswer.For(2 * chaosLimit), []testenv.Step{testenv.StepSubmit, testenv.StepFetch}},
	{testenv.Endless, []testenv.Step{testenv.StepSubmit, testenv.StepFetch}},
	{testenv.Garbage, []testenv.Step{testenv.StepSubmit, testenv.StepFetch, testenv.StepHandshake}},
	{testenv.Restart, []testenv.Step{testenv.StepSubmit, testenv.StepFetch, testenv.StepHandshake}},
	{testenv.SessionLost, []testenv.Step{testenv.StepSubmit, testenv.StepFetch}},
	{testenv.BadChallenge, []testenv.Step{testenv.StepHandshake}},
	{testenv.Status500, []testenv.Step{testenv.StepSubmit, testenv.StepFetch, testenv.StepHandshake}},
	{testenv.Status503, []testenv.Step{testenv.StepSubmit, testenv.StepFetch, testenv.StepHandshake}},
	{testenv.Empty, []testenv.Step{testenv.StepSubmit, testenv.StepFetch}},
	{testenv.HTMLCertificate, []testenv.Step{testenv.StepFetch}},
	{testenv.BadCertificate, []testenv.Step{testenv.StepFetch}},
	{testenv.OtherKey, []testenv.Step{testenv.StepFetch}},
	{testenv.RPCDown, []testenv.Step{testenv.StepSubmit, testenv.StepFetch}},
	{testenv.Deny, []testenv.Step{testenv.StepSubmit}},
	{testenv.DenyTerse, []testenv.Step{testenv.StepSubmit}},
	{testenv.Hold, []testenv.Step{testenv.StepSubmit}},
	{testenv.Revoked, []testenv.Step{testenv.StepSubmit}},
}

// TestChaos: whatever the server does, each enrolment ends in exactly one of
// issued, pending, or a fault with a name, in bounded time, and nothing of it
// stays behind.
func TestChaos(t *testing.T) {
	size := chaosSize(t)
	seed := uint64(time.Now().UnixNano())
	if v := os.Getenv("ONLINECA_SEED"); v != "" {
		var err error
		if seed, err = strconv.ParseUint(v, 10, 64); err != nil {
			t.Fatalf("ONLINECA_SEED=%q: %v", v, err)
		}
	}
	t.Logf("ONLINECA_SEED=%d", seed)
	before := runtime.NumGoroutine()
	s, err := testenv.Start(testenv.Config{EPA: testenv.EPARequire, LockoutThreshold: 1})
	if err != nil {
		t.Fatal(err)
	}
	cfg := config(s)
	cfg.Timeouts = certsrv.Timeouts{Login: chaosLimit, Page: chaosLimit, Submit: chaosLimit, Fetch: chaosLimit}
	cfg.Reconnect = chaosLimit
	c, err := certsrv.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	r := request(t, "SEP001122334455")
	got := chaos(t, s, size, rand.New(rand.NewPCG(seed, 0)), func(ctx context.Context) string {
		res, err := c.Enroll(ctx, r)
		switch f := fault.Of(err); {
		case err == nil && res.State == ra.Issued && res.Certificate != nil, err == nil && res.State == ra.Pending && res.Certificate == nil:
			return string(res.State)
		case err == nil:
			t.Errorf("%+v", res)
			return "neither"
		case f.Code == fault.Unknown || f.Code == fault.Internal:
			t.Errorf("a fault without a name: %v", err)
			return "unknown"
		default:
			return f.Code.String()
		}
	})
	t.Logf("%d enrolments: %v", size, got)
	if got["issued"] == 0 || got["bad-credentials"] != 0 || got["login-suspended"] != 0 {
		t.Errorf("%v", got)
	}
	if st := c.Stats(); st.Open != st.Idle || st.Open > 8 || st.Rejected != 0 {
		t.Errorf("sessions leak: %+v", st)
	}
	s.ClearFaults()
	s.Restart(0) // ends what hangs
	after := newClient(t, config(s))
	if _, err := after.Enroll(t.Context(), r); err != nil {
		t.Errorf("when all is well again: %v", err)
	}
	after.Close()
	if n := s.Submissions() - 1; n > size {
		t.Errorf("%d enrolments became %d requests at the CA: something was submitted twice", size, n)
	}
	if n := s.FailedLogons(); n != 0 {
		t.Errorf("%d failed logons", n)
	}
	c.Close()
	s.Close()
	settle(t, before)
}

// chaos makes size enrolments by 32 workers and injects trouble in between. It
// returns how often each outcome came.
func chaos(t *testing.T, s *testenv.Certsrv, size int, rnd *rand.Rand, enroll func(context.Context) string) map[string]int {
	t.Helper()
	// An exchange may wait for a session, log in and be answered, each within
	// its limit; submission and two fetches make three.
	const deadline = 9*chaosLimit + 20*time.Second // and time to run on a busy machine
	jobs := make(chan struct{})
	outcomes := make(map[string]int)
	var mu sync.Mutex
	var wg sync.WaitGroup
	for range 32 {
		wg.Go(func() {
			for range jobs {
				ctx, cancel := context.WithTimeout(t.Context(), deadline)
				o := enroll(ctx)
				if ctx.Err() != nil {
					t.Errorf("an enrolment (%s) did not end by itself", o)
				}
				cancel()
				mu.Lock()
				outcomes[o]++
				mu.Unlock()
			}
		})
	}
	for range size {
		if rnd.IntN(6) == 0 {
			x := trouble[rnd.IntN(len(trouble))]
			s.Inject(x.fault, testenv.On(x.steps[rnd.IntN(len(x.steps))]))
		}
		jobs <- struct{}{}
	}
	close(jobs)
	wg.Wait()
	return outcomes
}

// settle waits until no more goroutines run than before.
func settle(t *testing.T, before int) {
	t.Helper()
	http.DefaultTransport.(*http.Transport).CloseIdleConnections()
	giveUp := time.After(10 * time.Second)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for runtime.NumGoroutine() > before {
		select {
		case <-giveUp:
			b := make([]byte, 1<<20)
			t.Fatalf("%d goroutines, %d before:\n%s", runtime.NumGoroutine(), before, b[:runtime.Stack(b, true)])
		case <-tick.C:
		}
	}
}

// A restart in the middle of 320 parallel enrolments costs none that had not
// yet been submitted.
func TestRestart(t *testing.T) {
	s := testenv.New(t, testenv.Config{EPA: testenv.EPARequire})
	c := newClient(t, config(s))
	if err := c.Login(t.Context()); err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	lost := map[string]int{}
	done := 0
	var wg sync.WaitGroup
	for w := range 32 {
		wg.Go(func() {
			for i := range 10 {
				_, err := c.Enroll(t.Context(), request(t, fmt.Sprintf("SEP%06d%06d", w, i)))
				mu.Lock()
				if done++; done == 100 || done == 200 {
					s.Restart(200 * time.Millisecond)
				}
				switch {
				case err == nil:
				case errors.Is(err, fault.OutcomeUnknown), errors.Is(err, fault.EnrollTimeout), fault.Of(err).ReqID != 0:
					lost[fault.Of(err).Code.String()]++ // it had been submitted
				default:
					t.Errorf("not submitted, and failed: %v", err)
				}
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	t.Logf("lost after their submission: %v", lost)
	if n := len(lost); n > 0 && lost["outcome-unknown"] > 2*8 {
		t.Errorf("%v: more than there are sessions", lost)
	}
}
