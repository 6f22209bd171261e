package estserver

import (
	"crypto/hmac"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"

	"github.com/onlineca/onlineca/ra"
	"github.com/onlineca/onlineca/ra/fault"
)

// checkPoP looks whether the request was made for this very TLS connection.
func (x *exchange) checkPoP(csr *x509.CertificateRequest) error {
	mode := x.label.PoP
	if mode == PoPOff || x.verified != nil && isCMCRA(x.verified) {
		return nil
	}
	refused := func(why string) error {
		return &fault.Fault{
			Code: fault.RequestRefused, Op: "verify proof of possession", Message: "Proof of Possession Mismatch: " + why,
		}
	}
	password, given, err := ra.ChallengePassword(csr)
	if err != nil {
		return err
	}
	if !given && mode == PoPRequired {
		return refused("the request has no challengePassword")
	}
	if !given {
		return nil
	}
	if x.r.TLS == nil || x.proxied {
		if mode == PoPOptional {
			return nil
		}
		return refused("TLS ends at a proxy, so that nothing can be compared")
	}
	want, err := channelBinding(x.r.TLS)
	if err != nil {
		return refused(err.Error())
	}
	if !hmac.Equal([]byte(password), []byte(base64.StdEncoding.EncodeToString(want))) {
		return refused("challengePassword is not the value of this TLS connection")
	}
	return nil
}

// channelBinding is tls-unique for TLS 1.2 (RFC 5929) and tls-exporter for
// TLS 1.3 (RFC 9266 section 2: label, empty context, 32 bytes).
func channelBinding(state *tls.ConnectionState) ([]byte, error) {
	if state.Version >= tls.VersionTLS13 {
		return state.ExportKeyingMaterial("EXPORTER-Channel-Binding", nil, 32)
	}
	if len(state.TLSUnique) == 0 {
		return nil, errNoTLSUnique
	}
	return state.TLSUnique, nil
}
