package event

import (
	"time"

	"go.uber.org/zap/zapcore"
)

// Session is the pair that begins most lines of a CAPF trace: the number of
// the session and the name of the device, "2:SEP74A02FC0A675:".
type Session struct {
	Number int    `json:"session,omitempty"`
	Device string `json:"device,omitempty"`
}

// Step is something that CAPF notes with a fixed text.
type Step string

// The steps of a CAPF trace, in the order of an installation. Those up to
// StepESTServerSet belong to the start of the service and have no session.
const (
	StepTAMPassword     Step = "tam-password-exists"
	StepNginxConf       Step = "nginx-conf-updated"
	StepParametersRead  Step = "service-parameters-read"
	StepOnlineCAReady   Step = "online-ca-initialized"
	StepRAStart         Step = "ra-start-initiated"
	StepESTSetup        Step = "est-setup"
	StepESTClientInside Step = "est-client-inside"
	StepESTContext      Step = "est-context-ready"
	StepCACredentials   Step = "ca-credentials-retrieved"
	StepESTAuthSet      Step = "est-auth-set"
	StepESTServerSet    Step = "est-server-set"

	StepOnlineCAMode    Step = "online-ca-mode"         // "CA Mode is OnlineCA, Initiating Automatic Certificate Enrollment"
	StepReadCSR         Step = "read-csr"               // "Inside X509_REQ *read_csr()"
	StepReadCSRDone     Step = "read-csr-done"          //
	StepCertWritten     Step = "certificate-written"    // "Signed Cert written to /tmp/capf/cert/ location..."
	StepWriteBinary     Step = "write-binary-file"      //
	StepWriteBinaryDone Step = "write-binary-file-done" //
	StepConvert         Step = "convert-pkcs7"          // "Converting PKCS7 file to PEM format and PEM to DER"
	StepSigned          Step = "online-signing-ok"      // "Online Cert Signing successful"
	StepEnrollFailed    Step = "est-enroll-failed"      // "est_client_enroll_csr() Failed! ..."
	StepNotSigned       Step = "online-signing-failed"  // "Online Cert Signing Failed"
	StepReceivedEvent   Step = "received-event"         // "Recd event"
	StepCertReady       Step = "certificate-ready"      // "CA CERT RES certificate ready ."
	StepGotCertificate  Step = "got-certificate"        // "CAPF got device certificate"
	StepCertRead        Step = "certificate-read"       // "Read certificate for device"
	StepStoreCert       Step = "store-cert-sent"        // "Sending STORE_CERT_REQ msg"
	StepSetPublicKey    Step = "set-public-key"         // "In capf_ui_set_ph_public_key()"
)

// CAPFStep is a step of CAPF's that is noted with a fixed text.
type CAPFStep struct {
	Session
	Step Step `json:"step"`
}

// CAPFCertificateGeneration is the method by which CAPF gets certificates,
// read at the start: "OnlineCA" is number 4.
type CAPFCertificateGeneration struct {
	Method string `json:"method"`
	Number int    `json:"number"`
}

// CAPFOnlineCAHost is the Online CA hostname, read at the start.
type CAPFOnlineCAHost struct {
	Host string `json:"host"`
}

// CAPFOnlineCAPort is the Online CA port, read at the start.
type CAPFOnlineCAPort struct {
	Port int `json:"port"`
}

// CAPFOnlineCATemplate is the Online CA template, read at the start.
type CAPFOnlineCATemplate struct {
	Template string `json:"template"`
}

// CAPFCACertRead is the EST server's trust anchor, read by the EST client.
// Length is that of its PEM text in bytes.
type CAPFCACertRead struct {
	Length int `json:"length"`
}

// CAPFEnrollCalled begins an enrolment over EST. CSRFile is the path that the
// trace shows.
type CAPFEnrollCalled struct {
	Session
	CSRFile string `json:"csr_file"`
}

// CAPFEnrolled is what the EST client came back with: RV is an EST_ERR number,
// PKCS7Length the length of the answer's PKCS#7 in bytes.
type CAPFEnrolled struct {
	Session
	RV          int    `json:"rv"`
	Name        string `json:"name"`
	PKCS7Length int    `json:"pkcs7_length"`
}

// CAPFEnrollReturned is the return value of the whole enrolment.
type CAPFEnrollReturned struct {
	Session
	RV int `json:"rv"`
}

// CAPFDeviceFound says that the device that waits for the certificate is still
// connected.
type CAPFDeviceFound struct {
	Device string `json:"device"`
}

// CAPFReadset is a socket added to the set that CAPF waits on.
type CAPFReadset struct {
	Socket int `json:"socket"`
}

// CAPFCoreEvent is an event of the session's state machine, with the product's
// names: CAPF_EV_CA_CERT_REP in CAPF_STATE_AWAIT_CA_CERT_RESP.
type CAPFCoreEvent struct {
	Session
	Event string `json:"capf_event"`
	State string `json:"state"`
}

// CAPFLoadFile is a certificate file that CAPF loads; Loaded tells the line
// after it from the line before.
type CAPFLoadFile struct {
	Path   string `json:"path"`
	Loaded bool   `json:"loaded"`
}

// CAPFLSCVerified ends the online CA's part: the certificate is good, the
// request is removed.
type CAPFLSCVerified struct {
	CSRFile string `json:"csr_file"`
}

// CAPFPublicKey is the phone's public key as it is stored, Length its length
// in bytes. The bytes themselves are in DER when a decoder read them.
type CAPFPublicKey struct {
	Session
	DER []byte `json:"der,omitempty"`
}

// CAPFPublicKeyLength is the length in bytes of the phone's public key.
type CAPFPublicKeyLength struct {
	Session
	Length int `json:"length"`
}

// CAPFMessage is a message of the CAPF protocol, by its name:
// CAPF_MSG_END_SESSION.
type CAPFMessage struct {
	Type string `json:"type"`
}

// CAPFOperationStatus is the outcome of a device's operation as it is written
// to the device table.
type CAPFOperationStatus struct {
	Device string `json:"device"`
	// Operation is the name of the operation: "OPERATION_UPGRADE".
	Operation string `json:"operation"`
	// Text is the status's own name, "Success:CAPF_OP_SUCCESS", Code its
	// number, 0.
	Text string `json:"text"`
	Code int    `json:"code"`
	// DBStatus and DBNumber are the tkcertificatestatus:
	// "CERT_STATUS_UPGRADE_SUCCESS", 3.
	DBStatus string `json:"db_status"`
	DBNumber int    `json:"db_number"`
	// Duration is how long the table took to write.
	Duration time.Duration `json:"duration_ns,omitempty"`
}

// CAPFDeviceRow is a device's row as CAPF reads it. Values are written as the
// trace has them, a name and a number: "KEY_SIZE_2048:3".
type CAPFDeviceRow struct {
	Device          string `json:"device"`
	DefaultAuthMode string `json:"default_auth_mode"`
	KeySize         string `json:"key_size"`
	ECKeySize       string `json:"ec_key_size"`
	KeyOrder        string `json:"key_order"`
	Operation       string `json:"operation"`
	OperationStatus string `json:"operation_status"`
	AuthMode        string `json:"auth_mode"`
	FinishBy        string `json:"finish_by"` // "2019:01:20:12:00"
	// Duration is how long the table took to answer.
	Duration time.Duration `json:"duration_ns,omitempty"`
}

// CAPFTrace is a line of a CAPF trace that is none of the above: what a
// decoder keeps of lines it does not know, and what CAPF says in its own
// words. Func is the function that the line names, "debug" if empty.
type CAPFTrace struct {
	Session
	Func  string `json:"func,omitempty"`
	Text  string `json:"text"`
	Error bool   `json:"error,omitempty"`
}

// Level is that of an error if the line reports one.
func (e CAPFTrace) Level() zapcore.Level {
	if e.Error {
		return zapcore.ErrorLevel
	}
	return zapcore.InfoLevel
}

// Kind returns "capf-step".
func (CAPFStep) Kind() string { return "capf-step" }

// Kind returns "capf-certificate-generation".
func (CAPFCertificateGeneration) Kind() string { return "capf-certificate-generation" }

// Kind returns "capf-online-ca-host".
func (CAPFOnlineCAHost) Kind() string { return "capf-online-ca-host" }

// Kind returns "capf-online-ca-port".
func (CAPFOnlineCAPort) Kind() string { return "capf-online-ca-port" }

// Kind returns "capf-online-ca-template".
func (CAPFOnlineCATemplate) Kind() string { return "capf-online-ca-template" }

// Kind returns "capf-ca-cert-read".
func (CAPFCACertRead) Kind() string { return "capf-ca-cert-read" }

// Kind returns "capf-enroll-called".
func (CAPFEnrollCalled) Kind() string { return "capf-enroll-called" }

// Kind returns "capf-enrolled".
func (CAPFEnrolled) Kind() string { return "capf-enrolled" }

// Level is that of an error if the enrolment failed.
func (e CAPFEnrolled) Level() zapcore.Level {
	if e.RV != 0 {
		return zapcore.ErrorLevel
	}
	return zapcore.InfoLevel
}

// Kind returns "capf-enroll-returned".
func (CAPFEnrollReturned) Kind() string { return "capf-enroll-returned" }

// Kind returns "capf-device-found".
func (CAPFDeviceFound) Kind() string { return "capf-device-found" }

// Kind returns "capf-readset".
func (CAPFReadset) Kind() string { return "capf-readset" }

// Kind returns "capf-core-event".
func (CAPFCoreEvent) Kind() string { return "capf-core-event" }

// Kind returns "capf-load-file".
func (CAPFLoadFile) Kind() string { return "capf-load-file" }

// Kind returns "capf-lsc-verified".
func (CAPFLSCVerified) Kind() string { return "capf-lsc-verified" }

// Kind returns "capf-public-key".
func (CAPFPublicKey) Kind() string { return "capf-public-key" }

// Kind returns "capf-public-key-length".
func (CAPFPublicKeyLength) Kind() string { return "capf-public-key-length" }

// Kind returns "capf-message".
func (CAPFMessage) Kind() string { return "capf-message" }

// Kind returns "capf-operation-status".
func (CAPFOperationStatus) Kind() string { return "capf-operation-status" }

// Kind returns "capf-device-row".
func (CAPFDeviceRow) Kind() string { return "capf-device-row" }

// Kind returns "capf-trace".
func (CAPFTrace) Kind() string { return "capf-trace" }
