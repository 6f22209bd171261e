package ra

import (
	"context"
	"crypto/x509"
	"errors"
	"slices"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/onlineca/onlineca/ra/event"
	"github.com/onlineca/onlineca/ra/fault"
)

// Fetcher asks a certificate authority what became of request reqID. The
// certificate carries csr's key, or the error is a fault.WrongKeyCertificate.
type Fetcher interface {
	Fetch(ctx context.Context, reqID int, csr *x509.CertificateRequest) (Result, error)
}

// Upstream is a certificate authority behind one address.
type Upstream interface {
	Enroller
	Fetcher
	ChainSource
	Authenticator
}

// Target is an [Upstream] with a name, behind a [Breaker]. It is an Upstream
// itself. Its results and Faults carry its name.
type Target struct {
	name    string
	next    Upstream
	breaker *Breaker

	mu      sync.Mutex
	refused *fault.Fault // by the last login of the service's own account
	since   time.Time
	success time.Time
}

// NewTarget puts a breaker before next.
func NewTarget(name string, next Upstream, cfg BreakerConfig) *Target {
	return &Target{name: name, next: next, breaker: NewBreaker(name, cfg)}
}

// TargetStatus is what is known of a target from the requests so far.
type TargetStatus struct {
	Name    string
	Breaker BreakerStatus
	// Refused is why the service's own account was not let in the last time,
	// nil if it was; Since says when.
	Refused *fault.Fault
	Since   time.Time
	// Success is when the target last did what it was asked with that account.
	Success time.Time
}

// Name is the target's name.
func (t *Target) Name() string { return t.name }

// Status is how things stand.
func (t *Target) Status() TargetStatus {
	t.mu.Lock()
	defer t.mu.Unlock()
	return TargetStatus{Name: t.name, Breaker: t.breaker.Status(), Refused: t.refused, Since: t.since, Success: t.success}
}

// Enroll submits r, once.
func (t *Target) Enroll(ctx context.Context, r Request) (res Result, err error) {
	err = t.own(ctx, "enrol", func() error { res, err = t.next.Enroll(ctx, r); return err })
	if err != nil {
		return Result{}, err
	}
	res.Target = t.name
	return res, nil
}

// Fetch asks what became of a request.
func (t *Target) Fetch(ctx context.Context, reqID int, csr *x509.CertificateRequest) (res Result, err error) {
	err = t.own(ctx, "fetch a certificate", func() error { res, err = t.next.Fetch(ctx, reqID, csr); return err })
	if err != nil {
		return Result{}, err
	}
	res.Target = t.name
	return res, nil
}

// CACerts fetches the chain.
func (t *Target) CACerts(ctx context.Context) (certs []*x509.Certificate, err error) {
	err = t.own(ctx, "fetch the CA chain", func() error { certs, err = t.next.CACerts(ctx); return err })
	return certs, err
}

// Authenticate verifies a client's credentials.
func (t *Target) Authenticate(ctx context.Context, c Credentials) error {
	op := "verify the credentials of " + c.Username
	return t.named(t.breaker.Do(ctx, op, func() error { return t.next.Authenticate(ctx, c) }))
}

// own does something with the service's own account, and notes whether that was
// let in.
func (t *Target) own(ctx context.Context, op string, f func() error) error {
	asked := false
	err := t.named(t.breaker.Do(ctx, op, func() error { asked = true; return f() }))
	if !asked {
		return err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case loginRefused(err):
		t.refused, t.since = fault.Of(err), time.Now()
	case err == nil || fault.Of(err).Code.Row().Upstream == fault.Working:
		t.refused, t.success = nil, time.Now()
	}
	return err
}

// loginRefused says whether err is about the account and not about the request.
func loginRefused(err error) bool {
	return errors.Is(err, fault.BadCredentials) || errors.Is(err, fault.LoginSuspended) || errors.Is(err, fault.EPARequired)
}

// named puts the target's name on a Fault.
func (t *Target) named(err error) error {
	if err == nil {
		return nil
	}
	var f *fault.Fault
	if errors.As(err, &f) && f.Target == t.name {
		return err
	}
	named := *fault.Of(err)
	named.Target = t.name
	return &named
}

// Failover asks the first of several targets that can be asked. It is an
// Upstream.
//
// A request goes on to the next target only if it has certainly not been
// submitted to the one before, and only if that is in trouble: it could not be
// reached, it failed in the login, or its breaker is open. A refused login ends
// it at once, so that an account is not locked on two hosts. The order is
// that of preference, and each request begins with the first: a target that is
// back is used again as soon as its breaker says so.
type Failover struct {
	targets []*Target
	log     *zap.Logger
}

// NewFailover returns targets in order of preference as one. Their names must
// differ, and there must be at least one. log may be nil.
func NewFailover(log *zap.Logger, targets ...*Target) *Failover {
	return &Failover{targets: targets, log: log}
}

// Targets are the targets in order of preference. The caller must not change
// the slice.
func (f *Failover) Targets() []*Target { return f.targets }

// Enroll submits r to one of the targets. Result.Target, or Fault.Target, names
// the one that has it.
func (f *Failover) Enroll(ctx context.Context, r Request) (res Result, err error) {
	err = f.first(ctx, unsent, func(t *Target) error { res, err = t.Enroll(ctx, r); return err })
	return res, err
}

// unsent says whether a request can go elsewhere.
func unsent(f *fault.Fault) bool {
	return f.Unsent && f.ReqID == 0 && (f.Code == fault.Busy || f.Code.Row().Upstream >= fault.Troubled)
}

// CACerts is the chain of the first target that delivers it.
func (f *Failover) CACerts(ctx context.Context) (certs []*x509.Certificate, err error) {
	err = f.first(ctx, troubled, func(t *Target) error { certs, err = t.CACerts(ctx); return err })
	return certs, err
}

// troubled says whether a question that does no harm can be asked elsewhere.
func troubled(f *fault.Fault) bool {
	return f.Code == fault.Busy || f.Code.Row().Upstream >= fault.Troubled
}

// Authenticate verifies a client's credentials at the first target that can be
// reached. Once a login has begun it is not repeated elsewhere: it may count as
// a failed attempt of the account.
func (f *Failover) Authenticate(ctx context.Context, c Credentials) error {
	return f.first(ctx, unreached, func(t *Target) error { return t.Authenticate(ctx, c) })
}

func unreached(f *fault.Fault) bool {
	return f.Code == fault.Busy || f.Code.Row().Upstream == fault.Unreachable
}

// first asks one target after the other until one's answer is final.
func (f *Failover) first(ctx context.Context, next func(*fault.Fault) bool, ask func(*Target) error) error {
	var failures []*fault.Fault
	for i, t := range f.targets {
		err := ask(t)
		if err == nil {
			return nil
		}
		why := fault.Of(err)
		if len(failures) == 0 && i == len(f.targets)-1 || !next(why) || ctx.Err() != nil {
			return err
		}
		failures = append(failures, why)
		if i < len(f.targets)-1 {
			event.Emit(ctx, f.log, event.FailedOver{From: t.name, To: f.targets[i+1].name, Code: why.Code.String()})
		}
	}
	return worst(failures)
}

// worst is the failure to report of several targets that could not be asked:
// the first real one, or, if all were left alone, the one that ends soonest.
func worst(failures []*fault.Fault) error {
	for _, f := range failures {
		if f.Code != fault.Busy {
			return f
		}
	}
	return slices.MinFunc(failures, func(a, b *fault.Fault) int { return int(a.RetryAfter - b.RetryAfter) })
}

// Fetch asks the first target that can be asked what became of a request. That
// is right where all are web servers of one certificate authority, whose
// numbers they share; see [Failover.Target] for where they are not.
func (f *Failover) Fetch(ctx context.Context, reqID int, csr *x509.CertificateRequest) (res Result, err error) {
	err = f.first(ctx, troubled, func(t *Target) error { res, err = t.Fetch(ctx, reqID, csr); return err })
	return res, err
}

// Target is the target of that name, for a request number that means something
// only to the one that gave it (Result.Target). The error says what to do about
// a name that is gone; "" stands for the first.
func (f *Failover) Target(name string) (*Target, error) {
	if name == "" {
		return f.targets[0], nil
	}
	var names []string
	for _, t := range f.targets {
		if t.name == name {
			return t, nil
		}
		names = append(names, t.name)
	}
	return nil, fault.Newf(fault.Unknown, "ask certsrv "+name,
		"it is not among the configured ones (%s); name it in certsrv.urls until its requests are settled", strings.Join(names, ", "))
}
