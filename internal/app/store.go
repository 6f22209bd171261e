package app

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/onlineca/onlineca/ra"
	"github.com/onlineca/onlineca/ra/store"
)

// noStore is the setting for none.
const noStore = "none"

// RequestSettings is how requests are remembered: see store.Config.
type RequestSettings struct {
	// Patience is how long a client waits; then it is told to come back, and
	// the work goes on. Default 8s: libEST's client gives up after 10.
	Patience time.Duration `yaml:"patience,omitempty"`
	// RetryAfter is what such a client is told to wait. Default 10s.
	RetryAfter time.Duration `yaml:"retry_after,omitempty"`
	// PendingRetryAfter is the least that a client is told to wait whose request
	// waits for a manager. Default 1m.
	PendingRetryAfter time.Duration `yaml:"pending_retry_after,omitempty"`
	// Keep is how long an issued certificate answers the same request from the
	// same client. Default 24h.
	Keep time.Duration `yaml:"keep,omitempty"`
	// PendingFor is how long a request may wait for a manager. Default 720h.
	PendingFor time.Duration `yaml:"pending_for,omitempty"`
	// Grace is how long after it was sent a request whose answer was lost can
	// still turn up at the CA; before that it is not submitted anew. One that
	// has a certificate there is found at once. Default 100s: IIS ends a script
	// after 90.
	Grace time.Duration `yaml:"grace,omitempty"`
	// Lease is how long a machine that has gone from the network keeps the others
	// that share a PostgreSQL from its requests; those of a process that died are
	// free at once. Default 30s.
	Lease time.Duration `yaml:"lease,omitempty"`
	// PollFirst and PollMax are the first and the longest pause between two
	// looks at a request that is not settled. Defaults 5s and 10m.
	PollFirst time.Duration `yaml:"poll_first,omitempty"`
	PollMax   time.Duration `yaml:"poll_max,omitempty"`
	// Audit is a file that gets one line for each certificate: who got which
	// serial number when. Default: audit.jsonl in the state directory.
	Audit string `yaml:"audit,omitempty"`
}

func (r *RequestSettings) defaults(state string) {
	orDuration(&r.Patience, 8*time.Second)
	orDuration(&r.RetryAfter, 10*time.Second)
	orDuration(&r.PendingRetryAfter, time.Minute)
	orDuration(&r.Keep, 24*time.Hour)
	orDuration(&r.PendingFor, 30*24*time.Hour)
	orDuration(&r.Grace, 100*time.Second)
	orDuration(&r.Lease, 30*time.Second)
	orDuration(&r.PollFirst, 5*time.Second)
	orDuration(&r.PollMax, 10*time.Minute)
	orString(&r.Audit, filepath.Join(state, "audit.jsonl"))
}

func (r *RequestSettings) validate(v *mistakes) {
	for _, d := range []struct {
		key   string
		value time.Duration
	}{
		{"requests.patience", r.Patience}, {"requests.retry_after", r.RetryAfter},
		{"requests.pending_retry_after", r.PendingRetryAfter},
		{"requests.keep", r.Keep}, {"requests.pending_for", r.PendingFor},
		{"requests.grace", r.Grace}, {"requests.lease", r.Lease},
		{"requests.poll_first", r.PollFirst}, {"requests.poll_max", r.PollMax},
	} {
		if d.value < time.Millisecond {
			v.add(d.key, "%v is too short; write a duration with its unit, for example 10s", d.value)
		}
	}
}

// records is the memory of a registration authority.
type records struct {
	*store.Durable
	store *store.Store
	owner *store.Owner
	audit *store.AuditFile
}

// openRecords opens the store and the audit log.
func openRecords(ctx context.Context, s Settings) (_ *records, err error) {
	r := new(records)
	defer func() {
		if err != nil {
			err = errors.Join(err, r.close(ctx))
		}
	}()
	if !store.IsPostgres(s.Store) {
		if err := os.MkdirAll(filepath.Dir(s.Store), 0o700); err != nil {
			return nil, fmt.Errorf("store: %w", err)
		}
	}
	if r.store, err = store.Open(ctx, s.Store); err != nil {
		return nil, err
	}
	if r.owner, err = r.store.Own(ctx); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(filepath.Dir(s.Requests.Audit), 0o700); err != nil {
		return nil, fmt.Errorf("requests.audit: %w", err)
	}
	if r.audit, err = store.OpenAudit(s.Requests.Audit); err != nil {
		return nil, err
	}
	return r, nil
}

// start makes next durable. first is the first certificate of the CA that the
// request numbers belong to, issuing its newest.
func (r *records) start(ctx context.Context, s Settings, next ra.Enroller, ask *ra.Failover, first, issuing *x509.Certificate, log *zap.Logger) error {
	name := authorityName(first)
	if err := r.adopt(ctx, formerName(issuing), name, log); err != nil {
		return err
	}
	t := s.Certsrv.Timeouts
	var err error
	r.Durable, err = store.NewDurable(store.Config{
		Store: r.store, Owner: r.owner, Next: next, Fetch: ask,
		Authority: name,
		Patience:  s.Requests.Patience, RetryAfter: s.Requests.RetryAfter, PendingRetryAfter: s.Requests.PendingRetryAfter,
		Keep: s.Requests.Keep, PendingFor: s.Requests.PendingFor,
		Grace: s.Requests.Grace, Lease: s.Requests.Lease,
		PollFirst: s.Requests.PollFirst, PollMax: s.Requests.PollMax,
		SubmitTimeout: 2*t.Login + t.Submit + t.Fetch + 5*time.Minute, // the queue among it
		Audit:         r.audit, Logger: log,
	})
	return err
}

// adopt gives the records of a CA the name that it has now, and says which
// requests nobody asks after any more because their CA is gone.
func (r *records) adopt(ctx context.Context, former, name string, log *zap.Logger) error {
	n, err := r.store.Adopt(ctx, former, name)
	if err != nil || log == nil {
		return err
	}
	if n > 0 {
		log.Info("records of the CA have another name now", zap.String("was", former), zap.String("is", name), zap.Int("records", n))
	}
	others, err := r.store.OpenElsewhere(ctx, name)
	if err != nil {
		return err
	}
	common, _, _ := strings.Cut(name, " (")
	for authority, n := range others {
		if strings.HasPrefix(authority, common+" (") {
			log.Warn("requests are open at a former CA of the same name, and nobody asks after them; see onlineca requests list, and forget them",
				zap.String("authority", authority), zap.Int("requests", n))
		}
	}
	return nil
}

// authorityName names a CA by the key of its first certificate. Renewals keep
// that, and with it the request numbers go on; a CA that is installed anew, under
// whatever name, has another.
func authorityName(first *x509.Certificate) string {
	sum := sha256.Sum256(first.RawSubjectPublicKeyInfo)
	return fmt.Sprintf("%s (%x)", first.Subject.CommonName, sum[:8])
}

// formerName is what earlier versions called a CA, by its subject alone.
func formerName(issuing *x509.Certificate) string {
	sum := sha256.Sum256(issuing.RawSubject)
	return fmt.Sprintf("%s (%x)", issuing.Subject.CommonName, sum[:4])
}

// counts is for the metrics: how many requests there are of each state.
func (r *records) counts(ctx context.Context) (map[string]int, error) {
	all, err := r.store.Counts(ctx)
	if err != nil {
		return nil, err
	}
	words := make(map[string]int, len(all))
	for state, n := range all {
		words[string(state)] = n
	}
	return words, nil
}

// close waits for what is under way until ctx ends, and closes the files.
func (r *records) close(ctx context.Context) error {
	var errs []error
	if r.Durable != nil {
		errs = append(errs, r.Close(ctx))
	}
	if r.owner != nil {
		errs = append(errs, r.owner.Close())
	}
	if r.store != nil {
		errs = append(errs, r.store.Close())
	}
	if r.audit != nil {
		errs = append(errs, r.audit.Close())
	}
	return errors.Join(errs...)
}
