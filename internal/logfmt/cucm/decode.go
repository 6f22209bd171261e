package cucm

import (
	"bytes"
	"strconv"
	"time"

	"github.com/onlineca/onlineca/ra/event"
)

// maxOpen bounds the blocks that a decoder waits to see the end of.
const maxOpen = 256

// Decoder turns the lines of a trace into events. The zero Decoder is ready.
//
// Lines that enter or leave a function carry nothing of their own; they are
// counted in Layout. Every other line yields an event or is part of one: what
// is not known comes as event.CAPFTrace, and what is no line of a trace as
// event.UnknownLine.
type Decoder struct {
	// Day is the day of the first line, in the zone of the trace. Its time of
	// day is ignored. The zero Day is the first of January of year 1, UTC.
	Day time.Time
	// Layout counts the lines that only enter or leave a function, Unknown
	// those that fit no grammar.
	Layout, Unknown int

	line int
	last time.Duration
	days int
	open []*block
}

// block is an event of several lines whose end has not come.
type block struct {
	tag         string
	start       time.Duration
	days        int
	first, last int
	status      *event.CAPFOperationStatus
	row         *event.CAPFDeviceRow
	end         time.Duration
}

// At gives the next line its number, for files in which lines of other logs
// stand between. Without it lines are counted from 1.
func (d *Decoder) At(line int) { d.line = line - 1 }

// Line decodes the next line, given without its line feed, and calls yield for
// each event that it completes.
func (d *Decoder) Line(b []byte, yield func(event.Record)) {
	d.line++
	l, ok := ParseLine(b)
	if !ok {
		d.Unknown++
		yield(event.Record{Event: event.UnknownLine{Text: string(b)}, First: d.line, Last: d.line})
		return
	}
	days := d.tick(l.Clock)
	if l.Mark != Body {
		d.Layout++
		d.wrap(l, yield)
		return
	}
	if d.inBlock(l, yield) {
		return
	}
	d.emit(yield, decodeBody(l), l.Clock, days, d.line, d.line)
}

// tick counts the days and returns the one to which a line belongs. A trace is
// written by several threads, so that a line may be a little older than the
// one before it, even over midnight; and clocks are put back by an hour. What
// is older than that is of the next day.
func (d *Decoder) tick(clock time.Duration) int {
	if d.days > 0 && d.last < time.Minute && clock >= 24*time.Hour-time.Minute {
		return d.days - 1
	}
	if clock < d.last-61*time.Minute {
		d.days++
	}
	d.last = clock
	return d.days
}

// Flush yields what waits for lines that will not come.
func (d *Decoder) Flush(yield func(event.Record)) {
	for len(d.open) > 0 {
		d.close(d.open[0], yield)
	}
}

func (d *Decoder) emit(yield func(event.Record), e event.Event, clock time.Duration, days, first, last int) {
	y, m, day := d.Day.Date()
	t := time.Date(y, m, day+days, 0, 0, 0, int(clock), d.Day.Location())
	yield(event.Record{Time: t, Event: e, First: first, Last: last})
}

// wrap notes that a function is entered or left, where an event hangs on it.
func (d *Decoder) wrap(l Line, yield func(event.Record)) {
	if !hasPrefix(l.Func, fnSetStatus) && !hasPrefix(l.Func, fnSelect) {
		return
	}
	b := d.find(l.Func)
	if b != nil {
		if l.Mark == Leave {
			b.end, b.last = l.Clock, d.line
		}
		d.close(b, yield)
	}
	if l.Mark == Enter {
		d.begin(l, yield)
	}
}

func (d *Decoder) find(tag []byte) *block {
	for _, b := range d.open {
		if b.tag == string(tag) {
			return b
		}
	}
	return nil
}

// begin opens a block for the function that l names.
func (d *Decoder) begin(l Line, yield func(event.Record)) *block {
	if len(d.open) >= maxOpen {
		d.close(d.open[0], yield)
	}
	b := &block{tag: string(l.Func), start: l.Clock, end: l.Clock, days: d.days, first: d.line, last: d.line}
	d.open = append(d.open, b)
	return b
}

// close ends a block. A block that held nothing yields nothing: the product
// also enters these functions for other work.
func (d *Decoder) close(b *block, yield func(event.Record)) {
	for i, o := range d.open {
		if o == b {
			d.open = append(d.open[:i], d.open[i+1:]...)
			break
		}
	}
	took := b.end - b.start
	if took < 0 {
		took += 24 * time.Hour
	}
	switch {
	case b.status != nil:
		b.status.Duration = took
		d.emit(yield, *b.status, b.start, b.days, b.first, b.last)
	case b.row != nil:
		b.row.Duration = took
		d.emit(yield, *b.row, b.start, b.days, b.first, b.last)
	}
}

// inBlock takes a body line that is part of an event of several lines.
func (d *Decoder) inBlock(l Line, yield func(event.Record)) bool {
	switch {
	case hasPrefix(l.Func, fnSetStatus):
		return d.statusLine(l, yield)
	case hasPrefix(l.Func, fnMapStatus):
		return d.mapLine(l)
	case hasPrefix(l.Func, fnSelect):
		return d.rowLine(l, yield)
	}
	return false
}

// statusLine takes a line of SetOperationStatus(TEXT):CODE.
func (d *Decoder) statusLine(l Line, yield func(event.Record)) bool {
	text, code, ok := splitStatusTag(l.Func)
	if !ok {
		return false
	}
	var number int
	var device []byte
	switch {
	case hasPrefix(l.Text, txtValueIs), hasPrefix(l.Text, txtSetTo):
	case hasPrefix(l.Text, txtQuery):
		var n []byte
		if n, device, ok = bytes.Cut(l.Text[len(txtQuery):], []byte(txtQueryWhere)); !ok {
			return false
		}
		if number, ok = atoi(n); !ok {
			return false
		}
		device = bytes.TrimSuffix(device, []byte(txtQueryEnd))
	default:
		return false
	}
	b := d.find(l.Func)
	if b == nil {
		b = d.begin(l, yield)
	}
	if b.status == nil {
		b.status = &event.CAPFOperationStatus{Text: text, Code: code}
	}
	b.last, b.end = d.line, l.Clock
	if device != nil {
		b.status.Device, b.status.DBNumber = string(device), number
	}
	return true
}

// mapLine takes the line that says which status the device table gets. It
// stands within the innermost SetOperationStatus.
func (d *Decoder) mapLine(l Line) bool {
	if !hasPrefix(l.Text, txtDBStatus) {
		return false
	}
	for i := len(d.open) - 1; i >= 0; i-- {
		b := d.open[i]
		if b.status == nil || b.status.DBStatus != "" {
			continue
		}
		op, _, _ := bytes.Cut(l.Func[len(fnMapStatus):], []byte(","))
		b.status.Operation = string(bytes.TrimSuffix(op, []byte(")")))
		b.status.DBStatus = string(l.Text[len(txtDBStatus):])
		b.last = d.line
		return true
	}
	return false
}

// rowLine takes a line of Select(DEVICE).
func (d *Decoder) rowLine(l Line, yield func(event.Record)) bool {
	if !bytes.HasSuffix(l.Func, []byte(")")) {
		return false
	}
	field := -1
	for i := range rowFields {
		if hasPrefix(l.Text, rowFields[i].text) {
			field = i
			break
		}
	}
	if field < 0 && string(l.Text) != txtExists {
		return false
	}
	b := d.find(l.Func)
	if b == nil {
		b = d.begin(l, yield)
	}
	if b.row == nil {
		b.row = &event.CAPFDeviceRow{Device: string(l.Func[len(fnSelect) : len(l.Func)-1])}
	}
	b.last, b.end = d.line, l.Clock
	if field >= 0 {
		*rowFields[field].value(b.row) = string(l.Text[len(rowFields[field].text):])
	}
	if field == len(rowFields)-1 {
		d.close(b, yield)
	}
	return true
}

// splitStatusTag reads SetOperationStatus(TEXT):CODE.
func splitStatusTag(tag []byte) (text string, code int, ok bool) {
	i := bytes.LastIndex(tag, []byte("):"))
	if i < len(fnSetStatus) {
		return "", 0, false
	}
	code, ok = atoi(tag[i+2:])
	return string(tag[len(fnSetStatus):i]), code, ok
}

// decodeBody decodes a line that is an event by itself.
func decodeBody(l Line) event.Event {
	var s event.Session
	text := l.Text
	if string(l.Func) == fnDebug {
		if n, device, rest, ok := l.Session(); ok {
			s, text = event.Session{Number: n, Device: string(device)}, rest
		}
	}
	if e := decodeKnown(l.Func, s, text); e != nil {
		return e
	}
	e := event.CAPFTrace{Session: s, Func: string(l.Func), Text: string(text)}
	if e.Func == fnDebug {
		e.Func = ""
	}
	return e
}

// decodeKnown returns nil for a text that stands for no event.
func decodeKnown(fn []byte, s event.Session, text []byte) event.Event {
	if step, ok := stepOf[string(fn)][string(text)]; ok {
		return event.CAPFStep{Session: s, Step: step}
	}
	switch string(fn) {
	case fnDebug:
		if e := decodeSession(s, text); e != nil {
			return e
		}
		if s == (event.Session{}) {
			return decodeService(text)
		}
	case fnInit, fnOnline:
		return decodeStart(string(fn), text)
	case fnFind:
		if v, ok := cut(text, txtFound); ok {
			return event.CAPFDeviceFound{Device: string(v)}
		}
	}
	return nil
}

func decodeStart(fn string, text []byte) event.Event {
	if fn == fnInit {
		v, ok := cut(text, txtMethod)
		i := bytes.LastIndexByte(v, ':')
		if !ok || i < 0 {
			return nil
		}
		if n, ok := atoi(v[i+1:]); ok {
			return event.CAPFCertificateGeneration{Method: string(v[:i]), Number: n}
		}
		return nil
	}
	if v, ok := cut(text, txtHost); ok {
		return event.CAPFOnlineCAHost{Host: string(v)}
	}
	if n, ok := cutInt(text, txtPort); ok {
		return event.CAPFOnlineCAPort{Port: n}
	}
	if v, ok := cut(text, txtTemplate); ok {
		return event.CAPFOnlineCATemplate{Template: string(v)}
	}
	return nil
}

func decodeSession(s event.Session, text []byte) event.Event {
	if v, ok := cut(text, txtCalled); ok {
		return event.CAPFEnrollCalled{Session: s, CSRFile: string(v)}
	}
	if v, ok := cut(text, txtEnrolled); ok {
		return decodeEnrolled(s, v)
	}
	if n, ok := cutInt(text, txtReturned); ok {
		return event.CAPFEnrollReturned{Session: s, RV: n}
	}
	if v, ok := cut(text, txtCore); ok {
		if e, state, ok := bytes.Cut(v, []byte(txtInState)); ok {
			return event.CAPFCoreEvent{Session: s, Event: string(e), State: string(state)}
		}
		return nil
	}
	if n, ok := cutInt(text, txtKeyLen); ok {
		return event.CAPFPublicKeyLength{Session: s, Length: n}
	}
	if v, ok := cut(text, txtPubKey); ok {
		return event.CAPFPublicKey{Session: s, DER: unescape(v)}
	}
	return nil
}

// decodeEnrolled reads "35 (EST_ERR_SSL_READ) with pkcs7 length = 0".
func decodeEnrolled(s event.Session, v []byte) event.Event {
	n, rest, ok := bytes.Cut(v, []byte(" ("))
	if !ok {
		return nil
	}
	name, length, ok := bytes.Cut(rest, []byte(txtPKCS7))
	if !ok {
		return nil
	}
	rv, ok1 := atoi(n)
	size, ok2 := atoi(length)
	if !ok1 || !ok2 {
		return nil
	}
	return event.CAPFEnrolled{Session: s, RV: rv, Name: string(name), PKCS7Length: size}
}

func decodeService(text []byte) event.Event {
	if n, ok := cutInt(text, txtCACert); ok {
		return event.CAPFCACertRead{Length: n}
	}
	if v, ok := cut(text, txtAdded); ok {
		if n, ok := atoi(bytes.TrimSuffix(v, []byte(txtReadset))); ok && bytes.HasSuffix(v, []byte(txtReadset)) {
			return event.CAPFReadset{Socket: n}
		}
		return nil
	}
	if v, ok := cut(text, txtLoaded); ok && bytes.HasSuffix(v, []byte("'")) {
		return event.CAPFLoadFile{Path: string(v[:len(v)-1]), Loaded: true}
	}
	if v, ok := cut(text, txtLoad); ok && bytes.HasSuffix(v, []byte(txtLoadEnd)) {
		return event.CAPFLoadFile{Path: string(v[:len(v)-len(txtLoadEnd)])}
	}
	if v, ok := cut(text, txtVerified); ok {
		return event.CAPFLSCVerified{CSRFile: string(v)}
	}
	if v, ok := cut(text, txtMessage); ok {
		return event.CAPFMessage{Type: string(v)}
	}
	return nil
}

// unescape undoes appendBinary. Bytes that the product wrote raw stay as they
// are.
func unescape(b []byte) []byte {
	out := make([]byte, 0, len(b))
	for i := 0; i < len(b); i++ {
		if b[i] == '\\' && i+3 < len(b) && b[i+1] == 'x' {
			if v, err := strconv.ParseUint(string(b[i+2:i+4]), 16, 8); err == nil {
				out = append(out, byte(v))
				i += 3
				continue
			}
		}
		out = append(out, b[i])
	}
	return out
}

func hasPrefix(b []byte, prefix string) bool {
	return len(b) >= len(prefix) && string(b[:len(prefix)]) == prefix
}

func cut(b []byte, prefix string) ([]byte, bool) {
	if !hasPrefix(b, prefix) {
		return nil, false
	}
	return b[len(prefix):], true
}

func cutInt(b []byte, prefix string) (int, bool) {
	v, ok := cut(b, prefix)
	if !ok {
		return 0, false
	}
	return atoi(v)
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
