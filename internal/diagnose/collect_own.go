package diagnose

import (
	"bytes"
	"encoding/json"
	"strings"
	"time"

	"github.com/onlineca/onlineca/ra/event"
	"github.com/onlineca/onlineca/ra/fault"
)

// ownFacts gathers what our own log says. Its lines carry a correlation id
// that follows a request through every room.
type ownFacts struct {
	list    []*own
	open    map[string]*own
	devices map[string]string
	starts  startFacts
}

// ownLine is a line of onlineca.jsonl.
type ownLine struct {
	TS    time.Time       `json:"ts"`
	Kind  string          `json:"kind"`
	ID    string          `json:"id"`
	Conn  event.Conn      `json:"conn"`
	Event json.RawMessage `json:"event"`
	// Of a line in words.
	Device string `json:"device"`
	Code   string `json:"code"`
}

// ownReason is the line in which CAPF says, outside its trace, why it has no
// certificate.
const ownReason = "enrolment failed"

// onOwn takes a line of our own log.
func (c *collector) onOwn(n int, b []byte) {
	var l ownLine
	if err := json.Unmarshal(b, &l); err != nil || l.TS.IsZero() || l.Kind == "" {
		c.unknown++
		return
	}
	if len(l.Event) == 0 {
		if l.Kind == ownReason {
			c.ownCAPF.reason(c.clock(logOwn), point{l.TS.UnixMilli(), ref{c.file, int32(n)}}, l)
		}
		return // words without an event
	}
	e, err := ownEvent(l)
	if err != nil {
		c.unknown++
		return
	}
	p := point{l.TS.UnixMilli(), ref{c.file, int32(n)}}
	k := c.clock(logOwn)
	switch e := e.(type) {
	case event.WebRequest:
		if x, ok := newExchange(e); ok {
			x.end = point{e.Time.UnixMilli(), p.ref}
			c.stream(k).packExchange(x)
		}
	case nil:
		c.own.coded(k, p, l)
	case event.ESTRequest, event.RAValueMissing, event.UpstreamDone, event.UpstreamFailed, event.ChainRetrieved, event.ChainUnavailable, event.RAStarted:
		c.own.on(k, p, l, e)
	default:
		c.ownCAPF.on(k, p, e, l.ID)
		if d := deviceOf(e); d != "" && l.ID != "" {
			c.own.devices[l.ID] = d
		}
	}
}

// ownKinds decodes the events that matter here.
var ownKinds = map[string]func(json.RawMessage) (event.Event, error){
	"est-request":           as[event.ESTRequest],
	"ra-value-missing":      as[event.RAValueMissing],
	"upstream-done":         as[event.UpstreamDone],
	"upstream-failed":       as[event.UpstreamFailed],
	"chain-retrieved":       as[event.ChainRetrieved],
	"chain-unavailable":     as[event.ChainUnavailable],
	"ra-started":            as[event.RAStarted],
	"web-request":           as[event.WebRequest],
	"capf-step":             as[event.CAPFStep],
	"capf-enroll-called":    as[event.CAPFEnrollCalled],
	"capf-enrolled":         as[event.CAPFEnrolled],
	"capf-enroll-returned":  as[event.CAPFEnrollReturned],
	"capf-core-event":       as[event.CAPFCoreEvent],
	"capf-operation-status": as[event.CAPFOperationStatus],
	"capf-trace":            as[event.CAPFTrace],
}

func as[E event.Event](raw json.RawMessage) (event.Event, error) {
	var e E
	err := json.Unmarshal(raw, &e)
	return e, err
}

// ownEvent returns nil for an event that does not matter by its kind.
func ownEvent(l ownLine) (event.Event, error) {
	decode, ok := ownKinds[l.Kind]
	if !ok {
		return nil, nil
	}
	return decode(l.Event)
}

func deviceOf(e event.Event) string {
	switch e := e.(type) {
	case event.CAPFStep:
		return e.Device
	case event.CAPFEnrollCalled:
		return e.Device
	case event.CAPFEnrolled:
		return e.Device
	}
	return ""
}

// on takes an event of the registration authority.
func (f *ownFacts) on(k *clock, p point, l ownLine, e event.Event) {
	if _, isRequest := e.(event.ESTRequest); !isRequest && l.Conn.Number == 0 {
		// What is asked of certsrv for no client is part of a start while that
		// goes on. Later it is the background's: what became of pending
		// requests, and of those whose answers were lost.
		if !isExchange(e) || f.starts.takes(k, e) {
			f.starts.on(k, p, p.ref, e)
		}
		return
	}
	o := f.get(k, p, l)
	switch e := e.(type) {
	case event.UpstreamDone:
		o.steps = append(o.steps, ownStep{step: e.Step, took: e.Duration, point: p})
	case event.UpstreamFailed:
		o.failures = append(o.failures, failure{step: e.Step, curl: e.Curl, text: e.Text, url: e.URL, code: e.Code, err: e.Error, point: p, to: p.ref})
	case event.ESTRequest:
		if !strings.Contains(e.Operation, "enroll") && e.Code == "" {
			break // the chain, or the attributes, were asked for
		}
		o.end, o.took, o.status, o.code, o.err = p, e.Duration, e.Status, e.Code, e.Error
		o.reqID, o.subject, o.client, o.done = e.ReqID, e.Subject, e.Client, true
		if first := p.at - e.Duration.Milliseconds(); first < o.first.at {
			o.first.at = first
		}
		if l.ID != "" {
			delete(f.open, l.ID)
		}
	}
}

// isExchange tells whether an event is an exchange with certsrv.
func isExchange(e event.Event) bool {
	switch e.(type) {
	case event.UpstreamDone, event.UpstreamFailed:
		return true
	}
	return false
}

// coded keeps a code that another event names: a warning about a certificate
// that was issued, for example.
func (f *ownFacts) coded(k *clock, p point, l ownLine) {
	if !bytes.Contains(l.Event, []byte(`"code"`)) {
		return
	}
	var e struct {
		Code   string `json:"code"`
		Device string `json:"device"`
	}
	if err := json.Unmarshal(l.Event, &e); err != nil {
		return // its code is a number: another event's own
	}
	if code, ok := fault.Lookup(e.Code); ok {
		o := f.get(k, p, l)
		o.marks = append(o.marks, mark{codes: []fault.Code{code}, point: p})
		if e.Device != "" && l.ID != "" {
			f.devices[l.ID] = e.Device
		}
	}
}

func (f *ownFacts) get(k *clock, p point, l ownLine) *own {
	o := f.open[l.ID]
	if o == nil {
		o = &own{clock: k, id: l.ID, first: p, end: p}
		f.list = append(f.list, o)
		if l.ID != "" {
			if f.open == nil || len(f.open) >= maxOpenConns {
				f.open = map[string]*own{}
			}
			f.open[l.ID] = o
		}
	}
	return o
}

// finish leaves out what is no request for a certificate.
func (f *ownFacts) finish() {
	keep := f.list[:0]
	for _, o := range f.list {
		if o.done || len(o.failures) > 0 || len(o.marks) > 0 {
			keep = append(keep, o)
		}
	}
	f.list = keep
	f.open = nil
}

func secondsToDuration(s int) time.Duration { return time.Duration(s) * time.Second }
