package chain

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// now is the time of every test.
var now = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

var serials atomic.Int64

// authority is a certificate and its key.
type authority struct {
	cert *x509.Certificate
	key  crypto.Signer
}

func newKey(tb testing.TB) crypto.Signer {
	tb.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		tb.Fatal(err)
	}
	return k
}

// issue makes a certificate; issuer nil makes it self-signed. Validity is a
// year around now unless change says otherwise.
func issue(tb testing.TB, issuer *authority, cn string, change ...func(*x509.Certificate)) *authority {
	tb.Helper()
	return issueKey(tb, issuer, newKey(tb), cn, change...)
}

func issueKey(tb testing.TB, issuer *authority, key crypto.Signer, cn string, change ...func(*x509.Certificate)) *authority {
	tb.Helper()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(serials.Add(1)), Subject: pkix.Name{CommonName: cn},
		NotBefore: now.AddDate(0, -6, 0), NotAfter: now.AddDate(0, 6, 0),
		BasicConstraintsValid: true,
	}
	for _, c := range change {
		c(template)
	}
	if issuer == nil {
		issuer = &authority{template, key}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, issuer.cert, key.Public(), issuer.key)
	if err != nil {
		tb.Fatal(err)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		tb.Fatal(err)
	}
	return &authority{c, key}
}

func asCA(c *x509.Certificate) {
	c.IsCA = true
	c.KeyUsage = x509.KeyUsageCertSign | x509.KeyUsageCRLSign
}

// asServer is what every appliance here accepts.
func asServer(names ...string) func(*x509.Certificate) {
	return func(c *x509.Certificate) {
		c.KeyUsage = x509.KeyUsageDigitalSignature | x509.KeyUsageKeyEncipherment
		c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}
		for _, n := range names {
			if ip := net.ParseIP(n); ip != nil {
				c.IPAddresses = append(c.IPAddresses, ip)
			} else {
				c.DNSNames = append(c.DNSNames, n)
			}
		}
	}
}

func expired(c *x509.Certificate) { c.NotAfter = now.AddDate(0, -1, 0) }
func early(c *x509.Certificate)   { c.NotBefore = now.AddDate(0, 1, 0) }

func request(tb testing.TB, key crypto.Signer, cn string) *x509.CertificateRequest {
	tb.Helper()
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: pkix.Name{CommonName: cn}}, key)
	if err != nil {
		tb.Fatal(err)
	}
	r, err := x509.ParseCertificateRequest(der)
	if err != nil {
		tb.Fatal(err)
	}
	return r
}

func certsOf(as ...*authority) []*x509.Certificate {
	var out []*x509.Certificate
	for _, a := range as {
		out = append(out, a.cert)
	}
	return out
}

func pemOf(certs ...*x509.Certificate) []byte {
	var b strings.Builder
	for _, c := range certs {
		_ = pem.Encode(&b, &pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})
	}
	return []byte(b.String())
}

// input reads certificates back from PEM, as a file would be.
func input(tb testing.TB, name string, as ...*authority) *Input {
	tb.Helper()
	return inputBytes(tb, name, pemOf(certsOf(as...)...))
}

func inputBytes(tb testing.TB, name string, data []byte) *Input {
	tb.Helper()
	in, err := Read(strings.NewReader(string(data)), name, nil)
	if err != nil {
		tb.Fatal(err)
	}
	return in
}

func inputs(in ...*Input) []*Input { return in }

// check makes a check at the tests' time.
func check(tb testing.TB, o Options) *Verdict {
	tb.Helper()
	if o.At.IsZero() {
		o.At = now
	}
	v, err := Check(o)
	if err != nil {
		tb.Fatal(err)
	}
	if (v.First() == nil) != v.Accepted {
		tb.Fatalf("accepted is %v, but the first finding is %v", v.Accepted, v.First())
	}
	return v
}

// brokenRules lists the rules that fail, in order, each once.
func brokenRules(v *Verdict) []string {
	out := []string{}
	for _, c := range v.Checks {
		if c.Result == Fail {
			out = append(out, c.Rule)
		}
	}
	return out
}

// accepted fails the test if a verdict has any finding at all.
func accepted(tb testing.TB, v *Verdict) {
	tb.Helper()
	for _, f := range v.Findings() {
		tb.Errorf("unexpected %s %s: %s %s", f.Level, f.Rule, f.Text, f.Detail)
	}
	if !v.Accepted {
		tb.Error("not accepted")
	}
}

// only returns the single finding of a verdict.
func only(tb testing.TB, v *Verdict) Finding {
	tb.Helper()
	all := v.Findings()
	if len(all) != 1 {
		for _, f := range all {
			tb.Logf("%s: %s (%s)", f.Rule, f.headline(), f.Detail)
		}
		tb.Fatalf("%d findings, want one", len(all))
	}
	f := all[0]
	if f.Detail == "" || f.Fix == "" || f.Basis == "" {
		tb.Errorf("finding without detail, fix or basis: %+v", f)
	}
	return f
}

func tempFile(tb testing.TB, name string, data []byte) string {
	tb.Helper()
	path := filepath.Join(tb.TempDir(), name)
	if err := os.WriteFile(path, data, 0o600); err != nil {
		tb.Fatal(err)
	}
	return path
}
