package capf

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/onlineca/onlineca/internal/neterr"
	"github.com/onlineca/onlineca/ra/fault"
)

// ESTError is a failed exchange in libEST's terms. It is found with errors.As
// beneath the fault that an [ESTClient] returns.
type ESTError struct {
	// RV is the EST_ERR number that libEST's client would have come back with,
	// the "rv" of a CAPF trace.
	RV int
	// Status is the HTTP status of the answer, 0 if there was none.
	Status int
	// Err is the cause; it may be nil.
	Err error
}

// Name is the number's name, "EST_ERR_AUTH_FAIL" for 22.
func (e *ESTError) Name() string { return fault.ESTName(e.RV) }

// Error names the number, the status and the cause.
func (e *ESTError) Error() string {
	s := fmt.Sprintf("%s (%d)", e.Name(), e.RV)
	if e.Status != 0 {
		s = fmt.Sprintf("HTTP %d, %s", e.Status, s)
	}
	if e.Err != nil {
		s += ": " + e.Err.Error()
	}
	return s
}

// Unwrap returns the cause.
func (e *ESTError) Unwrap() error { return e.Err }

// ESTNumber is the EST_ERR number that err stands for: that of the exchange if
// it was one that failed, otherwise that of the fault's row. It is 0 for nil.
func ESTNumber(err error) int {
	if err == nil {
		return fault.ESTNone
	}
	var e *ESTError
	if errors.As(err, &e) {
		return e.RV
	}
	if rv := fault.Of(err).Code.Row().EST; rv != fault.ESTNone {
		return rv
	}
	return fault.ESTUnknown
}

func estFault(code fault.Code, op string, e *ESTError) *fault.Fault {
	return fault.New(code, op, e)
}

func errBodyLimit(limit int) error {
	return fmt.Errorf("the answer's body is longer than %d bytes", limit)
}

// estBroken names what went wrong with an exchange that has no whole answer.
func estBroken(parent context.Context, op, method string, phase estPhase, late bool, limit time.Duration, err error) error {
	var u *url.Error
	if errors.As(err, &u) {
		err = u.Err // the address is in op already
	}
	var code fault.Code
	var rv int
	switch {
	case parent.Err() != nil:
		code, rv, err = fault.Canceled, fault.ESTSSLRead, context.Cause(parent)
	case late:
		code, rv = estLate(phase)
		err = fmt.Errorf("no %s within %v", estAwaited[phase], limit)
	case phase <= estResolving:
		code, rv = fault.ESTUnreachable, fault.ESTIPConnect
		var dns *net.DNSError
		if errors.As(err, &dns) {
			rv = fault.ESTIPGetAddr
		}
	case estCertificateAlert(err):
		code, rv = fault.ClientCertificate, fault.ESTSSLConnect
	case phase == estHandshaking:
		code, rv = estHandshakeFault(err)
	case phase == estSending:
		code, rv = fault.ESTHTTPWriteFault, fault.ESTHTTPWrite
	default:
		code, rv = estReadFault(method, err)
	}
	return estFault(code, op, &ESTError{RV: rv, Err: err})
}

// estAwaited says what did not come in each phase.
var estAwaited = map[estPhase]string{
	estConnecting:  "connection",
	estResolving:   "answer from the name server",
	estHandshaking: "TLS handshake",
	estSending:     "end of sending",
	estReading:     "whole answer",
}

// estLate is the fault of a phase that ran out of time.
func estLate(phase estPhase) (fault.Code, int) {
	switch phase {
	case estResolving:
		return fault.ESTUnreachable, fault.ESTIPGetAddr
	case estConnecting:
		return fault.ESTUnreachable, fault.ESTIPConnect
	case estHandshaking:
		return fault.ESTUnreachable, fault.ESTSSLConnect
	case estSending:
		return fault.ESTHTTPWriteFault, fault.ESTHTTPWrite
	default:
		return fault.ESTReadTimeout, fault.ESTSSLRead
	}
}

// estHandshakeFault is the fault of a TLS handshake that failed.
func estHandshakeFault(err error) (fault.Code, int) {
	var name x509.HostnameError
	var trust *tls.CertificateVerificationError
	var record tls.RecordHeaderError
	switch {
	case errors.As(err, &name):
		return fault.ESTServerTrust, fault.ESTFQDNMismatch
	case errors.As(err, &trust):
		return fault.ESTServerTrust, fault.ESTSSLConnect
	case errors.As(err, &record), errors.Is(err, http.ErrSchemeMismatch):
		return fault.ESTAnswerUnreadable, fault.ESTSSLConnect
	default:
		return fault.ESTUnreachable, fault.ESTSSLConnect
	}
}

// estReadFault is the fault of an answer that broke off or never began. A
// request for a certificate whose answer is lost may have been granted.
func estReadFault(method string, err error) (fault.Code, int) {
	cut := errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) ||
		neterr.Cut(err)
	var op *net.OpError
	switch {
	case errors.As(err, &op) && op.Op == "write", errors.Is(err, net.ErrClosed):
		// The transport says that it wrote the request before it has flushed it.
		// When that fails it closes the connection, and its reader, which finds
		// it closed, may be the first to tell.
		return fault.ESTHTTPWriteFault, fault.ESTHTTPWrite
	case cut && method == http.MethodPost:
		return fault.OutcomeUnknown, fault.ESTUnknown
	default:
		return fault.ESTAnswerUnreadable, fault.ESTUnknown
	}
}

// estCertificateAlert tells whether the server ended TLS because of the
// client's certificate. With TLS 1.3 that alert arrives in place of the answer.
// With either it may arrive while the request is being sent.
// crypto/tls does not export the type of an alert, but its texts name the
// certificate alerts of RFC 8446 section 6.2.
func estCertificateAlert(err error) bool {
	var remote *net.OpError
	return errors.As(err, &remote) && remote.Op == "remote error" && strings.Contains(remote.Err.Error(), "certificate")
}

// estStatuses are the statuses that libEST's client knows by number
// (est_client_http.c). All others are EST_ERR_UNKNOWN.
var estStatuses = map[int]struct {
	code fault.Code
	rv   int
}{
	http.StatusNoContent:    {fault.ESTAnswerUnreadable, fault.ESTHTTPNoContent},
	http.StatusBadRequest:   {fault.RequestRefused, fault.ESTHTTPBadReq},
	http.StatusUnauthorized: {fault.BadCredentials, fault.ESTAuthFail},
	http.StatusForbidden:    {fault.NotAuthorized, fault.ESTUnknown},
	http.StatusNotFound:     {fault.ESTAnswerUnreadable, fault.ESTHTTPNotFound},
	http.StatusLocked:       {fault.ESTServerError, fault.ESTHTTPLocked},
}

// refusal is the fault of an answer other than 200, with the server's text.
func (c *ESTClient) refusal(op string, r *estReply) error {
	known, ok := estStatuses[r.status]
	switch {
	case ok:
	case r.status >= 500:
		known.code, known.rv = fault.ESTServerError, fault.ESTUnknown
	case r.status >= 400:
		known.code, known.rv = fault.RequestRefused, fault.ESTUnknown
	default:
		known.code, known.rv = fault.ESTAnswerUnreadable, fault.ESTUnknown
	}
	text := estText(r)
	if named, ok := estNamed(text, r.status); ok {
		known.code = named
	}
	f := estFault(known.code, op, &ESTError{RV: known.rv, Status: r.status})
	f.Message = text
	return f
}

// estNamed is the failure behind a refusal, which a server of ours names in
// brackets at the end of its text. One status stands for several: a 401 need not
// be the password, the product answers so for a template that is not offered,
// too; a 400 can be the key, the policy or the CA, which can deny a request for
// what is otherwise found out at the login.
func estNamed(text string, status int) (fault.Code, bool) {
	i := strings.LastIndexByte(text, '[')
	if i < 0 || status >= 500 {
		return fault.Unknown, false
	}
	code, ok := fault.Lookup(strings.TrimRight(text[i+1:], "]."))
	http := code.Row().HTTP
	return code, ok && (http == status || status == 400 && http == 401)
}

// estTextLimit is how much of a server's text a person is shown, in bytes.
const estTextLimit = 500

// estText is the text that a server sent along with an error: its first lines
// in one, printable, without the line in which libEST repeats the status. A
// page of HTML is not a text.
func estText(r *estReply) string {
	if kind := strings.ToLower(r.header.Get("Content-Type")); strings.Contains(kind, "html") {
		return fmt.Sprintf("a page of HTML, %d bytes", len(r.body))
	}
	body := r.body[:min(len(r.body), 2*estTextLimit)]
	var lines []string
	for line := range strings.Lines(string(body)) {
		line = strings.TrimSpace(strings.Map(estPrintable, line))
		if line == "" || strings.HasPrefix(line, fmt.Sprintf("Error %d:", r.status)) {
			continue
		}
		if lines = append(lines, line); len(lines) == 4 {
			break
		}
	}
	text := strings.Join(lines, " ")
	if len(text) > estTextLimit {
		text = strings.ToValidUTF8(text[:estTextLimit], "") + "…"
	}
	return text
}

func estPrintable(r rune) rune {
	if r == utf8.RuneError || !unicode.IsPrint(r) {
		return ' '
	}
	return r
}
