package event

import (
	"time"

	"go.uber.org/zap/zapcore"
)

// UpstreamStep is one exchange of the registration authority with certsrv.
type UpstreamStep string

// The exchanges, in the order of an enrolment.
const (
	StepLogin  UpstreamStep = "login"  // GET /certsrv
	StepPage   UpstreamStep = "page"   // GET certrqxt.asp
	StepChain  UpstreamStep = "chain"  // GET certcarc.asp and certnew.p7b
	StepSubmit UpstreamStep = "submit" // POST certfnsh.asp
	StepFetch  UpstreamStep = "fetch"  // GET certnew.cer
)

// UpstreamData is the length in bytes of a body that certsrv answered with,
// on the way to a decision about a client's credentials.
type UpstreamData struct {
	Length int `json:"length"`
}

// UpstreamDone is an exchange with certsrv that succeeded. URL is the whole
// address with its port: https://ca.example.com:443/certsrv.
type UpstreamDone struct {
	Step     UpstreamStep  `json:"step"`
	URL      string        `json:"url"`
	Status   int           `json:"status,omitempty"`
	Duration time.Duration `json:"duration_ns,omitempty"`
	// Reused says that the exchange needed no new login.
	Reused bool `json:"reused,omitempty"`
}

// UpstreamFailed is an exchange with certsrv that failed.
type UpstreamFailed struct {
	Step UpstreamStep `json:"step"`
	URL  string       `json:"url"`
	// Curl and Text are what the product's libcurl reports: 28, "Operation
	// timed out after 10000 milliseconds with 0 bytes received". Curl is 0
	// when the failure is none of libcurl's.
	Curl int    `json:"curl,omitempty"`
	Text string `json:"curl_text,omitempty"`
	// Code is the fault's kebab-case code, Error the whole error.
	Code     string        `json:"code,omitempty"`
	Error    string        `json:"error,omitempty"`
	Duration time.Duration `json:"duration_ns,omitempty"`
}

// Level is that of a warning.
func (UpstreamFailed) Level() zapcore.Level { return zapcore.WarnLevel }

// ChainRetrieved says that the certificate authority's chain has arrived at
// the start of the service. Certificates is how many it has.
type ChainRetrieved struct {
	Certificates int `json:"certificates,omitempty"`
}

// ChainUnavailable says that the service starts without the chain. Curl is what
// libcurl reports of the exchange that kept it away, 0 if it was not libcurl's
// failure.
type ChainUnavailable struct {
	Curl int `json:"curl,omitempty"`
}

// Level is that of a warning.
func (ChainUnavailable) Level() zapcore.Level { return zapcore.WarnLevel }

// RAValueMissing is a setting that the service asks for before it is there:
// What is "CA Chain" or "CA Cert response".
type RAValueMissing struct {
	What string `json:"what"`
}

// Level is that of a warning.
func (RAValueMissing) Level() zapcore.Level { return zapcore.WarnLevel }

// Store is one of the two certificate stores of the registration authority.
type Store string

// The web server's store, and libEST's.
const (
	StoreNginx Store = "nginx"
	StoreEST   Store = "est"
)

// RATrustAnchor is a certificate added to a store. Subject is written in
// OpenSSL's one-line form, /DC=com/DC=example/CN=Example CA.
type RATrustAnchor struct {
	Store   Store  `json:"store"`
	Subject string `json:"subject"`
}

// ESTVersion is libEST's announcement of itself, three lines in the product.
type ESTVersion struct {
	Version  string `json:"version"`  // "libest 2.2.0 (API level 4)"
	Compiled string `json:"compiled"` // "CiscoSSL 1.0.2n.6.2.194-fips"
	Linked   string `json:"linked"`
}

// RAPoPDisabled says that proof of possession is not asked for.
type RAPoPDisabled struct{}

// Level is that of a warning.
func (RAPoPDisabled) Level() zapcore.Level { return zapcore.WarnLevel }

// ESTCurve is the ECDHE curve of the EST server, by OpenSSL's number: 415 is
// P-256.
type ESTCurve struct {
	NID int `json:"nid"`
}

// ESTNoSRP says that TLS-SRP is off.
type ESTNoSRP struct{}

// RAStarted ends the start of the service.
type RAStarted struct {
	PID int `json:"pid"`
}

// ProductText is a line of the product's own that no other event stands for.
// Decoders keep unknown lines so. Origin is "nginx", "est", "ra" or "shell".
type ProductText struct {
	Origin   string `json:"origin"`
	Severity string `json:"severity,omitempty"`
	Func     string `json:"func,omitempty"`
	Line     int    `json:"line,omitempty"`
	Text     string `json:"text"`
}

// Kind returns "upstream-data".
func (UpstreamData) Kind() string { return "upstream-data" }

// Kind returns "upstream-done".
func (UpstreamDone) Kind() string { return "upstream-done" }

// Kind returns "upstream-failed".
func (UpstreamFailed) Kind() string { return "upstream-failed" }

// Kind returns "chain-retrieved".
func (ChainRetrieved) Kind() string { return "chain-retrieved" }

// Kind returns "chain-unavailable".
func (ChainUnavailable) Kind() string { return "chain-unavailable" }

// Kind returns "ra-value-missing".
func (RAValueMissing) Kind() string { return "ra-value-missing" }

// Kind returns "ra-trust-anchor".
func (RATrustAnchor) Kind() string { return "ra-trust-anchor" }

// Kind returns "est-version".
func (ESTVersion) Kind() string { return "est-version" }

// Kind returns "ra-pop-disabled".
func (RAPoPDisabled) Kind() string { return "ra-pop-disabled" }

// Kind returns "est-curve".
func (ESTCurve) Kind() string { return "est-curve" }

// Kind returns "est-no-srp".
func (ESTNoSRP) Kind() string { return "est-no-srp" }

// Kind returns "ra-started".
func (RAStarted) Kind() string { return "ra-started" }

// Kind returns "product-text".
func (ProductText) Kind() string { return "product-text" }

// BreakerChanged says that the circuit breaker of a certsrv has another state:
// "open", "half-open" or "closed". Code and Error are those of the failure that
// opened it.
type BreakerChanged struct {
	Target string `json:"target"`
	From   string `json:"from"`
	To     string `json:"to"`
	Code   string `json:"code,omitempty"`
	Error  string `json:"error,omitempty"`
}

// Level is that of a warning if it opened.
func (e BreakerChanged) Level() zapcore.Level {
	if e.To == "open" {
		return zapcore.WarnLevel
	}
	return zapcore.InfoLevel
}

// FailedOver says that a request went on to the next certsrv, To, after From
// had not got it, because of Code.
type FailedOver struct {
	From string `json:"from"`
	To   string `json:"to"`
	Code string `json:"code"`
}

// Level is that of a warning.
func (FailedOver) Level() zapcore.Level { return zapcore.WarnLevel }

// Kind returns "breaker-changed".
func (BreakerChanged) Kind() string { return "breaker-changed" }

// Kind returns "failed-over".
func (FailedOver) Kind() string { return "failed-over" }
