package fault

// estRows are the failures of the EST exchange and of the machine.
var estRows = map[Code]Row{
	ESTUnreachable: {
		Name: "est-unreachable", Symptom: "the EST server cannot be reached",
		Cause: "Nothing answers at the EST server's address and port: the service has not started, or the name or port is wrong.",
		Fix:   "Check that the registration authority runs (port 8084), and read its own log for a failed start.",
		EST:   ESTIPConnect, Retry: Later, DeviceStatus: 15, Operation: 9,
		Shows: []Sighting{{LogCAPF, "Enrollment rv = 43 (EST_ERR_IP_CONNECT) with pkcs7 length = 0"}},
	},
	ESTServerTrust: {
		Name: "est-server-trust", Symptom: "the EST server's certificate is not trusted",
		Cause: "The EST server's certificate does not lead to a trusted certificate, is out of its validity, or is for another name.",
		Fix:   "Give the EST client the CA of the EST server's certificate (--ca), and call the server by a name in its certificate.",
		EST:   ESTSSLConnect, Retry: AfterFix, DeviceStatus: 15, Operation: 9,
		Shows: []Sighting{{LogCAPF, "Enrollment rv = 38 (EST_ERR_SSL_CONNECT) with pkcs7 length = 0"}},
	},
	ESTReadTimeout: {
		Name: "est-read-timeout", Symptom: "the EST server did not answer in time",
		Cause: "The registration authority was still waiting for certsrv when CAPF's ten seconds were over. The real cause is in the registration authority's log.",
		Fix:   "Read error.log and the CiscoRA log for the same moment.",
		EST:   ESTSSLRead, Retry: Later, DeviceStatus: 15, Operation: 9, Bug: "CSCvo58656",
		Shows: []Sighting{{LogCAPF, genericCAPF}},
	},
	ESTHTTPWriteFault: {
		Name: "est-http-write", Symptom: "the EST client could not send its request",
		Cause: "The EST server closed the connection while the request was being sent.",
		Fix:   "Read the registration authority's log for the same moment; in the product this goes with a slow CA.",
		EST:   ESTHTTPWrite, Retry: Later, DeviceStatus: 15, Operation: 9, Bug: "CSCvf83629",
		Shows: []Sighting{{LogCAPF, "Enrollment rv = 10 (EST_ERR_HTTP_WRITE) with pkcs7 length = 0"}},
	},
	ESTAnswerUnreadable: {
		Name: "est-answer-unreadable", Symptom: "the EST server's answer is not one",
		Cause: "The answer lacks what EST asks for: a length, a content type, or a body that can be decoded.",
		Fix:   "Check that the address is that of an EST server and that nothing in between rewrites answers.",
		EST:   ESTHTTPUnsupported, Retry: Later, DeviceStatus: 15, Operation: 9,
		Shows: []Sighting{{LogCAPF, "Enrollment rv = 11 (EST_ERR_HTTP_UNSUPPORTED) with pkcs7 length = 0"}},
	},
	ESTServerError: {
		Name: "est-server-error", Symptom: "the EST server answered with an error",
		Cause: "The registration authority could not get the certificate: certsrv failed it, or it failed itself. Its own text, if it sent one, follows.",
		Fix:   "Read the registration authority's log for the same moment; it names the cause.",
		EST:   ESTUnknown, HTTP: 502, Retry: Later, DeviceStatus: 15, Operation: 9,
		Shows: []Sighting{{LogCAPF, "Enrollment rv = 94 (EST_ERR_UNKNOWN) with pkcs7 length = 0"}},
	},
	ClientCertificate: {
		Name: "client-certificate", Symptom: "the client's certificate is not accepted",
		Cause: "The TLS client certificate does not come from a configured CA, is out of its validity, or may not be used for this.",
		Fix:   "Use a certificate of a configured CA, or add its CA to est.auth.client_ca.",
		EST:   ESTAuthFail, HTTP: 401, Retry: AfterFix, DeviceStatus: 15, Operation: 9,
		Shows: []Sighting{{LogError, "Enrollment failed with rc=22 (EST_ERR_AUTH_FAIL)"}},
	},
	NotAuthorized: {
		Name: "not-authorized", Symptom: "the client may not have this certificate",
		Cause: "The client is known, but the request is not for the identity that it proved.",
		Fix:   "Request the subject that the client authenticated as, or change the policy.",
		EST:   ESTUnknown, HTTP: 403, Retry: AfterFix, DeviceStatus: 16, Operation: 10,
		Shows: []Sighting{{LogOwn, "code not-authorized"}},
	},
	Busy: {
		Name: "busy", Symptom: "the registration authority cannot take the request now",
		Cause: "Requests arrive faster than certsrv answers them, or certsrv is in trouble and is left alone for a while.",
		Fix:   "Wait; the client asks again by itself. Look into the speed of the CA, and at what /readyz or the log says of certsrv.",
		EST:   ESTCAEnrollRetry, HTTP: 202, Retry: Later, DeviceStatus: 15, Operation: 9,
		Shows: []Sighting{{LogOwn, "code busy"}},
	},
	InProgress: {
		Name: "in-progress", Symptom: "the registration authority has not finished with the request",
		Cause: "The CA has not answered yet, or a CA manager has not approved the request yet. The registration authority goes on with it by itself; nothing is lost.",
		Fix:   "Ask again with the same request after the time given; it is not submitted a second time.",
		EST:   ESTCAEnrollRetry, HTTP: 202, Retry: Later, DeviceStatus: 15, Operation: 9,
		Shows: []Sighting{{LogCAPF, "Enrollment rv = 26 (EST_ERR_CA_ENROLL_RETRY) with pkcs7 length = 0"}},
	},
	Canceled: {
		Name: "canceled", Symptom: "given up because the caller went away",
		Cause: "The client closed its connection, or the program was interrupted.",
		Fix:   "Start again where it stopped.",
		EST:   ESTSSLRead, HTTP: 500, Retry: Later, Unsettled: true, DeviceStatus: 13, Operation: 7,
		Shows: []Sighting{{LogOwn, "code canceled"}},
	},
	Internal: {
		Name: "internal", Symptom: "a fault of this program",
		Cause: "Something happened that cannot happen.",
		Fix:   "Report it, with the log.",
		EST:   ESTUnknown, HTTP: 500, Retry: Later, Unsettled: true, DeviceStatus: 6, Operation: 2,
		Shows: []Sighting{{LogOwn, "code internal"}},
	},

	DiskFull: {
		Name: "disk", Symptom: "a file or the database could not be written",
		Cause: "The disk is full, the directory is not writable, or the path is wrong.",
		Fix:   "Make room, let this user write there, or choose another directory.",
		EST:   ESTNone, HTTP: 500, Retry: AfterFix, DeviceStatus: 6, Operation: 2,
		Shows: []Sighting{{LogOwn, "code disk"}},
	},
	Database: {
		Name: "database", Symptom: "the database that keeps the requests does not do its part",
		Cause: "The PostgreSQL named by store does not run, cannot be reached, does not let the program in or is read-only; or another process keeps an SQLite file locked. The request has not been submitted: nothing is, unless it has been written down first.",
		Fix:   "Look whether the database runs, and whether psql can log in with the same address. Clients come back by themselves.",
		EST:   ESTCAEnrollRetry, HTTP: 202, Retry: Later, DeviceStatus: 15, Operation: 9,
		Shows: []Sighting{{LogOwn, "code database"}},
	},
}
