package ra

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"fmt"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"

	"github.com/onlineca/onlineca/ra/fault"
)

// MaxCSRSize is the longest certificate request in DER, in bytes, that is
// looked at. A request with an RSA key of 16384 bits and a dozen names has
// 5 KiB.
const MaxCSRSize = 48 << 10

// maxRSABits is where verification becomes an attack: its time grows with the
// square of the length.
const maxRSABits = 16384

// minRSABits is what nobody may go below, whatever the policy says: Go's own
// verification refuses shorter keys.
const minRSABits = 1024

// ParseCSR reads a PKCS#10 request (RFC 2986) in DER and verifies its
// signature. The error is a fault.MalformedCSR, a fault.KeyTooShort for RSA
// keys below 1024 bits, or a fault.BadCSRSignature.
//
// RSA-PSS signatures verify only when the salt is as long as the hash:
// openssl needs -sigopt rsa_pss_saltlen:digest.
func ParseCSR(der []byte) (*x509.CertificateRequest, error) {
	csr, err := InspectCSR(der)
	if err != nil {
		return nil, err
	}
	if err := CheckCSRSignature(csr); err != nil {
		return nil, err
	}
	return csr, nil
}

// CheckCSRSignature verifies the signature of a request that [InspectCSR] has
// read. The error is a fault.BadCSRSignature; where the signature is of a kind
// that is not verified, so that nobody knows whether it is wrong, it says that.
func CheckCSRSignature(csr *x509.CertificateRequest) error {
	err := csr.CheckSignature()
	if err == nil {
		return nil
	}
	f := fault.New(fault.BadCSRSignature, "certificate request for "+subjectOf(csr), err)
	var insecure x509.InsecureAlgorithmError
	switch {
	case errors.As(err, &insecure):
		f.Message = fmt.Sprintf("it is signed with %v, which is too weak to be verified", csr.SignatureAlgorithm)
	case errors.Is(err, x509.ErrUnsupportedAlgorithm):
		f.Message = "signatures of its kind are not verified; RSA-PSS ones are if the salt is as long as the hash"
	}
	return f
}

// InspectCSR is [ParseCSR] without the signature, which somebody else must
// still verify.
func InspectCSR(der []byte) (*x509.CertificateRequest, error) {
	const op = "read certificate request"
	if len(der) == 0 {
		return nil, malformed(op, "it is empty")
	}
	if len(der) > MaxCSRSize {
		return nil, malformed(op, fmt.Sprintf("it has %d bytes, at most %d are read", len(der), MaxCSRSize))
	}
	csr, err := x509.ParseCertificateRequest(der)
	if err != nil {
		f := malformed(op, err.Error())
		f.Err = err
		return nil, f
	}
	switch key := csr.PublicKey.(type) {
	case *rsa.PublicKey:
		if n := key.N.BitLen(); n < minRSABits {
			return nil, &fault.Fault{
				Code: fault.KeyTooShort, Op: "certificate request for " + subjectOf(csr),
				Message: fmt.Sprintf("an RSA key of %d bits; nothing below %d is accepted", n, minRSABits),
			}
		}
		if n := key.N.BitLen(); n > maxRSABits {
			return nil, malformed(op, fmt.Sprintf("it has an RSA key of %d bits, at most %d are looked at", n, maxRSABits))
		}
	case *ecdsa.PublicKey, ed25519.PublicKey:
	default:
		return nil, malformed(op, fmt.Sprintf("its key is neither RSA, nor on a NIST curve, nor Ed25519 (algorithm %v)", publicKeyOID(csr)))
	}
	return csr, nil
}

func malformed(op, why string) *fault.Fault {
	return &fault.Fault{Code: fault.MalformedCSR, Op: op, Message: why}
}

// subjectOf names a request in an error.
func subjectOf(csr *x509.CertificateRequest) string {
	if cn := csr.Subject.CommonName; cn != "" {
		return cn
	}
	if s := csr.Subject.String(); s != "" {
		return s
	}
	return "an empty subject"
}

func publicKeyOID(csr *x509.CertificateRequest) asn1.ObjectIdentifier {
	var spki struct {
		Algorithm struct {
			Algorithm  asn1.ObjectIdentifier
			Parameters asn1.RawValue `asn1:"optional"`
		}
		PublicKey asn1.BitString
	}
	_, _ = asn1.Unmarshal(csr.RawSubjectPublicKeyInfo, &spki)
	return spki.Algorithm.Algorithm
}

// Attributes that a request can carry (RFC 2985; the second is Microsoft's
// szOID_ENROLLMENT_NAME_VALUE_PAIR, by which a request can name a template or
// a subject alternative name of its own to AD CS).
var (
	oidChallengePassword = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 7}
	oidNameValuePair     = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 311, 13, 2, 1}
)

// csrAttribute is one attribute of a request. The standard library shows only
// those whose values are of one certain shape.
type csrAttribute struct {
	Type   asn1.ObjectIdentifier
	Values [][]byte // the contents of each
}

// csrAttributes reads the attributes of a request that has been parsed
// (RFC 2986 section 4.1).
func csrAttributes(csr *x509.CertificateRequest) (attrs []csrAttribute, err error) {
	var info, set cryptobyte.String
	text := cryptobyte.String(csr.RawTBSCertificateRequest)
	tag := cbasn1.Tag(0).ContextSpecific().Constructed()
	if !text.ReadASN1(&info, cbasn1.SEQUENCE) || !info.SkipASN1(cbasn1.INTEGER) ||
		!info.SkipASN1(cbasn1.SEQUENCE) || !info.SkipASN1(cbasn1.SEQUENCE) || !info.ReadASN1(&set, tag) {
		return nil, malformed("read the request's attributes", "they are not where they belong")
	}
	for !set.Empty() {
		var one, values cryptobyte.String
		var a csrAttribute
		if !set.ReadASN1(&one, cbasn1.SEQUENCE) || !one.ReadASN1ObjectIdentifier(&a.Type) ||
			!one.ReadASN1(&values, cbasn1.SET) || !one.Empty() {
			return nil, malformed("read the request's attributes", "one of them is no attribute")
		}
		for !values.Empty() {
			var value cryptobyte.String
			if !values.ReadAnyASN1(&value, nil) {
				return nil, malformed("read the request's attributes", fmt.Sprintf("the values of %v cannot be read", a.Type))
			}
			a.Values = append(a.Values, value)
		}
		attrs = append(attrs, a)
	}
	return attrs, nil
}

// ChallengePassword returns the request's challengePassword attribute
// (RFC 2985 section 5.4.1), by which EST links a request to its TLS connection
// (RFC 7030 section 3.5). ok is false when there is none.
func ChallengePassword(csr *x509.CertificateRequest) (password string, ok bool, err error) {
	attrs, err := csrAttributes(csr)
	if err != nil {
		return "", false, err
	}
	for _, a := range attrs {
		if !a.Type.Equal(oidChallengePassword) {
			continue
		}
		if len(a.Values) != 1 {
			return "", false, malformed("read challengePassword", fmt.Sprintf("it has %d values", len(a.Values)))
		}
		return string(a.Values[0]), true, nil
	}
	return "", false, nil
}
