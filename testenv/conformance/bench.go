package conformance

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"time"

	"github.com/onlineca/onlineca/testenv"
)

// bench is a client, and the mock that it is tried on.
type bench struct {
	ctx    context.Context
	ca     *testenv.Certsrv
	target Target
	Client
}

// on makes a case of a mock and what to try on it.
func on(name string, conf testenv.Config, try func(b *bench) error) Case {
	return with(name, conf, func(*Target) {}, try)
}

// with is on, for a client that is set up in another way.
func with(name string, conf testenv.Config, change func(*Target), try func(b *bench) error) Case {
	return Case{Name: name, Check: func(ctx context.Context, newClient func(Target) Client) (err error) {
		ca, err := testenv.Start(conf)
		if err != nil {
			return err
		}
		defer ca.Close()
		b := &bench{ctx: ctx, ca: ca, target: Target{
			URL: ca.URL, Roots: ca.Pool(), User: testenv.DefaultUser, Password: testenv.DefaultPassword,
			Template: "CiscoRA", Timeout: timeout,
		}}
		change(&b.target)
		b.Client = newClient(b.target)
		defer func() {
			if closeErr := b.Close(); err == nil && closeErr != nil {
				err = fmt.Errorf("calling Close: %w", closeErr)
			}
		}()
		if err := try(b); err != nil {
			return err
		}
		if ctx.Err() != nil {
			return fmt.Errorf("the client does not keep to its timeout of %v: %w", b.target.Timeout, ctx.Err())
		}
		return nil
	}}
}

// request is a new key's certificate request.
type request struct {
	key *ecdsa.PrivateKey
	der []byte
}

func newRequest(name string) (request, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return request{}, err
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: pkix.Name{CommonName: name}}, key)
	return request{key, der}, err
}

// has reports what is wrong with the certificate for r.
func (r request) has(o Outcome) error {
	switch {
	case o.State != Issued:
		return fmt.Errorf("state %q (%s), want issued", o.State, o.Message)
	case o.Certificate == nil:
		return errors.New("issued, and no certificate")
	case !r.key.PublicKey.Equal(o.Certificate.PublicKey):
		return errors.New("the certificate is for another key")
	case o.ReqID == 0:
		return errors.New("issued, and no ReqID")
	}
	return nil
}

// enrol submits a new request, which must be issued.
func (b *bench) enrol() error {
	r, err := newRequest("SEP001122334455")
	if err != nil {
		return err
	}
	o, err := b.Submit(b.ctx, r.der, b.target.Template)
	if err != nil {
		return fmt.Errorf("calling Submit: %w", err)
	}
	if err := r.has(o); err != nil {
		return err
	}
	for _, row := range b.ca.Issued() {
		if row.ReqID == o.ReqID && bytes.Equal(row.Certificate.Raw, o.Certificate.Raw) {
			return nil
		}
	}
	return fmt.Errorf("request %d has another certificate at the CA", o.ReqID)
}

// submit submits a new request for template.
func (b *bench) submit(template string) (request, Outcome, error) {
	r, err := newRequest("SEP001122334455")
	if err != nil {
		return r, Outcome{}, err
	}
	o, err := b.Submit(b.ctx, r.der, template)
	if err != nil {
		return r, o, fmt.Errorf("calling Submit: %w", err)
	}
	return r, o, nil
}

// mustFail turns an error that must be into none.
func mustFail(what string, err error) error {
	if err == nil {
		return errors.New("no error from " + what)
	}
	return nil
}

// short is the timeout of clients that are made to wait: long enough for a slow
// machine, short enough to try often.
const short = 1500 * time.Millisecond

func impatient(t *Target) { t.Timeout = short }
