package chain

import (
	"bytes"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/binary"
	"fmt"
	"slices"
	"strings"
	"unicode/utf16"
)

// attributeNames are the short names of RFC 4514 section 3, and the ones that
// Windows uses beside them.
var attributeNames = map[string]string{
	"2.5.4.3": "CN", "2.5.4.4": "SN", "2.5.4.5": "serialNumber", "2.5.4.6": "C", "2.5.4.7": "L",
	"2.5.4.8": "ST", "2.5.4.9": "street", "2.5.4.10": "O", "2.5.4.11": "OU", "2.5.4.12": "title",
	"2.5.4.42": "GN", "0.9.2342.19200300.100.1.1": "UID", "0.9.2342.19200300.100.1.25": "DC",
	"1.2.840.113549.1.9.1": "E",
}

// Distinguished is a name for people, in the order of RFC 4514 (the common name
// first, the way up last), printable, and never empty. The String method of
// pkix.Name writes the DC attributes of Active Directory as hexadecimal.
func Distinguished(raw []byte) string {
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
	return Printable(strings.Join(parts, ","))
}

var valueEscapes = strings.NewReplacer(`\`, `\\`, `,`, `\,`, `+`, `\+`, `"`, `\"`, `;`, `\;`, `<`, `\<`, `>`, `\>`)

func escapeValue(s string) string { return valueEscapes.Replace(s) }

// sameDN says whether two names are the same name.
func sameDN(a, b []byte) bool { return bytes.Equal(a, b) || canonical(a) == canonical(b) }

// rawAttribute is an attribute of a name; a SET of them is a part of the name.
type (
	rawAttribute struct {
		Type  asn1.ObjectIdentifier
		Value asn1.RawValue
	}
	rawPartSET []rawAttribute
)

// canonical is a name in the form in which equal names are equal: upper and
// lower case, the kind of string, and the width of white space do not count
// (RFC 5280 section 7.1; of letters beyond ASCII the case counts, as in OpenSSL).
func canonical(raw []byte) string {
	var parts []rawPartSET
	if len(raw) > maxName {
		return string(raw)
	}
	if rest, err := asn1.Unmarshal(raw, &parts); err != nil || len(rest) > 0 {
		return string(raw)
	}
	var b strings.Builder
	for _, part := range parts {
		var values []string
		for _, a := range part {
			values = append(values, fmt.Sprintf("%s=%q", a.Type, canonicalValue(a.Value)))
		}
		slices.Sort(values)
		b.WriteString(strings.Join(values, "+") + "/")
	}
	return b.String()
}

// The kinds of string that encoding/asn1 has no name for (X.680 section 8.4).
const (
	tagVisibleString   = 26
	tagUniversalString = 28
)

// canonicalValue is the text of a string, and what is no string as it is.
func canonicalValue(v asn1.RawValue) string {
	var text string
	switch {
	case v.Class != asn1.ClassUniversal:
		return string(v.FullBytes)
	case slices.Contains([]int{asn1.TagUTF8String, asn1.TagPrintableString, asn1.TagIA5String, tagVisibleString}, v.Tag):
		text = string(v.Bytes)
	case v.Tag == asn1.TagT61String: // read as Latin-1
		for _, x := range v.Bytes {
			text += string(rune(x))
		}
	case v.Tag == asn1.TagBMPString && len(v.Bytes)%2 == 0:
		var units []uint16
		for b := v.Bytes; len(b) > 0; b = b[2:] {
			units = append(units, binary.BigEndian.Uint16(b))
		}
		text = string(utf16.Decode(units))
	case v.Tag == tagUniversalString && len(v.Bytes)%4 == 0:
		for b := v.Bytes; len(b) > 0; b = b[4:] {
			text += string(rune(binary.BigEndian.Uint32(b)))
		}
	default:
		return string(v.FullBytes)
	}
	return strings.Join(strings.FieldsFunc(strings.Map(lowerASCII, text), isASCIISpace), " ")
}

func isASCIISpace(r rune) bool { return r == ' ' || r >= '\t' && r <= '\r' }

func lowerASCII(r rune) rune {
	if r >= 'A' && r <= 'Z' {
		return r + 'a' - 'A'
	}
	return r
}
