package iis

import (
	"bytes"
	"strings"
	"time"

	"github.com/onlineca/onlineca/ra/event"
)

// Decoder turns lines into events. The zero Decoder reads a log with the
// default fields until a #Fields directive says otherwise.
//
// The block of directives yields one event.WebLogHeader. A line that does not
// have the values that its #Fields promise comes as event.UnknownLine.
type Decoder struct {
	// Unknown counts the lines that fit no grammar.
	Unknown int

	line    int
	head    event.WebLogHeader
	first   int
	setters []setter
	day     time.Time // of the last #Date, for logs whose lines have no date
	known   map[string]string
}

// maxKnown bounds the values that are remembered, so that the same address or
// name in every line is one string.
const maxKnown = 512

// text returns b as a string.
func (d *Decoder) text(b []byte) string {
	if s, ok := d.known[string(b)]; ok {
		return s
	}
	if d.known == nil || len(d.known) >= maxKnown {
		d.known = map[string]string{}
	}
	s := string(b)
	d.known[s] = s
	return s
}

// setter puts one value into a request; nil for a field that is not kept.
type setter func(*Decoder, *event.WebRequest, []byte) bool

// At gives the next line its number, for files in which lines of other logs
// stand between. Without it lines are counted from 1.
func (d *Decoder) At(line int) { d.line = line - 1 }

// Line decodes the next line, given without its line feed, and calls yield for
// each event that it completes.
func (d *Decoder) Line(b []byte, yield func(event.Record)) {
	d.line++
	rec := event.Record{First: d.line, Last: d.line}
	l, ok := ParseLine(b)
	if ok && l.Name != nil && d.directive(l, yield) {
		return
	}
	d.Flush(yield)
	if ok && l.Name == nil {
		e := event.WebRequest{Time: d.day}
		if d.request(&e, l.Text) {
			rec.Time, rec.Event = e.Time, e
			yield(rec)
			return
		}
	}
	d.Unknown++
	rec.Event = event.UnknownLine{Text: string(b)}
	yield(rec)
}

// Flush yields a block of directives that ends before its #Fields.
func (d *Decoder) Flush(yield func(event.Record)) {
	if d.first > 0 {
		d.header(d.line-1, yield)
	}
}

func (d *Decoder) header(last int, yield func(event.Record)) {
	rec := event.Record{Time: d.head.Date, Event: d.head, First: d.first, Last: max(d.first, last)}
	d.head, d.first = event.WebLogHeader{}, 0
	yield(rec)
}

// directive takes a directive of the header. It reports false for others.
func (d *Decoder) directive(l Line, yield func(event.Record)) bool {
	text := string(bytes.TrimSpace(l.Text))
	begin := func(known bool) {
		if known {
			d.Flush(yield)
		}
		if d.first == 0 {
			d.first = d.line
		}
	}
	switch string(l.Name) {
	case "Software":
		begin(d.head.Software != "")
		d.head.Software = text
	case "Version":
		begin(d.head.Version != "")
		d.head.Version = text
	case "Date":
		t, err := time.Parse(dateLayout+" "+timeLayout, text)
		if err != nil {
			return false
		}
		begin(!d.head.Date.IsZero())
		d.head.Date, d.day = t, t
	case "Fields":
		begin(false)
		d.head.Fields = strings.Fields(text)
		d.setters = settersOf(d.head.Fields)
		d.header(d.line, yield)
	default:
		return false
	}
	return true
}

// request reads a line of values.
func (d *Decoder) request(e *event.WebRequest, b []byte) bool {
	if d.setters == nil {
		d.setters = settersOf(DefaultFields)
	}
	for i, set := range d.setters {
		value, rest, more := bytes.Cut(b, []byte(" "))
		if len(value) == 0 || more == (i == len(d.setters)-1) {
			return false
		}
		if set != nil && !set(d, e, value) {
			return false
		}
		b = rest
	}
	return true
}

func settersOf(fields []string) []setter {
	all := make([]setter, len(fields))
	for i, f := range fields {
		all[i] = setters[f]
	}
	return all
}

var setters = map[string]setter{
	"date":            setDate,
	"time":            setTime,
	"s-ip":            textField(func(e *event.WebRequest) *string { return &e.ServerIP }),
	"cs-method":       textField(func(e *event.WebRequest) *string { return &e.Method }),
	"cs-uri-stem":     textField(func(e *event.WebRequest) *string { return &e.Stem }),
	"cs-uri-query":    textField(func(e *event.WebRequest) *string { return &e.Query }),
	"s-port":          numberField(func(e *event.WebRequest, n uint32) { e.Port = int(n) }),
	"cs-username":     textField(func(e *event.WebRequest) *string { return &e.User }),
	"c-ip":            textField(func(e *event.WebRequest) *string { return &e.ClientIP }),
	"cs(User-Agent)":  setAgent,
	"cs(Referer)":     textField(func(e *event.WebRequest) *string { return &e.Referer }),
	"sc-status":       numberField(func(e *event.WebRequest, n uint32) { e.Status = int(n) }),
	"sc-substatus":    numberField(func(e *event.WebRequest, n uint32) { e.Substatus = int(n) }),
	"sc-win32-status": numberField(func(e *event.WebRequest, n uint32) { e.Win32 = n }),
	"time-taken":      numberField(func(e *event.WebRequest, n uint32) { e.TimeTaken = time.Duration(n) * time.Millisecond }),
}

func textField(of func(*event.WebRequest) *string) setter {
	return func(d *Decoder, e *event.WebRequest, b []byte) bool {
		if string(b) != "-" {
			*of(e) = d.text(b)
		}
		return true
	}
}

func numberField(put func(*event.WebRequest, uint32)) setter {
	return func(_ *Decoder, e *event.WebRequest, b []byte) bool {
		if string(b) == "-" {
			return true
		}
		n, ok := number(b)
		put(e, n)
		return ok
	}
}

// setAgent reads a User-Agent, in which IIS writes blanks as plus signs.
func setAgent(d *Decoder, e *event.WebRequest, b []byte) bool {
	if string(b) != "-" {
		e.UserAgent = strings.ReplaceAll(d.text(b), "+", " ")
	}
	return true
}

// number reads a number of at most 32 bits.
func number(b []byte) (uint32, bool) {
	n := uint64(0)
	for _, c := range b {
		if c < '0' || c > '9' || n > 1<<32 {
			return 0, false
		}
		n = n*10 + uint64(c-'0')
	}
	return uint32(n), len(b) > 0 && n < 1<<32
}

// setDate and setTime add to each other, in either order.
func setDate(_ *Decoder, e *event.WebRequest, b []byte) bool {
	if len(b) != len(dateLayout) || !matches(b, "0000-00-00") {
		return false
	}
	year, month, day := two(b)*100+two(b[2:]), two(b[5:]), two(b[8:])
	h, m, s := e.Time.Clock()
	e.Time = time.Date(year, time.Month(month), day, h, m, s, 0, time.UTC)
	return e.Time.Day() == day && int(e.Time.Month()) == month
}

func setTime(_ *Decoder, e *event.WebRequest, b []byte) bool {
	if len(b) != len(timeLayout) || !matches(b, "00:00:00") {
		return false
	}
	h, m, s := two(b), two(b[3:]), two(b[6:])
	year, month, day := e.Time.Date()
	e.Time = time.Date(year, month, day, h, m, s, 0, time.UTC)
	return h < 24 && m < 60 && s < 60
}

// two reads two digits.
func two(b []byte) int { return int(b[0]-'0')*10 + int(b[1]-'0') }
