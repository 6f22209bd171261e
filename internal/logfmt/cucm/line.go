// Package cucm reads and writes the CAPF trace of CUCM, capf<number>.txt.
//
// A trace has three kinds of line: a function is entered (|-->), left (|<--),
// or says something (three blanks after the bar). Times are local, without a
// date. Most of what is said by the function "debug" begins with the number
// of the CAPF session and the name of the device.
//
//	14:05:04.628 |-->debug
//	14:05:04.628 |   debug 2:SEP74A02FC0A675:Inside X509_REQ *read_csr()
//	14:05:04.628 |<--debug
//
// There are two layers. [ParseLine] and [Line.Append] are the grammar of one
// line, byte for byte. [Encode] and [Decoder] turn events into the lines of
// the trace and back. The texts are those of Cisco's troubleshooting document
// for CAPF Online CA, spelling mistakes included.
package cucm

import (
	"bytes"
	"time"
)

// Mark says which of the three kinds a line is.
type Mark byte

// The kinds of line.
const (
	Body  Mark = iota // "|   "
	Enter             // "|-->"
	Leave             // "|<--"
)

// maxTag is the length at which the product cuts the name of a function.
const maxTag = 77

// stamp is the length of "HH:MM:SS.mmm |".
const stamp = len("14:05:04.628 |")

// Line is one line of a trace. Its byte slices point into the parsed line.
type Line struct {
	// Clock is the time of day, in whole milliseconds.
	Clock time.Duration
	Mark  Mark
	// Gap is the white space after the bar of a body line; nil stands for
	// three blanks.
	Gap []byte
	// Func is the name of the function, in body lines up to the first blank
	// that is not within its brackets.
	Func []byte
	// Text is what the function says, without the one blank before it. Nil
	// means that not even that blank is there.
	Text []byte
	// CR tells that the line ended in CR LF.
	CR bool
}

// ParseLine reads one line, given without its line feed. It reports false for
// a line that is none of a trace.
func ParseLine(b []byte) (Line, bool) {
	var l Line
	if n := len(b); n > 0 && b[n-1] == '\r' {
		l.CR, b = true, b[:n-1]
	}
	if len(b) < stamp+1 || b[12] != ' ' || b[13] != '|' {
		return l, false
	}
	clock, ok := parseClock(b[:12])
	if !ok {
		return l, false
	}
	l.Clock = clock
	rest := b[stamp:]
	switch {
	case bytes.HasPrefix(rest, []byte("-->")):
		l.Mark, l.Func = Enter, rest[3:]
		return l, len(l.Func) > 0
	case bytes.HasPrefix(rest, []byte("<--")):
		l.Mark, l.Func = Leave, rest[3:]
		return l, len(l.Func) > 0
	}
	gap := 0
	for gap < len(rest) && isBlank(rest[gap]) {
		gap++
	}
	if gap == 0 || gap == len(rest) {
		return l, false
	}
	l.Gap = rest[:gap]
	rest = rest[gap:]
	n := tagLength(rest)
	l.Func = rest[:n]
	if n < len(rest) {
		l.Text = rest[n+1:]
	}
	return l, true
}

// Append writes the line, without a line feed, exactly as it was parsed.
func (l Line) Append(dst []byte) []byte {
	dst = appendClock(dst, l.Clock)
	switch l.Mark {
	case Enter:
		dst = append(dst, " |-->"...)
	case Leave:
		dst = append(dst, " |<--"...)
	default:
		dst = append(dst, " |"...)
		if l.Gap == nil {
			dst = append(dst, "   "...)
		}
		dst = append(dst, l.Gap...)
	}
	dst = append(dst, l.Func...)
	if l.Text != nil {
		dst = append(dst, ' ')
		dst = append(dst, l.Text...)
	}
	if l.CR {
		dst = append(dst, '\r')
	}
	return dst
}

// Session splits the text of a line of "debug" into the session's number, the
// device's name and the rest. It reports false if the text begins otherwise.
func (l Line) Session() (number int, device, text []byte, ok bool) {
	n, i := 0, 0
	for i < len(l.Text) && i < 9 && isDigit(l.Text[i]) {
		n = n*10 + int(l.Text[i]-'0')
		i++
	}
	if i == 0 || i == len(l.Text) || l.Text[i] != ':' || (i > 1 && l.Text[0] == '0') {
		return 0, nil, l.Text, false
	}
	rest := l.Text[i+1:]
	end := 0
	for end < len(rest) && isDeviceByte(rest[end]) {
		end++
	}
	if end == 0 || end > 50 || end == len(rest) || rest[end] != ':' {
		return 0, nil, l.Text, false
	}
	return n, rest[:end], rest[end+1:], true
}

// tagLength finds the end of the function's name at the beginning of a body.
func tagLength(b []byte) int {
	switch {
	case bytes.HasPrefix(b, []byte("CAPFDevice::")):
		// Its arguments hold a blank, and the name is cut within them.
		if len(b) == maxTag || (len(b) > maxTag && b[maxTag] == ' ') {
			return maxTag
		}
		if i := bytes.IndexByte(b, ')'); i >= 0 && i < maxTag && (i+1 == len(b) || b[i+1] == ' ') {
			return i + 1
		}
	case bytes.HasPrefix(b, []byte("SetOperationStatus(")), bytes.HasPrefix(b, []byte("Select(")):
		if i := bytes.IndexByte(b, ')'); i >= 0 {
			i++
			for i < len(b) && (b[i] == ':' || isDigit(b[i])) {
				i++
			}
			if i == len(b) || b[i] == ' ' {
				return i
			}
		}
	}
	if i := bytes.IndexByte(b, ' '); i >= 0 {
		return i
	}
	return len(b)
}

// parseClock reads HH:MM:SS.mmm.
func parseClock(b []byte) (time.Duration, bool) {
	if b[2] != ':' || b[5] != ':' || b[8] != '.' {
		return 0, false
	}
	for _, i := range [...]int{0, 1, 3, 4, 6, 7, 9, 10, 11} {
		if !isDigit(b[i]) {
			return 0, false
		}
	}
	two := func(i int) int { return int(b[i]-'0')*10 + int(b[i+1]-'0') }
	h, m, s := two(0), two(3), two(6)
	if h > 23 || m > 59 || s > 59 {
		return 0, false
	}
	ms := int(b[9]-'0')*100 + two(10)
	return time.Duration(((h*60+m)*60+s)*1000+ms) * time.Millisecond, true
}

func appendClock(dst []byte, d time.Duration) []byte {
	ms := int(d / time.Millisecond)
	h, m, s := ms/3600000%24, ms/60000%60, ms/1000%60
	ms %= 1000
	return append(dst,
		byte('0'+h/10), byte('0'+h%10), ':', byte('0'+m/10), byte('0'+m%10), ':',
		byte('0'+s/10), byte('0'+s%10), '.', byte('0'+ms/100), byte('0'+ms/10%10), byte('0'+ms%10))
}

func isDigit(c byte) bool { return c >= '0' && c <= '9' }

func isBlank(c byte) bool { return c == ' ' || c == '\t' }

// isDeviceByte tells the characters of which names of devices are made.
func isDeviceByte(c byte) bool {
	return isDigit(c) || c >= 'A' && c <= 'Z' || c >= 'a' && c <= 'z' || c == '.' || c == '_' || c == '-'
}
