package capf

import (
	"crypto/x509"
	"errors"
	"fmt"

	"github.com/smallstep/pkcs7"

	"github.com/onlineca/onlineca/ra/fault"
)

// What a certs-only PKCS#7 may be before it is given to the parser, which
// recurses as deep as its input says and needs quadratic time for indefinite
// lengths. A certificate is nested a dozen deep.
const (
	berDepth      = 40
	berIndefinite = 64 << 10 // the largest input with an indefinite length, in bytes
)

// ParsePKCS7 returns the certificates of a certs-only PKCS#7 (RFC 7030 section
// 4.2.3) in DER or BER. The error is a fault.CertificateUnreadable.
func ParsePKCS7(der []byte) ([]*x509.Certificate, error) {
	const op = "capf: read the PKCS#7"
	if err := checkBER(der); err != nil {
		return nil, fault.New(fault.CertificateUnreadable, op, err)
	}
	p7, err := pkcs7.Parse(der)
	if err != nil {
		return nil, fault.New(fault.CertificateUnreadable, op, err)
	}
	if len(p7.Certificates) == 0 {
		return nil, fault.Newf(fault.CertificateUnreadable, op, "it holds no certificate")
	}
	return p7.Certificates, nil
}

// checkBER walks over the elements of one BER value (X.690 section 8.1) without
// recursion, and refuses what is nested too deeply or too long for its form.
func checkBER(data []byte) error {
	// open holds where each constructed element that the walk is in ends; -1 is
	// an indefinite length.
	var open []int
	for at := 0; ; {
		for len(open) > 0 && open[len(open)-1] == at {
			open = open[:len(open)-1]
		}
		if at == len(data) {
			return nil // whatever is still open is for the parser to miss
		}
		h, err := readBER(data[at:])
		if err != nil {
			return err
		}
		at += h.header
		switch {
		case h.indefinite && len(data) > berIndefinite:
			return fmt.Errorf("it has an indefinite length and %d bytes, the most is %d", len(data), berIndefinite)
		case h.indefinite:
			open = append(open, -1)
		case h.end && len(open) > 0 && open[len(open)-1] == -1:
			open = open[:len(open)-1]
		case h.length > len(data)-at:
			return errors.New("it is cut off")
		case h.constructed:
			open = append(open, at+h.length)
		default:
			at += h.length
		}
		if len(open) > berDepth {
			return fmt.Errorf("it is nested more than %d deep", berDepth)
		}
	}
}

// berHeader is the tag and length of an element.
type berHeader struct {
	header, length               int // in bytes
	constructed, indefinite, end bool
}

// readBER reads the header of the element that data begins with.
func readBER(data []byte) (berHeader, error) {
	short := errors.New("it is cut off")
	if len(data) < 2 {
		return berHeader{}, short
	}
	h := berHeader{header: 2, constructed: data[0]&0x20 != 0, end: data[0] == 0 && data[1] == 0}
	if data[0]&0x1f == 0x1f {
		return berHeader{}, errors.New("it has a tag of more than one byte, which no PKCS#7 has")
	}
	l := data[1]
	switch {
	case l == 0x80:
		h.indefinite = true
	case l > 0x84:
		return berHeader{}, errors.New("it has a length of more than four bytes")
	case l > 0x80:
		n := int(l & 0x7f)
		if len(data) < 2+n {
			return berHeader{}, short
		}
		for _, b := range data[2 : 2+n] {
			h.length = h.length<<8 | int(b)
		}
		h.header += n
	default:
		h.length = int(l)
	}
	return h, nil
}
