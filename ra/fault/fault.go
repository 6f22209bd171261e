// Package fault is the one table of everything that can go wrong on the road
// from a phone's certificate request to its Locally Significant Certificate.
//
// A [Code] names a failure. Its [Row] says how the failure looks to each party
// on the road (curl, libEST, an EST client, the device table of CAPF), why it
// happens and what to do. A [Fault] is one occurrence: the code, the operation
// that failed and the error underneath.
//
// The table is the only place that knows these relations: code that needs to
// know what an EST client is told, or whether a retry makes sense, reads the
// row and never switches over codes.
package fault

import (
	"errors"
	"fmt"
	"time"
)

// Code identifies one failure. The zero Code is [Unknown].
//
// A Code is an error, so that errors.Is(err, fault.Template) asks whether err
// is, or wraps, an occurrence of that failure.
type Code uint8

// Error returns the code's name and symptom.
func (c Code) Error() string { return c.String() + ": " + c.Row().Symptom }

// String returns the code's kebab-case name, as it stands in documentation,
// in JSON and on the command line.
func (c Code) String() string { return c.Row().Name }

// MarshalText writes the kebab-case name.
func (c Code) MarshalText() ([]byte, error) { return []byte(c.String()), nil }

// UnmarshalText reads a kebab-case name; an unknown name is an error.
func (c *Code) UnmarshalText(text []byte) error {
	got, ok := Lookup(string(text))
	if !ok {
		return fmt.Errorf("fault: no failure is called %q", text)
	}
	*c = got
	return nil
}

// Row returns the table's row for c. A Code outside the table has the row of
// [Unknown].
func (c Code) Row() *Row {
	if int(c) >= len(table) {
		return &table[Unknown]
	}
	return &table[c]
}

// Lookup finds a code by its kebab-case name.
func Lookup(name string) (Code, bool) {
	for i := range table {
		if table[i].Name == name {
			return Code(i), true
		}
	}
	return Unknown, false
}

// Codes returns every code of the table, in its order.
func Codes() []Code {
	all := make([]Code, len(table))
	for i := range table {
		all[i] = Code(i)
	}
	return all
}

// Fault is one occurrence of a failure.
type Fault struct {
	Code Code
	// Op says what was being done, in words that fit before a colon:
	// "certsrv: log in to https://ca.example.com/certsrv".
	Op string
	// Message is the far side's own text, for example the disposition message
	// of the certificate authority. It may be empty.
	Message string
	// Curl is the text that the product's libcurl prints for this occurrence,
	// for example "Operation timed out after 10000 milliseconds with 0 bytes
	// received". Empty means the row's own text.
	Curl string
	// ReqID is the request's number at the certificate authority, 0 when it
	// has none or none is known.
	ReqID int
	// HRESULT is the Windows status behind the failure, 0 when none is known.
	HRESULT uint32
	// RetryAfter is how long a client should wait before it tries again.
	// Zero means the row decides.
	RetryAfter time.Duration
	// Unsent says that a request for a certificate has certainly not been
	// submitted: no byte of it has left. It may go elsewhere.
	Unsent bool
	// Denied says that this is the certificate authority's last word on the
	// request ReqID: it denied it, or revoked what it had issued. What the code
	// says of trying again is about a new request then.
	Denied bool
	// Unjudged says that credentials were sent and the answer to them was lost:
	// the far side may have counted them as wrong.
	Unjudged bool
	// Target names the certsrv that failed, where there may be several.
	Target string
	// Err is the cause. It may be nil.
	Err error
}

// New returns a Fault of the given code that happened during op because of err.
func New(code Code, op string, err error) *Fault {
	return &Fault{Code: code, Op: op, Err: err}
}

// Newf is New with a formatted cause.
func Newf(code Code, op, format string, args ...any) *Fault {
	return &Fault{Code: code, Op: op, Err: fmt.Errorf(format, args...)}
}

// Error says in one line what was being done, what failed and why.
func (f *Fault) Error() string {
	s := f.Code.Row().Symptom
	if f.Op != "" {
		s = f.Op + ": " + s
	}
	if f.ReqID != 0 {
		s += fmt.Sprintf(" (request %d)", f.ReqID)
	}
	if f.Message != "" {
		s += fmt.Sprintf(": %q", f.Message)
	}
	if f.HRESULT != 0 {
		s += fmt.Sprintf(" [0x%08x]", f.HRESULT)
	}
	if f.Err != nil {
		s += ": " + f.Err.Error()
	}
	return s
}

// Unwrap yields the code and the cause, so that errors.Is and errors.As match
// both.
func (f *Fault) Unwrap() []error {
	if f.Err == nil {
		return []error{f.Code}
	}
	return []error{f.Code, f.Err}
}

// Hint says what a person should do about the failure.
func (f *Fault) Hint() string { return f.Code.Row().Fix }

// CurlText is what the product's libcurl would have printed.
func (f *Fault) CurlText() string {
	if f.Curl != "" {
		return f.Curl
	}
	return f.Code.Row().CurlText
}

// Of returns the first Fault in err's tree, or a Fault of code [Unknown] that
// wraps err. It returns nil for a nil error.
func Of(err error) *Fault {
	if err == nil {
		return nil
	}
	var f *Fault
	if errors.As(err, &f) {
		return f
	}
	var c Code
	if errors.As(err, &c) {
		return &Fault{Code: c, Err: err}
	}
	return &Fault{Code: Unknown, Err: err}
}
