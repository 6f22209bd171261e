package fault_test

import (
	"errors"
	"fmt"
	"io"
	"regexp"
	"strings"
	"testing"

	"github.com/onlineca/onlineca/ra/fault"
)

func TestEveryRowIsComplete(t *testing.T) {
	kebab := regexp.MustCompile(`^[a-z0-9]+(-[a-z0-9]+)*$`)
	seen := map[string]bool{}
	hresults := map[uint32]string{}
	for _, c := range fault.Codes() {
		r := c.Row()
		if !kebab.MatchString(r.Name) {
			t.Errorf("code %d: name %q is not kebab-case", c, r.Name)
		}
		if seen[r.Name] {
			t.Errorf("%s: two rows have this name", r.Name)
		}
		seen[r.Name] = true
		if r.Symptom == "" || strings.HasSuffix(r.Symptom, ".") {
			t.Errorf("%s: the symptom %q is empty or ends in a full stop", r.Name, r.Symptom)
		}
		if !strings.HasSuffix(r.Cause, ".") || !strings.HasSuffix(r.Fix, ".") {
			t.Errorf("%s: cause and fix must be sentences", r.Name)
		}
		if c != fault.Unknown && len(r.Shows) == 0 {
			t.Errorf("%s: shows nowhere", r.Name)
		}
		if (r.Curl == 0) != (r.CurlText == "") {
			t.Errorf("%s: a curl code and its text go together", r.Name)
		}
		if r.DeviceStatus < 0 || r.DeviceStatus > 34 {
			t.Errorf("%s: tkcertificatestatus %d is none", r.Name, r.DeviceStatus)
		}
		for _, h := range r.HRESULTs {
			if other, dup := hresults[h]; dup {
				t.Errorf("%s and %s both claim 0x%08x", r.Name, other, h)
			}
			hresults[h] = r.Name
			if got, ok := fault.ByHRESULT(h); !ok || got != c {
				t.Errorf("ByHRESULT(0x%08x) = %v, %v, want %v", h, got, ok, c)
			}
		}
		if got, ok := fault.Lookup(r.Name); !ok || got != c {
			t.Errorf("Lookup(%q) = %v, %v", r.Name, got, ok)
		}
	}
}

// Cisco's EST client understands no other statuses.
func TestHTTPStatusesAreThoseThatLibESTDecodes(t *testing.T) {
	understood := map[int]bool{0: true, 202: true, 400: true, 401: true, 403: true, 500: true, 502: true, 504: true}
	for _, c := range fault.Codes() {
		if s := c.Row().HTTP; !understood[s] {
			t.Errorf("%s answers %d", c, s)
		}
	}
}

func TestFaultMatchesItsCodeAndItsCause(t *testing.T) {
	err := fmt.Errorf("enrol SEP001122334455: %w", fault.New(fault.ConnectionLost, "certsrv: fetch request 7", io.ErrUnexpectedEOF))
	if !errors.Is(err, fault.ConnectionLost) {
		t.Error("errors.Is does not find the code")
	}
	if errors.Is(err, fault.DNS) {
		t.Error("errors.Is finds another code")
	}
	if !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Error("errors.Is does not find the cause")
	}
	if got := fault.Of(err); got == nil || got.Code != fault.ConnectionLost {
		t.Errorf("Of = %v", got)
	}
	if got := fault.Of(io.EOF); got.Code != fault.Unknown || !errors.Is(got, io.EOF) {
		t.Errorf("Of(io.EOF) = %v", got)
	}
	if fault.Of(nil) != nil {
		t.Error("Of(nil) is not nil")
	}
	if got := fault.Of(fmt.Errorf("x: %w", fault.Busy)).Code; got != fault.Busy {
		t.Errorf("Of a bare code = %v", got)
	}
}

func TestCodeText(t *testing.T) {
	for _, c := range fault.Codes() {
		text, err := c.MarshalText()
		if err != nil {
			t.Fatal(err)
		}
		var back fault.Code
		if err := back.UnmarshalText(text); err != nil || back != c {
			t.Errorf("%s: %v, %v", text, back, err)
		}
	}
	var c fault.Code
	if err := c.UnmarshalText([]byte("no-such-code")); err == nil {
		t.Error("an unknown name was accepted")
	}
	if fault.Code(250).Row().Name != "unknown" {
		t.Error("a code outside the table has a row")
	}
}

func TestESTNames(t *testing.T) {
	for n, want := range map[int]string{
		0: "EST_ERR_NONE", 9: "EST_ERR_BAD_PKCS10", 10: "EST_ERR_HTTP_WRITE",
		22: "EST_ERR_AUTH_FAIL", 26: "EST_ERR_CA_ENROLL_RETRY", 35: "EST_ERR_SSL_READ",
		38: "EST_ERR_SSL_CONNECT", 43: "EST_ERR_IP_CONNECT", 53: "EST_ERR_FQDN_MISMATCH",
		54: "EST_ERR_SYSCALL", 60: "EST_ERR_60", 94: "EST_ERR_UNKNOWN", -1: "EST_ERR_-1",
	} {
		if got := fault.ESTName(n); got != want {
			t.Errorf("ESTName(%d) = %q, want %q", n, got, want)
		}
	}
}

// What has certainly not been submitted, or has been decided, is not unsettled.
func TestUnsettledFaultsAreThoseAfterWhichNobodyKnows(t *testing.T) {
	unsettled := map[fault.Code]bool{
		fault.Unknown: true, fault.PageLanguage: true, fault.PageUnreadable: true, fault.BodyTooLarge: true,
		fault.ServerError: true, fault.EnrollTimeout: true, fault.OutcomeUnknown: true, fault.Canceled: true, fault.Internal: true,
	}
	for _, c := range fault.Codes() {
		if c.Row().Unsettled != unsettled[c] {
			t.Errorf("%s: unsettled is %v", c.String(), c.Row().Unsettled)
		}
	}
}

// What counts against a certsrv is nothing that a request or an account is to
// blame for, and what counts as out of reach leaves no doubt.
func TestHealthOfTheUpstream(t *testing.T) {
	for _, c := range fault.Codes() {
		r := c.Row()
		switch r.Upstream {
		case fault.Unreachable:
			if r.Unsettled || r.HTTP < 502 || len(r.HRESULTs) > 0 {
				t.Errorf("%s is not a failure to connect", r.Name)
			}
		case fault.Troubled:
			if r.HTTP < 502 {
				t.Errorf("%s answers %d: the client's fault, not certsrv's", r.Name, r.HTTP)
			}
		case fault.Working:
			if r.HTTP == 504 || r.Unsettled {
				t.Errorf("%s: it has not answered", r.Name)
			}
		}
		if r.HTTP == 504 && r.Upstream < fault.Troubled && r.EST != fault.ESTNone {
			t.Errorf("%s is a timeout that does not count", r.Name)
		}
	}
	for code, want := range map[fault.Code]fault.Health{
		fault.ConnectionRefused: fault.Unreachable, fault.DNS: fault.Unreachable, fault.Expired: fault.Unreachable,
		fault.LoginTimeout: fault.Troubled, fault.ServerError: fault.Troubled, fault.CAStopped: fault.Troubled, fault.RPCUnavailable: fault.Troubled,
		fault.DeniedByPolicy: fault.Working, fault.NoSuchRequest: fault.Working, fault.WrongKeyCertificate: fault.Working,
		fault.BadCredentials: fault.Silent, fault.LoginSuspended: fault.Silent, fault.EPARequired: fault.Silent,
		fault.Canceled: fault.Silent, fault.Busy: fault.Silent, fault.MalformedCSR: fault.Silent,
	} {
		if got := code.Row().Upstream; got != want {
			t.Errorf("%s says %v, want %v", code.String(), got, want)
		}
	}
}
