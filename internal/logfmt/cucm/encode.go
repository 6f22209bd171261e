package cucm

import (
	"strconv"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/onlineca/onlineca/ra/event"
)

// Encode appends the lines that stand for e in a CAPF trace, each with its
// line feed, and reports whether e belongs into one. t is written in its own
// location.
func Encode(dst []byte, t time.Time, e event.Event) ([]byte, bool) {
	w := writer{buf: dst, clock: clockOf(t)}
	switch e := e.(type) {
	case event.CAPFOperationStatus:
		w.operationStatus(e)
	case event.CAPFDeviceRow:
		w.deviceRow(e)
	case event.CAPFStep:
		if !w.step(e) {
			return dst, false
		}
	case event.CAPFTrace:
		fn := e.Func
		if fn == "" {
			fn = fnDebug
		}
		w.wrapped(fn, e.Session, e.Text)
	case event.CAPFPublicKey:
		w.line(Enter, fnDebug)
		w.begin(fnDebug, e.Session)
		w.buf = append(w.buf, txtPubKey...)
		w.buf = appendBinary(w.buf, e.DER)
		w.end()
		w.line(Leave, fnDebug)
	default:
		if !w.start(e) && !w.session(e) && !w.service(e) {
			return dst, false
		}
	}
	return w.buf, true
}

// writer appends lines of one moment.
type writer struct {
	buf   []byte
	clock time.Duration
}

// start writes the values that the service reads at its start. These lines
// have no wrapper.
func (w *writer) start(e event.Event) bool {
	switch e := e.(type) {
	case event.CAPFCertificateGeneration:
		w.bare(fnInit, txtMethod, e.Method, ":", strconv.Itoa(e.Number))
	case event.CAPFOnlineCAHost:
		w.bare(fnOnline, txtHost, e.Host)
	case event.CAPFOnlineCAPort:
		w.bare(fnOnline, txtPort, strconv.Itoa(e.Port))
	case event.CAPFOnlineCATemplate:
		w.bare(fnOnline, txtTemplate, e.Template)
	default:
		return false
	}
	return true
}

// session writes what belongs to the session of a device.
func (w *writer) session(e event.Event) bool {
	switch e := e.(type) {
	case event.CAPFEnrollCalled:
		w.wrapped(fnDebug, e.Session, txtCalled, e.CSRFile)
	case event.CAPFEnrolled:
		w.wrapped(fnDebug, e.Session, txtEnrolled, strconv.Itoa(e.RV), " (", e.Name, txtPKCS7, strconv.Itoa(e.PKCS7Length))
	case event.CAPFEnrollReturned:
		w.wrapped(fnDebug, e.Session, txtReturned, strconv.Itoa(e.RV))
	case event.CAPFCoreEvent:
		w.wrapped(fnDebug, e.Session, txtCore, e.Event, txtInState, e.State)
	case event.CAPFPublicKeyLength:
		w.wrapped(fnDebug, e.Session, txtKeyLen, strconv.Itoa(e.Length))
	default:
		return false
	}
	return true
}

// service writes what is said without a session.
func (w *writer) service(e event.Event) bool {
	none := event.Session{}
	switch e := e.(type) {
	case event.CAPFCACertRead:
		w.wrapped(fnDebug, none, txtCACert, strconv.Itoa(e.Length))
	case event.CAPFDeviceFound:
		w.wrapped(fnFind, none, txtFound, e.Device)
	case event.CAPFReadset:
		w.wrapped(fnDebug, none, txtAdded, strconv.Itoa(e.Socket), txtReadset)
	case event.CAPFLoadFile:
		if e.Loaded {
			w.wrapped(fnDebug, none, txtLoaded, e.Path, "'")
		} else {
			w.wrapped(fnDebug, none, txtLoad, e.Path, txtLoadEnd)
		}
	case event.CAPFLSCVerified:
		w.wrapped(fnDebug, none, txtVerified, e.CSRFile)
	case event.CAPFMessage:
		w.wrapped(fnDebug, none, txtMessage, e.Type)
	default:
		return false
	}
	return true
}

func (w *writer) step(e event.CAPFStep) bool {
	s, ok := steps[e.Step]
	switch {
	case !ok:
		return false
	case s.fn == fnDebug:
		w.wrapped(fnDebug, e.Session, s.text)
	default:
		w.bare(s.fn, s.text)
	}
	if s.enters != "" {
		w.line(Enter, s.enters)
	}
	if s.leaves != "" {
		w.line(Leave, s.leaves)
	}
	return true
}

func (w *writer) operationStatus(e event.CAPFOperationStatus) {
	code := strconv.Itoa(e.Code)
	fn := fnSetStatus + e.Text + "):" + code
	mapping := fnMapStatus + e.Operation + ", " + e.Text + ")"
	w.line(Enter, fn)
	w.bare(fn, txtValueIs, code, "'")
	w.line(Enter, mapping)
	w.bare(mapping, txtDBStatus, e.DBStatus)
	w.line(Leave, mapping)
	w.bare(fn, txtSetTo, "1")
	w.bare(fn, txtSetTo, e.Text)
	w.bare(fn, txtQuery, strconv.Itoa(e.DBNumber), txtQueryWhere, e.Device, txtQueryEnd)
	w.clock += e.Duration
	w.line(Leave, fn)
}

func (w *writer) deviceRow(e event.CAPFDeviceRow) {
	fn := fnSelect + e.Device + ")"
	w.line(Enter, fn)
	w.clock += e.Duration
	w.bare(fn, txtExists)
	for _, f := range rowFields {
		w.bare(fn, f.text, *f.value(&e))
	}
	w.line(Leave, fn)
}

// wrapped writes a line between those that enter and leave its function.
func (w *writer) wrapped(fn string, s event.Session, parts ...string) {
	w.line(Enter, fn)
	w.begin(fn, s)
	for _, p := range parts {
		w.buf = appendText(w.buf, p)
	}
	w.end()
	w.line(Leave, fn)
}

// bare writes a line alone.
func (w *writer) bare(fn string, parts ...string) {
	w.begin(fn, event.Session{})
	for _, p := range parts {
		w.buf = appendText(w.buf, p)
	}
	w.end()
}

func (w *writer) begin(fn string, s event.Session) {
	w.buf = appendClock(w.buf, w.clock)
	w.buf = append(w.buf, " |   "...)
	w.tag(fn)
	w.buf = append(w.buf, ' ')
	if s.Device != "" {
		w.buf = strconv.AppendInt(w.buf, int64(s.Number), 10)
		w.buf = append(w.buf, ':')
		w.buf = appendText(w.buf, s.Device)
		w.buf = append(w.buf, ':')
	}
}

func (w *writer) end() { w.buf = append(w.buf, '\n') }

func (w *writer) line(m Mark, fn string) {
	w.buf = Line{Clock: w.clock, Mark: m}.Append(w.buf)
	w.tag(fn)
	w.end()
}

// tag appends the name of a function, cut where the product cuts it.
func (w *writer) tag(fn string) {
	if len(fn) > maxTag {
		fn = fn[:maxTag]
	}
	w.buf = appendText(w.buf, fn)
}

// clockOf is the time of day of t, in whole milliseconds.
func clockOf(t time.Time) time.Duration {
	h, m, s := t.Clock()
	return time.Duration((h*60+m)*60+s)*time.Second + time.Duration(t.Nanosecond()).Truncate(time.Millisecond)
}

const hexDigits = "0123456789ABCDEF"

// appendText appends s with its control characters written \xHH, so that
// nothing that a device sends can begin a line of its own.
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

// appendBinary appends bytes that are no text: what is not a printable
// character is written \xHH, and so is the backslash. The product prints them
// raw, which hides the rest of the file from tools that read text.
func appendBinary(dst, b []byte) []byte {
	for len(b) > 0 {
		r, n := utf8.DecodeRune(b)
		if r == utf8.RuneError && n <= 1 || !unicode.IsPrint(r) || r == '\\' {
			for _, c := range b[:n] {
				dst = append(dst, '\\', 'x', hexDigits[c>>4], hexDigits[c&15])
			}
		} else {
			dst = append(dst, b[:n]...)
		}
		b = b[n:]
	}
	return dst
}
