package lab

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/onlineca/onlineca/ra/fault"
)

// party is a column of a sequence diagram.
type party int

// The parties, in the order of the road.
const (
	aPhone party = iota
	aCAPF
	anRA
	anIIS
	parties
)

var partyNames = [parties]string{"Phone", "CAPF", "Registration authority", "IIS and CA"}

// step is an arrow, or a note beside one party.
type step struct {
	at       time.Time
	from, to party
	note     bool // beside from
	text     string
	bad      bool // it is, or shows, the failure
}

// diagram is the sequence of what was said, in a run with several phones by the
// first one that failed.
type diagram struct {
	title string
	steps []step
}

// diagram reads the sequence from our own log, and from what the phones noted.
func (r *run) diagram() diagram {
	d := diagram{title: r.code.String() + ": " + r.code.Row().Symptom}
	device := r.protagonist()
	add := func(s step) { d.steps = append(d.steps, s) }
	for _, m := range r.cast.messages {
		if m.device != device {
			continue
		}
		from, to := aCAPF, aPhone
		if m.sent {
			from, to = aPhone, aCAPF
		}
		add(step{at: m.at, from: from, to: to, text: strings.ReplaceAll(m.name, "_", " ")})
	}
	enrolments := r.enrolmentsOf(device)
	for _, e := range r.logs.entries {
		if s, ok := r.stepOf(e, device, enrolments); ok {
			d.steps = append(d.steps, s...)
		}
	}
	slices.SortStableFunc(d.steps, func(a, b step) int { return a.at.Compare(b.at) })
	d.steps = limit(d.steps, mostSteps)
	return d
}

// mostSteps is how many a person still reads.
const mostSteps = 48

// limit leaves out the middle of a sequence that is too long to read.
func limit(steps []step, n int) []step {
	if len(steps) <= n {
		return steps
	}
	gap := step{at: steps[n/2].at, from: aPhone, note: true, text: fmt.Sprintf("… %d more …", len(steps)-n)}
	return slices.Concat(steps[:n/2], []step{gap}, steps[len(steps)-n/2:])
}

// protagonist is the first device that failed, or the first one.
func (r *run) protagonist() string {
	for _, e := range r.logs.entries {
		if e.Kind == "enrolment failed" && !r.comesBefore(e.Code) {
			return e.Device
		}
	}
	return deviceName(0)
}

// span is the time of an enrolment of one device.
type span struct{ from, to time.Time }

// enrolmentsOf finds when a device's request was with the registration
// authority: what happens there names no device.
func (r *run) enrolmentsOf(device string) []span {
	var all []span
	for _, e := range r.logs.entries {
		switch {
		case e.Kind == "capf-enroll-called" && e.Event.Device == device:
			all = append(all, span{from: e.At})
		case e.Kind == "capf-enrolled" && e.Event.Device == device && len(all) > 0:
			all[len(all)-1].to = e.At
		}
	}
	return all
}

// concerns says whether something at the registration authority belongs to the
// story: to its start, or to the device's own request.
func concerns(at time.Time, enrolments []span) bool {
	if len(enrolments) == 0 || at.Before(enrolments[0].from) {
		return true
	}
	return slices.ContainsFunc(enrolments, func(s span) bool { return !at.Before(s.from) })
}

// stepOf is what an entry of our own log looks like in the diagram.
func (r *run) stepOf(e entry, device string, enrolments []span) ([]step, bool) {
	ev := &e.Event
	switch e.Kind {
	case "capf-enroll-called":
		return one(step{at: e.At, from: aCAPF, to: anRA, text: "POST simpleenroll"}), ev.Device == device
	case "capf-enrolled":
		if ev.RV == nil || ev.Device != device {
			return nil, false
		}
		text := fmt.Sprintf("rv = %d (%s)", *ev.RV, ev.Name)
		if *ev.RV == fault.ESTSSLRead || *ev.RV == fault.ESTIPConnect || *ev.RV == fault.ESTSSLConnect || *ev.RV == fault.ESTHTTPWrite || *ev.RV == fault.ESTBadPKCS10 {
			return one(step{at: e.At, from: aCAPF, note: true, text: text, bad: true}), true
		}
		return one(step{at: e.At, from: anRA, to: aCAPF, text: text, bad: *ev.RV != 0}), true
	case "web-request":
		return r.webStep(e), concerns(e.At, enrolments)
	case "upstream-failed":
		text := fmt.Sprintf("%s failed: %s", ev.Step, ev.Code)
		if ev.Curl != 0 {
			text = fmt.Sprintf("%s failed: curl %d, %s", ev.Step, ev.Curl, ev.CurlText)
		}
		return one(step{at: e.At, from: anRA, note: true, text: text, bad: true}), concerns(e.At, enrolments)
	case "est-request":
		text := fmt.Sprintf("answers %d: %s", ev.Status, ev.Code)
		return one(step{at: e.At, from: anRA, note: true, text: text, bad: true}), ev.Code != "" && concerns(e.At, enrolments)
	case "chain-retrieved":
		return one(step{at: e.At, from: anRA, note: true, text: "started: it has the CA's chain"}), true
	case "chain-unavailable":
		return one(step{at: e.At, from: anRA, note: true, text: "not started: no CA chain", bad: true}), true
	case "lsc-stale":
		return one(step{at: e.At, from: aCAPF, note: true, text: "its LSC is of a former issuer, and nothing is scheduled", bad: true}), ev.Device == device
	case "certificate-unfit":
		return one(step{at: e.At, from: anRA, note: true, text: "issued, but no phone will take it: " + string(ev.Code), bad: true}), true
	case "capf-operation-status":
		return one(step{at: e.At, from: aCAPF, note: true, text: fmt.Sprintf("tkcertificatestatus %d, %s", ev.DBNumber, ev.DBStatus), bad: ev.DBNumber > 5}), ev.Device == device
	case "capf-trace":
		// What follows a failed enrolment repeats it.
		tells := e.Level == "error" && (ev.Device == device || ev.Device == "") && len(enrolments) == 0
		return one(step{at: e.At, from: aCAPF, note: true, text: ev.Text, bad: true}), tells
	case "enrolment failed":
		return nil, false
	}
	if e.code() == r.code.String() && e.Kind != "device" && e.Kind != "enrollment" {
		return one(step{at: e.At, from: aCAPF, note: true, text: e.Kind, bad: true}), true
	}
	return nil, false
}

func one(s step) []step { return []step{s} }

// webStep is a request to IIS and its answer.
func (r *run) webStep(e entry) []step {
	ev := &e.Event
	ask := ev.Method + " " + ev.Stem
	if ev.Query != "" {
		ask += "?" + ev.Query
	}
	status := fmt.Sprintf("%d %d %d", ev.Status, ev.Substatus, ev.Win32)
	if ev.User != "" {
		status += " as " + ev.User
	}
	if ms := time.Duration(ev.Taken).Milliseconds(); ms >= 100 {
		status += fmt.Sprintf(" after %d ms", ms)
	}
	at := e.At.Add(-time.Duration(ev.Taken))
	if ev.Win32 == 64 { // ERROR_NETNAME_DELETED
		return []step{
			{at: at, from: anRA, to: anIIS, text: ask},
			{at: e.At, from: anIIS, note: true, text: fmt.Sprintf("not answered: the connection is gone (%s)", status), bad: true},
		}
	}
	refused := ev.Status == 401 && ev.Win32 != 2148074254 && ev.Win32 != 5
	bad := refused || ev.Status >= 402
	return []step{
		{at: at, from: anRA, to: anIIS, text: ask},
		{at: e.At, from: anIIS, to: anRA, text: status, bad: bad},
	}
}

// mermaid writes the sequence for those who render Markdown.
func (d *diagram) mermaid() string {
	ids := [parties]string{"P", "C", "R", "I"}
	var b strings.Builder
	b.WriteString("sequenceDiagram\n")
	for p := range parties {
		fmt.Fprintf(&b, "    participant %s as %s\n", ids[p], partyNames[p])
	}
	for _, s := range d.steps {
		text := mermaidText(s.text)
		if s.bad {
			text = "❌ " + text
		}
		switch {
		case s.note:
			fmt.Fprintf(&b, "    Note over %s: %s\n", ids[s.from], text)
		case s.bad:
			fmt.Fprintf(&b, "    %s-x%s: %s\n", ids[s.from], ids[s.to], text)
		case s.from > s.to:
			fmt.Fprintf(&b, "    %s-->>%s: %s\n", ids[s.from], ids[s.to], text)
		default:
			fmt.Fprintf(&b, "    %s->>%s: %s\n", ids[s.from], ids[s.to], text)
		}
	}
	return b.String()
}

// mermaidText escapes what means something to Mermaid: it reads "#number;" as
// a character, and ends a message at a semicolon.
func mermaidText(s string) string {
	var b strings.Builder
	for _, r := range s {
		if strings.ContainsRune("#;<>{}`\"&", r) {
			fmt.Fprintf(&b, "#%d;", r)
			continue
		}
		if r < ' ' {
			r = ' '
		}
		b.WriteRune(r)
	}
	return b.String()
}
