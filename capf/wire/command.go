// Package wire is the CAPF protocol as it stands on the wire: frames and
// elements, bytes to values and back. It does no I/O beyond one [Read] and one
// [Write], keeps no state and decides nothing.
//
// A message is a frame of eight bytes and a body of elements. All integers of
// the framing are big-endian:
//
//	0       1        2..5               6..7           8..
//	0x55    command  session id (u32)   body length    elements
//
//	element: tag (u8)  length (u16)  value
//
// The vendor has published no description of the protocol. What stands here is
// drawn from what can be seen on the wire; beside each constant is how it is
// known:
//
//	seen      exchanged between two independent programs
//	product   a published capture or debug output of a CUCM or a CME
//	inferred  from its name, its neighbours or its use
//	unknown   nothing is known but the number
package wire

import "fmt"

// Command is the second byte of a frame. S is the CAPF server, C the phone.
type Command uint8

// The commands.
const (
	AuthRequest              Command = 1  // S→C  VERSION [AUTH_TYPE]; the first message of a session. seen; product: VERSION only
	AuthResponse             Command = 2  // C→S  REASON [CERTIFICATE SIGNED_DATA] VERSION [PASSWORD] DEVICE_NAME [SUDI_DATA] [SHA2_SIGNED_DATA]. seen, product
	KeyGenerateRequest       Command = 3  // S→C  KEY_SIZE (version 2), KEY_SIZE KEY_TYPE (RSA) or KEY_TYPE CURVE (EC) (version 3). seen, product
	KeyGenerateResponse      Command = 4  // C→S  PUBLIC_KEY. seen, product
	EncryptResponse          Command = 5  // C→S  result of a private-key operation. product: its existence; layout and which of 5 and 6 is which: unknown
	EncryptRequest           Command = 6  // S→C  data for a private-key operation. See [EncryptStyle]
	DecryptRequest           Command = 7  // S→C  unknown
	DecryptResponse          Command = 8  // C→S  unknown
	StoreCertificateRequest  Command = 9  // S→C  CERTIFICATE_TYPE CERTIFICATE. seen, product
	StoreCertificateResponse Command = 10 // C→S  REASON. seen, product
	FetchCertificateRequest  Command = 11 // S→C  no elements. seen
	FetchCertificateResponse Command = 12 // C→S  REASON [CERTIFICATE]. seen
	DeleteCertRequest        Command = 13 // S→C  no elements. seen, product
	DeleteCertResponse       Command = 14 // C→S  REASON. seen, product
	EndSession               Command = 15 // S→C  REASON. seen, product
	RetryLater               Command = 16 // S→C  [RETRY_DELAY]. inferred
	RequestInProgress        Command = 17 // C→S  no elements seen; the product's debug output speaks of a delay, so RETRY_DELAY may follow
	StatusEnquiry            Command = 18 // unknown
	StatusResponse           Command = 19 // unknown
	AbortRequest             Command = 20 // unknown
	AbortResponse            Command = 21 // unknown
	SignCertificateRequest   Command = 22 // S→C  unknown; perhaps version 3's form of ENCRYPT
	SignCertificateResponse  Command = 23 // C→S  unknown
)

var commandNames = [...]string{
	AuthRequest:              "AUTH_REQUEST",
	AuthResponse:             "AUTH_RESPONSE",
	KeyGenerateRequest:       "KEY_GENERATE_REQUEST",
	KeyGenerateResponse:      "KEY_GENERATE_RESPONSE",
	EncryptResponse:          "ENCRYPT_RESPONSE",
	EncryptRequest:           "ENCRYPT_REQUEST",
	DecryptRequest:           "DECRYPT_REQUEST",
	DecryptResponse:          "DECRYPT_RESPONSE",
	StoreCertificateRequest:  "STORE_CERTIFICATE_REQUEST",
	StoreCertificateResponse: "STORE_CERTIFICATE_RESPONSE",
	FetchCertificateRequest:  "FETCH_CERTIFICATE_REQUEST",
	FetchCertificateResponse: "FETCH_CERTIFICATE_RESPONSE",
	DeleteCertRequest:        "DELETE_CERTIFICATE_REQUEST",
	DeleteCertResponse:       "DELETE_CERTIFICATE_RESPONSE",
	EndSession:               "END_SESSION",
	RetryLater:               "RETRY_LATER",
	RequestInProgress:        "REQUEST_IN_PROGRESS",
	StatusEnquiry:            "STATUS_ENQUIRY",
	StatusResponse:           "STATUS_RESPONSE",
	AbortRequest:             "ABORT_REQUEST",
	AbortResponse:            "ABORT_RESPONSE",
	SignCertificateRequest:   "SIGN_CERTIFICATE_REQUEST",
	SignCertificateResponse:  "SIGN_CERTIFICATE_RESPONSE",
}

// String returns the command's name, or "COMMAND_n" for a number without one.
func (c Command) String() string {
	if int(c) < len(commandNames) && commandNames[c] != "" {
		return commandNames[c]
	}
	return fmt.Sprintf("COMMAND_%d", uint8(c))
}

// Reason is the value of a REASON element.
type Reason uint8

// The reasons that have been seen.
const (
	ReasonNoAction      Reason = 0 // nothing was to be done, or a fetch ended well. seen
	ReasonOK            Reason = 1 // done. seen, product
	ReasonInvalid       Reason = 7 // refused: wrong password, bad signature, unreadable message, nothing scheduled any more. seen, product
	ReasonUnknownDevice Reason = 9 // the device is not in the table. seen
)

// String says what the reason means, number first.
func (r Reason) String() string {
	switch r {
	case ReasonNoAction:
		return "0 (no action)"
	case ReasonOK:
		return "1 (done)"
	case ReasonInvalid:
		return "7 (refused)"
	case ReasonUnknownDevice:
		return "9 (unknown device)"
	default:
		return fmt.Sprintf("%d", uint8(r))
	}
}

// AuthType is the value of an AUTH_TYPE element. An independent client ignores it.
type AuthType uint8

// The ways in which a phone can be asked to authenticate. seen: 0; the rest inferred
// from the phone's own setting capfAuthMode.
const (
	AuthNone       AuthType = 0
	AuthPassword   AuthType = 1
	AuthNoPassword AuthType = 2
	AuthLSC        AuthType = 3
	AuthMIC        AuthType = 4
)

// CertificateType is the value of a CERTIFICATE_TYPE element.
type CertificateType uint8

// The types of certificate. seen: 1; inferred: 2.
const (
	TypeLSC CertificateType = 1
	TypeMIC CertificateType = 2
)

// KeyType is the value of a KEY_TYPE element.
type KeyType uint8

// The key types. seen.
const (
	RSA KeyType = 0
	EC  KeyType = 1
)

// Curve is the value of a CURVE element.
type Curve uint8

// The curves. seen: 1; the others by their order.
const (
	P256 Curve = 0
	P384 Curve = 1
	P521 Curve = 2
)

// DigestType is the value of a DIGEST_TYPE element, and the tag of a signature
// inside SUDI_DATA and SHA2_SIGNED_DATA.
type DigestType uint8

// The digests. seen: 1 and 3 as tags; inferred: 2.
const (
	SHA1   DigestType = 1
	SHA256 DigestType = 2
	SHA512 DigestType = 3
)
