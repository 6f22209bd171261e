package testenv

import (
	"crypto/x509"
	"encoding/asn1"
	"strings"
	"time"
)

// Template is a certificate template as AD CS knows it. Name is required; the
// zero value of everything else is a reasonable default.
type Template struct {
	// Name is the template's CN, which requests name. DisplayName is what
	// people read; default: Name.
	Name, DisplayName string
	// KeyUsage defaults to digitalSignature and keyEncipherment.
	KeyUsage x509.KeyUsage
	// ExtKeyUsage may be empty: certificates then have no such extension.
	ExtKeyUsage []x509.ExtKeyUsage
	// Validity defaults to two years. No certificate outlives its CA.
	Validity time.Duration
	// MinKeySize is the smallest RSA key in bits; default 2048. Keys on
	// elliptic curves are always large enough.
	MinKeySize int
	// ManualApproval keeps requests pending until somebody approves them.
	ManualApproval bool
	// SubjectFromAD builds the subject from the account that asks. Otherwise
	// the request's own subject is taken.
	SubjectFromAD bool
	// Machine marks a template for computers. The web pages do not offer it,
	// though it can be asked for.
	Machine bool
	// Enrol lists the accounts that may enrol, DOMAIN\user. Empty: everybody.
	Enrol []string
	// V1 marks a template of schema version 1, as the built-in ones are: a
	// certificate names it, instead of referring to it by number.
	V1 bool
	// OID is the number by which certificates refer to the template. A default
	// is made from Name.
	OID asn1.ObjectIdentifier

	noExtension bool // the certificate does not name it
}

// DefaultTemplates is what a mock offers that is not told otherwise.
//
//	CiscoRA        for phones: digitalSignature and keyEncipherment,
//	               serverAuth and clientAuth, subject from the request, 2 years
//	CiscoRAManual  the same, and a certificate manager must approve
//	WebServer      serverAuth, subject from the request
//	User           clientAuth, subject from AD
//	Machine        a template for computers, which the pages hide
func DefaultTemplates() []Template {
	const year = 365 * 24 * time.Hour
	both := []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}
	return []Template{
		{Name: "CiscoRA", ExtKeyUsage: both, Validity: 2 * year},
		{Name: "CiscoRAManual", DisplayName: "CiscoRA (manual approval)", ExtKeyUsage: both, Validity: 2 * year, ManualApproval: true},
		{Name: "WebServer", DisplayName: "Web Server", ExtKeyUsage: both[:1], Validity: 2 * year, V1: true},
		{Name: "User", ExtKeyUsage: both[1:], Validity: year, SubjectFromAD: true, V1: true},
		{Name: "Machine", DisplayName: "Computer", ExtKeyUsage: both, Validity: year, SubjectFromAD: true, Machine: true, V1: true},
	}
}

func (t Template) withDefaults() Template {
	t.DisplayName = or(t.DisplayName, t.Name)
	if t.KeyUsage == 0 {
		t.KeyUsage = x509.KeyUsageDigitalSignature | x509.KeyUsageKeyEncipherment
	}
	if t.Validity == 0 {
		t.Validity = 2 * 365 * 24 * time.Hour
	}
	if t.MinKeySize == 0 {
		t.MinKeySize = 2048
	}
	if t.OID == nil {
		// Arcs below AD's own for templates: 1.3.6.1.4.1.311.21.8, six random
		// ones of the forest, and the template's.
		h := uint32(2166136261)
		for _, c := range []byte(t.Name) {
			h = (h ^ uint32(c)) * 16777619
		}
		t.OID = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 311, 21, 8, 7638725, 13898300, 1985460, 3383425, 7519116, 119, int(h >> 8), int(h&0xff) + 1}
	}
	return t
}

// allows reports whether account, DOMAIN\user, may enrol.
func (t Template) allows(account string) bool {
	if len(t.Enrol) == 0 {
		return true
	}
	for _, a := range t.Enrol {
		if strings.EqualFold(a, account) {
			return true
		}
	}
	return false
}

// offeredTo reports whether the web pages list the template for account: those
// that it may enrol for, and that are not for computers.
func (t Template) offeredTo(account string) bool { return !t.Machine && t.allows(account) }
