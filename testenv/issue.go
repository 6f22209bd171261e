package testenv

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/binary"
	"fmt"
	"math/big"
	"net"
	"strconv"
	"strings"
	"time"
	"unicode/utf16"
)

// More object identifiers of AD CS.
var (
	oidTemplateName        = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 311, 20, 2}
	oidTemplateInfo        = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 311, 21, 7}
	oidApplicationPolicies = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 311, 21, 10}
	oidSAN                 = asn1.ObjectIdentifier{2, 5, 29, 17}
)

// templateInfo is the extension by which a certificate refers to a template of
// schema version 2 and later.
type templateInfo struct {
	ID           asn1.ObjectIdentifier
	Major, Minor int
}

// clockTolerance is how far AD CS dates a certificate back.
const clockTolerance = 10 * time.Minute

// issue makes the certificate of r by t and enters it. The caller holds a.mu.
func (a *ca) issue(r *CARequest, t Template) error {
	tmpl, err := a.certificate(r, t)
	if err != nil {
		return fmt.Errorf("request %d: %w", r.ReqID, err)
	}
	cert, err := a.sign(tmpl, r.CSR.PublicKey)
	if err != nil {
		return fmt.Errorf("request %d: %w", r.ReqID, err)
	}
	r.Certificate, r.Disposition, r.Code = cert, DispositionIssued, resultOK
	return nil
}

func (a *ca) sign(tmpl *x509.Certificate, pub crypto.PublicKey) (*x509.Certificate, error) {
	n := a.pki.renewals()
	return sign(tmpl, a.pki.Issuing[n], pub, a.pki.issuingKeys[n])
}

// certificate is what AD CS makes of a request: subject and names from the
// request or from the directory, everything else from the template.
func (a *ca) certificate(r *CARequest, t Template) (*x509.Certificate, error) {
	ski, err := keyID(r.CSR.PublicKey)
	if err != nil {
		return nil, err
	}
	now := a.now().UTC().Truncate(time.Second)
	ca := a.pki.Current()
	c := &x509.Certificate{
		RawSubject:            r.CSR.RawSubject,
		SerialNumber:          serial(r.ReqID),
		NotBefore:             now.Add(-clockTolerance),
		NotAfter:              now.Add(t.Validity - clockTolerance),
		KeyUsage:              t.KeyUsage,
		ExtKeyUsage:           t.ExtKeyUsage,
		SubjectKeyId:          ski,
		CRLDistributionPoints: []string{a.directoryURL("CDP", "certificateRevocationList?base?objectClass=cRLDistributionPoint")},
		IssuingCertificateURL: []string{a.directoryURL("AIA", "cACertificate?base?objectClass=certificationAuthority")},
	}
	if c.NotAfter.After(ca.NotAfter) {
		c.NotAfter = ca.NotAfter
	}
	if err := a.names(c, r, t); err != nil {
		return nil, err
	}
	return c, templateExtensions(c, t)
}

// names sets subject and alternative names.
func (a *ca) names(c *x509.Certificate, r *CARequest, t Template) error {
	if t.SubjectFromAD {
		_, user, _ := strings.Cut(r.Requester, `\`)
		raw, err := asn1.Marshal(directoryName(a.pki.conf.DNSDomain, "Users", user))
		c.RawSubject = raw
		return err
	}
	for _, e := range r.CSR.Extensions {
		if e.Id.Equal(oidSAN) {
			c.ExtraExtensions = append(c.ExtraExtensions, e)
			return nil
		}
	}
	if !a.sanAttr {
		return nil
	}
	for part := range strings.SplitSeq(r.Attributes["san"], "&") {
		kind, value, _ := strings.Cut(part, "=")
		switch ip := net.ParseIP(value); {
		case strings.EqualFold(kind, "dns"):
			c.DNSNames = append(c.DNSNames, value)
		case strings.EqualFold(kind, "ipaddress") && ip != nil:
			c.IPAddresses = append(c.IPAddresses, ip)
		}
	}
	return nil
}

// templateExtensions adds what names the template.
func templateExtensions(c *x509.Certificate, t Template) error {
	if t.noExtension {
		return nil
	}
	if t.V1 {
		v, err := asn1.Marshal(asn1.RawValue{Tag: asn1.TagBMPString, Bytes: bmp(t.Name)})
		c.ExtraExtensions = append(c.ExtraExtensions, pkix.Extension{Id: oidTemplateName, Value: v})
		return err
	}
	v, err := asn1.Marshal(templateInfo{ID: t.OID, Major: 100, Minor: 4})
	if err != nil {
		return err
	}
	c.ExtraExtensions = append(c.ExtraExtensions, pkix.Extension{Id: oidTemplateInfo, Value: v})
	if len(t.ExtKeyUsage) == 0 {
		return nil
	}
	// Application policies repeat the extended key usages in the layout of
	// certificatePolicies.
	type policy struct{ ID asn1.ObjectIdentifier }
	var list []policy
	for _, u := range t.ExtKeyUsage {
		list = append(list, policy{numbers(u.OID())})
	}
	if v, err = asn1.Marshal(list); err != nil {
		return err
	}
	c.ExtraExtensions = append(c.ExtraExtensions, pkix.Extension{Id: oidApplicationPolicies, Value: v})
	return nil
}

// numbers converts an object identifier to the older of Go's two types, the one
// that can be marshaled.
func numbers(o x509.OID) asn1.ObjectIdentifier {
	var out asn1.ObjectIdentifier
	for arc := range strings.SplitSeq(o.String(), ".") {
		n, _ := strconv.Atoi(arc) // its own String
		out = append(out, n)
	}
	return out
}

// directoryURL is where AD keeps what certificates refer to.
func (a *ca) directoryURL(container, query string) string {
	var dc strings.Builder
	for label := range strings.SplitSeq(a.pki.conf.DNSDomain, ".") {
		dc.WriteString(",DC=" + label)
	}
	cn := strings.ReplaceAll(a.pki.conf.CAName, " ", "%20")
	if container == "CDP" {
		host, _, _ := strings.Cut(a.host, ".")
		cn += ",CN=" + host
	}
	return "ldap:///CN=" + cn + ",CN=" + container +
		",CN=Public%20Key%20Services,CN=Services,CN=Configuration" + dc.String() + "?" + query
}

// serial is a serial number in the manner of AD CS: a random byte, the request's
// number, eight random bytes, two zero ones, and the number again.
func serial(id int) *big.Int {
	b := make([]byte, 19)
	_, _ = rand.Read(b) // never fails, says crypto/rand
	b[0] = b[0]&0x6f | 0x10
	binary.BigEndian.PutUint32(b[1:], uint32(id))
	clear(b[13:15])
	binary.BigEndian.PutUint32(b[15:], uint32(id))
	return new(big.Int).SetBytes(b)
}

// bmp is UTF-16, big-endian.
func bmp(s string) []byte {
	var b []byte
	for _, u := range utf16.Encode([]rune(s)) {
		b = binary.BigEndian.AppendUint16(b, u)
	}
	return b
}

// decodeString reads an ASN.1 string of one of the kinds a template's name
// comes in.
func decodeString(v asn1.RawValue) string {
	if v.Tag != asn1.TagBMPString {
		return string(v.Bytes)
	}
	u := make([]uint16, len(v.Bytes)/2)
	for i := range u {
		u[i] = binary.BigEndian.Uint16(v.Bytes[2*i:])
	}
	return string(utf16.Decode(u))
}

// otherKey is the certificate of r made for a key that nobody has asked for.
func (a *ca) otherKey(r CARequest) (*x509.Certificate, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	t, _ := a.template(r.Template)
	tmpl, err := a.certificate(&r, t)
	if err != nil {
		return nil, err
	}
	var pub crypto.PublicKey
	if k, ok := r.CSR.PublicKey.(*rsa.PublicKey); ok {
		// Nobody has the key to this modulus, and nobody needs it; to make one
		// would take a busy machine longer than its client waits.
		pub = &rsa.PublicKey{N: new(big.Int).Add(k.N, big.NewInt(2)), E: k.E}
	} else {
		other, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			return nil, err
		}
		pub = other.Public()
	}
	if tmpl.SubjectKeyId, err = keyID(pub); err != nil {
		return nil, err
	}
	return a.sign(tmpl, pub)
}

// revocationList is a CRL of the CA's generation renewal (RFC 5280 section 5).
func (a *ca) revocationList(renewal int) ([]byte, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.crl++
	now := a.now().UTC().Truncate(time.Second)
	list := &x509.RevocationList{Number: big.NewInt(a.crl), ThisUpdate: now.Add(-clockTolerance), NextUpdate: now.AddDate(0, 0, 7)}
	for _, r := range a.requests {
		if r.Disposition == DispositionRevoked {
			list.RevokedCertificateEntries = append(list.RevokedCertificateEntries,
				x509.RevocationListEntry{SerialNumber: r.Certificate.SerialNumber, RevocationTime: now})
		}
	}
	return x509.CreateRevocationList(rand.Reader, list, a.pki.Issuing[renewal], a.pki.issuingKeys[renewal])
}
