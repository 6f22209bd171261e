package testenv_test

import (
	"bytes"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/base64"
	"encoding/pem"
	"math/big"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/onlineca/onlineca/internal/interop"
	"github.com/onlineca/onlineca/testenv"
)

// issueOne has one certificate issued by template.
func issueOne(t *testing.T, v visitor, csr, attributes string) *x509.Certificate {
	t.Helper()
	id := issued(t, v.submit(csr, attributes))
	for _, r := range v.s.Issued() {
		if r.ReqID == id {
			return r.Certificate
		}
	}
	t.Fatalf("request %d has no certificate", id)
	return nil
}

func extension(c *x509.Certificate, id ...int) *pkix.Extension {
	for i := range c.Extensions {
		if c.Extensions[i].Id.Equal(id) {
			return &c.Extensions[i]
		}
	}
	return nil
}

// TestCertificateLooksLikeADCS looks at everything that a certificate of AD CS
// has and another CA's has not.
func TestCertificateLooksLikeADCS(t *testing.T) {
	v := visit(t, testenv.Config{FirstReqID: 77})
	csr, key := newCSR(t, "SEP001122334455")
	c := issueOne(t, v, csr, "CertificateTemplate:CiscoRA")
	ca := v.s.PKI.Current()
	if err := c.CheckSignatureFrom(ca); err != nil {
		t.Error(err)
	}
	if c.Subject.String() != "CN=SEP001122334455" || len(c.DNSNames) != 1 || c.DNSNames[0] != "sep001122334455.lab.example" {
		t.Errorf("subject %q, names %q", c.Subject, c.DNSNames)
	}
	if !key.PublicKey.Equal(c.PublicKey) || c.KeyUsage != x509.KeyUsageDigitalSignature|x509.KeyUsageKeyEncipherment {
		t.Errorf("key usage %b", c.KeyUsage)
	}
	if len(c.ExtKeyUsage) != 2 || len(c.SubjectKeyId) != 20 || !bytes.Equal(c.AuthorityKeyId, ca.SubjectKeyId) {
		t.Errorf("EKU %v, SKI %x, AKI %x", c.ExtKeyUsage, c.SubjectKeyId, c.AuthorityKeyId)
	}
	serial := c.SerialNumber.FillBytes(make([]byte, 19))
	if !bytes.Equal(serial[1:5], []byte{0, 0, 0, 77}) || !bytes.Equal(serial[13:], []byte{0, 0, 0, 0, 0, 77}) || c.SerialNumber.Sign() < 1 {
		t.Errorf("serial %x", serial)
	}
	if len(c.CRLDistributionPoints) != 1 || !strings.HasPrefix(c.CRLDistributionPoints[0], "ldap:///CN=LAB-ISSUING-CA,CN=LAB-IIS,CN=CDP,") ||
		len(c.IssuingCertificateURL) != 1 || !strings.HasSuffix(c.IssuingCertificateURL[0], ",DC=lab,DC=example?cACertificate?base?objectClass=certificationAuthority") {
		t.Errorf("CDP %q, AIA %q", c.CRLDistributionPoints, c.IssuingCertificateURL)
	}
	if extension(c, 1, 3, 6, 1, 4, 1, 311, 21, 7) == nil || extension(c, 1, 3, 6, 1, 4, 1, 311, 21, 10) == nil {
		t.Error("no template, no application policies")
	}
	if before := time.Since(c.NotBefore); before < 10*time.Minute || before > 15*time.Minute {
		t.Errorf("valid since %v", before)
	}
}

func TestBuiltInTemplates(t *testing.T) {
	v := visit(t, testenv.Config{})
	csr, _ := newCSR(t, "www.lab.example")
	web := issueOne(t, v, csr, "CertificateTemplate:webserver")
	name := extension(web, 1, 3, 6, 1, 4, 1, 311, 20, 2)
	if name == nil || !bytes.Contains(name.Value, []byte("\x00W\x00e\x00b\x00S")) {
		t.Errorf("template name %v", name)
	}
	user := issueOne(t, v, csr, "CertificateTemplate:User")
	if got := user.Subject.String(); !strings.Contains(got, "CN=ciscora") || strings.Contains(got, "www") {
		t.Errorf("subject from AD: %q", got)
	}
}

// TestTemplateOfRequest: the request may name its template itself.
func TestTemplateOfRequest(t *testing.T) {
	v := visit(t, testenv.Config{Templates: []testenv.Template{{Name: "CiscoRA", OID: asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 311, 21, 8, 1, 2}}}})
	_, key := newCSR(t, "x")
	v1, _ := asn1.Marshal(asn1.RawValue{Tag: asn1.TagBMPString, Bytes: []byte("\x00C\x00i\x00s\x00c\x00o\x00R\x00A")})
	v2, _ := asn1.Marshal(struct {
		ID           asn1.ObjectIdentifier
		Major, Minor int
	}{asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 311, 21, 8, 1, 2}, 100, 4})
	for _, ext := range []pkix.Extension{
		{Id: asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 311, 20, 2}, Value: v1},
		{Id: asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 311, 21, 7}, Value: v2},
	} {
		der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{ExtraExtensions: []pkix.Extension{ext}}, key)
		if err != nil {
			t.Fatal(err)
		}
		issued(t, v.submit(base64.StdEncoding.EncodeToString(der), ""))
	}
}

// TestRefusals submits what a CA refuses.
func TestRefusals(t *testing.T) {
	v := visit(t, testenv.Config{})
	good, _ := newCSR(t, "SEP001122334455")
	block, _ := pem.Decode([]byte(good))
	forged := bytes.Clone(block.Bytes)
	forged[len(forged)-1] ^= 1
	armoured := func(der []byte) string { return base64.StdEncoding.EncodeToString(der) }
	for name, tc := range map[string]struct{ csr, attributes, code string }{
		"no base64":        {"this is no request", "CertificateTemplate:CiscoRA", "Error Parsing Request  ASN1 bad tag value met. 0x8009310b (-2146881269 CRYPT_E_ASN1_BADTAG)"},
		"zeros":            {strings.Repeat("A", 40_000), "CertificateTemplate:CiscoRA", "0x8009310b"},
		"cut off":          {armoured(block.Bytes[:40]), "CertificateTemplate:CiscoRA", "0x80093102 (-2146881278 CRYPT_E_ASN1_EOD)"},
		"not a request":    {armoured([]byte{0x30, 0x03, 0x02, 0x01, 0x05}), "CertificateTemplate:CiscoRA", "0x8009310b"},
		"bad signature":    {armoured(forged), "CertificateTemplate:CiscoRA", "0x80091007"},
		"no template":      {good, "", "0x80094801"},
		"unknown template": {good, "CertificateTemplate:Other", "0x80094800"},
		"512 bits":         {rsaCSR(t, 512), "CertificateTemplate:CiscoRA", "0x80094811"},
		"1024 bits":        {rsaCSR(t, 1024), "CertificateTemplate:CiscoRA", "0x80094811"},
	} {
		a := v.submit(tc.csr, tc.attributes)
		if !strings.Contains(a.Body, "ID=locDenied>") || !strings.Contains(a.Body, tc.code) {
			t.Errorf("%s: no denial with %s:\n%s", name, tc.code, a.Body)
		}
	}
	if n := len(v.s.Issued()); n != 0 {
		t.Errorf("%d certificates were issued", n)
	}
	if a := v.submit("", ""); !strings.Contains(a.Body, "ID=locReqFailed>") {
		t.Errorf("no request at all:\n%s", a.Body)
	}
	if a := v.submit(strings.Repeat("A", 300_000), ""); a.StatusCode != http.StatusInternalServerError {
		t.Errorf("a body beyond ASP's limit: %d", a.StatusCode)
	}
}

func rsaCSR(t *testing.T, bits int) string {
	t.Helper()
	t.Setenv("GODEBUG", "rsa1024min=0")
	key, err := rsa.GenerateKey(rand.Reader, bits)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: pkix.Name{CommonName: "weak"}}, key)
	if err != nil {
		t.Fatal(err)
	}
	return base64.StdEncoding.EncodeToString(der)
}

// TestSANAttribute: the attribute is honoured only where it was allowed.
func TestSANAttribute(t *testing.T) {
	for _, allowed := range []bool{false, true} {
		v := visit(t, testenv.Config{SANAttribute: allowed})
		_, key := newCSR(t, "x")
		der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: pkix.Name{CommonName: "x"}}, key)
		if err != nil {
			t.Fatal(err)
		}
		c := issueOne(t, v, base64.StdEncoding.EncodeToString(der), "CertificateTemplate:CiscoRA\r\nSAN:dns=a.lab.example&dns=b.lab.example&ipaddress=192.0.2.1\r\n")
		if want := map[bool]int{false: 0, true: 3}[allowed]; len(c.DNSNames)+len(c.IPAddresses) != want {
			t.Errorf("allowed %v: %q %v", allowed, c.DNSNames, c.IPAddresses)
		}
	}
}

func TestAttributesAreKept(t *testing.T) {
	v := visit(t, testenv.Config{})
	csr, _ := newCSR(t, "SEP001122334455")
	issueOne(t, v, csr, "CertificateTemplate:CiscoRA\r\nX-Marker: 4711 \r\n")
	r := v.s.Issued()[0]
	if r.Attributes["x-marker"] != "4711" || r.Template != "CiscoRA" || r.Requester != testenv.DefaultUser {
		t.Errorf("%+v", r)
	}
}

func TestRevocationList(t *testing.T) {
	v := visit(t, testenv.Config{Renewals: 1})
	csr, _ := newCSR(t, "SEP001122334455")
	c := issueOne(t, v, csr, "CertificateTemplate:CiscoRA")
	if err := v.s.Revoke(1); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{"/certsrv/certcrl.crl?Type=base&Renewal=1&Enc=bin", "/certsrv/certcrl.crl?Type=base&Enc=b64"} {
		a := v.get(path)
		der := []byte(a.Body)
		if block, _ := pem.Decode(der); block != nil {
			der = block.Bytes
		}
		list, err := x509.ParseRevocationList(der)
		if err != nil {
			t.Fatal(err)
		}
		if err := list.CheckSignatureFrom(v.s.PKI.Current()); err != nil || a.Header.Get("Content-Type") != "application/pkix-crl" {
			t.Errorf("%s: %v, %q", path, err, a.Header.Get("Content-Type"))
		}
		if len(list.RevokedCertificateEntries) != 1 || list.RevokedCertificateEntries[0].SerialNumber.Cmp(c.SerialNumber) != 0 {
			t.Errorf("%s: revoked %v", path, list.RevokedCertificateEntries)
		}
	}
}

func TestPKISaysNotToTrustIt(t *testing.T) {
	pki, err := testenv.NewPKI(testenv.PKIConfig{Renewals: 2, RootName: "Corp Root"})
	if err != nil {
		t.Fatal(err)
	}
	if got := pki.Root.Subject.CommonName; !strings.HasPrefix(got, "Corp Root") || !strings.HasSuffix(got, "not to be trusted") {
		t.Errorf("root %q", got)
	}
	for i, c := range pki.Issuing {
		if err := c.CheckSignatureFrom(pki.Root); err != nil {
			t.Error(err)
		}
		v := extension(c, 1, 3, 6, 1, 4, 1, 311, 21, 1)
		var version int
		if _, err := asn1.Unmarshal(v.Value, &version); err != nil || version != i<<16|i {
			t.Errorf("generation %d: version %x, %v", i, version, err)
		}
	}
	for _, bad := range []testenv.PKIConfig{{Renewals: 4}, {Renewals: -1}, {RSABits: 512}} {
		if _, err := testenv.NewPKI(bad); err == nil {
			t.Errorf("%+v is accepted", bad)
		}
	}
	dir := filepath.Join(t.TempDir(), "keys")
	if err := pki.WriteKeys(dir); err != nil {
		t.Fatal(err)
	}
	files, _ := os.ReadDir(dir)
	if len(files) != 8 {
		t.Errorf("%d files", len(files))
	}
	for _, f := range files {
		interop.Private(t, filepath.Join(dir, f.Name()))
	}
}

func TestBadServerCertificates(t *testing.T) {
	pki, err := testenv.NewPKI(testenv.PKIConfig{})
	if err != nil {
		t.Fatal(err)
	}
	for name, o := range map[string]testenv.ServerOptions{
		"self-signed":     {SelfSigned: true},
		"no intermediate": {OmitIntermediate: true},
		"other name":      {Names: []string{"other.example"}},
		"no SAN":          {NoSAN: true},
		"expired":         {NotBefore: time.Now().Add(-2 * time.Hour), NotAfter: time.Now().Add(-time.Hour)},
		"not yet valid":   {NotBefore: time.Now().Add(time.Hour)},
	} {
		cert, err := pki.ServerCertificate(o)
		if err != nil {
			t.Fatal(err)
		}
		s := testenv.New(t, testenv.Config{PKI: pki, Certificate: &cert})
		if resp, err := s.Client().Get(s.URL + "/certsrv/"); err == nil {
			resp.Body.Close()
			t.Errorf("%s: a client accepts it", name)
		}
	}
	if _, err := pki.ServerCertificate(testenv.ServerOptions{Hash: 1}); err == nil {
		t.Error("a hash that no certificate is signed with is accepted")
	}
}

func TestSerialNumbersDiffer(t *testing.T) {
	v := visit(t, testenv.Config{})
	csr, _ := newCSR(t, "SEP001122334455")
	seen := map[string]bool{}
	for range 5 {
		c := issueOne(t, v, csr, "CertificateTemplate:CiscoRA")
		seen[new(big.Int).Set(c.SerialNumber).String()] = true
	}
	if len(seen) != 5 {
		t.Errorf("%d serial numbers", len(seen))
	}
}
