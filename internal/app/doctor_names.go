package app

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/hex"
	"fmt"
	"strings"
	"unicode"
)

// printable replaces what a terminal would obey instead of showing.
func printable(s string) string {
	var b strings.Builder
	for _, r := range s {
		if unicode.IsPrint(r) {
			b.WriteRune(r)
		} else {
			fmt.Fprintf(&b, `\u%04x`, r)
		}
	}
	return b.String()
}

// maxShown limits how many names of a certificate are shown.
const maxShown = 100

func printableAll(all []string) []string {
	out := []string{}
	for _, s := range all[:min(len(all), maxShown)] {
		out = append(out, printable(s))
	}
	return out
}

// attributeNames are the short names of RFC 4514 section 3, and those that
// Windows writes beside them.
var attributeNames = map[string]string{
	"2.5.4.3": "CN", "2.5.4.5": "serialNumber", "2.5.4.6": "C", "2.5.4.7": "L", "2.5.4.8": "ST",
	"2.5.4.9": "street", "2.5.4.10": "O", "2.5.4.11": "OU", "0.9.2342.19200300.100.1.25": "DC",
	"0.9.2342.19200300.100.1.1": "UID", "1.2.840.113549.1.9.1": "E",
}

// distinguished is a name for people, the common name first. The String method
// of pkix.Name writes the DC attributes of Active Directory in hexadecimal.
func distinguished(raw []byte) string {
	var rdns pkix.RDNSequence
	if rest, err := asn1.Unmarshal(raw, &rdns); err != nil || len(rest) > 0 {
		return "(unreadable name)"
	}
	var parts []string
	for i := len(rdns) - 1; i >= 0; i-- {
		for _, a := range rdns[i] {
			name := a.Type.String()
			if short, ok := attributeNames[name]; ok {
				name = short
			}
			parts = append(parts, name+"="+fmt.Sprint(a.Value))
		}
	}
	if len(parts) == 0 {
		return "(empty name)"
	}
	return printable(strings.Join(parts, ","))
}

func fingerprint(c *x509.Certificate) string {
	sum := sha256.Sum256(c.Raw)
	return hex.EncodeToString(sum[:])
}

// keyName is the kind and size of a certificate's key.
func keyName(c *x509.Certificate) string {
	switch k := c.PublicKey.(type) {
	case *rsa.PublicKey:
		return fmt.Sprintf("RSA %d", k.N.BitLen())
	case *ecdsa.PublicKey:
		return "ECDSA " + k.Curve.Params().Name
	case ed25519.PublicKey:
		return "Ed25519"
	default:
		return "a key of a kind that is not known here"
	}
}

// keyUsages are in the order of RFC 5280 section 4.2.1.3.
var keyUsages = []struct {
	bit  x509.KeyUsage
	name string
}{
	{x509.KeyUsageDigitalSignature, "digitalSignature"},
	{x509.KeyUsageContentCommitment, "nonRepudiation"},
	{x509.KeyUsageKeyEncipherment, "keyEncipherment"},
	{x509.KeyUsageDataEncipherment, "dataEncipherment"},
	{x509.KeyUsageKeyAgreement, "keyAgreement"},
	{x509.KeyUsageCertSign, "keyCertSign"},
	{x509.KeyUsageCRLSign, "cRLSign"},
	{x509.KeyUsageEncipherOnly, "encipherOnly"},
	{x509.KeyUsageDecipherOnly, "decipherOnly"},
}

var extKeyUsages = map[x509.ExtKeyUsage]string{
	x509.ExtKeyUsageAny: "anyExtendedKeyUsage", x509.ExtKeyUsageServerAuth: "serverAuth",
	x509.ExtKeyUsageClientAuth: "clientAuth", x509.ExtKeyUsageCodeSigning: "codeSigning",
	x509.ExtKeyUsageEmailProtection: "emailProtection", x509.ExtKeyUsageTimeStamping: "timeStamping",
	x509.ExtKeyUsageOCSPSigning: "OCSPSigning",
}

// usages lists key usage and extended key usage.
func usages(c *x509.Certificate) []string {
	names := []string{}
	for _, u := range keyUsages {
		if c.KeyUsage&u.bit != 0 {
			names = append(names, u.name)
		}
	}
	for _, u := range c.ExtKeyUsage {
		if n, ok := extKeyUsages[u]; ok {
			names = append(names, n)
		} else {
			names = append(names, fmt.Sprintf("purpose %d", u))
		}
	}
	for _, o := range c.UnknownExtKeyUsage {
		names = append(names, o.String())
	}
	return names
}

// altNames are a certificate's DNS names and addresses.
func altNames(c *x509.Certificate) []string {
	names := append([]string{}, c.DNSNames...)
	for _, ip := range c.IPAddresses {
		names = append(names, ip.String())
	}
	return names
}

// issuedTo is the short name of a subject.
func issuedTo(c *x509.Certificate) string {
	if c.Subject.CommonName != "" {
		return printable(c.Subject.CommonName)
	}
	return distinguished(c.RawSubject)
}

// issuedBy is the short name of an issuer.
func issuedBy(c *x509.Certificate) string {
	if c.Issuer.CommonName != "" {
		return printable(c.Issuer.CommonName)
	}
	return distinguished(c.RawIssuer)
}
