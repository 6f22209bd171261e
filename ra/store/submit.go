package store

import (
	"context"
	"errors"
	"time"

	"go.uber.org/zap"

	"github.com/onlineca/onlineca/ra"
	"github.com/onlineca/onlineca/ra/fault"
)

// saveTime bounds the writing of an outcome, which must not depend on the
// context that the submission had. A certificate waits as long as it takes.
const saveTime = 30 * time.Second

// errClaimLost ends work on a request that is not this process's any more.
var errClaimLost = errors.New("another process may have taken the request over")

// submit sends a request that this process has begun, and writes down what came
// of it. The client gets what the certificate authority said even if that cannot
// be written: what is then missing in the database is found again as after a
// crash. It returns false if the outcome has to be found out; otherwise the
// flight has landed, or will.
func (f *flight) submit() (landing bool) {
	d, known := f.d, false
	work, end := context.WithDeadline(f.ctx, f.limit)
	lease := d.hold(work, end, f.rec.ID)
	defer func() {
		if !landing {
			lease.release()
		}
		if !known { // a panic: Begin finds the lease lapsed and settles it
			d.log.Error("a submission has no outcome", zap.String("record", f.rec.ID))
		}
	}()
	res, err := d.cfg.Next.Enroll(work, f.r)
	d.outcome(&f.rec, res, err, time.Now())
	known = true
	if f.rec.backwards() {
		d.rewind(f.ctx, &f.rec)
	}
	if f.rec.plain() && !d.cfg.Store.postgres {
		f.saveAndLand(lease, res)
		return true
	}
	d.save(f.ctx, f.rec)
	f.rec.LeaseOwner, f.rec.LeaseUntil = "", time.Time{}
	if f.rec.State == Unknown && f.ctx.Err() == nil && time.Now().Before(f.limit) {
		return false
	}
	if err == nil && f.rec.State == Pending {
		res = d.pending(f.rec, time.Now())
	}
	if err != nil && lease.isLost() {
		err = d.inProgress(errClaimLost)
	}
	lease.release()
	f.land(res, err)
	return true
}

// saveAndLand has a certificate written down, and lands when that is done. Nobody
// waits for it but those who wait for the certificate.
func (f *flight) saveAndLand(lease *lease, res ra.Result) {
	d := f.d
	l := d.lineOf(&f.rec)
	d.cfg.Store.saveLite(context.Background(), &f.rec, d.claim.Owner, l, func(saved bool, err error) {
		d.saved(&f.rec, l, saved, err)
		lease.release()
		f.land(res, nil)
	})
}

// rewind takes notice that the authority's numbers have begun again. It comes
// before the record is saved, so that what is known of the new numbers is never
// taken for the old.
func (d *Durable) rewind(ctx context.Context, rec *Record) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), saveTime)
	defer cancel()
	name, n, err := d.cfg.Store.Rewind(ctx, *rec, time.Now())
	d.log.Error("the numbers of the certificate authority run backwards: its database is another one, or a request was assigned a wrong number. What is known by higher numbers has been set aside",
		d.fields(*rec, zap.Int("after_req_id", rec.AfterReqID), zap.String("set_aside_as", name), zap.Int("records", n), zap.Error(err))...)
	rec.AfterReqID = 0
}

// outcome puts what an enroller came back with into the record.
func (d *Durable) outcome(rec *Record, res ra.Result, err error, now time.Time) {
	rec.Updated, rec.Tries = now, 0
	switch {
	case err == nil && res.State == ra.Issued && res.Certificate != nil:
		rec.issue(res.ReqID, res.Certificate)
		rec.Next = time.Time{}
		return
	case err == nil && res.State == ra.Pending && res.ReqID != 0:
		rec.State, rec.ReqID, rec.Code, rec.Message = Pending, res.ReqID, "", res.Message
		rec.Next = now.Add(max(d.cfg.PollFirst, res.RetryAfter))
		return
	case err == nil:
		err = fault.Newf(fault.Internal, "enrol", "the enroller came back with state %q and request %d", res.State, res.ReqID)
	}
	f := fault.Of(err)
	rec.Code, rec.Message = f.Code.String(), err.Error()
	switch {
	case f.ReqID != 0 && final(f):
		rec.State, rec.ReqID, rec.Next = Denied, f.ReqID, time.Time{}
		if d.gone(rec.Submitted, now) {
			rec.Next = now.Add(d.cfg.Keep)
		}
	case f.ReqID != 0:
		// It is at the authority; only the certificate is not here.
		rec.State, rec.ReqID, rec.Next = Pending, f.ReqID, now.Add(d.cfg.PollFirst)
	case unsettled(err):
		// It may have waited for its turn until now.
		rec.State, rec.Submitted, rec.Next = Unknown, now, now
	default:
		rec.State, rec.Next = Failed, time.Time{}
	}
}

// final tells whether a fault is the certificate authority's last word on a
// request: it says so, or the request itself is the trouble.
func final(f *fault.Fault) bool { return f.Denied || f.Code.Row().HTTP == 400 }

// unsettled tells whether the request may have been granted all the same.
func unsettled(err error) bool {
	f := fault.Of(err)
	return !f.Unsent && f.Code.Row().Unsettled || errors.Is(err, fault.OutcomeUnknown)
}

// save writes a record that this process has claimed, and gives up the claim.
func (d *Durable) save(ctx context.Context, rec Record) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), saveTime)
	defer cancel()
	l := d.lineOf(&rec)
	saved, err := d.cfg.Store.save(ctx, rec, d.claim.Owner, l)
	d.saved(&rec, l, saved, err)
}

// lineOf is the record's line in the audit log, nil for none.
func (d *Durable) lineOf(rec *Record) *line {
	if rec.State != Issued {
		return nil
	}
	return d.audit.newLine(rec)
}

// saved deals with what became of a record that was to be saved. A certificate
// has its line whether or not the database took it.
func (d *Durable) saved(rec *Record, l *line, saved bool, err error) {
	if l != nil && err != nil {
		writeLines([]*line{l})
	}
	switch {
	case l == nil:
	case !l.written:
		d.log.Error("the audit log could not be written; it is tried again", d.fields(*rec, zap.Error(l.err))...)
	case err != nil || !saved:
		d.audit.unsaved(l)
	}
	switch {
	case err != nil:
		d.log.Error("the outcome of a request could not be written", d.fields(*rec, zap.Error(err))...)
	case !saved:
		d.log.Warn("the outcome of a request was not needed any more", d.fields(*rec)...)
	case rec.State == Unknown:
		d.log.Warn("the outcome of a request is not known", d.fields(*rec)...)
	}
}

func (d *Durable) fields(rec Record, more ...zap.Field) []zap.Field {
	return append([]zap.Field{
		zap.String("record", rec.ID), zap.String("subject", rec.Subject), zap.String("state", string(rec.State)),
		zap.Int("req_id", rec.ReqID), zap.String("serial", rec.Serial), zap.String("code", rec.Code), zap.String("message", rec.Message),
	}, more...)
}
