// Package libest reads and writes the lines of libEST, Cisco's library for
// EST. They have no time, and stand between nginx's own lines.
//
//	***EST [WARNING][est_enroll_auth:394]--> HTTP authentication failed. Auth type=1
//
// There are two layers. [ParseLine] and [Line.Append] are the grammar of one
// line, byte for byte. [Encode] and [Decoder] turn events into lines and back.
// The texts and the line numbers are those of Cisco's troubleshooting document
// for CAPF Online CA, which shows libEST 2.2.0; other releases number
// differently, so a decoder goes by the names of the functions.
package libest

import (
	"bytes"
	"strconv"
)

const (
	prefix = "***EST ["
	arrow  = "-->"
)

// Line is one line. Its byte slices point into the parsed line.
type Line struct {
	Severity []byte // INFO, WARNING, ERROR; TIMER in newer releases
	Func     []byte
	Num      int // the line of the source
	// Text is what comes after the arrow and one blank. Nil means that not
	// even the blank is there.
	Text []byte
	// CR tells that the line ended in CR LF.
	CR bool
}

// Is reports whether a line is one of libEST's.
func Is(b []byte) bool { return bytes.HasPrefix(b, []byte(prefix)) }

// ParseLine reads one line, given without its line feed. It reports false for
// a line that is none of libEST's.
func ParseLine(b []byte) (Line, bool) {
	var l Line
	if n := len(b); n > 0 && b[n-1] == '\r' {
		l.CR, b = true, b[:n-1]
	}
	if !Is(b) {
		return l, false
	}
	severity, b, ok := bytes.Cut(b[len(prefix):], []byte("]["))
	if !ok || !isWord(severity) {
		return l, false
	}
	at, b, ok := bytes.Cut(b, []byte("]"))
	if !ok || !bytes.HasPrefix(b, []byte(arrow)) {
		return l, false
	}
	fn, num, ok := bytes.Cut(at, []byte(":"))
	if !ok || !isWord(fn) {
		return l, false
	}
	if l.Num, ok = atoi(num); !ok {
		return l, false
	}
	l.Severity, l.Func = severity, fn
	if b = b[len(arrow):]; len(b) > 0 {
		if b[0] != ' ' {
			return l, false
		}
		l.Text = b[1:]
	}
	return l, true
}

// Append writes the line, without a line feed, exactly as it was parsed.
func (l Line) Append(dst []byte) []byte {
	dst = appendHead(dst, string(l.Severity), string(l.Func), l.Num)
	if l.Text != nil {
		dst = append(dst, ' ')
		dst = append(dst, l.Text...)
	}
	if l.CR {
		dst = append(dst, '\r')
	}
	return dst
}

func appendHead(dst []byte, severity, fn string, num int) []byte {
	dst = append(dst, prefix...)
	dst = append(dst, severity...)
	dst = append(dst, "]["...)
	dst = append(dst, fn...)
	dst = append(dst, ':')
	dst = strconv.AppendInt(dst, int64(num), 10)
	return append(dst, "]-->"...)
}

func isWord(b []byte) bool {
	for _, c := range b {
		if !isWordByte(c) {
			return false
		}
	}
	return len(b) > 0
}

func isWordByte(c byte) bool {
	return c >= '0' && c <= '9' || c >= 'A' && c <= 'Z' || c >= 'a' && c <= 'z' || c == '_'
}

// atoi reads a number as strconv.Itoa writes it.
func atoi(b []byte) (int, bool) {
	if len(b) == 0 || len(b) > 18 {
		return 0, false
	}
	n, err := strconv.Atoi(string(b))
	if err != nil || strconv.Itoa(n) != string(b) {
		return 0, false
	}
	return n, true
}
