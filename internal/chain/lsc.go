package chain

import (
	"crypto/x509"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/onlineca/onlineca/ra/fault"
)

// LSCOptions says what an LSC is to satisfy beside what every phone needs.
type LSCOptions struct {
	// Device is the name that the subject must contain, for example
	// SEP001122334455. Empty means any.
	Device string
	// EKU lists the extended key usages that the certificate must have. Empty
	// means that none are asked for.
	EKU []x509.ExtKeyUsage
	// Trust is the trust store (CAPF-trust, CallManager-trust). Nil means that
	// the chain must bring its own root; with no chain either, it is not asked
	// where the certificate comes from.
	Trust []*x509.Certificate
	// At is the time that the certificate must be valid at. Zero means that
	// the validity is not looked at.
	At time.Time
}

// CheckLSC says what would keep phones and Unified CM from accepting a
// Locally Significant Certificate, which must not be nil. The chain is the CA's: the issuing CA first,
// the root last. Both come from an issuing CA, and nothing is verified that a
// phone does not.
//
// The findings carry the codes fault.LSCKeyUsage, fault.CACNCAPF,
// fault.InvalidLSC and fault.CAPFTrustMissing. They are worth a report at
// issue: enrolment itself succeeds (Cisco: CAPF Online CA, restrictions).
func CheckLSC(leaf *x509.Certificate, chain []*x509.Certificate, o LSCOptions) []Finding {
	at := o.At
	if at.IsZero() {
		at = leaf.NotBefore
	}
	s := &subject{
		Options: &Options{Profile: CAPFLSC, VerifyName: o.Device, EKU: o.EKU, At: at},
		where:   map[string]place{},
		proofs:  newProofs(),
		trust:   newPool(o.Trust), peerTrust: newPool(),
		files: side{pool: newPool([]*x509.Certificate{leaf}, chain), leaf: leaf, leaves: []*x509.Certificate{leaf},
			inputs: []*Input{{Name: "the chain of the CA", Certs: slices.Concat([]*x509.Certificate{leaf}, chain)}}},
		peer: side{pool: newPool()},
	}
	s.findPaths(profile{name: CAPFLSC, openssl: unifiedCM})
	var out []Finding
	for _, r := range lscRules() {
		switch {
		case (r.id == "chain-complete" || r.id == "path") && len(chain) == 0 && o.Trust == nil, r.id == "validity" && o.At.IsZero():
			continue
		}
		out = append(out, s.apply(r).Findings...)
	}
	return out
}

// Err returns the finding as an occurrence of its fault, or nil for a finding
// that has none.
func (f Finding) Err() *fault.Fault {
	if f.Fault == fault.Unknown {
		return nil
	}
	return fault.Newf(f.Fault, "chain: check the certificate", "%s", f.Detail)
}

func lscRules() []rule {
	return []rule{
		{"key-usage", "digitalSignature and keyEncipherment", ruleLSCKeyUsage},
		{"eku", "the extended key usages asked for", ruleLSCEKU},
		{"device", "the subject names the device", ruleLSCDevice},
		{"issuer-name", "no CAPF- in an issuer's common name", ruleLSCIssuer},
		{"chain-complete", "the chain leads to a trusted root", ruleLSCChain},
		{"path", "the path that OpenSSL takes is the good one", ruleLSCPath},
		{"validity", "within validity", ruleLSCValidity},
	}
}

// faultFinding is a finding that is known by a code of ra/fault.
func faultFinding(code fault.Code, text string, c *CertInfo) Finding {
	return Finding{Level: Error, Code: code.String(), Fault: code, Text: text, Basis: Documented, Certificate: c, Fix: code.Row().Fix}
}

// invalidLSCText is CAPF's operation code 4, the device status 9.
const invalidLSCText = "CAPF_OP_FAIL_INVALID_LSC"

// ruleLSCKeyUsage has no text of CAPF's: the enrolment succeeds, and the secure
// registration fails later.
func ruleLSCKeyUsage(s *subject) ([]Finding, string) {
	leaf := s.files.leaf
	var lacks []string
	for _, need := range []x509.KeyUsage{x509.KeyUsageDigitalSignature, x509.KeyUsageKeyEncipherment} {
		if leaf.KeyUsage&need == 0 {
			lacks = append(lacks, listKeyUsage(need))
		}
	}
	if len(lacks) == 0 {
		return nil, ""
	}
	f := faultFinding(fault.LSCKeyUsage, "", s.info(leaf))
	f.Detail = fmt.Sprintf("the key usage lacks %s; it is: %s", strings.Join(lacks, " and "), listKeyUsage(leaf.KeyUsage))
	return []Finding{f}, ""
}

func ruleLSCEKU(s *subject) ([]Finding, string) {
	leaf := s.files.leaf
	listed := len(leaf.ExtKeyUsage)+len(leaf.UnknownExtKeyUsage) > 0
	var lacks []string
	for _, need := range s.EKU {
		if !hasEKU(leaf, need) {
			lacks = append(lacks, ekuNames[need])
		}
	}
	f := faultFinding(fault.LSCKeyUsage, "", s.info(leaf))
	f.Basis = Inferred
	switch {
	case len(lacks) > 0:
		f.Detail = fmt.Sprintf("the extended key usage lacks %s; it is: %s", strings.Join(lacks, " and "), listEKU(leaf))
	case listed && !hasEKU(leaf, x509.ExtKeyUsageClientAuth) && !hasEKU(leaf, x509.ExtKeyUsageAny):
		f.Level = Warning
		f.Detail = fmt.Sprintf("the extended key usage does not let the phone be a TLS client; it is: %s", listEKU(leaf))
	case len(s.EKU) == 0:
		return nil, "no --eku given"
	default:
		return nil, ""
	}
	f.Fix = "Add the missing usage to the template (Extensions, Application Policies), and enrol the phones again."
	return []Finding{f}, ""
}

func ruleLSCDevice(s *subject) ([]Finding, string) {
	leaf := s.files.leaf
	if s.VerifyName == "" {
		return nil, "no --verify-name given"
	}
	if strings.Contains(strings.ToUpper(leaf.Subject.CommonName), strings.ToUpper(s.VerifyName)) {
		return nil, ""
	}
	f := faultFinding(fault.InvalidLSC, invalidLSCText, s.info(leaf))
	f.Basis = Inferred
	f.Detail = fmt.Sprintf("the subject's common name is %q and does not contain the device's name %q", Printable(leaf.Subject.CommonName), s.VerifyName)
	f.Fix = "Have the template take the subject from the request (Supply in the request), and enrol the phone again."
	return []Finding{f}, ""
}

func ruleLSCIssuer(s *subject) ([]Finding, string) {
	var out []Finding
	named := map[string]bool{}
	for _, c := range s.files.path.certs {
		cn := c.Issuer.CommonName
		if !strings.Contains(cn, "CAPF-") || named[cn] {
			continue
		}
		named[cn] = true
		f := faultFinding(fault.CACNCAPF, "", s.info(c))
		f.Detail = fmt.Sprintf("the issuer of %q is called %q, with CAPF- in its common name", IssuedTo(c), Printable(cn))
		out = append(out, f)
	}
	return out, ""
}

func ruleLSCChain(s *subject) ([]Finding, string) {
	var out []Finding
	for _, t := range s.files.path.problems {
		if !slices.Contains(untrusted, t.kind) && !slices.Contains(chainTroubles, t.kind) {
			continue
		}
		f := faultFinding(fault.CAPFTrustMissing, invalidLSCText, s.info(t.cert))
		if slices.Contains(chainTroubles, t.kind) {
			f.Basis = Inferred
			f.Fix = "Use a certificate of a CA that may issue it."
		}
		f.Detail = t.detail
		out = append(out, f)
	}
	return out, ""
}

func ruleLSCPath(s *subject) ([]Finding, string) {
	return s.pathRule(s.files.ways, func(trouble) Finding {
		return faultFinding(fault.CAPFTrustMissing, invalidLSCText, nil)
	})
}

func ruleLSCValidity(s *subject) ([]Finding, string) {
	return outOfValidity(s, s.files.path, func() Finding {
		f := faultFinding(fault.InvalidLSC, invalidLSCText, nil)
		f.Basis = Inferred
		return f
	}), ""
}
