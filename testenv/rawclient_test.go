package testenv_test

import (
	"crypto/x509"
	"io"
	"net/http"
	"testing"

	"github.com/onlineca/onlineca/testenv/internal/raw"
)

// rawConn is a [raw.Conn] that fails its test when the network does.
type rawConn struct {
	*raw.Conn
	t *testing.T
}

func dialRaw(t *testing.T, url string, roots *x509.CertPool) *rawConn {
	t.Helper()
	c, err := raw.Dial(url, roots)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return &rawConn{c, t}
}

func (c *rawConn) send(method, path, authorization, body string) raw.Reply {
	c.t.Helper()
	a, err := c.Send(method, path, authorization, body)
	if err != nil {
		c.t.Fatalf("%s %s: %v", method, path, err)
	}
	return a
}

func (c *rawConn) login(l raw.Login) raw.Reply {
	c.t.Helper()
	a, err := c.Login(l)
	if err != nil {
		c.t.Fatalf("login: %v", err)
	}
	return a
}

func negotiateMessage(t *testing.T) []byte {
	t.Helper()
	m, err := raw.Negotiate()
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func answerTo(t *testing.T, l raw.Login, negotiate, challenge []byte) []byte {
	t.Helper()
	m, err := l.Answer(negotiate, challenge, nil)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// readAll reads a body, or gives up after limit bytes.
func readAll(resp *http.Response, limit int64) (string, error) {
	if limit == 0 {
		b, err := io.ReadAll(resp.Body)
		return string(b), err
	}
	b, err := io.ReadAll(io.LimitReader(resp.Body, limit))
	if err == nil && int64(len(b)) == limit {
		err = errEnough
	}
	return string(b), err
}
