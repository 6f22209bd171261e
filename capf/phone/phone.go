// Package phone simulates a phone towards CAPF: any CAPF that speaks the
// protocol of package wire, be it this project's, another's or a CUCM's.
//
// A phone connects, proves who it is, and does what CAPF asks of it: generate
// a key, sign a certificate request, store a certificate, show it, delete it.
package phone

import (
	"context"
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/onlineca/onlineca/capf/wire"
)

// What real phones do: they try CAPF three more times, half a minute apart,
// and that cannot be configured (the vendor's security guide).
const (
	DefaultRetries    = 3
	DefaultRetryDelay = 30 * time.Second
)

// Config describes one phone. Server (or Dial), Roots and Device are needed.
type Config struct {
	// Server is CAPF's address, HOST:PORT.
	Server string
	// Roots verify CAPF's certificate chain. The host name is not compared:
	// real phones know CAPF by its certificate in their trust list, not by its
	// name.
	Roots *x509.CertPool
	// AnyExtensions also accepts a CAPF certificate without the extensions that
	// real phones demand (CA:TRUE with path length 0; digitalSignature and
	// keyCertSign).
	AnyExtensions bool
	// Device is the phone's name, SEP and twelve hexadecimal digits as a rule.
	Device string
	// Version is the version of the protocol, 2 or 3; 0 means 3.
	Version uint8
	// Auth is how the phone proves who it is; the zero Auth is by null string.
	Auth Auth
	// Key, if not zero, is the only kind of key that the phone makes. Otherwise
	// it makes what CAPF asks for.
	Key wire.KeySpec
	// Keys makes keys; nil means to generate them. See [Pool].
	Keys KeySource
	// NoEncrypt is a phone that does not know the ENCRYPT exchange, and closes
	// the connection when it is asked, as clients do that have none.
	NoEncrypt bool
	// Encrypt is the form of that exchange.
	Encrypt wire.EncryptStyle
	// InProgress is how many REQUEST_IN_PROGRESS the phone sends before it
	// answers with its key: 1 if 0, none if less than 0.
	InProgress int
	// Dir is where DEVICE.pem is kept, certificate and key in one file, and
	// DEVICE.pending.pem, a key that waits for its certificate. Empty keeps
	// both in memory.
	Dir string
	// Retries is how often the phone tries again, 3 if 0, never if less than 0;
	// RetryDelay how long it waits before, 30 s if 0.
	Retries    int
	RetryDelay time.Duration
	// Patience limits the wait for each message of CAPF's, 90 s if 0. Real
	// phones' patience is unknown.
	Patience time.Duration
	// LegacyTLS speaks TLS 1.0 with RSA key exchange and nothing else, as phones
	// of the 7900 series.
	LegacyTLS bool
	// TLS, if not nil, may change the TLS configuration before it is used.
	TLS func(*tls.Config)
	// Dial makes the connection; nil means a net.Dialer to Server.
	Dial func(ctx context.Context) (net.Conn, error)
	// Sleep waits between attempts; nil means a timer. It returns early when
	// ctx ends.
	Sleep func(ctx context.Context, d time.Duration)
	// Retrying, if not nil, is told of a failure after which the phone tries
	// again, and how long it waits before.
	Retrying func(err error, delay time.Duration)
	// Observe, if not nil, is told of each message, before it is acted on.
	Observe func(sent bool, m wire.Message)
}

// Operation is what CAPF had the phone do.
type Operation string

// The operations.
const (
	None         Operation = "none"
	Install      Operation = "install"
	Delete       Operation = "delete"
	Troubleshoot Operation = "troubleshoot"
)

// Result is a session that ended well.
type Result struct {
	Operation Operation
	// Session is CAPF's number of the session.
	Session uint32
	// Reason is the REASON of END_SESSION: 0 or 1.
	Reason wire.Reason
	// Certificate is the DER of the certificate that was stored or shown.
	Certificate []byte
	// Attempts is how many connections it took.
	Attempts int
	// Duration is from the first connection to the end, pauses included.
	Duration time.Duration
}

// Phone is a phone with its memory: the certificate that it holds and the key
// that waits for one. It is for one goroutine at a time.
type Phone struct {
	cfg     Config
	current *Identity
	pending crypto.Signer
}

// New checks the configuration and reads what the phone holds.
func New(cfg Config) (*Phone, error) {
	switch {
	case cfg.Device == "" || len(cfg.Device) > 50:
		return nil, fmt.Errorf("phone: %q is no device name: it has 1 to 50 characters", cfg.Device)
	case cfg.Server == "" && cfg.Dial == nil:
		return nil, errors.New("phone: the address of CAPF is missing")
	case cfg.Roots == nil:
		return nil, errors.New("phone: the certificates to verify CAPF with are missing")
	case cfg.Version != 0 && cfg.Version != 2 && cfg.Version != 3:
		return nil, fmt.Errorf("phone: there is no version %d of CAPF: use 2 or 3", cfg.Version)
	}
	if err := cfg.Encrypt.Check(); err != nil {
		return nil, fmt.Errorf("phone: %w", err)
	}
	if err := cfg.Auth.check(); err != nil {
		return nil, fmt.Errorf("phone: %s: %w", cfg.Device, err)
	}
	cfg.setDefaults()
	p := &Phone{cfg: cfg}
	if err := p.load(); err != nil {
		return nil, err
	}
	return p, nil
}

func (cfg *Config) setDefaults() {
	if cfg.Version == 0 {
		cfg.Version = 3
	}
	if cfg.Keys == nil {
		cfg.Keys = Generate
	}
	if cfg.InProgress == 0 {
		cfg.InProgress = 1
	}
	if cfg.Retries == 0 {
		cfg.Retries = DefaultRetries
	}
	if cfg.RetryDelay == 0 {
		cfg.RetryDelay = DefaultRetryDelay
	}
	if cfg.Patience == 0 {
		cfg.Patience = 90 * time.Second
	}
	if cfg.Sleep == nil {
		cfg.Sleep = sleep
	}
	if cfg.Dial == nil {
		cfg.Dial = func(ctx context.Context) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "tcp", cfg.Server)
		}
	}
}

func sleep(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

// Identity is the certificate that the phone holds, or nil.
func (p *Phone) Identity() *Identity { return p.current }

// Run is one phone from beginning to end: [New] and [Phone.Run].
func Run(ctx context.Context, cfg Config) (Result, error) {
	p, err := New(cfg)
	if err != nil {
		return Result{}, err
	}
	return p.Run(ctx)
}

// Run contacts CAPF and does what it asks, and tries again as a phone does when
// CAPF cannot be reached, the connection is lost, or CAPF says to come back. The
// error wraps an *Error that says at what the last attempt failed.
func (p *Phone) Run(ctx context.Context) (Result, error) {
	start := time.Now()
	for attempt := 1; ; attempt++ {
		r, err := p.contact(ctx)
		r.Attempts, r.Duration = attempt, time.Since(start)
		if err == nil {
			return r, nil
		}
		var e *Error
		if !errors.As(err, &e) || !e.retry || attempt > max(p.cfg.Retries, 0) || ctx.Err() != nil {
			return r, fmt.Errorf("phone %s: %w", p.cfg.Device, err)
		}
		delay := p.cfg.RetryDelay
		if e.After > 0 {
			delay = e.After
		}
		if p.cfg.Retrying != nil {
			p.cfg.Retrying(err, delay)
		}
		p.cfg.Sleep(ctx, delay)
	}
}

// Failure is at what a contact failed, in a word or two that can be counted.
type Failure string

// The failures.
const (
	FailConnect   Failure = "connect"           // TCP
	FailTLS       Failure = "tls"               // handshake, or a certificate that the phone does not accept
	FailLost      Failure = "connection lost"   // in the middle of the session
	FailTimeout   Failure = "timeout"           // CAPF did not answer
	FailProtocol  Failure = "protocol"          // CAPF sent what does not belong there
	FailDeclined  Failure = "declined"          // END_SESSION with reason 7
	FailUnknown   Failure = "unknown device"    // END_SESSION with reason 9
	FailLater     Failure = "told to come back" // RETRY_LATER, and no attempts left
	FailCannot    Failure = "cannot"            // CAPF asks for what this phone cannot do
	FailLocal     Failure = "local"             // the phone's own files or keys
	FailCancelled Failure = "cancelled"
)

// Error is a contact that failed.
type Error struct {
	Failure Failure
	// State is what the phone waited for or did.
	State string
	// Reason is that of END_SESSION.
	Reason wire.Reason
	// After is CAPF's word when to come back, 0 if it said none.
	After time.Duration
	Err   error

	retry bool
}

// Error says in one line what the phone did and why that failed.
func (e *Error) Error() string {
	if e.State == string(e.Failure) {
		return fmt.Sprintf("%s: %v", e.State, e.Err)
	}
	return fmt.Sprintf("%s: %s: %v", e.State, e.Failure, e.Err)
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }
