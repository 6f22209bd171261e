package conformance

import (
	"errors"
	"fmt"
	"sync"

	"github.com/onlineca/onlineca/testenv"
)

// faultCases break the exchange in every way. The client must report an error
// and not hang, and must not send a request again that may have been taken.
func faultCases() []Case {
	var cases []Case
	for _, f := range []testenv.Fault{
		testenv.CloseConnection, testenv.Reset, testenv.Garbage, testenv.Status500, testenv.Status503, testenv.Status404, testenv.Elsewhere,
		testenv.Truncated, testenv.Endless, testenv.Empty, testenv.UnknownPage, testenv.CAStopped, testenv.RPCDown, testenv.AccessDenied,
		testenv.AnswerLost,
	} {
		cases = append(cases, on("fault/submit/"+f.Name, testenv.Config{}, submitFails(f)))
		if f != testenv.AnswerLost {
			cases = append(cases, on("fault/fetch/"+f.Name, testenv.Config{}, fetchFails(f)))
		}
	}
	for _, f := range []testenv.Fault{testenv.HTMLCertificate, testenv.BadCertificate, testenv.OtherKey} {
		cases = append(cases, on("fault/fetch/"+f.Name, testenv.Config{}, fetchFails(f)))
	}
	for _, f := range []testenv.Fault{testenv.Hang, testenv.SlowAnswer} {
		cases = append(cases, with("fault/submit/"+f.Name, testenv.Config{}, impatient, submitFails(f)))
	}
	for _, f := range []testenv.Fault{
		testenv.CloseConnection, testenv.Reset, testenv.Garbage, testenv.Status503, testenv.BadChallenge,
	} {
		cases = append(cases, on("fault/handshake/"+f.Name, testenv.Config{}, loginFails(f, testenv.StepHandshake)))
	}
	return append(cases,
		with("fault/fetch/stalled", testenv.Config{}, impatient, fetchFails(testenv.Stalled)),
		with("fault/handshake/hang", testenv.Config{}, impatient, loginFails(testenv.Hang, testenv.StepHandshake)),
		with("fault/login/hang", testenv.Config{}, impatient, loginFails(testenv.Hang, testenv.StepLogin)),
		on("fault/page/truncated", testenv.Config{}, pageFails(testenv.Truncated)),
		on("fault/page/ca-stopped", testenv.Config{}, pageFails(testenv.CAStopped)),
		on("fault/page/endless", testenv.Config{}, pageFails(testenv.Endless)),
	)
}

// submitFails: whatever comes back, the client cannot know that the certificate
// was issued, and says so with an error. Afterwards all is well.
func submitFails(f testenv.Fault) func(*bench) error {
	return func(b *bench) error {
		if err := b.Login(b.ctx); err != nil {
			return fmt.Errorf("calling Login: %w", err)
		}
		b.ca.Inject(f, testenv.On(testenv.StepSubmit))
		if _, _, err := b.submit("CiscoRA"); err == nil {
			return errors.New("no error from Submit")
		}
		if n := b.ca.Begun(testenv.StepSubmit); n != 1 {
			return fmt.Errorf("the request was sent %d times", n)
		}
		b.ca.Restart(0) // ends what hangs
		if err := b.Login(b.ctx); err != nil {
			return fmt.Errorf("calling Login when all is well again: %w", err)
		}
		return b.enrol()
	}
}

// fetchFails: the certificate does not arrive, or is not the one. A client may
// try again: the fault stays. That the CA has issued must not be forgotten: the
// outcome's ReqID, if there is one, is right.
func fetchFails(f testenv.Fault) func(*bench) error {
	return func(b *bench) error {
		if err := b.Login(b.ctx); err != nil {
			return fmt.Errorf("calling Login: %w", err)
		}
		b.ca.Inject(f, testenv.On(testenv.StepFetch), testenv.Times(testenv.Forever))
		r, o, err := b.submit("CiscoRA")
		if err == nil {
			return fmt.Errorf("no error from Submit, state %q", o.State)
		}
		if o.ReqID != 0 && o.ReqID != 1 {
			return fmt.Errorf("request %d, want 1", o.ReqID)
		}
		if n := b.ca.Submissions(); n != 1 {
			return fmt.Errorf("%d submissions", n)
		}
		b.ca.ClearFaults()
		b.ca.Restart(0)
		if o, err = b.Fetch(b.ctx, 1, r.der); err != nil {
			return fmt.Errorf("calling Fetch when all is well again: %w", err)
		}
		return r.has(o)
	}
}

func loginFails(f testenv.Fault, step testenv.Step) func(*bench) error {
	return func(b *bench) error {
		b.ca.Inject(f, testenv.On(step), testenv.Times(testenv.Forever))
		if err := mustFail("Login", b.Login(b.ctx)); err != nil {
			return err
		}
		if n := b.ca.FailedLogons(); n != 0 {
			return fmt.Errorf("%d failed logons", n)
		}
		return nil
	}
}

func pageFails(f testenv.Fault) func(*bench) error {
	return func(b *bench) error {
		b.ca.Inject(f, testenv.On(testenv.StepPage), testenv.Times(testenv.Forever))
		_, err := b.Templates(b.ctx)
		return mustFail("Templates", err)
	}
}

// loadCases are many at once.
func loadCases() []Case {
	return []Case{on("load/16 at once", testenv.Config{}, func(b *bench) error {
		var wg sync.WaitGroup
		errs := make(chan error, 16)
		for range cap(errs) {
			wg.Go(func() {
				for range 4 {
					if err := b.enrol(); err != nil {
						errs <- err
						return
					}
				}
			})
		}
		wg.Wait()
		close(errs)
		for err := range errs {
			return err
		}
		if n := b.ca.Submissions(); n != 64 {
			return fmt.Errorf("%d submissions for 64 enrolments", n)
		}
		if n := b.ca.FailedLogons(); n != 0 {
			return fmt.Errorf("%d failed logons with the right password: the account would be locked", n)
		}
		return nil
	})}
}
