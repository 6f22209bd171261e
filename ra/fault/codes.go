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
