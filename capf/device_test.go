package capf

import (
	"crypto/x509/pkix"
	"encoding/asn1"
	"strings"
	"testing"
	"time"

	"github.com/onlineca/onlineca/capf/wire"
	"github.com/onlineca/onlineca/ra/fault"
)

// The product's certificate statuses, in its order.
func TestStatuses(t *testing.T) {
	for n, want := range map[Status]string{
		1: "None", 2: "Operation Pending", 3: "Upgrade Success", 4: "Delete Success", 5: "Troubleshoot Success",
		6: "Upgrade Failed", 7: "Delete Failed", 8: "Troubleshoot Failed",
		9: "Upgrade Failed: Invalid LSC", 10: "Upgrade Failed: Invalid Authentication String", 11: "Upgrade Failed: Invalid MIC",
		12: "Upgrade Failed: Invalid Credentials", 13: "Upgrade Failed: Phone Communication Failure",
		14: "Upgrade Failed: Key Generation Failed/Timeout", 15: "Upgrade Failed: CA Communication Failure",
		16: "Upgrade Failed: CA Rejected Connection", 17: "Upgrade Failed: User Initiated Request Late/Timedout",
		18: "Delete Failed: Invalid LSC", 26: "Delete Failed: User Initiated Request Late/Timedout",
		27: "Troubleshoot Failed: Invalid LSC", 31: "Troubleshoot Failed: Phone Communication Failure",
		32: "Troubleshoot Failed: Key Generation Failed/Timeout", 33: "Troubleshoot Failed: User Initiated Request Late/Timedout",
		34: "Upgrade Failed: No Support for EC only in CAPF version 3",
	} {
		if n.String() != want {
			t.Errorf("%d is %q, want %q", int(n), n, want)
		}
		if back, err := ParseStatus(strings.ToUpper(want)); back != n || err != nil {
			t.Errorf("ParseStatus(%q) = %d, %v", want, int(back), err)
		}
	}
	if len(statuses) != 35 {
		t.Errorf("%d statuses", len(statuses)-1)
	}
	if Status(35).String() != "35" || Status(-1).trace() != "INVALID:-1" {
		t.Errorf("numbers without a name: %q, %q", Status(35), Status(-1).trace())
	}
}

// Every code and operation leads to a status that says the same.
func TestStatusOf(t *testing.T) {
	word := map[Operation]string{OperationUpgrade: "Upgrade", OperationDelete: "Delete", OperationTroubleshoot: "Troubleshoot"}
	tails := map[OpCode]string{
		OpSuccess: " Success", OpFailed: " Failed", OpAuthString: "Invalid Authentication String", OpInvalidLSC: "Invalid LSC",
		OpInvalidMIC: "Invalid MIC", OpCredentials: "Invalid Credentials", OpPhoneComm: "Phone Communication Failure",
		OpTimedOut: "Key Generation Failed/Timeout", OpCAComm: "CA Communication Failure", OpCARejected: "CA Rejected Connection",
		OpLate: "User Initiated Request Late/Timedout",
	}
	for op, w := range word {
		for code, tail := range tails {
			got := StatusOf(op, code).String()
			if op == OperationTroubleshoot && (code == OpCAComm || code == OpCARejected) {
				tail = " Failed"
			}
			if !strings.HasPrefix(got, w) || !strings.HasSuffix(got, tail) {
				t.Errorf("StatusOf(%v, %v) = %q", op, code, got)
			}
		}
	}
	if StatusOf(OperationTroubleshoot, OpNoCertificate) != 5 || StatusOf(OperationUpgrade, 99) != StatusUpgradeFailed || StatusOf(OperationNone, 0) != StatusNone {
		t.Error("special cases")
	}
}

// The table of faults and the map of codes agree about installations.
func TestFaultRowsAgree(t *testing.T) {
	for _, c := range fault.Codes() {
		row := c.Row()
		if row.Operation == 0 || row.DeviceStatus == 0 || c == fault.ECUnsupported {
			continue
		}
		if got := StatusOf(OperationUpgrade, OpCode(row.Operation)); int(got) != row.DeviceStatus {
			t.Errorf("%v: code %d is status %d here and %d in the table of faults", c, row.Operation, int(got), row.DeviceStatus)
		}
	}
}

func TestTraceNames(t *testing.T) {
	for want, got := range map[string]string{
		"OPERATION_NONE:1":                  OperationNone.trace(),
		"OPERATION_UPGRADE:2":               OperationUpgrade.trace(),
		"AUTH_BY_STR:1":                     AuthByString.trace(),
		"AUTH_BY_NULL_STR:2":                AuthByNullString.trace(),
		"KEY_SIZE_2048:3":                   KeySize2048.trace(),
		"INVALID:0":                         ecKeySizeTrace(0),
		"KEYORDER_RSA_ONLY:1":               RSAOnly.trace(),
		"CERT_STATUS_UPGRADE_SUCCESS:3":     StatusUpgradeSuccess.trace(),
		"Success:CAPF_OP_SUCCESS":           OpSuccess.trace(),
		"CAPF_OP_FAIL_INVALID_CRENDENTIALS": OpCredentials.String(),
	} {
		if got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

func TestParseNames(t *testing.T) {
	if op, err := ParseOperation("Upgrade"); op != OperationUpgrade || err != nil {
		t.Error(op, err)
	}
	if op, err := ParseOperation("3"); op != OperationDelete || err != nil {
		t.Error(op, err)
	}
	if _, err := ParseOperation("dance"); err == nil || !strings.Contains(err.Error(), "troubleshoot") {
		t.Errorf("%v", err)
	}
	if k, err := ParseKeySize("4096"); k != KeySize4096 || err != nil {
		t.Error(k, err)
	}
	if _, err := ParseKeySize("1000"); err == nil {
		t.Error("1000 bits")
	}
	if a, err := ParseAuthMode("MIC"); a != AuthByMIC || err != nil {
		t.Error(a, err)
	}
	if o, err := ParseKeyOrder("ec-preferred"); o != ECPreferred || err != nil {
		t.Error(o, err)
	}
}

// A deadline is written in the product's form, in local time, to the minute.
func TestFinishBy(t *testing.T) {
	at := time.Date(2019, 1, 20, 12, 0, 0, 0, time.Local)
	if s := FormatFinishBy(at); s != "2019:01:20:12:00" {
		t.Errorf("%q", s)
	}
	if back, err := ParseFinishBy("2019:01:20:12:00"); !back.Equal(at) || err != nil {
		t.Error(back, err)
	}
	if zero, err := ParseFinishBy(FormatFinishBy(time.Time{})); !zero.IsZero() || err != nil {
		t.Error(zero, err)
	}
	if _, err := ParseFinishBy("2019-01-20 12:00"); err == nil {
		t.Error("another form is taken")
	}
}

// A deadline is kept to the minute: the phone has no less time than was said.
func TestDeadlineRoundsUp(t *testing.T) {
	noon := time.Date(2019, 1, 20, 12, 0, 0, 0, time.UTC)
	for after, want := range map[time.Duration]time.Duration{0: 0, 1: time.Minute, 59 * time.Second: time.Minute, time.Minute: time.Minute} {
		d := NewDevice("SEPA")
		d.Schedule(OperationUpgrade, noon.Add(after))
		if got, err := ParseFinishBy(FormatFinishBy(d.FinishBy)); !got.Equal(noon.Add(want)) || err != nil {
			t.Errorf("%v after noon became %v, %v", after, got, err)
		}
	}
}

// The names of AD CS authorities have components in words, and nothing in a
// name that a phone shows reaches a terminal's escape codes.
func TestDistinguished(t *testing.T) {
	dc := func(v string) pkix.RelativeDistinguishedNameSET {
		return pkix.RelativeDistinguishedNameSET{{Type: domainComponent, Value: v}}
	}
	cn := pkix.RelativeDistinguishedNameSET{{Type: commonName, Value: "CA, \x1b[2J"}}
	raw, err := asn1.Marshal(pkix.RDNSequence{dc("com"), dc("a+b"), cn})
	if err != nil {
		t.Fatal(err)
	}
	if got, want := distinguished(raw), "CN=CA\\, \ufffd[2J,DC=a\\+b,DC=com"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	if got := distinguished([]byte("nonsense")); got != "(unreadable name)" {
		t.Error(got)
	}
}

func TestKeySpecOfDevice(t *testing.T) {
	for _, tt := range []struct {
		order   KeyOrder
		ec      int
		version uint8
		want    string
	}{
		{RSAOnly, 256, 3, "rsa2048"}, {ECPreferred, 256, 2, "rsa2048"}, {ECPreferred, 521, 3, "p521"},
		{ECOnly, 0, 3, "p384"}, {ECOnly, 256, 3, "p256"}, {ECOnly, 256, 2, ""},
	} {
		d := NewDevice("SEPA")
		d.KeyOrder, d.ECKeySize = tt.order, tt.ec
		spec, err := d.keySpec(tt.version)
		if tt.want == "" {
			if err == nil {
				t.Errorf("%+v: %v", tt, spec)
			}
			continue
		}
		if want, _ := wire.ParseKeySpec(tt.want); spec != want || err != nil {
			t.Errorf("%+v: %v, %v", tt, spec, err)
		}
	}
}
