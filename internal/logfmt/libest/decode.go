package libest

import (
	"bytes"
	"time"

	"github.com/onlineca/onlineca/ra/event"
)

// maxBody bounds the text of an HTTP error that goes over several lines, and
// maxBodyLines the lines it may go over: whatever is longer is not one.
const (
	maxBody      = 4096
	maxBodyLines = 16
)

// Decoder turns lines into events. The zero Decoder is ready.
//
// Every line yields an event or is part of one: what is not known comes as
// event.ProductText, and what is no line of libEST as event.UnknownLine.
type Decoder struct {
	// Unknown counts the lines that fit no grammar.
	Unknown int

	line    int
	headers int // how many header lines may still follow the access line
	pending *event.Record
	version event.ESTVersion
	body    []byte
	bodies  int
}

// Open reports whether the last line was the beginning of a text that goes on:
// the next line belongs to it, whatever it looks like.
func (d *Decoder) Open() bool { return d.body != nil }

// At gives the next line its number, for files in which lines of other logs
// stand between. Without it lines are counted from 1.
func (d *Decoder) At(line int) { d.line = line - 1 }

// Line decodes the next line, given without its line feed, and calls yield for
// each event that it completes.
func (d *Decoder) Line(b []byte, yield func(event.Record)) {
	d.line++
	l, ok := ParseLine(b)
	if d.body != nil {
		if !ok && d.bodyLine(b, yield) {
			return
		}
		d.Flush(yield)
	}
	rec := event.Record{First: d.line, Last: d.line}
	if !ok {
		d.Flush(yield)
		d.Unknown++
		rec.Event = event.UnknownLine{Text: string(b)}
		yield(rec)
		return
	}
	if d.begins(l, rec, yield) {
		return
	}
	d.Flush(yield)
	rec.Event = d.decode(l)
	yield(rec)
}

// Flush yields what waits for lines that will not come.
func (d *Decoder) Flush(yield func(event.Record)) {
	if d.pending == nil {
		return
	}
	rec := *d.pending
	if d.body != nil {
		rec.Event = httpError(d.body)
	} else {
		rec.Event = d.version
	}
	d.pending, d.body, d.bodies, d.version = nil, nil, 0, event.ESTVersion{}
	yield(rec)
}

// begins takes a line that is part of an event of several lines.
func (d *Decoder) begins(l Line, rec event.Record, yield func(event.Record)) bool {
	switch string(l.Func) {
	case fnVersion:
		field, value := d.versionField(l.Text)
		if *field != "" {
			d.Flush(yield)
		}
		*field = string(value)
		if d.pending == nil {
			d.pending = &rec
		}
		d.pending.Last = d.line
		if field == &d.version.Linked {
			d.Flush(yield)
		}
		return true
	case fnError:
		if len(l.Text) == 0 || l.Text[0] != '[' || len(l.Text) > maxBody {
			return false
		}
		d.Flush(yield)
		d.pending = &rec
		d.body = []byte{}
		d.bodyLine(l.Text[1:], yield)
		return true
	}
	return false
}

func (d *Decoder) versionField(text []byte) (*string, []byte) {
	if v, ok := cut(text, txtCompiled); ok {
		return &d.version.Compiled, v
	}
	if v, ok := cut(text, txtLinked); ok {
		return &d.version.Linked, v
	}
	return &d.version.Version, text
}

// bodyLine takes a line of an HTTP error's text, which ends with a bracket. It
// reports false for a text that has become too long to be one.
func (d *Decoder) bodyLine(b []byte, yield func(event.Record)) bool {
	if d.bodies++; d.bodies > maxBodyLines || len(d.body)+len(b) > maxBody {
		return false
	}
	b = bytes.TrimSuffix(b, []byte("\r"))
	d.pending.Last = d.line
	if text, ok := bytes.CutSuffix(b, []byte("]")); ok {
		d.body = append(d.body, text...)
		d.Flush(yield)
		return true
	}
	d.body = append(d.body, b...)
	d.body = append(d.body, '\n')
	return true
}

// httpError reads "Error 401: Unauthorized\n…".
func httpError(body []byte) event.ESTHTTPError {
	e := event.ESTHTTPError{Body: string(body)}
	if v, ok := cut(body, txtError); ok {
		if n, _, ok := bytes.Cut(v, []byte(":")); ok {
			e.Status, _ = atoi(n)
		}
	}
	return e
}

// decode decodes a line that is an event by itself.
func (d *Decoder) decode(l Line) event.Event {
	if string(l.Func) == fnHeader {
		return d.header(l)
	}
	if string(l.Func) == fnAccess {
		if e, ok := decodeAccess(l.Text); ok {
			d.headers = 2
			return e
		}
	}
	if e := decodeKnown(string(l.Func), l.Text); e != nil {
		return e
	}
	return event.ProductText{Origin: "est", Severity: string(l.Severity), Func: string(l.Func), Line: l.Num, Text: string(l.Text)}
}

// header tells the Referer from the User-Agent: the first follows the access
// line, the second follows the first.
func (d *Decoder) header(l Line) event.Event {
	value := string(l.Text)
	if n := len(value); n > 1 && value[0] == '"' && value[n-1] == '"' {
		value = value[1 : n-1]
	}
	left := d.headers
	d.headers = max(0, left-1)
	if left == 2 || left == 0 && l.Num == numReferer {
		return event.ESTReferer{Referer: value}
	}
	if value == "-" {
		value = ""
	}
	return event.ESTUserAgent{UserAgent: value}
}

// decodeKnown returns nil for a line that stands for no event.
func decodeKnown(fn string, text []byte) event.Event {
	switch fn {
	case fnStore:
		if v, ok := cut(text, txtAdding); ok && bytes.HasSuffix(v, []byte(")")) {
			return event.RATrustAnchor{Store: event.StoreEST, Subject: string(v[:len(v)-1])}
		}
	case fnOption:
		if string(text) == txtNoSRP {
			return event.ESTNoSRP{}
		}
		if v, ok := cut(text, txtCurve); ok {
			if n, ok := atoi(bytes.TrimSuffix(v, []byte(")"))); ok {
				return event.ESTCurve{NID: n}
			}
		}
	case fnAuth:
		if string(text) == txtNoPeer {
			return event.ESTNoPeerCertificate{}
		}
		if v, ok := cut(text, txtAuth); ok {
			if n, ok := atoi(v); ok {
				return event.ESTAuthFailed{AuthType: n}
			}
		}
	case fnShutdown:
		if string(text) == txtShutdown {
			return event.ESTShutdownFailed{}
		}
	}
	return decodeNumber(fn, text)
}

// decodeNumber reads the lines that name an EST_ERR.
func decodeNumber(fn string, text []byte) event.Event {
	switch fn {
	case fnRequest:
		if n, name, ok := cutNumber(text, txtEnroll); ok {
			return event.ESTEnrollFailed{RC: n, Name: name}
		}
	case fnHandler:
		if n, name, ok := cutNumber(text, txtResponse); ok {
			return event.ESTResponse{RC: n, Name: name}
		}
	case fnHandle:
		if n, name, ok := cutNumber(text, txtFailed); ok {
			return event.ESTRequestFailed{RV: n, Name: name}
		}
	}
	return nil
}

// decodeAccess reads CLIENT [TIME] "METHOD PATH PROTO" STATUS BYTES.
func decodeAccess(text []byte) (event.ESTAccess, bool) {
	var e event.ESTAccess
	client, rest, ok := bytes.Cut(text, []byte(" ["))
	if !ok {
		return e, false
	}
	stamp, rest, ok := bytes.Cut(rest, []byte(`] "`))
	if !ok {
		return e, false
	}
	t, err := time.Parse(accessLayout, string(stamp))
	i := bytes.LastIndex(rest, []byte(`" `))
	if err != nil || i < 0 {
		return e, false
	}
	request := bytes.SplitN(rest[:i], []byte(" "), 3)
	status, size, ok := bytes.Cut(rest[i+2:], []byte(" "))
	if !ok || len(request) != 3 {
		return e, false
	}
	s, ok1 := atoi(status)
	n, ok2 := atoi(size)
	if !ok1 || !ok2 {
		return e, false
	}
	return event.ESTAccess{
		Client: string(client), Time: t, Status: s, Bytes: int64(n),
		Method: string(request[0]), Path: string(request[1]), Proto: string(request[2]),
	}, true
}

func cut(b []byte, prefix string) ([]byte, bool) {
	if !bytes.HasPrefix(b, []byte(prefix)) {
		return nil, false
	}
	return b[len(prefix):], true
}

// cutNumber reads an EST_ERR after a prefix: "22 (EST_ERR_AUTH_FAIL)".
func cutNumber(b []byte, prefix string) (n int, name string, ok bool) {
	v, ok := cut(b, prefix)
	if !ok {
		return 0, "", false
	}
	num, rest, ok := bytes.Cut(v, []byte(" ("))
	if !ok || !bytes.HasSuffix(rest, []byte(")")) {
		return 0, "", false
	}
	n, ok = atoi(num)
	return n, string(rest[:len(rest)-1]), ok
}
