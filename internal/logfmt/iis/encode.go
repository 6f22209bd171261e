package iis

import (
	"strconv"
	"strings"
	"time"

	"github.com/onlineca/onlineca/ra/event"
)

const (
	dateLayout = "2006-01-02"
	timeLayout = "15:04:05"
)

// Encode appends the lines that stand for e in an IIS log with the default
// fields, each with CR LF, and reports whether e belongs into one. A request
// is dated by its own time, or by t if it has none.
func Encode(dst []byte, t time.Time, e event.Event) ([]byte, bool) {
	switch e := e.(type) {
	case event.WebRequest:
		if e.Time.IsZero() {
			e.Time = t
		}
		return appendRequest(dst, e), true
	case event.WebLogHeader:
		return appendHeader(dst, e), true
	}
	return dst, false
}

func appendHeader(dst []byte, e event.WebLogHeader) []byte {
	directive := func(name, value string) {
		if value == "" {
			return
		}
		dst = append(dst, '#')
		dst = append(dst, name...)
		dst = append(dst, ": "...)
		dst = appendText(dst, value, ' ')
		dst = append(dst, "\r\n"...)
	}
	directive("Software", e.Software)
	directive("Version", e.Version)
	if !e.Date.IsZero() {
		directive("Date", e.Date.UTC().Format(dateLayout+" "+timeLayout))
	}
	directive("Fields", strings.Join(e.Fields, " "))
	return dst
}

func appendRequest(dst []byte, e event.WebRequest) []byte {
	dst = e.Time.UTC().AppendFormat(dst, dateLayout+" "+timeLayout)
	text := func(s string) {
		dst = append(dst, ' ')
		if s == "" {
			dst = append(dst, '-')
		}
		dst = appendText(dst, s, '+')
	}
	number := func(n int64) {
		dst = append(dst, ' ')
		dst = strconv.AppendInt(dst, n, 10)
	}
	text(e.ServerIP)
	text(e.Method)
	text(e.Stem)
	text(e.Query)
	number(int64(e.Port))
	text(e.User)
	text(e.ClientIP)
	text(e.UserAgent)
	text(e.Referer)
	number(int64(e.Status))
	number(int64(e.Substatus))
	number(int64(e.Win32))
	number(e.TimeTaken.Milliseconds())
	return append(dst, "\r\n"...)
}

// appendText appends s with its blanks and control characters replaced, so
// that nothing that a client sends can begin a value or a line of its own.
func appendText(dst []byte, s string, blank byte) []byte {
	for i := range len(s) {
		if c := s[i]; c <= 0x20 || c == 0x7f {
			dst = append(dst, blank)
		} else {
			dst = append(dst, c)
		}
	}
	return dst
}
