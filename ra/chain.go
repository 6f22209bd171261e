package ra

import (
	"bytes"
	"context"
	"crypto/x509"
	"errors"
	"slices"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/onlineca/onlineca/ra/event"
	"github.com/onlineca/onlineca/ra/fault"
)

// Chain is a [ChainSource] that keeps what another one delivered, so that a
// client's question costs nothing and is answered while the certificate
// authority is away.
type Chain struct {
	source ChainSource
	cfg    ChainConfig
	kept   atomic.Pointer[keptChain]

	turn  chan struct{} // held by who looks whether the CA has been renewed
	asked time.Time     // when that was last done
}

type keptChain struct {
	certs []*x509.Certificate
	since time.Time
}

// ChainConfig says how a [Chain] is kept fresh. The zero value is useful.
type ChainConfig struct {
	// Refresh is how often the chain is fetched again. 0 means every hour.
	Refresh time.Duration
	// Retry is how soon after a failed refresh, and how soon [Chain.Follow] may
	// look again. 0 means after a minute.
	Retry time.Duration
	// Log may be nil.
	Log *zap.Logger
}

// NewChain fetches the chain from source and keeps it. That it cannot be
// fetched is an error that names the cause. [Chain.Run] refreshes it from then
// on.
func NewChain(ctx context.Context, source ChainSource, cfg ChainConfig) (*Chain, error) {
	if cfg.Refresh <= 0 {
		cfg.Refresh = time.Hour
	}
	if cfg.Retry <= 0 {
		cfg.Retry = time.Minute
	}
	c := &Chain{source: source, cfg: cfg, turn: make(chan struct{}, 1)}
	certs, err := c.fetch(ctx)
	if err != nil {
		return nil, err
	}
	c.kept.Store(&keptChain{certs: certs, since: time.Now()})
	return c, nil
}

// CACerts returns the chain last fetched: issuing CA first, root last. The
// caller must not change it.
func (c *Chain) CACerts(context.Context) ([]*x509.Certificate, error) {
	return c.kept.Load().certs, nil
}

// Run refreshes the chain until ctx ends, and returns nil then. A refresh that
// fails leaves the chain as it was.
func (c *Chain) Run(ctx context.Context) error {
	timer := time.NewTimer(c.cfg.Refresh)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-timer.C:
		}
		if err := c.Refresh(ctx); err != nil {
			timer.Reset(c.cfg.Retry)
			continue
		}
		timer.Reset(c.cfg.Refresh)
	}
}

// Refresh fetches the chain now.
func (c *Chain) Refresh(ctx context.Context) error {
	old := c.kept.Load()
	certs, err := c.fetch(ctx)
	if err != nil {
		if ctx.Err() == nil {
			event.Emit(ctx, c.cfg.Log, event.ChainStale{
				Since: old.since, Code: fault.Of(err).Code.String(), Error: err.Error(),
			})
		}
		return err
	}
	if !slices.EqualFunc(old.certs, certs, (*x509.Certificate).Equal) {
		e := event.ChainChanged{}
		for _, cert := range certs {
			e.Subjects = append(e.Subjects, cert.Subject.String())
			e.Serials = append(e.Serials, cert.SerialNumber.Text(16))
		}
		event.Emit(ctx, c.cfg.Log, e)
	}
	c.kept.Store(&keptChain{certs: certs, since: time.Now()})
	return nil
}

func (c *Chain) fetch(ctx context.Context) ([]*x509.Certificate, error) {
	certs, err := c.source.CACerts(ctx)
	if err != nil {
		return nil, err
	}
	if len(certs) == 0 {
		return nil, fault.Newf(fault.ChainUnreadable, "fetch the CA chain", "it has no certificate")
	}
	return certs, nil
}

// followTimeout is how long an enrolment waits for the new chain. The
// certificate is there already, and the client waits for it.
const followTimeout = 3 * time.Second

// Follow returns an Enroller that has the chain fetched anew as soon as next
// delivers a certificate that was not signed by the issuing CA of the chain: the
// CA has been renewed, and whoever gets the certificate finds its issuer in the
// chain at once, and not after [ChainConfig.Refresh]. All enrolments that notice
// it share one fetch. The enrolment succeeds whatever becomes of that.
func (c *Chain) Follow(next Enroller) Enroller {
	return EnrollerFunc(func(ctx context.Context, r Request) (Result, error) {
		res, err := next.Enroll(ctx, r)
		if err == nil && res.Certificate != nil && !c.signed(res.Certificate) {
			c.catchUp(ctx, res.Certificate)
		}
		return res, err
	})
}

// catchUp fetches the chain unless somebody else has just done so.
func (c *Chain) catchUp(ctx context.Context, cert *x509.Certificate) {
	ctx, cancel := context.WithTimeout(ctx, followTimeout)
	defer cancel()
	select {
	case c.turn <- struct{}{}:
		defer func() { <-c.turn }()
	case <-ctx.Done():
		return
	}
	if c.signed(cert) || !c.asked.IsZero() && time.Since(c.asked) < c.cfg.Retry {
		return
	}
	c.asked = time.Now()
	_ = c.Refresh(ctx) // the event says it
}

// signed says whether the issuing CA of the chain has signed cert. The names of
// CA and key decide where both have them, as they do with AD CS: a verification
// for every certificate would cost more than all else that is done for it.
// Otherwise the signature decides, or, where the algorithm is one that Go no
// longer verifies (SHA-1), the names again.
func (c *Chain) signed(cert *x509.Certificate) bool {
	ca := c.kept.Load().certs[0]
	if len(ca.SubjectKeyId) > 0 && len(cert.AuthorityKeyId) > 0 {
		return bytes.Equal(ca.RawSubject, cert.RawIssuer) && bytes.Equal(ca.SubjectKeyId, cert.AuthorityKeyId)
	}
	err := ca.CheckSignature(cert.SignatureAlgorithm, cert.RawTBSCertificate, cert.Signature)
	var insecure x509.InsecureAlgorithmError
	return err == nil || errors.As(err, &insecure) && bytes.Equal(ca.RawSubject, cert.RawIssuer) && bytes.Equal(ca.SubjectKeyId, cert.AuthorityKeyId)
}
