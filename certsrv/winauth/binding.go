package winauth

import (
	"crypto"
	"crypto/md5"
	_ "crypto/sha256" // crypto.SHA256
	_ "crypto/sha512" // crypto.SHA384, crypto.SHA512
	"crypto/x509"
	"encoding/binary"
	"fmt"
)

// channelBinding returns the value of MsvAvChannelBindings for a TLS
// connection whose server presents cert: the MD5 of a gss_channel_bindings
// structure (RFC 2744 section 3.11, MS-NLMP 3.1.5.1.2) without addresses,
//
//	initiator address type  4 bytes  0
//	initiator address len   4 bytes  0
//	acceptor address type   4 bytes  0
//	acceptor address len    4 bytes  0
//	application data len    4 bytes  little-endian
//	application data        "tls-server-end-point:" || hash of the certificate
func channelBinding(cert *x509.Certificate) (value []byte, err error) {
	defer caught(&err)
	hash, err := endPointHash(cert)
	if err != nil {
		return nil, err
	}
	h := hash.New()
	h.Write(cert.Raw)
	data := h.Sum([]byte("tls-server-end-point:"))

	b := make([]byte, 16, 20+len(data))
	b = binary.LittleEndian.AppendUint32(b, uint32(len(data)))
	b = append(b, data...)
	sum := md5.Sum(b)
	return sum[:], nil
}

// endPointHash is the hash of tls-server-end-point (RFC 5929 section 4.1):
// that of the certificate's signature, with MD5 and SHA-1 raised to SHA-256,
// and undefined for a signature that has no hash or several.
func endPointHash(cert *x509.Certificate) (crypto.Hash, error) {
	switch cert.SignatureAlgorithm {
	case x509.MD5WithRSA, x509.SHA1WithRSA, x509.DSAWithSHA1, x509.ECDSAWithSHA1,
		x509.SHA256WithRSA, x509.SHA256WithRSAPSS, x509.DSAWithSHA256, x509.ECDSAWithSHA256:
		return crypto.SHA256, nil
	case x509.SHA384WithRSA, x509.SHA384WithRSAPSS, x509.ECDSAWithSHA384:
		return crypto.SHA384, nil
	case x509.SHA512WithRSA, x509.SHA512WithRSAPSS, x509.ECDSAWithSHA512:
		return crypto.SHA512, nil
	default:
		return 0, fmt.Errorf("no channel binding is defined for a certificate signed with %v (%s): give the server another certificate, or switch channel binding off",
			cert.SignatureAlgorithm, cert.Subject)
	}
}
