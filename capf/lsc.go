package capf

import (
	"context"
	"crypto"
	"crypto/rsa"
	"crypto/x509"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/onlineca/onlineca/ra/fault"
)

// LSC is a Locally Significant Certificate that was enrolled and verified.
type LSC struct {
	// DER is the certificate as it is stored and sent to the phone.
	DER []byte
	// Certificate is the same, parsed. It carries the public key of the
	// request.
	Certificate *x509.Certificate
	// Chain leads from the certificate's issuer to the trust anchor.
	Chain []*x509.Certificate
	// PKCS7Length is the length in bytes of the answer that it came in.
	PKCS7Length int
	// Warnings are faults that show only later, when the phone uses the
	// certificate: fault.LSCKeyUsage, fault.CACNCAPF.
	Warnings []error
}

// publicKey is what every public key of the standard library can do.
type publicKey interface {
	Equal(x crypto.PublicKey) bool
}

// sameKey tells whether two public keys are the same one.
func sameKey(a, b any) bool {
	k, ok := a.(publicKey)
	return ok && k.Equal(b)
}

// LeafFor finds the certificate for the public key pub. If there is none the
// error is a fault.WrongKeyCertificate that names what there is.
func LeafFor(certs []*x509.Certificate, pub crypto.PublicKey) (*x509.Certificate, error) {
	subjects := make([]string, 0, len(certs))
	for _, c := range certs {
		if sameKey(c.PublicKey, pub) {
			return c, nil
		}
		subjects = append(subjects, fmt.Sprintf("%q", c.Subject))
	}
	if len(subjects) > 4 {
		subjects = append(subjects[:4], "…")
	}
	return nil, fault.Newf(fault.WrongKeyCertificate, "capf: look for the certificate of the request's key",
		"what came back is %s", strings.Join(subjects, ", "))
}

// verifyLSC builds the chain from leaf to one of roots, by way of what the
// answer brought along and the anchors themselves.
func verifyLSC(leaf *x509.Certificate, answer []*x509.Certificate, anchors Anchors, now time.Time) ([]*x509.Certificate, error) {
	op := fmt.Sprintf("capf: verify the certificate of %q", leaf.Subject.CommonName)
	switch {
	case now.Before(leaf.NotBefore):
		return nil, fault.Newf(fault.InvalidLSC, op, "it is valid from %s on, and the clock here says %s", utc(leaf.NotBefore), utc(now))
	case now.After(leaf.NotAfter):
		return nil, fault.Newf(fault.InvalidLSC, op, "it was valid until %s, and the clock here says %s", utc(leaf.NotAfter), utc(now))
	}
	between := x509.NewCertPool()
	if anchors.Intermediates != nil {
		between = anchors.Intermediates.Clone()
	}
	for _, c := range answer {
		between.AddCert(c)
	}
	chains, err := leaf.Verify(x509.VerifyOptions{
		Roots:         anchors.Roots,
		Intermediates: between,
		CurrentTime:   now,
		KeyUsages:     []x509.ExtKeyUsage{x509.ExtKeyUsageAny},
	})
	if err != nil {
		return nil, fault.New(fault.CAPFTrustMissing, op+", issued by "+fmt.Sprintf("%q", leaf.Issuer), err)
	}
	longest := chains[0]
	for _, chain := range chains[1:] {
		if len(chain) > len(longest) {
			longest = chain
		}
	}
	return longest[1:], nil
}

func utc(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05 MST") }

// Anchors is what an LSC is verified against.
type Anchors struct {
	// Roots are trusted.
	Roots *x509.CertPool
	// Intermediates may be used on the way; nil for none but those that come
	// with the certificate.
	Intermediates *x509.CertPool
}

// AnchorsOf trusts each of certs, as CUCM trusts everything in CAPF-trust.
func AnchorsOf(certs []*x509.Certificate) Anchors {
	a := Anchors{Roots: x509.NewCertPool(), Intermediates: x509.NewCertPool()}
	for _, c := range certs {
		a.Roots.AddCert(c)
		a.Intermediates.AddCert(c)
	}
	return a
}

// lscWarnings lists what makes a good certificate useless to a phone.
func lscWarnings(leaf *x509.Certificate, chain []*x509.Certificate) []error {
	var warnings []error
	need := x509.KeyUsageDigitalSignature
	if _, ok := leaf.PublicKey.(*rsa.PublicKey); ok {
		need |= x509.KeyUsageKeyEncipherment
	}
	if leaf.KeyUsage&need != need {
		warnings = append(warnings, fault.New(fault.LSCKeyUsage, fmt.Sprintf("certificate of %q", leaf.Subject.CommonName), nil))
	}
	for _, ca := range chain {
		if strings.Contains(ca.Subject.CommonName, "CAPF-") {
			warnings = append(warnings, fault.New(fault.CACNCAPF, fmt.Sprintf("CA %q", ca.Subject.CommonName), nil))
		}
	}
	return warnings
}

// caCerts is where an Enroller gets its anchors from when it is given none.
type caCerts interface {
	CACerts(ctx context.Context) ([]*x509.Certificate, error)
}

// errNoAnchors cannot be caused by a far side.
var errNoAnchors = errors.New("capf: no trust anchors for LSCs are configured, and the client cannot ask for the CA's certificates")
