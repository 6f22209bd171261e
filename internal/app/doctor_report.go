package app

import (
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"time"

	"github.com/onlineca/onlineca/internal/chain"
	"github.com/onlineca/onlineca/ra/fault"
)

// DoctorSchema is the version of the JSON form of a [DoctorReport]. It changes
// when a field changes its meaning or goes away; new fields may appear without.
const DoctorSchema = "onlineca-doctor/1"

// DoctorStatus is what became of a step.
type DoctorStatus string

// With a failed step a phone would fail. A warning is for a person to look at.
const (
	DoctorOK   DoctorStatus = "ok"
	DoctorWarn DoctorStatus = "warn"
	DoctorFail DoctorStatus = "fail"
	DoctorSkip DoctorStatus = "skip"
)

// DoctorReport is what [Doctor] found out. Its JSON form is described in
// docs/doctor.md. It holds no password and no key.
type DoctorReport struct {
	Schema   string    `json:"schema"`
	At       time.Time `json:"at"`
	Config   string    `json:"config"`
	URL      string    `json:"url"`
	Username string    `json:"username"`
	Template string    `json:"template"`
	Enroll   bool      `json:"enroll"`
	// OK says that a phone would succeed, as far as it was looked at.
	OK          bool `json:"ok"`
	Interrupted bool `json:"interrupted"`
	// FailedLogons is how many logins certsrv refused in all: the domain may
	// count them towards the account's lockout.
	FailedLogons int               `json:"failedLogons"`
	Steps        []DoctorStep      `json:"steps"`
	Issued       *DoctorEnrollment `json:"issued"`
}

// DoctorStep is one step and what became of it.
type DoctorStep struct {
	Step         string       `json:"step"`
	Status       DoctorStatus `json:"status"`
	Milliseconds float64      `json:"milliseconds"`
	// Summary is the outcome in a line.
	Summary string `json:"summary"`
	// Notes are further facts.
	Notes    []string        `json:"notes"`
	Problems []DoctorProblem `json:"problems"`
	// Certificates are those that the step is about, if it is about any.
	Certificates []DoctorCertificate `json:"certificates,omitempty"`

	took  time.Duration
	timed bool // took has been set by the step
}

// DoctorProblem is something that is wrong, in the terms of the fault table.
type DoctorProblem struct {
	Level DoctorStatus `json:"level"` // fail or warn
	// Code is the name of the fault, empty where it has none.
	Code  string `json:"code"`
	What  string `json:"what"`
	Cause string `json:"cause"`
	Fix   string `json:"fix"`
}

// DoctorCertificate describes one certificate to a person.
type DoctorCertificate struct {
	// Position is the place in which it was sent, from 1.
	Position  int       `json:"position"`
	Subject   string    `json:"subject"`
	Issuer    string    `json:"issuer"`
	NotBefore time.Time `json:"notBefore"`
	NotAfter  time.Time `json:"notAfter"`
	Serial    string    `json:"serial"`
	SHA256    string    `json:"sha256"`
	Key       string    `json:"key"`
	Signature string    `json:"signature"`
	KeyUsage  []string  `json:"keyUsage"`
	Names     []string  `json:"names"`
	// IssuerURLs are where the certificate says its issuer's is to be had.
	IssuerURLs []string `json:"issuerUrls"`
}

// DoctorEnrollment is the throw-away certificate, for somebody to revoke.
type DoctorEnrollment struct {
	Template    string             `json:"template"`
	State       string             `json:"state"` // issued, pending or unknown
	ReqID       int                `json:"reqId"`
	Certificate *DoctorCertificate `json:"certificate"`
	// Revoke is the command, on the CA, that takes it back.
	Revoke string `json:"revoke"`
}

// WriteJSON writes the report as one JSON object.
func (r *DoctorReport) WriteJSON(w io.Writer) error {
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	return e.Encode(r)
}

// Step returns a step by its name, or nil.
func (r *DoctorReport) Step(name string) *DoctorStep {
	for i := range r.Steps {
		if r.Steps[i].Step == name {
			return &r.Steps[i]
		}
	}
	return nil
}

func (r *DoctorReport) count(s DoctorStatus) int {
	n := 0
	for i := range r.Steps {
		if r.Steps[i].Status == s {
			n++
		}
	}
	return n
}

// say sets the summary.
func (s *DoctorStep) say(format string, args ...any) { s.Summary = fmt.Sprintf(format, args...) }

// note adds a fact.
func (s *DoctorStep) note(format string, args ...any) {
	s.Notes = append(s.Notes, fmt.Sprintf(format, args...))
}

// skip says why the step was not taken.
func (s *DoctorStep) skip(format string, args ...any) {
	s.Status = DoctorSkip
	s.say("skipped "+format, args...)
}

// fail makes the step fail by a fault of the table.
func (s *DoctorStep) fail(code fault.Code, format string, args ...any) *DoctorProblem {
	return s.problem(DoctorFail, code, fmt.Sprintf(format, args...))
}

// warn makes the step, if it has not failed, one to look at.
func (s *DoctorStep) warn(code fault.Code, format string, args ...any) *DoctorProblem {
	return s.problem(DoctorWarn, code, fmt.Sprintf(format, args...))
}

// problem notes what is wrong. Cause and fix are those of the fault's row; a
// caller that knows better replaces them. The pointer is good until the next
// problem of the step.
func (s *DoctorStep) problem(level DoctorStatus, code fault.Code, what string) *DoctorProblem {
	p := DoctorProblem{Level: level, What: what}
	if code != fault.Unknown {
		row := code.Row()
		p.Code, p.Cause, p.Fix = row.Name, row.Cause, row.Fix
	}
	if level == DoctorFail || s.Status == DoctorOK {
		s.Status = level
	}
	if s.Summary == "" {
		s.Summary = what
		if code != fault.Unknown {
			s.Summary = code.Row().Symptom
		}
	}
	s.Problems = append(s.Problems, p)
	return &s.Problems[len(s.Problems)-1]
}

// failErr makes the step fail by err.
func (s *DoctorStep) failErr(err error) *DoctorProblem {
	f := fault.Of(err)
	if f.Code != fault.Unknown {
		return s.fail(f.Code, "%s", err)
	}
	p := s.fail(f.Code, "%s", err)
	row := f.Code.Row()
	p.Code, p.Cause, p.Fix = row.Name, row.Cause, row.Fix
	return p
}

// clean makes everything fit to be shown: most of it comes from the network.
func (s *DoctorStep) clean() {
	s.Summary = chain.Printable(s.Summary)
	for i := range s.Notes {
		s.Notes[i] = chain.Printable(s.Notes[i])
	}
	for i := range s.Problems {
		p := &s.Problems[i]
		p.What, p.Cause, p.Fix = chain.Printable(p.What), chain.Printable(p.Cause), chain.Printable(p.Fix)
	}
}

// describeCertificate fills in the form for people; its strings are printable.
func describeCertificate(position int, c *x509.Certificate) DoctorCertificate {
	d := chain.Describe(c)
	return DoctorCertificate{
		Position: position, Subject: d.Subject, Issuer: d.Issuer, NotBefore: d.NotBefore, NotAfter: d.NotAfter,
		Serial: d.Serial, SHA256: d.SHA256, Key: d.Key, Signature: c.SignatureAlgorithm.String(),
		KeyUsage: chain.Usages(c), Names: printableAll(chain.AltNames(c)), IssuerURLs: printableAll(c.IssuingCertificateURL),
	}
}

// maxShown limits how many names of a certificate are shown.
const maxShown = 100

func printableAll(all []string) []string {
	out := []string{}
	for _, s := range all[:min(len(all), maxShown)] {
		out = append(out, chain.Printable(s))
	}
	return out
}
