package event

import (
	"time"

	"go.uber.org/zap/zapcore"
)

// ESTNoPeerCertificate says that an EST client came without a TLS certificate.
type ESTNoPeerCertificate struct{}

// ESTAuthFailed says that an EST client's credentials were refused. AuthType
// is libEST's: 1 is HTTP Basic.
type ESTAuthFailed struct {
	AuthType int `json:"auth_type"`
}

// Level is that of a warning.
func (ESTAuthFailed) Level() zapcore.Level { return zapcore.WarnLevel }

// ESTEnrollFailed is the EST_ERR that an enrolment ended with.
type ESTEnrollFailed struct {
	RC   int    `json:"rc"`
	Name string `json:"name"`
}

// Level is that of a warning.
func (ESTEnrollFailed) Level() zapcore.Level { return zapcore.WarnLevel }

// ESTHTTPError is the answer sent to an EST client that failed. Body is the
// text as the log shows it between its brackets, line breaks and all:
// "Error 401: Unauthorized\nThe server was unable to authorize the request.\n".
type ESTHTTPError struct {
	Status int    `json:"status"`
	Body   string `json:"body"`
}

// ESTResponse is the EST_ERR that the answer stands for.
type ESTResponse struct {
	RC   int    `json:"rc"`
	Name string `json:"name"`
}

// Level is that of an error.
func (ESTResponse) Level() zapcore.Level { return zapcore.ErrorLevel }

// ESTRequestFailed ends a request that failed.
type ESTRequestFailed struct {
	RV   int    `json:"rv"`
	Name string `json:"name"`
}

// Level is that of a warning.
func (ESTRequestFailed) Level() zapcore.Level { return zapcore.WarnLevel }

// ESTAccess is libEST's access line. Status is -1 for every success, and Bytes
// always 0, in the product.
type ESTAccess struct {
	Client string    `json:"client"`
	Time   time.Time `json:"time"`
	Method string    `json:"method"`
	Path   string    `json:"path"`
	Proto  string    `json:"proto"` // "HTTP/1.1"
	Status int       `json:"status"`
	Bytes  int64     `json:"bytes"`
}

// ESTReferer is the request's Referer as libEST logs it, "-" for none.
type ESTReferer struct {
	Referer string `json:"referer"`
}

// ESTUserAgent is the request's User-Agent.
type ESTUserAgent struct {
	UserAgent string `json:"user_agent"`
}

// ESTShutdownFailed says that an EST client closed its connection first.
type ESTShutdownFailed struct{}

// Level is that of a warning.
func (ESTShutdownFailed) Level() zapcore.Level { return zapcore.WarnLevel }

// ESTRequest is an EST request and its answer, in our own words.
type ESTRequest struct {
	Operation string        `json:"operation"`
	Label     string        `json:"label,omitempty"`
	Client    string        `json:"client"`
	User      string        `json:"user,omitempty"`
	Subject   string        `json:"subject,omitempty"`
	Status    int           `json:"status"`
	Code      string        `json:"code,omitempty"`
	Error     string        `json:"error,omitempty"`
	ReqID     int           `json:"req_id,omitempty"`
	Serial    string        `json:"serial,omitempty"`
	Duration  time.Duration `json:"duration_ns"`
}

// Level is that of a warning if the answer was an error.
func (e ESTRequest) Level() zapcore.Level {
	if e.Status >= 400 {
		return zapcore.WarnLevel
	}
	return zapcore.InfoLevel
}

// Kind returns "est-no-peer-certificate".
func (ESTNoPeerCertificate) Kind() string { return "est-no-peer-certificate" }

// Kind returns "est-auth-failed".
func (ESTAuthFailed) Kind() string { return "est-auth-failed" }

// Kind returns "est-enroll-failed".
func (ESTEnrollFailed) Kind() string { return "est-enroll-failed" }

// Kind returns "est-http-error".
func (ESTHTTPError) Kind() string { return "est-http-error" }

// Kind returns "est-response".
func (ESTResponse) Kind() string { return "est-response" }

// Kind returns "est-request-failed".
func (ESTRequestFailed) Kind() string { return "est-request-failed" }

// Kind returns "est-access".
func (ESTAccess) Kind() string { return "est-access" }

// Kind returns "est-referer".
func (ESTReferer) Kind() string { return "est-referer" }

// Kind returns "est-user-agent".
func (ESTUserAgent) Kind() string { return "est-user-agent" }

// Kind returns "est-shutdown-failed".
func (ESTShutdownFailed) Kind() string { return "est-shutdown-failed" }

// Kind returns "est-request".
func (ESTRequest) Kind() string { return "est-request" }
