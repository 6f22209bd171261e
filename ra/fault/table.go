package fault

// The failures, in the order of the road: the way to certsrv, logging in, the
// certificate authority's chain, the request itself, the answer, the EST
// exchange, CAPF and its devices.
const (
	Unknown Code = iota

	// The way to certsrv.
	DNS
	ConnectionRefused
	ConnectTimeout
	TLSHandshake
	UntrustedChain
	SelfSigned
	NameMismatch
	NotYetValid
	Expired
	ConnectionLost

	// Logging in.
	LoginTimeout
	BadCredentials
	LoginSuspended
	NTLMDisabled
	NotChallenged
	EPARequired
	WrongHost

	// Pages.
	PageTimeout
	PageLanguage
	PageUnreadable
	BodyTooLarge
	ServerError

	// The chain.
	ChainTimeout
	ChainUnreadable

	// Templates.
	Template
	TemplateDenied
	NoTemplate

	// The request and what the certificate authority says of it.
	MalformedCSR
	BadCSRSignature
	KeyTooShort
	RequestRefused
	DeniedByPolicy
	DeniedByAdmin
	RevocationOffline
	Revoked
	Pending
	EnrollTimeout
	FetchTimeout
	OutcomeUnknown
	NoSuchRequest
	CAStopped
	RPCUnavailable
	CAAccessDenied
	WrongKeyCertificate
	CertificateUnreadable
	LSCKeyUsage
	CACNCAPF

	// The EST exchange.
	ESTUnreachable
	ESTServerTrust
	ESTReadTimeout
	ESTHTTPWriteFault
	ESTAnswerUnreadable
	ESTServerError
	ClientCertificate
	NotAuthorized
	Busy
	InProgress
	Canceled
	Internal

	// The machine.
	DiskFull
	Database

	// CAPF and its devices.
	AuthString
	AuthStringLockout
	DeadlinePassed
	KeygenTimeout
	PhoneUnreachable
	DeviceCannotSign
	UnknownDevice
	InvalidLSC
	InvalidMIC
	ECUnsupported
	StaleLSC
	CAPFTrustMissing
	CAPFCertificate
)

const (
	genericCAPF = "Enrollment rv = 35 (EST_ERR_SSL_READ) with pkcs7 length = 0"
	loginFailed = "login_to_certsrv_ca: Curl call for MS CA login failed with return code "
	noLogin     = "retrieve_cacerts: Unable to execute login to certsrv with curl"
	noChain     = "ra_certsrv_ca_plugin_postconf: Unable to retrieve CA Cert chain from CA"
)

// startFailure lists where a failed login at the start of the service shows.
func startFailure(curl string) []Sighting {
	return []Sighting{
		{LogCAPF, genericCAPF},
		{LogStdout, loginFailed + curl},
		{LogStdout, noChain},
	}
}

// table has one row for every code. Sources: the vendor's troubleshooting
// document for CAPF Online CA, and Microsoft's documents for the HRESULTs.
var table = [...]Row{
	Unknown: {
		Name: "unknown", Symptom: "failed for a reason that has no code",
		Cause: "The failure is none of those that this program knows by name.",
		Fix:   "Read the cause that follows the message; if it is clear enough to deserve a name, report it.",
		EST:   ESTUnknown, HTTP: 500, Retry: Later, Unsettled: true, DeviceStatus: 6, Operation: 2,
	},

	DNS: {
		Name: "dns", Symptom: "the name of the certsrv host does not resolve",
		Cause: "The registration authority's resolver does not know the configured Online CA hostname.",
		Fix:   "Correct the hostname (Online CA Hostname, certsrv.url), or the DNS server that this machine asks.",
		Curl:  6, CurlText: "Could not resolve: {host} (Domain name not found)",
		EST: ESTSSLRead, HTTP: 502, Retry: AfterFix, Upstream: Unreachable, DeviceStatus: 15, Operation: 9,
		Shows: startFailure("6 (Could not resolve: HOST (Domain name not found))"),
	},
	ConnectionRefused: {
		Name: "connection-refused", Symptom: "the certsrv host refuses the connection",
		Cause: "Nothing listens on that port of the certsrv host, no route leads there, or a firewall resets the connection.",
		Fix:   "Check that IIS runs and that its HTTPS binding has the configured port; check the firewall between the two.",
		Curl:  7, CurlText: "Failed to connect to {host}: Connection refused",
		EST: ESTSSLRead, HTTP: 502, Retry: Later, Upstream: Unreachable, DeviceStatus: 15, Operation: 9,
		Shows: startFailure("7 (Failed to connect to HOST: Connection refused)"),
	},
	ConnectTimeout: {
		Name: "connect-timeout", Symptom: "the certsrv host did not accept the connection in time",
		Cause: "Packets to the certsrv host are dropped, or the host is overloaded.",
		Fix:   "Check the firewall and the route to the certsrv host; a host that is up but slow needs a longer login timeout.",
		Curl:  28, CurlText: "Connection timed out after {ms} milliseconds",
		EST: ESTSSLRead, HTTP: 504, Retry: Later, Upstream: Unreachable, DeviceStatus: 15, Operation: 9,
		Shows: startFailure("28 (Connection timed out after N milliseconds)"),
	},
	TLSHandshake: {
		Name: "tls-handshake", Symptom: "the TLS handshake with the certsrv host failed",
		Cause: "The port does not speak TLS, or the two sides share no protocol version or cipher suite.",
		Fix:   "Check that the port is the one of the HTTPS binding, and that the server allows TLS 1.2 or 1.3.",
		Curl:  35, CurlText: "SSL connect error",
		EST: ESTSSLRead, HTTP: 502, Retry: AfterFix, Upstream: Unreachable, DeviceStatus: 15, Operation: 9,
		Shows: startFailure("35 (SSL connect error)"),
	},
	UntrustedChain: {
		Name: "untrusted-chain", Symptom: "the certificate of the certsrv host comes from a CA that is not trusted",
		Cause: "The root or an intermediate of the IIS certificate's chain is not among the trusted certificates.",
		Fix:   "Add the root and every intermediate of the IIS certificate to the trusted certificates (CAPF-trust, certsrv.tls.ca), and restart the service.",
		Curl:  60, CurlText: "SSL certificate problem: unable to get local issuer certificate",
		EST: ESTSSLRead, HTTP: 502, Retry: AfterFix, Upstream: Unreachable, DeviceStatus: 15, Operation: 9,
		Shows: startFailure("60 (SSL certificate problem: unable to get local issuer certificate)"),
	},
	SelfSigned: {
		Name: "self-signed", Symptom: "the certsrv host presents a self-signed certificate",
		Cause: "IIS uses a certificate that no CA has issued: issuer and subject are the same. The product does not support it, even when the certificate itself is trusted.",
		Fix:   "Give the HTTPS binding of IIS a certificate that a CA has issued.",
		Curl:  60, CurlText: "SSL certificate problem: unable to get local issuer certificate",
		EST: ESTSSLRead, HTTP: 502, Retry: AfterFix, Upstream: Unreachable, DeviceStatus: 15, Operation: 9,
		Shows: startFailure("60 (SSL certificate problem: unable to get local issuer certificate)"),
	},
	NameMismatch: {
		Name: "name-mismatch", Symptom: "the certificate of the certsrv host is for another name",
		Cause: "The configured hostname is not among the names in the IIS certificate.",
		Fix:   "Use the name that the certificate carries, or reissue the certificate for the configured name.",
		Curl:  51, CurlText: "SSL: certificate subject name '{subject}' does not match target host name '{host}'",
		EST: ESTSSLRead, HTTP: 502, Retry: AfterFix, Upstream: Unreachable, DeviceStatus: 15, Operation: 9,
		Shows: []Sighting{
			{LogCAPF, genericCAPF},
			{LogStdout, loginFailed + "51 (SSL: certificate subject name 'NAME' does not match target host name 'HOST')"},
		},
	},
	NotYetValid: {
		Name: "not-yet-valid", Symptom: "the certificate of the certsrv host is not yet valid",
		Cause: "By the clock of this machine the IIS certificate's validity has not begun: usually the clock (NTP) is wrong.",
		Fix:   "Correct the clock here or where the certificate was issued, and restart the service.",
		Curl:  60, CurlText: "SSL certificate problem: certificate is not yet valid",
		EST: ESTSSLRead, HTTP: 502, Retry: AfterFix, Upstream: Unreachable, DeviceStatus: 15, Operation: 9,
		Shows: startFailure("60 (SSL certificate problem: certificate is not yet valid)"),
	},
	Expired: {
		Name: "expired", Symptom: "the certificate of the certsrv host has expired",
		Cause: "By the clock of this machine the IIS certificate's validity is over.",
		Fix:   "Renew the IIS certificate, or correct the clock of this machine.",
		Curl:  60, CurlText: "SSL certificate problem: certificate has expired",
		EST: ESTSSLRead, HTTP: 502, Retry: AfterFix, Upstream: Unreachable, DeviceStatus: 15, Operation: 9,
		Shows: startFailure("60 (SSL certificate problem: certificate has expired)"),
	},
	ConnectionLost: {
		Name: "connection-lost", Symptom: "certsrv closed the connection before it answered",
		Cause: "The connection broke during an exchange that can be repeated: IIS restarted, or something between the two cut it.",
		Fix:   "Try again; if it stays so, look into the IIS log and at load balancers between the two.",
		Curl:  56, CurlText: "Recv failure: Connection reset by peer",
		EST: ESTUnknown, HTTP: 502, Retry: Later, Upstream: Troubled, DeviceStatus: 15, Operation: 9,
		Shows: []Sighting{{LogCAPF, "Online Cert Signing Failed"}},
	},

	LoginTimeout: {
		Name: "login-timeout", Symptom: "certsrv did not answer the login in time",
		Cause: "IIS accepted the connection but did not finish the login to /certsrv within the time allowed (10 seconds in the product, where it cannot be changed).",
		Fix:   "Find out why IIS or its domain controller is slow; here, certsrv.timeouts.login can be raised.",
		Curl:  28, CurlText: "Operation timed out after {ms} milliseconds with 0 bytes received",
		EST: ESTSSLRead, HTTP: 504, Retry: Later, Upstream: Troubled, DeviceStatus: 15, Operation: 9, Bug: "CSCvo58656",
		Shows: startFailure("28 (Operation timed out after 10000 milliseconds with 0 bytes received)"),
	},
	BadCredentials: {
		Name: "bad-credentials", Symptom: "the user name or password was refused",
		Cause: "Windows rejected the account: wrong user name, wrong form of the name (DOMAIN\\user, user@domain), wrong password, or an account that is disabled or locked.",
		Fix:   "Check the account and its password (Online CA Username and Password), and the form of the name, before trying again: each refused attempt counts towards the account's lockout.",
		EST:   ESTAuthFail, HTTP: 401, Retry: AfterFix, DeviceStatus: 16, Operation: 10,
		Shows: []Sighting{
			{LogError, "HTTP authentication failed. Auth type=1"},
			{LogIIS, "401 1 2148074252 on /certsrv"},
		},
	},
	LoginSuspended: {
		Name: "login-suspended", Symptom: "no login is attempted for a while, because the last one was refused",
		Cause: "Windows refused this account a moment ago. Trying on with the same credentials could lock it.",
		Fix:   "Correct the credentials; logins are attempted again when the pause is over (certsrv.login_pause).",
		EST:   ESTAuthFail, HTTP: 401, Retry: AfterFix, DeviceStatus: 16, Operation: 10,
		Shows: []Sighting{{LogOwn, "code login-suspended"}},
	},
	NTLMDisabled: {
		Name: "ntlm-disabled", Symptom: "certsrv does not offer NTLM",
		Cause: "Windows authentication on /certsrv has no NTLM provider, only Negotiate:Kerberos or Basic.",
		Fix:   "Add NTLM (or Negotiate) to the providers of Windows authentication on the certsrv application in IIS.",
		EST:   ESTSSLRead, HTTP: 502, Retry: AfterFix, Upstream: Troubled, DeviceStatus: 15, Operation: 9,
		Shows: []Sighting{
			{LogCAPF, genericCAPF},
			{LogStdout, noLogin},
			{LogStdout, noChain},
			{LogIIS, "401 on /certsrv, never a user name"},
		},
	},
	NotChallenged: {
		Name: "not-challenged", Symptom: "certsrv answered without asking for a login",
		Cause: "The site allows anonymous access, or the address is not that of a certsrv.",
		Fix:   "Check the address; switch Anonymous authentication off on the certsrv application in IIS.",
		EST:   ESTSSLRead, HTTP: 502, Retry: AfterFix, Upstream: Troubled, DeviceStatus: 15, Operation: 9,
		Shows: []Sighting{
			{LogCAPF, genericCAPF},
			{LogStdout, noLogin},
			{LogStdout, noChain},
			{LogIIS, "200 on /certsrv without a user name"},
		},
	},
	EPARequired: {
		Name: "epa-required", Symptom: "certsrv requires Extended Protection and refused the login",
		Cause: "Extended Protection is Required on certsrv, and the login carried no channel binding, or one for another certificate: TLS ends at something in between.",
		Fix:   "Switch channel binding on (certsrv.extended_protection.channel_binding: auto); behind a TLS-terminating device, bind to the certificate that IIS itself presents. It is told from a wrong password by the log of IIS, onlineca doctor, or certsrv.extended_protection.probe.",
		EST:   ESTSSLRead, HTTP: 502, Retry: AfterFix, DeviceStatus: 15, Operation: 9,
		Shows: []Sighting{
			{LogCAPF, genericCAPF},
			{LogStdout, noLogin},
			{LogStdout, noChain},
			{LogIIS, "401 1 2148074310 on /certsrv"},
		},
	},
	WrongHost: {
		Name: "wrong-host", Symptom: "a request for another host than the configured one was refused",
		Cause: "A redirect or a link led away from the configured certsrv host; credentials are never sent elsewhere.",
		Fix:   "Configure the host that certsrv really answers on.",
		EST:   ESTUnknown, HTTP: 502, Retry: AfterFix, Upstream: Troubled, DeviceStatus: 15, Operation: 9,
		Shows: []Sighting{{LogOwn, "code wrong-host"}},
	},

	PageTimeout: {
		Name: "page-timeout", Symptom: "certsrv did not deliver a page in time",
		Cause: "certrqxt.asp looks templates up in Active Directory, which takes minutes in large forests.",
		Fix:   "Raise certsrv.timeouts.page, or look into the domain controllers that the web server asks.",
		Curl:  28, CurlText: "Operation timed out after {ms} milliseconds with 0 bytes received",
		EST: ESTSSLRead, HTTP: 504, Retry: Later, Upstream: Troubled, DeviceStatus: 15, Operation: 9, Bug: "CSCvo58656",
		Shows: []Sighting{{LogCAPF, genericCAPF}},
	},
	PageLanguage: {
		Name: "page-language", Symptom: "the pages of certsrv are not in English, which the product cannot read",
		Cause: "Web Enrollment was installed in another language. The product matches English sentences; this program does not.",
		Fix:   "For the product: install the English Web Enrollment pages. For this program nothing needs doing.",
		EST:   ESTUnknown, HTTP: 502, Retry: AfterFix, Unsettled: true, DeviceStatus: 15, Operation: 9,
		Shows: []Sighting{{LogIIS, "200 on certfnsh.asp, but no certnew.cer"}},
	},
	PageUnreadable: {
		Name: "page-unreadable", Symptom: "certsrv's answer is not a page that certsrv sends",
		Cause: "The page has none of the marks of Web Enrollment: it was cut off, it comes from something else than certsrv, or the pages were changed.",
		Fix:   "Open the same address in a browser; look for a proxy or a portal in between.",
		EST:   ESTUnknown, HTTP: 502, Retry: Later, Upstream: Troubled, Unsettled: true, DeviceStatus: 15, Operation: 9,
		Shows: []Sighting{{LogOwn, "code page-unreadable"}},
	},
	BodyTooLarge: {
		Name: "body-too-large", Symptom: "certsrv's answer is larger than any page it sends",
		Cause: "The answer passed the size limit and was given up; whatever sent it is not certsrv, or not well.",
		Fix:   "Open the same address in a browser; look for a proxy or a portal in between.",
		EST:   ESTUnknown, HTTP: 502, Retry: Later, Upstream: Troubled, Unsettled: true, DeviceStatus: 15, Operation: 9,
		Shows: []Sighting{{LogOwn, "code body-too-large"}},
	},
	ServerError: {
		Name: "server-error", Symptom: "the web server of certsrv answered with an error",
		Cause: "IIS could not serve the page: an error of its application pool, of ASP, or of access to the page.",
		Fix:   "Read the status and substatus in the IIS log and the event log of the web server.",
		EST:   ESTUnknown, HTTP: 502, Retry: Later, Upstream: Troubled, Unsettled: true, DeviceStatus: 15, Operation: 9,
		Shows: []Sighting{{LogIIS, "status 4xx or 5xx on /certsrv"}},
	},

	ChainTimeout: {
		Name: "chain-timeout", Symptom: "certsrv did not deliver the CA's certificate chain in time",
		Cause: "The login succeeded, but certnew.p7b was not answered within the time allowed (10 seconds in the product).",
		Fix:   "Find out why the CA is slow to answer its web front end; here, certsrv.timeouts.page can be raised.",
		Curl:  28, CurlText: "Operation timed out after {ms} milliseconds with 0 bytes received",
		EST: ESTSSLRead, HTTP: 504, Retry: Later, Upstream: Troubled, DeviceStatus: 15, Operation: 9, Bug: "CSCvo58656",
		Shows: []Sighting{
			{LogCAPF, genericCAPF},
			{LogStdout, "retrieve_cacerts: Curl request failed with return code 28 (Operation timed out after 10001 milliseconds with 0 bytes received)"},
			{LogStdout, noChain},
		},
	},
	ChainUnreadable: {
		Name: "chain-unreadable", Symptom: "what certsrv sent as its certificate chain is not one",
		Cause: "certnew.p7b delivered something that is no PKCS#7, or certificates that do not form one chain up to a root.",
		Fix:   "Download the chain in a browser and look at it; publish the missing CA certificate.",
		EST:   ESTSSLRead, HTTP: 502, Retry: Later, Upstream: Troubled, DeviceStatus: 15, Operation: 9,
		Shows: []Sighting{
			{LogCAPF, genericCAPF},
			{LogStdout, noChain},
			{LogIIS, "200 on certnew.p7b"},
			{LogOwn, "code chain-unreadable"},
		},
	},

	Template: {
		Name: "template", Symptom: "the certificate template is not offered by the CA",
		Cause: "The configured template name is none of those that the CA publishes to this account: a typo, the display name instead of the name, or a template that is not published. The product reports it as a failed login.",
		Fix:   "Set the template's name (Online CA Template) as it stands in the template list of certrqxt.asp; publish the template on the CA and give the account Read and Enroll.",
		EST:   ESTAuthFail, HTTP: 401, Retry: AfterFix, Upstream: Working, DeviceStatus: 16, Operation: 10,
		HRESULTs: []uint32{0x80094800},
		Shows: []Sighting{
			{LogError, "navigate_to_certsrv_page: Secure connection to MS CertServ completed successfully"},
			{LogError, "HTTP authentication failed. Auth type=1"},
			{LogError, "Enrollment failed with rc=22 (EST_ERR_AUTH_FAIL)"},
			{LogIIS, "200 on certrqxt.asp, but no POST certfnsh.asp"},
		},
	},
	TemplateDenied: {
		Name: "template-denied", Symptom: "the account may not enrol for the template",
		Cause: "The permissions of the certificate template give this account no Enroll right.",
		Fix:   "Give the account Read and Enroll on the template.",
		EST:   ESTHTTPBadReq, HTTP: 400, Retry: AfterFix, Upstream: Working, DeviceStatus: 16, Operation: 10,
		HRESULTs: []uint32{0x80094012},
		Shows:    []Sighting{{LogIIS, "200 on certfnsh.asp, but no certnew.cer"}},
	},
	NoTemplate: {
		Name: "no-template", Symptom: "the request names no certificate template",
		Cause: "An enterprise CA needs a template name, and the request carried none.",
		Fix:   "Configure the template (certsrv.template).",
		EST:   ESTHTTPBadReq, HTTP: 400, Retry: AfterFix, Upstream: Working, DeviceStatus: 16, Operation: 10,
		HRESULTs: []uint32{0x80094801},
		Shows:    []Sighting{{LogIIS, "200 on certfnsh.asp, but no certnew.cer"}},
	},

	MalformedCSR: {
		Name: "malformed-csr", Symptom: "the certificate request is not a PKCS#10 request",
		Cause: "What was sent as a request cannot be parsed: another file, a truncated one, or a key type that is not supported.",
		Fix:   "Make the request anew; openssl req -in FILE -noout -text shows what a file holds.",
		EST:   ESTBadPKCS10, HTTP: 400, Retry: Never, DeviceStatus: 6, Operation: 2,
		HRESULTs: []uint32{0x8009310b, 0x80093102, 0x80093100, 0x80093101, 0x80093103, 0x80093104, 0x80093105, 0x80093106, 0x80093107, 0x80093108, 0x80093109, 0x8009310a},
		Shows: []Sighting{
			{LogCAPF, "Enrollment rv = 9 (EST_ERR_BAD_PKCS10) with pkcs7 length = 0"},
		},
	},
	BadCSRSignature: {
		Name: "bad-csr-signature", Symptom: "the signature of the certificate request is wrong",
		Cause: "The request was not signed by the key that it carries, or was changed afterwards.",
		Fix:   "Make the request anew on the device that holds the key.",
		EST:   ESTBadPKCS10, HTTP: 400, Retry: Never, DeviceStatus: 6, Operation: 2,
		HRESULTs: []uint32{0x80090006},
		Shows: []Sighting{
			{LogCAPF, "Enrollment rv = 9 (EST_ERR_BAD_PKCS10) with pkcs7 length = 0"},
		},
	},
	KeyTooShort: {
		Name: "key-too-short", Symptom: "the key in the certificate request is too short",
		Cause: "The template or the policy wants a longer key than the device made.",
		Fix:   "Raise the device's key size (CAPF Settings: Key Size), or lower the template's minimum.",
		EST:   ESTHTTPBadReq, HTTP: 400, Retry: AfterFix, Upstream: Working, DeviceStatus: 16, Operation: 10,
		HRESULTs: []uint32{0x80094811},
		Shows:    []Sighting{{LogIIS, "200 on certfnsh.asp, but no certnew.cer"}},
	},
	RequestRefused: {
		Name: "request-refused", Symptom: "the registration authority's policy refuses the request",
		Cause: "A rule of the registration authority does not allow this request; the message names the rule.",
		Fix:   "Change the request, or the rule.",
		EST:   ESTHTTPBadReq, HTTP: 400, Retry: AfterFix, DeviceStatus: 16, Operation: 10,
		Shows: []Sighting{{LogOwn, "code request-refused"}},
	},
	DeniedByPolicy: {
		Name: "denied-by-policy", Symptom: "the CA's policy denied the request",
		Cause: "The policy module of the CA refused the request; its message says why.",
		Fix:   "Look the request up under Failed Requests on the CA, and change the template or the request accordingly.",
		EST:   ESTHTTPBadReq, HTTP: 400, Retry: AfterFix, Upstream: Working, DeviceStatus: 16, Operation: 10,
		HRESULTs: []uint32{0x8009480f, 0x80094809, 0x8009480b, 0x80094001},
		Shows:    []Sighting{{LogIIS, "200 on certfnsh.asp, but no certnew.cer"}},
	},
	DeniedByAdmin: {
		Name: "denied-by-admin", Symptom: "a CA manager denied the request",
		Cause: "The template wants a manager's approval, and the manager refused.",
		Fix:   "Ask the CA manager named in the message.",
		EST:   ESTHTTPBadReq, HTTP: 400, Retry: Never, Upstream: Working, DeviceStatus: 16, Operation: 10,
		HRESULTs: []uint32{0x80094014},
		Shows:    []Sighting{{LogIIS, "200 on certnew.cer"}},
	},
	RevocationOffline: {
		Name: "revocation-offline", Symptom: "the CA could not check revocation and denied the request",
		Cause: "A revocation list that the CA needs is expired or out of its reach.",
		Fix:   "Publish the CRL of the CA above, and make it reachable from the CA.",
		EST:   ESTUnknown, HTTP: 502, Retry: AfterFix, Upstream: Working, DeviceStatus: 15, Operation: 9,
		HRESULTs: []uint32{0x80092013},
		Shows:    []Sighting{{LogIIS, "200 on certfnsh.asp, but no certnew.cer"}},
	},
	Revoked: {
		Name: "revoked", Symptom: "the certificate was issued and then revoked",
		Cause: "Somebody revoked the certificate before it was fetched.",
		Fix:   "Request a new certificate; ask the CA manager why this one was revoked.",
		EST:   ESTHTTPBadReq, HTTP: 400, Retry: Never, Upstream: Working, DeviceStatus: 16, Operation: 10,
		Shows: []Sighting{{LogIIS, "200 on certfnsh.asp, but no certnew.cer"}},
	},
	Pending: {
		Name: "pending", Symptom: "the request waits for a CA manager's approval",
		Cause: "The template is set to CA certificate manager approval, or the CA sets every request pending.",
		Fix:   "Approve the request on the CA under Pending Requests; the client asks again by itself. For phones, switch approval off in the template: they do not wait.",
		EST:   ESTCAEnrollRetry, HTTP: 202, Retry: Later, Upstream: Working, DeviceStatus: 15, Operation: 9,
		Shows: []Sighting{{LogCAPF, "Enrollment rv = 26 (EST_ERR_CA_ENROLL_RETRY) with pkcs7 length = 0"}},
	},
	EnrollTimeout: {
		Name: "enroll-timeout", Symptom: "certsrv did not answer the submitted request in time",
		Cause: "certfnsh.asp issues within the request, and the CA took longer than the time allowed. The certificate may have been issued all the same.",
		Fix:   "Look at Issued Certificates on the CA before trying again; find out why it is slow; here, certsrv.timeouts.submit can be raised.",
		Curl:  28, CurlText: "Operation timed out after {ms} milliseconds with 0 bytes received",
		EST: ESTSSLRead, HTTP: 504, Retry: Later, Upstream: Troubled, Unsettled: true, DeviceStatus: 15, Operation: 9, Bug: "CSCvo58656",
		Shows: []Sighting{
			{LogCAPF, genericCAPF},
			{LogIIS, "time-taken of 10000 or more on POST certfnsh.asp"},
		},
	},
	FetchTimeout: {
		Name: "fetch-timeout", Symptom: "certsrv did not deliver the issued certificate in time",
		Cause: "The certificate was issued, but certnew.cer was not answered within the time allowed.",
		Fix:   "The certificate is under Issued Certificates on the CA, with the request number given; here, certsrv.timeouts.fetch can be raised.",
		Curl:  28, CurlText: "Operation timed out after {ms} milliseconds with 0 bytes received",
		EST: ESTSSLRead, HTTP: 504, Retry: Later, Upstream: Troubled, DeviceStatus: 15, Operation: 9, Bug: "CSCvo58656",
		Shows: []Sighting{
			{LogCAPF, genericCAPF},
			{LogIIS, "time-taken of 10000 or more on certnew.cer"},
		},
	},
	OutcomeUnknown: {
		Name: "outcome-unknown", Symptom: "the request was submitted, but the answer was lost",
		Cause: "The connection broke after the request had been sent. The CA may have issued a certificate whose number is not known here.",
		Fix:   "Look at Issued Certificates on the CA for this subject before submitting again.",
		Curl:  52, CurlText: "Empty reply from server",
		EST: ESTUnknown, HTTP: 502, Retry: Later, Upstream: Troubled, Unsettled: true, DeviceStatus: 15, Operation: 9,
		Shows: []Sighting{{LogIIS, "200 on certfnsh.asp, but no certnew.cer"}},
	},
	NoSuchRequest: {
		Name: "no-such-request", Symptom: "the CA knows no request of that number",
		Cause: "The request number was never handed out by this CA, or its row has been deleted.",
		Fix:   "Check that the registration authority still talks to the same CA.",
		EST:   ESTUnknown, HTTP: 502, Retry: Never, Upstream: Working, DeviceStatus: 15, Operation: 9,
		HRESULTs: []uint32{0x80094004},
		Shows:    []Sighting{{LogIIS, "200 on certnew.cer"}},
	},
	CAStopped: {
		Name: "ca-stopped", Symptom: "the certificate authority's service is not running",
		Cause: "Web Enrollment works, but Active Directory Certificate Services (CertSvc) is stopped on the CA.",
		Fix:   "Start CertSvc on the CA; its event log says why it stopped.",
		EST:   ESTUnknown, HTTP: 502, Retry: Later, Upstream: Troubled, DeviceStatus: 15, Operation: 9,
		Shows: []Sighting{{LogIIS, "200 on certrqxt.asp, but no POST certfnsh.asp"}},
	},
	RPCUnavailable: {
		Name: "rpc-unavailable", Symptom: "the web server cannot reach the certificate authority",
		Cause: "The web server's RPC call to the CA failed: the CA is down, its name does not resolve there, or a firewall is in between.",
		Fix:   "Check from the web server that the CA answers (certutil -ping), and that RPC is allowed between the two.",
		EST:   ESTUnknown, HTTP: 502, Retry: Later, Upstream: Troubled, DeviceStatus: 15, Operation: 9,
		HRESULTs: []uint32{0x800706ba},
		Shows:    []Sighting{{LogIIS, "200 on certfnsh.asp, but no certnew.cer"}},
	},
	CAAccessDenied: {
		Name: "ca-access-denied", Symptom: "the certificate authority denied access to the web server's call",
		Cause: "The account may not request certificates from this CA, or the web server runs on another machine than the CA and may not pass the login on (double hop).",
		Fix:   "Give the account Request Certificates on the CA; on separate machines, set up constrained delegation for the web server.",
		EST:   ESTUnknown, HTTP: 502, Retry: AfterFix, Upstream: Working, DeviceStatus: 15, Operation: 9,
		HRESULTs: []uint32{0x80070005, 0x80094011},
		Shows:    []Sighting{{LogIIS, "200 on certfnsh.asp, but no certnew.cer"}},
	},
	WrongKeyCertificate: {
		Name: "wrong-key-certificate", Symptom: "the certificate that came back is for another key",
		Cause: "The certificate does not carry the public key of the request: certsrv mixed two requests up, or the request number is another CA's.",
		Fix:   "Do not use the certificate; revoke it on the CA, and check that nothing in between caches answers.",
		EST:   ESTUnknown, HTTP: 502, Retry: Later, Upstream: Working, DeviceStatus: 15, Operation: 9,
		Shows: []Sighting{{LogIIS, "200 on certnew.cer"}, {LogOwn, "code wrong-key-certificate"}},
	},
	CertificateUnreadable: {
		Name: "certificate-unreadable", Symptom: "what came back as the certificate is not one",
		Cause: "certnew.cer, or the EST server, delivered something that is no certificate.",
		Fix:   "Fetch the same request number in a browser and look at what comes.",
		EST:   ESTUnknown, HTTP: 502, Retry: Later, Upstream: Working, DeviceStatus: 15, Operation: 9,
		Shows: []Sighting{{LogIIS, "200 on certnew.cer"}, {LogOwn, "code certificate-unreadable"}},
	},
	LSCKeyUsage: {
		Name: "lsc-key-usage", Symptom: "the certificate lacks a key usage that phones need",
		Cause: "The template issues certificates without digitalSignature or keyEncipherment; enrolment succeeds, secure registration fails later.",
		Fix:   "Set both key usages in the template (Extensions, Key Usage), and enrol the phones again.",
		EST:   ESTNone, Retry: AfterFix, DeviceStatus: 9, Operation: 4,
		Shows: []Sighting{{LogOwn, "code lsc-key-usage"}},
	},
	CACNCAPF: {
		Name: "ca-cn-capf", Symptom: "a CA's common name contains CAPF-",
		Cause: "CUCM takes every issuer whose common name contains CAPF- for itself.",
		Fix:   "Use an issuing CA with another common name.",
		EST:   ESTNone, Retry: AfterFix, DeviceStatus: 9, Operation: 4,
		Shows: []Sighting{{LogOwn, "code ca-cn-capf"}},
	},

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
		Fix:   "Make room, or choose another directory.",
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

	AuthString: {
		Name: "auth-string", Symptom: "the phone gave a wrong authentication string",
		Cause: "The string typed at the phone is not the one in its configuration.",
		Fix:   "Type the string that the device's page shows, or schedule the operation by null string.",
		EST:   ESTNone, Retry: AfterFix, DeviceStatus: 10, Operation: 3,
		Shows: []Sighting{{LogCAPF, "CAPF_OP_FAIL_INVALID_AUTH_STR"}},
	},
	AuthStringLockout: {
		Name: "auth-string-lockout", Symptom: "the phone gave a wrong authentication string too often",
		Cause: "After ten wrong strings CAPF refuses the device for ten minutes.",
		Fix:   "Wait ten minutes, then type the right string.",
		EST:   ESTNone, Retry: Later, DeviceStatus: 10, Operation: 3,
		Shows: []Sighting{{LogCAPF, "CAPF_OP_FAIL_INVALID_AUTH_STR"}},
	},
	DeadlinePassed: {
		Name: "deadline-passed", Symptom: "the phone came after the operation's deadline",
		Cause: "The operation was to finish by a time that has passed (Operation Completes By).",
		Fix:   "Schedule the operation again with a later deadline.",
		EST:   ESTNone, Retry: AfterFix, DeviceStatus: 17, Operation: 11,
		Shows: []Sighting{{LogCAPF, "CAPF_OP_FAIL_LATE_REQUEST"}},
	},
	KeygenTimeout: {
		Name: "keygen-timeout", Symptom: "the phone did not generate its key in time",
		Cause: "The key is too large for the phone's processor, or the phone died meanwhile.",
		Fix:   "Choose a smaller key, or allow more time for key generation.",
		EST:   ESTNone, Retry: Later, DeviceStatus: 14, Operation: 8,
		Shows: []Sighting{{LogCAPF, "CAPF_OP_FAIL_OP_TIMED_OUT"}},
	},
	PhoneUnreachable: {
		Name: "phone-unreachable", Symptom: "the connection to the phone was lost",
		Cause: "The phone closed the connection or stopped answering in the middle of its operation.",
		Fix:   "Look at the phone's own log and the network; the phone tries again by itself.",
		EST:   ESTNone, Retry: Later, DeviceStatus: 13, Operation: 7,
		Shows: []Sighting{{LogCAPF, "CAPF_OP_FAIL_PHONE_COMM_ERROR"}},
	},
	DeviceCannotSign: {
		Name: "device-cannot-sign", Symptom: "the device cannot sign a certificate request",
		Cause: "The device does not take part in the exchange by which CAPF has a request signed, so no online or offline CA can issue for it.",
		Fix:   "Let CAPF itself issue for this device.",
		EST:   ESTNone, Retry: AfterFix, DeviceStatus: 6, Operation: 2,
		Shows: []Sighting{{LogCAPF, "device cannot sign CSR"}},
	},
	UnknownDevice: {
		Name: "unknown-device", Symptom: "CAPF does not know the device",
		Cause: "No device of that name is in the device table.",
		Fix:   "Add the device, with the exact name that the phone gives.",
		EST:   ESTNone, Retry: AfterFix, Operation: 2,
		Shows: []Sighting{{LogCAPF, "CAPF does not know the device"}},
	},
	InvalidLSC: {
		Name: "invalid-lsc", Symptom: "the phone's LSC was not accepted",
		Cause: "The LSC that the phone authenticated with does not lead to a trusted CA, is out of its validity, or names another device.",
		Fix:   "Import the CA's chain into CAPF-trust, or authenticate by string and install a new LSC.",
		EST:   ESTNone, Retry: AfterFix, DeviceStatus: 9, Operation: 4,
		Shows: []Sighting{{LogCAPF, "CAPF_OP_FAIL_INVALID_LSC"}, {LogCAPF, "the phone's LSC was not accepted"}},
	},
	InvalidMIC: {
		Name: "invalid-mic", Symptom: "the phone's MIC was not accepted",
		Cause: "The MIC that the phone authenticated with does not lead to a trusted manufacturing CA, is out of its validity, or names another device.",
		Fix:   "Import the manufacturing CA's chain into CAPF-trust, or authenticate by string.",
		EST:   ESTNone, Retry: AfterFix, DeviceStatus: 11, Operation: 5,
		Shows: []Sighting{{LogCAPF, "CAPF_OP_FAIL_INVALID_MIC"}},
	},
	ECUnsupported: {
		Name: "ec-unsupported", Symptom: "the device does not support EC keys",
		Cause: "EC keys need version 3 of the CAPF protocol, and the device speaks an older one.",
		Fix:   "Set the device's key order to RSA Only, or to EC Preferred, RSA Backup.",
		EST:   ESTNone, Retry: AfterFix, DeviceStatus: 34, Operation: 2,
		Shows: []Sighting{{LogCAPF, "the device does not support EC keys"}},
	},
	StaleLSC: {
		Name: "stale-lsc", Symptom: "the device holds an LSC of an earlier issuer",
		Cause: "The issuer of LSCs was changed or renewed, and the device has not been given a new LSC since.",
		Fix:   "List such devices (utils capf stale-lsc list; onlineca stale-lsc list) and schedule an upgrade for them.",
		EST:   ESTNone, Retry: AfterFix,
		Shows: []Sighting{{DeviceTable, "lscissuername is another than the issuer of today's LSCs"}, {LogOwn, "code stale-lsc"}},
	},
	CAPFTrustMissing: {
		Name: "capf-trust-missing", Symptom: "the CA's chain is missing from a trust store",
		Cause: "The certificates of the CA that issues LSCs are not in CAPF-trust or CallManager-trust, so LSCs are issued but not accepted.",
		Fix:   "Import the root and every intermediate into CAPF-trust and CallManager-trust, and restart the services.",
		EST:   ESTNone, Retry: AfterFix, DeviceStatus: 9, Operation: 4,
		Shows: []Sighting{{LogCAPF, "CAPF_OP_FAIL_INVALID_LSC"}, {LogOwn, "code capf-trust-missing"}},
	},
	CAPFCertificate: {
		Name: "capf-certificate", Symptom: "phones do not accept CAPF's own certificate",
		Cause: "CAPF's certificate lacks CA:TRUE with path length 0, or the key usages digitalSignature and keyCertSign.",
		Fix:   "Regenerate CAPF's certificate with these extensions, update the phones' trust list and reset them.",
		EST:   ESTNone, Retry: AfterFix,
		Shows: []Sighting{{LogCAPF, "failed: remote error: tls: bad certificate"}},
	},
}
