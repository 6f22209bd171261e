package ra_test

import (
	"crypto/elliptic"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"math/big"
	"strings"
	"testing"

	"github.com/onlineca/onlineca/ra"
	"github.com/onlineca/onlineca/ra/fault"
)

// An RSA key so long that looking at its signature would take seconds is
// refused without doing so.
func TestInspectCSRRefusesEnormousKeys(t *testing.T) {
	plain, err := x509.ParseCertificateRequest(makeCSR(t, ecKey(t, elliptic.P256()), &x509.CertificateRequest{Subject: phone}))
	if err != nil {
		t.Fatal(err)
	}
	n := new(big.Int).Lsh(big.NewInt(1), 100_000)
	pub, err := asn1.Marshal(struct {
		N *big.Int
		E int
	}{n.Add(n, big.NewInt(1)), 65537})
	if err != nil {
		t.Fatal(err)
	}
	spki, err := asn1.Marshal(struct {
		Algorithm pkix.AlgorithmIdentifier
		Key       asn1.BitString
	}{
		pkix.AlgorithmIdentifier{Algorithm: asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 1}, Parameters: asn1.NullRawValue},
		asn1.BitString{Bytes: pub, BitLength: 8 * len(pub)},
	})
	if err != nil {
		t.Fatal(err)
	}
	body, err := asn1.Marshal(struct {
		Version    int
		Subject    asn1.RawValue
		PublicKey  asn1.RawValue
		Attributes []asn1.RawValue `asn1:"tag:0,set"`
	}{0, asn1.RawValue{FullBytes: plain.RawSubject}, asn1.RawValue{FullBytes: spki}, nil})
	if err != nil {
		t.Fatal(err)
	}
	der, err := asn1.Marshal(struct {
		Info      asn1.RawValue
		Algorithm pkix.AlgorithmIdentifier
		Signature asn1.BitString
	}{
		asn1.RawValue{FullBytes: body},
		pkix.AlgorithmIdentifier{Algorithm: asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 11}, Parameters: asn1.NullRawValue},
		asn1.BitString{Bytes: []byte{1}, BitLength: 8},
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ra.InspectCSR(der); !errors.Is(err, fault.MalformedCSR) || !strings.Contains(err.Error(), "100001 bits") {
		t.Errorf("%v", err)
	}
}

// A signature of a kind that is not verified is not called wrong.
func TestParseCSRNamesSignaturesItCannotVerify(t *testing.T) {
	var csr struct {
		Info      asn1.RawValue
		Algorithm pkix.AlgorithmIdentifier
		Signature asn1.BitString
	}
	der := makeCSR(t, ecKey(t, elliptic.P256()), &x509.CertificateRequest{Subject: phone})
	if _, err := asn1.Unmarshal(der, &csr); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		algorithm asn1.ObjectIdentifier
		text      string
	}{
		{asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 4}, "MD5-RSA, which is too weak"},          // md5WithRSAEncryption
		{asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 10}, "if the salt is as long as the hash"}, // id-RSASSA-PSS, no parameters that Go knows
	} {
		csr.Algorithm = pkix.AlgorithmIdentifier{Algorithm: tc.algorithm, Parameters: asn1.NullRawValue}
		der, err := asn1.Marshal(csr)
		if err != nil {
			t.Fatal(err)
		}
		_, err = ra.ParseCSR(der)
		var f *fault.Fault
		if !errors.Is(err, fault.BadCSRSignature) || !errors.As(err, &f) || !strings.Contains(f.Message, tc.text) {
			t.Errorf("%v: %v, want %q", tc.algorithm, err, tc.text)
		}
	}
}
