package winauth

import (
	"context"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// errSessionOver is what a session's transport gets when it asks for a second
// connection: the first one, which carries the login, is gone, and what was to
// be sent has not been sent (net/http asks again only then, or when the
// request may be repeated).
var errSessionOver = fmt.Errorf("%w: nothing was sent", ErrConnectionClosed)

// maxLegBody limits the body of an answer to a login's leg.
const maxLegBody = 64 << 10

// session is one TCP connection and the login on it. NTLM authenticates the
// connection (MS-NTHT), so a session has a transport of its own, which is
// given that connection and never another. One request uses it at a time.
type session struct {
	conn  *tls.Conn
	tr    *http.Transport
	given atomic.Bool // conn has been handed to tr
	timer *time.Timer // closes the session when it is idle too long
	once  sync.Once
}

// open connects to the pool's host. Its errors are PhaseErrors.
func (p *Pool) open(ctx context.Context) (*session, error) {
	start := p.cfg.Now()
	fail := func(ph Phase, err error) error {
		return &PhaseError{Phase: ph, Elapsed: p.cfg.Now().Sub(start), Err: orContext(ctx, err)}
	}
	var resolving atomic.Bool
	traced := httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		DNSStart: func(httptrace.DNSStartInfo) { resolving.Store(true) },
		DNSDone:  func(httptrace.DNSDoneInfo) { resolving.Store(false) },
	})
	raw, err := p.cfg.DialContext(traced, "tcp", p.host)
	if err != nil {
		var dns *net.DNSError
		if resolving.Load() || errors.As(err, &dns) {
			return nil, fail(PhaseDNS, err)
		}
		return nil, fail(PhaseConnect, err)
	}
	conn := tls.Client(raw, p.tls)
	if err := conn.HandshakeContext(ctx); err != nil {
		_ = raw.Close()
		return nil, fail(PhaseTLS, err)
	}
	s := &session{conn: conn}
	http1 := new(http.Protocols)
	http1.SetHTTP1(true)
	s.tr = &http.Transport{
		DialTLSContext:         s.dial,
		Protocols:              http1,
		MaxConnsPerHost:        1,
		MaxIdleConnsPerHost:    1,
		DisableCompression:     true,
		MaxResponseHeaderBytes: maxLegBody,
	}
	return s, nil
}

// dial gives the session's connection to its transport, once.
func (s *session) dial(context.Context, string, string) (net.Conn, error) {
	if s.given.Swap(true) {
		return nil, errSessionOver
	}
	return s.conn, nil
}

// close ends the session. It may be called more than once. TLS's farewell is
// left out: it could wait for a server that does not read, and it tells a
// server to finish an answer that nobody wants.
func (s *session) close() {
	s.once.Do(func() {
		_ = s.conn.NetConn().Close()
		s.tr.CloseIdleConnections()
	})
}

// handshake performs both legs on s.
func (p *Pool) handshake(ctx context.Context, s *session, epa EPA) (Login, error) {
	x := extra{mic: !epa.NoMIC}
	if epa.Binding != BindOff {
		cert := s.conn.ConnectionState().PeerCertificates[0]
		if epa.Binding == BindCertificate {
			cert = epa.Certificate
		}
		cb, err := channelBinding(cert)
		if err != nil {
			return Login{}, &LegError{LegAuthenticate, err}
		}
		if epa.Binding == bindWrong {
			cb[0] ^= 0xff
		}
		x.binding, x.spn = cb, "HTTP/"+p.url.Hostname()
	}
	neg, err := negotiateMessage()
	if err != nil {
		return Login{}, &LegError{LegNegotiate, err}
	}
	scheme, challenge, err := p.negotiate(ctx, s, neg)
	if err != nil {
		return Login{}, &LegError{LegNegotiate, err}
	}
	auth, mic, err := authenticateMessage(neg, challenge, p.cfg.Credential, x)
	if err != nil {
		return Login{}, &LegError{LegAuthenticate, err}
	}
	a, err := p.leg(ctx, s, scheme, auth)
	switch {
	case err != nil:
		return Login{}, &LegError{LegAuthenticate, err}
	case a.status == http.StatusUnauthorized:
		return Login{}, &LegError{LegAuthenticate, &RejectedError{
			Username: p.cfg.Credential.Username, Offered: a.schemes(), Binding: epa.Binding, MIC: mic,
		}}
	case a.status >= http.StatusInternalServerError:
		return Login{}, &LegError{LegAuthenticate, &StatusError{a.status, a.server}}
	}
	return Login{Status: a.status, Length: a.length}, nil
}

// negotiate sends the NEGOTIATE message and returns the challenge, and the
// scheme that it came by. A server with the Negotiate provider alone takes raw
// NTLM under that name.
func (p *Pool) negotiate(ctx context.Context, s *session, neg []byte) (scheme string, challenge []byte, err error) {
	scheme, _ = p.scheme.Load().(string)
	if scheme == "" {
		scheme = "NTLM"
	}
	a, err := p.leg(ctx, s, scheme, neg)
	if err != nil {
		return "", nil, err
	}
	token := a.token(scheme)
	if token == "" && a.status == http.StatusUnauthorized && !a.offers(scheme) {
		other := "Negotiate"
		if scheme == other {
			other = "NTLM"
		}
		if !a.offers(other) {
			return "", nil, &OfferedError{a.schemes()}
		}
		scheme = other
		if a, err = p.leg(ctx, s, scheme, neg); err != nil {
			return "", nil, err
		}
		token = a.token(scheme)
	}
	switch {
	case a.status >= http.StatusInternalServerError:
		return "", nil, &StatusError{a.status, a.server}
	case a.status != http.StatusUnauthorized:
		return "", nil, fmt.Errorf("%w: status %d instead of 401", ErrNotChallenged, a.status)
	case token == "" && scheme == "Negotiate":
		// Negotiate:Kerberos does not take NTLM under the name of Negotiate.
		return "", nil, &OfferedError{a.schemes()}
	case token == "":
		return "", nil, errors.New("the server offers NTLM, but answers the NEGOTIATE message without a challenge")
	}
	challenge, err = base64.StdEncoding.DecodeString(token)
	if err != nil {
		return "", nil, fmt.Errorf("the challenge is not base64: %w", err)
	}
	p.scheme.Store(scheme)
	return scheme, challenge, nil
}

// answer is what a leg came back with.
type answer struct {
	status int
	server string
	offer  []string // the values of WWW-Authenticate
	length int64    // of the body
}

// leg sends one message on a GET without a body.
func (p *Pool) leg(ctx context.Context, s *session, scheme string, msg []byte) (answer, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, p.url.String(), nil)
	if err != nil {
		return answer{}, err
	}
	req.Header.Set("Authorization", scheme+" "+base64.StdEncoding.EncodeToString(msg))
	if p.cfg.UserAgent != "" {
		req.Header.Set("User-Agent", p.cfg.UserAgent)
	}
	return p.exchange(req, s)
}

// exchange sends req on s and reads the whole answer.
func (p *Pool) exchange(req *http.Request, s *session) (answer, error) {
	ctx, start := req.Context(), p.cfg.Now()
	resp, err := s.tr.RoundTrip(req)
	if errors.Is(err, errSessionOver) {
		return answer{}, err
	}
	if err == nil && ctx.Err() != nil {
		_ = resp.Body.Close() // the server answered because it was being cut off
		err = ctx.Err()
	}
	if err != nil {
		return answer{}, &PhaseError{Phase: PhaseFirstByte, Sent: true, Elapsed: p.cfg.Now().Sub(start), Err: orContext(ctx, err)}
	}
	defer resp.Body.Close()
	n, err := io.Copy(io.Discard, io.LimitReader(resp.Body, maxLegBody+1))
	if err == nil {
		err = ctx.Err()
	}
	if err == nil && n > maxLegBody {
		err = fmt.Errorf("it is larger than %d bytes", maxLegBody)
	}
	if err != nil {
		return answer{}, &PhaseError{Phase: PhaseBody, Sent: true, Received: n, Elapsed: p.cfg.Now().Sub(start), Err: orContext(ctx, err)}
	}
	return answer{
		status: resp.StatusCode, server: resp.Header.Get("Server"),
		offer: resp.Header.Values("WWW-Authenticate"), length: n,
	}, nil
}

// orContext returns why ctx ended, if it did: net/http and net hide it in
// errors of their own.
func orContext(ctx context.Context, err error) error {
	if cause := ctx.Err(); cause != nil && !errors.Is(err, cause) {
		return fmt.Errorf("%w (%w)", cause, err)
	}
	return err
}

// token returns the token that the server sent under scheme, "" for none.
func (a answer) token(scheme string) string {
	for _, v := range a.offer {
		name, token, _ := strings.Cut(strings.TrimSpace(v), " ")
		if strings.EqualFold(name, scheme) {
			if token = strings.TrimSpace(token); token != "" {
				return token
			}
		}
	}
	return ""
}

// offers says whether the server offers scheme.
func (a answer) offers(scheme string) bool {
	return slices.ContainsFunc(a.schemes(), func(s string) bool { return strings.EqualFold(s, scheme) })
}

// schemes lists the names of what the server offers, each once. A header may
// hold several, separated by commas; what has a "=" before its first blank is
// a parameter of the one before.
func (a answer) schemes() []string {
	var names []string
	for _, v := range a.offer {
		for part := range strings.SplitSeq(v, ",") {
			name, _, _ := strings.Cut(strings.TrimSpace(part), " ")
			if name != "" && !strings.Contains(name, "=") && !slices.Contains(names, name) {
				names = append(names, name)
			}
		}
	}
	return names
}
