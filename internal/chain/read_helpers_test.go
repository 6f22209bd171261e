package chain

import (
	"testing"

	"github.com/smallstep/pkcs7"
)

// degenerate is a PKCS#7 structure that holds certificates and nothing else.
func degenerate(tb testing.TB, as ...*authority) []byte {
	tb.Helper()
	var der []byte
	for _, a := range as {
		der = append(der, a.cert.Raw...)
	}
	p7, err := pkcs7.DegenerateCertificate(der)
	if err != nil {
		tb.Fatal(err)
	}
	return p7
}
