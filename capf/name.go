package capf

import (
	"crypto/x509/pkix"
	"encoding/asn1"
	"slices"
	"strings"
	"unicode"
)

var (
	commonName = asn1.ObjectIdentifier{2, 5, 4, 3}
	// domainComponent is the attribute DC (RFC 4519 section 2.4), of which the
	// names of most AD CS authorities have several.
	domainComponent = asn1.ObjectIdentifier{0, 9, 2342, 19200300, 100, 1, 25}
)

// distinguished is the name raw, in DER, for people: in the order of RFC 4514,
// the common name first, and printable. The String method of pkix.Name would
// write the attributes DC in hexadecimal.
func distinguished(raw []byte) string {
	var rdns pkix.RDNSequence
	if rest, err := asn1.Unmarshal(raw, &rdns); err != nil || len(rest) > 0 {
		return "(unreadable name)"
	}
	parts := make([]string, 0, len(rdns))
	for _, rdn := range slices.Backward(rdns) {
		if len(rdn) == 1 && rdn[0].Type.Equal(domainComponent) {
			// The value of a common name is escaped alike.
			cn := pkix.RDNSequence{{{Type: commonName, Value: rdn[0].Value}}}.String()
			parts = append(parts, "DC="+strings.TrimPrefix(cn, "CN="))
			continue
		}
		parts = append(parts, pkix.RDNSequence{rdn}.String())
	}
	return strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return unicode.ReplacementChar
	}, strings.Join(parts, ","))
}
