package fault

// Row says everything that is known about one failure.
type Row struct {
	// Name is the kebab-case code.
	Name string
	// Symptom is the failure in one short line, without a full stop.
	Symptom string
	// Cause and Fix are a sentence or two each, for the person who must mend it.
	Cause, Fix string

	// Curl and CurlText are what libcurl reports in the registration authority
	// when the failure is one of its exchange with certsrv. The numbers are
	// those of the product's libcurl, which still tells 51 from 60. CurlText
	// may hold the placeholders {host}, {subject} and {ms}.
	Curl     int
	CurlText string
	// EST is the number of the EST_ERR that CAPF's EST client ends with.
	// See [ESTName].
	EST int
	// HTTP is the status that an EST client is answered with. 0 means that no
	// answer is given: the failure is not one of an EST exchange.
	HTTP int
	// Retry says whether trying again can help.
	Retry Retry

	// Unsettled says that a request which failed so may all the same have
	// reached the certificate authority and been granted. It must not be
	// submitted again before that has been found out.
	Unsettled bool

	// Upstream is what the failure says about the certsrv that was asked.
	Upstream Health

	// DeviceStatus is the tkcertificatestatus of a device whose installation
	// ended so, and Operation CAPF's own operation code. 0 where the failure
	// is not one of a device.
	DeviceStatus, Operation int

	// HRESULTs are the Windows status values that mean this failure.
	HRESULTs []uint32

	// Bug is the vendor's bug number, if there is one.
	Bug string
	// Shows lists where the failure is to be seen, one entry a log.
	Shows []Sighting
}

// Retry says whether trying again can help.
type Retry uint8

const (
	// Never says that the same request will fail again.
	Never Retry = iota
	// AfterFix says that the same request can succeed once somebody has mended the cause.
	AfterFix
	// Later says that the same request can succeed by itself after a while.
	Later
)

// String returns "never", "after-fix" or "later".
func (r Retry) String() string {
	switch r {
	case AfterFix:
		return "after-fix"
	case Later:
		return "later"
	default:
		return "never"
	}
}

// Health is what a failure says about the certsrv that was asked: whether
// another request is likely to fare better there.
type Health uint8

const (
	// Silent says nothing: certsrv was not asked, or the failure is not its
	// own. A refused login is among these: the account is at fault, and trying
	// it elsewhere could lock it.
	Silent Health = iota
	// Working is a certsrv that did its work, and the answer is no.
	Working
	// Troubled is one that was reached, and could not do its work.
	Troubled
	// Unreachable is one that no connection was had to, so that nothing at all
	// was sent.
	Unreachable
)

// String returns "silent", "working", "troubled" or "unreachable".
func (h Health) String() string {
	switch h {
	case Working:
		return "working"
	case Troubled:
		return "troubled"
	case Unreachable:
		return "unreachable"
	default:
		return "silent"
	}
}

// Log names one of the logs of the chain.
type Log string

// The four logs of the product, and our own.
const (
	LogCAPF   Log = "capf"      // CAPF trace, capf<number>.txt
	LogStdout Log = "ces"       // CiscoRA stdout, nginx<number>.txt
	LogError  Log = "error.log" // nginx error.log with libEST lines
	LogIIS    Log = "iis"       // IIS W3C
	LogOwn    Log = "onlineca"  // onlineca.jsonl
	// DeviceTable is no log: CUCM's table of devices. What is a state and no
	// event is to be seen there alone.
	DeviceTable Log = "device-table"
)

// Sighting is a line, or a tell-tale absence of one, in a log.
type Sighting struct {
	Log  Log
	Line string
}

// ByHRESULT finds the failure that a Windows status value means.
func ByHRESULT(h uint32) (Code, bool) {
	for i := range table {
		for _, v := range table[i].HRESULTs {
			if v == h {
				return Code(i), true
			}
		}
	}
	return Unknown, false
}
