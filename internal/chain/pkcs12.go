package chain

import (
	"bytes"
	"crypto/ed25519"
	"crypto/hmac"
	"crypto/sha1"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"
	"slices"
	"unicode/utf16"

	pkcs12 "software.sslmate.com/src/go-pkcs12"
)

// Of a PKCS#12 file only the certificates are wanted. The decoder opens private
// keys as well, each with an iteration count of its own, which may stand inside
// an encrypted part, where nobody sees it beforehand. So the file is taken
// apart here, and each part is given to the decoder in a file of its own that
// begins with a key that is not encrypted: the decoder takes one key and refuses
// the next before it derives anything.

// Identifiers of RFC 7292 and RFC 5652.
var (
	oidData          = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 7, 1}
	oidEncryptedData = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 7, 6}
	oidKeyBag        = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 12, 10, 1, 1}
	oidCertBag       = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 12, 10, 1, 3}
	// oidsLegacy are the encryptions with RC4 and RC2 (RFC 7292 appendix C), which
	// OpenSSL 3 knows in its legacy provider only. Windows wrote RC2 by default.
	oidsLegacy = []asn1.ObjectIdentifier{
		{1, 2, 840, 113549, 1, 12, 1, 1}, {1, 2, 840, 113549, 1, 12, 1, 2},
		{1, 2, 840, 113549, 1, 12, 1, 5}, {1, 2, 840, 113549, 1, 12, 1, 6},
	}
	oidSHA1 = asn1.ObjectIdentifier{1, 3, 14, 3, 2, 26}
)

// pfx is a PKCS#12 file (RFC 7292 section 4).
type pfx struct {
	Version  int
	AuthSafe contentInfo
	Mac      asn1.RawValue `asn1:"optional"`
}

// contentInfo is one part of it (RFC 5652 section 3).
type contentInfo struct {
	Type    asn1.ObjectIdentifier
	Content asn1.RawValue `asn1:"tag:0,explicit,optional"`
}

// encryptedData is RFC 5652 section 8.
type encryptedData struct {
	Version int
	Info    struct {
		Type      asn1.ObjectIdentifier
		Algorithm pkix.AlgorithmIdentifier
		Content   []byte `asn1:"tag:0,optional"`
	}
}

// safeBag is RFC 7292 section 4.2, without what describes it.
type safeBag struct {
	ID    asn1.ObjectIdentifier
	Value asn1.RawValue `asn1:"tag:0,explicit"`
}

// macData is RFC 7292 section 4.
type macData struct {
	Mac struct {
		Algorithm pkix.AlgorithmIdentifier
		Digest    []byte
	}
	Salt       []byte
	Iterations int
}

// pkcs12 reads the certificates of a PFX; private keys are left closed.
func (in *Input) pkcs12(der []byte, password *string) error {
	if len(der) > maxPKCS12 {
		return &TooLargeError{in.Name, fmt.Sprintf("it is PKCS#12 of more than %d MiB, and no chain is", maxPKCS12>>20)}
	}
	parts, n, err := openPFX(der)
	in.legacy = slices.ContainsFunc(parts, contentInfo.legacy)
	if err != nil {
		return fmt.Errorf("the PKCS#12 structure cannot be read: %w", err)
	}
	if len(parts) > maxParts {
		return &TooLargeError{in.Name, fmt.Sprintf("it is PKCS#12 with %d parts; two are usual, and %d are read", len(parts), maxParts)}
	}
	if n > MaxIterations {
		return &TooLargeError{in.Name, fmt.Sprintf("it is PKCS#12 with more than %d iterations (the usual number is 2048 to 10,000); export it again with fewer", MaxIterations)}
	}
	if password == nil {
		return errors.New("it is PKCS#12; give its password with --password-file (an empty file for an empty password)")
	}
	// This verifies the MAC first. What it thinks of the rest does not matter:
	// it opens no key.
	if _, err := pkcs12.DecodeTrustStore(der, *password); errors.Is(err, pkcs12.ErrIncorrectPassword) {
		return errors.New("it is PKCS#12, and the password is wrong")
	}
	var firstErr error
	for i, part := range parts {
		certs, err := part.certificates(*password)
		if err != nil && firstErr == nil {
			firstErr = fmt.Errorf("part %d of the PKCS#12 structure cannot be opened: %w", i+1, err)
		}
		for _, c := range certs {
			if err := in.add(c); err != nil {
				return err
			}
		}
	}
	if firstErr == nil && len(in.Certs) == 0 {
		return errors.New("the PKCS#12 structure holds no certificate")
	}
	in.note("only the certificates of the PKCS#12 file are read; a private key in it stays closed")
	return firstErr
}

// openPFX returns the parts of a file, and how many iterations its MAC and the
// encryption of its parts cost.
func openPFX(der []byte) (parts []contentInfo, sum int64, err error) {
	var p pfx
	if err := unmarshal(der, &p); err != nil {
		return nil, 0, err
	}
	if !p.AuthSafe.Type.Equal(oidData) {
		return nil, 0, errors.New("it is protected by a public key and not by a password")
	}
	var content []byte
	if err := unmarshal(p.AuthSafe.Content.Bytes, &content); err != nil {
		return nil, 0, err
	}
	if err := unmarshal(content, &parts); err != nil {
		return nil, 0, err
	}
	if sum, err = iterations(p.Mac.FullBytes, 0); err != nil {
		return nil, 0, err
	}
	for _, part := range parts {
		if !part.Type.Equal(oidEncryptedData) {
			continue
		}
		var e encryptedData
		if err := unmarshal(part.Content.Bytes, &e); err != nil {
			return nil, 0, err
		}
		n, err := iterations(e.Info.Algorithm.Parameters.FullBytes, 0)
		if err != nil {
			return nil, 0, err
		}
		sum += n
	}
	return parts, sum, nil
}

// legacy says whether a part is encrypted with RC2 or RC4.
func (c contentInfo) legacy() bool {
	var e encryptedData
	if !c.Type.Equal(oidEncryptedData) || unmarshal(c.Content.Bytes, &e) != nil {
		return false
	}
	return slices.ContainsFunc(oidsLegacy, e.Info.Algorithm.Algorithm.Equal)
}

// certificates returns the certificates in a part.
func (c contentInfo) certificates(password string) ([]*x509.Certificate, error) {
	if c.Type.Equal(oidData) {
		bags, err := c.certBags()
		if err != nil || len(bags) == 0 {
			return nil, err
		}
		if c, err = plainPart(bags); err != nil {
			return nil, err
		}
	}
	key, err := x509.MarshalPKCS8PrivateKey(ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize)))
	if err != nil {
		return nil, err
	}
	first, err := plainPart([]safeBag{{oidKeyBag, explicit(key)}})
	if err != nil {
		return nil, err
	}
	var errs []error
	for _, spelling := range spellings(password) {
		der, err := newPFX([]contentInfo{first, c}, spelling)
		if err != nil {
			return nil, err
		}
		_, leaf, others, err := pkcs12.DecodeChain(der, password)
		if err == nil {
			return append([]*x509.Certificate{leaf}, others...), nil
		}
		errs = append(errs, err)
	}
	return nil, errs[0]
}

// certBags returns the certificates in a part that is not encrypted.
func (c contentInfo) certBags() ([]safeBag, error) {
	var content []byte
	if err := unmarshal(c.Content.Bytes, &content); err != nil {
		return nil, err
	}
	var bags []safeBag
	if err := unmarshal(content, &bags); err != nil {
		return nil, err
	}
	return slices.DeleteFunc(bags, func(b safeBag) bool { return !b.ID.Equal(oidCertBag) }), nil
}

// plainPart is a part that is not encrypted.
func plainPart(bags []safeBag) (contentInfo, error) {
	content, err := asn1.Marshal(bags)
	if err != nil {
		return contentInfo{}, err
	}
	octets, err := asn1.Marshal(content)
	return contentInfo{oidData, explicit(octets)}, err
}

// newPFX is a file of some parts. Its MAC costs one iteration: without a salt,
// its key is one hash of the number 3 and the password, each repeated to fill
// blocks of 64 bytes (RFC 7292 appendix B.2).
func newPFX(parts []contentInfo, password []byte) ([]byte, error) {
	content, err := asn1.Marshal(parts)
	if err != nil {
		return nil, err
	}
	octets, err := asn1.Marshal(content)
	if err != nil {
		return nil, err
	}
	fill := bytes.Repeat([]byte{3}, 64)
	for i := range (len(password) + 63) / 64 * 64 {
		fill = append(fill, password[i%len(password)])
	}
	key := sha1.Sum(fill)
	mac := hmac.New(sha1.New, key[:])
	mac.Write(content)
	m := macData{Iterations: 1}
	m.Mac.Algorithm.Algorithm, m.Mac.Digest = oidSHA1, mac.Sum(nil)
	p := pfx{Version: 3, AuthSafe: contentInfo{oidData, explicit(octets)}}
	if p.Mac.FullBytes, err = asn1.Marshal(m); err != nil {
		return nil, err
	}
	return asn1.Marshal(p)
}

// spellings are the forms of a password in PKCS#12: UTF-16 that ends with a
// zero. An empty one may be that zero alone, or nothing at all.
func spellings(password string) [][]byte {
	var b []byte
	for _, u := range utf16.Encode([]rune(password + "\x00")) {
		b = append(b, byte(u>>8), byte(u))
	}
	if password == "" {
		return [][]byte{b, nil}
	}
	return [][]byte{b}
}

// explicit is a value under the tag [0].
func explicit(der []byte) asn1.RawValue {
	return asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: 0, IsCompound: true, Bytes: der}
}

// unmarshal decodes der, which ends where the value ends.
func unmarshal(der []byte, value any) error {
	rest, err := asn1.Unmarshal(der, value)
	if err == nil && len(rest) > 0 {
		err = fmt.Errorf("%d bytes follow it", len(rest))
	}
	return err
}
