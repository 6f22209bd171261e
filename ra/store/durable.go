package store

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/google/uuid"
	"go.uber.org/zap"

	"github.com/onlineca/onlineca/ra"
	"github.com/onlineca/onlineca/ra/fault"
)

// Fetcher asks the certificate authority what became of a request number. The
// certificate must be for csr's key, or the error is a
// fault.WrongKeyCertificate. A number that was never handed out is a
// fault.NoSuchRequest; a denial is a Fault of its own.
type Fetcher interface {
	Fetch(ctx context.Context, reqID int, csr *x509.CertificateRequest) (ra.Result, error)
}

// Config says how requests are made durable. Store, Next and Fetch are needed.
type Config struct {
	Store *Store
	// Owner is this process's sign of life: see [Store.Own]. Without one, others
	// know that it has died when its leases end.
	Owner *Owner
	// Next submits: it sends the request to the certificate authority at most
	// once, and its error, if the outcome is not known, is one whose row is
	// Unsettled.
	Next ra.Enroller
	// Fetch looks requests up by number.
	Fetch Fetcher
	// Authority names the certificate authority that the numbers belong to.
	// Requests of others in the same database are left alone.
	Authority string

	// Patience is how long a client is kept waiting; then it is told to come
	// back, and the work goes on. 0 means 8 seconds: libEST's client gives up
	// after 10.
	Patience time.Duration
	// RetryAfter is what such a client is told to wait. 0 means 10 seconds.
	RetryAfter time.Duration
	// PendingRetryAfter is the least that a client is told to wait whose request
	// waits for a manager's approval (RFC 7030 section 4.2.3). 0 means one
	// minute, the least that libEST's own server tells; its client waits once and
	// then gives up.
	PendingRetryAfter time.Duration
	// Keep is how long an issued certificate answers the same request from the
	// same client. 0 means 24 hours.
	Keep time.Duration
	// SubmitTimeout ends a submission, whatever its client's patience. 0 means
	// five minutes.
	SubmitTimeout time.Duration
	// Grace is how long after its submission a request can still turn up at the
	// certificate authority: only then does its absence prove that it never got
	// there. A certificate that is there is found at once. 0 means 100 seconds:
	// IIS ends a script after 90 (scriptTimeout of its ASP limits), and a phone
	// that was in the middle of it comes back for longer than that.
	Grace time.Duration
	// ScanLimit is how many numbers are looked at for one lost answer, 0 means
	// 500; ScanGap how many in a row must never have been handed out to be the
	// end of them, 0 means 5.
	ScanLimit, ScanGap int

	// PollFirst and PollMax are the first and the longest pause between two
	// looks at a request that is not settled; the pauses double. 0 means 5
	// seconds and 10 minutes.
	PollFirst, PollMax time.Duration
	// PendingFor is how long a request may wait for a manager's approval. 0
	// means 30 days.
	PendingFor time.Duration
	// Tick is how often Run looks for work. 0 means one second.
	Tick time.Duration
	// Workers is how many requests Run asks after at once. 0 means 2.
	Workers int
	// Lease is how long a process that died keeps others from its requests. 0
	// means 30 seconds.
	Lease time.Duration

	// Audit gets a line for each certificate in the store: see [OpenAudit]. It
	// may be nil.
	Audit io.Writer
	// Logger may be nil.
	Logger *zap.Logger
}

// withDefaults fills in what was left out.
func (c Config) withDefaults() Config {
	for _, d := range []struct {
		value *time.Duration
		is    time.Duration
	}{
		{&c.Patience, 8 * time.Second}, {&c.RetryAfter, 10 * time.Second}, {&c.PendingRetryAfter, time.Minute}, {&c.Keep, 24 * time.Hour},
		{&c.SubmitTimeout, 5 * time.Minute}, {&c.Grace, 100 * time.Second},
		{&c.PollFirst, 5 * time.Second}, {&c.PollMax, 10 * time.Minute}, {&c.PendingFor, 30 * 24 * time.Hour},
		{&c.Tick, time.Second}, {&c.Lease, 30 * time.Second},
	} {
		if *d.value <= 0 {
			*d.value = d.is
		}
	}
	for _, d := range []struct {
		value *int
		is    int
	}{{&c.ScanLimit, 500}, {&c.ScanGap, 5}, {&c.Workers, 2}} {
		if *d.value <= 0 {
			*d.value = d.is
		}
	}
	if c.Logger == nil {
		c.Logger = zap.NewNop()
	}
	return c
}

// Durable is an [ra.Enroller] that writes each request down before it is
// submitted and after, answers a request that it knows with what it knows, and
// never submits one twice by itself. [Durable.Run] must run beside it.
type Durable struct {
	cfg   Config
	claim Claim
	audit *audit
	log   *zap.Logger

	mu      sync.Mutex
	flights map[string]*flight
	closed  bool
	work    sync.WaitGroup // flights under way
	crew    crew
	// life ends when the process does not want to wait for its flights any more.
	life context.Context
	end  context.CancelFunc
}

// NewDurable checks the configuration, and that the audit log has kept what the
// store says of it. Nothing is started.
func NewDurable(cfg Config) (*Durable, error) {
	if cfg.Store == nil || cfg.Next == nil || cfg.Fetch == nil {
		return nil, errors.New("store: a durable enroller needs a store, an enroller and a fetcher")
	}
	cfg = cfg.withDefaults()
	d := &Durable{
		cfg: cfg, log: cfg.Logger, flights: map[string]*flight{},
		claim: Claim{Owner: uuid.NewString(), Lease: cfg.Lease, Authority: cfg.Authority, Keep: cfg.Keep},
		audit: newAudit(cfg.Store, cfg.Audit, cfg.Logger),
	}
	if cfg.Owner != nil {
		d.claim.Owner = cfg.Owner.name
	}
	if err := d.audit.mend(context.Background()); err != nil {
		return nil, err
	}
	d.life, d.end = context.WithCancel(context.Background())
	d.crew = crew{idle: make(chan func()), over: d.life.Done()}
	return d, nil
}

// Enroll answers with the certificate, or with what is known of the request. A
// client whose patience is over gets a fault.InProgress: it is to come back
// with the same request, which goes on meanwhile.
func (d *Durable) Enroll(ctx context.Context, r ra.Request) (ra.Result, error) {
	rec, err := newRecord(r, d.cfg.Authority)
	if err != nil {
		return ra.Result{}, fault.New(fault.MalformedCSR, "enrol", err)
	}
	f, err := d.join(ctx, &rec, r)
	if err != nil {
		return ra.Result{}, err
	}
	patience := time.NewTimer(d.cfg.Patience)
	defer patience.Stop()
	select {
	case <-f.done:
		return f.res, f.err
	case <-patience.C:
		return ra.Result{}, d.inProgress(fmt.Errorf("no outcome within %v", d.cfg.Patience))
	case <-ctx.Done():
		return ra.Result{}, fault.New(fault.Canceled, "enrol", context.Cause(ctx))
	}
}

// inProgress tells a client to come back.
func (d *Durable) inProgress(why error) *fault.Fault {
	f := fault.New(fault.InProgress, "enrol", why)
	f.RetryAfter = d.cfg.RetryAfter
	return f
}

// join returns the flight of a request, starting one if there is none. It goes
// on when the client that started it is gone.
func (d *Durable) join(ctx context.Context, rec *Record, r ra.Request) (*flight, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if f, ok := d.flights[rec.Key]; ok {
		return f, nil
	}
	if d.closed {
		return nil, d.inProgress(errors.New("the server is being shut down"))
	}
	f := &flight{d: d, r: r, rec: *rec, key: rec.Key, ctx: life{d.life, ctx}, done: make(chan struct{})}
	d.flights[f.key] = f
	d.work.Add(1)
	f.takeOff()
	return f, nil
}

// elsewhere is how often another process's submission is looked at.
const elsewhere = 250 * time.Millisecond

// proceed does what the state of the request calls for, until there is something
// to tell the client. mine says that the request has been begun already.
func (f *flight) proceed(mine bool) {
	d, submitted := f.d, false
	patience := time.Now().Add(d.cfg.Patience)
	for ; ; mine = false {
		var err error
		if !mine {
			if mine, err = f.claim(); err != nil {
				f.land(ra.Result{}, err)
				return
			}
		}
		if mine {
			if f.submit() {
				return
			}
			submitted = true
		}
		if f.rec, err = f.follow(); err != nil {
			f.land(ra.Result{}, err)
			return
		}
		// A request that never arrived is begun anew, but not twice for one ask;
		// one that another process works on is looked at again, while somebody
		// waits for it.
		now := time.Now()
		again := f.rec.State == Failed && !submitted || f.rec.LeaseUntil.After(now)
		if !again || now.After(patience) {
			f.land(d.tell(f.rec, now))
			return
		}
	}
}

// claim begins the request, if nobody has, and says whether that was so.
func (f *flight) claim() (mine bool, err error) {
	d := f.d
	fresh, err := newRecord(f.r, d.cfg.Authority)
	if err != nil {
		return false, fault.New(fault.MalformedCSR, "enrol", err)
	}
	ctx, end := context.WithDeadline(f.ctx, f.limit)
	defer end()
	f.rec, mine, err = d.cfg.Store.claim(ctx, fresh, d.claim, time.Now())
	return mine, err
}

// follow finds out more about a request that was submitted before. Whoever
// holds the lease of one may be dead.
func (f *flight) follow() (Record, error) {
	ctx, end := context.WithDeadline(f.ctx, f.limit)
	defer end()
	d, rec, now := f.d, f.rec, time.Now()
	switch {
	case rec.State.open() && rec.LeaseUntil.After(now):
		if o := d.cfg.Owner; o != nil && rec.LeaseOwner != d.claim.Owner {
			if n, err := o.bury(ctx, rec.LeaseOwner, now); n > 0 || err != nil {
				return rec, err
			}
		}
		return rec, pause(ctx, elsewhere)
	case rec.State.open() && d.worthAsking(rec, now):
		return d.ask(ctx, rec.ID, now, false)
	default:
		return rec, nil
	}
}

// worthAsking tells whether the certificate authority is asked after a request
// because its client has come back, even if its next look is later: what has
// been issued meanwhile is for this answer. Not so where a person has to decide
// first, and that has just been asked.
func (d *Durable) worthAsking(rec Record, now time.Time) bool {
	switch {
	case !rec.Next.After(now):
		return true
	case rec.State == Unknown: // unless all numbers were looked at in vain, and it is too late for another
		return now.Before(d.graceEnd(rec)) || rec.Code != fault.OutcomeUnknown.String()
	default:
		return rec.Code != "" || !now.Before(rec.Updated.Add(d.cfg.PollFirst))
	}
}

// graceEnd is when the absence of a request proves that it never arrived.
func (d *Durable) graceEnd(rec Record) time.Time { return rec.Submitted.Add(d.cfg.Grace) }

func pause(ctx context.Context, length time.Duration) error {
	timer := time.NewTimer(length)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return fault.New(fault.Canceled, "enrol", context.Cause(ctx))
	}
}

// tell says what is known of a request, in the terms of an enroller.
func (d *Durable) tell(rec Record, now time.Time) (ra.Result, error) {
	// Rounded up: who comes back is not to come just before the next look.
	wait := (max(rec.Next.Sub(now), d.cfg.RetryAfter) + time.Second - 1).Truncate(time.Second)
	switch rec.State {
	case Issued:
		return issued(rec)
	case Pending:
		if rec.Code != "" { // not a manager's decision is waited for, but certsrv
			f := d.inProgress(fmt.Errorf("request %d is at the authority, and its certificate could not be fetched: %s", rec.ReqID, rec.Message))
			f.ReqID, f.RetryAfter = rec.ReqID, wait
			return ra.Result{}, f
		}
		return d.pending(rec, now), nil
	case Denied, Expired:
		code, _ := fault.Lookup(rec.Code)
		return ra.Result{}, &fault.Fault{Code: code, Op: "enrol", ReqID: rec.ReqID, Message: rec.Message, Denied: rec.State == Denied}
	case Unknown:
		// Until a look has begun after the grace, the next is due at its end.
		if end := d.graceEnd(rec); now.After(end) && rec.Next.After(end) {
			return ra.Result{}, fault.Newf(fault.OutcomeUnknown, "enrol", "record %s: %s", rec.ID, rec.Message)
		}
		// It is looked for again whenever the client comes.
		wait = min(wait, 3*d.cfg.RetryAfter)
	}
	f := d.inProgress(fmt.Errorf("record %s is %s", rec.ID, rec.State))
	f.RetryAfter = wait
	return ra.Result{}, f
}

// pending is the answer while a manager has not decided. That takes longer than
// anything a machine does.
func (d *Durable) pending(rec Record, now time.Time) ra.Result {
	wait := max(rec.Next.Sub(now), d.cfg.PendingRetryAfter).Round(time.Second)
	return ra.Result{State: ra.Pending, ReqID: rec.ReqID, RetryAfter: wait, Message: rec.Message}
}

// issued is the answer that a record holds.
func issued(rec Record) (ra.Result, error) {
	cert, err := x509.ParseCertificate(rec.Certificate)
	if err != nil {
		return ra.Result{}, fault.New(fault.Internal, "read the certificate of record "+rec.ID, err)
	}
	return ra.Result{State: ra.Issued, ReqID: rec.ReqID, Certificate: cert}, nil
}

// Close stops taking requests, waits for those under way until ctx ends, and
// gives up the rest, whose outcome is then found out after the next start. The
// audit log is on the disk then. It and the store stay open.
func (d *Durable) Close(ctx context.Context) error {
	d.mu.Lock()
	d.closed = true
	d.mu.Unlock()
	finished := make(chan struct{})
	go func() { d.work.Wait(); close(finished) }()
	select {
	case <-finished:
	case <-ctx.Done():
		d.end()
		<-finished
	}
	d.end()
	d.audit.sync()
	return nil
}
