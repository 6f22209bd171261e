package capf

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"strings"
	"sync"
	"time"

	"github.com/onlineca/onlineca/ra/event"
	"github.com/onlineca/onlineca/ra/fault"
)

// estPhase is the part of an exchange that is going on. The number of the
// EST_ERR depends on it.
type estPhase int

const (
	estConnecting estPhase = iota
	estResolving
	estHandshaking
	estSending
	estReading
)

// errPhaseTimeout is the cause of an exchange's end by its own clock.
var errPhaseTimeout = errors.New("timed out")

// estWatch follows an exchange through its phases, and ends it when one of
// them lasts longer than the limit.
type estWatch struct {
	limit, answer time.Duration // of a phase, and of the last one
	timer         *time.Timer

	mu    sync.Mutex
	phase estPhase
	late  bool
	over  bool
}

func newESTWatch(limit, answer time.Duration, end context.CancelCauseFunc) *estWatch {
	w := &estWatch{limit: limit, answer: answer}
	w.timer = time.AfterFunc(limit, func() {
		w.mu.Lock()
		w.late = !w.over
		w.mu.Unlock()
		end(errPhaseTimeout)
	})
	return w
}

// enter starts a phase and its time.
func (w *estWatch) enter(p estPhase) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.over || w.late {
		return
	}
	w.phase = p
	w.timer.Reset(w.of(p))
}

// of is how long a phase may last.
func (w *estWatch) of(p estPhase) time.Duration {
	if p == estReading {
		return w.answer
	}
	return w.limit
}

// stop ends the watch. What the transport does afterwards no longer counts.
func (w *estWatch) stop() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.over = true
	w.timer.Stop()
}

// ended says in which phase the exchange is, or was when its time ran out.
func (w *estWatch) ended() (p estPhase, late bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.phase, w.late
}

// trace returns the hooks that tell the phases apart.
func (w *estWatch) trace() *httptrace.ClientTrace {
	return &httptrace.ClientTrace{
		DNSStart:          func(httptrace.DNSStartInfo) { w.enter(estResolving) },
		DNSDone:           func(httptrace.DNSDoneInfo) { w.enter(estConnecting) },
		TLSHandshakeStart: func() { w.enter(estHandshaking) },
		TLSHandshakeDone: func(_ tls.ConnectionState, err error) {
			if err == nil {
				w.enter(estSending)
			}
		},
		WroteRequest: func(i httptrace.WroteRequestInfo) {
			if i.Err == nil {
				w.enter(estReading)
			}
		},
	}
}

// estExchange is the key of an exchange's context among the values of the
// context that its connection is dialled with.
type estExchange struct{}

// estDial ties a connection to its exchange. The transport dials detached from
// the request, for the benefit of later ones; here there are none, so what is
// still going on when the exchange ends has to end too.
func estDial(dial estDialer) estDialer {
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		exchange, ok := ctx.Value(estExchange{}).(context.Context)
		if !ok {
			return dial(ctx, network, addr)
		}
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		stop := context.AfterFunc(exchange, cancel)
		defer stop()
		conn, err := dial(ctx, network, addr)
		if err != nil {
			return nil, err
		}
		context.AfterFunc(exchange, func() { _ = conn.Close() })
		return conn, nil
	}
}

type estDialer = func(ctx context.Context, network, addr string) (net.Conn, error)

// estReply is an answer that was read whole.
type estReply struct {
	status int
	header http.Header
	length int64 // Content-Length, -1 for none
	body   []byte
}

// ask makes an exchange without credentials, and a second one with them if the
// server challenges the first.
func (c *ESTClient) ask(ctx context.Context, op, method, operation string, body []byte) (*estReply, error) {
	r, err := c.exchange(ctx, op, method, operation, body, false)
	if err != nil || r.status != http.StatusUnauthorized {
		return r, err
	}
	if err := c.challenged(op, r); err != nil {
		return nil, err
	}
	return c.exchange(ctx, op, method, operation, body, true)
}

// challenged decides whether the 401 r can be answered.
func (c *ESTClient) challenged(op string, r *estReply) error {
	refuse := func(code fault.Code, text string) error {
		f := estFault(code, op, &ESTError{RV: fault.ESTAuthFail, Status: r.status, Err: errors.New(text)})
		f.Message = estText(r)
		return f
	}
	challenges := r.header.Values("WWW-Authenticate")
	switch {
	case len(challenges) == 0 && c.cfg.Certificate != nil:
		return refuse(fault.ClientCertificate, "the server asks for no password, so it is the client certificate that it refuses")
	case len(challenges) == 0:
		return refuse(fault.BadCredentials, "the server refuses without asking for a password; it may want a client certificate")
	case !estBasic(challenges, c.cfg.Tolerant):
		return refuse(fault.BadCredentials, "the server asks for another kind of login than Basic, or not first for Basic")
	case c.cfg.Username == "":
		return refuse(fault.BadCredentials, "the server asks for a user name and password, and none is configured")
	}
	return nil
}

// estBasic looks for a Basic challenge. libEST reads the first header only and
// knows one spelling; RFC 9110 section 11.1 allows any.
func estBasic(challenges []string, tolerant bool) bool {
	if !tolerant {
		challenges = challenges[:1]
	}
	for _, ch := range challenges {
		scheme, _, _ := strings.Cut(ch, " ")
		if scheme == "Basic" || tolerant && strings.EqualFold(scheme, "Basic") {
			return true
		}
	}
	return false
}

// exchange sends one request and reads its answer whole, each phase within its
// time and the body within its limit.
func (c *ESTClient) exchange(parent context.Context, op, method, operation string, body []byte, login bool) (*estReply, error) {
	ctx, end := context.WithCancelCause(parent)
	defer end(nil)
	watch := newESTWatch(c.cfg.Timeout, c.cfg.AnswerTimeout, end)
	defer watch.stop()

	ctx = context.WithValue(ctx, estExchange{}, ctx)
	req := c.http.R().SetContext(httptrace.WithClientTrace(ctx, watch.trace()))
	req.SetHeader("User-Agent", c.cfg.UserAgent).SetHeader("Accept", "*/*")
	if body != nil {
		req.SetHeader("Content-Type", "application/pkcs10").SetBody(body)
	}
	if id := event.ID(parent); id != "" {
		req.SetHeader("X-Correlation-ID", id)
	}
	if login {
		req.SetBasicAuth(c.cfg.Username, c.cfg.Password)
	}
	failed := func(err error) error {
		phase, late := watch.ended()
		return estBroken(parent, op, method, phase, late, watch.of(phase), err)
	}
	resp, err := req.Execute(method, c.base+operation)
	if resp != nil && resp.RawResponse != nil {
		defer resp.RawResponse.Body.Close()
	}
	if err != nil {
		return nil, failed(err)
	}
	raw := resp.RawResponse
	limit := int64(c.cfg.RawLimit)
	data, err := io.ReadAll(io.LimitReader(raw.Body, limit+1))
	if err != nil {
		return nil, failed(err)
	}
	if int64(len(data)) > limit {
		return nil, estFault(fault.ESTAnswerUnreadable, op, &ESTError{RV: fault.ESTHTTPUnsupported, Status: raw.StatusCode,
			Err: errBodyLimit(c.cfg.RawLimit)})
	}
	return &estReply{status: raw.StatusCode, header: raw.Header, length: raw.ContentLength, body: data}, nil
}
