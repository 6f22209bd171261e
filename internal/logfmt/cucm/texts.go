package cucm

import "github.com/onlineca/onlineca/ra/event"

// The functions that say what is said.
const (
	fnDebug  = "debug"
	fnFind   = "findAndPost"
	fnInit   = "CServiceParameters::Init()"
	fnOnline = "CServiceParameters::OnlineCAInit()"
)

// stepText is how a step with a fixed text stands in the trace.
type stepText struct {
	fn   string
	text string
	// enters and leaves are functions that the trace enters or leaves right
	// after the line. The lines of CServiceParameters have no wrapper of their
	// own in the document.
	enters, leaves string
}

var steps = map[event.Step]stepText{
	event.StepTAMPassword:     {fn: fnInit, text: "TAM password already exists, no need to create.", enters: fnOnline},
	event.StepNginxConf:       {fn: fnOnline, text: "nginx.conf Updated and Credential.txt file is created"},
	event.StepParametersRead:  {fn: fnOnline, text: "Reading CAPF Service Parameters done", leaves: fnOnline},
	event.StepOnlineCAReady:   {fn: fnInit, text: "OnlineCA Initialized"},
	event.StepRAStart:         {fn: fnInit, text: "Cisco RA Service Start Initiated. Please check NGINX logs for further details"},
	event.StepESTSetup:        {fn: fnDebug, text: "CA Type is Online CA, setting up EST Connection"},
	event.StepESTClientInside: {fn: fnDebug, text: "Inside setUpESTClient"},
	event.StepESTContext:      {fn: fnDebug, text: "EST context ectx initialized"},
	event.StepCACredentials:   {fn: fnDebug, text: "CA Credentials retrieved"},
	event.StepESTAuthSet:      {fn: fnDebug, text: "est_client_set_auth() Successful!!"},
	event.StepESTServerSet:    {fn: fnDebug, text: "EST set server details success!!"},

	event.StepOnlineCAMode:    {fn: fnDebug, text: "CA Mode is OnlineCA, Initiating Automatic Certificate Enrollment"},
	event.StepReadCSR:         {fn: fnDebug, text: "Inside X509_REQ *read_csr()"},
	event.StepReadCSRDone:     {fn: fnDebug, text: "Completed action in X509_REQ *read_csr()"},
	event.StepCertWritten:     {fn: fnDebug, text: "Signed Cert written to /tmp/capf/cert/ location..."},
	event.StepWriteBinary:     {fn: fnDebug, text: "Inside write_binary_file()"},
	event.StepWriteBinaryDone: {fn: fnDebug, text: "Completed action in write_binary_file()"},
	event.StepConvert:         {fn: fnDebug, text: "Converting PKCS7 file to PEM format and PEM to DER"},
	event.StepSigned:          {fn: fnDebug, text: "Online Cert Signing successful"},
	event.StepEnrollFailed:    {fn: fnDebug, text: "est_client_enroll_csr() Failed! Could not obtain new certificate. Aborting."},
	event.StepNotSigned:       {fn: fnDebug, text: "Online Cert Signing Failed"},
	event.StepReceivedEvent:   {fn: fnDebug, text: "Recd event"},
	event.StepCertReady:       {fn: fnDebug, text: "CA CERT RES certificate ready ."},
	event.StepGotCertificate:  {fn: fnDebug, text: "CAPF got device certificate"},
	event.StepCertRead:        {fn: fnDebug, text: "Read certificate for device"},
	event.StepStoreCert:       {fn: fnDebug, text: "Sending STORE_CERT_REQ msg"},
	event.StepSetPublicKey:    {fn: fnDebug, text: "In capf_ui_set_ph_public_key()"},
}

// stepOf finds a step by its function and text.
var stepOf = func() map[string]map[string]event.Step {
	m := map[string]map[string]event.Step{}
	for s, t := range steps {
		if m[t.fn] == nil {
			m[t.fn] = map[string]event.Step{}
		}
		m[t.fn][t.text] = s
	}
	return m
}()

// The texts that hold values, up to the value and after it.
const (
	txtMethod   = "Certificate Generation Method="
	txtHost     = "Online CA hostname is "
	txtPort     = "Online CA Port : "
	txtTemplate = "Online CA Template is "
	txtCACert   = "cacert read success. cacert length : "
	txtCalled   = "Calling enrollCertUsingEST() csr_file="
	txtEnrolled = "Enrollment rv = "
	txtPKCS7    = ") with pkcs7 length = "
	txtReturned = "Return value from enrollCertUsingEST() : "
	txtFound    = "Device found in the cache map "
	txtAdded    = "addded "
	txtReadset  = " to readset"
	txtCore     = "CAPF CORE: Rcvd Event: "
	txtInState  = " in State: "
	txtLoad     = "loadFile('"
	txtLoadEnd  = "')"
	txtLoaded   = "loadFile() successfully loaded file: '"
	txtVerified = "LSC is verified. removing CSR at "
	txtPubKey   = "pubKey: "
	txtKeyLen   = "pubKey length: "
	txtMessage  = "MsgType : "
)

// The block in which an operation's outcome is written.
const (
	fnSetStatus   = "SetOperationStatus("
	fnMapStatus   = "CAPFDevice::MapCapf_OpStatusToDBLTypeCertificateStatus("
	txtValueIs    = "Operation status Value is '"
	txtDBStatus   = "=>DbStatus="
	txtSetTo      = "Operation status is set to "
	txtQuery      = "sql query - (UPDATE Device SET tkCertificateOperation=1, tkcertificatestatus='"
	txtQueryWhere = "' WHERE my_lower(name)=my_lower('"
	txtQueryEnd   = "'))"
)

// The block in which a device's row is read.
const (
	fnSelect   = "Select("
	txtExists  = "device exists"
	txtFinish  = "Operation Should Finish By="
	txtDefault = "BEFORE DB query Authentication Mode="
)

// rowFields are the lines of a device's row after "device exists", in order.
var rowFields = [...]struct {
	text  string
	value func(*event.CAPFDeviceRow) *string
}{
	{txtDefault, func(r *event.CAPFDeviceRow) *string { return &r.DefaultAuthMode }},
	{"KeySize=", func(r *event.CAPFDeviceRow) *string { return &r.KeySize }},
	{"ECKeySize=", func(r *event.CAPFDeviceRow) *string { return &r.ECKeySize }},
	{"KeyOrder=", func(r *event.CAPFDeviceRow) *string { return &r.KeyOrder }},
	{"Operation=", func(r *event.CAPFDeviceRow) *string { return &r.Operation }},
	{"Operation Status =", func(r *event.CAPFDeviceRow) *string { return &r.OperationStatus }},
	{"Authentication Mode=", func(r *event.CAPFDeviceRow) *string { return &r.AuthMode }},
	{txtFinish, func(r *event.CAPFDeviceRow) *string { return &r.FinishBy }},
}
