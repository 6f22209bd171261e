package winauth

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"sync"
	"sync/atomic"
	"time"
)

// Exchange is what a caller asks of one exchange, and learns about it. It
// travels in the request's context: see [WithExchange].
type Exchange struct {
	// Timeout is the time for the wait for a free session, and again from the
	// moment the request is sent until its answer has been read. A login in
	// between has a time of its own. 0 means no limit but the context's.
	Timeout time.Duration

	// LoggedIn says that a login was made for this exchange, LoginFailed that
	// one was to be made and the exchange ended with that.
	LoggedIn, LoginFailed bool
	// Sent says that the request, or a part of it, may have reached the server.
	Sent bool
}

type exchangeKey struct{}

// WithExchange returns a context by which RoundTrip takes x's settings and
// reports in x what it did. x must not be used by two requests at a time.
func WithExchange(ctx context.Context, x *Exchange) context.Context {
	return context.WithValue(ctx, exchangeKey{}, x)
}

// RoundTrip sends req on a session of its own until the answer's body is
// closed, or req's context ends. It logs in if no session is idle. A session
// that the server answers with 401 is replaced once, and req sent again: the
// server has not processed it. Nothing else is ever sent twice.
func (p *Pool) RoundTrip(req *http.Request) (*http.Response, error) {
	x, _ := req.Context().Value(exchangeKey{}).(*Exchange)
	if x == nil {
		x = new(Exchange)
	}
	resp, err := p.roundTrip(req, x)
	if err != nil && req.Body != nil {
		_ = req.Body.Close()
	}
	return resp, err
}

func (p *Pool) roundTrip(req *http.Request, x *Exchange) (*http.Response, error) {
	if err := p.own(req.URL); err != nil {
		return nil, err
	}
	ctx := req.Context()
	release, err := p.acquire(ctx, x.Timeout)
	if err != nil {
		return nil, err
	}
	resp, err := p.send(ctx, req, x, release)
	if err != nil {
		release()
		return nil, p.orClosed(err)
	}
	return resp, nil
}

// own refuses what does not go to the pool's host.
func (p *Pool) own(u *url.URL) error {
	if u == nil || u.Scheme != "https" || hostPort(u) != p.host {
		return fmt.Errorf("%w: the pool is for %s, the request for %s", ErrWrongHost, p.host, redacted(u))
	}
	return nil
}

func redacted(u *url.URL) string {
	if u == nil {
		return "no URL"
	}
	return u.Redacted()
}

// send finds a session and sends req on it. Idle sessions that turn out to be
// gone cost nothing: nothing was sent on them.
func (p *Pool) send(ctx context.Context, req *http.Request, x *Exchange, release func()) (*http.Response, error) {
	body := body{req: req}
	for {
		s := p.pop()
		warm := s != nil
		if !warm {
			var err error
			if s, _, err = p.login(ctx); err != nil {
				x.LoginFailed = true
				return nil, err
			}
			x.LoggedIn = true
		}
		resp, err := p.try(ctx, req, &body, s, x, release)
		switch {
		case err == nil && resp.StatusCode == http.StatusUnauthorized && warm && body.canRepeat():
			// The login on this connection is lost. The others' may be as well,
			// but each finds out for itself.
			resp.Body.(*lent).abandon()
			return p.resend(ctx, req, &body, x, release)
		case errors.Is(err, errSessionOver) && warm && body.canRepeat():
			continue
		}
		return resp, err
	}
}

// resend sends req once more, on a new session.
func (p *Pool) resend(ctx context.Context, req *http.Request, b *body, x *Exchange, release func()) (*http.Response, error) {
	x.Sent = false // the server said 401 and has processed nothing
	s, _, err := p.login(ctx)
	if err != nil {
		x.LoginFailed = true
		return nil, err
	}
	x.LoggedIn = true
	return p.try(ctx, req, b, s, x, release)
}

// try sends req on s. If it fails s is gone; if not, the answer's body gives s
// back to the pool and its place to release.
func (p *Pool) try(ctx context.Context, req *http.Request, b *body, s *session, x *Exchange, release func()) (*http.Response, error) {
	start := p.cfg.Now()
	ctx, cancel := p.bound(ctx, x.Timeout)
	out := req.Clone(ctx)
	out.Header.Del("Authorization")
	var err error
	if out.Body, err = b.next(); err != nil {
		cancel()
		p.drop(s)
		return nil, err
	}
	p.requests.Add(1)
	resp, err := s.tr.RoundTrip(out)
	if err == nil && ctx.Err() != nil {
		_ = resp.Body.Close() // the server answered because it was being cut off
		err = ctx.Err()
	}
	if err != nil {
		defer cancel()
		p.drop(s)
		if errors.Is(err, errSessionOver) {
			p.requests.Add(-1)
			return nil, err
		}
		x.Sent = true
		return nil, &PhaseError{Phase: PhaseFirstByte, Sent: true, Elapsed: p.cfg.Now().Sub(start), Err: orContext(ctx, err)}
	}
	x.Sent = true
	l := &lent{ReadCloser: resp.Body, pool: p, s: s, ctx: ctx, cancel: cancel, start: start, release: release}
	l.lost = resp.StatusCode == http.StatusUnauthorized
	l.whole.Store(resp.Body == http.NoBody)
	l.stop = context.AfterFunc(ctx, l.end)
	resp.Body, resp.Request = l, req
	return resp, nil
}

// bound returns a context that ends when the time for an exchange is over, or
// the pool is closed.
func (p *Pool) bound(ctx context.Context, timeout time.Duration) (context.Context, func()) {
	ctx, cancel := context.WithCancel(ctx)
	stop := context.AfterFunc(p.life, cancel)
	end := func() { stop(); cancel() }
	if timeout <= 0 {
		return ctx, end
	}
	ctx, cancelTimeout := context.WithTimeout(ctx, timeout)
	return ctx, func() { cancelTimeout(); end() }
}

// body hands out a request's body, at first the one it came with.
type body struct {
	req  *http.Request
	used bool
}

// canRepeat says whether the body can be had again.
func (b *body) canRepeat() bool {
	return b.req.Body == nil || b.req.Body == http.NoBody || b.req.GetBody != nil
}

func (b *body) next() (io.ReadCloser, error) {
	if !b.used || b.req.Body == nil || b.req.Body == http.NoBody {
		b.used = true
		return b.req.Body, nil
	}
	return b.req.GetBody()
}

// lent is the body of an answer, and with it the session that the answer comes
// on. It gives the session back when it is closed or its context ends.
type lent struct {
	io.ReadCloser
	pool    *Pool
	s       *session
	ctx     context.Context // the lease is bound to it
	cancel  func()
	stop    func() bool
	release func()
	start   time.Time
	lost    bool // the server does not know the login any more
	n       atomic.Int64
	whole   atomic.Bool // the body has been read to its end
	once    sync.Once
}

// Read reads from the body. Its errors are PhaseErrors.
func (l *lent) Read(b []byte) (int, error) {
	n, err := l.ReadCloser.Read(b)
	l.n.Add(int64(n))
	if errors.Is(err, io.EOF) && l.ctx.Err() != nil {
		// The server may have ended its answer because the connection was
		// being closed: not a whole one then.
		err = l.ctx.Err()
	}
	switch {
	case errors.Is(err, io.EOF):
		l.whole.Store(true)
	case err != nil:
		err = l.pool.orClosed(&PhaseError{
			Phase: PhaseBody, Sent: true, Received: l.n.Load(),
			Elapsed: l.pool.cfg.Now().Sub(l.start), Err: orContext(l.ctx, err),
		})
	}
	return n, err
}

// Close ends the lease. A session whose answer was not read to its end cannot
// be used again.
func (l *lent) Close() error {
	l.stop()
	l.end()
	return nil
}

// abandon ends the lease and the session, but keeps the place in the pool.
func (l *lent) abandon() {
	l.stop()
	l.once.Do(func() {
		_ = l.ReadCloser.Close()
		l.pool.drop(l.s)
		l.cancel()
	})
}

func (l *lent) end() {
	l.once.Do(func() {
		_ = l.ReadCloser.Close()
		if l.whole.Load() && !l.lost {
			l.pool.push(l.s)
		} else {
			l.pool.drop(l.s)
		}
		l.cancel()
		l.release()
	})
}
