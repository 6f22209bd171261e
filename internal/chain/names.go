package chain

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/x509"
	"fmt"
	"net"
	"slices"
	"strings"
)

// AltNames returns a certificate's DNS names and addresses.
func AltNames(c *x509.Certificate) []string {
	names := slices.Clone(c.DNSNames)
	for _, ip := range c.IPAddresses {
		names = append(names, ip.String())
	}
	return names
}

// allNames are the alternative names and the common name.
func allNames(c *x509.Certificate) []string {
	names := AltNames(c)
	if cn := c.Subject.CommonName; cn != "" && !slices.ContainsFunc(names, func(n string) bool { return sameName(n, cn) }) {
		names = append(names, cn)
	}
	return names
}

// sameName compares host names or addresses.
func sameName(a, b string) bool {
	if ia, ib := net.ParseIP(a), net.ParseIP(b); ia != nil && ib != nil {
		return ia.Equal(ib)
	}
	return strings.EqualFold(strings.TrimSuffix(a, "."), strings.TrimSuffix(b, "."))
}

// hasName says whether name is among names.
func hasName(names []string, name string) bool {
	return slices.ContainsFunc(names, func(n string) bool { return sameName(n, name) })
}

// hasNameWildcard is hasName, and a name may begin with "*.", which stands for
// one label (RFC 6125 section 6.4.3).
func hasNameWildcard(names []string, name string) bool {
	if hasName(names, name) {
		return true
	}
	_, above, ok := strings.Cut(name, ".")
	return ok && net.ParseIP(name) == nil && hasName(names, "*."+above)
}

// listNames shows names to a person; a certificate can hold thousands.
func listNames(names []string) string {
	if len(names) == 0 {
		return "no name"
	}
	const show = 8
	var quoted []string
	for i, n := range names {
		if i == show {
			quoted = append(quoted, fmt.Sprintf("and %d more", len(names)-show))
			break
		}
		quoted = append(quoted, fmt.Sprintf("%q", n))
	}
	return strings.Join(quoted, ", ")
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
	}
	return "unknown"
}

// hasEKU says whether the extended key usage lists a purpose.
func hasEKU(c *x509.Certificate, usage x509.ExtKeyUsage) bool {
	return slices.Contains(c.ExtKeyUsage, usage)
}

var ekuNames = map[x509.ExtKeyUsage]string{
	x509.ExtKeyUsageAny:        "anyExtendedKeyUsage",
	x509.ExtKeyUsageServerAuth: "serverAuth", x509.ExtKeyUsageClientAuth: "clientAuth",
	x509.ExtKeyUsageCodeSigning: "codeSigning", x509.ExtKeyUsageEmailProtection: "emailProtection",
	x509.ExtKeyUsageIPSECEndSystem: "ipsecEndSystem", x509.ExtKeyUsageIPSECTunnel: "ipsecTunnel",
	x509.ExtKeyUsageIPSECUser: "ipsecUser", x509.ExtKeyUsageTimeStamping: "timeStamping",
	x509.ExtKeyUsageOCSPSigning: "OCSPSigning",
}

// ParseEKU turns "clientAuth" or "serverAuth" into the purpose.
func ParseEKU(name string) (x509.ExtKeyUsage, error) {
	switch {
	case strings.EqualFold(name, "clientAuth"):
		return x509.ExtKeyUsageClientAuth, nil
	case strings.EqualFold(name, "serverAuth"):
		return x509.ExtKeyUsageServerAuth, nil
	}
	return 0, fmt.Errorf("check: %q is no extended key usage that can be asked for; use clientAuth or serverAuth", name)
}

// Usages lists a certificate's key usages and extended key usages by the names
// of RFC 5280, or by number.
func Usages(c *x509.Certificate) []string {
	return slices.Concat(keyUsages(c.KeyUsage), extKeyUsages(c))
}

// listEKU shows an extended key usage to a person.
func listEKU(c *x509.Certificate) string { return orNone(extKeyUsages(c)) }

// listKeyUsage shows a key usage to a person.
func listKeyUsage(u x509.KeyUsage) string { return orNone(keyUsages(u)) }

func orNone(names []string) string {
	if len(names) == 0 {
		return "none"
	}
	return strings.Join(names, ", ")
}

func extKeyUsages(c *x509.Certificate) []string {
	names := []string{}
	for _, u := range c.ExtKeyUsage {
		if n, ok := ekuNames[u]; ok {
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

// keyUsageBits are in the order of RFC 5280 section 4.2.1.3.
var keyUsageBits = []struct {
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

func keyUsages(u x509.KeyUsage) []string {
	names := []string{}
	for _, b := range keyUsageBits {
		if u&b.bit != 0 {
			names = append(names, b.name)
		}
	}
	return names
}
