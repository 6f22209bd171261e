package chain

import (
	"crypto/x509"
	"fmt"
	"slices"
)

// The messages of Expressway X14 (Cisco: Troubleshoot Expressway Certificates).
const (
	notPEMText       = "Invalid certificate: The file provided is not a valid X.509 PEM certificate file."
	unrecognizedText = "Invalid certificate: Unrecognized CA. This certificate is not currently trusted by the Expressway. This is because the CA certificate is not in the trust store."
	negotiationText  = "TLS negotiation error"
	tunnelsText      = "No SSH tunnels have been established"

	trustedCAMenu = "Maintenance > Security > Trusted CA certificate"
)

func expresswayRules() []rule {
	return []rule{
		{"format", "X.509 in PEM", ruleExpresswayFormat},
		{"trusted-ca", "every CA of the chain in the trust store", ruleExpresswayTrust},
		{"chain", "each CA may issue what it has issued", ruleChainDefects},
		{"path", "the path that OpenSSL takes is the good one", ruleExpresswayPath},
		{"names", "bears the name it is called by", ruleExpresswayNames},
		{"validity", "within validity", ruleValidity},
		{"common-name", "common name present", ruleCommonNameWarning},
	}
}

func ruleExpresswayFormat(s *subject) ([]Finding, string) {
	if s.Files[0].Format == FormatTLS {
		return nil, "the certificate comes from a TLS server, not from a file"
	}
	var out []Finding
	for _, in := range s.Files {
		f := Finding{Level: Error, Text: notPEMText, Basis: Documented}
		switch {
		case in.Err != nil:
			f.Detail = fmt.Sprintf("%s (%s): %s", Printable(in.Name), in.Format, Printable(in.Err.Error()))
			f.Fix = "Export it again as Base-64 encoded X.509 (.CER); if it does not open, ask the CA for it again."
		case in.Format != FormatPEM:
			f.Detail = fmt.Sprintf("%s: this is %s; Expressway wants PEM. The file's extension does not matter.", Printable(in.Name), in.Format)
			f.Fix, f.Command = "Save it as PEM.", s.convertCommand(in)
		default:
			continue
		}
		out = append(out, f)
	}
	return out, ""
}

// giveLess is what helps where a limit ends the search for a path.
const giveLess = "Give the certificates of this one chain only, from the certificate to its root."

func ruleExpresswayTrust(s *subject) ([]Finding, string) {
	return notTrusted(s, func() Finding { return Finding{Level: Error, Text: unrecognizedText, Basis: Documented} },
		"Upload the certificate of the CA %q under "+trustedCAMenu+", then the server certificate.")
}

// untrusted are the troubles by which a chain does not lead to a trust store.
var untrusted = []trouble{troubleNoIssuer, troubleUntrusted, troubleNotInStore, troubleSignature, troubleLoop, troubleWeakUnproven, troubleGaveUp}

// notTrusted makes one finding for each CA that the trust store lacks. The fix
// has a place for the CA's name.
func notTrusted(s *subject, text func() Finding, fix string) ([]Finding, string) {
	p := s.files.path
	if p == nil {
		return nil, noCertificate
	}
	return lacking(s, p, text, fix), ""
}

func lacking(s *subject, p *path, text func() Finding, fix string) []Finding {
	var out []Finding
	named := map[string]bool{}
	for _, t := range p.problems {
		if !slices.Contains(untrusted, t.kind) {
			continue
		}
		f := text()
		f.Certificate = s.info(t.cert)
		f.Detail = t.detail
		ca := IssuedTo(t.cert)
		if t.kind == troubleNoIssuer || t.kind == troubleSignature || t.kind == troubleLoop {
			ca = IssuedBy(t.cert)
		}
		if named[ca] {
			continue // a root that ends the path, and is not in the store
		}
		named[ca] = true
		f.Fix = fmt.Sprintf(fix, ca)
		if t.kind == troubleGaveUp {
			f.Basis, f.Fix = Inferred, giveLess
		}
		out = append(out, f)
	}
	return out
}

// chainTroubles are the defects of CAs that no vendor's document speaks of.
var chainTroubles = []trouble{troubleNotCA, troubleKeyUsage, troublePathLength, troubleName, troubleCritical}

func ruleChainDefects(s *subject) ([]Finding, string) {
	if s.files.path == nil {
		return nil, noCertificate
	}
	var out []Finding
	for _, t := range s.files.path.problems {
		if slices.Contains(chainTroubles, t.kind) {
			out = append(out, Finding{Level: Error, Basis: Inferred, Certificate: s.info(t.cert), Detail: t.detail,
				Fix: "Use a certificate of a CA that may issue it."})
		}
	}
	if s.files.ways == nil {
		out = append(out, s.secondWay(s.files.path)...)
	}
	return out, ""
}

// secondWay warns of a cross-signed chain of which one way is broken. Which one
// OpenSSL takes is known (pathRule) for the order in which certificates were
// given; the appliance's may be another one, OpenSSL before 1.1.0 looked at what
// was sent first, and of other verifiers it is not known.
func (s *subject) secondWay(p *path) []Finding {
	if !p.valid() || p.rival == nil {
		return nil
	}
	return []Finding{{Level: Warning, Basis: Inferred, Certificate: s.info(p.rival.cert),
		Detail: "there is a second way up the chain, and it is broken: " + p.rival.detail + ". A verifier that takes it does not try the other",
		Fix:    "Take the certificates of the broken way out of the file and the trust store, or mend it."}}
}

func ruleExpresswayPath(s *subject) ([]Finding, string) {
	if s.files.path == nil {
		return nil, noCertificate
	}
	return s.pathRule(s.files.ways, func(t trouble) Finding {
		if slices.Contains(untrusted, t) {
			return Finding{Text: unrecognizedText}
		}
		return Finding{}
	})
}

func ruleExpresswayNames(s *subject) ([]Finding, string) {
	leaf := s.files.leaf
	wanted := slices.Clone(s.PeerAddress)
	if s.VerifyName != "" {
		wanted = append(wanted, s.VerifyName)
	}
	switch {
	case leaf == nil:
		return nil, noCertificate
	case len(wanted) == 0:
		return nil, "no --verify-name given"
	}
	var out []Finding
	for _, name := range wanted {
		if !hasName(allNames(leaf), name) {
			out = append(out, Finding{Level: Error, Basis: Inferred, Certificate: s.info(leaf),
				Detail: fmt.Sprintf("the certificate is for %s, and not for %q", Printable(listNames(allNames(leaf))), name),
				Fix:    fmt.Sprintf("Have it issued again with %q among the subject alternative names.", name)})
		}
	}
	return out, ""
}

func ruleValidity(s *subject) ([]Finding, string) {
	if s.files.path == nil {
		return nil, noCertificate
	}
	return outOfValidity(s, s.files.path, func() Finding { return Finding{Level: Error, Basis: Inferred} }), ""
}

func outOfValidity(s *subject, p *path, text func() Finding) []Finding {
	var out []Finding
	for _, t := range p.problems {
		if t.kind == troubleExpired || t.kind == troubleNotYet {
			f := text()
			f.Certificate = s.info(t.cert)
			f.Detail = t.detail
			f.Fix = "Renew the certificate, or correct the clock (NTP)."
			out = append(out, f)
		}
	}
	return out
}

func ruleCommonNameWarning(s *subject) ([]Finding, string) {
	leaf := s.files.leaf
	if leaf == nil {
		return nil, noCertificate
	}
	if leaf.Subject.CommonName != "" {
		return nil, ""
	}
	return []Finding{{Level: Warning, Basis: Inferred, Certificate: s.info(leaf),
		Detail: "the certificate's subject has no common name (CN)",
		Fix:    "Generate the CSR with the Expressway's FQDN as common name."}}, ""
}

// mraRules: since X14 the Traffic Server verifies certificates, so that Unified
// CM must trust the CAs of the Expressway-C.
func mraRules() []rule {
	return []rule{
		{"tomcat-trust", "every CA of the Expressway-C in tomcat-trust", func(s *subject) ([]Finding, string) {
			return notTrusted(s, func() Finding { return Finding{Level: Error, Basis: Documented} },
				"Upload the certificate of the CA %q to Unified CM as tomcat-trust, and restart the services.")
		}},
		{"callmanager-trust", "every CA of the Expressway-C in callmanager-trust", ruleCallManagerTrust},
		{"chain", "each CA may issue what it has issued", ruleChainDefects},
		{"path", "the path that OpenSSL takes is the good one", ruleMRAPath},
		{"validity", "within validity", ruleValidity},
	}
}

// callManagerWay is how the CallManager service, unlike Tomcat, verifies.
func (s *subject) callManagerWay() way {
	return s.wayOf("the CallManager service", s.files.leaf, given(s.files.inputs), s.peerTrust, true, x509.ExtKeyUsageAny)
}

func ruleMRAPath(s *subject) ([]Finding, string) {
	return s.pathRule([]way{s.callManagerWay()}, func(trouble) Finding { return Finding{} })
}

func ruleCallManagerTrust(s *subject) ([]Finding, string) {
	return lacking(s, s.callManagerWay().best, func() Finding { return Finding{Level: Error, Basis: Documented} },
		"Upload the certificate of the CA %q to Unified CM as callmanager-trust, and restart the services."), ""
}

// jabberRules: the user's domain, or collab-edge in front of it, must be among
// the alternative names of the Expressway-E.
func jabberRules() []rule {
	return []rule{
		{"domain", "the domain, or collab-edge.<domain>, among the SANs", ruleJabberDomain},
		{"trusted-ca", "the chain leads to a CA that the client trusts", ruleJabberTrust},
		{"chain", "each CA may issue what it has issued", ruleChainDefects},
		{"validity", "within validity", ruleValidity},
	}
}

func ruleJabberDomain(s *subject) ([]Finding, string) {
	if s.files.leaf == nil {
		return nil, noCertificate
	}
	var out []Finding
	for _, leaf := range s.files.leaves {
		names := AltNames(leaf)
		edge := "collab-edge." + s.VerifyName
		if hasName(names, s.VerifyName) || hasName(names, edge) {
			continue
		}
		out = append(out, Finding{Level: Error, Basis: Documented, Certificate: s.info(leaf),
			Detail: fmt.Sprintf("neither %q nor %q is among the subject alternative names: %s; Jabber warns its user that the certificate is not valid", s.VerifyName, edge, Printable(listNames(names))),
			Fix:    fmt.Sprintf("Have the Expressway-E's certificate issued again with %q or %q among the subject alternative names.", s.VerifyName, edge)})
	}
	return out, ""
}

func ruleJabberTrust(s *subject) ([]Finding, string) {
	if len(s.trust.certs) == 0 {
		return nil, "no --trust given"
	}
	return notTrusted(s, func() Finding { return Finding{Level: Error, Basis: Documented} },
		"Add the certificate of the CA %q to the client's trusted certificates.")
}
