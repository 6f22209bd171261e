package ra

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/onlineca/onlineca/ra/event"
	"github.com/onlineca/onlineca/ra/fault"
)

// Attempts is an [Authenticator] that stops guessing: after so many refusals
// for one account, or for one client address, nothing is asked for a while.
//
// In front of a Windows domain it keeps the domain's own lockout from
// happening: the account is tried less often than the domain would bear, one
// attempt at a time. Credentials that were good before may be tried even then,
// once, so that a stranger's guessing does not shut the owner out.
type Attempts struct {
	next Authenticator
	cfg  AttemptsConfig
	key  [32]byte

	mu       sync.Mutex
	accounts map[string]*attempts
	addrs    map[string]*attempts
}

// AttemptsConfig says how much guessing is borne. The zero value is useful.
type AttemptsConfig struct {
	// PerAccount is how many refusals an account may have within Window.
	// 0 means 2: Windows domains lock an account after five or more, and a
	// user may be known by two names.
	PerAccount int
	// PerAddr is the same for the client's address, whatever the account.
	// 0 means 20.
	PerAddr int
	// Window is how long a refusal counts. 0 means 30 minutes, after which
	// Windows domains forget one by default.
	Window time.Duration
	// Max is how many accounts and addresses are watched at once. 0 means
	// 10000. When so many have refusals, strangers are refused unasked.
	Max int
}

// attempts is what is known of an account or an address.
type attempts struct {
	refused []time.Time
	turn    chan struct{} // holds a token while nobody is being verified
	waiting int
	good    credentialHash // last verified, zero for none
}

// NewAttempts returns next with a limit.
func NewAttempts(next Authenticator, cfg AttemptsConfig) *Attempts {
	if cfg.PerAccount <= 0 {
		cfg.PerAccount = 2
	}
	if cfg.PerAddr <= 0 {
		cfg.PerAddr = 20
	}
	if cfg.Window <= 0 {
		cfg.Window = 30 * time.Minute
	}
	if cfg.Max <= 0 {
		cfg.Max = 10000
	}
	a := &Attempts{next: next, cfg: cfg, accounts: map[string]*attempts{}, addrs: map[string]*attempts{}}
	randomKey(a.key[:])
	return a
}

// Authenticate asks the next Authenticator, if that is allowed. The refusal is
// a fault.LoginSuspended otherwise. The client's address is that of
// event.ConnOf(ctx).
func (a *Attempts) Authenticate(ctx context.Context, c Credentials) error {
	op := "verify the credentials of " + c.Username
	account, addr := accountName(c.Username), event.ConnOf(ctx).Client
	acct := a.enter(account)
	if acct == nil {
		return fault.Newf(fault.LoginSuspended, op, "%d accounts have refused attempts already; try again later", a.cfg.Max)
	}
	defer a.leave(account, acct)
	select {
	case <-acct.turn:
		defer func() { acct.turn <- struct{}{} }()
	case <-ctx.Done():
		return fault.New(fault.Canceled, op, ctx.Err())
	}

	h := hashCredentials(a.key[:], c)
	if err := a.allowed(op, acct, addr, h); err != nil {
		return err
	}
	err := a.next.Authenticate(ctx, c)
	a.note(acct, addr, h, err)
	return err
}

// enter finds the account's record and announces that it is in use; nil means
// that there is no room for another.
func (a *Attempts) enter(account string) *attempts {
	a.mu.Lock()
	defer a.mu.Unlock()
	acct := a.accounts[account]
	if acct == nil {
		if !a.room(a.accounts) {
			return nil
		}
		acct = &attempts{turn: make(chan struct{}, 1)}
		acct.turn <- struct{}{}
		a.accounts[account] = acct
	}
	acct.waiting++
	return acct
}

// leave drops the account's record when there is nothing left to remember.
func (a *Attempts) leave(account string, acct *attempts) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if acct.waiting--; acct.waiting == 0 && len(acct.refused) == 0 && acct.good == (credentialHash{}) {
		delete(a.accounts, account)
	}
}

// room makes sure that m can take one more record, dropping those that have
// nothing to say against anybody.
func (a *Attempts) room(m map[string]*attempts) bool {
	if len(m) < a.cfg.Max {
		return true
	}
	for k, r := range m {
		if a.recent(r) == 0 && r.waiting == 0 {
			delete(m, k)
		}
	}
	return len(m) < a.cfg.Max
}

// recent drops refusals that no longer count and returns how many do.
func (a *Attempts) recent(r *attempts) int {
	since := time.Now().Add(-a.cfg.Window)
	for len(r.refused) > 0 && !r.refused[0].After(since) {
		r.refused = r.refused[1:]
	}
	return len(r.refused)
}

func (a *Attempts) allowed(op string, acct *attempts, addr string, h credentialHash) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if acct.good == h {
		return nil
	}
	if n := a.recent(acct); n >= a.cfg.PerAccount {
		return a.suspended(op, fmt.Sprintf("%d attempts for this account were refused", n), acct)
	}
	if r := a.addrs[addr]; addr != "" && r != nil {
		if n := a.recent(r); n >= a.cfg.PerAddr {
			return a.suspended(op, fmt.Sprintf("%d attempts from %s were refused", n, addr), r)
		}
	}
	return nil
}

func (a *Attempts) suspended(op, why string, r *attempts) error {
	until := r.refused[0].Add(a.cfg.Window)
	return &fault.Fault{
		Code: fault.LoginSuspended, Op: op, RetryAfter: time.Until(until),
		Err: fmt.Errorf("%s; the next is allowed at %s", why, until.UTC().Format(time.RFC3339)),
	}
}

// note records what became of an attempt. Only a refusal counts: an upstream
// that could not be asked says nothing about the credentials.
func (a *Attempts) note(acct *attempts, addr string, h credentialHash, err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if err == nil {
		acct.good, acct.refused = h, nil
		return
	}
	if acct.good == h {
		acct.good = credentialHash{}
	}
	if !errors.Is(err, fault.BadCredentials) {
		return
	}
	now := time.Now()
	acct.refused = append(acct.refused, now)
	if addr == "" {
		return
	}
	r := a.addrs[addr]
	if r == nil {
		if !a.room(a.addrs) {
			return
		}
		r = &attempts{}
		a.addrs[addr] = r
	}
	r.refused = append(r.refused, now)
}

// accountName is the account behind the forms of its name that Windows knows:
// DOMAIN\user, user@domain and user, in any case.
func accountName(user string) string {
	if _, after, ok := strings.Cut(user, `\`); ok {
		user = after
	}
	user, _, _ = strings.Cut(user, "@")
	return strings.ToLower(strings.TrimSpace(user))
}
