package app

import (
	"context"
	"crypto/x509"
	"errors"
	"testing"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/onlineca/onlineca/ra"
	"github.com/onlineca/onlineca/ra/event"
	"github.com/onlineca/onlineca/ra/fault"
)

type noChain struct{}

func (noChain) CACerts(context.Context) ([]*x509.Certificate, error) {
	return nil, errors.New("not there")
}

func TestUnfitCertificatesAreReportedAtIssue(t *testing.T) {
	s := DefaultSettings()
	s.EST.Labels = map[string]*LabelSettings{"routers": {Certificates: "any"}, "phones": {Certificates: "lsc"}}
	for _, c := range []struct {
		name, label string
		usage       x509.KeyUsage
		want        []string
	}{
		{"good", "", x509.KeyUsageDigitalSignature | x509.KeyUsageKeyEncipherment, nil},
		{"no key encipherment", "", x509.KeyUsageDigitalSignature, []string{fault.LSCKeyUsage.String()}},
		{"for phones by label", "phones", x509.KeyUsageDigitalSignature, []string{fault.LSCKeyUsage.String()}},
		{"not for phones", "routers", x509.KeyUsageDigitalSignature, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			core, logs := observer.New(zapcore.DebugLevel)
			issue := ra.EnrollerFunc(func(context.Context, ra.Request) (ra.Result, error) {
				return ra.Result{State: ra.Issued, ReqID: 7, Certificate: unfit(t, c.usage)}, nil
			})
			e := checkLSC(issue, noChain{}, s.EST.forPhones, zap.New(core))
			res, err := e.Enroll(t.Context(), ra.Request{Label: c.label})
			if err != nil || res.ReqID != 7 {
				t.Fatalf("got %+v, %v: the certificate must be delivered", res, err)
			}
			var got []string
			for _, entry := range logs.All() {
				if ev, _, ok := event.Of(entry.Context); ok {
					got = append(got, ev.(event.CertificateUnfit).Code)
				}
			}
			if len(got) != len(c.want) || len(got) > 0 && got[0] != c.want[0] {
				t.Errorf("reported %v, want %v", got, c.want)
			}
		})
	}
}

// unfit is a self-signed certificate with a key usage.
func unfit(t *testing.T, usage x509.KeyUsage) *x509.Certificate {
	t.Helper()
	certPEM, _, err := selfSigned([]string{"SEP001122334455"}, testTime)
	if err != nil {
		t.Fatal(err)
	}
	certs, err := parsePEM(certPEM)
	if err != nil {
		t.Fatal(err)
	}
	certs[0].KeyUsage = usage
	certs[0].ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}
	return certs[0]
}
