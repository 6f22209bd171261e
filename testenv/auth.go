package testenv

import (
	"context"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"

	"github.com/onlineca/onlineca/testenv/internal/ntlm"
)

// What IIS writes into sc-win32-status.
const (
	win32OK           = 0
	win32NotFound     = 2          // ERROR_FILE_NOT_FOUND
	win32AccessDenied = 5          // ERROR_ACCESS_DENIED
	win32NetnameGone  = 64         // ERROR_NETNAME_DELETED: the client got no answer
	win32LockedOut    = 1909       // ERROR_ACCOUNT_LOCKED_OUT
	win32InvalidToken = 2148074248 // 0x80090308 SEC_E_INVALID_TOKEN
	win32LogonDenied  = 2148074252 // 0x8009030C SEC_E_LOGON_DENIED
	win32NoCreds      = 2148074254 // 0x8009030E SEC_E_NO_CREDENTIALS
	win32BadBindings  = 2148074310 // 0x80090346 SEC_E_BAD_BINDINGS
)

// conn is a TCP connection: with NTLM, it is what has an identity.
type conn struct {
	id      int
	net     net.Conn
	user    string // DOMAIN\user, "" before the login
	pending *ntlm.Pending
	spnego  *ntlm.SPNEGO
}

type connKey struct{}

func (s *Certsrv) newConn(ctx context.Context, c net.Conn) context.Context {
	total, _ := s.listener.counts()
	return context.WithValue(ctx, connKey{}, &conn{id: total, net: c})
}

// accounts counts the failed logons.
type accounts struct {
	threshold int
	mu        sync.Mutex
	failed    map[string]int // in a row, by account
	failures  int
	begun     int
	done      int
}

// Handshakes is how many NTLM logins have succeeded.
func (s *Certsrv) Handshakes() int {
	s.accounts.mu.Lock()
	defer s.accounts.mu.Unlock()
	return s.accounts.done
}

// Challenges is how many NTLM logins have begun.
func (s *Certsrv) Challenges() int {
	s.accounts.mu.Lock()
	defer s.accounts.mu.Unlock()
	return s.accounts.begun
}

// FailedLogons is how many logins were refused: what a domain controller counts
// towards locking an account, and logins refused for their channel binding.
func (s *Certsrv) FailedLogons() int {
	s.accounts.mu.Lock()
	defer s.accounts.mu.Unlock()
	return s.accounts.failures
}

// Connections is how many TCP connections there have been, and are open.
func (s *Certsrv) Connections() (total, open int) { return s.listener.counts() }

// Unlock unlocks every account.
func (s *Certsrv) Unlock() {
	s.accounts.mu.Lock()
	defer s.accounts.mu.Unlock()
	clear(s.accounts.failed)
}

// lookup finds an account by the names that a client sent: DOMAIN and user,
// DNS domain and user, a bare user of the mock's own domain, or user@dnsdomain.
func (s *Certsrv) lookup(domain, user string) (Account, bool) {
	if name, suffix, ok := strings.Cut(user, "@"); ok {
		if domain != "" && !strings.EqualFold(domain, s.conf.Domain) || !strings.EqualFold(suffix, s.conf.DNSDomain) {
			return Account{}, false
		}
		domain, user = s.conf.Domain, name
	}
	if domain == "" || strings.EqualFold(domain, s.conf.DNSDomain) {
		domain = s.conf.Domain
	}
	i := slices.IndexFunc(s.conf.Accounts, func(a Account) bool {
		return strings.EqualFold(a.Domain, domain) && strings.EqualFold(a.Name, user)
	})
	if i < 0 {
		return Account{}, false
	}
	return s.conf.Accounts[i], true
}

func (a Account) String() string { return a.Domain + `\` + a.Name }

// password is what the NTLM server asks.
func (s *Certsrv) password(domain, user string) (account, password string, ok bool) {
	a, ok := s.lookup(domain, user)
	return a.String(), a.Password, ok
}

// refusal is a 401.
type refusal struct {
	substatus int
	win32     uint32
	// kernel says that http.sys answers, in the middle of a login; otherwise
	// IIS does.
	kernel bool
	// offer are the WWW-Authenticate lines.
	offer []string
}

// plain is the 401 of IIS that offers its schemes.
func (s *Certsrv) plain(substatus int, win32 uint32) *refusal {
	r := &refusal{substatus: substatus, win32: win32}
	for _, scheme := range s.conf.Schemes {
		switch scheme {
		case SchemeKerberos:
			r.offer = append(r.offer, "Negotiate")
		case SchemeBasic:
			r.offer = append(r.offer, `Basic realm="`+s.conf.Hostnames[0]+`"`)
		default:
			r.offer = append(r.offer, string(scheme))
		}
	}
	return r
}

// authenticate finds out who asks. It returns nil if the request may go on; then
// x.user is set unless everybody is welcome.
func (s *Certsrv) authenticate(x *exchange) *refusal {
	if s.conf.TrustFront {
		x.user = x.r.Header.Get("X-Remote-User")
		if x.user == "" {
			return s.plain(2, win32AccessDenied)
		}
		return nil
	}
	scheme, token, _ := strings.Cut(x.r.Header.Get("Authorization"), " ")
	switch {
	case scheme == "" && x.conn.user != "":
		x.user = x.conn.user
		return nil
	case scheme == "" && s.conf.AnonymousAllowed:
		return nil
	case scheme == "":
		return s.plain(2, win32AccessDenied)
	case strings.EqualFold(scheme, "Basic") && s.offers(SchemeBasic):
		return s.basic(x)
	case strings.EqualFold(scheme, "NTLM") && s.offers(SchemeNTLM):
		return s.negotiate(x, "NTLM", token)
	case strings.EqualFold(scheme, "Negotiate") && s.offers(SchemeNegotiate):
		return s.negotiate(x, "Negotiate", token)
	default:
		// A scheme that is not offered, or Negotiate where only Kerberos is.
		x.conn.user, x.conn.pending = "", nil
		return s.plain(1, win32InvalidToken)
	}
}

func (s *Certsrv) offers(scheme Scheme) bool { return slices.Contains(s.conf.Schemes, scheme) }

func (s *Certsrv) basic(x *exchange) *refusal {
	name, password, ok := x.r.BasicAuth()
	if !ok {
		return s.plain(1, win32InvalidToken)
	}
	domain, user, found := strings.Cut(name, `\`)
	if !found {
		domain, user = "", name
	}
	a, ok := s.lookup(domain, user)
	if !ok || a.Password != password {
		s.failedLogon(a, ok)
		return s.plain(1, win32LogonDenied)
	}
	if s.locked(a.String()) {
		return s.plain(1, win32LockedOut)
	}
	s.goodLogon(a.String(), false)
	x.user = a.String()
	return nil
}

// negotiate goes one leg further in a login. What was known of the connection
// is forgotten first: a challenge is good for one answer, and a new login
// replaces the old.
func (s *Certsrv) negotiate(x *exchange, scheme, token string) *refusal {
	c := x.conn
	pending, wrapper := c.pending, c.spnego
	c.user, c.pending, c.spnego = "", nil, nil
	msg, err := base64.StdEncoding.DecodeString(strings.TrimSpace(token))
	if err != nil {
		return s.plain(1, win32InvalidToken)
	}
	if scheme == "Negotiate" && ntlm.IsSPNEGO(msg) {
		if wrapper == nil {
			wrapper = &ntlm.SPNEGO{}
		}
		if msg, err = wrapper.Unwrap(msg); err != nil {
			return s.plain(1, win32InvalidToken)
		}
	} else {
		wrapper = nil
	}
	if ntlm.IsNegotiate(msg) {
		return s.challenge(x, scheme, msg, wrapper)
	}
	return s.verify(x, scheme, pending, msg, wrapper)
}

func (s *Certsrv) challenge(x *exchange, scheme string, msg []byte, wrapper *ntlm.SPNEGO) *refusal {
	challenge, pending, err := s.ntlm.Challenge(msg)
	if err != nil {
		return s.plain(1, win32InvalidToken)
	}
	s.accounts.mu.Lock()
	s.accounts.begun++
	s.accounts.mu.Unlock()
	x.conn.pending, x.conn.spnego = pending, wrapper
	if wrapper != nil {
		challenge = wrapper.Wrap(challenge)
	}
	token := base64.StdEncoding.EncodeToString(challenge)
	return &refusal{substatus: 1, win32: win32NoCreds, kernel: true, offer: []string{scheme + " " + token}}
}

func (s *Certsrv) verify(x *exchange, scheme string, pending *ntlm.Pending, msg []byte, wrapper *ntlm.SPNEGO) *refusal {
	var binding []byte
	if _, ok := x.conn.net.(*tls.Conn); ok {
		binding = s.binding
	}
	id, err := s.ntlm.Verify(pending, msg, binding)
	switch {
	case errors.Is(err, ntlm.ErrToken):
		return s.plain(1, win32InvalidToken)
	case err != nil:
		a, ok := s.accountIn(msg)
		s.failedLogon(a, ok)
		if errors.Is(err, ntlm.ErrBinding) {
			return s.plain(1, win32BadBindings)
		}
		return s.plain(1, win32LogonDenied)
	case s.locked(id.Account):
		return s.plain(1, win32LockedOut)
	}
	if wrapper != nil {
		final, err := wrapper.Finish(id)
		if err != nil {
			return s.plain(1, win32InvalidToken)
		}
		x.final = scheme + " " + base64.StdEncoding.EncodeToString(final)
	}
	s.goodLogon(id.Account, true)
	x.conn.user, x.user, x.loggedIn = id.Account, id.Account, true
	x.bound, x.mic = id.Bound, id.MIC
	return nil
}

// accountIn is the account that a refused message claims to be from.
func (s *Certsrv) accountIn(msg []byte) (Account, bool) {
	domain, user, ok := ntlm.Names(msg)
	if !ok {
		return Account{}, false
	}
	return s.lookup(domain, user)
}

func (s *Certsrv) failedLogon(a Account, known bool) {
	s.accounts.mu.Lock()
	defer s.accounts.mu.Unlock()
	s.accounts.failures++
	if known {
		s.accounts.failed[a.String()]++
	}
}

func (s *Certsrv) goodLogon(account string, handshake bool) {
	s.accounts.mu.Lock()
	defer s.accounts.mu.Unlock()
	if handshake {
		s.accounts.done++
	}
	delete(s.accounts.failed, account)
}

func (s *Certsrv) locked(account string) bool {
	s.accounts.mu.Lock()
	defer s.accounts.mu.Unlock()
	return s.accounts.threshold > 0 && s.accounts.failed[account] >= s.accounts.threshold
}

// authenticateHeader is written as IIS writes it, not in Go's spelling.
const authenticateHeader = "WWW-Authenticate"

// offerHeader writes a refusal's WWW-Authenticate lines.
func (r *refusal) offerHeader(h http.Header) { h[authenticateHeader] = r.offer }
