package ra

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/onlineca/onlineca/ra/event"
	"github.com/onlineca/onlineca/ra/fault"
)

// Attempts is an [Authenticator] that stops guessing: after so many refusals
// for one account, or for one client address, nothing is asked for a while.
//
// In front of a Windows domain it keeps the domain's own lockout from
// happening: the account is tried less often than the domain would bear, one
// attempt at a time. Each attempt is entered into the [Ledger] before it is
// made, and taken out only when it is known not to have been refused, so that
// neither a crash nor processes that try at the same moment exceed the limit.
//
// Credentials that this process has seen to be good may be tried one more time
// than others, so that a stranger's guessing does not shut the owner out. If
// they have become wrong meanwhile, Active Directory does not count that: it
// compares with the account's last two passwords first (password history check,
// "N-2").
type Attempts struct {
	next Authenticator
	cfg  AttemptsConfig
	key  [32]byte

	mu       sync.Mutex
	accounts map[string]*attempts
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
	// Max is how many refusals are kept, and how many accounts watched, at
	// once. 0 means 10000. When there are so many, strangers are refused unasked.
	Max int
	// Lease is how long an attempt can take; afterwards it counts as refused.
	// 0 means two minutes.
	Lease time.Duration

	// Local says that next asks nobody else, as a list of users does: an attempt
	// that was cut short has then told nobody anything, and counts as none.
	Local bool
	// Own are credentials that are configured here and no guess: they are not
	// counted. None by default.
	Own Credentials
	// Scope names what the accounts belong to, in a ledger with others.
	Scope string
	// Ledger keeps the count. nil means the memory of this process: a restart
	// forgets it.
	Ledger Ledger
	// Log may be nil.
	Log *zap.Logger
}

// attempts is what is known of an account.
type attempts struct {
	turn    chan struct{} // holds a token while nobody is being verified
	waiting int
	good    credentialHash // last verified, zero for none
}

// NewAttempts returns next with a limit.
func NewAttempts(next Authenticator, cfg AttemptsConfig) *Attempts {
	for _, n := range []struct {
		value *int
		is    int
	}{{&cfg.PerAccount, 2}, {&cfg.PerAddr, 20}, {&cfg.Max, 10000}} {
		if *n.value <= 0 {
			*n.value = n.is
		}
	}
	if cfg.Window <= 0 {
		cfg.Window = 30 * time.Minute
	}
	if cfg.Lease <= 0 {
		cfg.Lease = 2 * time.Minute
	}
	if cfg.Ledger == nil {
		cfg.Ledger = newMemoryLedger()
	}
	if cfg.Log == nil {
		cfg.Log = zap.NewNop()
	}
	a := &Attempts{next: next, cfg: cfg, accounts: map[string]*attempts{}}
	randomKey(a.key[:])
	return a
}

// Authenticate asks the next Authenticator, if that is allowed. The refusal is
// a fault.LoginSuspended otherwise. The client's address is that of
// event.ConnOf(ctx).
func (a *Attempts) Authenticate(ctx context.Context, c Credentials) error {
	if a.own(c) {
		return a.next.Authenticate(ctx, c)
	}
	op := "verify the credentials of " + c.Username
	account := accountName(c.Username)
	acct := a.enter(account)
	if acct == nil {
		return fault.Newf(fault.LoginSuspended, op, "%d accounts are watched already; try again later", a.cfg.Max)
	}
	defer a.leave(account, acct)
	select {
	case <-acct.turn:
		defer func() { acct.turn <- struct{}{} }()
	case <-ctx.Done():
		return fault.New(fault.Canceled, op, ctx.Err())
	}
	attempt := Attempt{
		Scope: a.cfg.Scope, Account: account, Addr: event.ConnOf(ctx).Client,
		Window: a.cfg.Window, Lease: a.cfg.Lease, Local: a.cfg.Local,
	}
	h := hashCredentials(a.key[:], c)
	known := a.known(acct, h)
	id, err := a.reserve(ctx, op, attempt, known)
	if err != nil {
		return err
	}
	err = a.next.Authenticate(ctx, c)
	a.settle(ctx, id, attempt, outcomeOf(err, known))
	a.note(acct, h, err)
	return err
}

// own compares in a time that does not depend on where they differ.
func (a *Attempts) own(c Credentials) bool {
	same := func(a, b string) int {
		x, y := sha256.Sum256([]byte(a)), sha256.Sum256([]byte(b))
		return subtle.ConstantTimeCompare(x[:], y[:])
	}
	own := a.cfg.Own
	return own != Credentials{} && same(c.Username, own.Username)&same(c.Password, own.Password) == 1
}

// enter finds the account's record and announces that it is in use; nil means
// that there is no room for another.
func (a *Attempts) enter(account string) *attempts {
	a.mu.Lock()
	defer a.mu.Unlock()
	acct := a.accounts[account]
	if acct == nil {
		if !a.room() {
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
	if acct.waiting--; acct.waiting == 0 && acct.good == (credentialHash{}) {
		delete(a.accounts, account)
	}
}

// room makes sure that one more record can be taken, dropping those that nobody
// uses at this moment.
func (a *Attempts) room() bool {
	if len(a.accounts) < a.cfg.Max {
		return true
	}
	for name, acct := range a.accounts {
		if acct.waiting == 0 {
			delete(a.accounts, name)
		}
	}
	return len(a.accounts) < a.cfg.Max
}

func (a *Attempts) known(acct *attempts, h credentialHash) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return acct.good == h
}

// elsewhere is how often an attempt of another process is looked at, whose
// outcome decides whether this one may be made.
const elsewhere = 250 * time.Millisecond

// reserve enters an attempt, or says why it may not be made.
func (a *Attempts) reserve(ctx context.Context, op string, attempt Attempt, known bool) (string, error) {
	limit := a.cfg.PerAccount
	if known {
		limit++
	}
	may := func(t Tally) bool {
		return t.Refused+t.Open < limit && (known || t.FromAddr < a.cfg.PerAddr && t.All < a.cfg.Max)
	}
	for {
		id, t, err := a.cfg.Ledger.Reserve(ctx, attempt, time.Now(), may)
		switch {
		case err != nil:
			return "", err
		case id != "":
			return id, nil
		case t.Refused >= limit:
			return "", a.suspended(op, fmt.Sprintf("%d attempts for this account were refused", t.Refused), t.Oldest)
		case !known && t.FromAddr >= a.cfg.PerAddr:
			return "", a.suspended(op, fmt.Sprintf("%d attempts from %s were refused", t.FromAddr, attempt.Addr), t.OldestFromAddr)
		case !known && t.All >= a.cfg.Max:
			return "", fault.Newf(fault.LoginSuspended, op, "%d attempts were refused already; try again later", t.All)
		}
		timer := time.NewTimer(elsewhere)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return "", fault.New(fault.Canceled, op, ctx.Err())
		}
	}
}

func (a *Attempts) suspended(op, why string, oldest time.Time) error {
	until := oldest.Add(a.cfg.Window)
	return &fault.Fault{
		Code: fault.LoginSuspended, Op: op, RetryAfter: time.Until(until),
		Err: fmt.Errorf("%s; the next is allowed at %s", why, until.UTC().Format(time.RFC3339)),
	}
}

// outcomeOf judges an attempt. An upstream that could not be asked says nothing
// about the credentials; one whose answer to them was lost may have refused
// them, unless they are known to be good.
func outcomeOf(err error, known bool) AttemptOutcome {
	switch f := fault.Of(err); {
	case err == nil:
		return AttemptGood
	case errors.Is(err, fault.BadCredentials), errors.Is(err, fault.EPARequired), f.Unjudged && !known:
		return AttemptRefused
	default:
		return AttemptVoid
	}
}

// settleTime bounds the writing of an outcome, which must not depend on the
// client's patience.
const settleTime = 10 * time.Second

// settle writes down what became of an attempt. If that cannot be done, the
// attempt counts as refused after its lease.
func (a *Attempts) settle(ctx context.Context, id string, attempt Attempt, o AttemptOutcome) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), settleTime)
	defer cancel()
	if err := a.cfg.Ledger.Settle(ctx, id, attempt, o); err != nil {
		a.cfg.Log.Warn("the outcome of a login could not be written; it counts as refused", zap.Error(err))
	}
}

// note remembers which credentials of an account are good.
func (a *Attempts) note(acct *attempts, h credentialHash, err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	switch {
	case err == nil:
		acct.good = h
	case acct.good == h && errors.Is(err, fault.BadCredentials):
		acct.good = credentialHash{}
	}
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
