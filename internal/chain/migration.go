package chain

import (
	"bytes"
	"crypto/x509"
	"fmt"
)

// migrationRules are the three things that the article says are checked when
// the connection of source and target is validated.
func migrationRules() []rule {
	return []rule{
		{"issued-to-issued-by", "the same CAs on both sides", ruleSameIssuers},
		{"trust", "each side's chain leads to the common root", ruleCommonRoot},
		{"validity", "within validity at the appliance's time", ruleMigrationValidity},
		{"depth", "at most ten certificates on each side", ruleMigrationDepth},
	}
}

func mutual(basis Basis) Finding {
	return Finding{Level: Error, Text: mutualText, Basis: basis}
}

// compare lays the two chains side by side. The first line is that of the
// appliances' own certificates, which are issued to different names.
func compare(source, target *path) []Pair {
	if source == nil || target == nil {
		return []Pair{}
	}
	pairs := make([]Pair, max(len(source.certs), len(target.certs)))
	for i := range pairs {
		p := &pairs[i]
		var a, b *x509.Certificate
		if i < len(source.certs) {
			a = source.certs[i]
			p.SourceTo, p.SourceBy = IssuedTo(a), IssuedBy(a)
		}
		if i < len(target.certs) {
			b = target.certs[i]
			p.TargetTo, p.TargetBy = IssuedTo(b), IssuedBy(b)
		}
		p.Match = a != nil && b != nil && sameDN(a.RawIssuer, b.RawIssuer) &&
			(i == 0 || sameDN(a.RawSubject, b.RawSubject))
	}
	return pairs
}

func ruleSameIssuers(s *subject) ([]Finding, string) {
	a, b := s.files.path, s.peer.path
	if a == nil || b == nil {
		return nil, noCertificate
	}
	for i, p := range compare(a, b) {
		if p.Match || p.SourceTo == "" && !a.complete || p.TargetTo == "" && !b.complete {
			continue // a chain that breaks off is another rule's affair
		}
		f := mutual(Documented)
		switch {
		case p.SourceTo == "":
			f.Certificate = s.info(b.certs[i])
			f.Detail = fmt.Sprintf("the target's chain goes on with %q where the source's has ended", p.TargetTo)
		case p.TargetTo == "":
			f.Certificate = s.info(a.certs[i])
			f.Detail = fmt.Sprintf("the source's chain goes on with %q where the target's has ended", p.SourceTo)
		case p.SourceBy != p.TargetBy:
			f.Certificate = s.info(a.certs[i])
			f.Detail = fmt.Sprintf("the source's %q is issued by %q, the target's %q by %q", p.SourceTo, p.SourceBy, p.TargetTo, p.TargetBy)
		default:
			f.Certificate = s.info(a.certs[i])
			f.Detail = fmt.Sprintf("the source has %q (issuer %s) where the target has %q (issuer %s)", p.SourceTo, Distinguished(a.certs[i].RawIssuer), p.TargetTo, Distinguished(b.certs[i].RawIssuer))
		}
		f.Fix = "Have both appliances' certificates issued by the same issuing CA, and upload both chains again."
		return []Finding{f}, ""
	}
	return nil, ""
}

// ruleCommonRoot finds what equal names hide: a chain that does not reach its
// root, and CAs that share a name but not a key.
func ruleCommonRoot(s *subject) ([]Finding, string) {
	a, b := s.files.path, s.peer.path
	if a == nil || b == nil {
		return nil, noCertificate
	}
	var out []Finding
	for _, side := range []struct {
		name string
		p    *path
	}{{"source", a}, {"target", b}} {
		for _, t := range side.p.problems {
			if t.kind == troubleExpired || t.kind == troubleNotYet {
				continue
			}
			f := mutual(Inferred)
			f.Certificate = s.info(t.cert)
			f.Detail = fmt.Sprintf("%s: %s", side.name, t.detail)
			f.Fix = "Upload the full chain on that appliance: its certificate, every intermediate and the root."
			out = append(out, f)
		}
	}
	out = append(out, append(s.secondWay(a), s.secondWay(b)...)...)
	if a.complete && b.complete && sameDN(a.last().RawSubject, b.last().RawSubject) &&
		!bytes.Equal(a.last().RawSubjectPublicKeyInfo, b.last().RawSubjectPublicKeyInfo) {
		f := mutual(Inferred)
		f.Certificate = s.info(b.last())
		f.Detail = fmt.Sprintf("both roots are called %q, but their keys differ: they are two CAs, or one that has been renewed with a new key", IssuedTo(b.last()))
		f.Fix = "Use the same root certificate on both sides."
		out = append(out, f)
	}
	return out, ""
}

func (p *path) last() *x509.Certificate { return p.certs[len(p.certs)-1] }

func ruleMigrationValidity(s *subject) ([]Finding, string) {
	if s.files.path == nil || s.peer.path == nil {
		return nil, noCertificate
	}
	var out []Finding
	seen := map[string]bool{}
	for _, p := range []*path{s.files.path, s.peer.path} {
		for _, t := range p.problems {
			if t.kind != troubleExpired && t.kind != troubleNotYet || seen[string(t.cert.Raw)] {
				continue
			}
			seen[string(t.cert.Raw)] = true
			f := mutual(Documented)
			f.Certificate = s.info(t.cert)
			f.Detail = t.detail
			f.Fix = "Correct the appliance's clock (NTP), or renew the certificate."
			out = append(out, f)
		}
	}
	return out, ""
}

func ruleMigrationDepth(s *subject) ([]Finding, string) {
	if s.files.path == nil || s.peer.path == nil {
		return nil, noCertificate
	}
	var out []Finding
	for i, p := range []*path{s.files.path, s.peer.path} {
		if len(p.certs) <= maxOMECertificates {
			continue
		}
		f := mutual(Documented)
		f.Certificate = s.info(p.certs[0])
		f.Detail = fmt.Sprintf("the %s's chain has %d certificates; the appliance supports %d", [...]string{"source", "target"}[i], len(p.certs), maxOMECertificates)
		f.Fix = "Use an issuing CA that is nearer to the root."
		out = append(out, f)
	}
	return out, ""
}
