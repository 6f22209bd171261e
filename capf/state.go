package capf

import (
	"time"

	"github.com/onlineca/onlineca/capf/wire"
)

// State is a state of a session. The names are the product's: from its trace
// and from CME's "show capf-server sessions"; those of FETCH and DELETE are
// inferred.
type State string

// The states, in the order of an installation.
const (
	StateIdle            State = "CAPF_STATE_IDLE"
	StateAwaitAuth       State = "CAPF_STATE_AWAIT_AUTH_RES"
	StateAwaitKeygen     State = "CAPF_STATE_AWAIT_KEYGEN_RES"
	StateAwaitEncryptMsg State = "CAPF_STATE_AWAIT_ENCRYPT_MSG_RES"
	StateAwaitCACert     State = "CAPF_STATE_AWAIT_CA_CERT_RESP"
	StateAwaitStoreCert  State = "CAPF_STATE_AWAIT_STORE_CERT_RES"
	StateAwaitFetch      State = "CAPF_STATE_AWAIT_FETCH_RES"
	StateAwaitDelete     State = "CAPF_STATE_AWAIT_DELETE_RES"
)

// transition is what a state waits for: the command that leads on, the name
// that the trace has for it, and whether the phone may ask for patience.
type transition struct {
	command    wire.Command
	event      string
	inProgress bool
}

// transitions is the state machine towards the phone: in each state one
// command leads on, REQUEST_IN_PROGRESS changes nothing where it is allowed,
// and everything else ends the session. StateAwaitCACert waits for the CA and
// not for the phone. Only the event CAPF_EV_CA_CERT_REP is known from the
// product; the others are named after it.
func transitions(style wire.EncryptStyle) map[State]transition {
	return map[State]transition{
		StateAwaitAuth:       {command: wire.AuthResponse, event: "CAPF_EV_AUTH_RES"},
		StateAwaitKeygen:     {command: wire.KeyGenerateResponse, event: "CAPF_EV_KEYGEN_RES", inProgress: true},
		StateAwaitEncryptMsg: {command: style.ResponseCommand(), event: "CAPF_EV_ENCRYPT_MSG_RES", inProgress: true},
		StateAwaitCACert:     {event: "CAPF_EV_CA_CERT_REP", inProgress: true},
		StateAwaitStoreCert:  {command: wire.StoreCertificateResponse, event: "CAPF_EV_STORE_CERT_RES", inProgress: true},
		StateAwaitFetch:      {command: wire.FetchCertificateResponse, event: "CAPF_EV_FETCH_CERT_RES", inProgress: true},
		StateAwaitDelete:     {command: wire.DeleteCertResponse, event: "CAPF_EV_DELETE_CERT_RES", inProgress: true},
	}
}

// of is how long a session may stay in the state.
func (t Timeouts) of(s State) time.Duration {
	switch s {
	case StateAwaitAuth:
		return t.Auth
	case StateAwaitKeygen:
		return t.Keygen
	case StateAwaitEncryptMsg:
		return t.Sign
	case StateAwaitCACert:
		return t.CA
	default:
		return t.Store
	}
}
