package fault

import "strconv"

// The EST_ERR numbers that this project produces. Numbers 0 to 54 are the same
// in every public release of libEST since 2.0.0; from 55 on they differ from
// release to release, so a compatibility log must not hard-code them.
// EST_ERR_UNKNOWN is the one exception that cannot be avoided: 94 is the
// number of release 3.2.0.
const (
	ESTNone            = 0
	ESTNoCSR           = 2
	ESTBadPKCS10       = 9
	ESTHTTPWrite       = 10
	ESTHTTPUnsupported = 11
	ESTHTTPBadReq      = 13
	ESTHTTPNotFound    = 14
	ESTHTTPNoContent   = 15
	ESTHTTPLocked      = 16
	ESTAuthFail        = 22
	ESTAuthPending     = 24
	ESTCAEnrollFail    = 25
	ESTCAEnrollRetry   = 26
	ESTSSLWrite        = 34
	ESTSSLRead         = 35
	ESTSSLConnect      = 38
	ESTIPGetAddr       = 42
	ESTIPConnect       = 43
	ESTFQDNMismatch    = 53
	ESTUnknown         = 94
)

// estNames holds the names of EST_ERR 0 to 54, without their prefix.
var estNames = [...]string{
	"NONE", "NO_CTX", "NO_CSR", "NO_CERT", "NO_KEY", "INVALID_PARAMETERS",
	"LOAD_CACERTS", "LOAD_TRUST_CERTS", "BAD_MODE", "BAD_PKCS10",
	"HTTP_WRITE", "HTTP_UNSUPPORTED", "HTTP_CANNOT_BUILD_HEADER",
	"HTTP_BAD_REQ", "HTTP_NOT_FOUND", "HTTP_NO_CONTENT", "HTTP_LOCKED",
	"HTTP_INVALID_PATH_SEGMENT", "HTTP_PATH_SEGMENT_NOT_SUPPORTED",
	"BAD_CONTENT_TYPE", "BAD_CONTENT_LEN", "NO_SSL_CTX", "AUTH_FAIL",
	"AUTH_FAIL_TLSUID", "AUTH_PENDING", "CA_ENROLL_FAIL", "CA_ENROLL_RETRY",
	"WRONG_METHOD", "X509_SIGN", "X509_VER", "X509_CN", "X509_ATTR",
	"X509_PUBKEY", "MALLOC", "SSL_WRITE", "SSL_READ", "SSL_NEW",
	"SSL_CTX_NEW", "SSL_CONNECT", "SSL_CIPHER_LIST", "PEM_READ",
	"NULL_CALLBACK", "IP_GETADDR", "IP_CONNECT", "INVALID_SERVER_NAME",
	"INVALID_PORT_NUM", "CLIENT_INVALID_KEY", "CLIENT_NOT_INITIALIZED",
	"ZERO_LENGTH_BUF", "READ_BUFFER_TOO_SMALL", "BUF_EXCEEDS_MAX_LEN",
	"NO_CERTIFICATE", "NO_CERTS_FOUND", "FQDN_MISMATCH", "SYSCALL",
}

// ESTName returns the full name of an EST_ERR number, for example
// "EST_ERR_SSL_READ" for 35. The name of a number that no release shares is
// "EST_ERR_" and the number; 94 is EST_ERR_UNKNOWN.
func ESTName(n int) string {
	switch {
	case n >= 0 && n < len(estNames):
		return "EST_ERR_" + estNames[n]
	case n == ESTUnknown:
		return "EST_ERR_UNKNOWN"
	default:
		return "EST_ERR_" + strconv.Itoa(n)
	}
}
