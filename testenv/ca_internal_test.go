package testenv

import (
	"strings"
	"testing"
	"time"
)

// FuzzSubmit: whatever is submitted, the certificate authority comes to a
// decision, and issues only to a request that it could read.
func FuzzSubmit(f *testing.F) {
	pki, err := sharedPKI(0)
	if err != nil {
		f.Fatal(err)
	}
	c := Config{PKI: pki, Clock: time.Now, Templates: DefaultTemplates(), SANAttribute: true}
	if err := c.complete(); err != nil {
		f.Fatal(err)
	}
	a := newCA(&c)
	f.Add("", "")
	f.Add("-----BEGIN CERTIFICATE REQUEST-----\nMIIB\n-----END CERTIFICATE REQUEST-----", "CertificateTemplate:CiscoRA\r\nSAN:dns=a&ipaddress=1.2.3.4")
	f.Add("MAMCAQU=", ":::\n\r\nx:y")
	f.Fuzz(func(t *testing.T, request, attributes string) {
		r, err := a.submit(submission{requester: `LAB\x`, request: request, attributes: attributes})
		if err != nil {
			return // a request that can be read, and that no certificate can be made of
		}
		if r.Disposition == DispositionIssued && (r.CSR == nil || r.Certificate == nil) {
			t.Fatalf("issued without a request: %+v", r)
		}
		if r.Disposition == DispositionDenied && r.Code == resultOK {
			t.Fatalf("denied without a reason: %+v", r)
		}
	})
}

// FuzzParseFault: a fault that is accepted has a text form that is accepted too.
func FuzzParseFault(f *testing.F) {
	for _, d := range Faults() {
		f.Add(d.Name)
	}
	f.Add("slow:12s@login*3")
	f.Add("deny:0x80094012*forever")
	pki, err := sharedPKI(0)
	if err != nil {
		f.Fatal(err)
	}
	c := Config{PKI: pki}
	if err := c.complete(); err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, text string) {
		s := newCertsrv(c)
		defer s.stop()
		if s.InjectText(text) != nil {
			return
		}
		waiting := s.Waiting()
		again := newCertsrv(c)
		defer again.stop()
		if err := again.InjectText(waiting[0]); err != nil || strings.Join(again.Waiting(), " ") != waiting[0] {
			t.Fatalf("%q waits as %q: %v", text, waiting, err)
		}
	})
}
