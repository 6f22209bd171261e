// Package nginx reads and writes what CiscoRA's web server says: the error.log
// of nginx, and the text that the service prints at its start (the "CiscoRA
// log", nginx<number>.txt), which has no times.
//
//	2019/03/05 12:31:21 [info] 31067#0: login_to_certsrv_ca: Secure connection …
//	nginx: [warn] login_to_certsrv_ca: URL used: https://ca.example.com:443/certsrv
//	EnrollmentService.sh : nginx server PID value = 31070
//
// Lines of libEST stand between them; package libest reads those.
//
// There are two layers. [ParseLine] and [Line.Append] are the grammar of one
// line, byte for byte. [Encode], [EncodeStart] and [Decoder] turn events into
// lines and back. The texts are those of Cisco's troubleshooting document for
// CAPF Online CA.
package nginx

import (
	"bytes"
	"strconv"
	"time"
)

// Form says which of the three shapes a line has.
type Form byte

// The shapes of line.
const (
	ErrorLog Form = iota // with date, process and severity
	Start                // "nginx: [warn] "
	Shell                // "EnrollmentService.sh : "
)

const (
	startPrefix = "nginx: ["
	shellPrefix = "EnrollmentService.sh : "
	handshaking = " while SSL EST handshaking, client: "
	andServer   = ", server: "
	dateLayout  = "2006/01/02 15:04:05"
)

// Line is one line. Its byte slices point into the parsed line.
type Line struct {
	Form Form
	// Time is the local wall clock of an error.log line, held in UTC.
	Time     time.Time
	Severity []byte
	PID, TID int
	// Conn is the connection's number, the one after the star; -1 for none.
	Conn int
	// Func is the function that speaks, empty for none.
	Func []byte
	Text []byte
	// Client and Server end a line of an EST connection; nil for none.
	Client, Server []byte
	// CR tells that the line ended in CR LF.
	CR bool
}

// ParseLine reads one line, given without its line feed. It reports false for
// a line of another grammar.
func ParseLine(b []byte) (Line, bool) {
	l := Line{Conn: -1}
	if n := len(b); n > 0 && b[n-1] == '\r' {
		l.CR, b = true, b[:n-1]
	}
	switch {
	case bytes.HasPrefix(b, []byte(startPrefix)):
		l.Form = Start
		i := bytes.Index(b, []byte("] "))
		if i < 0 || !isWord(b[len(startPrefix):i]) {
			return l, false
		}
		l.Severity = b[len(startPrefix):i]
		l.Func, l.Text = splitFunc(b[i+2:])
		return l, true
	case bytes.HasPrefix(b, []byte(shellPrefix)):
		l.Form, l.Text = Shell, b[len(shellPrefix):]
		return l, true
	}
	return parseErrorLog(l, b)
}

func parseErrorLog(l Line, b []byte) (Line, bool) {
	if len(b) < len(dateLayout)+3 || b[len(dateLayout)] != ' ' || b[len(dateLayout)+1] != '[' {
		return l, false
	}
	t, ok := parseDate(b[:len(dateLayout)])
	if !ok {
		return l, false
	}
	l.Time = t
	b = b[len(dateLayout)+2:]
	severity, b, ok := bytes.Cut(b, []byte("] "))
	if !ok || !isWord(severity) {
		return l, false
	}
	l.Severity = severity
	pid, b, ok1 := bytes.Cut(b, []byte("#"))
	tid, b, ok2 := bytes.Cut(b, []byte(": "))
	l.PID, ok = atoi(pid)
	if !ok || !ok1 || !ok2 {
		return l, false
	}
	if l.TID, ok = atoi(tid); !ok {
		return l, false
	}
	if len(b) > 1 && b[0] == '*' {
		if n, rest, found := bytes.Cut(b[1:], []byte(" ")); found {
			if v, ok := atoi(n); ok {
				l.Conn, b = v, rest
			}
		}
	}
	l.Func, l.Text = splitFunc(b)
	if i := bytes.LastIndex(l.Text, []byte(handshaking)); i >= 0 {
		client, server, ok := bytes.Cut(l.Text[i+len(handshaking):], []byte(andServer))
		if ok && len(client) > 0 && len(server) > 0 {
			l.Text, l.Client, l.Server = l.Text[:i], client, server
		}
	}
	return l, true
}

// Append writes the line, without a line feed, exactly as it was parsed.
func (l Line) Append(dst []byte) []byte {
	switch l.Form {
	case Shell:
		dst = append(dst, shellPrefix...)
	default:
		dst = appendHead(dst, l, string(l.Severity))
	}
	if len(l.Func) > 0 {
		dst = append(dst, l.Func...)
		dst = append(dst, ": "...)
	}
	dst = append(dst, l.Text...)
	if l.Client != nil {
		dst = append(dst, handshaking...)
		dst = append(dst, l.Client...)
		dst = append(dst, andServer...)
		dst = append(dst, l.Server...)
	}
	if l.CR {
		dst = append(dst, '\r')
	}
	return dst
}

// appendHead writes a line up to its function.
func appendHead(dst []byte, l Line, severity string) []byte {
	if l.Form == Start {
		dst = append(dst, startPrefix...)
		dst = append(dst, severity...)
		return append(dst, "] "...)
	}
	dst = appendDate(dst, l.Time)
	dst = append(dst, " ["...)
	dst = append(dst, severity...)
	dst = append(dst, "] "...)
	dst = strconv.AppendInt(dst, int64(l.PID), 10)
	dst = append(dst, '#')
	dst = strconv.AppendInt(dst, int64(l.TID), 10)
	dst = append(dst, ": "...)
	if l.Conn >= 0 {
		dst = append(dst, '*')
		dst = strconv.AppendInt(dst, int64(l.Conn), 10)
		dst = append(dst, ' ')
	}
	return dst
}

// splitFunc splits "func: text".
func splitFunc(b []byte) (fn, text []byte) {
	i := 0
	for i < len(b) && isWordByte(b[i]) {
		i++
	}
	if i > 0 && i+1 < len(b) && b[i] == ':' && b[i+1] == ' ' {
		return b[:i], b[i+2:]
	}
	return nil, b
}

// parseDate reads YYYY/MM/DD HH:MM:SS.
func parseDate(b []byte) (time.Time, bool) {
	for i, c := range []byte(dateLayout) {
		switch {
		case c >= '0' && c <= '9':
			if b[i] < '0' || b[i] > '9' {
				return time.Time{}, false
			}
		case b[i] != c:
			return time.Time{}, false
		}
	}
	two := func(i int) int { return int(b[i]-'0')*10 + int(b[i+1]-'0') }
	year, month, day := two(0)*100+two(2), two(5), two(8)
	h, m, s := two(11), two(14), two(17)
	if month < 1 || month > 12 || day < 1 || h > 23 || m > 59 || s > 59 {
		return time.Time{}, false
	}
	t := time.Date(year, time.Month(month), day, h, m, s, 0, time.UTC)
	return t, t.Day() == day
}

func appendDate(dst []byte, t time.Time) []byte {
	year, month, day := t.Date()
	h, m, s := t.Clock()
	two := func(n int) { dst = append(dst, byte('0'+n/10%10), byte('0'+n%10)) }
	two(year / 100)
	two(year)
	for _, f := range [...]struct {
		sep byte
		n   int
	}{{'/', int(month)}, {'/', day}, {' ', h}, {':', m}, {':', s}} {
		dst = append(dst, f.sep)
		two(f.n)
	}
	return dst
}

func isWordByte(c byte) bool {
	return c >= '0' && c <= '9' || c >= 'A' && c <= 'Z' || c >= 'a' && c <= 'z' || c == '_'
}

func isWord(b []byte) bool {
	for _, c := range b {
		if !isWordByte(c) {
			return false
		}
	}
	return len(b) > 0
}

// atoi reads a number that is not negative, as strconv.Itoa writes it.
func atoi(b []byte) (int, bool) {
	if len(b) == 0 || len(b) > 18 || b[0] == '0' && len(b) > 1 {
		return 0, false
	}
	n := 0
	for _, c := range b {
		if c < '0' || c > '9' {
			return 0, false
		}
		n = n*10 + int(c-'0')
	}
	return n, true
}
