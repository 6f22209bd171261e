package capf

import (
	"bytes"
	"cmp"
	"context"
	"crypto"
	"crypto/x509"
	"errors"
	"fmt"
	"time"

	"github.com/onlineca/onlineca/capf/wire"
	"github.com/onlineca/onlineca/ra/event"
	"github.com/onlineca/onlineca/ra/fault"
)

// errECOnly is a device that is to make an EC key and speaks a version that
// has none.
var errECOnly = errors.New("it is set to EC keys only, which need version 3 of CAPF")

// install gives the phone a new certificate: one that was issued since its last
// contact, one for the request that it signed then, or one for a new key.
func (p *session) install(ctx context.Context) (success, error) {
	spec, err := p.device.keySpec(p.version)
	if errors.Is(err, errECOnly) {
		f := p.faulty(fault.ECUnsupported, fmt.Errorf("the phone speaks version %d", p.version))
		f.status = StatusNoEC
		return success{}, f
	}
	if err != nil {
		return success{}, p.fail(OpFailed, fmt.Errorf("capf: %s: %w", p.name, err))
	}
	issuer, err := p.issuer(ctx)
	if err != nil {
		return success{}, err
	}
	if issuer != IssuerLocal {
		ok, done, err := p.resume(ctx, issuer, spec)
		if done || err != nil {
			return ok, err
		}
	}
	pub, err := p.generate(ctx, spec)
	if err != nil {
		return success{}, err
	}
	switch issuer {
	case IssuerOnline:
		return p.installOnline(ctx, pub)
	case IssuerOffline:
		return p.exportRequest(ctx, pub)
	default:
		return p.installLocal(ctx, pub)
	}
}

// issuer decides who issues, before the phone generates a key. A device that
// cannot sign is served by CAPF itself, if that is configured, or refused.
func (p *session) issuer(ctx context.Context) (IssuerKind, error) {
	kind := p.device.Issuer
	if kind == IssuerDefault {
		kind = p.srv.cfg.Issuer
	}
	missing := func(what string) error {
		return p.fail(OpFailed, fmt.Errorf("capf: %s: its issuer is %s, but %s is configured", p.name, kind, what))
	}
	switch {
	case kind == IssuerOnline && p.srv.cfg.Online == nil:
		return kind, missing("no Online CA")
	case kind == IssuerLocal && p.srv.cfg.Local == nil:
		return kind, missing("no CA of CAPF's own")
	case kind == IssuerLocal || p.device.Signing == SigningEncrypt:
		return kind, nil
	case p.srv.cfg.LocalFallback:
		p.say(ctx, false, "device cannot sign CSR: CAPF itself issues instead of the %s CA", kind)
		return IssuerLocal, nil
	}
	p.say(ctx, true, "device cannot sign CSR: no ENCRYPT support")
	return kind, p.faulty(fault.DeviceCannotSign, fmt.Errorf("its signing is %q in the device table, not %q (onlineca device add --signing, or import), and the %s CA issues for requests only", cmp.Or(p.device.Signing, "unknown"), SigningEncrypt, kind))
}

// generate has the phone make a key.
func (p *session) generate(ctx context.Context, spec wire.KeySpec) (crypto.PublicKey, error) {
	p.say(ctx, false, "Sending KEY_GEN_REQ msg, %v", spec)
	if err := p.send(wire.Message{Command: wire.KeyGenerateRequest, Elements: spec.Elements(p.version)}); err != nil {
		return nil, err
	}
	m, err := p.await(ctx, StateAwaitKeygen)
	if err != nil {
		return nil, err
	}
	pub, err := m.PublicKey()
	if err != nil {
		return nil, p.fail(OpTimedOut, err)
	}
	// "Key Generation Failed/Timeout" is the status of this code.
	if err := spec.Check(pub); err != nil {
		return nil, p.fail(OpTimedOut, err)
	}
	return pub, nil
}

// installLocal has CAPF itself issue.
func (p *session) installLocal(ctx context.Context, pub crypto.PublicKey) (success, error) {
	der, err := p.srv.cfg.Local.Issue(p.name, pub)
	if err != nil {
		return success{}, p.fail(OpFailed, err)
	}
	p.say(ctx, false, "CA Mode is Cisco CAPF, certificate issued by CAPF itself")
	return p.store(ctx, der, p.srv.cfg.Local.ValidUntil())
}

// installOnline has the phone sign a request and the Online CA issue for it.
func (p *session) installOnline(ctx context.Context, pub crypto.PublicKey) (success, error) {
	csr, err := p.request(ctx, pub)
	if err != nil {
		return success{}, err
	}
	return p.fromCA(ctx, csr)
}

// fromCA waits for the Online CA's certificate for csr and stores it.
func (p *session) fromCA(ctx context.Context, csr []byte) (success, error) {
	lsc, err := p.awaitCA(ctx, p.srv.issue(ctx, p.name, int(p.number), csr))
	if err != nil {
		return success{}, err
	}
	return p.store(ctx, lsc.DER, issuerUntil(lsc))
}

// awaitCA waits until the Online CA has answered, the phone is gone, or it has
// waited long enough.
func (p *session) awaitCA(ctx context.Context, i *issuance) (*LSC, error) {
	p.enter(StateAwaitCACert)
	limit := p.srv.cfg.Timeouts.of(StateAwaitCACert)
	timer := time.NewTimer(limit)
	defer timer.Stop()
	late := func() error {
		return p.comeBack(fmt.Errorf("capf: %s: the CA has not answered within %v; the certificate will be delivered at the next contact", p.name, limit))
	}
	for n := 0; ; n++ {
		select {
		case <-i.done:
			if i.err != nil {
				return nil, p.srv.failed(i.err)
			}
			return i.lsc, nil
		case f := <-p.frames:
			if _, _, err := p.step(ctx, StateAwaitCACert, f); err != nil {
				p.say(ctx, false, "The request stays with the CA: the certificate will be delivered at the next contact")
				return nil, p.pending(err)
			}
			if p.brake(ctx, n, timer) {
				return nil, late()
			}
		case <-timer.C:
			return nil, late()
		case <-ctx.Done():
			return nil, &failure{err: context.Cause(ctx), silent: true, unrecorded: true}
		}
	}
}

// pending is a session that ends while its request is still with the CA: the
// row is written by whoever brings the certificate.
func (p *session) pending(err error) error {
	var f *failure
	if errors.As(err, &f) {
		f.unrecorded = true
	}
	return err
}

// comeBack tells the phone to come back: the operation is still under way.
func (p *session) comeBack(err error) *failure {
	return &failure{code: OpFailed, err: err, later: p.srv.cfg.RetryDelay, keep: true}
}

// exportRequest leaves the request for a person to carry to the CA.
func (p *session) exportRequest(ctx context.Context, pub crypto.PublicKey) (success, error) {
	csr, err := p.request(ctx, pub)
	if err != nil {
		return success{}, err
	}
	_ = csr // it is in the device table
	p.say(ctx, false, "CA Mode is OfflineCA, CSR stored for export")
	return success{}, p.comeBack(p.awaitingImport())
}

func (p *session) awaitingImport() error {
	return fmt.Errorf("capf: %s: its request waits for the offline CA: export it, and import the certificate", p.name)
}

// request has the phone sign a request for pub and keeps it in the device
// table, before anybody is asked to issue for it.
func (p *session) request(ctx context.Context, pub crypto.PublicKey) ([]byte, error) {
	csr, err := p.sign(ctx, pub)
	if err != nil {
		return nil, err
	}
	_, err = p.srv.cfg.Devices.Update(ctx, p.name, func(d *Device) error {
		d.forget()
		d.CSR, d.CSRTime = csr, p.srv.cfg.Now()
		return nil
	})
	if err != nil {
		return nil, p.table(err)
	}
	return csr, nil
}

// resume delivers what an earlier session began: done is false when there is
// nothing of that kind, or the phone has no use for it any more.
func (p *session) resume(ctx context.Context, issuer IssuerKind, spec wire.KeySpec) (ok success, done bool, err error) {
	d := &p.device
	if len(d.CSR) == 0 {
		return success{}, false, nil
	}
	csr, err := x509.ParseCertificateRequest(d.CSR)
	if err != nil || spec.Check(csr.PublicKey) != nil {
		return success{}, false, p.drop(ctx, "its key is not the one that is asked for now")
	}
	if cert, err := x509.ParseCertificate(d.Issued); err == nil && p.srv.cfg.Now().After(cert.NotAfter) {
		return success{}, false, p.drop(ctx, "what was issued for it has expired")
	}
	switch {
	case len(d.Issued) > 0:
		p.say(ctx, false, "Delivering the certificate that was issued since the last contact")
		ok, err = p.store(ctx, d.Issued, d.IssuedIssuerUntil)
	case issuer == IssuerOffline:
		return success{}, true, p.comeBack(p.awaitingImport())
	default:
		p.say(ctx, false, "Going on with the request of %s", utc(d.CSRTime))
		ok, err = p.fromCA(ctx, d.CSR)
	}
	if errors.Is(err, errDeclined) {
		return success{}, false, p.drop(ctx, "the phone has another key by now")
	}
	return ok, true, err
}

// drop forgets the request under way.
func (p *session) drop(ctx context.Context, why string) error {
	p.say(ctx, false, "The request of the last contact is dropped: %s", why)
	csr := p.device.CSR
	row, err := p.srv.cfg.Devices.Update(ctx, p.name, func(d *Device) error {
		if bytes.Equal(d.CSR, csr) {
			d.forget()
		}
		return nil
	})
	if err != nil {
		return p.table(err)
	}
	p.device = row
	return nil
}

// errDeclined is a certificate that the phone did not store.
var errDeclined = errors.New("the phone did not store the certificate")

// store has the phone store its certificate.
func (p *session) store(ctx context.Context, der []byte, issuerUntil time.Time) (success, error) {
	cert, err := parseCertificate(der)
	if err != nil {
		return success{}, p.fail(OpFailed, err)
	}
	m := wire.Message{Command: wire.StoreCertificateRequest, Elements: []wire.Element{
		wire.Uint8(wire.TagCertificateType, wire.TypeLSC), wire.CertificateValue(der),
	}}
	if _, err := m.Encode(); errors.Is(err, wire.ErrTooLong) {
		p.say(ctx, true, "The certificate is long: phones that read a message at one go will not understand it: %v", err)
	}
	p.note(ctx, event.StepStoreCert)
	if err := p.send(m); err != nil {
		return success{}, err
	}
	answer, err := p.await(ctx, StateAwaitStoreCert)
	if err != nil {
		return success{}, err
	}
	reason, err := answer.Reason()
	if err != nil {
		return success{}, p.fail(OpPhoneComm, err)
	}
	if reason != wire.ReasonOK {
		return success{}, p.fail(OpFailed, fmt.Errorf("capf: %s: %w, reason %v", p.name, errDeclined, reason))
	}
	return success{end: wire.ReasonOK, change: func(d *Device) { d.installed(cert, issuerUntil) }}, nil
}

func parseCertificate(der []byte) (*x509.Certificate, error) {
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fault.New(fault.CertificateUnreadable, "capf: read the certificate", err)
	}
	return cert, nil
}
