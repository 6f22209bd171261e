package nginx

import (
	"bytes"
	"time"

	"github.com/onlineca/onlineca/ra/event"
)

// maxOpen bounds the failures that a decoder waits to see the rest of.
const maxOpen = 256

// Decoder turns lines into events, of error.log and of the start's printout
// alike. The zero Decoder is ready.
//
// Every line yields an event or is part of one: what is not known comes as
// event.ProductText, and what is no line of nginx as event.UnknownLine.
type Decoder struct {
	// Zone is the zone of error.log's clock, UTC if nil.
	Zone *time.Location
	// Unknown counts the lines that fit no grammar.
	Unknown int

	line int
	open []failure
}

// failure is a failed exchange whose remaining lines have not come. Lines of
// several connections may stand between them.
type failure struct {
	form Form
	rec  event.Record
	e    event.UpstreamFailed
	url  bool
}

// At gives the next line its number, for files in which lines of other logs
// stand between. Without it lines are counted from 1.
func (d *Decoder) At(line int) { d.line = line - 1 }

// Line decodes the next line, given without its line feed, and calls yield for
// each event that it completes.
func (d *Decoder) Line(b []byte, yield func(event.Record)) {
	d.line++
	rec := event.Record{First: d.line, Last: d.line}
	l, ok := ParseLine(b)
	if !ok {
		d.Unknown++
		rec.Event = event.UnknownLine{Text: string(b)}
		yield(rec)
		return
	}
	if l.Form == ErrorLog {
		rec.Time = d.zoned(l.Time)
		if l.Conn > 0 {
			rec.Conn.Number = l.Conn
		}
		rec.Conn.Client, rec.Conn.Server = string(l.Client), string(l.Server)
	}
	if d.continues(l, yield) {
		return
	}
	if e, ok := decodeFailed(l); ok {
		if len(d.open) >= maxOpen {
			d.close(0, yield)
		}
		d.open = append(d.open, failure{form: l.Form, rec: rec, e: e})
		return
	}
	rec.Event = decodeLine(l)
	yield(rec)
}

// Flush yields what waits for lines that will not come.
func (d *Decoder) Flush(yield func(event.Record)) {
	for len(d.open) > 0 {
		d.close(0, yield)
	}
}

func (d *Decoder) zoned(t time.Time) time.Time {
	if d.Zone == nil || d.Zone == time.UTC {
		return t
	}
	y, m, day := t.Date()
	h, mi, s := t.Clock()
	return time.Date(y, m, day, h, mi, s, 0, d.Zone)
}

func (d *Decoder) close(i int, yield func(event.Record)) {
	f := d.open[i]
	d.open = append(d.open[:i], d.open[i+1:]...)
	f.rec.Event = f.e
	yield(f.rec)
}

// continues takes a line that belongs to a failure that is already known. A
// line of the same connection that does not belong to it ends it.
func (d *Decoder) continues(l Line, yield func(event.Record)) bool {
	for i := range d.open {
		f := &d.open[i]
		if f.form != l.Form || f.rec.Conn.Number != max(l.Conn, 0) {
			continue
		}
		if _, x, ok := stepOf(l.Func); ok && !f.url && x == exchanges[f.e.Step] {
			if url, ok := cut(l.Text, txtURL); ok {
				f.e.URL, f.url, f.rec.Last = string(url), true, d.line
				if f.e.Step != event.StepLogin {
					d.close(i, yield)
				}
				return true
			}
		}
		if f.e.Step == event.StepLogin && isNoLogin(l) {
			f.rec.Last = d.line
			d.close(i, yield)
			return true
		}
		d.close(i, yield)
		return false
	}
	return false
}

func isNoLogin(l Line) bool { return string(l.Func) == fnCACerts && string(l.Text) == txtNoLogin }

// decodeFailed reads the line that begins a failed exchange: "… failed with
// return code 28 (Operation timed out …)".
func decodeFailed(l Line) (event.UpstreamFailed, bool) {
	step, x, ok := stepOf(l.Func)
	if !ok {
		return event.UpstreamFailed{}, false
	}
	v, ok := cut(l.Text, x.failed)
	if !ok {
		return event.UpstreamFailed{}, false
	}
	code, text, ok := bytes.Cut(v, []byte(" ("))
	if !ok || !bytes.HasSuffix(text, []byte(")")) {
		return event.UpstreamFailed{}, false
	}
	n, ok := atoi(code)
	if !ok || n == 0 {
		return event.UpstreamFailed{}, false
	}
	return event.UpstreamFailed{Step: step, Curl: n, Text: string(text[:len(text)-1])}, true
}

// decodeLine decodes a line that is an event by itself.
func decodeLine(l Line) event.Event {
	if e := decodeKnown(l); e != nil {
		return e
	}
	origin := "nginx"
	switch l.Form {
	case Start:
		origin = "ra"
	case Shell:
		origin = "shell"
	}
	return event.ProductText{Origin: origin, Severity: string(l.Severity), Func: string(l.Func), Text: string(l.Text)}
}

// decodeKnown returns nil for a line that stands for no event.
func decodeKnown(l Line) event.Event {
	if isNoLogin(l) {
		return event.UpstreamFailed{Step: event.StepLogin}
	}
	if l.Form == Shell {
		if v, ok := cut(l.Text, txtPID); ok {
			if n, ok := atoi(v); ok {
				return event.RAStarted{PID: n}
			}
		}
		return nil
	}
	if step, _, ok := stepOf(l.Func); ok {
		if url, ok := cut(l.Text, txtSecure); ok && l.Form == ErrorLog {
			return event.UpstreamDone{Step: step, URL: string(url)}
		}
		return nil
	}
	switch string(l.Func) {
	case fnPostconf:
		switch string(l.Text) {
		case txtNoChain:
			return event.ChainUnavailable{}
		case txtChain:
			return event.ChainRetrieved{}
		}
	case fnStore:
		if v, ok := cut(l.Text, txtAdding); ok && bytes.HasSuffix(v, []byte(")")) {
			return event.RATrustAnchor{Store: event.StoreNginx, Subject: string(v[:len(v)-1])}
		}
	case fnData:
		if v, ok := cut(l.Text, txtData); ok {
			if n, ok := atoi(v); ok {
				return event.UpstreamData{Length: n}
			}
		}
	case "":
		if string(l.Text) == txtPoP {
			return event.RAPoPDisabled{}
		}
		if what, ok := bytes.CutSuffix(l.Text, []byte(txtMissing)); ok {
			return event.RAValueMissing{What: string(what)}
		}
	}
	return nil
}
