package capf_test

import (
	"bufio"
	"context"
	"crypto/x509"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/onlineca/onlineca/capf"
	"github.com/onlineca/onlineca/internal/interop"
	"github.com/onlineca/onlineca/internal/logfmt/cucm"
	"github.com/onlineca/onlineca/ra/event"
	"github.com/onlineca/onlineca/ra/fault"
)

// estTrace renders the events of a log as CAPF's trace, one text a line: what
// stands after the time and the bar, without the lines that enter and leave.
func estTrace(t *testing.T, logs *observer.ObservedLogs) []string {
	t.Helper()
	var text []byte
	for _, e := range logs.All() {
		ev, _, ok := event.Of(e.Context)
		if !ok {
			continue
		}
		var known bool
		if text, known = cucm.Encode(text, time.Unix(0, 0), ev); !known {
			t.Fatalf("%T has no place in a CAPF trace", ev)
		}
	}
	return estBodies(string(text))
}

func estBodies(text string) []string {
	var bodies []string
	for s := bufio.NewScanner(strings.NewReader(text)); s.Scan(); {
		if _, body, ok := strings.Cut(s.Text(), " |   "); ok {
			bodies = append(bodies, body)
		}
	}
	return bodies
}

// estExtract reads the lines of an extract up to the one that contains last.
func estExtract(t *testing.T, name, last string) []string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("..", "internal", "logfmt", "cucm", "testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	bodies := estBodies(string(data))
	for i, b := range bodies {
		if strings.Contains(b, last) {
			return bodies[:i+1]
		}
	}
	t.Fatalf("%s has no line with %q", name, last)
	return nil
}

func estSame(t *testing.T, got, want []string) {
	t.Helper()
	for i := range max(len(got), len(want)) {
		var g, w string
		if i < len(got) {
			g = got[i]
		}
		if i < len(want) {
			w = want[i]
		}
		if g != w {
			t.Errorf("line %d:\n got %s\nwant %s", i+1, g, w)
		}
	}
}

// estStub is an EST client that answers what it is told to.
type estStub struct {
	answer func(csr *x509.CertificateRequest) (*capf.Answer, error)
	chain  []*x509.Certificate
	err    error

	mu    sync.Mutex
	calls int
}

func (s *estStub) Enroll(_ context.Context, csrDER []byte) (*capf.Answer, error) {
	s.mu.Lock()
	s.calls++
	s.mu.Unlock()
	csr, err := x509.ParseCertificateRequest(csrDER)
	if err != nil {
		return nil, err
	}
	return s.answer(csr)
}

func (s *estStub) CACerts(context.Context) ([]*x509.Certificate, error) { return s.chain, s.err }

func estStubFor(t *testing.T, ca *estCA) *estStub {
	return &estStub{
		chain: []*x509.Certificate{ca.issuing, ca.root},
		answer: func(csr *x509.CertificateRequest) (*capf.Answer, error) {
			return &capf.Answer{Raw: estP7(t, ca.issue(t, csr, nil))}, nil
		},
	}
}

func estEnroller(t *testing.T, client capf.ESTEnroller, change func(*capf.EnrollerConfig)) (*capf.Enroller, *observer.ObservedLogs) {
	t.Helper()
	core, logs := observer.New(zapcore.DebugLevel)
	cfg := capf.EnrollerConfig{Client: client, Logger: zap.New(core)}
	if change != nil {
		change(&cfg)
	}
	e, err := capf.NewEnroller(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return e, logs
}

func TestTraceOfASuccessIsTheVendorsOwn(t *testing.T) {
	s := newLibest(t, newESTCA(t), nil, nil)
	defer s.close()
	e, logs := estEnroller(t, s.client(nil), nil)
	ctx := event.WithID(t.Context(), "id-1")
	lsc, err := e.EnrollCSR(ctx, "SEP74A02FC0A675", 2, estCSR(t, "SEP74A02FC0A675"))
	if err != nil {
		t.Fatal(err)
	}
	want := estExtract(t, "capf-install.txt", "LSC is verified. removing CSR at /tmp/capf/csr/SEP74A02FC0A675.csr")
	for i := range want {
		want[i] = strings.Replace(want[i], "length = 1963", "length = "+strconv.Itoa(lsc.PKCS7Length), 1)
	}
	estSame(t, estTrace(t, logs), want)
	if len(want) != 21 {
		t.Errorf("the extract has %d lines up to there", len(want))
	}
	for _, entry := range logs.All() {
		if entry.ContextMap()["id"] != "id-1" {
			t.Errorf("%s has no correlation id", entry.Message)
		}
	}
}

func TestTraceOfAFailureIsTheVendorsOwn(t *testing.T) {
	stub := estStubFor(t, newESTCA(t))
	stub.answer = func(*x509.CertificateRequest) (*capf.Answer, error) {
		return nil, fault.New(fault.ESTReadTimeout, "est", &capf.ESTError{RV: fault.ESTSSLRead})
	}
	e, logs := estEnroller(t, stub, func(c *capf.EnrollerConfig) { c.Socket = 10 })
	if _, err := e.EnrollCSR(t.Context(), "SEP001F6C81118B", 2, estCSR(t, "SEP001F6C81118B")); !errors.Is(err, fault.ESTReadTimeout) {
		t.Fatal(err)
	}
	estSame(t, estTrace(t, logs), estExtract(t, "capf-fail-ssl-read.txt", "addded 10 to readset"))
	if own := logs.FilterMessage("enrolment failed").All(); len(own) != 1 || own[0].ContextMap()["code"] != "est-read-timeout" {
		t.Errorf("%v", own)
	}
}

func TestTraceOfAStartIsTheVendorsOwn(t *testing.T) {
	e, logs := estEnroller(t, estStubFor(t, newESTCA(t)), nil)
	e.Start(t.Context(), capf.Service{Host: "lab-dc.michamen.com", Port: 443, Template: "CiscoRA", CACertLength: 1367})
	estSame(t, estTrace(t, logs), estExtract(t, "capf-start.txt", "EST set server details success!!"))
}

func TestEnrolmentsThatAreRefused(t *testing.T) {
	ca, other := newESTCA(t), newESTCA(t)
	good := estCSR(t, "SEP001122334455")
	give := func(raw []byte) func(*x509.CertificateRequest) (*capf.Answer, error) {
		return func(*x509.CertificateRequest) (*capf.Answer, error) { return &capf.Answer{Raw: raw}, nil }
	}
	issue := func(by *estCA, change func(*x509.Certificate)) func(*x509.CertificateRequest) (*capf.Answer, error) {
		return func(csr *x509.CertificateRequest) (*capf.Answer, error) {
			return &capf.Answer{Raw: estP7(t, by.issue(t, csr, change))}, nil
		}
	}
	for name, c := range map[string]struct {
		csr    []byte
		answer func(*x509.CertificateRequest) (*capf.Answer, error)
		code   fault.Code
		trace  string // the line that tells
		calls  int
	}{
		"no request":     {[]byte("x"), nil, fault.MalformedCSR, "Enrollment rv = 9 (EST_ERR_BAD_PKCS10) with pkcs7 length = 0", 0},
		"bad signature":  {badSignature(good), nil, fault.BadCSRSignature, "Enrollment rv = 9 (EST_ERR_BAD_PKCS10) with pkcs7 length = 0", 0},
		"garbage":        {good, give([]byte("<html>")), fault.CertificateUnreadable, "Enrollment rv = 0 (EST_ERR_NONE) with pkcs7 length = 6", 1},
		"another key":    {good, give(estP7(t, ca.issuing)), fault.WrongKeyCertificate, "Return value from enrollCertUsingEST() : 94", 1},
		"another CA":     {good, issue(other, nil), fault.CAPFTrustMissing, "Return value from enrollCertUsingEST() : 94", 1},
		"expired":        {good, issue(ca, func(c *x509.Certificate) { c.NotAfter = c.NotBefore.Add(time.Second) }), fault.InvalidLSC, "Return value", 1},
		"not yet valid":  {good, issue(ca, func(c *x509.Certificate) { c.NotBefore = c.NotAfter.Add(-time.Second) }), fault.InvalidLSC, "Return value", 1},
		"a plain error":  {good, func(*x509.CertificateRequest) (*capf.Answer, error) { return nil, errors.New("odd") }, fault.Unknown, "Enrollment rv = 94 (EST_ERR_UNKNOWN)", 1},
		"a pending one":  {good, func(*x509.CertificateRequest) (*capf.Answer, error) { return nil, fault.Pending }, fault.Pending, "Enrollment rv = 26 (EST_ERR_CA_ENROLL_RETRY)", 1},
		"a PKCS#7 alone": {good, give(estP7(t)), fault.CertificateUnreadable, "Online Cert Signing Failed", 1},
	} {
		t.Run(name, func(t *testing.T) {
			stub := estStubFor(t, ca)
			if c.answer != nil {
				stub.answer = c.answer
			}
			e, logs := estEnroller(t, stub, nil)
			dir := t.TempDir()
			in, out := estFile(t, dir, "SEP001122334455.csr", c.csr), filepath.Join(dir, "SEP001122334455.der")
			lsc, err := e.EnrollFile(t.Context(), "SEP001122334455", 2, in, out)
			if lsc != nil || fault.Of(err).Code != c.code {
				t.Errorf("%v, %v; want %v", lsc, err, c.code)
			}
			trace := strings.Join(estTrace(t, logs), "\n")
			if !strings.Contains(trace, c.trace) || !strings.Contains(trace, "Online Cert Signing Failed") || strings.Contains(trace, "LSC is verified") {
				t.Errorf("the trace lacks %q:\n%s", c.trace, trace)
			}
			if stub.calls != c.calls {
				t.Errorf("%d requests were sent, want %d", stub.calls, c.calls)
			}
			estOnly(t, dir, "SEP001122334455.csr")
		})
	}
}

func TestAnchorsAreAskedForOnceAndAgainAfterAFailure(t *testing.T) {
	ca := newESTCA(t)
	stub := estStubFor(t, ca)
	stub.err = fault.New(fault.ESTUnreachable, "est", nil)
	e, _ := estEnroller(t, stub, nil)
	csr := estCSR(t, "SEP001122334455")
	if _, err := e.EnrollCSR(t.Context(), "SEP001122334455", 1, csr); !errors.Is(err, fault.ESTUnreachable) {
		t.Fatal(err)
	}
	stub.err = nil
	lsc, err := e.EnrollCSR(t.Context(), "SEP001122334455", 1, csr)
	if err != nil || len(lsc.Chain) != 2 || !lsc.Chain[0].Equal(ca.issuing) || !lsc.Chain[1].Equal(ca.root) {
		t.Fatalf("%+v, %v", lsc, err)
	}
	stub.err = errors.New("asked again")
	if err := e.Trust(t.Context()); err != nil {
		t.Error(err)
	}
}

// The CA is renewed between two enrolments: the server is asked what it is now.
func TestAnchorsFollowARenewal(t *testing.T) {
	before, after := newESTCA(t), newESTCA(t)
	stub := estStubFor(t, before)
	e, _ := estEnroller(t, stub, nil)
	for _, ca := range []*estCA{before, after} {
		renewed := estStubFor(t, ca)
		stub.chain, stub.answer = renewed.chain, renewed.answer
		lsc, err := e.EnrollCSR(t.Context(), "SEP001122334455", 1, estCSR(t, "SEP001122334455"))
		if err != nil || !lsc.Chain[0].Equal(ca.issuing) {
			t.Fatalf("%+v, %v", lsc, err)
		}
	}
	// A server that does not know its own CA has no say in it.
	stub.answer = estStubFor(t, before).answer
	if _, err := e.EnrollCSR(t.Context(), "SEP001122334455", 1, estCSR(t, "SEP001122334455")); !errors.Is(err, fault.CAPFTrustMissing) {
		t.Error(err)
	}
}

func TestConfiguredRootsDecide(t *testing.T) {
	ca, other := newESTCA(t), newESTCA(t)
	stub := estStubFor(t, ca)
	stub.err = errors.New("not to be asked")
	for _, c := range []struct {
		anchors capf.Anchors
		ok      bool
	}{
		{capf.Anchors{Roots: ca.roots, Intermediates: capf.AnchorsOf([]*x509.Certificate{ca.issuing}).Roots}, true},
		{capf.AnchorsOf([]*x509.Certificate{ca.issuing}), true},
		{capf.Anchors{Roots: ca.roots}, false}, // no intermediate: neither given nor sent along
		{capf.Anchors{Roots: other.roots}, false},
	} {
		e, _ := estEnroller(t, stub, func(cfg *capf.EnrollerConfig) { cfg.Anchors = c.anchors })
		_, err := e.EnrollCSR(t.Context(), "SEP001122334455", 1, estCSR(t, "SEP001122334455"))
		if c.ok && err != nil || !c.ok && !errors.Is(err, fault.CAPFTrustMissing) {
			t.Errorf("%v", err)
		}
	}
}

func TestCertificatesOfNoUseToAPhoneAreWarnedOf(t *testing.T) {
	ca := newESTCA(t)
	stub := estStubFor(t, ca)
	stub.answer = func(csr *x509.CertificateRequest) (*capf.Answer, error) {
		return &capf.Answer{Raw: estP7(t, ca.issue(t, csr, func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageKeyAgreement }))}, nil
	}
	e, _ := estEnroller(t, stub, nil)
	lsc, err := e.EnrollCSR(t.Context(), "SEP001122334455", 1, estCSR(t, "SEP001122334455"))
	if err != nil || len(lsc.Warnings) != 1 || !errors.Is(lsc.Warnings[0], fault.LSCKeyUsage) {
		t.Errorf("%+v, %v", lsc, err)
	}
}

func TestNewEnrollerChecksItsConfiguration(t *testing.T) {
	if _, err := capf.NewEnroller(capf.EnrollerConfig{}); err == nil {
		t.Error("no client, no error")
	}
	onlyEnrols := struct{ capf.ESTEnroller }{estStubFor(t, newESTCA(t))}
	if _, err := capf.NewEnroller(capf.EnrollerConfig{Client: onlyEnrols}); err == nil {
		t.Error("no anchors and no way to get them, no error")
	}
}

// The request is openssl's, and openssl says whether the certificate is good.
func TestEnrolmentWithOpenSSL(t *testing.T) {
	interop.Need(t, "openssl")
	ca := newESTCA(t)
	s := newLibest(t, ca, nil, nil)
	defer s.close()
	dir := t.TempDir()
	path := func(name string) string { return filepath.Join(dir, name) }
	openssl(t, "req", "-new", "-newkey", "rsa:2048", "-nodes", "-keyout", path("key.pem"), "-subj", "/C=US/O=cisco/CN=SEP74A02FC0A675", "-outform", "DER", "-out", path("SEP74A02FC0A675.csr"))
	e, _ := estEnroller(t, s.client(nil), nil)
	if _, err := e.EnrollFile(t.Context(), "SEP74A02FC0A675", 2, path("SEP74A02FC0A675.csr"), path("SEP74A02FC0A675.der")); err != nil {
		t.Fatal(err)
	}
	estFile(t, dir, "root.pem", estPEM("CERTIFICATE", ca.root.Raw))
	estFile(t, dir, "ca.pem", estPEM("CERTIFICATE", ca.issuing.Raw))
	openssl(t, "x509", "-inform", "DER", "-in", path("SEP74A02FC0A675.der"), "-out", path("lsc.pem"))
	if out := openssl(t, "verify", "-CAfile", path("root.pem"), "-untrusted", path("ca.pem"), path("lsc.pem")); !strings.Contains(out, ": OK") {
		t.Error(out)
	}
	certKey := openssl(t, "x509", "-in", path("lsc.pem"), "-noout", "-pubkey")
	if reqKey := openssl(t, "rsa", "-in", path("key.pem"), "-pubout"); !strings.Contains(reqKey, certKey) {
		t.Error("openssl sees another public key")
	}
}
