package chain

import (
	"bytes"
	"crypto/x509"
	"fmt"
	"slices"
	"strings"
)

// maxOMECertificates is the largest number of certificates in a chain.
const maxOMECertificates = 10

// omeUploadRules are in the order of the article's requirements; the common
// name, which the article lists among the errors only, comes with the leaf.
func omeUploadRules() []rule {
	return []rule{
		{"csr-dn", "no wildcard in the request's names", ruleCSRName},
		{"csr-key", "certificate made from this appliance's CSR", ruleCSRKey},
		{"encoding", "file in Base64 (PEM)", ruleOMEEncoding},
		{"common-name", "common name present, no wildcard", ruleOMEName},
		{"eku", "serverAuth and clientAuth", ruleOMEChainEKU},
		{"key-encipherment", "key usage keyEncipherment", ruleOMEChainKU},
		{"chain-complete", "every intermediate and the root present", ruleOMEComplete},
		{"chain-links", "each issued by the next, in order", ruleOMELinks},
		{"depth", "at most ten certificates", ruleOMEDepth},
		{"validity", "within validity (the migration asks for it)", ruleOMEValidity},
	}
}

// omeServerRules: the article names the CSR's key, the encoding, serverAuth and
// keyEncipherment for the single certificate.
func omeServerRules() []rule {
	return []rule{
		{"csr-dn", "no wildcard in the request's names", ruleCSRName},
		{"csr-key", "certificate made from this appliance's CSR", ruleCSRKey},
		{"encoding", "file in Base64 (PEM)", ruleOMEEncoding},
		{"common-name", "common name present, no wildcard", ruleOMEName},
		{"eku", "serverAuth", ruleOMEServerEKU},
		{"key-encipherment", "key usage keyEncipherment", ruleOMEServerKU},
		{"validity", "within validity", ruleOMEValidity},
	}
}

func ruleCSRName(s *subject) ([]Finding, string) {
	if s.CSR == nil {
		return nil, "no --csr given"
	}
	if !strings.Contains(Distinguished(s.CSR.RawSubject), "*") {
		return nil, ""
	}
	return []Finding{{Level: Error, Code: cgen6002, Text: cgen6002Text, Basis: Documented,
		Detail: fmt.Sprintf("the request is for %q, with a wildcard; the appliance refuses to generate it", Distinguished(s.CSR.RawSubject)),
		Fix:    "Generate the request with the appliance's own name, without *.",
	}}, ""
}

func ruleCSRKey(s *subject) ([]Finding, string) {
	leaf := s.files.leaf
	switch {
	case s.CSR == nil:
		return nil, "no --csr given"
	case leaf == nil:
		return nil, noCertificate
	case bytes.Equal(leaf.RawSubjectPublicKeyInfo, s.CSR.RawSubjectPublicKeyInfo):
		return nil, ""
	}
	f := s.general(argCSRKey)
	if s.Profile == OMEServer {
		f.Basis = Inferred
	}
	f.Certificate = s.info(leaf)
	f.Detail = fmt.Sprintf("the key of the certificate (%s) is not the key of the request for %q", keyName(leaf), Distinguished(s.CSR.RawSubject))
	f.Fix = "Have the CA issue from the CSR that this same appliance generated last; a new CSR makes the certificates of older ones useless."
	return []Finding{f}, ""
}

func ruleOMEEncoding(s *subject) ([]Finding, string) {
	var out []Finding
	for _, in := range s.Files {
		switch {
		case in.Err != nil:
			f := s.invalidFile()
			f.Detail = fmt.Sprintf("%s (%s): %v", Printable(in.Name), in.Format, Printable(in.Err.Error()))
			f.Fix = "Export the certificate again, Base-64 encoded X.509 (.CER)."
			out = append(out, f)
		case slices.Contains([]Format{FormatDER, FormatPKCS7DER, FormatPKCS12, FormatUTF16}, in.Format):
			f := s.invalidFile()
			f.Detail = fmt.Sprintf("%s: this is %s; OpenManage Enterprise wants Base64", Printable(in.Name), in.Format)
			f.Fix, f.Command = "Save it as Base64.", s.convertCommand(in)
			out = append(out, f)
		case in.Format == FormatPKCS7PEM || in.Format == FormatBase64:
			out = append(out, Finding{Level: Warning, Basis: Inferred,
				Detail: fmt.Sprintf("%s: this is %s, where the article speaks of certificates only", Printable(in.Name), in.Format),
				Fix:    "Save it as PEM.", Command: s.convertCommand(in)})
		}
	}
	if len(s.Files) > 1 {
		out = append(out, Finding{Level: Warning, Basis: Inferred,
			Detail: fmt.Sprintf("these are %d files; the web page takes one", len(s.Files)),
			Fix:    "Write them into one with --fix FILE."})
	}
	if s.Files[0].Format == FormatTLS {
		return nil, "the chain comes from a TLS server, not from a file"
	}
	return out, ""
}

// convertCommand turns a file into PEM.
func (s *subject) convertCommand(in *Input) string {
	name := "'" + strings.ReplaceAll(Printable(in.Name), "'", `'\''`) + "'"
	switch in.Format {
	case FormatDER:
		return "openssl x509 -inform DER -in " + name + " -out chain.pem"
	case FormatPKCS7DER:
		return "openssl pkcs7 -inform DER -print_certs -in " + name + " -out chain.pem"
	case FormatPKCS7PEM:
		return "openssl pkcs7 -print_certs -in " + name + " -out chain.pem"
	case FormatPKCS12:
		if in.legacy {
			return "openssl pkcs12 -legacy -nokeys -in " + name + " -out chain.pem"
		}
		return "openssl pkcs12 -nokeys -in " + name + " -out chain.pem"
	case FormatUTF16:
		return "iconv -f UTF-16 -t UTF-8 " + name + " > chain.pem"
	}
	return "onlineca check --for " + string(s.Profile) + " --fix chain.pem " + name
}

func ruleOMEName(s *subject) ([]Finding, string) {
	leaf := s.files.leaf
	if leaf == nil {
		return nil, noCertificate
	}
	var stars []string
	for _, n := range allNames(leaf) {
		if strings.Contains(n, "*") {
			stars = append(stars, Printable(n))
		}
	}
	f := s.general()
	f.Certificate = s.info(leaf)
	switch {
	case leaf.Subject.CommonName == "":
		f.Detail = "the certificate's subject has no common name (CN)"
		f.Fix = "Generate the CSR with a common name and have it issued with the subject from the request (template: Supply in the request)."
	case len(stars) > 0:
		f.Detail = fmt.Sprintf("wildcard certificates are not supported: %s", listNames(stars))
		f.Fix = "Request a certificate for the appliance's own name. At the generation of the CSR, the appliance refuses a wildcard with CGEN6002."
	default:
		return nil, ""
	}
	return []Finding{f}, ""
}

func ruleOMEChainEKU(s *subject) ([]Finding, string) {
	leaf := s.files.leaf
	if leaf == nil {
		return nil, noCertificate
	}
	if hasEKU(leaf, x509.ExtKeyUsageServerAuth) && hasEKU(leaf, x509.ExtKeyUsageClientAuth) {
		return nil, ""
	}
	f := s.general(argEKU)
	f.Certificate = s.info(leaf)
	f.Detail = fmt.Sprintf("the extended key usage is: %s", listEKU(leaf))
	f.Fix = "Use a template with Server Authentication and Client Authentication (Extensions, Application Policies)."
	return []Finding{f}, ""
}

func ruleOMEServerEKU(s *subject) ([]Finding, string) {
	leaf := s.files.leaf
	if leaf == nil {
		return nil, noCertificate
	}
	if hasEKU(leaf, x509.ExtKeyUsageServerAuth) {
		return nil, ""
	}
	f := s.general(argEKU)
	f.Basis = Inferred
	f.Certificate = s.info(leaf)
	f.Detail = fmt.Sprintf("the extended key usage is: %s", listEKU(leaf))
	f.Fix = "Use a template with Server Authentication (Extensions, Application Policies)."
	return []Finding{f}, ""
}

func ruleOMEChainKU(s *subject) ([]Finding, string) {
	return keyEncipherment(s, func() Finding { return s.general(argKU) })
}

func ruleOMEServerKU(s *subject) ([]Finding, string) {
	return keyEncipherment(s, s.invalidFile)
}

func keyEncipherment(s *subject, text func() Finding) ([]Finding, string) {
	leaf := s.files.leaf
	if leaf == nil {
		return nil, noCertificate
	}
	if leaf.KeyUsage&x509.KeyUsageKeyEncipherment != 0 {
		return nil, ""
	}
	f := text()
	f.Certificate = s.info(leaf)
	f.Detail = fmt.Sprintf("the key usage is: %s", listKeyUsage(leaf.KeyUsage))
	f.Fix = "Use a template with key encipherment (Request Handling: Signature and encryption; Extensions, Key Usage)."
	return []Finding{f}, ""
}
