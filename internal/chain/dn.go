package chain

import (
	"crypto/x509/pkix"
	"encoding/asn1"
	"fmt"
	"strings"
)

// attributeNames are the short names of RFC 4514 section 3, and the ones that
// Windows uses beside them.
var attributeNames = map[string]string{
	"2.5.4.3": "CN", "2.5.4.4": "SN", "2.5.4.5": "serialNumber", "2.5.4.6": "C", "2.5.4.7": "L",
	"2.5.4.8": "ST", "2.5.4.9": "street", "2.5.4.10": "O", "2.5.4.11": "OU", "2.5.4.12": "title",
	"2.5.4.42": "GN", "0.9.2342.19200300.100.1.1": "UID", "0.9.2342.19200300.100.1.25": "DC",
	"1.2.840.113549.1.9.1": "E",
}

// distinguished is a name for people, in the order of RFC 4514 (the common name
// first, the way up last), printable, and never empty. The String method of
// pkix.Name writes the DC attributes of Active Directory as hexadecimal.
func distinguished(raw []byte) string {
	var rdns pkix.RDNSequence
	if rest, err := asn1.Unmarshal(raw, &rdns); err != nil || len(rest) > 0 {
		return "(unreadable name)"
	}
	if len(rdns) == 0 {
		return "(empty name)"
	}
	parts := make([]string, 0, len(rdns))
	for i := len(rdns) - 1; i >= 0; i-- {
		var values []string
		for _, a := range rdns[i] {
			name := a.Type.String()
			if short, ok := attributeNames[name]; ok {
				name = short
			}
			values = append(values, name+"="+escapeValue(fmt.Sprint(a.Value)))
		}
		parts = append(parts, strings.Join(values, "+"))
	}
	return printable(strings.Join(parts, ","))
}

var valueEscapes = strings.NewReplacer(`\`, `\\`, `,`, `\,`, `+`, `\+`, `"`, `\"`, `;`, `\;`, `<`, `\<`, `>`, `\>`)

func escapeValue(s string) string { return valueEscapes.Replace(s) }
