package chain

import (
	"crypto/x509"
	"fmt"
	"slices"
	"strings"
)

// traversalRules are the three causes that the document gives for "TLS
// negotiation error", validity, and the cause of missing SSH tunnels.
func traversalRules() []rule {
	return []rule{
		{"peer-address", "peer address among the Expressway-E's names", rulePeerAddress},
		{"verify-name", "TLS verify name among the Expressway-C's names", ruleTLSVerifyName},
		{"trust-c", "the Expressway-C trusts both chains", func(s *subject) ([]Finding, string) { return s.zoneTrust(expresswayC) }},
		{"trust-e", "the Expressway-E trusts both chains", func(s *subject) ([]Finding, string) { return s.zoneTrust(expresswayE) }},
		{"chain", "each CA may issue what it has issued", ruleZoneChain},
		{"path", "the path that OpenSSL takes is the good one", ruleZonePath},
		{"purpose", "C for a TLS client, E for a TLS server", ruleZonePurpose},
		{"validity", "within validity on both sides", ruleZoneValidity},
		{"ssh-tunnels", "every intermediate in every trust store", ruleTunnels},
	}
}

func negotiation(basis Basis) Finding {
	return Finding{Level: Error, Text: negotiationText, Basis: basis}
}

// rulePeerAddress: the Expressway-C calls the other side by the peer addresses
// of its zone. In a cluster each node has its own.
func rulePeerAddress(s *subject) ([]Finding, string) {
	switch {
	case len(s.PeerAddress) == 0:
		return nil, "no --peer-address given"
	case s.peer.leaf == nil:
		return nil, noCertificate
	}
	var out []Finding
	for _, address := range s.PeerAddress {
		if !slices.ContainsFunc(s.peer.leaves, func(c *x509.Certificate) bool { return hasName(allNames(c), address) }) {
			f := negotiation(Documented)
			f.Certificate = s.info(s.peer.leaf)
			f.Detail = fmt.Sprintf("the peer address %q of the Expressway-C's zone is none of the Expressway-E's names: %s", address, Printable(listNames(allNames(s.peer.leaf))))
			f.Fix = "Set the peer address to a name in the Expressway-E's certificate, or have that issued again with this name."
			out = append(out, f)
		}
	}
	return out, ""
}

// ruleTLSVerifyName: the name must be in the certificate of every node of the
// Expressway-C's cluster, so that it is best the cluster's name.
func ruleTLSVerifyName(s *subject) ([]Finding, string) {
	switch {
	case s.VerifyName == "":
		return nil, "no --verify-name given"
	case s.files.leaf == nil:
		return nil, noCertificate
	}
	var out []Finding
	for _, c := range s.files.leaves {
		if hasName(allNames(c), s.VerifyName) {
			continue
		}
		f := negotiation(Documented)
		f.Certificate = s.info(c)
		f.Detail = fmt.Sprintf("the TLS verify name %q of the Expressway-E's zone is none of the Expressway-C's names: %s", s.VerifyName, Printable(listNames(allNames(c))))
		f.Fix = "Set the TLS verify name to a name in the Expressway-C's certificate; for a cluster, to its FQDN, and have it in the certificate of every node."
		out = append(out, f)
	}
	return out, ""
}

// The parties of a zone.
const (
	expresswayC = "the Expressway-C"
	expresswayE = "the Expressway-E"
)

// zoneWays finds out what each side makes of the certificates of both. A node
// sends the certificates of its file or, where that has no CA's, those that its
// own trust store has for it.
func (s *subject) zoneWays() {
	for _, d := range []struct {
		*side
		store   *pool
		purpose x509.ExtKeyUsage
	}{{&s.files, s.trust, x509.ExtKeyUsageClientAuth}, {&s.peer, s.peerTrust, x509.ExtKeyUsageServerAuth}} {
		for _, leaf := range d.leaves {
			sent := given(d.inputs)
			if !slices.ContainsFunc(sent, func(c *x509.Certificate) bool { return c.IsCA }) {
				sent = append(sent, judge{at: s.At, proofs: s.proofs}.opensslPath(leaf, nil, d.store).certs[1:]...)
			}
			d.ways = append(d.ways, s.wayOf(expresswayC, leaf, sent, s.trust, false, d.purpose), s.wayOf(expresswayE, leaf, sent, s.peerTrust, false, d.purpose))
		}
		if len(d.ways) > 0 {
			d.path = d.ways[0].best
		}
	}
}

// zoneTrust applies one side's trust store to the certificates of both. A root
// is enough for the zone; intermediates are another rule's affair.
func (s *subject) zoneTrust(who string) ([]Finding, string) {
	var out []Finding
	seen := map[string]bool{}
	for _, w := range slices.Concat(s.files.ways, s.peer.ways) {
		if w.who != who {
			continue
		}
		found := lacking(s, w.best, func() Finding { return negotiation(Documented) },
			"Upload the certificate of the CA %q on "+who+" under "+trustedCAMenu+", with every other CA of the chain.")
		for _, f := range found {
			f.Detail = fmt.Sprintf("%s does not trust %q: %s", who, IssuedTo(w.best.certs[0]), f.Detail)
			if !seen[f.Fix] {
				seen[f.Fix] = true
				out = append(out, f)
			}
		}
	}
	return out, ""
}

// zoneProblems collects troubles of both sides' chains, each once.
func (s *subject) zoneProblems(kinds []trouble, fix string) []Finding {
	var out []Finding
	seen := map[string]bool{}
	for _, w := range slices.Concat(s.files.ways, s.peer.ways) {
		for _, t := range w.best.problems {
			key := string(t.kind) + string(t.cert.Raw)
			if !slices.Contains(kinds, t.kind) || seen[key] {
				continue
			}
			seen[key] = true
			f := negotiation(Inferred)
			f.Certificate, f.Detail, f.Fix = s.info(t.cert), t.detail, fix
			out = append(out, f)
		}
	}
	return out
}

func ruleZoneChain(s *subject) ([]Finding, string) {
	return s.zoneProblems(chainTroubles, "Use a certificate of a CA that may issue it."), ""
}

func ruleZonePath(s *subject) ([]Finding, string) {
	return s.pathRule(slices.Concat(s.files.ways, s.peer.ways), func(trouble) Finding { return negotiation(Inferred) })
}

// ruleZonePurpose: the Expressway-C connects to the Expressway-E, and each
// verifies the other's certificate.
func ruleZonePurpose(s *subject) ([]Finding, string) {
	return s.zoneProblems([]trouble{troublePurpose}, purposeFix), ""
}

func ruleZoneValidity(s *subject) ([]Finding, string) {
	return s.zoneProblems([]trouble{troubleExpired, troubleNotYet}, "Renew the certificate, or correct the clock (NTP)."), ""
}

// ruleTunnels: with the root alone the zone comes up, but the SSH tunnels do
// not, which is how a renewal under a new intermediate shows.
func ruleTunnels(s *subject) ([]Finding, string) {
	var out []Finding
	seen := map[string]bool{}
	for _, w := range slices.Concat(s.files.ways, s.peer.ways) {
		if !w.best.complete {
			continue // without the root the zone is down, which is said above
		}
		for _, c := range w.best.certs[1:] {
			if w.store.has(c) || seen[w.who+string(c.Raw)] {
				continue
			}
			seen[w.who+string(c.Raw)] = true
			out = append(out, Finding{Level: Error, Text: tunnelsText, Basis: Documented, Certificate: s.info(c),
				Detail: fmt.Sprintf("the intermediate %q is not in the trust store of %s", IssuedTo(c), w.who),
				Fix:    fmt.Sprintf("Upload the certificate of %q on %s under %s, and every other intermediate on all Expressways.", IssuedTo(c), w.who, trustedCAMenu)})
		}
	}
	return out, ""
}

// zoneStates is what the Expressway's status pages show.
func zoneStates(v *Verdict) []State {
	zone, tunnels := "active", "active"
	for _, f := range v.Findings() {
		switch {
		case f.Level != Error:
		case f.Text == tunnelsText:
			tunnels = "down (" + tunnelsText + ")"
		default:
			zone = "down (" + negotiationText + ")"
		}
	}
	if strings.HasPrefix(zone, "down") && tunnels == "active" {
		tunnels = "down, because the zone is"
	}
	return []State{{"traversal zone", zone}, {"SSH tunnels", tunnels}}
}
