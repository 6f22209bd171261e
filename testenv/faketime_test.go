package testenv_test

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"runtime"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/onlineca/onlineca/testenv"
)

// pipes is a listener without a network, for synctest.
type pipes struct {
	conns chan net.Conn
	done  chan struct{}
	once  sync.Once
}

func newPipes() *pipes { return &pipes{conns: make(chan net.Conn), done: make(chan struct{})} }

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.done:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error   { p.once.Do(func() { close(p.done) }); return nil }
func (p *pipes) Addr() net.Addr { return &net.UnixAddr{Name: "pipe", Net: "pipe"} }

func (p *pipes) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	here, there := net.Pipe()
	select {
	case p.conns <- there:
		return here, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// TestInFakeTime runs a mock on a given listener in synctest: what is slow takes
// its time there, and none here.
func TestInFakeTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newPipes()
		pki, err := testenv.NewPKI(testenv.PKIConfig{})
		if err != nil {
			t.Fatal(err)
		}
		s, err := testenv.Start(testenv.Config{Listener: l, PKI: pki, AnonymousAllowed: true, Delay: time.Second})
		if err != nil {
			t.Fatal(err)
		}
		client := s.Client()
		client.Transport.(*http.Transport).DialContext = l.dial
		s.Inject(testenv.Slow)
		begin := time.Now()
		resp, err := client.Get(s.URL + "/certsrv/certcarc.asp")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.Copy(io.Discard, resp.Body); err != nil {
			t.Error(err)
		}
		resp.Body.Close()
		if took := time.Since(begin); took != 12*time.Second {
			t.Errorf("an answer after %v, want 11 s of fault and 1 s of delay", took)
		}
		s.Inject(testenv.Hang)
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.URL+"/certsrv/certcarc.asp", nil)
		if err != nil {
			t.Fatal(err)
		}
		if resp, err := client.Do(req); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%v, %v", resp, err)
		}
		s.Close()
	})
}

// TestNothingIsLeft: after Close, no goroutine of the mock runs.
func TestNothingIsLeft(t *testing.T) {
	before := runtime.NumGoroutine()
	s, err := testenv.Start(testenv.Config{HTTP2: true})
	if err != nil {
		t.Fatal(err)
	}
	s.Inject(testenv.Stalled, testenv.On(testenv.StepLogin))
	c := dialRaw(t, s.URL, s.Pool())
	go func() { _, _ = c.Login(good) }()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	until(ctx, t, "the request arrives", func() bool { return s.Begun(testenv.StepLogin) == 1 })
	s.Close()
	c.Close()
	until(ctx, t, "the goroutines end", func() bool { return runtime.NumGoroutine() <= before })
}

// until waits for something that nothing reports.
func until(ctx context.Context, t *testing.T, what string, done func() bool) {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for !done() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("waiting in vain: %s; %d goroutines", what, runtime.NumGoroutine())
		}
	}
}
