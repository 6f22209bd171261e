package nginx

import (
	"bytes"

	"github.com/onlineca/onlineca/ra/event"
)

// The functions that speak.
const (
	fnLogin    = "login_to_certsrv_ca"
	fnNavigate = "navigate_to_certsrv_page"
	fnCACerts  = "retrieve_cacerts"
	fnPostconf = "ra_certsrv_ca_plugin_postconf"
	fnData     = "ra_certsrv_auth_curl_data_cb"
	fnStore    = "ossl_init_cert_store"
)

// What they say, up to the value.
const (
	txtSecure      = "Secure connection to MS CertServ completed successfully using the following URL "
	txtLoginFailed = "Curl call for MS CA login failed with return code "
	txtFailed      = "Curl request failed with return code "
	txtURL         = "URL used: "
	txtNoLogin     = "Unable to execute login to certsrv with curl"
	txtNoChain     = "Unable to retrieve CA Cert chain from CA"
	txtChain       = "CA Cert chain retrieved from CA, will be passed to EST"
	txtData        = "Rcvd data len: "
	txtAdding      = "Adding cert to store ("
	txtMissing     = " requested but this value has not yet been set"
	txtPoP         = "pop_enabled off in nginx.conf. Disabling EST Proof of Possession"
	txtPID         = "nginx server PID value = "
)

// exchange is how an exchange with certsrv stands in the log. The document
// shows a login and a chain that fail; a page that fails is written like a
// chain, in the name of the function that loads pages.
type exchange struct{ fn, failed string }

// exchanges has no entry for submitting a request and fetching a certificate:
// the document shows no line of the product's for these two.
var exchanges = map[event.UpstreamStep]exchange{
	event.StepLogin: {fnLogin, txtLoginFailed},
	event.StepPage:  {fnNavigate, txtFailed},
	event.StepChain: {fnCACerts, txtFailed},
}

// stepOf finds an exchange by its function.
func stepOf(fn []byte) (event.UpstreamStep, exchange, bool) {
	for _, s := range [...]event.UpstreamStep{event.StepLogin, event.StepPage, event.StepChain} {
		if x := exchanges[s]; string(fn) == x.fn {
			return s, x, true
		}
	}
	return "", exchange{}, false
}

func cut(b []byte, prefix string) ([]byte, bool) {
	if !bytes.HasPrefix(b, []byte(prefix)) {
		return nil, false
	}
	return b[len(prefix):], true
}
