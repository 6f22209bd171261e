package chain

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	crand "crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"flag"
	"fmt"
	"math/big"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/onlineca/onlineca/internal/interop"
)

var seed = flag.Uint64("seed", 0, "seed of the generated chains (0: a new one)")

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
	der, err := x509.CreateCertificate(crand.Reader, t, issuer.cert, key.Public(), issuer.key)
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
	if g.chance(50) {
		t.NotAfter = now.AddDate(0, 0, -1-g.r.IntN(30))
		g.feature("expired")
	} else {
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
	if t.IsCA && g.chance(10) {
		g.constrain(t)
	}
	if g.chance(1) {
		t.ExtraExtensions = []pkix.Extension{{Id: asn1.ObjectIdentifier{1, 2, 3, 4, 5}, Critical: true, Value: []byte{5, 0}}}
		g.feature("critical extension")
	}
	return t
}

func (g *generator) constrain(t *x509.Certificate) {
	t.PermittedDNSDomainsCritical = g.chance(50)
	_, ten, _ := net.ParseCIDR("10.0.0.0/8")
	switch g.r.IntN(6) {
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
	case 5:
		t.PermittedEmailAddresses = []string{"example.com"}
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
	g.leaf(cas[len(cas)-1], defects)
	if len(g.out.untrust) > 0 && g.chance(2*defects) {
		i := g.r.IntN(len(g.out.untrust))
		g.out.untrust = append(g.out.untrust[:i], g.out.untrust[i+1:]...)
		g.feature("one missing")
	}
	g.r.Shuffle(len(g.out.untrust), func(i, j int) { g.out.untrust[i], g.out.untrust[j] = g.out.untrust[j], g.out.untrust[i] })
	return g.out
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
	t.DNSNames = []string{[]string{"www.example.com", "a.sub.example.com", "example.org"}[g.r.IntN(3)]}
	switch g.r.IntN(6) {
	case 0:
		t.IPAddresses = []net.IP{net.IPv4(10, 1, 2, 3)}
	case 1:
		t.IPAddresses = []net.IP{net.IPv4(192, 168, 1, 1)}
	case 2:
		// Not a@sub.example.com: RFC 5280 and OpenSSL keep it out of a constraint
		// to the host example.com, and crypto/x509 of Go 1.26 does not.
		t.EmailAddresses = []string{[]string{"a@example.com", "a@example.org"}[g.r.IntN(2)]}
	}
	g.dates(t, defects)
	if g.chance(defects) {
		issuer = &authority{issuer.cert, testKeys()[g.r.IntN(len(testKeys()))]}
		g.feature("signed by another key")
		// The name and the identifier are the issuer's, the signature is not.
		issuer.cert = g.sign(&x509.Certificate{Subject: issuer.cert.Subject, SubjectKeyId: issuer.cert.SubjectKeyId, NotBefore: now, NotAfter: now, IsCA: true, BasicConstraintsValid: true}, nil, issuer.key).cert
	}
	g.out.leaf = g.sign(t, issuer, g.key()).cert
}

// ours is this package's answer.
func (c *generated) ours() *path {
	return newProofs().findPath(c.leaf, newPool(c.untrust, c.trusted), newPool(c.trusted), nil, now)
}

// golang is that of crypto/x509.
func (c *generated) golang() error {
	o := x509.VerifyOptions{Roots: x509.NewCertPool(), Intermediates: x509.NewCertPool(), CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}}
	for _, t := range c.trusted {
		o.Roots.AddCert(t)
	}
	for _, u := range c.untrust {
		o.Intermediates.AddCert(u)
	}
	_, err := c.leaf.Verify(o)
	return err
}

// openssl is that of openssl verify, for many cases in one process.
func openssl(tb testing.TB, cases []*generated) (trusted map[int]bool, output string) {
	tb.Helper()
	dir := tb.TempDir()
	var ca, untrusted []*x509.Certificate
	args := []string{"verify", "-attime", strconv.FormatInt(now.Unix(), 10), "-CAfile", "ca.pem", "-untrusted", "untrusted.pem"}
	write := func(name string, certs ...*x509.Certificate) {
		if err := os.WriteFile(filepath.Join(dir, name), pemOf(certs...), 0o600); err != nil {
			tb.Fatal(err)
		}
	}
	for _, c := range cases {
		ca, untrusted = append(ca, c.trusted...), append(untrusted, c.untrust...)
		name := fmt.Sprintf("%d.pem", c.number)
		write(name, c.leaf)
		args = append(args, name)
	}
	write("ca.pem", ca...)
	write("untrusted.pem", untrusted...)
	ctx, cancel := context.WithTimeout(tb.Context(), 2*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, interop.Look("openssl"), args...)
	cmd.Dir = dir
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Run(); err != nil && cmd.ProcessState == nil {
		tb.Fatal(err)
	}
	trusted = map[int]bool{}
	for line := range strings.Lines(out.String()) {
		if name, ok := strings.CutSuffix(strings.TrimSpace(line), ".pem: OK"); ok {
			n, err := strconv.Atoi(name)
			if err != nil {
				tb.Fatalf("openssl: %q", line)
			}
			trusted[n] = true
		}
	}
	return trusted, out.String()
}

// TestAgreesWithGoAndOpenSSL compares three verifiers on generated chains, on
// 2000 of them where the environment has ONLINECA_LONG, as in CI. Ours
// and Go's look for any path that is valid. OpenSSL builds one path and judges
// that: where it refuses a cross-signed chain of which we found a valid path,
// it is given that path alone, and must accept it; and we must have warned.
func TestAgreesWithGoAndOpenSSL(t *testing.T) {
	interop.Need(t, "openssl")
	n := 400
	if os.Getenv("ONLINECA_LONG") != "" {
		n = 2000
	}
	s := *seed
	if s == 0 {
		s = rand.Uint64()
	}
	t.Logf("%d chains, -seed %d (keys are new in every run)", n, s)
	g := &generator{tb: t, r: rand.New(rand.NewPCG(s, s))}
	counts := map[string]int{}
	const batch = 100
	for range n / batch {
		var cases, second []*generated
		for range batch {
			cases = append(cases, g.next())
		}
		trusted, output := openssl(t, cases)
		for _, c := range cases {
			for _, f := range c.features {
				counts[f]++
			}
			p, golang := c.ours(), c.golang()
			ours := p.valid()
			counts[map[bool]string{true: "valid", false: "invalid"}[ours]]++
			if ours && golang == nil && !trusted[c.number] && p.rival != nil {
				second = append(second, &generated{number: c.number, leaf: c.leaf, untrust: p.certs[1 : len(p.certs)-1], trusted: p.certs[len(p.certs)-1:], features: c.features})
				continue
			}
			if ours != (golang == nil) || ours != trusted[c.number] {
				t.Errorf("case %d %v: ours %v %+v, Go %v, openssl %v\n%s", c.number, c.features, ours, p.problems, golang, trusted[c.number], about(output, c.number))
			}
		}
		counts["OpenSSL took the other way"] += len(second)
		if len(second) == 0 {
			continue
		}
		trusted, output = openssl(t, second)
		for _, c := range second {
			if !trusted[c.number] {
				t.Errorf("case %d %v: OpenSSL refuses the path that we found\n%s", c.number, c.features, about(output, c.number))
			}
		}
	}
	t.Logf("%v", counts)
	for _, f := range []string{"valid", "invalid", "pss", "cross-signed", "expired", "not yet valid", "not a CA", "no keyCertSign", "path length", "name constraints", "depth 1", "depth 12", "*rsa.PrivateKey", "*ecdsa.PrivateKey", "ed25519.PrivateKey", "root not trusted", "one missing"} {
		if counts[f] == 0 {
			t.Errorf("no chain with %q among %d", f, n)
		}
	}
}

// about picks the lines on one case out of openssl's output.
func about(output string, number int) string {
	var out []string
	for line := range strings.Lines(output) {
		if strings.Contains(line, fmt.Sprintf(" %d\n", number)) || strings.HasSuffix(line, fmt.Sprintf(" %d.pem: verification failed\n", number)) {
			out = append(out, line)
		}
	}
	return strings.Join(out, "")
}
