package estserver

import (
	"bytes"

	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/onlineca/onlineca/ra/fault"
)

var (
	errNoTLSUnique = errors.New("this TLS connection has no tls-unique value")

	oidSubjectAltName = asn1.ObjectIdentifier{2, 5, 29, 17}
)

// checkIdentity compares a renewal with the certificate to be renewed: subject
// and alternative names must be the same (RFC 7030 section 4.2.2), but not
// their encoding, which a certificate authority may change, nor their order.
func (x *exchange) checkIdentity(csr *x509.CertificateRequest) error {
	cert, err := x.certificateToRenew()
	if cert == nil || err != nil {
		return err
	}
	differ := func(what string) error {
		return &fault.Fault{
			Code: fault.NotAuthorized, Op: "renew the certificate of " + nameOf(cert),
			Message: what + " in the request are not those of the certificate to be renewed",
		}
	}
	if !slices.Equal(subjectKeys(csr.RawSubject), subjectKeys(cert.RawSubject)) {
		return differ("the names of the subject")
	}
	want, have := altNameKeys(csr.Extensions), altNameKeys(cert.Extensions)
	if x.label.Reenroll.FewerNames {
		have = slices.DeleteFunc(have, func(n string) bool { return !slices.Contains(want, n) })
	}
	if !slices.Equal(want, have) {
		return differ("the alternative names")
	}
	return nil
}

// certificateToRenew is the one that the client presented, which must have been
// verified, or come from the authority that is to renew it. It is nil if the
// label lets clients renew without.
func (x *exchange) certificateToRenew() (*x509.Certificate, error) {
	if x.verified != nil {
		return x.verified, nil
	}
	if len(x.peer) > 0 {
		if err := x.verifyChain(x.r.Context(), &CertificateAuth{OwnChain: true, Grace: x.label.grace()}); err == nil {
			return x.peer[0], nil
		}
	}
	if x.label.Reenroll.WithoutCertificate {
		return nil, nil
	}
	return nil, &fault.Fault{
		Code: fault.NotAuthorized, Op: "renew a certificate",
		Message: "the client did not present the certificate to be renewed",
	}
}

// subjectKeys are the attributes of a name, each as a text in which differences
// that do not matter are gone (RFC 5280 section 7.1: case and runs of blanks),
// sorted.
func subjectKeys(rawName []byte) []string {
	var rdns pkix.RDNSequence
	if rest, err := asn1.Unmarshal(rawName, &rdns); err != nil || len(rest) > 0 {
		return []string{fmt.Sprintf("unreadable %x", rawName)}
	}
	var keys []string
	for _, rdn := range rdns {
		for _, a := range rdn {
			value := strings.ToLower(strings.Join(strings.Fields(fmt.Sprint(a.Value)), " "))
			keys = append(keys, a.Type.String()+"="+value)
		}
	}
	slices.Sort(keys)
	return keys
}

// altNameKeys are the alternative names among extensions, each with its kind,
// host names in lower case, sorted and without repetition.
func altNameKeys(extensions []pkix.Extension) []string {
	var keys []string
	for _, e := range extensions {
		if !e.Id.Equal(oidSubjectAltName) {
			continue
		}
		var names []asn1.RawValue
		if rest, err := asn1.Unmarshal(e.Value, &names); err != nil || len(rest) > 0 {
			return []string{fmt.Sprintf("unreadable %x", e.Value)}
		}
		for _, n := range names {
			value := n.Bytes
			if n.Tag == 1 || n.Tag == 2 { // rfc822Name, dNSName
				value = bytes.ToLower(value)
			}
			keys = append(keys, fmt.Sprintf("%d:%x", n.Tag, value))
		}
	}
	slices.Sort(keys)
	return slices.Compact(keys)
}

func (l *label) grace() time.Duration {
	if l.Auth.Certificates != nil {
		return l.Auth.Certificates.Grace
	}
	return 0
}
