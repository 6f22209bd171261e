package libest

import (
	"strconv"
	"time"

	"github.com/onlineca/onlineca/ra/event"
)

// The functions that speak, with their line numbers in libEST 2.2.0.
const (
	fnVersion  = "est_log_version"
	fnStore    = "ossl_init_cert_store_from_raw"
	fnOption   = "set_ssl_option"
	fnAuth     = "est_enroll_auth"
	fnRequest  = "est_http_request"
	fnError    = "mg_send_http_error"
	fnHandler  = "est_mg_handler"
	fnHandle   = "handle_request"
	fnAccess   = "log_access"
	fnHeader   = "log_header"
	fnShutdown = "est_server_handle_request"
)

const (
	numVersion  = 216
	numCompiled = 220
	numLinked   = 221
	numReferer  = 1276
	numAgent    = 1278
)

// What they say, up to the value.
const (
	txtCompiled = "Compiled against "
	txtLinked   = "Linking to "
	txtAdding   = "Adding cert to store ("
	txtCurve    = "Using non-default ECDHE curve (nid="
	txtNoSRP    = "TLS SRP not enabled"
	txtNoPeer   = "TLS: no peer certificate"
	txtAuth     = "HTTP authentication failed. Auth type="
	txtEnroll   = "Enrollment failed with rc="
	txtError    = "Error "
	txtResponse = "EST error response code: "
	txtFailed   = "Incoming request failed rv="
	txtShutdown = "SSL_shutdown failed"
)

// accessLayout is the time in libEST's access line.
const accessLayout = "02/Jan/2006:15:04:05 -0700"

// IsStart reports whether e belongs to the start of the EST server, whose
// lines are printed (CiscoRA stdout). All others go to error.log.
func IsStart(e event.Event) bool {
	switch e := e.(type) {
	case event.ESTVersion, event.ESTCurve, event.ESTNoSRP:
		return true
	case event.RATrustAnchor:
		return e.Store == event.StoreEST
	}
	return false
}

// Encode appends the lines that stand for e among libEST's, each with its line
// feed, and reports whether libEST has any. The access line's time is written
// in the location of t.
func Encode(dst []byte, t time.Time, e event.Event) ([]byte, bool) {
	w := writer{dst}
	switch e := e.(type) {
	case event.ESTVersion:
		w.version(e)
	case event.RATrustAnchor:
		if e.Store != event.StoreEST {
			return dst, false
		}
		w.line("INFO", fnStore, 182, txtAdding, e.Subject, ")")
	case event.ESTCurve:
		w.line("INFO", fnOption, 1378, txtCurve, strconv.Itoa(e.NID), ")")
	case event.ESTNoSRP:
		w.line("INFO", fnOption, 1432, txtNoSRP)
	case event.ProductText:
		if e.Origin != "est" {
			return dst, false
		}
		w.line(e.Severity, e.Func, e.Line, e.Text)
	default:
		if !w.request(t, e) {
			return dst, false
		}
	}
	return w.buf, true
}

type writer struct{ buf []byte }

func (w *writer) version(e event.ESTVersion) {
	if e.Version != "" {
		w.line("INFO", fnVersion, numVersion, e.Version)
	}
	if e.Compiled != "" {
		w.line("INFO", fnVersion, numCompiled, txtCompiled, e.Compiled)
	}
	if e.Linked != "" {
		w.line("INFO", fnVersion, numLinked, txtLinked, e.Linked)
	}
}

// request writes what is said in the service of a request.
func (w *writer) request(t time.Time, e event.Event) bool {
	switch e := e.(type) {
	case event.ESTNoPeerCertificate:
		w.line("INFO", fnAuth, 356, txtNoPeer)
	case event.ESTAuthFailed:
		w.line("WARNING", fnAuth, 394, txtAuth, strconv.Itoa(e.AuthType))
	case event.ESTEnrollFailed:
		w.line("WARNING", fnRequest, 1435, txtEnroll, number(e.RC, e.Name))
	case event.ESTHTTPError:
		w.httpError(e)
	case event.ESTResponse:
		w.line("ERROR", fnHandler, 1234, txtResponse, number(e.RC, e.Name))
	case event.ESTRequestFailed:
		w.line("WARNING", fnHandle, 1267, txtFailed, number(e.RV, e.Name))
	case event.ESTAccess:
		w.line("INFO", fnAccess, 1298, e.Client, " [", e.Time.In(t.Location()).Format(accessLayout), `] "`,
			e.Method, " ", e.Path, " ", e.Proto, `" `, strconv.Itoa(e.Status), " ", strconv.FormatInt(e.Bytes, 10))
	case event.ESTReferer:
		w.line("INFO", fnHeader, numReferer, quoted(e.Referer))
	case event.ESTUserAgent:
		w.line("INFO", fnHeader, numAgent, quoted(e.UserAgent))
	case event.ESTShutdownFailed:
		w.line("WARNING", fnShutdown, 1716, txtShutdown)
	default:
		return false
	}
	return true
}

// httpError writes the one text that goes over several lines.
func (w *writer) httpError(e event.ESTHTTPError) {
	w.buf = appendHead(w.buf, "INFO", fnError, 389)
	w.buf = append(w.buf, " ["...)
	w.buf = appendText(w.buf, e.Body, true)
	w.buf = append(w.buf, "]\n"...)
}

func (w *writer) line(severity, fn string, num int, parts ...string) {
	w.buf = appendHead(w.buf, severity, fn, num)
	w.buf = append(w.buf, ' ')
	for _, p := range parts {
		w.buf = appendText(w.buf, p, false)
	}
	w.buf = append(w.buf, '\n')
}

// number writes an EST_ERR: "22 (EST_ERR_AUTH_FAIL)".
func number(n int, name string) string { return strconv.Itoa(n) + " (" + name + ")" }

// quoted writes a header's value, or a dash for none.
func quoted(s string) string {
	if s == "" || s == "-" {
		return "-"
	}
	return `"` + s + `"`
}

const hexDigits = "0123456789ABCDEF"

// appendText appends s with its control characters written \xHH, so that
// nothing that a client sends can begin a line of its own.
func appendText(dst []byte, s string, lines bool) []byte {
	for i := range len(s) {
		if c := s[i]; (c < 0x20 || c == 0x7f) && (c != '\n' || !lines) {
			dst = append(dst, '\\', 'x', hexDigits[c>>4], hexDigits[c&15])
		} else {
			dst = append(dst, c)
		}
	}
	return dst
}
