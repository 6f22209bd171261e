package wire

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
)

// Tag is the first byte of an element.
type Tag uint8

// The elements, with the layout of their value.
const (
	TagReason          Tag = 1  // u8, see [Reason]. seen, product
	TagReasonInfo      Tag = 2  // text. unknown
	TagCertificateType Tag = 3  // u8, see [CertificateType]. seen, product
	TagCertificate     Tag = 4  // 01 | u16 length of DER + 2 | 00 01 | DER, see [CertificateValue]. seen, product
	TagCertificateID   Tag = 5  // unknown
	TagSignedData      Tag = 6  // a bare signature, SHA-1. seen
	TagVersion         Tag = 7  // u8: servers say 3, phones 2 or 3. seen, product
	TagAuthType        Tag = 8  // u8, see [AuthType]. seen
	TagPublicKey       Tag = 9  // SubjectPublicKeyInfo DER (seen), or RSAPublicKey DER (inferred from the product's trace: 270 bytes for 2048 bits)
	TagKeySize         Tag = 10 // u16, bits of an RSA key. seen, product
	TagPassword        Tag = 11 // text, NUL at its end. seen
	TagRetryDelay      Tag = 12 // seconds; the width is unknown: u16 is written, u8, u16 and u32 are read
	TagDeviceName      Tag = 13 // text, NUL at its end. seen, product
	TagSUDIData        Tag = 16 // 00 | u16 | certificate DER, 01 | u16 | signature SHA-1, 03 | u16 | signature SHA-512, see [SUDI]. seen
	TagKeyType         Tag = 17 // u8, see [KeyType]; version 3 only. seen
	TagCurve           Tag = 18 // u8, see [Curve]; version 3 only. seen
	TagDigestType      Tag = 19 // u8, see [DigestType]. inferred
	TagSHA2SignedData  Tag = 20 // 03 | u16 | signature SHA-512. seen
)

var tagNames = [...]string{
	TagReason:          "REASON",
	TagReasonInfo:      "REASON_INFO",
	TagCertificateType: "CERTIFICATE_TYPE",
	TagCertificate:     "CERTIFICATE",
	TagCertificateID:   "CERTIFICATE_ID",
	TagSignedData:      "SIGNED_DATA",
	TagVersion:         "VERSION",
	TagAuthType:        "AUTH_TYPE",
	TagPublicKey:       "PUBLIC_KEY",
	TagKeySize:         "KEY_SIZE",
	TagPassword:        "PASSWORD",
	TagRetryDelay:      "RETRY_DELAY",
	TagDeviceName:      "DEVICE_NAME",
	TagSUDIData:        "SUDI_DATA",
	TagKeyType:         "KEY_TYPE",
	TagCurve:           "CURVE",
	TagDigestType:      "DIGEST_TYPE",
	TagSHA2SignedData:  "SHA2_SIGNED_DATA",
}

// Known reports whether the tag has a name. 14 and 15 have none.
func (t Tag) Known() bool { return int(t) < len(tagNames) && tagNames[t] != "" }

// String returns the tag's name, or "ELEMENT_n" for a number without one.
func (t Tag) String() string {
	if t.Known() {
		return tagNames[t]
	}
	return fmt.Sprintf("ELEMENT_%d", uint8(t))
}

// Element is one tag and its value.
type Element struct {
	Tag   Tag
	Value []byte
}

// Uint8 makes an element with a value of one byte.
func Uint8[V ~uint8](t Tag, v V) Element { return Element{t, []byte{byte(v)}} }

// Uint16 makes an element with a value of two bytes.
func Uint16(t Tag, v uint16) Element {
	return Element{t, binary.BigEndian.AppendUint16(nil, v)}
}

// Text makes an element of text, with the NUL that ends it.
func Text(t Tag, s string) Element { return Element{t, append([]byte(s), 0)} }

// ErrMissing says that a message lacks an element that it needs.
var ErrMissing = errors.New("element is missing")

// Find returns the value of the element t.
func (m *Message) Find(t Tag) ([]byte, bool) {
	for _, e := range m.Elements {
		if e.Tag == t {
			return e.Value, true
		}
	}
	for _, e := range m.Unknown {
		if e.Tag == t {
			return e.Value, true
		}
	}
	return nil, false
}

// Uint8 returns the one byte of element t; the error wraps [ErrMissing] or
// [ErrFormat].
func (m *Message) Uint8(t Tag) (uint8, error) {
	v, ok := m.Find(t)
	if !ok {
		return 0, fmt.Errorf("%v: %v: %w", m.Command, t, ErrMissing)
	}
	if len(v) != 1 {
		return 0, fmt.Errorf("%w: %v of %d bytes in %v, want 1", ErrFormat, t, len(v), m.Command)
	}
	return v[0], nil
}

// Uint16 returns the two bytes of element t; the error wraps [ErrMissing] or
// [ErrFormat].
func (m *Message) Uint16(t Tag) (uint16, error) {
	v, ok := m.Find(t)
	if !ok {
		return 0, fmt.Errorf("%v: %v: %w", m.Command, t, ErrMissing)
	}
	if len(v) != 2 {
		return 0, fmt.Errorf("%w: %v of %d bytes in %v, want 2", ErrFormat, t, len(v), m.Command)
	}
	return binary.BigEndian.Uint16(v), nil
}

// Text returns the text of element t without the NUL at its end, which may be
// absent; a NUL anywhere else is an error. The error wraps [ErrMissing] or
// [ErrFormat], and never holds the text.
func (m *Message) Text(t Tag) (string, error) {
	v, ok := m.Find(t)
	if !ok {
		return "", fmt.Errorf("%v: %v: %w", m.Command, t, ErrMissing)
	}
	s := strings.TrimSuffix(string(v), "\x00")
	if strings.IndexByte(s, 0) >= 0 {
		return "", fmt.Errorf("%w: %v in %v holds a NUL before its end", ErrFormat, t, m.Command)
	}
	return s, nil
}

// Reason returns the message's REASON.
func (m *Message) Reason() (Reason, error) {
	v, err := m.Uint8(TagReason)
	return Reason(v), err
}

// RetryDelay returns the seconds of RETRY_DELAY; ok is false when the element
// is absent or of a width that no integer has.
func (m *Message) RetryDelay() (seconds uint32, ok bool) {
	v, found := m.Find(TagRetryDelay)
	if !found {
		return 0, false
	}
	switch len(v) {
	case 1, 2, 4:
		for _, b := range v {
			seconds = seconds<<8 | uint32(b)
		}
		return seconds, true
	default:
		return 0, false
	}
}
