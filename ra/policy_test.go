package ra_test

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"net"
	"net/url"
	"regexp"
	"strings"
	"sync"
	"testing"

	"github.com/onlineca/onlineca/ra"
	"github.com/onlineca/onlineca/ra/fault"
)

var rsaKey = sync.OnceValue(func() *rsa.PrivateKey {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		panic(err)
	}
	return key
})

func ecKey(tb testing.TB, c elliptic.Curve) *ecdsa.PrivateKey {
	tb.Helper()
	key, err := ecdsa.GenerateKey(c, rand.Reader)
	if err != nil {
		tb.Fatal(err)
	}
	return key
}

func makeCSR(tb testing.TB, key crypto.Signer, t *x509.CertificateRequest) []byte {
	tb.Helper()
	der, err := x509.CreateCertificateRequest(rand.Reader, t, key)
	if err != nil {
		tb.Fatal(err)
	}
	return der
}

var phone = pkix.Name{CommonName: "SEP001122334455", OrganizationalUnit: []string{"Phones"}}

func TestParseCSR(t *testing.T) {
	der := makeCSR(t, ecKey(t, elliptic.P256()), &x509.CertificateRequest{Subject: phone})
	csr, err := ra.ParseCSR(der)
	if err != nil || csr.Subject.CommonName != "SEP001122334455" {
		t.Fatalf("%v, %v", csr, err)
	}
	broken := append([]byte(nil), der...)
	broken[len(broken)-1] ^= 1
	short, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ra.ParseCSR(makeCSR(t, short, &x509.CertificateRequest{Subject: phone})); err != nil {
		t.Errorf("1024 bits are for the policy to refuse: %v", err)
	}
	for _, p := range []struct {
		name string
		der  []byte
		want fault.Code
	}{
		{"nothing", nil, fault.MalformedCSR},
		{"rubbish", []byte("rubbish"), fault.MalformedCSR},
		{"zeros", make([]byte, 10<<20), fault.MalformedCSR},
		{"cut off", der[:len(der)-1], fault.MalformedCSR},
		{"too much", append(append([]byte(nil), der...), 0), fault.MalformedCSR},
		{"bad signature", broken, fault.BadCSRSignature},
		{"512 bits", rsa512, fault.KeyTooShort},
		{"512 bits, bad signature", append(rsa512[:len(rsa512)-1:len(rsa512)-1], 1), fault.KeyTooShort},
	} {
		if _, err := ra.ParseCSR(p.der); !errors.Is(err, p.want) {
			t.Errorf("%s: %v, want %v", p.name, err, p.want)
		}
	}
}

func FuzzParseCSR(f *testing.F) {
	f.Add(makeCSR(f, ecKey(f, elliptic.P256()), &x509.CertificateRequest{Subject: phone, DNSNames: []string{"a.example"}}))
	f.Add(rsa512)
	f.Fuzz(func(t *testing.T, der []byte) {
		csr, err := ra.InspectCSR(der)
		if err != nil {
			if c := fault.Of(err).Code; c != fault.MalformedCSR && c != fault.KeyTooShort {
				t.Errorf("%v", err)
			}
			return
		}
		_, _, _ = ra.ChallengePassword(csr)
		_ = (ra.Policy{SubjectNamesClient: true}).Check(ra.Request{CSR: csr})
	})
}

func TestChallengePassword(t *testing.T) {
	for _, p := range []struct {
		attrs string // of [0], in DER
		want  string
		ok    bool
		fails bool
	}{
		{attrs: ""},
		{attrs: "3016" + "06092a864886f70d010907" + "3109" + "1307" + "64476c7a64413d", want: "dGlzdA=", ok: true},
		{attrs: "300d" + "06092a864886f70d010907" + "3100", fails: true},
	} {
		csr := withAttributes(t, p.attrs)
		got, ok, err := ra.ChallengePassword(csr)
		if got != p.want || ok != p.ok || (err != nil) != p.fails {
			t.Errorf("%s: %q, %v, %v", p.attrs, got, ok, err)
		}
	}
}

// Each rule lets through what it allows, and says which it is when it refuses.
func TestPolicy(t *testing.T) {
	p256, p224, p384 := ecKey(t, elliptic.P256()), ecKey(t, elliptic.P224()), ecKey(t, elliptic.P384())
	_, ed, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	uri, _ := url.Parse("urn:device:1")
	ext := func(oid asn1.ObjectIdentifier, value []byte) []pkix.Extension {
		return []pkix.Extension{{Id: oid, Value: value}}
	}
	upn := ext(asn1.ObjectIdentifier{2, 5, 29, 17}, fromHex(t, "3021a01f060a2b060104018237140203a0110c0f61646d696e406c61622e6c6f63616c"))
	template := ext(asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 311, 20, 2}, []byte{0x1e, 0})
	type R = x509.CertificateRequest

	for _, p := range []struct {
		name   string
		policy ra.Policy
		key    crypto.Signer
		csr    R
		who    string
		want   error
		says   string
	}{
		{name: "default, EC", key: p256, csr: R{Subject: phone}},
		{name: "default, RSA", key: rsaKey(), csr: R{Subject: phone}},
		{name: "default, Ed25519", key: ed, csr: R{Subject: phone}},
		{name: "default, names", key: p256, csr: R{DNSNames: []string{"a.example"}, IPAddresses: []net.IP{{192, 0, 2, 1}}, EmailAddresses: []string{"a@b"}, URIs: []*url.URL{uri}}},
		{name: "default, P-224", key: p224, csr: R{Subject: phone}, want: fault.RequestRefused, says: "rule keys: p224"},
		{name: "default, SHA-1", key: rsaKey(), csr: R{Subject: phone, SignatureAlgorithm: x509.SHA1WithRSA}, want: fault.RequestRefused, says: "rule hashes"},
		{name: "nobody", key: p256, csr: R{}, want: fault.RequestRefused, says: "rule names"},
		{name: "UPN", key: p256, csr: R{Subject: phone, ExtraExtensions: upn}, want: fault.RequestRefused, says: "rule san-types: an alternative name of kind other"},
		{name: "UPN only", key: p256, csr: R{ExtraExtensions: upn}, want: fault.RequestRefused, says: "rule san-types"},
		{name: "UPN allowed", policy: ra.Policy{SANTypes: []string{"other"}}, key: p256, csr: R{Subject: phone, ExtraExtensions: upn}},
		{name: "template in the request", key: p256, csr: R{Subject: phone, ExtraExtensions: template}, want: fault.RequestRefused, says: "rule extensions"},
		{name: "template allowed", policy: ra.Policy{Extensions: []asn1.ObjectIdentifier{{1, 3, 6, 1, 4, 1, 311, 20, 2}}}, key: p256, csr: R{Subject: phone, ExtraExtensions: template}},

		{name: "RSA wanted", policy: ra.Policy{Keys: []string{"rsa2048"}}, key: p256, csr: R{Subject: phone}, want: fault.RequestRefused, says: "rule keys: p256"},
		{name: "RSA 3072 wanted", policy: ra.Policy{Keys: []string{"rsa3072", "p256"}}, key: rsaKey(), csr: R{Subject: phone}, want: fault.KeyTooShort, says: "rule keys: an RSA key of 2048 bits, at least 3072"},
		{name: "RSA too long", policy: ra.Policy{Keys: []string{"rsa1024-1536"}}, key: rsaKey(), csr: R{Subject: phone}, want: fault.RequestRefused, says: "too long"},
		{name: "P-384 only", policy: ra.Policy{Keys: []string{"p384"}}, key: p384, csr: R{Subject: phone}},
		{name: "SHA-1 allowed", policy: ra.Policy{Hashes: []string{"sha1"}}, key: rsaKey(), csr: R{Subject: phone, SignatureAlgorithm: x509.SHA1WithRSA}},
		{name: "SHA-384 not", policy: ra.Policy{Hashes: []string{"sha256"}}, key: p384, csr: R{Subject: phone}, want: fault.RequestRefused, says: "rule hashes"},

		{name: "subject", policy: ra.Policy{Subject: regexp.MustCompile(`CN=SEP[0-9A-F]{12},OU=Phones|CN=x`)}, key: p256, csr: R{Subject: phone}},
		{name: "subject, part only", policy: ra.Policy{Subject: regexp.MustCompile(`CN=SEP[0-9A-F]{12}`)}, key: p256, csr: R{Subject: phone}, want: fault.RequestRefused, says: "rule subject"},
		{name: "no SAN", policy: ra.Policy{SANTypes: []string{"none"}}, key: p256, csr: R{Subject: phone, DNSNames: []string{"a"}}, want: fault.RequestRefused, says: "rule san-types"},
		{name: "SAN names", policy: ra.Policy{SANNames: regexp.MustCompile(`.*\.example\.com|192\.0\.2\.\d+`)}, key: p256, csr: R{Subject: phone, DNSNames: []string{"a.example.com"}, IPAddresses: []net.IP{{192, 0, 2, 1}}}},
		{name: "SAN name outside", policy: ra.Policy{SANNames: regexp.MustCompile(`.*\.example\.com`)}, key: p256, csr: R{Subject: phone, DNSNames: []string{"a.example.com.evil"}}, want: fault.RequestRefused, says: "rule san-names"},

		{name: "own name", policy: ra.Policy{SubjectNamesClient: true}, key: p256, csr: R{Subject: phone, DNSNames: []string{"sep001122334455.example.com"}}, who: "sep001122334455"},
		{name: "another's name", policy: ra.Policy{SubjectNamesClient: true}, key: p256, csr: R{Subject: phone}, who: "SEP1", want: fault.NotAuthorized, says: "rule subject-names-client"},
		{name: "nobody's name", policy: ra.Policy{SubjectNamesClient: true}, key: p256, csr: R{DNSNames: []string{"a"}}, want: fault.NotAuthorized, says: "rule subject-names-client"},
		{name: "another's SAN", policy: ra.Policy{SubjectNamesClient: true}, key: p256, csr: R{Subject: phone, DNSNames: []string{"dc.example.com"}}, who: "SEP001122334455", want: fault.NotAuthorized, says: "dc.example.com"},
		{name: "another's address", policy: ra.Policy{SubjectNamesClient: true}, key: p256, csr: R{Subject: phone, IPAddresses: []net.IP{{192, 0, 2, 1}}}, who: "SEP001122334455", want: fault.NotAuthorized, says: "192.0.2.1"},
		{name: "allowed SAN", policy: ra.Policy{SubjectNamesClient: true, SANNames: regexp.MustCompile(`192\.0\.2\.\d+`)}, key: p256, csr: R{Subject: phone, IPAddresses: []net.IP{{192, 0, 2, 1}}}, who: "SEP001122334455"},
	} {
		t.Run(p.name, func(t *testing.T) {
			csr, err := ra.ParseCSR(makeCSR(t, p.key, &p.csr))
			if err != nil {
				t.Fatal(err)
			}
			passed := false
			e, err := ra.CheckPolicy(ra.EnrollerFunc(func(context.Context, ra.Request) (ra.Result, error) {
				passed = true
				return ra.Result{}, nil
			}), p.policy)
			if err != nil {
				t.Fatal(err)
			}
			_, err = e.Enroll(t.Context(), ra.Request{CSR: csr, Client: ra.Client{Name: p.who}})
			if passed != (p.want == nil) || !errors.Is(err, p.want) {
				t.Fatalf("passed %v, %v; want %v", passed, err, p.want)
			}
			if p.want != nil && !strings.Contains(fault.Of(err).Message, p.says) {
				t.Errorf("%v does not say %q", err, p.says)
			}
		})
	}
}

// A request can carry attributes by which AD CS would take another template.
func TestPolicyRefusesEnrolmentAttributes(t *testing.T) {
	csr := withAttributes(t, "3022"+"060a2b0601040182370d0201"+"3114"+"3012"+"1e080061006200630064"+"1e06006500660067")
	err := ra.Policy{}.Check(ra.Request{CSR: csr})
	if !errors.Is(err, fault.RequestRefused) || !strings.Contains(err.Error(), "rule extensions") {
		t.Errorf("%v", err)
	}
}

func TestPolicyThatIsNone(t *testing.T) {
	for _, p := range []ra.Policy{
		{Keys: []string{"rsa512"}}, {Keys: []string{"rsa4096-2048"}}, {Keys: []string{"p2048"}}, {Keys: []string{"p256-3"}},
		{Hashes: []string{"md5"}}, {SANTypes: []string{"upn"}},
	} {
		if _, err := ra.CheckPolicy(nil, p); err == nil || !strings.HasPrefix(err.Error(), "policy: ") {
			t.Errorf("%+v: %v", p, err)
		}
	}
}
