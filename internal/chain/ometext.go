package chain

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"
)

// The messages of OpenManage Enterprise (Dell article 000221202).
const (
	cgen1008 = "CGEN1008"
	csec9002 = "CSEC9002"
	cgen6002 = "CGEN6002"

	cgen1008Text = "Unable to process the request because an error occurred."
	csec9002Text = "Unable to upload the certificate because the certificate file provided is invalid."
	cgen6002Text = "Unable to complete the request because the input value for DistinguishedName is missing or an invalid value is entered."

	cgen1008Resolution = "Retry the operation. If the issue persists, contact your system administrator."
	csec9002Resolution = "Make sure the CA certificate and private key are correct and retry the operation."

	mutualText = "Unable to mutually authenticate and connect to the remote appliance. Please check the source and target appliances has valid certificate chain uploaded which are signed by the same CA."

	argCSRKey = "Invalid CSR key."
	argChain  = "Invalid certificate chain provided."
	argEKU    = "No Client/Server authentication EKU present in leaf certificate."
	argKU     = "User Certificate is not a web server certificate."

	omeLogFile = "./tomcat/application.log"
)

// omeLog is the entry in the console log bundle. The article prints it on
// several lines; the appliance writes the JSON on one. The thread's number
// differs from request to request.
//
//	[ERROR] 2024-01-25 11:10:34.735 [ajp-nio-0:0:0:0:0:0:0:1-8009-exec-10] SSLController - uploadNewCertificateChain():
//	 Error uploading certificate chain: {"error":{...}}
func omeLog(at time.Time, code, text string, args []string, resolution string, chainUpload bool) string {
	quoted := make([]string, len(args))
	for i, a := range args {
		quoted[i] = quote(a)
	}
	prefix := ""
	if chainUpload {
		prefix = "uploadNewCertificateChain():\n Error uploading certificate chain: "
	}
	return fmt.Sprintf(`[ERROR] %s [ajp-nio-0:0:0:0:0:0:0:1-8009-exec-1] SSLController - %s{"error":{"code":"Base.1.0.GeneralError",`+
		`"message":"A general error has occurred. See ExtendedInfo for more information.","@Message.ExtendedInfo":[{"MessageId":%s,"RelatedProperties":[],`+
		`"Message":%s,"MessageArgs":[%s],"Severity":"Critical","Resolution":%s}]}}`,
		at.UTC().Format("2006-01-02 15:04:05.000"), prefix, quote(code), quote(text), strings.Join(quoted, ","), quote(resolution))
}

// quote is a JSON string.
func quote(s string) string {
	b, err := json.Marshal(s)
	if err != nil {
		return `""`
	}
	return string(b)
}

// general is CGEN1008. Without args, the article does not show what the log
// has, and neither does the finding.
func (s *subject) general(args ...string) Finding {
	f := Finding{Level: Error, Code: cgen1008, Text: cgen1008Text, Basis: Documented}
	if len(args) > 0 {
		f.MessageArgs = args
		f.LogFile = omeLogFile
		f.Log = omeLog(s.At, cgen1008, cgen1008Text, args, cgen1008Resolution, true)
	}
	return f
}

// invalidFile is CSEC9002.
func (s *subject) invalidFile() Finding {
	return Finding{Level: Error, Code: csec9002, Text: csec9002Text, Basis: Documented, MessageArgs: []string{},
		LogFile: omeLogFile, Log: omeLog(s.At, csec9002, csec9002Text, nil, csec9002Resolution, false)}
}
