package conformance

import (
	"context"
	"crypto"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/onlineca/onlineca/testenv"
)

// loginCases are about who gets in, and that nobody locks an account.
func loginCases() []Case {
	in := func(b *bench) error { return b.Login(b.ctx) }
	out := func(b *bench) error { return mustFail("Login", b.Login(b.ctx)) }
	user := func(name string) func(*Target) { return func(t *Target) { t.User = name } }
	cases := []Case{
		on("login/good", testenv.Config{}, in),
		on("login/enrols", testenv.Config{}, (*bench).enrol),
		with("login/user@domain", testenv.Config{}, user("ciscora@lab.example"), in),
		with("login/user", testenv.Config{}, user("ciscora"), in),
		with("login/unknown user", testenv.Config{}, user(`LAB\nobody`), out),
		with("login/wrong password", testenv.Config{}, func(t *Target) { t.Password = "wrong" }, wrongPassword),
		on("login/Negotiate only", testenv.Config{Schemes: []testenv.Scheme{testenv.SchemeNegotiate}}, in),
		on("login/NTLM only", testenv.Config{Schemes: []testenv.Scheme{testenv.SchemeNTLM}}, in),
		on("login/Kerberos only", testenv.Config{Schemes: []testenv.Scheme{testenv.SchemeKerberos}}, out),
		on("login/HTTP2 offered", testenv.Config{HTTP2: true}, (*bench).enrol),
		on("login/not persistent", testenv.Config{AuthPersistSingleRequest: true}, notPersistent),
		on("login/session lost", testenv.Config{}, sessionLost),
		on("login/challenge lost", testenv.Config{}, challengeLost),
	}
	for _, epa := range []testenv.EPA{testenv.EPAAccept, testenv.EPARequire} {
		cases = append(cases, on("login/extended protection "+string(epa), testenv.Config{EPA: epa}, bound))
	}
	for _, h := range []crypto.Hash{crypto.SHA384, crypto.SHA512} {
		cases = append(cases, boundTo(h))
	}
	return cases
}

func bound(b *bench) error {
	if err := b.enrol(); err != nil {
		return err
	}
	for _, r := range b.ca.Requests() {
		if r.Login && !r.Bound {
			return fmt.Errorf("the login is not bound to the TLS channel")
		}
	}
	return nil
}

// boundTo has an IIS certificate whose signature has another hash.
func boundTo(h crypto.Hash) Case {
	name := "login/extended protection " + h.String()
	return Case{Name: name, Check: func(ctx context.Context, newClient func(Target) Client) error {
		pki, err := testenv.NewPKI(testenv.PKIConfig{})
		if err != nil {
			return err
		}
		cert, err := pki.ServerCertificate(testenv.ServerOptions{Hash: h})
		if err != nil {
			return err
		}
		c := testenv.Config{EPA: testenv.EPARequire, PKI: pki, Certificate: &cert}
		return on(name, c, bound).Check(ctx, newClient)
	}}
}

// wrongPassword: five calls must not become five failed logons, which lock an
// account in many a domain.
func wrongPassword(b *bench) error {
	for range 5 {
		if err := mustFail("Login", b.Login(b.ctx)); err != nil {
			return err
		}
		if _, _, err := b.submit("CiscoRA"); err == nil {
			return errors.New("no error from Submit")
		}
	}
	if n := b.ca.FailedLogons(); n == 0 || n > 2 {
		return fmt.Errorf("%d failed logons at the server after 10 calls; 1 is enough", n)
	}
	if b.ca.Submissions() != 0 {
		return fmt.Errorf("%d requests got through", b.ca.Submissions())
	}
	for _, r := range b.ca.Requests() {
		if r.Method == http.MethodPost && r.BodyLength > 0 && strings.HasSuffix(r.Path, "certfnsh.asp") {
			return fmt.Errorf("the request was sent to a server that has not let the client in")
		}
	}
	return nil
}

// notPersistent: a server that forgets who is on a connection after each
// request can hardly be worked with. The client may give up, but not loop, and
// not count as somebody who guesses passwords.
func notPersistent(b *bench) error {
	err := b.enrol()
	if n := b.ca.Submissions(); n > 1 {
		return fmt.Errorf("%d submissions", n)
	}
	if n := b.ca.FailedLogons(); n != 0 {
		return fmt.Errorf("%d failed logons", n)
	}
	if n := len(b.ca.Requests()); err != nil && n > 20 {
		return fmt.Errorf("%d requests before it gave up: %w", n, err)
	}
	return nil
}

// sessionLost: the server forgets the connection's identity between two
// requests. A submission that is answered 401 has not reached the CA: it may and
// must be sent again.
func sessionLost(b *bench) error {
	if err := b.enrol(); err != nil {
		return err
	}
	b.ca.Inject(testenv.SessionLost, testenv.On(testenv.StepSubmit))
	if err := b.enrol(); err != nil {
		return fmt.Errorf("after the session was lost at the submission: %w", err)
	}
	b.ca.Inject(testenv.SessionLost, testenv.On(testenv.StepFetch))
	if err := b.enrol(); err != nil {
		return fmt.Errorf("after the session was lost at the fetch: %w", err)
	}
	if n := b.ca.Submissions(); n != 3 {
		return fmt.Errorf("%d submissions for 3 enrolments", n)
	}
	return nil
}

// challengeLost: the server has no challenge for the client's answer. That is
// not a wrong password, and must not read like one: but an error it is.
func challengeLost(b *bench) error {
	b.ca.Inject(testenv.LostChallenge, testenv.Times(testenv.Forever))
	return mustFail("Login", b.Login(b.ctx))
}
