package chain

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/pbkdf2"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"strings"
	"testing"

	pkcs12 "software.sslmate.com/src/go-pkcs12"
)

// endless is an iteration count that takes a quarter of an hour.
const endless = 2_000_000_000

// marshal encodes values one after the other, in a SEQUENCE.
func marshal(t *testing.T, values ...any) asn1.RawValue {
	t.Helper()
	var b []byte
	for _, v := range values {
		der, err := asn1.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		b = append(b, der...)
	}
	return asn1.RawValue{Tag: asn1.TagSequence, IsCompound: true, Bytes: b}
}

// pbes2 is an encryption by AES-256 with a key that PBKDF2 makes (RFC 8018).
func pbes2(t *testing.T, salt any, iterations int) pkix.AlgorithmIdentifier {
	t.Helper()
	prf := marshal(t, asn1.ObjectIdentifier{1, 2, 840, 113549, 2, 9}, asn1.NullRawValue) // HMAC with SHA-256
	kdf := marshal(t, asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 5, 12}, marshal(t, salt, iterations, prf))
	scheme := marshal(t, asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 1, 42}, make([]byte, aes.BlockSize))
	var a pkix.AlgorithmIdentifier
	algorithm, err := asn1.Marshal(marshal(t, asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 5, 13}, marshal(t, kdf, scheme)))
	if err == nil {
		_, err = asn1.Unmarshal(algorithm, &a)
	}
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// encryptedPart is a part that is encrypted with the password "secret" and one
// iteration.
func encryptedPart(t *testing.T, bags []safeBag) contentInfo {
	t.Helper()
	plain, err := asn1.Marshal(bags)
	if err != nil {
		t.Fatal(err)
	}
	pad := aes.BlockSize - len(plain)%aes.BlockSize
	plain = append(plain, bytes.Repeat([]byte{byte(pad)}, pad)...)
	salt := []byte("salt")
	key, err := pbkdf2.Key(sha256.New, "secret", salt, 1, 32)
	if err != nil {
		t.Fatal(err)
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		t.Fatal(err)
	}
	cipher.NewCBCEncrypter(block, make([]byte, aes.BlockSize)).CryptBlocks(plain, plain)
	return encryptedInfo(t, pbes2(t, salt, 1), plain)
}

func encryptedInfo(t *testing.T, algorithm pkix.AlgorithmIdentifier, content []byte) contentInfo {
	t.Helper()
	var e encryptedData
	e.Info.Type, e.Info.Algorithm, e.Info.Content = oidData, algorithm, content
	der, err := asn1.Marshal(e)
	if err != nil {
		t.Fatal(err)
	}
	return contentInfo{oidEncryptedData, explicit(der)}
}

// certBag and keyBag are a certificate, and a private key that takes an endless
// time to open.
func certBag(t *testing.T, c *x509.Certificate) safeBag {
	t.Helper()
	octets, err := asn1.Marshal(c.Raw)
	if err != nil {
		t.Fatal(err)
	}
	bag, err := asn1.Marshal(marshal(t, asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 22, 1}, explicit(octets)))
	if err != nil {
		t.Fatal(err)
	}
	return safeBag{oidCertBag, explicit(bag)}
}

func keyBag(t *testing.T) safeBag {
	t.Helper()
	bag, err := asn1.Marshal(marshal(t, pbes2(t, []byte("salt"), endless), make([]byte, 64)))
	if err != nil {
		t.Fatal(err)
	}
	return safeBag{asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 12, 10, 1, 2}, explicit(bag)}
}

func plain(t *testing.T, bags ...safeBag) contentInfo {
	t.Helper()
	part, err := plainPart(bags)
	if err != nil {
		t.Fatal(err)
	}
	return part
}

func pfxOf(t *testing.T, parts ...contentInfo) []byte {
	t.Helper()
	der, err := newPFX(parts, spellings("secret")[0])
	if err != nil {
		t.Fatal(err)
	}
	return der
}

// Each test below ends at once, or not before the time limit of the whole run.

func TestPKCS12IterationsAreCounted(t *testing.T) {
	root := issue(t, nil, "root", asCA)
	secret := "secret"
	for _, e := range []*pkcs12.Encoder{pkcs12.Modern, pkcs12.LegacyDES, pkcs12.LegacyRC2, pkcs12.Modern2026} {
		few, err := e.WithIterations(1000).Encode(root.key, root.cert, nil, secret)
		if err != nil {
			t.Fatal(err)
		}
		if _, n, err := openPFX(few); err != nil || n < 2000 || n > 2100 {
			t.Errorf("two counts of 1000 add up to %d, %v", n, err)
		}
		if in, err := Read(bytes.NewReader(few), "few.p12", &secret); err != nil || in.Err != nil {
			t.Error(err, in.Err)
		}
		var p pfx
		if err := unmarshal(few, &p); err != nil {
			t.Fatal(err)
		}
		m := macData{Salt: []byte("salt"), Iterations: endless}
		m.Mac.Algorithm.Algorithm, m.Mac.Digest = oidSHA1, make([]byte, 20)
		if p.Mac.FullBytes, err = asn1.Marshal(m); err != nil {
			t.Fatal(err)
		}
		huge, err := asn1.Marshal(p)
		if err != nil {
			t.Fatal(err)
		}
		_, err = Read(bytes.NewReader(huge), "mac.p12", &secret)
		refused(t, err, "iterations")
	}
}

// What stands beside a count, or how its salt is tagged, does not hide it.
func TestPKCS12IterationsCannotBeHidden(t *testing.T) {
	secret := "secret"
	damaged := certBag(t, issue(t, nil, "root", asCA).cert)
	damaged.Value.Bytes = []byte{0x30, 0x85}
	for name, part := range map[string]contentInfo{
		"plainly":        encryptedInfo(t, pbes2(t, []byte("salt"), endless), make([]byte, 32)),
		"a tagged salt":  encryptedInfo(t, pbes2(t, asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: asn1.TagOctetString, Bytes: []byte("salt")}, endless), make([]byte, 32)),
		"a negative one": encryptedInfo(t, pbes2(t, []byte("salt"), -1), make([]byte, 32)),
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Read(bytes.NewReader(pfxOf(t, plain(t, damaged), part)), "huge.p12", &secret)
			refused(t, err, "more than 500000 iterations")
		})
	}
}

// A private key is never opened, wherever it lies.
func TestPKCS12KeysStayClosed(t *testing.T) {
	root := issue(t, nil, "root", asCA)
	secret := "secret"
	certs, key := certBag(t, root.cert), keyBag(t)
	for name, parts := range map[string][]contentInfo{
		"in a part of its own":         {encryptedPart(t, []safeBag{certs}), plain(t, key)},
		"in front":                     {plain(t, key), encryptedPart(t, []safeBag{certs})},
		"beside a certificate":         {plain(t, certs, key)},
		"in one of many parts":         {plain(t, key), plain(t, certs), plain(t, key)},
		"and one more that is not one": {plain(t, key), encryptedPart(t, []safeBag{certs}), plain(t, safeBag{oidKeyBag, explicit([]byte{5, 0})})},
	} {
		t.Run(name, func(t *testing.T) {
			in, err := Read(bytes.NewReader(pfxOf(t, parts...)), "key.p12", &secret)
			if err != nil || in.Err != nil || len(in.Certs) != 1 {
				t.Fatalf("%v, %+v", err, in)
			}
		})
	}
	for name, bags := range map[string][]safeBag{
		"behind a certificate":      {certs, key},
		"in front of a certificate": {key, certs},
		"alone":                     {key},
	} {
		t.Run("inside an encrypted part, "+name, func(t *testing.T) {
			in, err := Read(bytes.NewReader(pfxOf(t, encryptedPart(t, bags))), "key.p12", &secret)
			if err != nil || in.Err == nil || !strings.Contains(in.Err.Error(), "part 1 of the PKCS#12 structure cannot be opened") {
				t.Fatalf("%v, %+v", err, in)
			}
		})
	}
}

func TestPKCS12WithManyParts(t *testing.T) {
	secret := "secret"
	parts := make([]contentInfo, maxParts+1)
	for i := range parts {
		parts[i] = plain(t, keyBag(t))
	}
	_, err := Read(bytes.NewReader(pfxOf(t, parts...)), "parts.p12", &secret)
	refused(t, err, "65 parts")
	in, err := Read(bytes.NewReader(pfxOf(t, parts[:2]...)), "none.p12", &secret)
	if err != nil || in.Err == nil || !strings.Contains(in.Err.Error(), "holds no certificate") {
		t.Errorf("%v, %+v", err, in)
	}
}

// An empty password is a zero, or nothing: both have been written.
func TestPKCS12WithAnEmptyPassword(t *testing.T) {
	root := issue(t, nil, "root", asCA)
	for _, spelling := range spellings("") {
		der, err := newPFX([]contentInfo{plain(t, certBag(t, root.cert))}, spelling)
		if err != nil {
			t.Fatal(err)
		}
		empty, wrong := "", "x"
		if in, err := Read(bytes.NewReader(der), "empty.p12", &empty); err != nil || in.Err != nil || len(in.Certs) != 1 {
			t.Errorf("%v, %+v", err, in)
		}
		if in, err := Read(bytes.NewReader(der), "empty.p12", &wrong); err != nil || in.Err == nil || !strings.Contains(in.Err.Error(), "password is wrong") {
			t.Errorf("%v, %+v", err, in)
		}
	}
}
