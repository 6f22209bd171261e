package wire

import (
	"encoding/binary"
	"fmt"
)

// certificatePrefix is the length of what stands before the DER in a
// CERTIFICATE element: 01, a length, 00 01. The last two bytes have been seen
// with every certificate, LSC or MIC; their meaning is unknown.
const certificatePrefix = 5

// CertificateValue makes a CERTIFICATE element out of a certificate's DER.
// A DER of more than 65533 bytes does not fit; no message can carry one anyway.
func CertificateValue(der []byte) Element {
	v := make([]byte, 0, certificatePrefix+len(der))
	v = append(v, 0x01)
	v = binary.BigEndian.AppendUint16(v, uint16(len(der)+2))
	v = append(v, 0x00, 0x01)
	return Element{TagCertificate, append(v, der...)}
}

// Certificate returns the DER inside the message's CERTIFICATE element. As
// every parser seen does, it skips the five bytes in front, but it insists
// that their length is right. The error wraps [ErrMissing] or [ErrFormat].
func (m *Message) Certificate() ([]byte, error) {
	v, ok := m.Find(TagCertificate)
	if !ok {
		return nil, fmt.Errorf("%v: %v: %w", m.Command, TagCertificate, ErrMissing)
	}
	if len(v) <= certificatePrefix {
		return nil, fmt.Errorf("%w: CERTIFICATE of %d bytes in %v holds no certificate", ErrFormat, len(v), m.Command)
	}
	der := v[certificatePrefix:]
	if n := int(binary.BigEndian.Uint16(v[1:3])); n != len(der)+2 {
		return nil, fmt.Errorf("%w: CERTIFICATE in %v announces %d bytes, %d follow", ErrFormat, m.Command, n, len(der)+2)
	}
	return der, nil
}

// SUDI is a phone's second proof, by its Secure Unique Device Identifier: the
// value of a SUDI_DATA element.
type SUDI struct {
	Certificate []byte // DER
	SHA1        []byte // signature of [SUDIInput], SHA-1
	SHA512      []byte // signature of [SUDIInput], SHA-512
}

// The parts of SUDI_DATA: tag (u8), length (u16), value.
const sudiCertificate = 0

// Element makes a SUDI_DATA element.
func (s SUDI) Element() Element {
	v := appendPart(nil, sudiCertificate, s.Certificate)
	v = appendPart(v, byte(SHA1), s.SHA1)
	return Element{TagSUDIData, appendPart(v, byte(SHA512), s.SHA512)}
}

// SUDI returns the message's SUDI_DATA. The error wraps [ErrMissing] or
// [ErrFormat].
func (m *Message) SUDI() (SUDI, error) {
	v, ok := m.Find(TagSUDIData)
	if !ok {
		return SUDI{}, fmt.Errorf("%v: %v: %w", m.Command, TagSUDIData, ErrMissing)
	}
	var s SUDI
	for len(v) > 0 {
		tag, part, rest, err := cutPart(v)
		if err != nil {
			return SUDI{}, fmt.Errorf("SUDI_DATA in %v: %w", m.Command, err)
		}
		v = rest
		switch tag {
		case sudiCertificate:
			s.Certificate = part
		case byte(SHA1):
			s.SHA1 = part
		case byte(SHA512):
			s.SHA512 = part
		}
	}
	if s.Certificate == nil {
		return SUDI{}, fmt.Errorf("%w: SUDI_DATA in %v holds no certificate", ErrFormat, m.Command)
	}
	return s, nil
}

// SHA2SignedValue makes a SHA2_SIGNED_DATA element of a SHA-512 signature.
func SHA2SignedValue(sig []byte) Element {
	return Element{TagSHA2SignedData, appendPart(nil, byte(SHA512), sig)}
}

// SHA2Signed returns the SHA-512 signature of SHA2_SIGNED_DATA. The error
// wraps [ErrMissing] or [ErrFormat].
func (m *Message) SHA2Signed() ([]byte, error) {
	v, ok := m.Find(TagSHA2SignedData)
	if !ok {
		return nil, fmt.Errorf("%v: %v: %w", m.Command, TagSHA2SignedData, ErrMissing)
	}
	tag, sig, rest, err := cutPart(v)
	if err != nil {
		return nil, fmt.Errorf("SHA2_SIGNED_DATA in %v: %w", m.Command, err)
	}
	if tag != byte(SHA512) || len(rest) != 0 {
		return nil, fmt.Errorf("%w: SHA2_SIGNED_DATA in %v is not one SHA-512 signature", ErrFormat, m.Command)
	}
	return sig, nil
}

func appendPart(b []byte, tag byte, v []byte) []byte {
	b = append(b, tag)
	b = binary.BigEndian.AppendUint16(b, uint16(len(v)))
	return append(b, v...)
}

func cutPart(b []byte) (tag byte, v, rest []byte, err error) {
	if len(b) < elementHeader {
		return 0, nil, nil, fmt.Errorf("%w: ends inside a part's header", ErrFormat)
	}
	n := int(binary.BigEndian.Uint16(b[1:3]))
	if n > len(b)-elementHeader {
		return 0, nil, nil, fmt.Errorf("%w: a part announces %d bytes, %d are left", ErrFormat, n, len(b)-elementHeader)
	}
	return b[0], b[elementHeader : elementHeader+n], b[elementHeader+n:], nil
}
