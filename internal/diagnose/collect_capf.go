package diagnose

import (
	"strings"

	"github.com/onlineca/onlineca/ra/event"
	"github.com/onlineca/onlineca/ra/fault"
)

// capfFacts gathers the sessions of a CAPF trace.
type capfFacts struct {
	sessions []*session
	open     map[string]*session
}

// on takes one event of the trace. id is the correlation id, if there is one.
func (f *capfFacts) on(k *clock, p point, e event.Event, id string) {
	switch e := e.(type) {
	case event.CAPFStep:
		f.step(k, p, e, id)
	case event.CAPFEnrollCalled:
		s := f.get(k, e.Session, p, id)
		if s.called.set() || s.rv >= 0 {
			s = f.fresh(k, e.Session, p, id)
		}
		s.called = p
	case event.CAPFEnrolled:
		s := f.get(k, e.Session, p, id)
		s.answered, s.rv, s.pkcs7 = p, e.RV, e.PKCS7Length
	case event.CAPFEnrollReturned:
		s := f.get(k, e.Session, p, id)
		s.returned = p
		if s.rv < 0 {
			s.rv, s.answered = e.RV, p
		}
	case event.CAPFCoreEvent:
		f.touch(k, e.Session, p, id)
	case event.CAPFPublicKeyLength:
		f.touch(k, e.Session, p, id)
	case event.CAPFOperationStatus:
		f.status(k, p, e, id)
	case event.CAPFTrace:
		f.trace(k, p, e, id)
	}
}

func (f *capfFacts) step(k *clock, p point, e event.CAPFStep, id string) {
	if e.Device == "" {
		return
	}
	s := f.get(k, e.Session, p, id)
	switch e.Step {
	case event.StepOnlineCAMode:
		if s.called.set() || s.rv >= 0 {
			f.fresh(k, e.Session, p, id)
		}
	case event.StepSigned:
		s.signed = true
	case event.StepNotSigned, event.StepEnrollFailed:
		s.notSigned = p
	}
}

// status ends an operation. A device whose session is not known has failed
// before its enrolment, or its operation was none.
func (f *capfFacts) status(k *clock, p point, e event.CAPFOperationStatus, id string) {
	if e.Device == "" {
		return
	}
	s := f.get(k, event.Session{Device: e.Device}, p, id)
	if s.status != nil {
		s = f.fresh(k, event.Session{Device: e.Device, Number: s.number}, p, id)
	}
	s.status, s.statusAt = &e, p
}

// trace keeps a line that names a fault.
func (f *capfFacts) trace(k *clock, p point, e event.CAPFTrace, id string) {
	if e.Device != "" {
		f.touch(k, e.Session, p, id)
	}
	codes := codesInTrace(e.Text)
	if codes == nil {
		return
	}
	s := f.get(k, e.Session, p, id)
	if len(s.marks) < 8 {
		s.marks = append(s.marks, mark{codes: codes, point: p, text: strings.Clone(e.Text)})
	}
}

// reason keeps the code that CAPF's own words name.
func (f *capfFacts) reason(k *clock, p point, l ownLine) {
	code, ok := fault.Lookup(l.Code)
	if !ok || code == fault.Unknown || l.Device == "" {
		return
	}
	s := f.get(k, event.Session{Device: l.Device}, p, l.ID)
	s.reason = &mark{codes: []fault.Code{code}, point: p}
}

func (f *capfFacts) touch(k *clock, e event.Session, p point, id string) { f.get(k, e, p, id).last = p }

// get returns the open session of a device.
func (f *capfFacts) get(k *clock, e event.Session, p point, id string) *session {
	s := f.open[e.Device]
	if s == nil || s.status != nil && e.Number != 0 && s.number != 0 && e.Number != s.number {
		s = f.fresh(k, e, p, id)
	}
	if s.number == 0 {
		s.number = e.Number
	}
	if s.id == "" {
		s.id = id
	}
	s.last = p
	return s
}

// fresh begins a session of a device.
func (f *capfFacts) fresh(k *clock, e event.Session, p point, id string) *session {
	s := &session{clock: k, device: e.Device, number: e.Number, id: id, begin: p, last: p, rv: -1}
	if f.open == nil {
		f.open = map[string]*session{}
	}
	f.open[e.Device] = s
	f.sessions = append(f.sessions, s)
	return s
}

// finished reports whether a session went well and has ended.
func (s *session) finished() bool {
	return s.rv == 0 && s.called.set() && s.status != nil && !s.statusFailed() && len(s.marks) == 0 && !s.notSigned.set()
}

// traceTexts are the texts of a CAPF trace that name a fault by themselves,
// out of the table.
var traceTexts = func() map[string][]fault.Code {
	m := map[string][]fault.Code{}
	for _, c := range fault.Codes() {
		for _, s := range c.Row().Shows {
			if s.Log == logCAPF && !strings.HasPrefix(s.Line, "Enrollment rv") && s.Line != "Online Cert Signing Failed" {
				m[s.Line] = append(m[s.Line], c)
			}
		}
	}
	return m
}()

// codesInTrace says which faults a line names.
func codesInTrace(text string) []fault.Code {
	for line, codes := range traceTexts {
		if strings.Contains(text, line) {
			return codes
		}
	}
	return nil
}
