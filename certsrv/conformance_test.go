package certsrv_test

import (
	"context"
	"crypto/x509"
	"errors"
	"testing"

	"github.com/onlineca/onlineca/certsrv"
	"github.com/onlineca/onlineca/ra"
	"github.com/onlineca/onlineca/testenv/conformance"
)

// TestConformance runs the client through everything that the mock can do, and
// through a real AD CS if the environment names one: see
// testenv/conformance.RealTarget.
func TestConformance(t *testing.T) {
	conformance.Run(t, func(target conformance.Target) conformance.Client {
		c, err := certsrv.New(certsrv.Config{
			URL: target.URL + "/certsrv", Username: target.User, Password: target.Password,
			Template: target.Template, Roots: target.Roots,
			Timeouts: certsrv.Timeouts{Login: target.Timeout, Page: target.Timeout, Submit: target.Timeout, Fetch: target.Timeout},
		})
		if err != nil {
			t.Error(err)
		}
		return conforming{c}
	})
}

// conforming is a Client as the suite wants it.
type conforming struct{ *certsrv.Client }

func (c conforming) Templates(ctx context.Context) ([]string, error) {
	list, err := c.Client.Templates(ctx)
	var names []string
	for _, t := range list {
		names = append(names, t.Name)
	}
	return names, err
}

func (c conforming) Chain(ctx context.Context) ([]*x509.Certificate, error) { return c.CACerts(ctx) }

func (c conforming) Submit(ctx context.Context, csr []byte, template string) (conformance.Outcome, error) {
	parsed, err := x509.ParseCertificateRequest(csr)
	if err != nil {
		return conformance.Outcome{}, err
	}
	return outcome(c.Enroll(ctx, ra.Request{Operation: ra.Enroll, CSR: parsed, Template: template}))
}

func (c conforming) Fetch(ctx context.Context, id int, csr []byte) (conformance.Outcome, error) {
	parsed, err := x509.ParseCertificateRequest(csr)
	if err != nil {
		return conformance.Outcome{}, err
	}
	return outcome(c.Client.Fetch(ctx, id, parsed))
}

func (c conforming) Close() error {
	c.Client.Close()
	return nil
}

// outcome makes an outcome of a denial.
func outcome(r ra.Result, err error) (conformance.Outcome, error) {
	var no *certsrv.Refusal
	if errors.As(err, &no) && no.Denied {
		return conformance.Outcome{State: conformance.Denied, ReqID: no.ReqID, Code: no.HRESULT, Message: no.Message}, nil
	}
	if err != nil {
		return conformance.Outcome{}, err
	}
	return conformance.Outcome{
		State: conformance.State(r.State), ReqID: r.ReqID, Certificate: r.Certificate, Message: r.Message,
	}, nil
}
