package chain

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"math/big"
	"slices"
	"testing"

	"github.com/onlineca/onlineca/internal/interop"
)

// serialed gives a certificate an authority key identifier that is the issuer's
// serial number, as `authorityKeyIdentifier = issuer:always` of OpenSSL does.
func serialed(tb testing.TB, serial *big.Int, issuer []byte) func(*x509.Certificate) {
	tb.Helper()
	var id authorityKeyID
	id.Serial = serial
	if issuer != nil {
		name, err := asn1.Marshal(asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: 4, IsCompound: true, Bytes: issuer})
		if err != nil {
			tb.Fatal(err)
		}
		id.Issuer = asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: 1, IsCompound: true, Bytes: name}
	}
	value, err := asn1.Marshal(id)
	if err != nil {
		tb.Fatal(err)
	}
	return func(c *x509.Certificate) {
		c.ExtraExtensions = append(c.ExtraExtensions, pkix.Extension{Id: oidAuthorityKeyID, Value: value})
	}
}

// named gives a certificate a subject of one common name in some kind of string.
func named(tag int, text []byte) func(*x509.Certificate) {
	return func(c *x509.Certificate) {
		c.Subject = pkix.Name{}
		c.RawSubject, _ = asn1.Marshal([]rawPartSET{{{Type: asn1.ObjectIdentifier{2, 5, 4, 3}, Value: asn1.RawValue{Tag: tag, Bytes: text}}}})
	}
}

// renamed is a CA as its children name it, which is not how it names itself.
func renamed(a *authority, change func(*x509.Certificate)) *authority {
	c := *a.cert
	change(&c)
	return &authority{&c, a.key}
}

// TestOpenSSLCorners asks openssl about single points of how it builds a path
// that generated chains do not have. The order of certificates is that of the
// slices.
func TestOpenSSLCorners(t *testing.T) {
	interop.Need(t, "openssl")
	noIDs := func(a *authority) *authority {
		return renamed(a, func(c *x509.Certificate) { c.SubjectKeyId = nil })
	}
	root := issue(t, nil, "Root", asCA)
	inter := issue(t, root, "Inter", asCA)
	leaf := issue(t, inter, "leaf")
	other := issue(t, nil, "Other", asCA)
	cross := issueKey(t, other, inter.key, "Inter", asCA)
	oldRoot := issueKey(t, nil, root.key, "Root", asCA, expired)
	interOld := issueKey(t, root, inter.key, "Inter", asCA, expired)
	namesake := issue(t, root, "Inter", asCA)
	noBasic := issue(t, nil, "No basic", func(c *x509.Certificate) {
		c.BasicConstraintsValid, c.KeyUsage = false, x509.KeyUsageCertSign
	})
	neither := issue(t, nil, "Neither", func(c *x509.Certificate) { c.BasicConstraintsValid = false })
	printable := issue(t, nil, "x", asCA, named(asn1.TagPrintableString, []byte("Root CA")))
	spelled := func(tag int, text string) *authority {
		return issue(t, renamed(printable, named(tag, []byte(text))), "leaf")
	}
	for _, c := range []struct {
		name          string
		leaf          *authority
		sent, trusted []*authority
		want          bool
	}{
		{"plain", leaf, certsAs(inter), certsAs(root), true},
		{"store before what was sent", leaf, certsAs(inter), certsAs(cross, root), false},
		{"store complete", leaf, certsAs(cross), certsAs(inter, root), true},
		{"the first that was sent, good", leaf, certsAs(inter, cross), certsAs(root), true},
		{"the first that was sent, bad", leaf, certsAs(cross, inter), certsAs(root), false},
		{"both roots", leaf, certsAs(cross, inter), certsAs(root, other), true},
		{"the valid one before the expired", leaf, certsAs(interOld, inter), certsAs(root), true},
		{"the valid one in the store", leaf, nil, certsAs(interOld, inter, root), true},
		{"the valid root of two", leaf, certsAs(inter), certsAs(oldRoot, root), true},
		{"an expired root sent along", leaf, certsAs(inter, oldRoot), certsAs(root), true},
		{"only the renewed root is trusted", leaf, certsAs(inter, root), certsAs(oldRoot), false},
		{"key identifiers tell namesakes apart", leaf, certsAs(namesake, inter), certsAs(root), true},
		{"without them the first is taken", issue(t, noIDs(inter), "leaf"), certsAs(namesake, inter), certsAs(root), false},
		{"and here it is the right one", issue(t, noIDs(inter), "leaf"), certsAs(inter, namesake), certsAs(root), true},
		{"serial number in the key identifier", issue(t, inter, "leaf", serialed(t, inter.cert.SerialNumber, root.cert.RawSubject)), certsAs(inter), certsAs(root), true},
		{"another serial number", issue(t, inter, "leaf", serialed(t, big.NewInt(1<<40), nil)), certsAs(inter), certsAs(root), false},
		{"another issuer in the key identifier", issue(t, inter, "leaf", serialed(t, inter.cert.SerialNumber, other.cert.RawSubject)), certsAs(inter), certsAs(root), false},
		{"root with key usage and no basic constraints", issue(t, noBasic, "leaf"), nil, certsAs(noBasic), true},
		{"root with neither", issue(t, neither, "leaf"), nil, certsAs(neither), false},
		{"name in UTF-8", spelled(asn1.TagUTF8String, "Root CA"), nil, certsAs(printable), true},
		{"name in capitals", spelled(asn1.TagPrintableString, "ROOT ca"), nil, certsAs(printable), true},
		{"name with more spaces", spelled(asn1.TagPrintableString, " Root   CA "), nil, certsAs(printable), true},
		{"name in UTF-16", spelled(asn1.TagBMPString, "\x00R\x00o\x00o\x00t\x00 \x00C\x00A"), nil, certsAs(printable), true},
		{"name in T.61", spelled(asn1.TagT61String, "Root CA"), nil, certsAs(printable), true},
		{"another name", spelled(asn1.TagUTF8String, "RootCA"), nil, certsAs(printable), false},
		{"self-signed, trusted", issue(t, nil, "self"), nil, nil, false},
		{"intermediate as the only anchor", leaf, nil, certsAs(inter), false},
		{"an issuer without keyCertSign is taken all the same", leaf, certsAs(issueKey(t, root, inter.key, "Inter", asCA, usage(x509.KeyUsageCRLSign)), inter), certsAs(root), false},
	} {
		t.Run(c.name, func(t *testing.T) {
			g := &generated{number: 1, leaf: c.leaf.cert, untrust: certsOf(c.sent...), trusted: certsOf(c.trusted...)}
			if g.trusted == nil {
				g.trusted = certsOf(other)
			}
			accepted, output := openssl(t, []*generated{g})
			taken := g.taken()
			if accepted[1] != c.want || taken.valid() != c.want {
				t.Errorf("openssl %v, ours %v %+v, want %v\n%s", accepted[1], taken.valid(), taken.problems, c.want, output)
			}
			// There is a path, whichever OpenSSL takes, if it takes one.
			if c.want && !g.best().valid() {
				t.Errorf("no path: %+v", g.best().problems)
			}
		})
	}
	// Names that are one name to RFC 5280 are one to the search for any path.
	for _, spelling := range []string{"ROOT CA", "root  ca"} {
		g := &generated{leaf: spelled(asn1.TagUTF8String, spelling).cert, trusted: certsOf(printable)}
		if !g.ours().valid() {
			t.Errorf("%q: %+v", spelling, g.ours().problems)
		}
	}
}

// TestSeveralRemedies needs two certificates taken away, one after the other.
func TestSeveralRemedies(t *testing.T) {
	root := issue(t, nil, "Root", asCA)
	high := issue(t, root, "High", asCA)
	low := issue(t, high, "Low", asCA)
	leaf := issue(t, low, "leaf")
	other := issue(t, nil, "Other", asCA)
	crossHigh, crossLow := issueKey(t, other, high.key, "High", asCA), issueKey(t, other, low.key, "Low", asCA)
	g := &generated{leaf: leaf.cert, untrust: certsOf(crossLow, low, crossHigh, high), trusted: certsOf(root)}
	var away []*x509.Certificate
	j := judge{at: now, proofs: newProofs()}
	for _, r := range j.remedies(g.best(), g.untrust, g.store()) {
		if r.add || r.again {
			t.Errorf("%+v", r)
		}
		away = append(away, r.cert)
	}
	if !slices.Equal(away, certsOf(crossLow, crossHigh)) {
		t.Errorf("%d certificates", len(away))
	}
}
