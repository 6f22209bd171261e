package fault

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

// wayRows are the failures on the way to certsrv, up to its login.
var wayRows = map[Code]Row{
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
		Cause: "A redirect or a link led away from the configured certsrv host; credentials are never sent elsewhere. Or its CA is another than that of the other hosts, or than before.",
		Fix:   "Configure the host that certsrv really answers on. After a CA was installed anew, restart the service.",
		EST:   ESTUnknown, HTTP: 502, Retry: AfterFix, Upstream: Troubled, DeviceStatus: 15, Operation: 9,
		Shows: []Sighting{{LogOwn, "code wrong-host"}},
	},
}
