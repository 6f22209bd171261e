package capf

import (
	"bytes"
	"context"
	"crypto"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/onlineca/onlineca/ra/event"
	"github.com/onlineca/onlineca/ra/fault"
)

// OnlineCA is what the server needs of an online CA: [Enroller] has it. The
// same request can be given twice, when the outcome of the first time is not
// known.
type OnlineCA interface {
	// EnrollCSR gets the certificate for a device's PKCS#10 request. The error
	// wraps a *fault.Fault, and is in the log already.
	EnrollCSR(ctx context.Context, device string, session int, csr []byte) (*LSC, error)
}

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
		i.lsc, i.err = s.enrollCSR(ctx, name, session, csr)
		i.err = s.keep(ctx, name, i)
		s.mu.Lock()
		if s.issuing[key] == i {
			delete(s.issuing, key)
		}
		s.mu.Unlock()
		close(i.done)
	})
	return i
}

// enrollCSR is one request to the Online CA, when it is its turn.
func (s *Server) enrollCSR(ctx context.Context, name string, session int, csr []byte) (*LSC, error) {
	ctx, cancel := context.WithTimeout(ctx, s.cfg.Timeouts.Issue)
	defer cancel()
	// The answer may have come between the caller's look at the row and now.
	if d, err := s.cfg.Devices.Device(ctx, name); err == nil && bytes.Equal(d.CSR, csr) && len(d.Issued) > 0 {
		return issuedBefore(d)
	}
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
func (s *Server) keep(ctx context.Context, name string, i *issuance) error {
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
		current = bytes.Equal(d.CSR, i.csr)
		switch {
		case !current: // superseded by another request
		case f != nil:
			if !f.keep {
				d.forget()
			}
			f.apply(d, OperationUpgrade, s.cfg.OneAttempt)
			d.LastContact = s.cfg.Now()
		default:
			d.Issued = i.lsc.DER
			if until := issuerUntil(i.lsc); !until.IsZero() {
				d.IssuedIssuerUntil = until
			}
		}
		return nil
	})
	switch {
	case err != nil:
		return errors.Join(i.err, fmt.Errorf("capf: %s: write the device table: %w", name, err))
	case f != nil && current:
		s.statusLines(write, row, OperationUpgrade, f.code, time.Since(start))
		s.emit(write, row.row())
	}
	return i.err
}

// issuerUntil is the end of validity of a certificate's issuer, if it is known.
func issuerUntil(lsc *LSC) time.Time {
	if len(lsc.Chain) == 0 {
		return time.Time{}
	}
	return lsc.Chain[0].NotAfter
}

// LocalCA is CAPF itself as a CA, the product's default issuer.
type LocalCA struct {
	cert *x509.Certificate
	key  crypto.Signer
	days int
	now  func() time.Time
}

// The validity of certificates that CAPF itself issues, in days: the product's
// limits.
const (
	DefaultLSCDays = 365
	maxLSCDays     = 1825
)

// NewLocalCA makes a CA of CAPF's certificate. days is how long what it issues
// is valid, 1 to 1825, or 0 for 365; now is the clock, time.Now if nil.
func NewLocalCA(cert tls.Certificate, days int, now func() time.Time) (*LocalCA, error) {
	if now == nil {
		now = time.Now
	}
	if days == 0 {
		days = DefaultLSCDays
	}
	if days < 1 || days > maxLSCDays {
		return nil, fmt.Errorf("capf: certificates can be valid for 1 to %d days, not %d", maxLSCDays, days)
	}
	if len(cert.Certificate) == 0 {
		return nil, errors.New("capf: the local CA has no certificate")
	}
	leaf, err := x509.ParseCertificate(cert.Certificate[0])
	if err != nil {
		return nil, fmt.Errorf("capf: read the local CA's certificate: %w", err)
	}
	key, ok := cert.PrivateKey.(crypto.Signer)
	if !ok {
		return nil, fmt.Errorf("capf: the local CA's key (%T) cannot sign", cert.PrivateKey)
	}
	if err := CheckServerCertificate(leaf, now()); err != nil {
		return nil, err
	}
	return &LocalCA{cert: leaf, key: key, days: days, now: now}, nil
}

// ValidUntil is the end of the CA's own validity.
func (c *LocalCA) ValidUntil() time.Time { return c.cert.NotAfter }

// Certificate is the CA's own certificate.
func (c *LocalCA) Certificate() *x509.Certificate { return c.cert }

// Issue makes a certificate for a device's key and returns its DER. The profile
// is that of an independent implementation: the device as common name, the
// issuer's organization, key usages digitalSignature and keyEncipherment,
// extended key usages serverAuth, clientAuth and ipsecEndSystem, the device's
// name as a URI. No certificate outlives the CA.
func (c *LocalCA) Issue(device string, pub crypto.PublicKey) ([]byte, error) {
	serial, err := serialNumber()
	if err != nil {
		return nil, err
	}
	now := c.now()
	until := now.AddDate(0, 0, c.days)
	if until.After(c.cert.NotAfter) {
		until = c.cert.NotAfter
	}
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{
		SerialNumber: serial, Subject: deviceSubject(device, c.cert.Subject),
		// Phones' clocks may be a little behind.
		NotBefore: now.Add(-5 * time.Minute), NotAfter: until,
		BasicConstraintsValid: true,
		KeyUsage:              x509.KeyUsageDigitalSignature | x509.KeyUsageKeyEncipherment,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageIPSECEndSystem},
		URIs:                  []*url.URL{{Path: device}},
	}, c.cert, pub, c.key)
	if err != nil {
		return nil, fmt.Errorf("capf: %s: issue a certificate: %w", device, err)
	}
	return der, nil
}
