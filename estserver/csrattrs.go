package estserver

import (
	"encoding/asn1"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/globalsign/est"
)

// oidChallengePassword tells clients to prove possession (RFC 7030 section 4.5.2).
var oidChallengePassword = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 7}

// attrNames are the attributes that can be asked for by name.
var attrNames = map[string]asn1.ObjectIdentifier{
	"challengePassword":       oidChallengePassword,
	"sha256WithRSAEncryption": {1, 2, 840, 113549, 1, 1, 11},
	"sha384WithRSAEncryption": {1, 2, 840, 113549, 1, 1, 12},
	"ecdsa-with-SHA256":       {1, 2, 840, 10045, 4, 3, 2},
	"ecdsa-with-SHA384":       {1, 2, 840, 10045, 4, 3, 3},
	"serialNumber":            {2, 5, 4, 5},
	"macAddress":              {1, 3, 6, 1, 1, 1, 1, 22},
}

var (
	oidRSA       = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 1}
	oidEC        = asn1.ObjectIdentifier{1, 2, 840, 10045, 2, 1}
	oidExtReq    = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 14}
	curveOIDs    = map[string]asn1.ObjectIdentifier{"p256": {1, 2, 840, 10045, 3, 1, 7}, "p384": {1, 3, 132, 0, 34}, "p521": {1, 3, 132, 0, 35}}
	extensionOID = map[string]asn1.ObjectIdentifier{
		"subjectAltName": {2, 5, 29, 17}, "keyUsage": {2, 5, 29, 15}, "extKeyUsage": {2, 5, 29, 37},
	}
)

// ParseCSRAttrs makes the answer to /csrattrs (RFC 7030 section 4.5.2) from
// words: "rsa2048" and "p256" ask for such a key; "subjectAltName", "keyUsage"
// and "extKeyUsage" for such an extension; "challengePassword", "macAddress",
// "serialNumber", "sha256WithRSAEncryption", "ecdsa-with-SHA256" and OIDs in
// dotted form for themselves.
func ParseCSRAttrs(words []string) (est.CSRAttrs, error) {
	var attrs est.CSRAttrs
	var extensions est.AttributeValueSET
	for _, w := range words {
		switch oid, named := attrNames[w]; {
		case named:
			attrs.OIDs = append(attrs.OIDs, oid)
		case curveOIDs[w] != nil:
			attrs.Attributes = append(attrs.Attributes, est.Attribute{Type: oidEC, Values: est.AttributeValueSET{curveOIDs[w]}})
		case extensionOID[w] != nil:
			extensions = append(extensions, extensionOID[w])
		default:
			if bits, err := strconv.Atoi(strings.TrimPrefix(w, "rsa")); err == nil && strings.HasPrefix(w, "rsa") {
				attrs.Attributes = append(attrs.Attributes, est.Attribute{Type: oidRSA, Values: est.AttributeValueSET{bits}})
				continue
			}
			oid, err := parseOID(w)
			if err != nil {
				return est.CSRAttrs{}, err
			}
			attrs.OIDs = append(attrs.OIDs, oid)
		}
	}
	if len(extensions) > 0 {
		attrs.Attributes = append(attrs.Attributes, est.Attribute{Type: oidExtReq, Values: extensions})
	}
	return attrs, nil
}

func parseOID(s string) (asn1.ObjectIdentifier, error) {
	parts := strings.Split(s, ".")
	oid := make(asn1.ObjectIdentifier, len(parts))
	for i, p := range parts {
		n, err := strconv.ParseUint(p, 10, 31)
		if err != nil || len(parts) < 2 {
			return nil, fmt.Errorf("csrattrs: %q is neither a known name nor an OID", s)
		}
		oid[i] = int(n)
	}
	if _, err := asn1.Marshal(oid); err != nil {
		return nil, fmt.Errorf("csrattrs: %q is no OID: %w", s, err)
	}
	return oid, nil
}

// withChallengePassword adds the attribute by which a server that needs proof
// of possession must say so (RFC 8951 section 3.2).
func withChallengePassword(attrs est.CSRAttrs) est.CSRAttrs {
	if !slices.ContainsFunc(attrs.OIDs, oidChallengePassword.Equal) {
		attrs.OIDs = append(slices.Clone(attrs.OIDs), oidChallengePassword)
	}
	return attrs
}
