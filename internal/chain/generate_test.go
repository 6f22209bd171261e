package chain

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	crand "crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"fmt"
	"math/big"
	"math/rand/v2"
	"net"
	"net/url"
	"sync"
	"testing"
)

// testKeys are shared by all generated certificates, because making RSA keys
// is slow. RSA keys are short for the same reason.
var testKeys = sync.OnceValue(func() (keys []crypto.Signer) {
	for range 3 {
		k, err := rsa.GenerateKey(crand.Reader, 1024)
		if err != nil {
			panic(err)
		}
		keys = append(keys, k)
	}
	for range 3 {
		k, err := ecdsa.GenerateKey(elliptic.P256(), crand.Reader)
		if err != nil {
			panic(err)
		}
		_, e, err := ed25519.GenerateKey(crand.Reader)
		if err != nil {
			panic(err)
		}
		keys = append(keys, k, e)
	}
	return keys
})

// generated is one case: a certificate, what comes with it, and what is trusted.
type generated struct {
	number   int
	leaf     *x509.Certificate
	untrust  []*x509.Certificate
	trusted  []*x509.Certificate
	features []string
}

// generator makes cases. All names of a case bear its number, so that many
// cases can share one trust store.
type generator struct {
	tb     testing.TB
	r      *rand.Rand
	number int
	serial int64
	out    *generated
	// noKeyIDs leaves the key identifiers out of a case, as many an old CA does.
	noKeyIDs bool
	// mail makes a case about constraints on mail addresses.
	mail bool
}

func (g *generator) chance(percent int) bool { return g.r.IntN(100) < percent }

func (g *generator) feature(format string, args ...any) {
	g.out.features = append(g.out.features, fmt.Sprintf(format, args...))
}

// sign makes a certificate; an RSA issuer signs with PKCS#1 or PSS.
func (g *generator) sign(t *x509.Certificate, issuer *authority, key crypto.Signer) *authority {
	g.tb.Helper()
	g.serial++
	t.SerialNumber = big.NewInt(g.serial)
	if issuer == nil {
		issuer = &authority{t, key}
	}
	t.SignatureAlgorithm = x509.UnknownSignatureAlgorithm
	if _, ok := issuer.key.(*rsa.PrivateKey); ok {
		t.SignatureAlgorithm = x509.SHA256WithRSA
		if g.chance(40) {
			t.SignatureAlgorithm = x509.SHA256WithRSAPSS
			g.feature("pss")
		}
	}
	parent := *issuer.cert
	switch {
	case g.noKeyIDs:
		parent.SubjectKeyId = nil // its certificate has one all the same
	case issuer.cert.Raw != nil && g.chance(1):
		parent.SubjectKeyId = []byte("another")
		g.feature("wrong key identifier")
	}
	der, err := x509.CreateCertificate(crand.Reader, t, &parent, key.Public(), issuer.key)
	if err != nil {
		g.tb.Fatal(err)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		g.tb.Fatal(err)
	}
	return &authority{c, key}
}

func (g *generator) key() crypto.Signer {
	keys := testKeys()
	k := keys[g.r.IntN(len(keys))]
	g.feature("%T", k)
	return k
}

// dates are within validity, or now and then not.
func (g *generator) dates(t *x509.Certificate, percent int) {
	t.NotBefore, t.NotAfter = now.AddDate(-1, 0, 0), now.AddDate(1, 0, 0)
	if !g.chance(percent) {
		return
	}
	switch {
	case g.chance(10):
		t.NotAfter = now
		g.feature("last second")
	case g.chance(50):
		t.NotAfter = now.AddDate(0, 0, -1-g.r.IntN(30))
		g.feature("expired")
	default:
		t.NotBefore = now.AddDate(0, 0, 1+g.r.IntN(30))
		g.feature("not yet valid")
	}
}

// ca is a template of a CA that now and then should not be one.
func (g *generator) ca(name string, below int, defects int) *x509.Certificate {
	t := &x509.Certificate{Subject: pkix.Name{CommonName: fmt.Sprintf("%s %d", name, g.number)}, BasicConstraintsValid: true, IsCA: true, KeyUsage: x509.KeyUsageCertSign}
	g.dates(t, defects)
	if g.chance(defects) {
		t.IsCA, t.KeyUsage = false, x509.KeyUsageDigitalSignature
		g.feature("not a CA")
	} else if g.chance(defects) {
		t.KeyUsage = x509.KeyUsageCRLSign
		g.feature("no keyCertSign")
	}
	if t.IsCA && g.chance(20) {
		t.MaxPathLen = max(0, below-1+g.r.IntN(3)-g.r.IntN(2)*g.r.IntN(2))
		t.MaxPathLenZero = t.MaxPathLen == 0
		g.feature("path length")
	}
	if t.IsCA && (g.chance(10) || g.mail && name == "Root") {
		g.constrain(t)
	}
	if g.chance(2) {
		g.purpose(t)
	}
	if g.chance(1) {
		t.ExtraExtensions = []pkix.Extension{{Id: asn1.ObjectIdentifier{1, 2, 3, 4, 5}, Critical: true, Value: []byte{5, 0}}}
		g.feature("critical extension")
	}
	return t
}

// purpose gives a certificate an extended key usage.
func (g *generator) purpose(t *x509.Certificate) {
	server, client := x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth
	t.ExtKeyUsage = [][]x509.ExtKeyUsage{{server}, {client}, {server, client}, {x509.ExtKeyUsageAny}, {x509.ExtKeyUsageMicrosoftServerGatedCrypto}, {x509.ExtKeyUsageCodeSigning}}[g.r.IntN(6)]
	g.feature("extended key usage")
}

func (g *generator) constrain(t *x509.Certificate) {
	t.PermittedDNSDomainsCritical = g.chance(50)
	_, ten, _ := net.ParseCIDR("10.0.0.0/8")
	kind := g.r.IntN(10)
	if g.mail {
		kind = []int{5, 8}[g.r.IntN(2)]
	}
	switch kind {
	case 0:
		t.PermittedDNSDomains = []string{"example.com"}
	case 1:
		t.PermittedDNSDomains = []string{"example.org"}
	case 2:
		t.ExcludedDNSDomains = []string{"sub.example.com"}
	case 3:
		t.PermittedIPRanges = []*net.IPNet{ten}
	case 4:
		t.ExcludedIPRanges = []*net.IPNet{ten}
	case 5, 6:
		t.PermittedEmailAddresses = []string{"example.com"}
	case 7:
		t.PermittedEmailAddresses = []string{".example.com", "a@example.org"}
	case 8:
		t.ExcludedEmailAddresses = []string{"example.com"}
	case 9:
		t.ExcludedURIDomains = []string{".example.com"}
	}
	g.feature("name constraints")
}

// next makes a case of up to twelve certificates.
func (g *generator) next() *generated {
	g.number++
	g.out = &generated{number: g.number}
	depth := 1 + g.r.IntN(12)
	defects := 0
	if g.chance(60) {
		defects = 1 + g.r.IntN(8)
	}
	if g.noKeyIDs = g.chance(20); g.noKeyIDs {
		g.feature("no key identifiers")
	}
	if g.mail = g.chance(5); g.mail {
		defects = 0
		g.feature("mail at a host below")
	}
	g.feature("depth %d", depth)
	if depth == 1 {
		return g.selfSigned()
	}
	root := g.sign(g.ca("Root", depth-2, defects), nil, g.key())
	cas := []*authority{root}
	for i := range depth - 2 {
		cas = append(cas, g.sign(g.ca(fmt.Sprintf("CA%d", i), depth-3-i, defects), cas[i], g.key()))
	}
	for _, a := range cas[1:] {
		g.out.untrust = append(g.out.untrust, a.cert)
	}
	g.trust(root, defects)
	if len(cas) > 1 && g.chance(30) {
		g.crossSign(cas, defects)
	}
	if g.chance(10) {
		g.renew(cas[g.r.IntN(len(cas))], cas, defects)
	}
	g.leaf(cas[len(cas)-1], defects)
	g.store()
	if len(g.out.untrust) > 0 && g.chance(2*defects) {
		i := g.r.IntN(len(g.out.untrust))
		g.out.untrust = append(g.out.untrust[:i], g.out.untrust[i+1:]...)
		g.feature("one missing")
	}
	g.r.Shuffle(len(g.out.untrust), func(i, j int) { g.out.untrust[i], g.out.untrust[j] = g.out.untrust[j], g.out.untrust[i] })
	return g.out
}

// renew gives a CA a second certificate: the root's own with its old key or a
// new one, or an intermediate's by the root, with another key.
func (g *generator) renew(ca *authority, cas []*authority, defects int) {
	t := g.ca("x", len(cas), 10*defects)
	t.Subject = ca.cert.Subject
	key, issuer := ca.key, (*authority)(nil)
	switch {
	case ca != cas[0]:
		key, issuer = g.key(), cas[0]
		g.feature("another CA of the name")
	case g.chance(50):
		key = g.key()
		g.feature("another root of the name")
	default:
		g.feature("root renewed")
	}
	twin := g.sign(t, issuer, key)
	if issuer == nil && g.chance(70) {
		g.out.trusted = append(g.out.trusted, twin.cert)
	} else {
		g.out.untrust = append(g.out.untrust, twin.cert)
	}
}

// store puts some intermediates into the trust store, where they belong, or
// where their roots do not follow.
func (g *generator) store() {
	if !g.chance(30) {
		return
	}
	for _, c := range g.out.untrust {
		if g.chance(40) {
			g.out.trusted = append(g.out.trusted, c)
			g.feature("intermediate in the store")
		}
	}
	g.r.Shuffle(len(g.out.trusted), func(i, j int) { g.out.trusted[i], g.out.trusted[j] = g.out.trusted[j], g.out.trusted[i] })
}

// trust puts the root into the store, unless the case is about one that is not.
func (g *generator) trust(root *authority, defects int) {
	if g.chance(defects) {
		g.out.untrust = append(g.out.untrust, root.cert)
		g.feature("root not trusted")
		return
	}
	g.out.trusted = append(g.out.trusted, root.cert)
}

func (g *generator) selfSigned() *generated {
	t := &x509.Certificate{Subject: pkix.Name{CommonName: fmt.Sprintf("Self %d", g.number)}, DNSNames: []string{"self.example.com"}, BasicConstraintsValid: true}
	g.dates(t, 20)
	a := g.sign(t, nil, g.key())
	g.out.leaf = a.cert
	if g.chance(70) {
		g.out.trusted = append(g.out.trusted, a.cert)
	}
	return g.out
}

// crossSign gives an intermediate a second certificate from a second root.
func (g *generator) crossSign(cas []*authority, defects int) {
	g.feature("cross-signed")
	second := g.sign(g.ca("Second root", len(cas), defects), nil, g.key())
	g.trust(second, defects)
	i := 1 + g.r.IntN(len(cas)-1)
	t := g.ca("x", len(cas)-1-i, defects)
	t.Subject = cas[i].cert.Subject
	g.out.untrust = append(g.out.untrust, g.sign(t, second, cas[i].key).cert)
}

func (g *generator) leaf(issuer *authority, defects int) {
	t := &x509.Certificate{Subject: pkix.Name{CommonName: fmt.Sprintf("Leaf %d", g.number)}, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature}
	t.DNSNames = []string{[]string{"www.example.com", "a.sub.example.com", "example.org", "*.example.com"}[g.r.IntN(4)]}
	mails := []string{"a@example.com", "a@sub.example.com", "a@example.org"}
	kind := g.r.IntN(8)
	if g.mail {
		kind, mails = 2, mails[1:2]
	}
	switch kind {
	case 0:
		t.IPAddresses = []net.IP{net.IPv4(10, 1, 2, 3)}
	case 1:
		t.IPAddresses = []net.IP{net.IPv4(192, 168, 1, 1)}
	case 2, 3:
		t.EmailAddresses = []string{mails[g.r.IntN(len(mails))]}
	case 4:
		t.URIs = []*url.URL{{Scheme: "https", Host: "www.example.com"}}
	case 5:
		t.DNSNames, t.Subject.CommonName = nil, "www.example.org"
		g.feature("host only in the common name")
	case 6:
		t.Subject.ExtraNames = []pkix.AttributeTypeAndValue{{Type: oidEmail, Value: asn1.RawValue{Tag: asn1.TagIA5String, Bytes: []byte(mails[g.r.IntN(len(mails))])}}}
		g.feature("mail address in the subject")
	}
	if g.chance(50) {
		g.purpose(t)
	}
	t.KeyUsage = []x509.KeyUsage{0, x509.KeyUsageDigitalSignature, x509.KeyUsageKeyEncipherment, x509.KeyUsageKeyAgreement, x509.KeyUsageDataEncipherment}[g.r.IntN(5)]
	g.dates(t, defects)
	if g.chance(defects) {
		issuer = &authority{issuer.cert, testKeys()[g.r.IntN(len(testKeys()))]}
		g.feature("signed by another key")
		// The name and the identifier are the issuer's, the signature is not.
		issuer.cert = g.sign(&x509.Certificate{Subject: issuer.cert.Subject, SubjectKeyId: issuer.cert.SubjectKeyId, NotBefore: now, NotAfter: now, IsCA: true, BasicConstraintsValid: true}, nil, issuer.key).cert
	}
	g.out.leaf = g.sign(t, issuer, g.key()).cert
}
