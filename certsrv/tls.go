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
	hasSAN := len(leaf.DNSNames)+len(leaf.IPAddresses)+len(leaf.EmailAddresses)+len(leaf.URIs) > 0
	if err == nil || hasSAN || !strings.EqualFold(leaf.Subject.CommonName, c.host) {
		return err
	}
	if c.cfg.Logger != nil {
		c.cfg.Logger.Warn("certsrv: the IIS certificate has no subject alternative name; accepted by its common name, as configured (match_common_name)",
			zap.String("host", c.host), zap.String("subject", leaf.Subject.String()))
	}
	return nil
}
