package capf

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/onlineca/onlineca/ra/event"
	"github.com/onlineca/onlineca/ra/fault"
)

// DefaultWorkers is how many enrolments a batch makes at once.
const DefaultWorkers = 4

// BatchConfig says how a batch of enrolments is made. Enroller and Out are
// needed.
type BatchConfig struct {
	Enroller *Enroller
	// Out is the directory for the certificates, DEVICE.der. It is made if it
	// is not there.
	Out string
	// Workers is how many enrolments go on at once, 4 if zero.
	Workers int
	// Again enrols also where a certificate is there already, and replaces it.
	Again bool
	// FirstSession is the session number of the first device in the trace, 1 if
	// zero; the others count on from there.
	FirstSession int
	// Observer is told of every result. It may be nil.
	Observer Observer
	// Now is the clock, time.Now if nil.
	Now func() time.Time
}

// Observer follows a batch. Its method is called by one goroutine at a time.
type Observer interface {
	// Done is called once for each job, with how many of the total are done.
	Done(r JobResult, done, total int)
}

// Outcome is what became of one job of a batch.
type Outcome string

// The outcomes of a job.
const (
	OutcomeIssued   Outcome = "issued"
	OutcomeSkipped  Outcome = "there already"
	OutcomeFailed   Outcome = "failed"
	OutcomeCanceled Outcome = "not done"
)

// JobResult is what became of one job.
type JobResult struct {
	Device  string
	File    string // the request
	Outcome Outcome
	// Path is the certificate's file, and Certificate what is in it, if the
	// outcome is OutcomeIssued or OutcomeSkipped.
	Path        string
	Certificate *x509.Certificate
	// Warnings are faults that show only when the phone uses the certificate.
	Warnings []error
	// Err is set if the outcome is OutcomeFailed or OutcomeCanceled, Code is
	// that of its fault.
	Err  error
	Code fault.Code
	Took time.Duration
}

// Summary is the result of a batch.
type Summary struct {
	Issued, Skipped, Failed, Canceled int
	// Results has one entry for each job, in their order.
	Results []JobResult
	Took    time.Duration
}

// RunBatch enrols every job. What fails leaves the others alone; when ctx ends,
// the enrolments that are going on are given up and the rest is not begun. The
// error is for what stops all of them: a configuration that is incomplete, or
// trust anchors that the EST server does not give. Everything else is in the
// summary, which is filled in any case.
func RunBatch(ctx context.Context, cfg BatchConfig, jobs []Job) (Summary, error) {
	if cfg.Enroller == nil || cfg.Out == "" {
		return Summary{}, errors.New("capf: a batch needs an enroller and a directory for the certificates")
	}
	if cfg.Workers <= 0 {
		cfg.Workers = DefaultWorkers
	}
	if cfg.FirstSession <= 0 {
		cfg.FirstSession = 1
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if err := os.MkdirAll(cfg.Out, 0o755); err != nil { //nolint:gosec // Certificates are for everybody to read.
		return Summary{}, diskFault("make the directory "+cfg.Out, err)
	}
	b := &batch{cfg: cfg, jobs: jobs, results: make([]JobResult, len(jobs))}
	return b.run(ctx)
}

// batch is a batch that is going on.
type batch struct {
	cfg     BatchConfig
	jobs    []Job
	results []JobResult

	mu   sync.Mutex
	done int
}

func (b *batch) run(ctx context.Context) (Summary, error) {
	start := b.cfg.Now()
	plan := b.look(ctx)
	var err error
	if len(plan) > 0 {
		if err = b.cfg.Enroller.Trust(ctx); err != nil {
			for _, i := range plan {
				b.finish(i, JobResult{Err: err})
			}
			plan = nil
		}
	}
	next := make(chan int)
	var workers sync.WaitGroup
	for range min(b.cfg.Workers, len(plan)) {
		workers.Go(func() {
			for i := range next {
				b.enroll(ctx, i)
			}
		})
	}
	for _, i := range plan {
		next <- i
	}
	close(next)
	workers.Wait()
	return b.summary(b.cfg.Now().Sub(start)), err
}

// look settles what needs no server: requests that are not good, and
// certificates that are there already. It returns the jobs that are left.
// All of it comes before the first request is sent.
func (b *batch) look(ctx context.Context) []int {
	var left []int
	for i, job := range b.jobs {
		if job.Err != nil {
			b.cfg.Enroller.reject(ctx, job, b.cfg.FirstSession+i)
			b.finish(i, JobResult{Err: job.Err})
			continue
		}
		if b.cfg.Again {
			left = append(left, i)
			continue
		}
		cert, err := existingLSC(b.path(job), job.CSR, b.cfg.Now())
		switch {
		case errors.Is(err, fs.ErrNotExist):
			left = append(left, i)
		case err != nil:
			b.finish(i, JobResult{Err: err})
		default:
			b.finish(i, JobResult{Outcome: OutcomeSkipped, Path: b.path(job), Certificate: cert})
		}
	}
	return left
}

func (b *batch) path(j Job) string { return filepath.Join(b.cfg.Out, j.Device+".der") }

// enroll makes one enrolment, under a correlation id of its own.
func (b *batch) enroll(ctx context.Context, i int) {
	if ctx.Err() != nil {
		b.finish(i, JobResult{Err: fault.New(fault.Canceled, "enrol "+b.jobs[i].Device, context.Cause(ctx))})
		return
	}
	if event.ID(ctx) == "" {
		ctx = event.WithID(ctx, uuid.NewString())
	}
	job, start := b.jobs[i], b.cfg.Now()
	lsc, err := b.cfg.Enroller.enroll(ctx, job.Device, b.cfg.FirstSession+i,
		func() (*x509.CertificateRequest, error) { return job.CSR, nil }, b.path(job))
	r := JobResult{Err: err, Took: b.cfg.Now().Sub(start)}
	if err == nil {
		r.Outcome, r.Path, r.Certificate, r.Warnings = OutcomeIssued, b.path(job), lsc.Certificate, lsc.Warnings
	}
	b.finish(i, r)
}

// finish records the result of job i and tells the observer.
func (b *batch) finish(i int, r JobResult) {
	r.Device, r.File = b.jobs[i].Device, b.jobs[i].File
	if r.Err != nil {
		r.Outcome, r.Code = OutcomeFailed, fault.Of(r.Err).Code
		if r.Code == fault.Canceled {
			r.Outcome = OutcomeCanceled
		}
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.results[i] = r
	b.done++
	if b.cfg.Observer != nil {
		b.cfg.Observer.Done(r, b.done, len(b.jobs))
	}
}

func (b *batch) summary(took time.Duration) Summary {
	s := Summary{Results: b.results, Took: took}
	for _, r := range b.results {
		switch r.Outcome {
		case OutcomeIssued:
			s.Issued++
		case OutcomeSkipped:
			s.Skipped++
		case OutcomeCanceled:
			s.Canceled++
		default:
			s.Failed++
		}
	}
	return s
}

// OK tells whether every job has its certificate.
func (s Summary) OK() bool { return s.Failed == 0 && s.Canceled == 0 }

// existingLSC reads the certificate at path and checks that it is one for the
// request's key, and valid. It never returns a certificate that is not; the
// error is fs.ErrNotExist if there is no file.
func existingLSC(path string, csr *x509.CertificateRequest, now time.Time) (*x509.Certificate, error) {
	info, err := os.Stat(path)
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
		return nil, diskFault("look for "+path, err)
	}
	refuse := func(why string) error {
		return fault.Newf(fault.DiskFull, "keep "+path, "there is a file already, and it %s; it is replaced only when asked for", why)
	}
	if !info.Mode().IsRegular() || info.Size() > csrLimit {
		return nil, refuse("is no certificate")
	}
	der, err := os.ReadFile(path)
	if err != nil {
		return nil, diskFault("read "+path, err)
	}
	cert, err := x509.ParseCertificate(der)
	switch {
	case err != nil:
		return nil, refuse("is no certificate")
	case !sameKey(cert.PublicKey, csr.PublicKey):
		return nil, refuse(fmt.Sprintf("holds a certificate for another key than the request's (serial %x)", cert.SerialNumber))
	case now.After(cert.NotAfter):
		return nil, refuse("holds a certificate that was valid until " + utc(cert.NotAfter))
	}
	return cert, nil
}
