package wire

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/x509"
	"fmt"
	"strconv"
	"strings"
)

// KeySpec says what kind of key a phone is asked to make. The zero KeySpec is
// no key.
type KeySpec struct {
	Type KeyType
	// Bits is the size of an RSA key; 0 for EC.
	Bits int
	// Curve is the curve of an EC key.
	Curve Curve
}

var (
	// RSASizes are the sizes that an independent client accepts, except 512:
	// Go's crypto refuses keys that short, and so should everybody.
	RSASizes = []int{1024, 2048, 3072, 4096}

	curves     = [...]elliptic.Curve{P256: elliptic.P256(), P384: elliptic.P384(), P521: elliptic.P521()}
	curveNames = [...]string{P256: "p256", P384: "p384", P521: "p521"}
)

// Elliptic returns the curve, or nil for a number that names none.
func (c Curve) Elliptic() elliptic.Curve {
	if int(c) >= len(curves) {
		return nil
	}
	return curves[c]
}

// String returns "rsa2048", "p256" and the like.
func (k KeySpec) String() string {
	if k.Type == RSA {
		return "rsa" + strconv.Itoa(k.Bits)
	}
	if int(k.Curve) < len(curveNames) {
		return curveNames[k.Curve]
	}
	return fmt.Sprintf("curve %d", k.Curve)
}

// ParseKeySpec reads "rsa1024", "rsa2048", "rsa3072", "rsa4096", "p256",
// "p384" or "p521", in either case.
func ParseKeySpec(s string) (KeySpec, error) {
	for _, k := range AllKeySpecs() {
		if strings.EqualFold(s, k.String()) {
			return k, nil
		}
	}
	return KeySpec{}, fmt.Errorf("%q is no key type: use rsa1024, rsa2048, rsa3072, rsa4096, p256, p384 or p521", s)
}

// AllKeySpecs lists the keys that can be asked for.
func AllKeySpecs() []KeySpec {
	var all []KeySpec
	for _, bits := range RSASizes {
		all = append(all, KeySpec{Type: RSA, Bits: bits})
	}
	for c := range curves {
		all = append(all, KeySpec{Type: EC, Curve: Curve(c)})
	}
	return all
}

// Elements are those of KEY_GENERATE_REQUEST, in the order seen. A phone of
// version 2 or below is sent KEY_SIZE alone; it cannot be asked for an EC key.
func (k KeySpec) Elements(version uint8) []Element {
	if k.Type == EC {
		return []Element{Uint8(TagKeyType, EC), Uint8(TagCurve, k.Curve)}
	}
	e := []Element{Uint16(TagKeySize, uint16(k.Bits))}
	if version >= 3 {
		e = append(e, Uint8(TagKeyType, RSA))
	}
	return e
}

// KeySpec returns what a KEY_GENERATE_REQUEST asks for.
func (m *Message) KeySpec() (KeySpec, error) {
	var k KeySpec
	if v, ok := m.Find(TagKeyType); ok && len(v) == 1 {
		k.Type = KeyType(v[0])
	}
	switch k.Type {
	case RSA:
		bits, err := m.Uint16(TagKeySize)
		k.Bits = int(bits)
		return k, err
	case EC:
		c, err := m.Uint8(TagCurve)
		if err != nil {
			return k, err
		}
		k.Curve = Curve(c)
		if k.Curve.Elliptic() == nil {
			return k, fmt.Errorf("%w: CURVE %d names no curve", ErrFormat, c)
		}
		return k, nil
	default:
		return k, fmt.Errorf("%w: KEY_TYPE %d names no kind of key", ErrFormat, k.Type)
	}
}

// Check returns nil if pub is a key as k asks for, otherwise what is different.
func (k KeySpec) Check(pub crypto.PublicKey) error {
	switch p := pub.(type) {
	case *rsa.PublicKey:
		if k.Type == RSA && p.N.BitLen() == k.Bits {
			return nil
		}
		return fmt.Errorf("the phone made an RSA key of %d bits, %v was asked for", p.N.BitLen(), k)
	case *ecdsa.PublicKey:
		if k.Type == EC && p.Curve == k.Curve.Elliptic() {
			return nil
		}
		return fmt.Errorf("the phone made an EC key on %s, %v was asked for", p.Curve.Params().Name, k)
	default:
		return fmt.Errorf("the phone made a key of another kind (%T), %v was asked for", pub, k)
	}
}

// PublicKey returns the message's PUBLIC_KEY: an *rsa.PublicKey or an
// *ecdsa.PublicKey. Both forms are read, SubjectPublicKeyInfo and PKCS#1. The
// error wraps [ErrMissing] or [ErrFormat].
func (m *Message) PublicKey() (crypto.PublicKey, error) {
	der, ok := m.Find(TagPublicKey)
	if !ok {
		return nil, fmt.Errorf("%v: %v: %w", m.Command, TagPublicKey, ErrMissing)
	}
	return ParsePublicKey(der)
}

// ParsePublicKey reads a public key in the form of SubjectPublicKeyInfo or of
// PKCS#1 RSAPublicKey. The error wraps [ErrFormat].
func ParsePublicKey(der []byte) (crypto.PublicKey, error) {
	pub, err := x509.ParsePKIXPublicKey(der)
	if err != nil {
		if key, pkcs1Err := x509.ParsePKCS1PublicKey(der); pkcs1Err == nil {
			return key, nil
		}
		return nil, fmt.Errorf("%w: PUBLIC_KEY of %d bytes: %w", ErrFormat, len(der), err)
	}
	switch pub.(type) {
	case *rsa.PublicKey, *ecdsa.PublicKey:
		return pub, nil
	default:
		return nil, fmt.Errorf("%w: PUBLIC_KEY is neither RSA nor EC but %T", ErrFormat, pub)
	}
}
