package chain

import (
	"bytes"
	"crypto/x509"
	"encoding/asn1"
	"fmt"
	"math/big"
	"slices"
	"strings"
)

// opensslBuilder builds the one path that OpenSSL builds, and judges that. Sources:
// openssl-verification-options(1), "Certification Path Building" and
// "Certification Path Validation", of OpenSSL 3.0, without the options that
// appliances do not set (partial chains, strict checks):
//
//   - The trust store is asked first. Once it has given an issuer, what the
//     other party sent is not looked at again.
//   - Of several issuers the first is taken that is valid at the time, or the one
//     that expired last. Another one is never tried.
//   - An issuer has the issuer's name, fits the key identifier (and serial number
//     and issuer in it) where both sides have one, and its key is of the kind that
//     the signature wants. Whether it has signed is seen at the end.
//   - The path ends at a self-signed certificate of the trust store.
type opensslBuilder struct {
	judge

	sent  *pool
	chain []*x509.Certificate
	// trusted counts the certificates of the chain that the trust store gave.
	trusted int
}

// opensslPath returns OpenSSL's path from leaf, for what a party sends, in its
// order, and a trust store. Of the judge, the time, the purpose and the proofs
// count; the signatures count against the limit of the check.
func (j judge) opensslPath(leaf *x509.Certificate, sent []*x509.Certificate, store *pool) *path {
	p := j.proofs
	b := &opensslBuilder{judge: judge{anchors: store, at: j.at, proofs: p, openssl: true, purpose: j.purpose},
		sent: p.pool(sent), chain: []*x509.Certificate{leaf}}
	out := &path{complete: b.build(), certs: b.chain}
	if !out.complete {
		out.problems = append(out.problems, b.end())
	}
	for i, c := range out.certs[1:] {
		child := out.certs[i]
		if p.exhausted() {
			out.problems = append(out.problems, problem{troubleGaveUp, child, "more signatures would have to be verified than are verified in one check"})
			break
		}
		if err := p.verify(child, c); err != nil {
			out.problems = append(out.problems, *badLink(child, c, err))
		}
	}
	out.problems = append(out.problems, b.defects(out.certs)...)
	return out
}

// build extends the chain until a self-signed certificate of the trust store
// ends it, or nothing does.
func (b *opensslBuilder) build() bool {
	for len(b.chain) <= maxPath+1 {
		tip := b.chain[len(b.chain)-1]
		if issuer := b.first(b.anchors.named(tip.RawIssuer), tip, false); issuer != nil {
			if selfSigned(tip) {
				// Another certificate of the root's name and key does not do.
				return bytes.Equal(issuer.Raw, tip.Raw)
			}
			b.chain = append(b.chain, issuer)
			b.trusted++
			if selfSigned(issuer) {
				return true
			}
			continue
		}
		if b.trusted > 0 || selfSigned(tip) {
			return false
		}
		issuer := b.first(b.sent.named(tip.RawIssuer), tip, true)
		if issuer == nil {
			return false
		}
		b.chain = append(b.chain, issuer)
	}
	return false
}

// first picks the issuer of c that OpenSSL takes; a fresh one is not in the chain.
func (b *opensslBuilder) first(candidates []*x509.Certificate, c *x509.Certificate, fresh bool) *x509.Certificate {
	var last *x509.Certificate
	for _, p := range candidates {
		if !likelyIssued(p, c) || fresh && slices.ContainsFunc(b.chain, func(q *x509.Certificate) bool { return bytes.Equal(p.Raw, q.Raw) }) {
			continue
		}
		if b.outside(p) == "" {
			return p
		}
		if last == nil || p.NotAfter.After(last.NotAfter) {
			last = p
		}
	}
	return last
}

// end says why the chain ends where it does.
func (b *opensslBuilder) end() problem {
	tip := b.chain[len(b.chain)-1]
	switch {
	case len(b.chain) > maxPath+1:
		return tooLong(tip)
	case selfSigned(tip):
		return problem{troubleUntrusted, tip, fmt.Sprintf("%q is self-signed and not in the trust store", IssuedTo(tip))}
	case b.trusted > 0:
		return problem{troubleNoIssuer, tip, fmt.Sprintf("the certificate of %q, which issued %q, is not in the trust store as %q is, and what was sent is not looked at any more", IssuedBy(tip), IssuedTo(tip), IssuedTo(tip))}
	}
	return problem{troubleNoIssuer, tip, fmt.Sprintf("the certificate of %q, which issued %q, is missing", IssuedBy(tip), IssuedTo(tip))}
}

// selfSigned says whether OpenSSL takes c for a root.
func selfSigned(c *x509.Certificate) bool { return likelyIssued(c, c) }

// likelyIssued says whether issuer could have issued c, by all that can be seen
// without verifying the signature.
func likelyIssued(issuer, c *x509.Certificate) bool {
	return sameDN(issuer.RawSubject, c.RawIssuer) && fitsKeyID(issuer, c) && fitsAlgorithm(issuer, c)
}

// authorityKeyID is RFC 5280 section 4.2.1.1.
type authorityKeyID struct {
	ID     []byte        `asn1:"optional,tag:0"`
	Issuer asn1.RawValue `asn1:"optional,tag:1"`
	Serial *big.Int      `asn1:"optional,tag:2"`
}

var oidAuthorityKeyID = asn1.ObjectIdentifier{2, 5, 29, 35}

// fitsKeyID compares the authority key identifier of c with what it says of its
// issuer, as far as both say something.
func fitsKeyID(issuer, c *x509.Certificate) bool {
	if len(c.AuthorityKeyId) > 0 && len(issuer.SubjectKeyId) > 0 && !bytes.Equal(c.AuthorityKeyId, issuer.SubjectKeyId) {
		return false
	}
	for _, e := range c.Extensions {
		var id authorityKeyID
		if !e.Id.Equal(oidAuthorityKeyID) {
			continue
		}
		if _, err := asn1.Unmarshal(e.Value, &id); err != nil {
			return true
		}
		if id.Serial != nil && id.Serial.Cmp(issuer.SerialNumber) != 0 {
			return false
		}
		if name := directoryName(id.Issuer.Bytes); name != nil && !sameDN(name, issuer.RawIssuer) {
			return false
		}
	}
	return true
}

// directoryName returns the first name of that kind, tag [4], among general
// names (RFC 5280 section 4.2.1.6), or nil.
func directoryName(names []byte) []byte {
	for len(names) > 0 {
		var v asn1.RawValue
		rest, err := asn1.Unmarshal(names, &v)
		if err != nil {
			return nil
		}
		if v.Class == asn1.ClassContextSpecific && v.Tag == 4 {
			return v.Bytes
		}
		names = rest
	}
	return nil
}

// fitsAlgorithm says whether the issuer's key is of the kind that the signature
// wants. Algorithms that are not known here are not held against it.
func fitsAlgorithm(issuer, c *x509.Certificate) bool {
	want := x509.UnknownPublicKeyAlgorithm
	switch name := c.SignatureAlgorithm.String(); {
	case strings.HasPrefix(name, "ECDSA"):
		want = x509.ECDSA
	case strings.Contains(name, "RSA"): // with PKCS#1 or PSS
		want = x509.RSA
	case strings.HasPrefix(name, "DSA"):
		want = x509.DSA
	case name == "Ed25519":
		want = x509.Ed25519
	}
	return want == x509.UnknownPublicKeyAlgorithm || want == issuer.PublicKeyAlgorithm
}

// unfit says why a certificate, or a CA above it, is not for a purpose (the same
// page, "Extended Key Usage" and "Key usage"), or returns "". An extended key
// usage that is there must name the purpose, in CAs as well; any does not do.
func unfit(c *x509.Certificate, purpose x509.ExtKeyUsage, leaf bool) string {
	party, usage := "server", x509.KeyUsageDigitalSignature|x509.KeyUsageKeyEncipherment|x509.KeyUsageKeyAgreement
	gated := false
	switch purpose {
	case x509.ExtKeyUsageServerAuth:
		gated = hasEKU(c, x509.ExtKeyUsageNetscapeServerGatedCrypto) || hasEKU(c, x509.ExtKeyUsageMicrosoftServerGatedCrypto)
	case x509.ExtKeyUsageClientAuth:
		party, usage = "client", x509.KeyUsageDigitalSignature|x509.KeyUsageKeyAgreement
	default:
		return ""
	}
	switch {
	case len(c.ExtKeyUsage)+len(c.UnknownExtKeyUsage) > 0 && !hasEKU(c, purpose) && !gated:
		return fmt.Sprintf("is not for a TLS %s: its extended key usage lacks %s; it is: %s", party, ekuNames[purpose], listEKU(c))
	case leaf && c.KeyUsage != 0 && c.KeyUsage&usage == 0:
		return fmt.Sprintf("is not for a TLS %s: its key usage is: %s", party, listKeyUsage(c.KeyUsage))
	}
	return ""
}

// subjectHosts are the DNS names to which OpenSSL applies name constraints: the
// common name counts where the certificate itself has no DNS name.
func subjectHosts(c *x509.Certificate, leaf bool) []string {
	if leaf && len(c.DNSNames) == 0 && looksLikeHost(c.Subject.CommonName) {
		return []string{c.Subject.CommonName}
	}
	return c.DNSNames
}

// looksLikeHost says whether a common name could be a host name: two labels or
// more, of letters, digits, underscores and, inside, hyphens.
func looksLikeHost(name string) bool {
	labels := strings.Split(name, ".")
	for _, label := range labels {
		if label == "" || strings.HasPrefix(label, "-") || strings.HasSuffix(label, "-") ||
			strings.ContainsFunc(label, func(r rune) bool {
				return r != '-' && r != '_' && (r < '0' || r > '9') && (r < 'a' || r > 'z') && (r < 'A' || r > 'Z')
			}) {
			return false
		}
	}
	return len(labels) > 1
}

// oidEmail is the mail address in a name (PKCS #9).
var oidEmail = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 1}

// subjectMails are the mail addresses in the subject.
func subjectMails(c *x509.Certificate) []string {
	var out []string
	for _, a := range c.Subject.Names {
		if mail, ok := a.Value.(string); ok && a.Type.Equal(oidEmail) {
			out = append(out, mail)
		}
	}
	return out
}
