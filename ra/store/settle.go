package store

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"time"

	"go.uber.org/zap"

	"github.com/onlineca/onlineca/ra"
	"github.com/onlineca/onlineca/ra/fault"
)

// ask asks the certificate authority after a request that is pending or whose
// outcome is unknown, if no other process is doing so, and writes down what it
// learns. It returns the record as it is afterwards. In the background no client
// waits to be told.
func (d *Durable) ask(ctx context.Context, id string, now time.Time, background bool) (Record, error) {
	rec, mine, err := d.cfg.Store.Claim(ctx, id, d.claim, now)
	if err != nil || !mine {
		return rec, err
	}
	ctx, end := context.WithCancel(ctx)
	defer d.hold(ctx, end, id).release()
	began := time.Now() // what turns up behind the look's back does not count as absent
	csr, err := rec.Request()
	switch {
	case err != nil:
		err = fault.New(fault.Internal, "read the request of record "+rec.ID, err)
	case rec.State == Unknown:
		err = d.search(ctx, &rec, csr, began)
	default:
		err = d.poll(ctx, &rec, csr)
	}
	now = time.Now()
	rec.Updated, rec.Tries = now, rec.Tries+1
	if err != nil {
		rec.Code, rec.Message = fault.Of(err).Code.String(), err.Error()
	}
	rec.Next = time.Time{}
	if rec.Refused() && (background || d.gone(began, now)) {
		rec.Next = now.Add(d.cfg.Keep)
	}
	if rec.State.open() {
		rec.Next = now.Add(d.backoff(rec.Tries))
		// The look that settles it is the first that begins after its grace.
		if end := d.graceEnd(rec); rec.State == Unknown && began.Before(end) && rec.Next.After(end) {
			rec.Next = end
		}
	}
	d.save(ctx, rec)
	rec.LeaseOwner, rec.LeaseUntil = "", time.Time{}
	return rec, nil
}

// gone tells whether the clients who have waited since a time have been told to
// come back.
func (d *Durable) gone(since, now time.Time) bool { return !now.Before(since.Add(d.cfg.Patience)) }

// backoff is the pause after the given number of tries.
func (d *Durable) backoff(tries int) time.Duration {
	pause := d.cfg.PollFirst
	for range tries - 1 {
		if pause *= 2; pause >= d.cfg.PollMax {
			return d.cfg.PollMax
		}
	}
	return min(pause, d.cfg.PollMax)
}

// poll asks for a request whose number is known. The error is why it is still
// not settled.
func (d *Durable) poll(ctx context.Context, rec *Record, csr *x509.CertificateRequest) error {
	res, err := d.cfg.Fetch.Fetch(ctx, rec.ReqID, csr)
	late := time.Now().After(rec.Submitted.Add(d.cfg.PendingFor))
	switch f := fault.Of(err); {
	case err == nil && res.State == ra.Issued:
		rec.issue(rec.ReqID, res.Certificate)
		d.log.Info("a pending request was issued", d.fields(*rec)...)
		return nil
	case err != nil && final(f):
		rec.State = Denied
		d.log.Info("a pending request was denied", d.fields(*rec, zap.Error(err))...)
		return err
	case errors.Is(err, fault.NoSuchRequest):
		rec.State = Expired
		d.log.Warn("the authority does not know a pending request any more", d.fields(*rec, zap.Error(err))...)
		return err
	case late:
		rec.State = Expired
		d.log.Warn("a pending request is given up", d.fields(*rec, zap.Error(err))...)
		return &fault.Fault{Code: fault.Pending, Op: "wait for the certificate", ReqID: rec.ReqID, Err: fmt.Errorf("not issued within %v", d.cfg.PendingFor)}
	case err == nil:
		rec.Code, rec.Message = "", res.Message
		return nil
	default:
		return err
	}
}

// search looks for a request whose answer was lost among the numbers that were
// handed out since. Numbers are handed out in order, so it has a higher one
// than any that was known when it was submitted. The look is as of began. The
// error is why it is still not settled.
func (d *Durable) search(ctx context.Context, rec *Record, csr *x509.CertificateRequest, began time.Time) error {
	known, err := d.cfg.Store.Numbers(ctx, rec.Authority, rec.AfterReqID)
	if err != nil {
		return err
	}
	s := lookup{d: d, rec: rec, csr: csr, known: known}
	err = s.run(ctx)
	if rec.AfterReqID > 0 {
		rec.AfterReqID = s.passed // what has been looked at need not be again
	}
	if err != nil {
		return err
	}
	switch {
	case s.found != nil:
		rec.issue(s.found.ReqID, s.found.Certificate)
		d.log.Info("a lost answer was found again", d.fields(*rec)...)
		return nil
	case len(s.pending) > 0:
		return fault.Newf(fault.OutcomeUnknown, "look for the lost answer",
			"requests %s are pending at the authority, and one of them may be this one", numbers(s.pending))
	case !s.complete:
		return fault.Newf(fault.OutcomeUnknown, "look for the lost answer",
			"not among the requests %d to %d, and there are others; look on the CA under Issued Certificates", s.from, s.to)
	case began.Before(d.graceEnd(*rec)):
		return fault.Newf(fault.OutcomeUnknown, "look for the lost answer",
			"not among the requests %d to %d so far; it may still arrive until %s", s.from, s.to, d.graceEnd(*rec).UTC().Format(time.RFC3339))
	}
	rec.State = Failed
	d.log.Info("a request whose answer was lost never reached the authority", d.fields(*rec)...)
	return nil
}

func numbers(ids []int) string {
	const most = 10
	if len(ids) > most {
		return fmt.Sprint(ids[:most]) + fmt.Sprintf(" and %d more", len(ids)-most)
	}
	return fmt.Sprint(ids)
}

// lookup is a look through the numbers for one request.
type lookup struct {
	d     *Durable
	rec   *Record
	csr   *x509.CertificateRequest
	known map[int]bool // numbers that other records have

	from, to int
	// passed is the number up to which all are somebody else's.
	passed  int
	found   *ra.Result
	pending []int // requests of nobody that may turn out to be this one
	// complete says that every number was looked at which the request can have.
	complete bool
}

// start is the number to begin with. Without a number from before the
// submission, one from after it must do, and the numbers below that.
func (s *lookup) start() int {
	if s.rec.AfterReqID > 0 || len(s.known) == 0 {
		return s.rec.AfterReqID + 1
	}
	lowest := 0
	for n := range s.known {
		if lowest == 0 || n < lowest {
			lowest = n
		}
	}
	return max(1, lowest-s.d.cfg.ScanLimit/2)
}

// run looks at one number after the other until the request is found, the
// numbers end or the limit is reached. They end where several in a row were
// never handed out, and none beyond is known. The error is that of a look that
// could not be had.
func (s *lookup) run(ctx context.Context) error {
	s.from = s.start()
	s.passed = s.from - 1
	highest := s.rec.AfterReqID
	for n := range s.known {
		highest = max(highest, n)
	}
	gap, looked := 0, 0
	for n := s.from; looked < s.d.cfg.ScanLimit; n++ {
		if s.known[n] {
			gap = 0
			s.pass(n)
			continue
		}
		s.to = n
		looked++
		there, err := s.look(ctx, n)
		switch {
		case err != nil:
			return err
		case s.found != nil:
			return nil
		case there:
			gap = 0
			s.pass(n)
		default:
			gap++
		}
		if gap >= s.d.cfg.ScanGap && n-gap >= highest {
			s.complete = s.whole()
			return nil
		}
	}
	return nil
}

// whole tells whether the request can have no number but those looked at. With
// a number known from before its submission that is so. Without one the look
// must have begun with 1, and 1 must be there: where old rows were deleted, a
// gap is not the end.
func (s *lookup) whole() bool {
	return s.rec.AfterReqID > 0 || s.from == 1 && s.passed > 0
}

// pass notes that number n is not the request's, and can never be.
func (s *lookup) pass(n int) {
	if n == s.passed+1 && len(s.pending) == 0 {
		s.passed = n
	}
}

// look looks at one number and says whether it was handed out.
func (s *lookup) look(ctx context.Context, n int) (there bool, err error) {
	res, err := s.d.cfg.Fetch.Fetch(ra.Looking(ctx), n, s.csr)
	switch {
	case err == nil && res.State == ra.Issued && res.Certificate.NotBefore.Before(s.rec.Submitted.Add(-backdated)):
		return true, nil // for the same key, but of an earlier time
	case err == nil && res.State == ra.Issued:
		res.ReqID = n
		s.found = &res
		return true, nil
	case err == nil:
		s.pending = append(s.pending, n)
		return true, nil
	case errors.Is(err, fault.NoSuchRequest):
		return false, nil
	case errors.Is(err, fault.WrongKeyCertificate), final(fault.Of(err)):
		return true, nil // somebody else's, or one that was refused
	default:
		return false, err
	}
}

// backdated is how long before its request a certificate can begin to be valid:
// AD CS takes off ten minutes, and clocks differ.
const backdated = 24 * time.Hour
