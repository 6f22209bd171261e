package nginx

import (
	"strconv"
	"time"

	"github.com/onlineca/onlineca/ra/event"
)

// Encode appends the lines that stand for e in nginx's error.log, each with
// its line feed, and reports whether e belongs there. t is written in its own
// location. c is the EST connection in whose service e happened; the zero Conn
// stands for the start of the service. pid is the process that writes.
func Encode(dst []byte, t time.Time, e event.Event, c event.Conn, pid int) ([]byte, bool) {
	w := writer{buf: dst, form: ErrorLog, t: t, conn: c, pid: pid}
	switch e := e.(type) {
	case event.UpstreamDone:
		x, ok := exchanges[e.Step]
		if !ok {
			return dst, false
		}
		w.line("info", x.fn, txtSecure, e.URL)
	case event.UpstreamData:
		if c == (event.Conn{}) {
			return dst, false
		}
		w.line("info", fnData, txtData, strconv.Itoa(e.Length))
	case event.ChainRetrieved:
		w.line("info", fnPostconf, txtChain)
	case event.RATrustAnchor:
		// At the start the stores are printed, not logged.
		if c == (event.Conn{}) || e.Store != event.StoreNginx {
			return dst, false
		}
		w.line("warn", fnStore, txtAdding, e.Subject, ")")
	case event.ProductText:
		if e.Origin != "nginx" {
			return dst, false
		}
		w.line(e.Severity, e.Func, e.Text)
	default:
		return w.failure(e)
	}
	return w.buf, true
}

// EncodeStart appends the lines that the service prints for e at its start,
// each with its line feed, and reports whether it prints any.
func EncodeStart(dst []byte, e event.Event) ([]byte, bool) {
	w := writer{buf: dst, form: Start}
	switch e := e.(type) {
	case event.RAValueMissing:
		w.line("warn", "", e.What, txtMissing)
	case event.RATrustAnchor:
		if e.Store != event.StoreNginx {
			return dst, false
		}
		w.line("warn", fnStore, txtAdding, e.Subject, ")")
	case event.RAPoPDisabled:
		w.line("warn", "", txtPoP)
	case event.RAStarted:
		w.form = Shell
		w.line("", "", txtPID, strconv.Itoa(e.PID))
	case event.ProductText:
		switch e.Origin {
		case "ra":
			w.line(e.Severity, e.Func, e.Text)
		case "shell":
			w.form = Shell
			w.line("", "", e.Text)
		default:
			return dst, false
		}
	default:
		return w.failure(e)
	}
	return w.buf, true
}

// curlNameMismatch is the one failure at the start after which the vendor's
// document does not print that there is no chain: its extract ends with the
// line before. Whether the product is silent there, or only the document, it
// does not say; what it shows is what is written.
const curlNameMismatch = 51

// failure writes what is printed at the start and logged in error.log alike.
func (w *writer) failure(e event.Event) ([]byte, bool) {
	switch e := e.(type) {
	case event.ChainUnavailable:
		if e.Curl == curlNameMismatch {
			return w.buf, false
		}
		w.line("warn", fnPostconf, txtNoChain)
		return w.buf, true
	case event.UpstreamFailed:
		x, ok := exchanges[e.Step]
		if !ok || e.Curl == 0 && e.Step != event.StepLogin {
			return w.buf, false
		}
		// A login that fails for a reason that is not libcurl's, such as a
		// refused password, leaves only the last of the three lines.
		if e.Curl != 0 {
			w.line("warn", x.fn, x.failed, strconv.Itoa(e.Curl), " (", e.Text, ")")
			w.line("warn", x.fn, txtURL, e.URL)
		}
		if e.Step == event.StepLogin {
			w.line("error", fnCACerts, txtNoLogin)
		}
		return w.buf, true
	}
	return w.buf, false
}

// writer appends lines of one form.
type writer struct {
	buf  []byte
	form Form
	t    time.Time
	conn event.Conn
	pid  int
}

func (w *writer) line(severity, fn string, parts ...string) {
	l := Line{Form: w.form, Time: w.t, PID: w.pid, Conn: -1}
	if w.conn.Number > 0 {
		l.Conn = w.conn.Number
	}
	if w.form == Shell {
		w.buf = append(w.buf, shellPrefix...)
	} else {
		w.buf = appendHead(w.buf, l, severity)
	}
	if fn != "" {
		w.buf = appendText(w.buf, fn)
		w.buf = append(w.buf, ": "...)
	}
	for _, p := range parts {
		w.buf = appendText(w.buf, p)
	}
	if w.form == ErrorLog && w.conn.Client != "" {
		w.buf = append(w.buf, handshaking...)
		w.buf = appendText(w.buf, w.conn.Client)
		w.buf = append(w.buf, andServer...)
		w.buf = appendText(w.buf, w.conn.Server)
	}
	w.buf = append(w.buf, '\n')
}

const hexDigits = "0123456789ABCDEF"

// appendText appends s with its control characters written \xHH, as nginx
// itself does, so that nothing that a client sends can begin a line of its own.
func appendText(dst []byte, s string) []byte {
	for i := range len(s) {
		if c := s[i]; c < 0x20 || c == 0x7f {
			dst = append(dst, '\\', 'x', hexDigits[c>>4], hexDigits[c&15])
		} else {
			dst = append(dst, c)
		}
	}
	return dst
}
