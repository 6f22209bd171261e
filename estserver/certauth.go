package estserver

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/asn1"
	"fmt"
	"slices"
	"time"

	"github.com/onlineca/onlineca/ra/fault"
)

// oidCMCRA is id-kp-cmcRA (RFC 6402 section 2.10): a registration authority
// that passes on the requests of others.
var oidCMCRA = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 3, 28}

// verifyChain verifies what the client presented against the label's rules.
func (x *exchange) verifyChain(ctx context.Context, auth *CertificateAuth) error {
	cert := x.peer[0]
	refused := func(why string, err error) error {
		return &fault.Fault{
			Code: fault.ClientCertificate, Op: "verify the certificate of " + cert.Subject.String(), Message: why, Err: err,
		}
	}
	roots, intermediates, err := x.trusted(ctx, auth)
	if err != nil {
		return err
	}
	for _, c := range x.peer[1:] {
		intermediates.AddCert(c)
	}
	now := time.Now()
	at := now
	if grace := auth.Grace; x.op.name == opReenroll && now.After(cert.NotAfter) && !now.After(cert.NotAfter.Add(grace)) {
		at = cert.NotAfter
	}
	_, err = cert.Verify(x509.VerifyOptions{
		Roots: roots, Intermediates: intermediates, CurrentTime: at,
		// What the certificate may be used for is looked at below.
		KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny},
	})
	if err != nil {
		return refused(verifyText(cert, now, err), err)
	}
	if !usable(cert, auth.KeyUsages) {
		return refused("its extended key usage does not allow it", nil)
	}
	if re := x.label.subject; re != nil && !re.MatchString(cert.Subject.String()) {
		return refused("its subject is not among those accepted", nil)
	}
	return nil
}

// trusted returns the issuers of client certificates. Every configured CA is a
// root: a client whose intermediate is configured need not send it.
func (x *exchange) trusted(ctx context.Context, auth *CertificateAuth) (roots, intermediates *x509.CertPool, err error) {
	roots, intermediates = x509.NewCertPool(), x509.NewCertPool()
	for _, c := range auth.CAs {
		roots.AddCert(c)
	}
	if auth.OwnChain {
		own, err := x.s.cfg.Chain.CACerts(ctx)
		if err != nil {
			return nil, nil, err
		}
		for _, c := range own {
			roots.AddCert(c)
		}
	}
	return roots, intermediates, nil
}

// verifyText says in a few words what is wrong with a certificate.
func verifyText(cert *x509.Certificate, now time.Time, err error) string {
	switch {
	case now.After(cert.NotAfter):
		return "it expired on " + cert.NotAfter.UTC().Format(time.DateOnly)
	case now.Before(cert.NotBefore):
		return "it is not valid before " + cert.NotBefore.UTC().Format(time.DateTime) + " UTC"
	case bytes.Equal(cert.RawSubject, cert.RawIssuer):
		return "it is self-signed"
	}
	switch a := cert.SignatureAlgorithm; a {
	case x509.SHA1WithRSA, x509.ECDSAWithSHA1, x509.MD5WithRSA:
		return fmt.Sprintf("it is signed with %v, which is not accepted", a)
	}
	return fmt.Sprintf("its issuer, %s, does not lead to an accepted CA", cert.Issuer)
}

// usable says whether a certificate may authenticate a client.
func usable(cert *x509.Certificate, usages []x509.ExtKeyUsage) bool {
	if len(cert.ExtKeyUsage) == 0 && len(cert.UnknownExtKeyUsage) == 0 {
		return true
	}
	if len(usages) == 0 {
		usages = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	}
	for _, u := range cert.ExtKeyUsage {
		if u == x509.ExtKeyUsageAny || slices.Contains(usages, u) {
			return true
		}
	}
	return isCMCRA(cert)
}

func isCMCRA(cert *x509.Certificate) bool {
	return slices.ContainsFunc(cert.UnknownExtKeyUsage, oidCMCRA.Equal)
}

// nameOf is what a certificate's owner is called: its common name, or failing
// that its first DNS name, or its whole subject.
func nameOf(cert *x509.Certificate) string {
	switch {
	case cert.Subject.CommonName != "":
		return cert.Subject.CommonName
	case len(cert.DNSNames) > 0:
		return cert.DNSNames[0]
	default:
		return cert.Subject.String()
	}
}
