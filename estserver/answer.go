package estserver

import (
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/onlineca/onlineca/ra/fault"
)

// httpError is a failure that belongs to HTTP alone and has no row in the table
// of faults.
type httpError struct {
	status int
	text   string
	allow  []string
}

func (e *httpError) Error() string { return fmt.Sprintf("%d: %s", e.status, e.text) }

// challenge asks for HTTP Basic credentials. It is how every libEST client's
// first request ends, and no failure.
type challenge struct{}

func (challenge) Error() string { return "credentials are asked for" }

// answer is what goes to the client.
type answer struct {
	status  int
	header  map[string]string // in the exact spelling
	body    []byte
	err     error // why it is no success
	faultOf *fault.Fault
}

// write sends a. Content-Length is always there: libEST reads no chunks. The
// headers are few: it reads no more than sixteen.
func (a *answer) write(w http.ResponseWriter, id string) error {
	h := w.Header()
	for k, v := range a.header {
		// Not Set, which would spell WWW-Authenticate as libEST does not
		// recognise it.
		h[k] = []string{v}
	}
	if id != "" {
		h[correlationHeader] = []string{id}
	}
	if a.status != http.StatusNoContent {
		h["Content-Length"] = []string{strconv.Itoa(len(a.body))}
	}
	w.WriteHeader(a.status)
	_, err := w.Write(a.body)
	return err
}

const textPlain = "text/plain; charset=utf-8"

// errorAnswer is what an error looks like to a client. The texts follow libEST,
// whose users know them; what comes after the first line says more.
func (s *settings) errorAnswer(err error, basic bool) *answer {
	a := &answer{err: err, header: map[string]string{"Content-Type": textPlain}}
	var text string
	var he *httpError
	var ch challenge
	switch {
	case errors.As(err, &he):
		a.status, text = he.status, he.text
		if he.allow != nil {
			a.header["Allow"] = strings.Join(he.allow, ", ")
		}
	case errors.As(err, &ch):
		a.status, text = http.StatusUnauthorized, unauthorizedText
	default:
		a.faultOf = fault.Of(err)
		a.status, text = s.faultAnswer(a.faultOf, a.header)
	}
	if a.status == http.StatusUnauthorized && basic {
		a.header["WWW-Authenticate"] = `Basic realm="` + s.cfg.Realm + `"`
	}
	a.body = fmt.Appendf(nil, "Error %d: %s\n%s\n", a.status, http.StatusText(a.status), text)
	if a.status < 400 {
		a.body = []byte(text + "\n")
	}
	return a
}

const unauthorizedText = "The server was unable to authorize the request."

// faultAnswer looks a fault up in the table. The client is told the symptom and
// the certificate authority's own words, never the cause underneath, which can
// name hosts and accounts that are none of its business.
func (s *settings) faultAnswer(f *fault.Fault, header map[string]string) (status int, text string) {
	row := f.Code.Row()
	if status = row.HTTP; status == 0 {
		status = http.StatusInternalServerError
	}
	if f.Denied && status == http.StatusUnauthorized {
		// The client was let in, and its request was denied: another password
		// would change nothing.
		status = http.StatusBadRequest
	}
	text = row.Symptom
	if f.Message != "" {
		text += ": " + oneLineText(f.Message)
	}
	if f.ReqID != 0 {
		text += fmt.Sprintf(" (request %d)", f.ReqID)
	}
	text = strings.ToUpper(text[:1]) + text[1:] + " [" + row.Name + "]."
	if status == http.StatusUnauthorized {
		text = unauthorizedText + "\n" + text
	}
	if status == http.StatusAccepted {
		header["Retry-After"] = s.retryAfter(f.RetryAfter)
	}
	return status, text
}

// retryAfter is in whole seconds: libEST reads no date.
func (s *settings) retryAfter(d time.Duration) string {
	if d <= 0 {
		d = s.cfg.Timeouts.RetryAfter
	}
	return strconv.FormatInt(int64((d+time.Second-1)/time.Second), 10)
}

// oneLineText makes a far side's text fit into one line of an answer.
func oneLineText(s string) string {
	s = strings.Join(strings.FieldsFunc(s, func(r rune) bool { return r < 0x20 || r == 0x7f }), " ")
	if len(s) > 500 {
		s = strings.ToValidUTF8(s[:500], "") + "…"
	}
	return strings.TrimRight(s, ". ")
}
