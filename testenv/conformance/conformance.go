// Package conformance runs a client of AD CS Web Enrollment through everything
// that a certsrv does to its clients: every outcome of a request, in every
// language of the pages, every way to log in, every fault of the network, of
// IIS and of the certificate authority.
//
// A client takes part by implementing [Client]. The suite runs it against mocks
// of package testenv, and against a real AD CS if environment variables name
// one: see [RealTarget].
package conformance

import (
	"context"
	"crypto/x509"
	"testing"
	"time"
)

// Target is the certsrv that a client shall use, and as whom.
type Target struct {
	// URL is the server's address without a path: https://host:port.
	URL string
	// Roots are what the server's certificate must lead to.
	Roots *x509.CertPool
	// User is DOMAIN\user, user@domain or a bare user name.
	User, Password string
	// Template is the CN of a template that issues at once.
	Template string
	// Timeout is how long the client may wait for each answer.
	Timeout time.Duration
}

// State is what became of a request.
type State string

// The states.
const (
	Issued  State = "issued"
	Pending State = "pending"
	Denied  State = "denied"
)

// Outcome is the certificate authority's answer to a request.
type Outcome struct {
	State State
	// ReqID is the request's number, 0 if the answer has none.
	ReqID int
	// Code is the HRESULT of a denial, 0 if there is none.
	Code uint32
	// Message is the certificate authority's own.
	Message string
	// Certificate is set in state Issued.
	Certificate *x509.Certificate
}

// Client is a client of certsrv. A denial is an outcome; an error is everything
// else that is no answer of the certificate authority's. A client is used by
// many goroutines at once.
type Client interface {
	// Login makes sure that the credentials are good.
	Login(ctx context.Context) error
	// Templates lists the CNs of the templates that the page offers.
	Templates(ctx context.Context) ([]string, error)
	// Chain returns the CA's certificates, the newest issuing CA's first and
	// the root last.
	Chain(ctx context.Context) ([]*x509.Certificate, error)
	// Submit sends a request (PKCS#10, DER) and, if the certificate is issued
	// at once, fetches it. It must never send a request twice, unless it knows
	// that the first was not taken.
	Submit(ctx context.Context, csr []byte, template string) (Outcome, error)
	// Fetch asks what has become of request id, which was csr (PKCS#10, DER).
	Fetch(ctx context.Context, id int, csr []byte) (Outcome, error)
	// Close gives back what the client holds.
	Close() error
}

// Case is one thing that a client must do right.
type Case struct {
	// Name is a path: "outcome/de/pending".
	Name string
	// Check returns what the client did wrong.
	Check func(ctx context.Context, newClient func(Target) Client) error
}

// timeout is what a client may wait in cases that are not about waiting.
const timeout = 30 * time.Second

// Run runs a client through all cases, and against a real AD CS if there is
// one.
func Run(t *testing.T, newClient func(Target) Client) {
	t.Helper()
	for _, c := range Cases() {
		t.Run(c.Name, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithTimeout(t.Context(), 2*timeout)
			defer cancel()
			if err := c.Check(ctx, newClient); err != nil {
				t.Error(err)
			}
		})
	}
	t.Run("real", func(t *testing.T) { runReal(t, newClient) })
}

// Cases lists all cases that need no real AD CS.
func Cases() []Case {
	var all []Case
	all = append(all, loginCases()...)
	all = append(all, outcomeCases()...)
	all = append(all, caCases()...)
	all = append(all, faultCases()...)
	return append(all, loadCases()...)
}
