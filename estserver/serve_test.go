package estserver_test

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/onlineca/onlineca/estserver"
	"github.com/onlineca/onlineca/ra"
)

// pipeListener hands out the server halves of pipes, so that a server runs on a
// fake clock.
type pipeListener struct {
	conns  chan net.Conn
	closed chan struct{}
}

func newPipeListener() *pipeListener {
	return &pipeListener{conns: make(chan net.Conn), closed: make(chan struct{})}
}

func (l *pipeListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *pipeListener) Close() error {
	select {
	case <-l.closed:
	default:
		close(l.closed)
	}
	return nil
}

func (l *pipeListener) Addr() net.Addr {
	return &net.TCPAddr{IP: net.IPv6zero, Port: 8084}
}

func (l *pipeListener) dial() net.Conn {
	client, server := net.Pipe()
	l.conns <- server
	return client
}

// Connections on which nothing comes are closed when their time is up: before
// the handshake, after it, in the middle of a header, of a body, and between
// requests. An honest client is served meanwhile.
func TestSilentConnectionsAreClosed(t *testing.T) {
	body := b64(simpleCSR(t))
	for _, p := range []struct {
		name, sends string
		tls         bool
		within      time.Duration
	}{
		{"silent TCP", "", false, 10 * time.Second},
		{"idle TLS", "", true, 10 * time.Second},
		{"half a header", "POST " + enrollPath + " HTTP/1.1\r\nHost: x\r\n", true, 10 * time.Second},
		{"half a body", strings.TrimSuffix(rawPost(enrollPath, basicHeader, body), body[100:]), true, 20 * time.Second},
		{"half a body of a stranger", strings.TrimSuffix(rawPost(enrollPath, "", body), body[100:]), true, 20 * time.Second},
		{"idle keep-alive", "GET /.well-known/est/cacerts HTTP/1.1\r\nHost: x\r\n\r\n", true, 31 * time.Second},
	} {
		t.Run(p.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b, l, stop := serveHere(t)
				began := time.Now()
				conn := l.dial()
				closedAt := make(chan time.Duration, 1)
				go func() {
					var rw io.ReadWriter = conn
					if p.tls {
						rw = tls.Client(conn, b.tlsConfig())
					}
					_, _ = io.WriteString(rw, p.sends)
					if p.sends == "" && p.tls {
						_ = rw.(*tls.Conn).Handshake()
					}
					_, _ = io.Copy(io.Discard, rw)
					closedAt <- time.Since(began)
				}()
				synctest.Wait()
				honest := tls.Client(l.dial(), b.tlsConfig())
				_, _ = io.WriteString(honest, rawPost(enrollPath, basicHeader, body))
				if answer, _ := io.ReadAll(honest); !strings.HasPrefix(string(answer), "HTTP/1.1 200 ") {
					t.Errorf("an honest client gets %.60q", answer)
				}
				honest.Close()
				if d := <-closedAt; d < time.Second || d > p.within+time.Second {
					t.Errorf("closed after %v, want %v", d, p.within)
				}
				conn.Close()
				if err := stop(); err != nil {
					t.Error(err)
				}
			})
		})
	}
}

// serveHere runs a server on pipes, all of it inside the caller's bubble.
func serveHere(t *testing.T) (*bench, *pipeListener, func() error) {
	t.Helper()
	b := configure(t, nil)
	l := newPipeListener()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- b.server.Serve(ctx, l) }()
	return b, l, func() error { cancel(); return <-done }
}

// What has been submitted when the server is told to stop is finished, and
// nothing new is accepted.
func TestShutdownFinishesWhatIsUnderWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, l, stop := serveHere(t)
		reached := make(chan struct{})
		b.ca.setAnswer(func(ctx context.Context, r ra.Request) (ra.Result, error) {
			close(reached)
			b.ca.setAnswer(nil)
			select {
			case <-time.After(20 * time.Second):
				return b.ca.Enroll(ctx, r)
			case <-ctx.Done():
				return ra.Result{}, ctx.Err()
			}
		})
		conn := tls.Client(l.dial(), b.tlsConfig())
		answer := make(chan string, 1)
		go func() {
			_, _ = io.WriteString(conn, rawPost(enrollPath, basicHeader, b64(simpleCSR(t))))
			all, _ := io.ReadAll(conn)
			answer <- string(all)
		}()
		<-reached
		began := time.Now()
		if err := stop(); err != nil {
			t.Error(err)
		}
		if got := <-answer; !strings.HasPrefix(got, "HTTP/1.1 200 ") {
			t.Errorf("%.60q", got)
		}
		if d := time.Since(began); d < 20*time.Second || d > 25*time.Second {
			t.Errorf("the server stopped after %v", d)
		}
		conn.Close()
		select {
		case <-l.closed:
		default:
			t.Error("the listener is open")
		}
	})
}

// What takes too long is broken off, and Serve says so.
func TestShutdownIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, l, stop := serveHere(t)
		reached := make(chan struct{})
		b.ca.setAnswer(func(ctx context.Context, _ ra.Request) (ra.Result, error) {
			close(reached)
			<-ctx.Done()
			return ra.Result{}, ctx.Err()
		})
		conn := tls.Client(l.dial(), b.tlsConfig())
		go func() {
			_, _ = io.WriteString(conn, rawPost(enrollPath, basicHeader, b64(simpleCSR(t))))
			_, _ = io.Copy(io.Discard, conn)
		}()
		<-reached
		began := time.Now()
		if err := stop(); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%v", err)
		}
		if d := time.Since(began); d != 30*time.Second {
			t.Errorf("after %v", d)
		}
		conn.Close()
	})
}

// A client that goes away ends its enrolment.
func TestClientGoneEndsTheEnrolment(t *testing.T) {
	b := start(t, nil)
	reached, ended := make(chan struct{}), make(chan struct{})
	b.ca.setAnswer(func(ctx context.Context, _ ra.Request) (ra.Result, error) {
		close(reached)
		<-ctx.Done()
		close(ended)
		return ra.Result{}, ctx.Err()
	})
	conn, err := tls.Dial("tcp", b.addr, b.tlsConfig())
	if err != nil {
		t.Fatal(err)
	}
	_, _ = io.WriteString(conn, rawPost(enrollPath, basicHeader, b64(simpleCSR(t))))
	<-reached
	conn.Close()
	<-ended
}

// A listener that fails is an error, one without a certificate too.
func TestServeFails(t *testing.T) {
	b := configure(t, nil)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	if err := b.server.Serve(t.Context(), l); err == nil || !strings.Contains(err.Error(), "serve on 127.0.0.1") {
		t.Errorf("%v", err)
	}
	b = configure(t, func(c *estserver.Config) { c.GetCertificate = nil })
	if l, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
		t.Fatal(err)
	}
	if err := b.server.Serve(t.Context(), l); err == nil || !strings.Contains(err.Error(), "GetCertificate is missing") {
		t.Errorf("%v", err)
	}
	if _, err := http.Get("http://" + l.Addr().String()); err == nil {
		t.Error("the listener is open")
	}
}
