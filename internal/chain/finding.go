package chain

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"strings"
	"time"
	"unicode"

	"github.com/onlineca/onlineca/ra/fault"
)

// Schema is the version of the JSON form of a [Verdict]. It changes when a
// field changes its meaning or goes away; new fields may appear without.
const Schema = "onlineca-check/1"

// Level says how bad a finding is.
type Level string

// An error makes the appliance refuse the chain. A warning does not.
const (
	Error   Level = "error"
	Warning Level = "warning"
)

// Basis says where the relation between a defect and the appliance's text
// comes from.
type Basis string

// Documented means that the vendor's document shows this text for this defect.
// Inferred means that the document names the rule, or the text, but does not
// say that the one leads to the other.
const (
	Documented Basis = "documented"
	Inferred   Basis = "inferred"
)

// Finding is one broken rule.
type Finding struct {
	// Rule is the rule's name, for example "csr-key".
	Rule  string `json:"rule"`
	Level Level  `json:"level"`
	// Code is the code that the appliance shows (CGEN1008), or the name of the
	// fault (lsc-key-usage) where the appliance shows none. It may be empty.
	Code string `json:"code"`
	// Text is the appliance's own text. It is empty where no document shows one.
	Text string `json:"text"`
	// MessageArgs is what the appliance's log has under that name: nil where no
	// document shows it, empty where it is shown to be empty.
	MessageArgs []string `json:"messageArgs"`
	// Log is what the appliance writes, and LogFile where. The time is the time
	// of the check; the thread's number is the appliance's own affair.
	Log     string `json:"log"`
	LogFile string `json:"logFile"`
	// Detail says what is wrong with which value.
	Detail string `json:"detail"`
	// Fix says how to put it right, and Command is a command that does it, or "".
	Fix     string `json:"fix"`
	Command string `json:"command"`
	Basis   Basis  `json:"basis"`
	// Certificate is the one that breaks the rule, nil when none does.
	Certificate *CertInfo `json:"certificate"`
	// Fault is the code of the fault, where the failure has one in ra/fault.
	Fault fault.Code `json:"-"`
}

// CertInfo describes one certificate to a person.
type CertInfo struct {
	// Position is the certificate's place in what was given, from 1; 0 for one
	// that was not among the files but in a trust store.
	Position int    `json:"position"`
	Source   string `json:"source"`
	// IssuedTo and IssuedBy are the common names or, where there is none, the
	// whole names, which are Subject and Issuer.
	IssuedTo  string    `json:"issuedTo"`
	IssuedBy  string    `json:"issuedBy"`
	Subject   string    `json:"subject"`
	Issuer    string    `json:"issuer"`
	NotBefore time.Time `json:"notBefore"`
	NotAfter  time.Time `json:"notAfter"`
	Serial    string    `json:"serial"`
	SHA256    string    `json:"sha256"`
	Key       string    `json:"key"`
}

// Outcome is what became of one rule.
type Outcome string

// The outcomes of a rule.
const (
	Pass    Outcome = "pass"
	Fail    Outcome = "fail"
	Warned  Outcome = "warning"
	Skipped Outcome = "skipped"
)

// CheckResult is one rule and what became of it.
type CheckResult struct {
	Rule   string  `json:"rule"`
	Says   string  `json:"says"`
	Result Outcome `json:"result"`
	// Reason says why a rule was skipped.
	Reason   string    `json:"reason,omitempty"`
	Findings []Finding `json:"findings"`
}

// Pair is one line of the table that compares two chains: the document's
// "Issued To" and "Issued By" of source and target. A side that has no
// certificate at this place has empty names.
type Pair struct {
	SourceTo string `json:"sourceIssuedTo"`
	SourceBy string `json:"sourceIssuedBy"`
	TargetTo string `json:"targetIssuedTo"`
	TargetBy string `json:"targetIssuedBy"`
	Match    bool   `json:"match"`
}

// State is a state that the appliance would show, for example of a zone.
type State struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

// InputInfo says what was read from where.
type InputInfo struct {
	Name         string   `json:"name"`
	Role         string   `json:"role"`
	Format       Format   `json:"format"`
	Certificates int      `json:"certificates"`
	Notes        []string `json:"notes"`
	Error        string   `json:"error,omitempty"`
}

// Verdict is the answer to a [Check].
type Verdict struct {
	Schema   string    `json:"schema"`
	Profile  Profile   `json:"profile"`
	Title    string    `json:"title"`
	At       time.Time `json:"at"`
	Accepted bool      `json:"accepted"`
	// Inputs lists what was read.
	Inputs []InputInfo `json:"inputs"`
	// Chain is the path that was found, the appliance's certificate first, and
	// Peer that of the other side.
	Chain  []CertInfo    `json:"chain"`
	Peer   []CertInfo    `json:"peerChain"`
	Checks []CheckResult `json:"checks"`
	// Comparison is set for ome-migration.
	Comparison []Pair `json:"comparison"`
	// States is set for expressway-traversal.
	States []State `json:"states"`
	// NotChecked lists what no check here can see.
	NotChecked []string `json:"notChecked"`
	// Repair is set when a repaired chain was asked for.
	Repair *Repaired `json:"repair"`
}

// Findings returns every finding, in the appliance's order.
func (v *Verdict) Findings() []Finding {
	var all []Finding
	for _, c := range v.Checks {
		all = append(all, c.Findings...)
	}
	return all
}

// First returns the finding whose text the appliance shows: it stops at the
// first rule that is broken. It returns nil when the chain is accepted.
func (v *Verdict) First() *Finding {
	for _, f := range v.Findings() {
		if f.Level == Error {
			return &f
		}
	}
	return nil
}

// Describe returns what a person needs to recognise c, in text that a terminal
// can show. Position and Source are left empty.
func Describe(c *x509.Certificate) CertInfo {
	sum := sha256.Sum256(c.Raw)
	return CertInfo{
		IssuedTo: IssuedTo(c), IssuedBy: IssuedBy(c),
		Subject: Distinguished(c.RawSubject), Issuer: Distinguished(c.RawIssuer),
		NotBefore: c.NotBefore.UTC(), NotAfter: c.NotAfter.UTC(),
		Serial: hex.EncodeToString(c.SerialNumber.Bytes()),
		SHA256: hex.EncodeToString(sum[:]), Key: keyName(c),
	}
}

// Printable replaces what a terminal would obey instead of showing: a control
// character becomes \u001b. What certificates say goes through it.
func Printable(s string) string {
	var b strings.Builder
	for _, r := range s {
		if unicode.IsGraphic(r) {
			b.WriteRune(r)
		} else {
			fmt.Fprintf(&b, "\\u%04x", r)
		}
	}
	return b.String()
}

// IssuedTo is the short name of a subject, as the vendor's tables have it.
func IssuedTo(c *x509.Certificate) string {
	if c.Subject.CommonName != "" {
		return Printable(c.Subject.CommonName)
	}
	return Distinguished(c.RawSubject)
}

// IssuedBy is the short name of an issuer, likewise.
func IssuedBy(c *x509.Certificate) string {
	if c.Issuer.CommonName != "" {
		return Printable(c.Issuer.CommonName)
	}
	return Distinguished(c.RawIssuer)
}
