// Package iis reads and writes the W3C log of IIS, u_exYYMMDD.log.
//
// Directives that begin with # name the fields of the lines below them, and
// may stand again in mid-file with other fields. Values are separated by one
// blank, an empty value is a dash, blanks within a value are written as plus
// signs. Times are UTC, lines end in CR LF.
//
// There are two layers. [ParseLine] and [Line.Append] are the grammar of one
// line, byte for byte. [Encode] and [Decoder] turn events into lines and back.
// Source: Microsoft, W3C Extended Log File Format (IIS 8 and later).
package iis

import (
	"bytes"

	"github.com/onlineca/onlineca/ra/event"
)

// Line is one line. Its byte slices point into the parsed line.
type Line struct {
	// Name is that of a directive, without # and colon. It is nil in a line of
	// values.
	Name []byte
	// Text is the directive's value, or the whole line of values.
	Text []byte
	// Blank tells that one blank stands between the colon and the value.
	Blank bool
	// CR tells that the line ended in CR LF.
	CR bool
}

// ParseLine reads one line, given without its line feed. It reports false for
// a line that is neither a directive nor values that begin with a date or a
// time.
func ParseLine(b []byte) (Line, bool) {
	var l Line
	if n := len(b); n > 0 && b[n-1] == '\r' {
		l.CR, b = true, b[:n-1]
	}
	if len(b) > 0 && b[0] == '#' {
		name, text, ok := bytes.Cut(b[1:], []byte(":"))
		if !ok || len(name) == 0 {
			return l, false
		}
		l.Name = name
		if len(text) > 0 && text[0] == ' ' {
			l.Blank, text = true, text[1:]
		}
		l.Text = text
		return l, true
	}
	if !matches(b, "0000-00-00 ") && !matches(b, "00:00:00 ") {
		return l, false
	}
	l.Text = b
	return l, true
}

// Append writes the line, without a line feed, exactly as it was parsed.
func (l Line) Append(dst []byte) []byte {
	if l.Name != nil {
		dst = append(dst, '#')
		dst = append(dst, l.Name...)
		dst = append(dst, ':')
		if l.Blank {
			dst = append(dst, ' ')
		}
	}
	dst = append(dst, l.Text...)
	if l.CR {
		dst = append(dst, '\r')
	}
	return dst
}

// matches reports whether b begins like the shape, in which 0 stands for any
// digit.
func matches(b []byte, shape string) bool {
	if len(b) < len(shape) {
		return false
	}
	for i := range len(shape) {
		if digit := b[i] >= '0' && b[i] <= '9'; shape[i] == '0' && !digit || shape[i] != '0' && b[i] != shape[i] {
			return false
		}
	}
	return true
}

// DefaultFields are the fields that IIS 8 and later write by default.
var DefaultFields = []string{
	"date", "time", "s-ip", "cs-method", "cs-uri-stem", "cs-uri-query", "s-port", "cs-username", "c-ip",
	"cs(User-Agent)", "cs(Referer)", "sc-status", "sc-substatus", "sc-win32-status", "time-taken",
}

// Header is the block that begins a log of IIS 10 with the default fields. Its
// Date is to be set.
func Header() event.WebLogHeader {
	return event.WebLogHeader{Software: "Microsoft Internet Information Services 10.0", Version: "1.0", Fields: DefaultFields}
}
