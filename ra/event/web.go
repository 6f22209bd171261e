package event

import "time"

// WebRequest is one request as IIS logs it. Empty strings are written "-".
type WebRequest struct {
	Time      time.Time     `json:"time"` // when the request ended, UTC
	ServerIP  string        `json:"s_ip"`
	Method    string        `json:"method"`
	Stem      string        `json:"stem"`
	Query     string        `json:"query,omitempty"`
	Port      int           `json:"port"`
	User      string        `json:"user,omitempty"`
	ClientIP  string        `json:"c_ip"`
	UserAgent string        `json:"user_agent,omitempty"`
	Referer   string        `json:"referer,omitempty"`
	Status    int           `json:"status"`
	Substatus int           `json:"substatus"`
	Win32     uint32        `json:"win32"`
	TimeTaken time.Duration `json:"time_taken_ns"` // written in milliseconds
}

// WebLogHeader is the block of directives that begins an IIS log, and stands
// again where its fields change.
type WebLogHeader struct {
	Software string    `json:"software"`
	Version  string    `json:"version"`
	Date     time.Time `json:"date"`
	Fields   []string  `json:"fields"`
}

// Kind returns "web-request".
func (WebRequest) Kind() string { return "web-request" }

// Kind returns "web-log-header".
func (WebLogHeader) Kind() string { return "web-log-header" }
