// Package ra is the registration authority itself: a request comes in, policy
// decides, an enroller upstream is asked, the outcome is remembered.
//
// It knows nothing of HTTP, TLS listeners or HTML. The rooms that do (the EST
// server, the client of AD CS Web Enrollment) meet in the types of this
// package and are joined where a process is wired.
//
// Every policy, throttle or record-keeper is a decorator of [Enroller]:
// something that takes an Enroller and is one.
package ra

import (
	"context"
	"crypto/x509"
	"time"
)

// Operation is what a client asks for.
type Operation string

// The operations that lead to a certificate (RFC 7030 sections 4.2.1, 4.2.2).
const (
	Enroll   Operation = "simpleenroll"
	Reenroll Operation = "simplereenroll"
)

// Request is one request for a certificate.
type Request struct {
	Operation Operation
	// CSR is the parsed PKCS#10 request. Its signature has been verified by
	// [ParseCSR], or will be refused by whoever receives it.
	CSR *x509.CertificateRequest
	// Template is the CN of the AD CS certificate template to ask for. Empty
	// means the enroller's own default.
	Template string
	// Label is the EST label (RFC 7030 section 3.2.2) that the request came
	// in by, empty for none.
	Label string
	// Client says who asks.
	Client Client
}

// Client is the party that asked, as far as it is known.
type Client struct {
	// Name is what the client authenticated as: a user name, or the subject
	// common name of its certificate. Empty for an anonymous client.
	Name string
	// Method says how: "basic", "certificate", "certsrv", or empty.
	Method string
	// Addr is the client's network address.
	Addr string
	// Certificate is the TLS client certificate, nil for none.
	Certificate *x509.Certificate
}

// State is what became of a request that did not fail.
type State string

// A request that was accepted is one of these. Denials and failures are errors.
const (
	Issued  State = "issued"
	Pending State = "pending"
)

// Result is the outcome of a request that was neither denied nor failed.
type Result struct {
	State State
	// ReqID is the request's number at the certificate authority.
	ReqID int
	// Certificate is set when State is Issued. It carries the public key of
	// the request.
	Certificate *x509.Certificate
	// RetryAfter is set when State is Pending: how long to wait before asking
	// again.
	RetryAfter time.Duration
	// Message is the certificate authority's own words, if it had any.
	Message string
	// Target names the certsrv that ReqID is a number of, where there may be
	// several. See [Failover].
	Target string
}

// Enroller turns a request into a certificate.
//
// The error, if any, wraps a *fault.Fault. Enroll returns when its context
// ends, but what has been submitted may still be issued.
type Enroller interface {
	Enroll(ctx context.Context, r Request) (Result, error)
}

// EnrollerFunc is a function that is an [Enroller].
type EnrollerFunc func(ctx context.Context, r Request) (Result, error)

// Enroll calls f.
func (f EnrollerFunc) Enroll(ctx context.Context, r Request) (Result, error) { return f(ctx, r) }

// ChainSource knows the certificate authority's certificates: the issuing CA
// first, the root last.
type ChainSource interface {
	CACerts(ctx context.Context) ([]*x509.Certificate, error)
}

// Credentials is a user name and password as a client presented them.
type Credentials struct {
	Username string
	Password string
}

// String names the user and never the password.
func (c Credentials) String() string { return c.Username }

// GoString names the user and never the password.
func (c Credentials) GoString() string { return "ra.Credentials{" + c.Username + "}" }

// Authenticator decides whether credentials are good. A nil error means yes;
// refusal is a fault.BadCredentials or fault.Template, and an upstream that
// could not be asked is a fault of its own.
type Authenticator interface {
	Authenticate(ctx context.Context, c Credentials) error
}
