package ntlm

import (
	"crypto"
	"crypto/md5"
	"crypto/x509"
	"encoding/binary"

	// The hashes that ServerEndPoint asks for by number.
	_ "crypto/sha256"
	_ "crypto/sha512"
)

// ServerEndPoint is the channel binding of a TLS connection whose server showed
// cert: the MD5 of a gss_channel_bindings_struct without addresses, whose
// application data are "tls-server-end-point:" and the certificate's hash
// (RFC 5929 section 4.1, MS-NLMP 2.2.2.1).
func ServerEndPoint(cert *x509.Certificate) []byte {
	h := endPointHash(cert.SignatureAlgorithm).New()
	h.Write(cert.Raw)
	data := append([]byte("tls-server-end-point:"), h.Sum(nil)...)
	b := make([]byte, 16, 20+len(data))
	b = binary.LittleEndian.AppendUint32(b, uint32(len(data)))
	sum := md5.Sum(append(b, data...))
	return sum[:]
}

// endPointHash is the hash of the certificate's signature, at least SHA-256.
// For a signature that has none of its own, as Ed25519, RFC 5929 defines
// nothing; SHA-256 is what clients fall back to.
func endPointHash(alg x509.SignatureAlgorithm) crypto.Hash {
	switch alg {
	case x509.SHA384WithRSA, x509.ECDSAWithSHA384, x509.SHA384WithRSAPSS:
		return crypto.SHA384
	case x509.SHA512WithRSA, x509.ECDSAWithSHA512, x509.SHA512WithRSAPSS:
		return crypto.SHA512
	default:
		return crypto.SHA256
	}
}
