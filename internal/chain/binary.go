package chain

import (
	"bytes"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"fmt"

	"github.com/smallstep/pkcs7"
)

func isTooLarge(err error) bool {
	var large *TooLargeError
	return errors.As(err, &large)
}

// oidSignedData and its siblings (RFC 5652): 1.2.840.113549.1.7.x.
var oidPKCS7 = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 7}

// binary reads what begins with an ASN.1 SEQUENCE.
func (in *Input) binary(der []byte, password *string) error {
	switch {
	case isPKCS7(der):
		in.Format = FormatPKCS7DER
		return in.pkcs7(der)
	case isPKCS12(der):
		in.Format = FormatPKCS12
		return in.pkcs12(der, password)
	}
	if r, err := x509.ParseCertificateRequest(der); err == nil {
		in.Format = FormatDER
		in.Requests = append(in.Requests, r)
		return nil
	}
	in.Format = FormatDER
	for rest := der; len(rest) > 0; {
		var v asn1.RawValue
		next, err := asn1.Unmarshal(rest, &v)
		if err != nil {
			return fmt.Errorf("certificate %d cannot be read: %w", len(in.Certs)+1, err)
		}
		c, err := x509.ParseCertificate(v.FullBytes)
		if err != nil {
			if len(in.Certs) == 0 {
				in.Format = FormatUnreadable
			}
			return fmt.Errorf("certificate %d cannot be read: %w", len(in.Certs)+1, err)
		}
		if err := in.add(c); err != nil {
			return err
		}
		rest = next
	}
	return nil
}

// isPKCS7 says whether b begins like a ContentInfo (RFC 5652 section 3): a
// SEQUENCE, in DER or in BER, whose first element is an identifier of PKCS#7.
func isPKCS7(b []byte) bool {
	if len(b) == 0 || b[0] != 0x30 {
		return false
	}
	_, _, content, err := header(b)
	if err != nil {
		return false
	}
	var oid asn1.ObjectIdentifier
	if _, err := asn1.Unmarshal(content, &oid); err != nil {
		return false
	}
	return len(oid) == len(oidPKCS7)+1 && oid[:len(oidPKCS7)].Equal(oidPKCS7)
}

// isPKCS12 says whether b begins like a PFX (RFC 7292 section 4): version 3,
// then a ContentInfo.
func isPKCS12(b []byte) bool {
	_, _, content, err := header(b)
	if err != nil {
		return false
	}
	rest, ok := bytes.CutPrefix(content, []byte{0x02, 0x01, 0x03})
	return ok && isPKCS7(rest)
}

// pkcs7 reads the certificates of a SignedData; signatures do not matter here.
func (in *Input) pkcs7(ber []byte) error {
	if err := measure(ber); err != nil {
		return &TooLargeError{in.Name, "it is PKCS#7, but " + err.Error()}
	}
	p7, err := pkcs7.Parse(ber)
	if err != nil {
		return fmt.Errorf("the PKCS#7 structure cannot be read: %w", err)
	}
	if isPKCS7(p7.Content) {
		in.note("there is another PKCS#7 structure inside this one, which is not looked into")
		if len(p7.Certificates) == 0 {
			return errors.New("it is a PKCS#7 structure inside another one; unpack it first")
		}
	}
	if len(p7.Certificates) == 0 {
		return errors.New("the PKCS#7 structure holds no certificate")
	}
	for _, c := range p7.Certificates {
		if err := in.add(c); err != nil {
			return err
		}
	}
	return nil
}

// ReadRequest returns the certificate request in an input, as it comes from
// the appliance. The request's own signature is verified.
func (in *Input) ReadRequest() (*x509.CertificateRequest, error) {
	if len(in.Requests) != 1 {
		err := in.Err
		if err == nil {
			err = errors.New("it holds certificates")
		}
		return nil, fmt.Errorf("read certificate request from %s: found %d requests instead of one: %w", in.Name, len(in.Requests), err)
	}
	r := in.Requests[0]
	if err := r.CheckSignature(); err != nil {
		return nil, fmt.Errorf("read certificate request from %s: its signature does not verify: %w", in.Name, err)
	}
	return r, nil
}
