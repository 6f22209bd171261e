package ra

import (
	"crypto/x509"
	"encoding/asn1"
	"net/netip"
	"slices"
	"strings"

	"github.com/onlineca/onlineca/ra/fault"
)

var oidSubjectAltName = asn1.ObjectIdentifier{2, 5, 29, 17}

// harmlessExtensions are those that a template overrides or that do no harm
// (RFC 5280 section 4.2.1; the last is sMIMECapabilities, which Windows adds).
var harmlessExtensions = []asn1.ObjectIdentifier{
	oidSubjectAltName,
	{2, 5, 29, 15}, // keyUsage
	{2, 5, 29, 37}, // extKeyUsage
	{2, 5, 29, 19}, // basicConstraints
	{2, 5, 29, 14}, // subjectKeyIdentifier
	{1, 2, 840, 113549, 1, 9, 15},
}

// altName is one alternative name. Text is empty for kinds that have none.
type altName struct{ kind, text string }

// generalNames are the kinds by their tag (RFC 5280 section 4.2.1.6).
var generalNames = [...]string{"other", "email", "dns", "x400", "dirname", "edi", "uri", "ip", "registered"}

// sanExtension returns the subject alternative names that a request asks for,
// of every kind; the standard library leaves out those it does not know, which
// are the ones that Windows logs users in by.
func sanExtension(csr *x509.CertificateRequest) []altName {
	var names []altName
	for _, e := range csr.Extensions {
		if !e.Id.Equal(oidSubjectAltName) {
			continue
		}
		var raw []asn1.RawValue
		if _, err := asn1.Unmarshal(e.Value, &raw); err != nil {
			return append(names, altName{kind: "unreadable"})
		}
		for _, v := range raw {
			names = append(names, generalName(v))
		}
	}
	return names
}

func generalName(v asn1.RawValue) altName {
	if v.Class != asn1.ClassContextSpecific || v.Tag >= len(generalNames) {
		return altName{kind: "unreadable"}
	}
	n := altName{kind: generalNames[v.Tag]}
	switch n.kind {
	case "email", "dns", "uri":
		n.text = string(v.Bytes)
	case "ip":
		if a, ok := netip.AddrFromSlice(v.Bytes); ok {
			n.text = a.String()
		}
	}
	return n
}

func (c *policy) checkSANs(r Request) *fault.Fault {
	for _, n := range sanExtension(r.CSR) {
		if !slices.Contains(c.sanTypes, n.kind) {
			return refuse(fault.RequestRefused, "san-types", "an alternative name of kind %s is not allowed", n.kind)
		}
		if c.sans != nil && !c.namesClient && !c.sans.MatchString(n.text) {
			return refuse(fault.RequestRefused, "san-names", "the alternative name %q does not match %s", n.text, c.sans)
		}
	}
	return nil
}

// checkClient refuses a request for somebody else than the client.
func (c *policy) checkClient(r Request) *fault.Fault {
	if !c.namesClient {
		return nil
	}
	cn, who := r.CSR.Subject.CommonName, r.Client.Name
	if who == "" || !strings.EqualFold(cn, who) {
		return refuse(fault.NotAuthorized, "subject-names-client", "the common name is %q, the client is %q", cn, who)
	}
	for _, n := range sanExtension(r.CSR) {
		own := n.text != "" && n.kind == "dns" &&
			(strings.EqualFold(n.text, who) || strings.HasPrefix(strings.ToLower(n.text), strings.ToLower(who)+"."))
		if !own && (c.sans == nil || !c.sans.MatchString(n.text)) {
			return refuse(fault.NotAuthorized, "subject-names-client", "the alternative name %q (%s) is not the client's, who is %q", n.text, n.kind, who)
		}
	}
	return nil
}

// checkExtensions refuses what could ask AD CS for more than the template
// gives.
func (c *policy) checkExtensions(r Request) *fault.Fault {
	for _, e := range r.CSR.Extensions {
		if !slices.ContainsFunc(c.extensions, e.Id.Equal) {
			return refuse(fault.RequestRefused, "extensions", "the request asks for the extension %v, which is not allowed", e.Id)
		}
	}
	attrs, err := csrAttributes(r.CSR)
	if err != nil {
		return fault.Of(err)
	}
	for _, a := range attrs {
		if a.Type.Equal(oidNameValuePair) {
			return refuse(fault.RequestRefused, "extensions", "the request carries enrolment attributes of its own (%v), which are not allowed", a.Type)
		}
	}
	return nil
}
