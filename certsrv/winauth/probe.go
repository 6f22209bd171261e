package winauth

import (
	"context"
	"errors"
)

// bindWrong binds to no certificate at all: a value that no server accepts
// which looks at bindings.
const bindWrong Binding = 0xff

// Protection is how a server treats the channel binding of a login: the
// outcome of one login each, nil for accepted.
type Protection struct {
	Bound   error // with the configured binding, or to the connection's certificate
	Unbound error // without a binding
	Wrong   error // with a wrong binding
}

// Mode names IIS's setting (extendedProtection tokenChecking): "off",
// "accept" or "required"; "refused" if the binding itself is refused, as it is
// when TLS ends at a device in between; "unknown" if the credentials are
// refused either way, or the server could not be asked.
func (p Protection) Mode() string {
	switch {
	case p.Bound == nil && p.Unbound == nil && p.Wrong == nil:
		return "off"
	case p.Bound == nil && p.Unbound == nil && errors.Is(p.Wrong, ErrRejected):
		return "accept"
	case p.Bound == nil && errors.Is(p.Unbound, ErrRejected):
		return "required"
	case errors.Is(p.Bound, ErrRejected) && p.Unbound == nil:
		return "refused"
	default:
		return "unknown"
	}
}

// errNotTried stands for a login that would tell nothing more.
var errNotTried = errors.New("not tried")

// Probe finds out how the server treats channel bindings, by at most three
// logins on connections of their own. Those that the server refuses are failed
// logons: one with good credentials, two with bad ones, and none in a pause
// after a refused login. The error is that of a probe that could not begin, or
// in which nothing was accepted.
func (p *Pool) Probe(ctx context.Context) (Protection, error) {
	ctx, cancel := context.WithTimeout(ctx, 3*p.cfg.LoginTimeout)
	defer cancel()
	leave, err := p.gate.enter(ctx)
	if err != nil {
		return Protection{errNotTried, errNotTried, errNotTried}, err
	}
	epa := p.cfg.EPA
	if epa.Binding == BindOff {
		epa.Binding = BindAuto
	}
	r := Protection{Bound: p.try1(ctx, epa, epa.Binding), Unbound: errNotTried, Wrong: errNotTried}
	if r.Bound == nil || errors.Is(r.Bound, ErrRejected) {
		r.Unbound = p.try1(ctx, epa, BindOff)
	}
	if r.Bound == nil && r.Unbound == nil {
		r.Wrong = p.try1(ctx, epa, bindWrong)
	}
	if r.Bound != nil && r.Unbound != nil {
		leave(r.Bound)
		return r, r.Bound
	}
	leave(nil)
	return r, nil
}

// try1 makes one login with the given binding and ends the session.
func (p *Pool) try1(ctx context.Context, epa EPA, b Binding) error {
	epa.Binding = b
	s, _, err := p.loginOnce(ctx, epa)
	p.count(err)
	if err == nil {
		p.drop(s)
	}
	return err
}

// explain tries a refused login once more with the other setting of the
// binding, and notes in r what came of it.
func (p *Pool) explain(ctx context.Context, r *RejectedError) {
	other := BindOff
	if r.Binding == BindOff {
		other = BindAuto
	}
	switch err := p.try1(ctx, p.cfg.EPA, other); {
	case err == nil:
		r.Probed, r.BindingRefused = true, true
	case errors.Is(err, ErrRejected):
		r.Probed = true
	}
}
