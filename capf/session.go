package capf

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"time"

	"github.com/onlineca/onlineca/capf/wire"
	"github.com/onlineca/onlineca/ra/event"
	"github.com/onlineca/onlineca/ra/fault"
)

const (
	// linger is how long the server waits after END_SESSION for the phone to
	// close: closing at once could discard the message on its way.
	linger = 2 * time.Second
	// freeProgress is how many REQUEST_IN_PROGRESS a phone may send in one
	// state before each costs it a pause of progressPause.
	freeProgress  = 16
	progressPause = 100 * time.Millisecond
)

// phoneConn is what a session needs of a connection: a *tls.Conn whose
// handshake is done.
type phoneConn interface {
	io.ReadWriter
	SetWriteDeadline(t time.Time) error
	CloseWrite() error
}

// session is one connection of one phone: one operation.
type session struct {
	srv    *Server
	conn   phoneConn
	addr   string
	number uint32
	cancel context.CancelCauseFunc
	rules  map[State]transition

	frames chan frame    // what the phone sends
	done   chan struct{} // closed when nobody listens to frames any more

	version uint8
	device  Device
	began   time.Time // a deadline that passes during the session does not count
	claimed bool      // authenticated, and the session of its device

	// The following are guarded by srv.mu: Sessions reads them.
	name  string
	state State
	since time.Time
}

// frame is one message from the phone, or the error that ends them.
type frame struct {
	m   wire.Message
	err error
}

// serveConn is one connection from TLS to the end.
func (s *Server) serveConn(ctx context.Context, conn net.Conn, number uint32) {
	defer conn.Close()
	ctx, cancel := context.WithCancelCause(event.WithID(ctx, strings.ToLower(rand.Text()[:16])))
	defer cancel(nil)
	// Whatever ends the context also ends reads and writes under way.
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	secured := tls.Server(conn, s.tls)
	p := s.newSession(secured, hostOf(conn.RemoteAddr()), number, cancel)
	defer p.forget()
	if err := p.handshake(ctx, secured); err != nil {
		p.say(ctx, true, "SSL handshake with %s failed: %v", p.addr, err)
		return
	}
	defer close(p.done)
	s.work.Go(p.read)
	p.run(ctx)
}

// newSession enters a session into the server's books.
func (s *Server) newSession(conn phoneConn, addr string, number uint32, cancel context.CancelCauseFunc) *session {
	p := &session{
		srv: s, conn: conn, addr: addr, number: number, cancel: cancel,
		rules: transitions(s.cfg.Encrypt), frames: make(chan frame), done: make(chan struct{}),
		state: StateIdle, since: s.cfg.Now(), began: s.cfg.Now(),
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sessions[number] = p
	return p
}

// forget takes the session out of the server's books.
func (p *session) forget() {
	p.srv.mu.Lock()
	defer p.srv.mu.Unlock()
	delete(p.srv.sessions, p.number)
	if key := strings.ToLower(p.name); p.srv.phones[key] == p {
		delete(p.srv.phones, key)
	}
}

func (p *session) handshake(ctx context.Context, conn *tls.Conn) error {
	limit := p.srv.cfg.Timeouts.Handshake
	ctx, cancel := context.WithTimeoutCause(ctx, limit, fmt.Errorf("it was not done within %v", limit))
	defer cancel()
	if err := conn.HandshakeContext(ctx); err != nil {
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		return err
	}
	return nil
}

// read hands the phone's messages to the session until the connection or the
// session ends. What follows bytes that are no message is read and thrown away,
// so that the end of the connection is noticed.
func (p *session) read() {
	for {
		m, err := wire.Read(p.conn)
		if !p.hand(frame{m, err}) {
			return
		}
		if errors.Is(err, wire.ErrFormat) {
			_, _ = io.Copy(io.Discard, p.conn)
			p.hand(frame{err: io.EOF})
			return
		}
		if err != nil {
			return
		}
	}
}

// hand gives a frame to the session; false says that it has ended.
func (p *session) hand(f frame) bool {
	select {
	case p.frames <- f:
		return true
	case <-p.done:
		return false
	}
}

// send writes one message.
func (p *session) send(m wire.Message) error {
	m.Session = p.number
	b, err := m.Encode()
	if errors.Is(err, wire.ErrTooLong) {
		b, err = m.EncodeLong()
	}
	if err != nil {
		return err
	}
	_ = p.conn.SetWriteDeadline(time.Now().Add(p.srv.cfg.Timeouts.Write))
	if _, err = p.conn.Write(b); err != nil {
		return p.lost(err)
	}
	return nil
}

// enter begins a state.
func (p *session) enter(st State) {
	p.srv.mu.Lock()
	p.state, p.since = st, p.srv.cfg.Now()
	p.srv.mu.Unlock()
}

// await waits in the state st for the one command that leads on. The error is
// a *failure.
func (p *session) await(ctx context.Context, st State) (wire.Message, error) {
	p.enter(st)
	limit := p.srv.cfg.Timeouts.of(st)
	timer := time.NewTimer(limit)
	defer timer.Stop()
	for n := 0; ; n++ {
		select {
		case f := <-p.frames:
			m, more, err := p.step(ctx, st, f)
			if err != nil || !more {
				return m, err
			}
			if p.brake(ctx, n, timer) {
				return wire.Message{}, p.late(st, limit)
			}
		case <-timer.C:
			return wire.Message{}, p.late(st, limit)
		case <-ctx.Done():
			return wire.Message{}, &failure{err: context.Cause(ctx), silent: true, unrecorded: true}
		}
	}
}

// step is what a frame does in a state: lead on (more is false), change
// nothing, or end the session.
func (p *session) step(ctx context.Context, st State, f frame) (m wire.Message, more bool, err error) {
	if f.err != nil {
		return m, false, p.broken(ctx, f.err)
	}
	for _, e := range f.m.Unknown {
		p.say(ctx, false, "Unknown element %d of %d bytes in %v skipped", e.Tag, len(e.Value), f.m.Command)
	}
	rule := p.rules[st]
	switch {
	case f.m.Session != p.number:
		return m, false, p.fail(OpPhoneComm, fmt.Errorf("the phone sent %v with the session id %d, this is session %d", f.m.Command, f.m.Session, p.number))
	case f.m.Command == wire.RequestInProgress && rule.inProgress:
		return m, true, nil
	case rule.command != 0 && f.m.Command == rule.command:
		p.core(ctx, rule.event, st)
		return f.m, false, nil
	default:
		return m, false, p.fail(OpPhoneComm, fmt.Errorf("the phone sent %v in state %s", f.m.Command, st))
	}
}

// brake makes a phone wait that asks for patience too often. It tells whether
// the state's time is over.
func (p *session) brake(ctx context.Context, n int, state *time.Timer) (over bool) {
	pause := time.Duration(0)
	if n >= freeProgress {
		pause = progressPause
	}
	timer := time.NewTimer(pause)
	defer timer.Stop()
	select {
	case <-state.C:
		return true
	case <-timer.C:
	case <-ctx.Done():
	}
	return false
}

// failure is why a session does not end well.
type failure struct {
	code OpCode
	err  error
	// status is the device's status if the code does not decide it.
	status Status
	// later, if not 0, tells the phone to come back after so long.
	later time.Duration
	// keep leaves the operation scheduled.
	keep bool
	// silent sends nothing: nobody is there.
	silent bool
	// unrecorded leaves the device table alone.
	unrecorded bool
	// end is the reason of END_SESSION, 7 if 0.
	end wire.Reason
	// told says that the trace has the lines that the product writes of it.
	told bool
}

func (f *failure) Error() string { return f.err.Error() }
func (f *failure) Unwrap() error { return f.err }

// fail is a failure with an operation code of its own.
func (p *session) fail(code OpCode, err error) *failure {
	return &failure{code: code, err: err}
}

// faulty is a failure that the table of faults knows: the row decides its code
// and whether the operation stays scheduled.
func (p *session) faulty(code fault.Code, cause error) *failure {
	return faultFailure(fault.New(code, "capf: "+p.who(), cause))
}

func faultFailure(err error) *failure {
	row := fault.Of(err).Code.Row()
	f := &failure{code: OpCode(row.Operation), err: err, keep: row.Retry == fault.Later}
	if f.code == OpSuccess {
		f.code = OpFailed
	}
	return f
}

// who is the phone as it is known so far.
func (p *session) who() string {
	if p.name != "" {
		return p.name
	}
	return p.addr
}

// late is a state that lasted too long.
func (p *session) late(st State, limit time.Duration) *failure {
	code := fault.PhoneUnreachable
	if st == StateAwaitKeygen {
		code = fault.KeygenTimeout
	}
	return p.faulty(code, fmt.Errorf("no answer within %v in state %s", limit, st))
}

// broken is a connection that yields no message any more.
func (p *session) broken(ctx context.Context, err error) *failure {
	switch {
	case ctx.Err() != nil:
		return &failure{err: context.Cause(ctx), silent: true, unrecorded: true}
	case errors.Is(err, wire.ErrFormat):
		return p.fail(OpPhoneComm, err)
	default:
		return p.lost(err)
	}
}

// lost is a connection that is gone.
func (p *session) lost(err error) *failure {
	switch {
	case errors.Is(err, io.EOF):
		err = errors.New("the phone closed it")
	case errors.Is(err, io.ErrUnexpectedEOF):
		err = errors.New("the phone closed it inside a message")
	case errors.Is(err, os.ErrDeadlineExceeded):
		err = fmt.Errorf("the phone took nothing for %v", p.srv.cfg.Timeouts.Write)
	}
	f := p.faulty(fault.PhoneUnreachable, err)
	f.silent = true
	return f
}

// trace is the pair that begins the session's lines.
func (p *session) trace() event.Session {
	return event.Session{Number: int(p.number), Device: p.name}
}

// say writes a line of the trace in our own words.
func (p *session) say(ctx context.Context, isError bool, format string, args ...any) {
	e := event.CAPFTrace{Text: fmt.Sprintf(format, args...), Error: isError}
	if p.name != "" {
		e.Session = p.trace()
	}
	p.srv.emit(ctx, e)
}

// core notes an event of the state machine.
func (p *session) core(ctx context.Context, ev string, st State) {
	if p.name == "" {
		// Before the phone has said its name the line has no session.
		p.say(ctx, false, "CAPF CORE: Rcvd Event: %s in State: %s", ev, st)
		return
	}
	p.srv.emit(ctx, event.CAPFCoreEvent{Session: p.trace(), Event: ev, State: string(st)})
}

// step notes a step of the trace.
func (p *session) note(ctx context.Context, step event.Step) {
	p.srv.emit(ctx, event.CAPFStep{Session: p.trace(), Step: step})
}
