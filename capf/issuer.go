package capf

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/url"
	"time"
)

// OnlineCA is what the server needs of an online CA: [Enroller] has it. The
// same request can be given twice, when the outcome of the first time is not
// known.
type OnlineCA interface {
	// EnrollCSR gets the certificate for a device's PKCS#10 request. The error
	// wraps a *fault.Fault, and is in the log already.
	EnrollCSR(ctx context.Context, device string, session int, csr []byte) (*LSC, error)
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
