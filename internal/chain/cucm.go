package chain

import (
	"fmt"
	"net"
	"strings"

	"github.com/onlineca/onlineca/ra/fault"
)

// cesLogFile is what the registration authority of Unified CM writes at its
// start; the document calls it the CiscoRA log.
const cesLogFile = "nginx00000001.txt"

// cucmRules are in the order in which libcurl finds out: the chain first, then
// the validity, then the name.
func cucmRules() []rule {
	return []rule{
		{"self-signed", "a CA has issued the IIS certificate", ruleIISSelfSigned},
		{"capf-trust", "the root and every intermediate in CAPF-trust", ruleIISTrust},
		{"path", "the path that OpenSSL takes is the good one", ruleIISPath},
		{"purpose", "for a TLS server", ruleIISPurpose},
		{"validity", "within validity", ruleIISValidity},
		{"hostname", "bears the Online CA Hostname", ruleIISName},
	}
}

// ces is a finding with the lines of the CiscoRA log. A name mismatch is the
// one that the document shows without the fourth line.
func (s *subject) ces(code fault.Code, curlText string, c *CertInfo) Finding {
	row := code.Row()
	lines := []string{
		fmt.Sprintf("nginx: [warn] login_to_certsrv_ca: Curl call for MS CA login failed with return code %d (%s)", row.Curl, curlText),
		fmt.Sprintf("nginx: [warn] login_to_certsrv_ca: URL used: https://%s/certsrv", net.JoinHostPort(s.VerifyName, "443")),
		"nginx: [error] retrieve_cacerts: Unable to execute login to certsrv with curl",
	}
	if code != fault.NameMismatch {
		lines = append(lines, "nginx: [warn] ra_certsrv_ca_plugin_postconf: Unable to retrieve CA Cert chain from CA")
	}
	return Finding{Level: Error, Code: row.Name, Fault: code, Text: curlText, Basis: Documented, Certificate: c,
		Fix: row.Fix, Log: strings.Join(lines, "\n"), LogFile: cesLogFile}
}

func ruleIISSelfSigned(s *subject) ([]Finding, string) {
	leaf := s.files.leaf
	if !selfIssued(leaf) {
		return nil, ""
	}
	f := s.ces(fault.SelfSigned, fault.SelfSigned.Row().CurlText, s.info(leaf))
	f.Detail = fmt.Sprintf("issuer and subject of %q are the same; the product does not support it, even if it is in CAPF-trust", IssuedTo(leaf))
	return []Finding{f}, ""
}

func ruleIISTrust(s *subject) ([]Finding, string) {
	if selfIssued(s.files.leaf) {
		return nil, "the certificate is self-signed"
	}
	out := lacking(s, s.files.path, func() Finding {
		return s.ces(fault.UntrustedChain, fault.UntrustedChain.Row().CurlText, nil)
	}, "Upload the certificate of the CA %q as CAPF-trust, and restart the CAPF service.")
	for _, t := range s.files.path.problems {
		switch t.kind {
		case troubleNotCA, troubleKeyUsage, troublePathLength, troubleName, troubleCritical:
			f := s.ces(fault.UntrustedChain, fault.UntrustedChain.Row().CurlText, s.info(t.cert))
			f.Basis, f.Detail, f.Fix = Inferred, t.detail, "Use a certificate of a CA that may issue it."
			out = append(out, f)
		}
	}
	return out, ""
}

func ruleIISPath(s *subject) ([]Finding, string) {
	if selfIssued(s.files.leaf) {
		return nil, "the certificate is self-signed"
	}
	return s.pathRule(s.files.ways, func(t trouble) Finding {
		code := map[trouble]fault.Code{troubleExpired: fault.Expired, troubleNotYet: fault.NotYetValid}[t]
		if code == fault.Unknown {
			code = fault.UntrustedChain
		}
		return s.ces(code, code.Row().CurlText, nil)
	})
}

// purposeText is libcurl's, with OpenSSL before version 3.
const purposeText = "SSL certificate problem: unsupported certificate purpose"

const purposeFix = "Have it issued again with the usage that is missing (template: Extensions, Application Policies, Key Usage), or without an extended key usage."

func ruleIISPurpose(s *subject) ([]Finding, string) {
	var out []Finding
	for _, t := range s.files.path.problems {
		if t.kind == troublePurpose {
			f := s.ces(fault.UntrustedChain, purposeText, s.info(t.cert))
			f.Basis, f.Detail, f.Fix = Inferred, t.detail, purposeFix
			out = append(out, f)
		}
	}
	return out, ""
}

func ruleIISValidity(s *subject) ([]Finding, string) {
	var out []Finding
	for _, t := range s.files.path.problems {
		code, basis := fault.NotYetValid, Documented
		switch t.kind {
		case troubleNotYet:
		case troubleExpired:
			code, basis = fault.Expired, Inferred
		default:
			continue
		}
		f := s.ces(code, code.Row().CurlText, s.info(t.cert))
		f.Basis, f.Detail = basis, t.detail
		out = append(out, f)
	}
	return out, ""
}

// ruleIISName applies libcurl's rule: the alternative names count if there are
// any, and the common name only if there are none. The document asks for the
// common name.
func ruleIISName(s *subject) ([]Finding, string) {
	leaf, host := s.files.leaf, s.VerifyName
	cn := leaf.Subject.CommonName
	alt := AltNames(leaf)
	text := strings.NewReplacer("{subject}", Printable(cn), "{host}", host).Replace(fault.NameMismatch.Row().CurlText)
	basis := Documented
	matches := hasNameWildcard([]string{cn}, host)
	if len(alt) > 0 {
		matches = hasNameWildcard(alt, host)
		text = fmt.Sprintf("SSL: no alternative certificate subject name matches target host name '%s'", host)
		basis = Inferred
	}
	switch {
	case !matches:
		f := s.ces(fault.NameMismatch, text, s.info(leaf))
		f.Basis = basis
		f.Detail = fmt.Sprintf("the Online CA Hostname is %q, the certificate is for %s", host, Printable(listNames(allNames(leaf))))
		return []Finding{f}, ""
	case !hasNameWildcard([]string{cn}, host):
		return []Finding{{Level: Warning, Basis: Inferred, Certificate: s.info(leaf),
			Detail: fmt.Sprintf("the Online CA Hostname %q is an alternative name, but the common name is %q; the vendor asks for equal ones", host, Printable(cn)),
			Fix:    "Have the certificate issued again with the hostname as its common name."}}, ""
	}
	return nil, ""
}
