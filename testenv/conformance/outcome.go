package conformance

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/onlineca/onlineca/testenv"
)

// outcomeCases are every answer of the certificate authority, in every language.
func outcomeCases() []Case {
	var cases []Case
	for _, language := range []testenv.Language{testenv.English, testenv.German, testenv.French} {
		c := testenv.Config{Language: language, FirstReqID: 83, Templates: append(testenv.DefaultTemplates(),
			testenv.Template{Name: "NotForYou", Enrol: []string{`LAB\somebody-else`}})}
		name := func(s string) string { return "outcome/" + string(language) + "/" + s }
		cases = append(cases,
			on(name("issued"), c, (*bench).enrol),
			on(name("issued again"), c, fetchAgain),
			on(name("pending, approved"), c, approved),
			on(name("pending, denied"), c, deniedByAdmin),
			on(name("unknown template"), c, denied("No-Such-Template", 0x80094800)),
			on(name("no permission"), c, denied("NotForYou", 0x80094012)),
			on(name("not a request"), c, notARequest),
			on(name("denied, terse"), c, terse),
			on(name("denied for its key"), c, injected(testenv.Deny.With(0x80094811), 0x80094811)),
			on(name("revocation offline"), c, injected(testenv.Deny.With(0x80092013), 0x80092013)),
			on(name("revoked"), c, revoked),
			on(name("no such ReqID"), c, noSuchRequest),
			on(name("templates"), c, templates),
			on(name("no templates"), c, noTemplates),
		)
	}
	return cases
}

func fetchAgain(b *bench) error {
	r, o, err := b.submit("CiscoRA")
	if err != nil {
		return err
	}
	again, err := b.Fetch(b.ctx, o.ReqID, r.der)
	if err != nil {
		return fmt.Errorf("calling Fetch: %w", err)
	}
	if err := r.has(again); err != nil {
		return err
	}
	if !again.Certificate.Equal(o.Certificate) {
		return errors.New("fetched again, it is another certificate")
	}
	return nil
}

// pending submits a request that must wait.
func (b *bench) pending() (request, int, error) {
	r, o, err := b.submit("CiscoRAManual")
	if err != nil {
		return r, 0, err
	}
	if o.State != Pending || o.ReqID != 83 {
		return r, 0, fmt.Errorf("state %q, request %d; want pending, 83", o.State, o.ReqID)
	}
	if o, err = b.Fetch(b.ctx, 83, r.der); err != nil {
		return r, 0, fmt.Errorf("calling Fetch: %w", err)
	}
	if o.State != Pending {
		return r, 0, fmt.Errorf("fetched, its state is %q; want pending", o.State)
	}
	return r, 83, nil
}

func approved(b *bench) error {
	r, id, err := b.pending()
	if err != nil {
		return err
	}
	if err := b.ca.Approve(id); err != nil {
		return err
	}
	o, err := b.Fetch(b.ctx, id, r.der)
	if err != nil {
		return fmt.Errorf("calling Fetch: %w", err)
	}
	return r.has(o)
}

func deniedByAdmin(b *bench) error {
	r, id, err := b.pending()
	if err != nil {
		return err
	}
	if err := b.ca.Deny(id); err != nil {
		return err
	}
	o, err := b.Fetch(b.ctx, id, r.der)
	if err != nil {
		return fmt.Errorf("calling Fetch: %w", err)
	}
	return is(o, Denied, id, 0x80094014)
}

// is compares an outcome without a certificate. Denied pages carry a ReqID,
// which does not make them pending.
func is(o Outcome, state State, id int, code uint32) error {
	if o.State != state || o.ReqID != id || o.Code != code || o.Certificate != nil {
		return fmt.Errorf("state %q, request %d, code %#x; want %q, %d, %#x", o.State, o.ReqID, o.Code, state, id, code)
	}
	return nil
}

func denied(template string, code uint32) func(*bench) error {
	return func(b *bench) error {
		_, o, err := b.submit(template)
		if err != nil {
			return err
		}
		if err := is(o, Denied, 83, code); err != nil {
			return err
		}
		if code == 0x80094800 && !strings.Contains(o.Message, template) {
			return fmt.Errorf("the message %q is not the CA's own, which names the template", o.Message)
		}
		return nil
	}
}

func injected(f testenv.Fault, code uint32) func(*bench) error {
	return func(b *bench) error {
		b.ca.Inject(f)
		return denied("CiscoRA", code)(b)
	}
}

// terse: the submission's page has no code. The fetch page has.
func terse(b *bench) error { return injected(testenv.DenyTerse, 0x80094012)(b) }

// notARequest may be refused by the client itself, or by the CA.
func notARequest(b *bench) error {
	o, err := b.Submit(b.ctx, bytes.Repeat([]byte{0x42}, 100), "CiscoRA")
	if err != nil {
		return nil //nolint:nilerr // a client may refuse by itself what is no request
	}
	return is(o, Denied, 83, 0x8009310b)
}

// revoked: issued and revoked since is not issued. Whether it is a denial or an
// error is for the client to say.
func revoked(b *bench) error {
	b.ca.Inject(testenv.Revoked)
	_, o, err := b.submit("CiscoRA")
	if err == nil && o.State != Denied {
		return fmt.Errorf("state %q", o.State)
	}
	return nil
}

func noSuchRequest(b *bench) error {
	r, err := newRequest("SEP001122334455")
	if err != nil {
		return err
	}
	o, err := b.Fetch(b.ctx, 4711, r.der)
	if err == nil && o.State != Denied {
		return fmt.Errorf("state %q", o.State)
	}
	return nil
}

func templates(b *bench) error {
	got, err := b.Templates(b.ctx)
	if err != nil {
		return fmt.Errorf("calling Templates: %w", err)
	}
	if want := []string{"CiscoRA", "CiscoRAManual", "WebServer", "User"}; !slices.Equal(got, want) {
		return fmt.Errorf("templates %q, want %q", got, want)
	}
	return nil
}

// noTemplates: an empty list is an answer, in any language; an error is one too.
func noTemplates(b *bench) error {
	b.ca.Inject(testenv.NoTemplates)
	if got, err := b.Templates(b.ctx); err == nil && len(got) != 0 {
		return fmt.Errorf("templates %q", got)
	}
	return nil
}

// caCases are about the CA's own certificates.
func caCases() []Case {
	var cases []Case
	for n := range testenv.MaxRenewals + 1 {
		cases = append(cases, on(fmt.Sprintf("chain/%d renewals", n), testenv.Config{Renewals: n}, chain))
	}
	return append(cases,
		on("chain/renewed while running", testenv.Config{}, renewed),
		on("chain/garbage", testenv.Config{}, chainFails(testenv.BadChain)),
		on("chain/HTML", testenv.Config{}, chainFails(testenv.HTMLCertificate)),
		on("chain/empty", testenv.Config{}, chainFails(testenv.Empty)),
		on("chain/CA stopped", testenv.Config{}, chainFails(testenv.CAStopped)),
	)
}

func chain(b *bench) error {
	got, err := b.Chain(b.ctx)
	if err != nil {
		return fmt.Errorf("calling Chain: %w", err)
	}
	if len(got) != 2 || !got[0].Equal(b.ca.PKI.Current()) || !got[1].Equal(b.ca.Root) {
		var names []string
		for _, c := range got {
			names = append(names, c.Subject.CommonName)
		}
		return fmt.Errorf("chain %q; want the newest CA certificate, then the root", names)
	}
	return nil
}

// renewed: the CA gets a new key. From then on, that is what the chain begins
// with and what certificates are signed by.
func renewed(b *bench) error {
	if err := chain(b); err != nil {
		return err
	}
	pki, err := b.ca.RenewCA()
	if err != nil {
		return err
	}
	got, err := b.Chain(b.ctx)
	if err != nil {
		return fmt.Errorf("calling Chain: %w", err)
	}
	if len(got) == 0 || !got[0].Equal(pki.Current()) {
		return errors.New("after the renewal, the chain does not begin with the new certificate")
	}
	r, o, err := b.submit("CiscoRA")
	if err != nil {
		return err
	}
	if err := r.has(o); err != nil {
		return err
	}
	return o.Certificate.CheckSignatureFrom(got[0])
}

func chainFails(f testenv.Fault) func(*bench) error {
	return func(b *bench) error {
		b.ca.Inject(f, testenv.On(testenv.StepChain), testenv.Times(testenv.Forever))
		_, err := b.Chain(b.ctx)
		return mustFail("Chain", err)
	}
}
