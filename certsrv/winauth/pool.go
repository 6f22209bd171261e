// Package winauth keeps HTTP/1.1 sessions that are logged in to a web server
// by Windows authentication: NTLM, with Extended Protection.
//
// NTLM authenticates a TCP connection and not a request. A pool therefore owns
// its connections: the login is made on a GET without a body, both legs on the
// same connection, and the session is lent to one request at a time until the
// body of its answer is closed. A request of its own never carries a password,
// and its body is sent once.
//
// A pool is for one target, one credential and one TLS configuration. When
// one of them changes, close it and make another.
//
// The NTLM messages are made by github.com/Azure/go-ntlmssp; the channel
// binding, the target name and the message integrity code are put into them
// here.
package winauth

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"sync"
	"sync/atomic"
	"time"

	"github.com/onlineca/onlineca/internal/neterr"
)

// Pool is a set of sessions. It is an [http.RoundTripper] for requests to its
// own host, and safe for concurrent use.
//
// Errors are the types of this package, wrapped by nothing: a [PhaseError]
// says how far an exchange got, a [LegError] that it was the login that failed.
type Pool struct {
	cfg    Config
	url    *url.URL
	host   string // with port
	tls    *tls.Config
	scheme atomic.Value // string: the scheme that the last login used
	gate   gate
	slots  chan struct{}   // one for each session that is lent
	life   context.Context // ends when the pool is closed
	end    context.CancelFunc

	mu     sync.Mutex
	idle   []*session
	all    map[*session]struct{}
	closed bool
	proven bool      // a login has succeeded once
	outage time.Time // when the server went out of reach, zero while it is in

	handshakes, requests, rejected atomic.Int64
}

// Stats counts what a pool has done and what it has.
type Stats struct {
	Handshakes int64 // logins that succeeded
	Rejected   int64 // logins that the server refused
	Requests   int64 // requests sent on a session, logins not counted
	Open       int   // sessions there are
	Idle       int   // sessions that are not lent
}

// NewPool returns a pool that logs in when it is first used.
func NewPool(cfg Config) (*Pool, error) {
	cfg = cfg.withDefaults()
	u, host, err := cfg.target()
	if err != nil {
		return nil, err
	}
	t := &tls.Config{MinVersion: tls.VersionTLS12}
	if cfg.TLS != nil {
		t = cfg.TLS.Clone()
	}
	t.NextProtos = []string{"http/1.1"} // Windows authentication does not work over HTTP/2
	if t.ServerName == "" {
		t.ServerName = u.Hostname()
	}
	life, end := context.WithCancel(context.Background())
	return &Pool{
		cfg: cfg, url: u, host: host, tls: t,
		gate:  gate{now: cfg.Now, pause: cfg.LoginPause},
		slots: make(chan struct{}, cfg.Sessions),
		life:  life, end: end,
		all: make(map[*session]struct{}),
	}, nil
}

// Stats returns the pool's counts.
func (p *Pool) Stats() Stats {
	p.mu.Lock()
	defer p.mu.Unlock()
	return Stats{
		Handshakes: p.handshakes.Load(), Rejected: p.rejected.Load(), Requests: p.requests.Load(),
		Open: len(p.all), Idle: len(p.idle),
	}
}

// Close ends all sessions, those that are lent as well, and wakes whoever
// waits for one. It may be called more than once.
func (p *Pool) Close() {
	p.mu.Lock()
	if p.closed {
		p.mu.Unlock()
		return
	}
	p.closed = true
	p.end()
	all := p.all
	p.all, p.idle = nil, nil
	p.mu.Unlock()
	for s := range all {
		if s.timer != nil {
			s.timer.Stop()
		}
		s.close()
	}
}

// acquire takes one of the pool's places. release must be called, and may be
// called again.
func (p *Pool) acquire(ctx context.Context, timeout time.Duration) (release func(), err error) {
	start := p.cfg.Now()
	if timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, timeout)
		defer cancel()
	}
	if p.life.Err() != nil {
		return nil, ErrClosed
	}
	select {
	case p.slots <- struct{}{}:
		return sync.OnceFunc(func() { <-p.slots }), nil
	case <-p.life.Done():
		return nil, ErrClosed
	case <-ctx.Done():
		return nil, &PhaseError{Phase: PhaseQueue, Elapsed: p.cfg.Now().Sub(start), Err: ctx.Err()}
	}
}

// pop takes the session that was used last and is still connected, nil if
// none is.
func (p *Pool) pop() *session {
	for {
		p.mu.Lock()
		n := len(p.idle)
		if n == 0 {
			p.mu.Unlock()
			return nil
		}
		s := p.idle[n-1]
		p.idle = p.idle[:n-1]
		s.timer.Stop()
		p.mu.Unlock()
		if alive(s.conn.NetConn()) {
			return s
		}
		p.drop(s)
	}
}

// push makes s idle.
func (p *Pool) push(s *session) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return // Close has closed it
	}
	p.idle = append(p.idle, s)
	s.timer = time.AfterFunc(p.cfg.IdleTimeout, func() { p.expire(s) })
}

// expire drops s if it is still idle.
func (p *Pool) expire(s *session) {
	p.mu.Lock()
	for i, other := range p.idle {
		if other == s {
			p.idle = append(p.idle[:i], p.idle[i+1:]...)
			p.mu.Unlock()
			p.drop(s)
			return
		}
	}
	p.mu.Unlock()
}

// keep counts s among the pool's sessions.
func (p *Pool) keep(s *session) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		s.close()
		return ErrClosed
	}
	p.all[s] = struct{}{}
	return nil
}

// drop ends s.
func (p *Pool) drop(s *session) {
	p.mu.Lock()
	delete(p.all, s)
	p.mu.Unlock()
	s.close()
}

// Login is what a login came to.
type Login struct {
	Status int   // of the login page: 301 or 200
	Length int64 // of its body, in bytes
	Reused bool  // a session was there already, and the page was asked for on it
}

// Login makes sure that the credentials work: it asks for the login page on an
// idle session, and logs in if there is none.
func (p *Pool) Login(ctx context.Context) (Login, error) {
	release, err := p.acquire(ctx, p.cfg.LoginTimeout)
	if err != nil {
		return Login{}, err
	}
	defer release()
	for s := p.pop(); s != nil; s = p.pop() {
		l, err := p.ask(ctx, s)
		if err == nil && l.Status != http.StatusUnauthorized {
			p.push(s)
			return l, nil
		}
		p.drop(s)
		if err != nil && !errors.Is(err, ErrConnectionClosed) {
			return Login{}, err
		}
	}
	s, l, err := p.login(ctx)
	if err != nil {
		return Login{}, err
	}
	p.push(s)
	return l, nil
}

// ask asks for the login page on a session that is logged in.
func (p *Pool) ask(ctx context.Context, s *session) (Login, error) {
	ctx, cancel := context.WithTimeout(ctx, p.cfg.LoginTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, p.url.String(), nil)
	if err != nil {
		return Login{}, err
	}
	if p.cfg.UserAgent != "" {
		req.Header.Set("User-Agent", p.cfg.UserAgent)
	}
	p.requests.Add(1)
	a, err := p.exchange(req, s)
	if err == nil && a.status >= http.StatusInternalServerError {
		err = &StatusError{a.status, a.server}
	}
	return Login{Status: a.status, Length: a.length, Reused: true}, err
}

// login returns a new session that is logged in.
func (p *Pool) login(ctx context.Context) (*session, Login, error) {
	start := p.cfg.Now()
	ctx, cancel := context.WithTimeout(ctx, p.cfg.LoginTimeout)
	defer cancel()
	defer context.AfterFunc(p.life, cancel)()

	leave, err := p.gate.enter(ctx)
	if err != nil {
		if ctx.Err() != nil && errors.Is(err, ctx.Err()) {
			err = &PhaseError{Phase: PhaseLogin, Elapsed: p.cfg.Now().Sub(start), Err: err}
		}
		return nil, Login{}, p.orClosed(err)
	}
	s, l, err := p.persevere(ctx)
	leave(err)
	if err != nil {
		if ph := (*PhaseError)(nil); errors.As(err, &ph) {
			ph.Elapsed = p.cfg.Now().Sub(start) // of the whole login: that is what was timed
		}
		return nil, Login{}, p.orClosed(err)
	}
	return s, l, nil
}

// orClosed returns ErrClosed if the pool has been closed, else err.
func (p *Pool) orClosed(err error) error {
	if p.life.Err() != nil {
		return fmt.Errorf("%w (%w)", ErrClosed, err)
	}
	return err
}

// persevere logs in, and again while the server is out of reach and the
// outage is young (see Config.Reconnect). A connection that is gone between the
// legs is replaced once in any case: no credentials were sent on it, so that
// it counts towards no lockout. The server need not be to blame: net/http gives
// a connection up when it learns of its own write 50 ms after the answer, as
// happens on a machine under load.
func (p *Pool) persevere(ctx context.Context) (*session, Login, error) {
	const longest = 500 * time.Millisecond
	replaced := false
	for pause := 20 * time.Millisecond; ; pause = min(2*pause, longest) {
		s, l, err := p.loginOnce(ctx, p.cfg.EPA)
		if !replaced && errors.Is(err, errSessionOver) {
			replaced = true
			s, l, err = p.loginOnce(ctx, p.cfg.EPA)
		}
		p.count(err)
		if err == nil {
			return s, l, nil
		}
		if rejected := (*RejectedError)(nil); errors.As(err, &rejected) && p.cfg.EPA.Probe {
			p.explain(ctx, rejected)
		}
		if !outOfReach(err) || !p.outageIsYoung() {
			return nil, Login{}, err
		}
		t := time.NewTimer(pause)
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
			return nil, Login{}, err
		}
	}
}

// count keeps the books of logins.
func (p *Pool) count(err error) {
	if err == nil {
		p.handshakes.Add(1)
		p.mu.Lock()
		p.proven, p.outage = true, time.Time{}
		p.mu.Unlock()
	} else if errors.Is(err, ErrRejected) {
		p.rejected.Add(1)
	}
}

// loginOnce opens a connection and logs in on it.
func (p *Pool) loginOnce(ctx context.Context, epa EPA) (*session, Login, error) {
	s, err := p.open(ctx)
	if err != nil {
		return nil, Login{}, err
	}
	l, err := p.handshake(ctx, s, epa)
	if err != nil {
		s.close()
		return nil, Login{}, err
	}
	if err := p.keep(s); err != nil {
		return nil, Login{}, err
	}
	return s, l, nil
}

// outageIsYoung says whether a server that was in reach before may be waited
// for, and notes when it went out of reach.
func (p *Pool) outageIsYoung() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.proven || p.cfg.Reconnect <= 0 {
		return false
	}
	now := p.cfg.Now()
	if p.outage.IsZero() {
		p.outage = now
	}
	return now.Before(p.outage.Add(p.cfg.Reconnect))
}

// outOfReach says whether err is that of a server which is down for a moment:
// it refuses connections or cuts them before the login is done.
func outOfReach(err error) bool {
	if isTimeout(err) {
		return false
	}
	if neterr.Refused(err) || neterr.Cut(err) {
		return true
	}
	for _, e := range []error{io.EOF, io.ErrUnexpectedEOF, net.ErrClosed, ErrConnectionClosed} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}
