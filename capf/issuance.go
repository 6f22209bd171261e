package capf

import (
	"bytes"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/onlineca/onlineca/ra/event"
	"github.com/onlineca/onlineca/ra/fault"
)

// toldError is an error of the Online CA's. The trace has the lines that the
// product writes of it, which do not say why, and the log the reason.
type toldError struct{ error }

func (e toldError) Unwrap() error { return e.error }

// issuance is a request that is with the Online CA, whether its phone waits for
// it or not.
type issuance struct {
	csr  []byte
	done chan struct{} // closed when lsc and err are set
	lsc  *LSC
	err  error
}

// failed is how the session that waited ends if there is no certificate. The
// device table knows already. A phone whose operation stays scheduled is told
// to come back.
func (s *Server) failed(err error) *failure {
	f := faultFailure(err)
	f.unrecorded = true
	_, f.told = errors.AsType[toldError](err)
	if f.keep && !s.cfg.OneAttempt {
		f.later = max(s.cfg.RetryDelay, fault.Of(err).RetryAfter)
	}
	return f
}

// issue gives a request to the Online CA, or joins the one that is there
// already. It goes on when the session ends, until the server does.
func (s *Server) issue(ctx context.Context, name string, session int, csr []byte) *issuance {
	key := strings.ToLower(name)
	s.mu.Lock()
	defer s.mu.Unlock()
	if i := s.issuing[key]; i != nil && bytes.Equal(i.csr, csr) {
		return i
	}
	i := &issuance{csr: csr, done: make(chan struct{})}
	s.issuing[key] = i
	ctx = event.WithID(s.base, event.ID(ctx))
	s.work.Go(func() {
		i.lsc, i.err = s.pursue(ctx, name, session, csr)
		i.err = s.keep(ctx, name, session, i)
		s.mu.Lock()
		if s.issuing[key] == i {
			delete(s.issuing, key)
		}
		s.mu.Unlock()
		close(i.done)
	})
	return i
}

// errUnwanted is a request whose device has been removed, or has made another
// one, while the Online CA was not done with it.
var errUnwanted = errors.New("nobody wants its certificate any more")

// pursue asks the Online CA for a request until it has an answer. One that is
// not done says when to come back; whether the phone is still there then does
// not matter. When the time is up the last answer counts, also if the limit
// falls into the next question.
func (s *Server) pursue(ctx context.Context, name string, session int, csr []byte) (*LSC, error) {
	ctx, cancel := context.WithTimeout(ctx, s.cfg.Timeouts.Issue)
	defer cancel()
	var unfinished error
	for {
		again := unfinished != nil
		// The answer may have come between the caller's look at the row and now.
		d, err := s.cfg.Devices.Device(ctx, name)
		mine := err == nil && bytes.Equal(d.CSR, csr)
		switch {
		case mine && len(d.Issued) > 0:
			return issuedBefore(d)
		case again && (err == nil && !mine || errors.Is(err, ErrNoDevice)):
			return nil, errUnwanted
		}
		lsc, err := s.enrollCSR(ctx, name, session, csr)
		if again && ctx.Err() != nil && errors.Is(err, ctx.Err()) {
			return nil, unfinished
		}
		if err == nil || !s.cfg.AskAgain || s.cfg.OneAttempt || !errors.Is(err, fault.InProgress) {
			return lsc, err
		}
		unfinished = err
		pause := fault.Of(err).RetryAfter
		if pause <= 0 {
			pause = s.cfg.RetryDelay
		}
		s.emit(ctx, event.CAPFTrace{Session: event.Session{Number: session, Device: name}, Text: fmt.Sprintf("The CA has not answered yet: it is asked again in %v", pause)})
		if wait(ctx, pause); ctx.Err() != nil {
			return nil, err
		}
	}
}

// enrollCSR is one request to the Online CA, when it is its turn.
func (s *Server) enrollCSR(ctx context.Context, name string, session int, csr []byte) (*LSC, error) {
	select {
	case s.enroll <- struct{}{}:
		defer func() { <-s.enroll }()
	case <-ctx.Done():
		return nil, fault.New(fault.Canceled, "capf: "+name+": wait for the Online CA", context.Cause(ctx))
	}
	lsc, err := s.cfg.Online.EnrollCSR(ctx, name, session, csr)
	if err != nil {
		return nil, toldError{err}
	}
	return lsc, forRequest(name, lsc, csr)
}

// forRequest verifies that the CA has issued for the key of the request.
func forRequest(name string, lsc *LSC, csr []byte) error {
	op := "capf: " + name + ": look at what the Online CA issued"
	request, err := x509.ParseCertificateRequest(csr)
	if err != nil {
		return fault.New(fault.MalformedCSR, op, err)
	}
	cert, err := parseCertificate(lsc.DER)
	if err != nil {
		return err
	}
	if !sameKey(cert.PublicKey, request.PublicKey) {
		return fault.Newf(fault.WrongKeyCertificate, op, "it is %q", cert.Subject)
	}
	return nil
}

// issuedBefore is the certificate that waits in a device's row.
func issuedBefore(d Device) (*LSC, error) {
	cert, err := parseCertificate(d.Issued)
	if err != nil {
		return nil, err
	}
	return &LSC{DER: d.Issued, Certificate: cert}, nil
}

// keep writes what became of a request into the device table: the certificate,
// for the phone to get now or at its next contact, or the failure. It returns
// the issuance's error.
func (s *Server) keep(ctx context.Context, name string, session int, i *issuance) error {
	if i.err != nil && ctx.Err() != nil {
		return i.err // stopped: the request is in the table, and goes on at the phone's next contact
	}
	write, cancel := context.WithTimeout(context.WithoutCancel(ctx), recordTimeout)
	defer cancel()
	var f *failure
	if i.err != nil {
		f = faultFailure(i.err)
	}
	current, start := false, time.Now()
	row, err := s.cfg.Devices.Update(write, name, func(d *Device) error {
		if current = bytes.Equal(d.CSR, i.csr); current {
			i.write(d, f, s.cfg.OneAttempt, s.cfg.Now())
		}
		return nil
	})
	switch {
	case errors.Is(err, ErrNoDevice):
		s.uncollected(write, name, session, i, "the device was removed")
		return errors.Join(i.err, fmt.Errorf("capf: %s: removed while its request was with the CA: %w", name, err))
	case err != nil:
		return errors.Join(i.err, fmt.Errorf("capf: %s: write the device table: %w", name, err))
	case !current:
		s.uncollected(write, name, session, i, "its request was given up for another, or for none")
	case f != nil:
		s.statusLines(write, row, OperationUpgrade, f.code, time.Since(start))
		s.emit(write, row.row())
	}
	return i.err
}

// write puts the outcome into the row of the device whose request it is.
func (i *issuance) write(d *Device, f *failure, oneAttempt bool, now time.Time) {
	if f == nil {
		d.Issued = i.lsc.DER
		if until := issuerUntil(i.lsc); !until.IsZero() {
			d.IssuedIssuerUntil = until
		}
		return
	}
	if !f.keep {
		d.forget()
	}
	f.apply(d, OperationUpgrade, oneAttempt)
	d.LastContact = now
}

// uncollected reports a certificate that no phone will get, or a request that
// can still become one. The registration authority has it on record.
func (s *Server) uncollected(ctx context.Context, name string, session int, i *issuance, why string) {
	var text string
	switch {
	case i.err == nil:
		text = fmt.Sprintf("The certificate %x was issued and is not collected: %s. Revoke it on the CA", i.lsc.Certificate.SerialNumber, why)
	case errors.Is(i.err, errUnwanted) || errors.Is(i.err, fault.InProgress):
		text = fmt.Sprintf("The request is with the CA, and a certificate would not be collected: %s. Deny it on the CA, or revoke the certificate", why)
	default:
		return
	}
	s.emit(ctx, event.CAPFTrace{Session: event.Session{Number: session, Device: name}, Error: true, Text: text})
}

// issuerUntil is the end of validity of a certificate's issuer, if it is known.
func issuerUntil(lsc *LSC) time.Time {
	if len(lsc.Chain) == 0 {
		return time.Time{}
	}
	return lsc.Chain[0].NotAfter
}
