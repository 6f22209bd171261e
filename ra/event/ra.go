package event

import (
	"time"

	"go.uber.org/zap/zapcore"
)

// Enrollment is a request that passed through the registration authority, and
// its outcome: "issued", "pending" or "failed".
type Enrollment struct {
	Operation string        `json:"operation"`
	Label     string        `json:"label,omitempty"`
	Template  string        `json:"template,omitempty"`
	Client    string        `json:"client,omitempty"`
	User      string        `json:"user,omitempty"`
	Method    string        `json:"method,omitempty"`
	Subject   string        `json:"subject,omitempty"`
	State     string        `json:"state"`
	Target    string        `json:"target,omitempty"` // the certsrv host that ReqID is a number of
	ReqID     int           `json:"req_id,omitempty"`
	Serial    string        `json:"serial,omitempty"` // hexadecimal
	Code      string        `json:"code,omitempty"`
	Error     string        `json:"error,omitempty"`
	Duration  time.Duration `json:"duration_ns"`
}

// Level is that of a warning if the request failed.
func (e Enrollment) Level() zapcore.Level {
	if e.Code != "" {
		return zapcore.WarnLevel
	}
	return zapcore.InfoLevel
}

// Panic is a fault of this program that was caught.
type Panic struct {
	Value string `json:"value"`
	Stack string `json:"stack"`
}

// Level is that of an error.
func (Panic) Level() zapcore.Level { return zapcore.ErrorLevel }

// ChainChanged says that the certificate authority's chain is another one than
// before: AD CS has renewed its certificate. Subjects and Serials (hexadecimal)
// are those of the new chain, issuing CA first.
type ChainChanged struct {
	Subjects []string `json:"subjects"`
	Serials  []string `json:"serials"`
}

// ChainStale says that the chain could not be refreshed and that the one
// fetched at Since is still in use.
type ChainStale struct {
	Since time.Time `json:"since"`
	Code  string    `json:"code"`
	Error string    `json:"error"`
}

// Level is that of a warning.
func (ChainStale) Level() zapcore.Level { return zapcore.WarnLevel }

// Kind returns "enrollment".
func (Enrollment) Kind() string { return "enrollment" }

// Kind returns "panic".
func (Panic) Kind() string { return "panic" }

// Kind returns "chain-changed".
func (ChainChanged) Kind() string { return "chain-changed" }

// Kind returns "chain-stale".
func (ChainStale) Kind() string { return "chain-stale" }

// LSCStale says that a phone has come for which no operation is scheduled, and
// that the LSC which it holds comes from none of those who issue today. The
// product has no line of it.
type LSCStale struct {
	Session
	Issuer string `json:"issuer"` // of the LSC
	Code   string `json:"code"`   // stale-lsc
}

// Kind returns "lsc-stale".
func (LSCStale) Kind() string { return "lsc-stale" }

// Level is that of a warning.
func (LSCStale) Level() zapcore.Level { return zapcore.WarnLevel }

// CertificateUnfit is a certificate that was issued and that no phone will
// accept: the enrolment succeeds, the next secure registration fails.
type CertificateUnfit struct {
	Code    string `json:"code"` // lsc-key-usage, ca-cn-capf
	Error   string `json:"error"`
	Subject string `json:"subject,omitempty"`
	Serial  string `json:"serial,omitempty"` // hexadecimal
	ReqID   int    `json:"req_id,omitempty"`
}

// Kind returns "certificate-unfit".
func (CertificateUnfit) Kind() string { return "certificate-unfit" }

// Level is that of a warning.
func (CertificateUnfit) Level() zapcore.Level { return zapcore.WarnLevel }
