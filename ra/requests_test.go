package ra_test

import (
	"crypto/elliptic"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"testing"
)

// rsa512 is a request with an RSA key of 512 bits, which Go would not make.
var rsa512 = mustBase64("MIHTMH8CAQAwGjEYMBYGA1UEAwwPU0VQMDAxMTIyMzM0NDU1MFwwDQYJKoZIhvcNAQEBBQADSwAw" +
	"SAJBALw6/XdNAAfMJ7PeKlWpWQ4ShJi+2wkEFhHUAynlV2JcYcmhtcQCI126F7z/6f8TooW1u+is" +
	"nRcs2hamrKJj5e8CAwEAAaAAMA0GCSqGSIb3DQEBCwUAA0EAIJ46yVHI6ktASeqGe2TpbQGza536" +
	"P1Q+8UYQT6+mDYyZ/Y1r7RbkPksmufbzkGke0GUs91SibvYrjfX4xhGaFQ==")

func mustBase64(s string) []byte {
	der, err := base64.StdEncoding.DecodeString(s)
	if err != nil {
		panic(err)
	}
	return der
}

func fromHex(tb testing.TB, s string) []byte {
	tb.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		tb.Fatal(err)
	}
	return b
}

// withAttributes is a request whose attributes, in hex, are put into it after it
// was signed. Only its signature is wrong.
func withAttributes(tb testing.TB, attrs string) *x509.CertificateRequest {
	tb.Helper()
	der := makeCSR(tb, ecKey(tb, elliptic.P256()), &x509.CertificateRequest{Subject: phone})
	csr, err := x509.ParseCertificateRequest(der)
	if err != nil {
		tb.Fatal(err)
	}
	body := csr.RawTBSCertificateRequest
	// The request ends in [0] without content: a0 00.
	inner := append(append([]byte(nil), body[3:len(body)-2]...), wrap(0xa0, fromHex(tb, attrs))...)
	if body[1] < 0x80 {
		inner = append(append([]byte(nil), body[2:len(body)-2]...), wrap(0xa0, fromHex(tb, attrs))...)
	}
	out := wrap(0x30, inner)
	out = append(out, der[len(der)-len(rest(der, body)):]...)
	csr, err = x509.ParseCertificateRequest(wrap(0x30, out))
	if err != nil {
		tb.Fatal(err)
	}
	return csr
}

// rest is what follows body in der.
func rest(der, body []byte) []byte {
	for i := range der {
		if len(der)-i >= len(body) && string(der[i:i+len(body)]) == string(body) {
			return der[i+len(body):]
		}
	}
	return nil
}

// wrap puts a DER header before content.
func wrap(tag byte, content []byte) []byte {
	n := len(content)
	switch {
	case n < 0x80:
		return append([]byte{tag, byte(n)}, content...)
	case n < 0x100:
		return append([]byte{tag, 0x81, byte(n)}, content...)
	default:
		return append([]byte{tag, 0x82, byte(n >> 8), byte(n)}, content...)
	}
}
