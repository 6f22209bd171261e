package certsrv

// status is what is known of a Windows status value.
type status struct{ name, hint string }

// hresults are the values that certificate requests end with, by their names
// in winerror.h, and what to do about each.
var hresults = map[uint32]status{
	0x80070005: {"E_ACCESSDENIED", "the account may not request certificates from this CA, or the web server may not pass its login on to the CA (delegation)"},
	0x80070057: {"E_INVALIDARG", "the request or one of its attributes is not what the CA expects"},
	0x800706ba: {"RPC_S_SERVER_UNAVAILABLE", "the web server cannot reach the CA: is CertSvc running, is RPC allowed between the two?"},
	0x800706be: {"RPC_S_CALL_FAILED", "the CA went away during the call: look at CertSvc's event log"},
	0x80070422: {"ERROR_SERVICE_DISABLED", "the CA's service is disabled"},
	0x8007000d: {"ERROR_INVALID_DATA", "the CA cannot make sense of the request"},
	0x80090006: {"NTE_BAD_SIGNATURE", "the request's signature does not verify: make it anew on the device that holds the key"},
	0x80090008: {"NTE_BAD_ALGID", "the CA does not support the request's algorithm"},
	0x80090029: {"NTE_NOT_SUPPORTED", "the CA's key provider does not support what the template asks for"},
	0x80092012: {"CRYPT_E_NO_REVOCATION_CHECK", "the CA could not check revocation: a certificate above it names no revocation list"},
	0x80092013: {"CRYPT_E_REVOCATION_OFFLINE", "the CA cannot get a revocation list: publish the CRL of the CA above, and make it reachable"},
	0x80093100: {"CRYPT_E_ASN1_ERROR", "the request cannot be decoded"},
	0x80093102: {"CRYPT_E_ASN1_EOD", "the request ends too early"},
	0x80093103: {"CRYPT_E_ASN1_CORRUPT", "the request is corrupt"},
	0x80093104: {"CRYPT_E_ASN1_LARGE", "a value in the request is too large"},
	0x80093105: {"CRYPT_E_ASN1_CONSTRAINT", "a value in the request is out of its range"},
	0x80093107: {"CRYPT_E_ASN1_OVERFLOW", "a value in the request is too long"},
	0x80093108: {"CRYPT_E_ASN1_BADPDU", "the request is not of the type that it says"},
	0x8009310b: {"CRYPT_E_ASN1_BADTAG", "the request is no PKCS#10"},
	0x80094001: {"CERTSRV_E_BAD_REQUESTSUBJECT", "the CA does not accept the request's subject: it is empty, or a part of it is too long or of the wrong kind"},
	0x80094002: {"CERTSRV_E_NO_REQUEST", "the request is not in the CA's database"},
	0x80094003: {"CERTSRV_E_BAD_REQUESTSTATUS", "the request is not in a state that allows this"},
	0x80094004: {"CERTSRV_E_PROPERTY_EMPTY", "the CA knows no request of that number"},
	0x80094005: {"CERTSRV_E_INVALID_CA_CERTIFICATE", "the CA's own certificate is not valid: renew it"},
	0x80094009: {"CERTSRV_E_RESTRICTEDOFFICER", "certificate managers are restricted on this CA"},
	0x8009400a: {"CERTSRV_E_KEY_ARCHIVAL_NOT_CONFIGURED", "the template archives private keys and the CA does not: switch that off for phones"},
	0x80094011: {"CERTSRV_E_ENROLL_DENIED", "the account has no permission to request certificates from this CA: give it Request Certificates in the CA's security settings"},
	0x80094012: {"CERTSRV_E_TEMPLATE_DENIED", "the account has no Enroll permission on the template: give it Read and Enroll"},
	0x80094014: {"CERTSRV_E_ADMIN_DENIED_REQUEST", "a CA manager denied the request: ask whom the message names"},
	0x80094800: {"CERTSRV_E_UNSUPPORTED_CERT_TYPE", "the CA does not publish this template: check the name (the CN, not the display name) and add the template to the CA"},
	0x80094801: {"CERTSRV_E_NO_CERT_TYPE", "an enterprise CA needs a template name: configure one"},
	0x80094802: {"CERTSRV_E_TEMPLATE_CONFLICT", "the request names one template and its attributes another"},
	0x80094803: {"CERTSRV_E_SUBJECT_ALT_NAME_REQUIRED", "the template needs a subject alternative name from the directory"},
	0x80094804: {"CERTSRV_E_ARCHIVED_KEY_REQUIRED", "the template archives private keys: switch that off for phones"},
	0x80094805: {"CERTSRV_E_SMIME_REQUIRED", "the template needs S/MIME capabilities in the request"},
	0x80094806: {"CERTSRV_E_BAD_RENEWAL_SUBJECT", "the renewal is for another subject"},
	0x80094807: {"CERTSRV_E_BAD_TEMPLATE_VERSION", "the request was made for a newer version of the template"},
	0x80094808: {"CERTSRV_E_TEMPLATE_POLICY_REQUIRED", "the template needs an issuance policy that the request lacks"},
	0x80094809: {"CERTSRV_E_SIGNATURE_POLICY_REQUIRED", "the template wants the request signed by an enrolment agent: set the number of authorised signatures to none"},
	0x8009480a: {"CERTSRV_E_SIGNATURE_COUNT", "the request has too few signatures for the template"},
	0x8009480b: {"CERTSRV_E_SIGNATURE_REJECTED", "a signature on the request is not accepted"},
	0x8009480c: {"CERTSRV_E_ISSUANCE_POLICY_REQUIRED", "a signature on the request lacks an issuance policy"},
	0x8009480d: {"CERTSRV_E_SUBJECT_UPN_REQUIRED", "the account has no user principal name, which the template puts into the certificate: set the subject to Supply in the request"},
	0x8009480e: {"CERTSRV_E_SUBJECT_DIRECTORY_GUID_REQUIRED", "the template needs the directory's GUID of the subject"},
	0x8009480f: {"CERTSRV_E_SUBJECT_DNS_REQUIRED", "the account has no DNS name, which the template puts into the certificate: set the subject to Supply in the request"},
	0x80094810: {"CERTSRV_E_ARCHIVED_KEY_UNEXPECTED", "the request carries a private key that the template does not archive"},
	0x80094811: {"CERTSRV_E_KEY_LENGTH", "the key is shorter than the template's minimum: let the device make a longer one, or lower the minimum"},
	0x80094812: {"CERTSRV_E_SUBJECT_EMAIL_REQUIRED", "the account has no e-mail address, which the template puts into the certificate: set the subject to Supply in the request"},
	0x80094813: {"CERTSRV_E_UNKNOWN_CERT_TYPE", "the template is not known in the directory"},
	0x80094814: {"CERTSRV_E_CERT_TYPE_OVERLAP", "the template is superseded by another that the CA publishes"},
	0x800b0101: {"CERT_E_EXPIRED", "a certificate in the CA's chain has expired"},
	0x800b0109: {"CERT_E_UNTRUSTEDROOT", "the CA does not trust the root of a certificate that it checks"},
	0x800b010a: {"CERT_E_CHAINING", "the CA cannot build the chain of a certificate that it checks"},
}

// HRESULT returns the name of a Windows status value that a certificate request
// can end with, and what to do about it. Both are empty for unknown values.
func HRESULT(h uint32) (name, hint string) {
	s := hresults[h]
	return s.name, s.hint
}
