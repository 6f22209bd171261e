package capf

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Operation is a tkcertificateoperation. 1 and 2 are known from the product, 3
// and 4 follow the order of its menu.
type Operation int

// The operations.
const (
	OperationNone         Operation = 1
	OperationUpgrade      Operation = 2 // install or upgrade
	OperationDelete       Operation = 3
	OperationTroubleshoot Operation = 4 // fetch the certificate
)

// named is a number with a name for people and one for the trace.
type named struct{ name, trace string }

var operations = []named{
	OperationNone:         {"none", "OPERATION_NONE"},
	OperationUpgrade:      {"install", "OPERATION_UPGRADE"},
	OperationDelete:       {"delete", "OPERATION_DELETE"},
	OperationTroubleshoot: {"troubleshoot", "OPERATION_TROUBLESHOOT"},
}

// String returns "none", "install", "delete" or "troubleshoot".
func (o Operation) String() string { return nameOf(operations, int(o)) }

func (o Operation) traceName() string { return traceOf(operations, int(o)) }
func (o Operation) trace() string     { return withNumber(o.traceName(), int(o)) }

// ParseOperation reads what String writes, "upgrade" for "install", and numbers.
func ParseOperation(s string) (Operation, error) {
	if strings.EqualFold(s, "upgrade") {
		return OperationUpgrade, nil
	}
	n, err := parseNamed(operations, "operation", s)
	return Operation(n), err
}

// AuthMode is a tkauthenticationmode. 1 and 2 are known from the product, 3 and
// 4 follow the order of its menu.
type AuthMode int

// The ways for a phone to authenticate.
const (
	AuthByString     AuthMode = 1
	AuthByNullString AuthMode = 2
	AuthByLSC        AuthMode = 3 // by existing certificate, precedence to the LSC
	AuthByMIC        AuthMode = 4 // by existing certificate, precedence to the MIC
)

var authModes = []named{
	AuthByString:     {"string", "AUTH_BY_STR"},
	AuthByNullString: {"null", "AUTH_BY_NULL_STR"},
	AuthByLSC:        {"lsc", "AUTH_BY_LSC"},
	AuthByMIC:        {"mic", "AUTH_BY_MIC"},
}

// String returns "string", "null", "lsc" or "mic".
func (a AuthMode) String() string { return nameOf(authModes, int(a)) }
func (a AuthMode) trace() string  { return withNumber(traceOf(authModes, int(a)), int(a)) }

// ParseAuthMode reads what String writes, and numbers.
func ParseAuthMode(s string) (AuthMode, error) {
	n, err := parseNamed(authModes, "authentication mode", s)
	return AuthMode(n), err
}

// KeySize is a tkkeysize: the size of an RSA key. 1, 2 and 3 are known from
// the product.
type KeySize int

// The sizes.
const (
	KeySize512  KeySize = 1
	KeySize1024 KeySize = 2
	KeySize2048 KeySize = 3
	KeySize3072 KeySize = 4
	KeySize4096 KeySize = 5
)

var keySizes = []int{KeySize512: 512, KeySize1024: 1024, KeySize2048: 2048, KeySize3072: 3072, KeySize4096: 4096}

// Bits is the size in bits, or 0 for a number that names none.
func (k KeySize) Bits() int {
	if k < 0 || int(k) >= len(keySizes) {
		return 0
	}
	return keySizes[k]
}

// String returns the bits: "2048".
func (k KeySize) String() string { return strconv.Itoa(k.Bits()) }
func (k KeySize) trace() string  { return withNumber("KEY_SIZE_"+k.String(), int(k)) }

// ParseKeySize reads a size in bits.
func ParseKeySize(s string) (KeySize, error) {
	for n, bits := range keySizes {
		if bits != 0 && strconv.Itoa(bits) == s {
			return KeySize(n), nil
		}
	}
	return 0, fmt.Errorf("%q is no size of an RSA key: use 1024, 2048, 3072 or 4096", s)
}

// KeyOrder says whether a phone makes RSA keys, EC keys, or whichever it can.
type KeyOrder int

// The key orders, known from the product's menu; 1 from its trace.
const (
	RSAOnly     KeyOrder = 1
	ECOnly      KeyOrder = 2
	ECPreferred KeyOrder = 3 // RSA as a backup
)

var keyOrders = []named{
	RSAOnly:     {"rsa", "KEYORDER_RSA_ONLY"},
	ECOnly:      {"ec", "KEYORDER_EC_ONLY"},
	ECPreferred: {"ec-preferred", "KEYORDER_EC_PREFERRED"},
}

// String returns "rsa", "ec" or "ec-preferred".
func (k KeyOrder) String() string { return nameOf(keyOrders, int(k)) }
func (k KeyOrder) trace() string  { return withNumber(traceOf(keyOrders, int(k)), int(k)) }

// ParseKeyOrder reads what String writes, and numbers.
func ParseKeyOrder(s string) (KeyOrder, error) {
	n, err := parseNamed(keyOrders, "key order", s)
	return KeyOrder(n), err
}

// ecKeySizeTrace is known from the trace for 0 only.
func ecKeySizeTrace(n int) string {
	if n == 0 {
		return "INVALID:0"
	}
	return withNumber("EC_KEY_SIZE_"+strconv.Itoa(n), n)
}

// IssuerKind is who issues a device's certificate.
type IssuerKind string

// The issuers, as the product's service parameter Certificate Issuer to
// Endpoint has them.
const (
	IssuerDefault IssuerKind = ""        // what the server is set to
	IssuerOnline  IssuerKind = "online"  // a CA that is asked over EST
	IssuerLocal   IssuerKind = "local"   // CAPF itself
	IssuerOffline IssuerKind = "offline" // a CA that a person carries requests to
)

func (k IssuerKind) known() bool {
	return slices.Contains([]IssuerKind{IssuerDefault, IssuerOnline, IssuerLocal, IssuerOffline}, k)
}

// Signing is whether, and how, a device can sign a certificate request that
// CAPF made. Only a device that is known to be able is ever asked: others
// drop the session.
type Signing string

// The capabilities.
const (
	SigningUnknown Signing = ""
	SigningEncrypt Signing = "encrypt" // by the ENCRYPT exchange
	SigningNone    Signing = "none"
)

func (s Signing) known() bool {
	return slices.Contains([]Signing{SigningUnknown, SigningEncrypt, SigningNone}, s)
}

// OpCode is CAPF's own code for how an operation ended. 9 and 10 are
// unpublished: their meaning here is inferred from the certificate statuses.
type OpCode int

// The codes, with the product's spelling.
const (
	OpSuccess       OpCode = 0
	OpNoCertificate OpCode = 1 // a fetch that found none
	OpFailed        OpCode = 2
	OpAuthString    OpCode = 3
	OpInvalidLSC    OpCode = 4
	OpInvalidMIC    OpCode = 5
	OpCredentials   OpCode = 6
	OpPhoneComm     OpCode = 7
	OpTimedOut      OpCode = 8
	OpCAComm        OpCode = 9
	OpCARejected    OpCode = 10
	OpLate          OpCode = 11
)

// opCodes has the names, and the status that each code means for an install, a
// delete and a troubleshoot.
var opCodes = []struct {
	name     string
	statuses [3]Status
}{
	OpSuccess:       {"CAPF_OP_SUCCESS", [3]Status{3, 4, 5}},
	OpNoCertificate: {"CAPF_FETCH_SUCCESS_BUT_NO_CERT", [3]Status{6, 7, 5}},
	OpFailed:        {"CAPF_OP_FAIL", [3]Status{6, 7, 8}},
	OpAuthString:    {"CAPF_OP_FAIL_INVALID_AUTH_STR", [3]Status{10, 19, 28}},
	OpInvalidLSC:    {"CAPF_OP_FAIL_INVALID_LSC", [3]Status{9, 18, 27}},
	OpInvalidMIC:    {"CAPF_OP_FAIL_INVALID_MIC", [3]Status{11, 20, 29}},
	OpCredentials:   {"CAPF_OP_FAIL_INVALID_CRENDENTIALS", [3]Status{12, 21, 30}},
	OpPhoneComm:     {"CAPF_OP_FAIL_PHONE_COMM_ERROR", [3]Status{13, 22, 31}},
	OpTimedOut:      {"CAPF_OP_FAIL_OP_TIMED_OUT", [3]Status{14, 23, 32}},
	OpCAComm:        {"CAPF_OP_FAIL_CA_COMM_ERROR", [3]Status{15, 24, 8}},
	OpCARejected:    {"CAPF_OP_FAIL_CA_REJECTED", [3]Status{16, 25, 8}},
	OpLate:          {"CAPF_OP_FAIL_LATE_REQUEST", [3]Status{17, 26, 33}},
}

// String returns the product's name of the code.
func (c OpCode) String() string {
	if c < 0 || int(c) >= len(opCodes) {
		return fmt.Sprintf("CAPF_OP_%d", int(c))
	}
	return opCodes[c].name
}

// trace is the code as the trace's SetOperationStatus has it.
func (c OpCode) trace() string {
	if c == OpSuccess || c == OpNoCertificate {
		return "Success:" + c.String()
	}
	return "Fail:" + c.String()
}

// StatusOf is the certificate status that a device gets when the operation o
// ends with the code c.
func StatusOf(o Operation, c OpCode) Status {
	if c < 0 || int(c) >= len(opCodes) {
		c = OpFailed
	}
	switch o {
	case OperationUpgrade:
		return opCodes[c].statuses[0]
	case OperationDelete:
		return opCodes[c].statuses[1]
	case OperationTroubleshoot:
		return opCodes[c].statuses[2]
	default:
		return StatusNone
	}
}

// Status is a tkcertificatestatus. 2 and 3 are confirmed, the others follow
// the order of the product's list.
type Status int

// Some statuses that the program itself names.
const (
	StatusNone             Status = 1
	StatusOperationPending Status = 2
	StatusUpgradeSuccess   Status = 3
	StatusUpgradeFailed    Status = 6
	StatusNoEC             Status = 34
)

// reasons are the last words of the failures, in the order of the numbers.
var reasons = []named{
	{"Invalid LSC", "INVALID_LSC"},
	{"Invalid Authentication String", "INVALID_AUTH_STR"},
	{"Invalid MIC", "INVALID_MIC"},
	{"Invalid Credentials", "INVALID_CREDENTIALS"},
	{"Phone Communication Failure", "PHONE_COMM_FAILURE"},
	{"Key Generation Failed/Timeout", "KEY_GEN_FAILED"},
	{"CA Communication Failure", "CA_COMM_FAILURE"},
	{"CA Rejected Connection", "CA_REJECTED"},
	{"User Initiated Request Late/Timedout", "REQUEST_LATE"},
}

// statuses holds the names. Of the trace's names only that of 3 has been seen.
var statuses = makeStatuses()

func makeStatuses() []named {
	s := []named{
		{},
		{"None", "CERT_STATUS_NONE"},
		{"Operation Pending", "CERT_STATUS_OPERATION_PENDING"},
		{"Upgrade Success", "CERT_STATUS_UPGRADE_SUCCESS"},
		{"Delete Success", "CERT_STATUS_DELETE_SUCCESS"},
		{"Troubleshoot Success", "CERT_STATUS_TROUBLESHOOT_SUCCESS"},
		{"Upgrade Failed", "CERT_STATUS_UPGRADE_FAILED"},
		{"Delete Failed", "CERT_STATUS_DELETE_FAILED"},
		{"Troubleshoot Failed", "CERT_STATUS_TROUBLESHOOT_FAILED"},
	}
	for _, op := range []named{{"Upgrade", "UPGRADE"}, {"Delete", "DELETE"}, {"Troubleshoot", "TROUBLESHOOT"}} {
		for _, r := range reasons {
			// A troubleshoot does not involve the CA.
			if op.name == "Troubleshoot" && strings.HasPrefix(r.name, "CA ") {
				continue
			}
			s = append(s, named{op.name + " Failed: " + r.name, "CERT_STATUS_" + op.trace + "_FAILED_" + r.trace})
		}
	}
	return append(s, named{"Upgrade Failed: No Support for EC only in CAPF version 3", "CERT_STATUS_UPGRADE_FAILED_NO_EC"})
}

// String returns the product's words: "Upgrade Failed: Invalid LSC".
func (s Status) String() string    { return nameOf(statuses, int(s)) }
func (s Status) traceName() string { return traceOf(statuses, int(s)) }
func (s Status) trace() string     { return withNumber(s.traceName(), int(s)) }

// ParseStatus reads a status by its words, in any case, or by its number.
func ParseStatus(s string) (Status, error) {
	n, err := parseNamed(statuses, "certificate status", s)
	return Status(n), err
}

func withNumber(name string, n int) string { return name + ":" + strconv.Itoa(n) }

func nameOf(table []named, n int) string {
	if n < 0 || n >= len(table) || table[n].name == "" {
		return strconv.Itoa(n)
	}
	return table[n].name
}

func traceOf(table []named, n int) string {
	if n < 0 || n >= len(table) || table[n].trace == "" {
		return "INVALID"
	}
	return table[n].trace
}

func parseNamed(table []named, what, s string) (int, error) {
	var names []string
	for n, e := range table {
		if e.name == "" {
			continue
		}
		if strings.EqualFold(e.name, s) || strconv.Itoa(n) == s {
			return n, nil
		}
		names = append(names, e.name)
	}
	return 0, fmt.Errorf("there is no %s %q: use one of %s", what, s, strings.Join(names, ", "))
}
