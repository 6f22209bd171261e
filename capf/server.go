// Package capf is the Certificate Authority Proxy Function: towards phones it
// speaks the CAPF protocol (package wire), towards the registration authority
// EST. In between it keeps the session of each phone, has the phone sign a
// certificate request with a key that never leaves it, gets the certificate
// from the Online CA, or issues it itself, and notes the outcome in the device
// table. What happens is traced in the order of the product's own trace.
package capf

import (
	"context"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/onlineca/onlineca/capf/wire"
	"github.com/onlineca/onlineca/ra/event"
)

// Port is the TCP port on which phones look for CAPF.
const Port = 3804

// ServerConfig says how CAPF serves phones. Certificate, Devices, and one of
// Online and Local are needed.
type ServerConfig struct {
	// Certificate is CAPF's certificate with its key, see
	// [LoadServerCertificate].
	Certificate tls.Certificate
	// LegacyTLS also allows TLS 1.0 and 1.1 and RSA key exchange, without which
	// phones of the 7900 series cannot connect. It needs an RSA certificate.
	// Neither is secure: leave it off where no such phone is left.
	LegacyTLS bool
	// Devices is the device table.
	Devices DeviceTable

	// Issuer is who issues for devices that name no issuer themselves. Empty
	// means the Online CA if there is one, otherwise CAPF itself.
	Issuer IssuerKind
	// Online asks the Online CA: an [*Enroller].
	Online OnlineCA
	// Local is CAPF as a CA.
	Local *LocalCA
	// LocalFallback lets CAPF itself issue for devices that cannot sign a
	// request. Otherwise they are refused before they generate a key.
	LocalFallback bool
	// Encrypt is the form of the exchange by which a phone signs a request,
	// unverified against hardware.
	Encrypt wire.EncryptStyle

	// LSCTrust and MICTrust are the CAs whose certificates phones may
	// authenticate with: issuers of LSCs (CAPF's own certificate is always one)
	// and the manufacturer's. Each is trusted by itself.
	LSCTrust, MICTrust []*x509.Certificate
	// LSCIssuers, if set, tells further issuers of LSCs, as of now: the Online
	// CA may be renewed while the server runs.
	LSCIssuers func() []*x509.Certificate

	// AnnounceAuthType adds AUTH_TYPE 0 to the first message, as an independent
	// server does; the product sends VERSION alone.
	AnnounceAuthType bool
	// EndInsteadOfRetry tells a phone that is to come back END_SESSION with
	// reason 7 instead of RETRY_LATER. Which of them hardware understands is
	// unknown.
	EndInsteadOfRetry bool
	// OneAttempt ends an operation at the first session that fails, whatever
	// the reason, as the product does. Otherwise an operation stays scheduled
	// when the phone's next contact can succeed by itself: a lost connection, a
	// CA that did not answer, credentials that were not accepted.
	OneAttempt bool

	// AskAgain has an Online CA that is not done with a request (EST's 202)
	// asked again when it says, for as long as Timeouts.Issue and whether the
	// phone waits or not. The product ends the session instead, and leaves it to
	// the phone's next contact.
	AskAgain bool

	// Timeouts limits each state of a session.
	Timeouts Timeouts
	// RetryDelay is what RETRY_LATER says; 0 means 30 seconds, the pause that
	// phones make by themselves.
	RetryDelay time.Duration
	// MaxConnections is how many connections there may be at once, 4096 if 0;
	// MaxPerAddress how many from one address, 64 if 0 and without limit if
	// less than 0. What is beyond is closed without a word.
	MaxConnections, MaxPerAddress int
	// MaxEnrolling is how many requests are with the Online CA at once; 64 if 0.
	MaxEnrolling int
	// LockoutAfter wrong authentication strings lock a device for LockoutFor;
	// ten and ten minutes if 0, as in the product.
	LockoutAfter int
	LockoutFor   time.Duration

	// Logger gets the events of the trace; nil is silent.
	Logger *zap.Logger
	// Now is the clock for deadlines, validity and lockouts; nil is time.Now.
	Now func() time.Time
}

// Timeouts limits how long a session may stay in each of its states. A zero
// field has the default beside it.
type Timeouts struct {
	Handshake time.Duration // 30 s, for TLS
	Auth      time.Duration // 10 s, AWAIT_AUTH_RES
	Keygen    time.Duration // 30 min, AWAIT_KEYGEN_RES, as in CME (1 to 120 min there)
	Sign      time.Duration // 30 s, AWAIT_ENCRYPT_MSG_RES
	CA        time.Duration // 60 s, AWAIT_CA_CERT_RESP: then the phone is told to come back
	Store     time.Duration // 30 s, AWAIT_STORE_CERT_RES, AWAIT_FETCH_RES, AWAIT_DELETE_RES
	Issue     time.Duration // 10 min, for the Online CA, whether the phone waits or not
	Write     time.Duration // 10 s, for one message: messages are small, so that a phone that does not take one has stopped reading
}

func (t Timeouts) withDefaults() Timeouts {
	for _, f := range []struct {
		field *time.Duration
		value time.Duration
	}{
		{&t.Handshake, 30 * time.Second}, {&t.Auth, 10 * time.Second}, {&t.Keygen, 30 * time.Minute},
		{&t.Sign, 30 * time.Second}, {&t.CA, time.Minute}, {&t.Store, 30 * time.Second}, {&t.Issue, 10 * time.Minute}, {&t.Write, 10 * time.Second},
	} {
		if *f.field <= 0 {
			*f.field = f.value
		}
	}
	return t
}

// Server is CAPF towards phones.
type Server struct {
	cfg      ServerConfig
	tls      *tls.Config
	lscTrust []*x509.Certificate
	enroll   chan struct{} // one token for each request with the Online CA

	mu        sync.Mutex
	base      context.Context //nolint:containedctx // The life of Serve: requests outlive the sessions that began them.
	number    uint32
	conns     int
	addresses map[string]int
	refused   int
	sessions  map[uint32]*session
	phones    map[string]*session
	issuing   map[string]*issuance
	lockouts  map[string]*lockout
	work      sync.WaitGroup
}

// NewServer checks the configuration and returns a server.
func NewServer(cfg ServerConfig) (*Server, error) {
	if err := cfg.complete(); err != nil {
		return nil, err
	}
	s := &Server{
		cfg: cfg, tls: serverTLS(cfg),
		lscTrust:  append([]*x509.Certificate{cfg.Certificate.Leaf}, cfg.LSCTrust...),
		enroll:    make(chan struct{}, cfg.MaxEnrolling),
		addresses: make(map[string]int), sessions: make(map[uint32]*session), phones: make(map[string]*session),
		issuing: make(map[string]*issuance), lockouts: make(map[string]*lockout),
	}
	return s, nil
}

func (cfg *ServerConfig) complete() error {
	if len(cfg.Certificate.Certificate) == 0 || cfg.Certificate.PrivateKey == nil {
		return errors.New("capf: the server needs a certificate and its key")
	}
	leaf, err := x509.ParseCertificate(cfg.Certificate.Certificate[0])
	if err != nil {
		return fmt.Errorf("capf: read the server's certificate: %w", err)
	}
	cfg.Certificate.Leaf = leaf
	if _, ok := leaf.PublicKey.(*rsa.PublicKey); cfg.LegacyTLS && !ok {
		return fmt.Errorf("capf: the server's certificate %q has a key that is not RSA, without which phones of the 7900 series cannot connect", distinguished(leaf.RawSubject))
	}
	if cfg.Devices == nil {
		return errors.New("capf: the server needs a device table")
	}
	if cfg.Issuer == IssuerDefault {
		cfg.Issuer = IssuerLocal
		if cfg.Online != nil {
			cfg.Issuer = IssuerOnline
		}
	}
	switch {
	case cfg.Issuer == IssuerOnline && cfg.Online == nil:
		return errors.New("capf: the issuer is the Online CA, but none is configured")
	case cfg.Issuer == IssuerLocal && cfg.Local == nil, cfg.LocalFallback && cfg.Local == nil:
		return errors.New("capf: CAPF itself is to issue, but has no CA")
	case !cfg.Issuer.known():
		return fmt.Errorf("capf: there is no issuer %q: use online, local or offline", cfg.Issuer)
	}
	if err := cfg.Encrypt.Check(); err != nil {
		return fmt.Errorf("capf: %w", err)
	}
	cfg.Timeouts = cfg.Timeouts.withDefaults()
	defaults(&cfg.RetryDelay, 30*time.Second)
	defaults(&cfg.MaxConnections, 4096)
	defaults(&cfg.MaxPerAddress, 64)
	defaults(&cfg.MaxEnrolling, 64)
	defaults(&cfg.LockoutAfter, 10)
	defaults(&cfg.LockoutFor, 10*time.Minute)
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Logger == nil {
		cfg.Logger = zap.NewNop()
	}
	return nil
}

func defaults[T int | time.Duration](field *T, value T) {
	if *field == 0 {
		*field = value
	}
}

// Serve accepts phones on l until ctx ends, then closes every connection and
// returns nil when all its work is done. It returns an error if l fails. l
// accepts plain TCP connections and is closed in either case.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer s.work.Wait()
	defer cancel(errStopping)
	s.mu.Lock()
	s.base = ctx
	s.mu.Unlock()
	if s.cfg.LegacyTLS {
		s.cfg.Logger.Warn("capf: TLS 1.0 and RSA key exchange are switched on, which only phones of the 7900 series need; neither is secure")
	}
	stop := context.AfterFunc(ctx, func() { _ = l.Close() })
	defer stop()
	for pause := time.Duration(0); ; {
		conn, err := l.Accept()
		switch {
		case ctx.Err() != nil:
			if conn != nil {
				_ = conn.Close()
			}
			return nil
		case err != nil && temporary(err):
			// Out of file descriptors, or a connection that was reset before
			// it could be accepted: others go on, and room comes back.
			pause = min(max(2*pause, 5*time.Millisecond), time.Second)
			s.cfg.Logger.Warn("capf: accept", zap.Error(err), zap.Duration("pause", pause))
			wait(ctx, pause)
			continue
		case err != nil:
			_ = l.Close()
			return fmt.Errorf("capf: accept on %v: %w", l.Addr(), err)
		}
		pause = 0
		s.admit(ctx, conn)
	}
}

// errStopping is why contexts end when the server is stopped.
var errStopping = errors.New("CAPF is being stopped")

func temporary(err error) bool {
	var n net.Error
	//nolint:staticcheck // Temporary is deprecated, but it is what accept errors tell exhaustion by, as net/http does.
	return errors.As(err, &n) && n.Temporary()
}

func wait(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

// admit serves conn in a goroutine of its own, or closes it if there are too
// many.
func (s *Server) admit(ctx context.Context, conn net.Conn) {
	addr := hostOf(conn.RemoteAddr())
	s.mu.Lock()
	full := s.conns >= s.cfg.MaxConnections || s.cfg.MaxPerAddress > 0 && s.addresses[addr] >= s.cfg.MaxPerAddress
	if full {
		s.refused++
		n := s.refused
		s.mu.Unlock()
		_ = conn.Close()
		// One line for the 1st, 2nd, 4th, 8th …: a flood must not fill the log.
		if n&(n-1) == 0 {
			s.cfg.Logger.Warn("capf: too many connections, this one is closed", zap.String("client", addr), zap.Int("closed_so_far", n))
		}
		return
	}
	s.conns++
	s.addresses[addr]++
	s.number++
	if s.number == 0 { // ids begin at 1 and never are 0
		s.number++
	}
	number := s.number
	s.mu.Unlock()
	s.work.Go(func() {
		defer s.release(addr)
		s.serveConn(ctx, conn, number)
	})
}

func (s *Server) release(addr string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.conns--
	if s.addresses[addr]--; s.addresses[addr] == 0 {
		delete(s.addresses, addr)
	}
}

func hostOf(a net.Addr) string {
	if a == nil {
		return ""
	}
	host, _, err := net.SplitHostPort(a.String())
	if err != nil {
		return a.String()
	}
	return host
}

// SessionInfo is one session as it is now.
type SessionInfo struct {
	Number uint32
	Device string // empty before the phone has said its name
	Addr   string
	State  State
	Since  time.Time // when the state began
}

// Sessions lists the sessions under way, in the order of their numbers.
func (s *Server) Sessions() []SessionInfo {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := make([]SessionInfo, 0, len(s.sessions))
	for _, p := range s.sessions {
		all = append(all, SessionInfo{Number: p.number, Device: p.name, Addr: p.addr, State: p.state, Since: p.since})
	}
	slices.SortFunc(all, func(a, b SessionInfo) int { return int(int64(a.Number) - int64(b.Number)) })
	return all
}

// claim makes p the session of its device. A phone that connects anew has
// given its former connection up, even if that has not been noticed: a former
// session is ended.
func (s *Server) claim(p *session) {
	key := strings.ToLower(p.name)
	s.mu.Lock()
	former := s.phones[key]
	s.phones[key] = p
	s.mu.Unlock()
	if former != nil {
		former.cancel(errDisplaced)
	}
}

// errDisplaced ends a session whose phone has connected anew.
var errDisplaced = errors.New("the phone has connected anew")

// owns tells whether p is still the session of its device.
func (s *Server) owns(p *session) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.phones[strings.ToLower(p.name)] == p
}

func (s *Server) emit(ctx context.Context, e event.Event) { event.Emit(ctx, s.cfg.Logger, e) }
