package testenv

import "github.com/onlineca/onlineca/testenv/internal/page"

// HRESULT is a Windows status value, as a certificate authority gives for its
// reason.
type HRESULT uint32

// The values that the mock's certificate authority gives by itself
// (winerror.h). The fault "deny" gives any.
const (
	resultOK             = HRESULT(page.OK)
	resultAccessDenied   = HRESULT(page.AccessDenied)
	resultRPCUnavailable = HRESULT(page.RPCUnavailable)
	resultBadParameter   = HRESULT(page.InvalidParameter)
	resultRevoked        = HRESULT(page.Revoked)
	resultHashValue      = HRESULT(page.HashValue)
	resultASN1EOD        = HRESULT(page.ASN1EOD)
	resultASN1BadTag     = HRESULT(page.ASN1BadTag)
	resultBadStatus      = HRESULT(page.BadRequestStatus)
	resultPropertyEmpty  = HRESULT(page.PropertyEmpty)
	resultTemplateDenied = HRESULT(page.TemplateDenied)
	resultAdminDenied    = HRESULT(page.AdminDenied)
	resultUnsupported    = HRESULT(page.UnsupportedType)
	resultNoTemplate     = HRESULT(page.NoCertType)
	resultKeyLength      = HRESULT(page.KeyLength)
)

// String writes the value as AD CS does: "0x80094800 (-2146875392
// CERTSRV_E_UNSUPPORTED_CERT_TYPE)".
func (h HRESULT) String() string { return page.Status(h).Number() }
