package page

import "fmt"

// Status is a Windows status value, an HRESULT.
type Status uint32

// The values that the pages have words for (winerror.h).
const (
	OK                Status = 0
	AccessDenied      Status = 0x80070005
	InvalidParameter  Status = 0x80070057
	RPCUnavailable    Status = 0x800706ba
	Revoked           Status = 0x80092010
	RevocationOffline Status = 0x80092013
	HashValue         Status = 0x80091007
	ASN1EOD           Status = 0x80093102
	ASN1BadTag        Status = 0x8009310b
	BadRequestStatus  Status = 0x80094003
	PropertyEmpty     Status = 0x80094004
	TemplateDenied    Status = 0x80094012
	AdminDenied       Status = 0x80094014
	UnsupportedType   Status = 0x80094800
	NoCertType        Status = 0x80094801
	KeyLength         Status = 0x80094811
)

// symbols names the values as AD CS writes them.
var symbols = map[Status]string{
	OK:                "WIN32: 0",
	AccessDenied:      "WIN32: 5 ERROR_ACCESS_DENIED",
	InvalidParameter:  "WIN32: 87 ERROR_INVALID_PARAMETER",
	RPCUnavailable:    "WIN32: 1722 RPC_S_SERVER_UNAVAILABLE",
	Revoked:           "CRYPT_E_REVOKED",
	RevocationOffline: "CRYPT_E_REVOCATION_OFFLINE",
	HashValue:         "CRYPT_E_HASH_VALUE",
	ASN1EOD:           "CRYPT_E_ASN1_EOD",
	ASN1BadTag:        "CRYPT_E_ASN1_BADTAG",
	BadRequestStatus:  "CERTSRV_E_BAD_REQUESTSTATUS",
	PropertyEmpty:     "CERTSRV_E_PROPERTY_EMPTY",
	TemplateDenied:    "CERTSRV_E_TEMPLATE_DENIED",
	AdminDenied:       "CERTSRV_E_ADMIN_DENIED_REQUEST",
	UnsupportedType:   "CERTSRV_E_UNSUPPORTED_CERT_TYPE",
	NoCertType:        "CERTSRV_E_NO_CERT_TYPE",
	KeyLength:         "CERTSRV_E_KEY_LENGTH",
}

// Number writes the value as AD CS does after its text: "0x0 (WIN32: 0)",
// "0x80094800 (-2146875392 CERTSRV_E_UNSUPPORTED_CERT_TYPE)",
// "0x800706ba (WIN32: 1722 RPC_S_SERVER_UNAVAILABLE)".
func (s Status) Number() string {
	name := symbols[s]
	switch {
	case name == "":
		return fmt.Sprintf("0x%x (%d)", uint32(s), int32(s))
	case s == OK || s>>16 == 0x8007:
		return fmt.Sprintf("0x%x (%s)", uint32(s), name)
	default:
		return fmt.Sprintf("0x%x (%d %s)", uint32(s), int32(s), name)
	}
}

// Text writes a status: the system's words for it, then its number.
func (s Site) Text(v Status) string {
	words := s.Words(v)
	if words == "" {
		return v.Number()
	}
	return words + " " + v.Number()
}

// Words are the system's words for a status in the site's language, "" for a
// value that it has none for.
func (s Site) Words(v Status) string {
	p := texts[s.Language.known()]
	if w := p.System[v]; w != "" {
		return w
	}
	return english.System[v]
}

// DeniedByPolicy is the disposition message of a request that the policy module
// refused; template is the one that was asked for. The terse form has no number.
func (s Site) DeniedByPolicy(v Status, template string, terse bool) string {
	p := texts[s.Language.known()]
	if terse {
		return p.DeniedByPolicy
	}
	why := s.Words(v)
	if v == UnsupportedType {
		why = fmt.Sprintf(p.UnsupportedBy, template)
	}
	return fmt.Sprintf("%s  0x%x, %s\n", p.DeniedByPolicy, uint32(v), why)
}

// DeniedBy is the disposition message of a request that account refused.
func (s Site) DeniedBy(account string) string {
	return fmt.Sprintf(texts[s.Language.known()].DeniedBy, account)
}

// ParseError is the disposition message of a request that could not be read.
func (s Site) ParseError(v Status) string {
	p := texts[s.Language.known()]
	words := p.ParseError
	if v == HashValue {
		words = p.VerifyError
	}
	return words + "  " + s.Text(v)
}
