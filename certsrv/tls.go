package certsrv

import (
	"crypto/tls"
	"crypto/x509"
	"strings"

	"go.uber.org/zap"
)

// matchCommonName has t accept a certificate that names the host in its common
// name only. Chain, validity and purpose are verified as ever.
func (c *Client) matchCommonName(t *tls.Config) {
	t.InsecureSkipVerify = true // VerifyConnection verifies, all but for the place of the name
	t.VerifyConnection = func(s tls.ConnectionState) error {
		leaf := s.PeerCertificates[0]
		inter := x509.NewCertPool()
		for _, cert := range s.PeerCertificates[1:] {
			inter.AddCert(cert)
		}
		_, err := leaf.Verify(x509.VerifyOptions{Roots: c.cfg.Roots, Intermediates: inter, CurrentTime: c.cfg.Now()})
		if err == nil {
			err = c.verifyName(leaf)
		}
		if err != nil {
			return &tls.CertificateVerificationError{UnverifiedCertificates: s.PeerCertificates, Err: err}
		}
		return nil
	}
}

func (c *Client) verifyName(leaf *x509.Certificate) error {
	err := leaf.VerifyHostname(c.host)
	if err == nil || hasSAN(leaf) || !strings.EqualFold(leaf.Subject.CommonName, c.host) {
		return err
	}
	if c.cfg.Logger != nil {
		c.cfg.Logger.Warn("certsrv: the IIS certificate has no subject alternative name; accepted by its common name, as configured (match_common_name)",
			zap.String("host", c.host), zap.String("subject", leaf.Subject.String()))
	}
	return nil
}

func hasSAN(c *x509.Certificate) bool {
	return len(c.DNSNames)+len(c.IPAddresses)+len(c.EmailAddresses)+len(c.URIs) > 0
}
