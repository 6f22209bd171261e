package capf

import (
	"bytes"
	"crypto/x509"
	"errors"
	"math/big"
	"strings"
	"testing"

	"github.com/onlineca/onlineca/ra/fault"
)

func TestProgressBarShowsFailuresAboveIt(t *testing.T) {
	var out bytes.Buffer
	bar := newBar(&out, 3)
	cert := &x509.Certificate{SerialNumber: big.NewInt(0x1f)}
	bar.Done(JobResult{Device: "SEPA", Outcome: OutcomeIssued, Certificate: cert}, 1, 3)
	err := fault.New(fault.ESTReadTimeout, "est", errors.New("no whole answer within 10s"))
	bar.Done(JobResult{Device: "SEPB", Outcome: OutcomeFailed, Err: err, Code: fault.ESTReadTimeout}, 2, 3)
	bar.Done(JobResult{Device: "SEPC", Outcome: OutcomeSkipped, Certificate: cert}, 3, 3)
	got := out.String()
	if !strings.Contains(got, "SEPB: failed: est: the EST server did not answer in time: no whole answer within 10s [est-read-timeout]\n") {
		t.Errorf("%q", got)
	}
	if strings.Contains(got, "SEPA") || strings.Contains(got, "SEPC") || !strings.Contains(got, "(1/3)") {
		t.Errorf("%q", got)
	}
}

func TestResultLineNamesSerialAndWarnings(t *testing.T) {
	r := JobResult{Device: "SEPA", Outcome: OutcomeIssued, Certificate: &x509.Certificate{SerialNumber: big.NewInt(0x1f)}, Warnings: []error{fault.LSCKeyUsage}}
	if got := resultLine(r); !strings.HasPrefix(got, "SEPA: issued, serial 1f, valid until 0001-01-01") || !strings.Contains(got, "warning: lsc-key-usage") {
		t.Error(got)
	}
}
