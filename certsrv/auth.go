package certsrv

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"strings"
	"sync"
	"time"

	"github.com/onlineca/onlineca/certsrv/winauth"
	"github.com/onlineca/onlineca/ra"
	"github.com/onlineca/onlineca/ra/event"
	"github.com/onlineca/onlineca/ra/fault"
)

// Login logs in with the client's own account, or asks for the login page on a
// session that is there.
func (c *Client) Login(ctx context.Context) error { return c.login(ctx, c.own, false) }

func (c *Client) login(ctx context.Context, s *site, data bool) error {
	k := c.loginCall()
	start := c.cfg.Now()
	l, err := s.pool.Login(ctx)
	if err != nil {
		err = c.fault(k, err, nil)
	} else if data {
		event.Emit(ctx, c.cfg.Logger, event.UpstreamData{Length: int(l.Length)})
	}
	c.report(ctx, k, start, l.Status, l.Reused, err)
	return err
}

// Authenticate logs in to certsrv with cred and looks whether the template is
// offered to that account, as the product does with the credentials of every
// EST client. Credentials that are the client's own use its own sessions;
// others get a connection for this one time.
//
// After certsrv refused an account, that account is not tried for a while
// (Config.LoginPause), whatever the password: fault.LoginSuspended.
func (c *Client) Authenticate(ctx context.Context, cred ra.Credentials) error {
	if cred.Username == "" {
		return fault.Newf(fault.BadCredentials, "certsrv: authenticate a client", "it gave no user name")
	}
	if c.isOwn(cred) {
		return c.authenticate(ctx, c.own)
	}
	leave, err := c.accounts.enter(ctx, cred.Username)
	if err != nil {
		return err
	}
	defer func() { leave(err) }()
	select {
	case c.foreign <- struct{}{}:
		defer func() { <-c.foreign }()
	case <-ctx.Done():
		err = fault.New(fault.Busy, "certsrv: authenticate "+cred.Username, ctx.Err())
		return err
	}
	err = c.authenticateForeign(ctx, cred)
	return err
}

func (c *Client) authenticateForeign(ctx context.Context, cred ra.Credentials) error {
	epa := c.cfg.EPA
	epa.Probe = false // with a wrong password it would count twice towards the lockout
	s, err := c.site(winauth.Credential(cred), 1, epa)
	if err != nil {
		return fault.New(fault.BadCredentials, "certsrv: authenticate "+cred.Username, err)
	}
	defer s.pool.Close()
	return c.authenticate(ctx, s)
}

// authenticate performs the two exchanges on s.
func (c *Client) authenticate(ctx context.Context, s *site) error {
	if err := c.login(ctx, s, true); err != nil {
		return err
	}
	template := c.defaultTemplate()
	if template == "" {
		return nil
	}
	templates, err := c.templates(ctx, s, true)
	if err != nil {
		return err
	}
	if err := offered(templates, template); err != nil {
		if c.cfg.StrictTemplate {
			return err
		}
		if c.cfg.Logger != nil {
			c.cfg.Logger.Warn(err.Error() + "; it may be requested all the same")
		}
	}
	return nil
}

// isOwn compares in a time that does not depend on where they differ.
func (c *Client) isOwn(cred ra.Credentials) bool {
	same := func(a, b string) int {
		x, y := sha256.Sum256([]byte(a)), sha256.Sum256([]byte(b))
		return subtle.ConstantTimeCompare(x[:], y[:])
	}
	return same(cred.Username, c.cfg.Username)&same(cred.Password, c.cfg.Password) == 1
}

// maxAccounts bounds the memory for accounts in a pause.
const maxAccounts = 10_000

// accounts sees to it that credentials which clients present cannot lock an
// account: one login at a time for each, and a pause after a refusal.
type accounts struct {
	now   func() time.Time
	pause time.Duration
	mu    sync.Mutex
	all   map[string]*account
}

type account struct {
	turn  chan struct{} // holds one token while somebody logs in
	users int           // who waits or logs in
	until time.Time     // end of the pause
}

// enter waits for the account's turn. leave takes the outcome.
func (a *accounts) enter(ctx context.Context, name string) (leave func(error), err error) {
	op := "certsrv: authenticate " + name
	acc, forget := a.find(accountKey(name))
	if acc == nil {
		return nil, fault.Newf(fault.Busy, op, "%d accounts were refused a short while ago", maxAccounts)
	}
	select {
	case acc.turn <- struct{}{}:
	case <-ctx.Done():
		forget()
		return nil, fault.New(fault.Busy, op, ctx.Err())
	}
	end := func() { <-acc.turn; forget() }
	a.mu.Lock()
	wait := acc.until.Sub(a.now())
	a.mu.Unlock()
	if wait > 0 {
		end()
		f := fault.Newf(fault.LoginSuspended, op, "the account was refused a short while ago")
		f.RetryAfter = wait
		return nil, f
	}
	return func(err error) {
		if errors.Is(err, fault.BadCredentials) || errors.Is(err, fault.EPARequired) {
			a.mu.Lock()
			acc.until = a.now().Add(a.pause)
			a.mu.Unlock()
		}
		end()
	}, nil
}

// find returns the account of key, nil if there are too many. forget must be
// called when the caller has done with it.
func (a *accounts) find(key string) (acc *account, forget func()) {
	a.mu.Lock()
	defer a.mu.Unlock()
	acc = a.all[key]
	if acc == nil {
		a.sweep()
		if len(a.all) >= maxAccounts {
			return nil, nil
		}
		acc = &account{turn: make(chan struct{}, 1)}
		a.all[key] = acc
	}
	acc.users++
	return acc, func() {
		a.mu.Lock()
		defer a.mu.Unlock()
		if acc.users--; acc.users == 0 && !a.now().Before(acc.until) {
			delete(a.all, key)
		}
	}
}

// sweep forgets accounts whose pause is over. The lock is held.
func (a *accounts) sweep() {
	if len(a.all) < maxAccounts/2 {
		return
	}
	now := a.now()
	for key, acc := range a.all {
		if acc.users == 0 && !now.Before(acc.until) {
			delete(a.all, key)
		}
	}
}

// accountKey makes one key of the forms of a user name, so that nobody gets a
// pause around by writing the name differently.
func accountKey(name string) string {
	if _, user, ok := strings.Cut(name, `\`); ok {
		name = user
	}
	name, _, _ = strings.Cut(name, "@")
	return strings.ToLower(name)
}
