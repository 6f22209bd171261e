package winauth

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"
)

// What errors.Is can be asked. The errors themselves carry more: see
// [RejectedError], [SuspendedError], [LegError], [PhaseError], [StatusError].
var (
	// ErrRejected: the server refused the login.
	ErrRejected = errors.New("the server refused the login")
	// ErrBinding: the server refused the login because of its channel binding,
	// or the lack of one; the credentials are good. Only a probe can tell (see
	// EPA.Probe).
	ErrBinding = errors.New("the credentials are good, but the login's channel binding is not")
	// ErrSuspended: no login was attempted, because one was refused a moment ago.
	ErrSuspended = errors.New("logins are suspended")
	// ErrNTLMNotOffered: the server offers no NTLM.
	ErrNTLMNotOffered = errors.New("the server does not offer NTLM")
	// ErrNotChallenged: the server answered the login without asking for one.
	ErrNotChallenged = errors.New("the server did not ask for a login")
	// ErrWrongHost: the request is for another host than the pool's.
	ErrWrongHost = errors.New("credentials are not sent to another host")
	// ErrConnectionClosed: the server closed the connection that the login was
	// being made on, or had been made on.
	ErrConnectionClosed = errors.New("the server closed the connection that carries the login")
	// ErrClosed: the pool has been closed.
	ErrClosed = errors.New("the pool is closed")
)

// Leg is one half of an NTLM login, by the number of the message sent in it.
type Leg int

const (
	// LegNegotiate sends NEGOTIATE (type 1) and expects a challenge.
	LegNegotiate Leg = 1
	// LegAuthenticate sends AUTHENTICATE (type 3) and expects anything but 401.
	LegAuthenticate Leg = 3
)

// String names the message sent and its number.
func (l Leg) String() string {
	if l == LegNegotiate {
		return "NEGOTIATE (type 1)"
	}
	return "AUTHENTICATE (type 3)"
}

// LegError is a login that failed in one of its legs.
type LegError struct {
	Leg Leg
	Err error
}

// Error names the leg and the cause.
func (e *LegError) Error() string {
	return fmt.Sprintf("NTLM login, %s: %v", e.Leg, e.Err)
}

// Unwrap returns the cause.
func (e *LegError) Unwrap() error { return e.Err }

// Phase is a part of an exchange that can run out of time.
type Phase string

// The phases, in their order.
const (
	PhaseQueue     Phase = "waiting for a free session"
	PhaseLogin     Phase = "waiting for the login of another session"
	PhaseDNS       Phase = "resolving the name"
	PhaseConnect   Phase = "connecting"
	PhaseTLS       Phase = "TLS handshake"
	PhaseFirstByte Phase = "waiting for the first byte of the answer"
	PhaseBody      Phase = "reading the body of the answer"
)

// PhaseError is an exchange that broke off, with the phase it was in.
type PhaseError struct {
	Phase Phase
	// Sent says that the request, or a part of it, may have reached the server.
	Sent bool
	// Elapsed is the time since the beginning of what was timed: of the login
	// if it was that which failed, else of the exchange.
	Elapsed time.Duration
	// Received is how many bytes of the body had arrived.
	Received int64
	Err      error
}

// Error names the phase and the cause.
func (e *PhaseError) Error() string {
	if e.Timeout() {
		return fmt.Sprintf("%s: time ran out after %v: %v", e.Phase, e.Elapsed.Round(time.Millisecond), e.Err)
	}
	return fmt.Sprintf("%s: %v", e.Phase, e.Err)
}

// Unwrap returns the cause.
func (e *PhaseError) Unwrap() error { return e.Err }

// Timeout says whether it was time that ran out.
func (e *PhaseError) Timeout() bool { return isTimeout(e.Err) }

// isTimeout finds the several ways in which Go says that time ran out.
func isTimeout(err error) bool {
	var ne net.Error
	return errors.Is(err, context.DeadlineExceeded) || errors.As(err, &ne) && ne.Timeout()
}

// StatusError is an answer whose status is a server's error.
type StatusError struct {
	Status int
	Server string // the Server header, "" for none
}

// Error names the status and who sent it.
func (e *StatusError) Error() string {
	if e.Server == "" {
		return fmt.Sprintf("the server answered with status %d", e.Status)
	}
	return fmt.Sprintf("the server (%s) answered with status %d", e.Server, e.Status)
}

// RejectedError is a login that the server refused, and what is known of why.
// It is [ErrRejected], or [ErrBinding] if a probe found that out.
type RejectedError struct {
	Username string
	// Offered is what the server offers: "Negotiate", "NTLM", ...
	Offered []string
	// Binding is what the login was bound to.
	Binding Binding
	// MIC says that the login carried a message integrity code.
	MIC bool
	// BindingRefused says that the same credentials were accepted with the
	// other setting of the binding.
	BindingRefused bool
	// Probed says that the other setting was tried at all.
	Probed bool
}

// Error says what the cause can and cannot be.
func (e *RejectedError) Error() string {
	var b strings.Builder
	switch {
	case e.BindingRefused && e.Binding == BindOff:
		return fmt.Sprintf("%v: %s logs in with a channel binding, but not without one", ErrBinding, e.Username)
	case e.BindingRefused:
		return fmt.Sprintf("%v: %s logs in without a channel binding, but not with one", ErrBinding, e.Username)
	}
	fmt.Fprintf(&b, "%v of %s (offered: %s; both legs went over one connection; %s", ErrRejected,
		e.Username, strings.Join(e.Offered, ", "), bindingSent(e.Binding))
	if e.MIC {
		b.WriteString(", MIC sent")
	}
	b.WriteString("): ")
	switch {
	case e.Probed:
		b.WriteString("user name, its form or the password is wrong, or the account is disabled or locked; it is not the channel binding")
	case e.Binding == BindOff:
		b.WriteString("user name, its form or the password is wrong, or the server requires a channel binding (EPA)")
	default:
		b.WriteString("user name, its form or the password is wrong, or TLS ends at a device between here and the server, so that the channel binding (EPA) is for another certificate")
	}
	return b.String()
}

func bindingSent(b Binding) string {
	switch b {
	case BindOff:
		return "no channel binding sent"
	case BindCertificate:
		return "channel binding sent, to the configured certificate"
	default:
		return "channel binding sent, to the connection's certificate"
	}
}

// Is matches ErrBinding if the binding is known to be the cause, else ErrRejected.
func (e *RejectedError) Is(target error) bool {
	if e.BindingRefused {
		return target == ErrBinding
	}
	return target == ErrRejected
}

// SuspendedError is a login that was not attempted. It is [ErrSuspended].
type SuspendedError struct {
	// Until is when the pause ends.
	Until time.Time
	// Last is the refusal that began the pause.
	Last *RejectedError
}

// Error says until when, and repeats the refusal.
func (e *SuspendedError) Error() string {
	return fmt.Sprintf("%v until %s, because another failure could lock the account: %v",
		ErrSuspended, e.Until.Format(time.RFC3339), e.Last)
}

// Is matches ErrSuspended.
func (*SuspendedError) Is(target error) bool { return target == ErrSuspended }

// OfferedError is a server that does not offer NTLM. It is [ErrNTLMNotOffered].
type OfferedError struct {
	// Offered is what it offers instead.
	Offered []string
}

// Error lists what is offered.
func (e *OfferedError) Error() string {
	if len(e.Offered) == 0 {
		return ErrNTLMNotOffered.Error() + ": it answers 401 and offers nothing"
	}
	return ErrNTLMNotOffered.Error() + ", only " + strings.Join(e.Offered, ", ")
}

// Is matches ErrNTLMNotOffered.
func (*OfferedError) Is(target error) bool { return target == ErrNTLMNotOffered }
