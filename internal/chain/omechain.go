package chain

import (
	"bytes"
	"crypto/x509"
	"fmt"
)

func ruleOMEComplete(s *subject) ([]Finding, string) {
	p := s.files.path
	if p == nil {
		return nil, noCertificate
	}
	miss := p.find(troubleNoIssuer, troubleLoop)
	if p.complete || miss == nil {
		return nil, ""
	}
	f := s.general(argChain)
	f.Certificate = s.info(miss.cert)
	f.Detail = miss.detail
	f.Fix = fmt.Sprintf("Add the certificate of %q to the file, and those above it up to the root.", IssuedBy(miss.cert))
	if c := s.elsewhere(miss.cert); c != nil {
		f.Fix = fmt.Sprintf("Add the certificate of %q, which is in %s: --fix FILE does it.", IssuedTo(c), Printable(s.where[string(c.Raw)].source))
	}
	return []Finding{f}, ""
}

// elsewhere finds the issuer of c among what was given beside the file.
func (s *subject) elsewhere(c *x509.Certificate) *x509.Certificate {
	for _, p := range []*pool{s.trust, s.peerTrust, s.peer.pool} {
		for i, candidate := range p.named(c.RawIssuer) {
			if i < 10 && verifySignature(c, candidate) == nil {
				return candidate
			}
		}
	}
	return nil
}

// maxStrangers is how many certificates that do not belong are named.
const maxStrangers = 5

func ruleOMELinks(s *subject) ([]Finding, string) {
	p := s.files.path
	if p == nil {
		return nil, noCertificate
	}
	var out []Finding
	add := func(c *x509.Certificate, basis Basis, detail, fix string) {
		f := s.general(argChain)
		f.Basis, f.Certificate, f.Detail, f.Fix = basis, s.info(c), detail, fix
		out = append(out, f)
	}
	for _, t := range p.problems {
		switch t.kind {
		case troubleSignature:
			add(t.cert, Inferred, t.detail, fmt.Sprintf("Get the certificate of %q that issued it, and put it in place of the other.", IssuedBy(t.cert)))
		case troubleNotCA, troubleKeyUsage, troublePathLength, troubleName, troubleCritical, troubleWeakUnproven, troubleUntrusted:
			add(t.cert, Inferred, t.detail, "Use a certificate of a CA that may issue it.")
		case troubleGaveUp:
			add(t.cert, Inferred, t.detail, giveLess)
		}
	}
	if last := p.certs[len(p.certs)-1]; !p.complete {
		// Whether a CA's certificate belongs to the missing part is not known.
	} else if len(p.certs) == 1 {
		add(last, Inferred, fmt.Sprintf("%q is self-signed: no CA has issued it", IssuedTo(last)), "Have the appliance's CSR signed by a CA.")
	} else if verifySignature(last, last) != nil {
		add(last, Inferred, fmt.Sprintf("the root %q has not signed itself: the certificate is damaged", IssuedTo(last)), "Get the root certificate again.")
	}
	strangers := s.strangers(p)
	for i, c := range strangers {
		if i == maxStrangers {
			add(nil, Inferred, fmt.Sprintf("%d more certificates are in the file but not in the chain", len(strangers)-i), "Take them out of the file: --fix FILE does it.")
			break
		}
		add(c, Inferred, fmt.Sprintf("%q is in the file but not in the chain of %q", IssuedTo(c), IssuedTo(p.certs[0])), "Take it out of the file: --fix FILE does it.")
	}
	if c := outOfOrder(s.files.inputs, p.certs, newPool(strangers)); c != nil {
		add(c, Inferred, fmt.Sprintf("the certificates are not in order: %q does not follow the one that it issued", IssuedTo(c)), "Put the appliance's certificate first, then each one's issuer, the root last: --fix FILE does it.")
	}
	if c := repeated(s.files.inputs); c != nil {
		out = append(out, Finding{Level: Warning, Basis: Inferred, Certificate: s.info(c),
			Detail: fmt.Sprintf("%q is in the file more than once", IssuedTo(c)), Fix: "Keep one: --fix FILE does it."})
	}
	return append(out, s.secondWay(p)...), ""
}

// strangers are the certificates that have no business in the file. While the
// chain is incomplete, a CA's certificate may be of its missing part.
func (s *subject) strangers(p *path) []*x509.Certificate {
	onPath := newPool(p.certs)
	var out []*x509.Certificate
	for _, c := range s.files.pool.certs {
		if !onPath.has(c) && (p.complete || !c.IsCA) {
			out = append(out, c)
		}
	}
	return out
}

// given lists the certificates of inputs in their order.
func given(inputs []*Input) []*x509.Certificate {
	var all []*x509.Certificate
	for _, in := range inputs {
		all = append(all, in.Certs...)
	}
	return all
}

// outOfOrder returns the first certificate of a path that stands elsewhere than
// the path has it. Strangers do not count, and a repeated one counts once.
// PKCS#7 holds a set, which has no order.
func outOfOrder(inputs []*Input, certs []*x509.Certificate, strangers *pool) *x509.Certificate {
	for _, in := range inputs {
		if in.Format == FormatPKCS7DER || in.Format == FormatPKCS7PEM {
			return nil
		}
	}
	next := 0
	onPath := newPool(certs)
	for _, c := range newPool(given(inputs)).certs {
		switch {
		case strangers.has(c), next > 0 && !onPath.has(c):
		case next == len(certs) || !bytes.Equal(c.Raw, certs[next].Raw):
			return c
		default:
			next++
		}
	}
	return nil
}

// repeated returns the first certificate that was given twice.
func repeated(inputs []*Input) *x509.Certificate {
	seen := map[string]bool{}
	for _, c := range given(inputs) {
		if seen[string(c.Raw)] {
			return c
		}
		seen[string(c.Raw)] = true
	}
	return nil
}

func ruleOMEDepth(s *subject) ([]Finding, string) {
	p := s.files.path
	if p == nil {
		return nil, noCertificate
	}
	if len(p.certs) <= maxOMECertificates {
		return nil, ""
	}
	f := s.general(argChain)
	f.Basis = Inferred
	f.Certificate = s.info(p.certs[0])
	f.Detail = fmt.Sprintf("the chain has %d certificates; the appliance supports %d", len(p.certs), maxOMECertificates)
	f.Fix = "Use an issuing CA that is nearer to the root."
	return []Finding{f}, ""
}

// ruleOMEValidity only warns: the article has validity among the checks of the
// migration, not among those of the upload.
func ruleOMEValidity(s *subject) ([]Finding, string) {
	p := s.files.path
	if p == nil {
		return nil, noCertificate
	}
	var out []Finding
	for _, t := range p.problems {
		if t.kind == troubleExpired || t.kind == troubleNotYet {
			out = append(out, Finding{Level: Warning, Basis: Inferred, Certificate: s.info(t.cert), Detail: t.detail,
				Fix: "Renew the certificate, or correct the clock of the appliance; the connection of a migration fails otherwise."})
		}
	}
	return out, ""
}
