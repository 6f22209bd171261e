package capf

import (
	"context"
	"crypto"
	"crypto/rsa"
	"crypto/sha1"
	"crypto/subtle"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/onlineca/onlineca/capf/wire"
	"github.com/onlineca/onlineca/ra/fault"
)

// authenticate checks that the phone is the device that it says it is. A
// failure leaves the operation scheduled: anybody can fail in a phone's name.
func (p *session) authenticate(ctx context.Context, m *wire.Message) error {
	var err error
	switch p.device.AuthMode {
	case AuthByNullString:
		p.say(ctx, false, "Authentication by null string")
		return nil
	case AuthByString:
		err = p.authString(m)
	default:
		err = p.authCertificate(ctx, m)
	}
	var f *failure
	if errors.As(err, &f) {
		f.keep = true
	}
	return err
}

// lockout counts the wrong authentication strings of one device.
type lockout struct {
	wrong int
	until time.Time // the zero time while it is not locked
}

// authString compares the string that was typed at the phone.
func (p *session) authString(m *wire.Message) error {
	given, err := m.Text(wire.TagPassword)
	if err != nil && !errors.Is(err, wire.ErrMissing) {
		return p.fail(OpPhoneComm, err)
	}
	if until := p.srv.lockedUntil(p.name); !until.IsZero() {
		return p.faulty(fault.AuthStringLockout, fmt.Errorf("until %s", utc(until)))
	}
	want := p.device.AuthString
	if want != "" && subtle.ConstantTimeCompare([]byte(given), []byte(want)) == 1 {
		p.srv.unlock(p.name)
		return nil
	}
	if given == "" { // nobody has guessed: a phone that asks by itself sends none
		return p.faulty(fault.AuthString, errors.New("it gave none"))
	}
	n := p.srv.wrongString(p.name)
	return p.faulty(fault.AuthString, fmt.Errorf("wrong attempt %d of %d", n, p.srv.cfg.LockoutAfter))
}

// lockedUntil is when the device may try again, or the zero time.
func (s *Server) lockedUntil(name string) time.Time {
	key := strings.ToLower(name)
	s.mu.Lock()
	defer s.mu.Unlock()
	l := s.lockouts[key]
	if l == nil || l.until.IsZero() {
		return time.Time{}
	}
	if !s.cfg.Now().Before(l.until) {
		delete(s.lockouts, key)
		return time.Time{}
	}
	return l.until
}

// wrongString counts one more wrong string. Only names in the device table get
// this far, so that the map stays as small as the table.
func (s *Server) wrongString(name string) int {
	key := strings.ToLower(name)
	s.mu.Lock()
	defer s.mu.Unlock()
	l := s.lockouts[key]
	if l == nil {
		l = new(lockout)
		s.lockouts[key] = l
	}
	l.wrong++
	if l.wrong >= s.cfg.LockoutAfter {
		l.until = s.cfg.Now().Add(s.cfg.LockoutFor)
	}
	return l.wrong
}

func (s *Server) unlock(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.lockouts, strings.ToLower(name))
}

// authCertificate checks an LSC or MIC: issued by a trusted CA, within its
// validity, naming the device, and its key in the phone's hands.
func (p *session) authCertificate(ctx context.Context, m *wire.Message) error {
	code := fault.InvalidLSC
	if p.device.AuthMode == AuthByMIC {
		code = fault.InvalidMIC
	}
	bad := func(err error) error { return p.faulty(code, err) }
	der, err := m.Certificate()
	if err != nil {
		return bad(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return bad(err)
	}
	kind, err := p.trusted(cert)
	if err == nil {
		err = namesDevice(cert, p.name)
	}
	if err == nil {
		err = verifyAuth(m, p.version, cert.PublicKey, wire.AuthInput(p.sentName(m), der))
	}
	if err == nil {
		err = p.checkSUDI(ctx, m)
	}
	if err != nil {
		return bad(err)
	}
	p.say(ctx, false, "Authentication by %s, subject %q, issuer %q", kind, distinguished(cert.RawSubject), distinguished(cert.RawIssuer))
	return nil
}

// sentName is the name as the phone spells it, which is what it has signed.
func (p *session) sentName(m *wire.Message) string {
	name, err := m.Text(wire.TagDeviceName)
	if err != nil {
		return p.name
	}
	return name
}

// trusted tells an LSC from a MIC by who issued it.
func (p *session) trusted(cert *x509.Certificate) (string, error) {
	now := p.srv.cfg.Now()
	issuers := p.srv.lscTrust
	if more := p.srv.cfg.LSCIssuers; more != nil {
		issuers = slices.Concat(issuers, more())
	}
	lscErr := checkIssued(cert, issuers, now)
	if lscErr == nil {
		return "LSC", nil
	}
	micErr := checkIssued(cert, p.srv.cfg.MICTrust, now)
	if micErr == nil {
		return "MIC", nil
	}
	if p.device.AuthMode == AuthByMIC {
		return "", micErr
	}
	return "", lscErr
}

// checkIssued verifies that one of issuers, each trusted by itself, has issued
// cert, and that both are within their validity.
func checkIssued(cert *x509.Certificate, issuers []*x509.Certificate, now time.Time) error {
	if now.Before(cert.NotBefore) || now.After(cert.NotAfter) {
		return fmt.Errorf("certificate %q is valid from %s to %s, and the clock here says %s",
			cert.Subject, utc(cert.NotBefore), utc(cert.NotAfter), utc(now))
	}
	found := fmt.Errorf("certificate %q was issued by %q, which is none of the trusted CAs", distinguished(cert.RawSubject), distinguished(cert.RawIssuer))
	for _, ca := range issuers {
		if string(ca.RawSubject) != string(cert.RawIssuer) {
			continue
		}
		switch err := checkSignature(cert, ca); {
		case err != nil:
			found = fmt.Errorf("certificate %q is not signed by the trusted %q: %w", distinguished(cert.RawSubject), distinguished(ca.RawSubject), err)
		case now.Before(ca.NotBefore) || now.After(ca.NotAfter):
			found = fmt.Errorf("its issuer %q is valid from %s to %s, and the clock here says %s",
				distinguished(ca.RawSubject), utc(ca.NotBefore), utc(ca.NotAfter), utc(now))
		default:
			return nil
		}
	}
	return found
}

// checkSignature is CheckSignatureFrom that also takes RSA with SHA-1, which
// Go refuses and with which the manufacturing CAs of older phones sign.
func checkSignature(cert, ca *x509.Certificate) error {
	err := cert.CheckSignatureFrom(ca)
	if err == nil || cert.SignatureAlgorithm != x509.SHA1WithRSA {
		return err
	}
	key, ok := ca.PublicKey.(*rsa.PublicKey)
	if !ok || !ca.IsCA || ca.KeyUsage != 0 && ca.KeyUsage&x509.KeyUsageCertSign == 0 {
		return err
	}
	digest := sha1.Sum(cert.RawTBSCertificate)
	return rsa.VerifyPKCS1v15(key, crypto.SHA1, digest[:], cert.Signature)
}

// namesDevice verifies that the certificate is the device's own: its common
// name is the device's name (an LSC), or a model, a hyphen and that name (a MIC).
func namesDevice(cert *x509.Certificate, name string) error {
	cn := cert.Subject.CommonName
	if strings.EqualFold(cn, name) || len(cn) > len(name) && strings.EqualFold(cn[len(cn)-len(name)-1:], "-"+name) {
		return nil
	}
	return fmt.Errorf("the certificate names %q", cn)
}

// verifyAuth checks the signatures of input: SHA-1 and SHA-512 from version 3
// on, at least one of them before; every one that is there must be right.
func verifyAuth(m *wire.Message, version uint8, pub crypto.PublicKey, input []byte) error {
	sha1Sig, hasSHA1 := m.Find(wire.TagSignedData)
	sha512Sig, err := m.SHA2Signed()
	hasSHA512 := err == nil
	switch {
	case err != nil && !errors.Is(err, wire.ErrMissing):
		return err
	case version >= 3 && (!hasSHA1 || !hasSHA512):
		return errors.New("a phone of version 3 must sign twice, with SHA-1 and with SHA-512")
	case !hasSHA1 && !hasSHA512:
		return errors.New("it signed nothing")
	}
	if hasSHA1 {
		if err := wire.Verify(pub, input, sha1Sig, crypto.SHA1); err != nil {
			return err
		}
	}
	if hasSHA512 {
		return wire.Verify(pub, input, sha512Sig, crypto.SHA512)
	}
	return nil
}

// checkSUDI checks the second proof, by the phone's Secure Unique Device
// Identifier, if there is one: an RSA certificate of the manufacturer's that
// names the device, and signatures over the session's id.
func (p *session) checkSUDI(ctx context.Context, m *wire.Message) error {
	sudi, err := m.SUDI()
	if errors.Is(err, wire.ErrMissing) {
		return nil
	}
	if err != nil {
		return err
	}
	if len(p.srv.cfg.MICTrust) == 0 {
		p.say(ctx, false, "The SUDI is not checked: no CA of the manufacturer is configured")
		return nil
	}
	cert, err := x509.ParseCertificate(sudi.Certificate)
	if err != nil {
		return fmt.Errorf("SUDI: %w", err)
	}
	if _, ok := cert.PublicKey.(*rsa.PublicKey); !ok {
		return errors.New("SUDI: its key is not RSA")
	}
	if err := checkIssued(cert, p.srv.cfg.MICTrust, p.srv.cfg.Now()); err != nil {
		return fmt.Errorf("SUDI: %w", err)
	}
	if err := namesDevice(cert, p.name); err != nil {
		return fmt.Errorf("SUDI: %w", err)
	}
	input := wire.SUDIInput(p.number, sudi.Certificate)
	if sudi.SHA1 == nil && sudi.SHA512 == nil {
		return errors.New("SUDI: it signed nothing")
	}
	for h, sig := range map[crypto.Hash][]byte{crypto.SHA1: sudi.SHA1, crypto.SHA512: sudi.SHA512} {
		if sig == nil {
			continue
		}
		if err := wire.Verify(cert.PublicKey, input, sig, h); err != nil {
			return fmt.Errorf("SUDI: %w", err)
		}
	}
	return nil
}
