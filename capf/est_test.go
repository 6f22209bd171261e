package capf_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/onlineca/onlineca/capf"
	"github.com/onlineca/onlineca/ra/event"
	"github.com/onlineca/onlineca/ra/fault"
)

func TestESTEnrolmentInTheMannerOfLibEST(t *testing.T) {
	s := newLibest(t, newESTCA(t), nil, nil)
	defer s.close()
	ctx := event.WithID(t.Context(), "id-17")
	csr := estCSR(t, "SEP001122334455")
	for _, reenroll := range []bool{false, true} {
		client := s.client(func(c *capf.ESTConfig) { c.Label = "phones" })
		enroll, path := client.Enroll, "/.well-known/est/phones/simpleenroll"
		if reenroll {
			enroll, path = client.Reenroll, "/.well-known/est/phones/simplereenroll"
		}
		before := len(s.requests())
		answer, err := enroll(ctx, csr)
		if err != nil {
			t.Fatal(err)
		}
		certs, err := capf.ParsePKCS7(answer.Raw)
		if err != nil || len(certs) != 1 || certs[0].Subject.CommonName != "SEP001122334455" {
			t.Fatalf("%v, %v", certs, err)
		}
		seen := s.requests()[before:]
		if len(seen) != 2 {
			t.Fatalf("%d requests, want one without and one with credentials", len(seen))
		}
		if _, there := seen[0].header["Authorization"]; there || !seen[1].login || seen[1].user != "ciscora" {
			t.Error("credentials must come after the challenge, and only then")
		}
		if !seen[1].resumed {
			t.Error("the second connection did not resume the TLS session")
		}
		for _, r := range seen {
			if r.path != path || r.header.Get("User-Agent") != "Cisco EST client 1.0" || r.header.Get("X-Correlation-Id") != "id-17" {
				t.Errorf("%s %v", r.path, r.header)
			}
			for _, h := range []string{"Cookie", "Accept-Encoding", "Content-Transfer-Encoding", "Expect"} {
				if r.header.Get(h) != "" {
					t.Errorf("header %s is sent", h)
				}
			}
			if !bytes.Equal(estParse(t, r.body).Raw, csr) {
				t.Error("the request was changed")
			}
		}
	}
}

func TestESTCACerts(t *testing.T) {
	ca := newESTCA(t)
	s := newLibest(t, ca, nil, nil)
	defer s.close()
	certs, err := s.client(nil).CACerts(t.Context())
	if err != nil || len(certs) != 2 || !certs[0].Equal(ca.issuing) || !certs[1].Equal(ca.root) {
		t.Fatalf("%v, %v", certs, err)
	}
	if n := len(s.requests()); n != 1 {
		t.Errorf("%d requests", n)
	}
}

// estCase is an exchange that fails, and how.
type estCase struct {
	name   string
	answer func(*estSeen) string
	config func(*capf.ESTConfig)
	code   fault.Code
	rv     int
	status int
	says   string
	posts  int // how many requests the server must see; 0 for not checked
}

func estAlways(reply string) func(*estSeen) string {
	return func(s *estSeen) string {
		if !s.login {
			return estChallenge
		}
		return reply
	}
}

func TestESTAnswersThatAreNotCertificates(t *testing.T) {
	ca := newESTCA(t)
	p7 := estP7(t, ca.issue(t, estParse(t, []byte(strings.TrimSuffix(estWire(estCSR(t, "x")), "\x00"))), nil))
	kind := "Content-Type: " + estP7Type
	cases := []estCase{
		{name: "wrong password", answer: estAlways(estDenied), code: fault.BadCredentials, rv: 22, status: 401, says: "unable to authorize", posts: 2},
		{name: "template", answer: estAlways(estHTTP("401 Unauthorized", nil, "Error 401: Unauthorized\nThe server was unable to authorize the request.\nThe certificate template is not offered by the CA [template].\n")), code: fault.Template, rv: 22, status: 401, says: "is not offered", posts: 2},
		{name: "paused", answer: estAlways(estHTTP("401 Unauthorized", nil, "Error 401: Unauthorized\nNo login is attempted [login-suspended].\n")), code: fault.LoginSuspended, rv: 22, status: 401, posts: 2},
		{name: "another failure than a 401's", answer: estAlways(estHTTP("401 Unauthorized", nil, "No [dns].\n")), code: fault.BadCredentials, rv: 22, status: 401, posts: 2},
		{name: "no credentials configured", config: func(c *capf.ESTConfig) { c.Username = "" }, code: fault.BadCredentials, rv: 22, status: 401, says: "none is configured", posts: 1},
		{name: "no challenge", answer: func(*estSeen) string { return estDenied }, code: fault.BadCredentials, rv: 22, status: 401, says: "unable to authorize", posts: 1},
		{name: "Digest", answer: func(*estSeen) string {
			return estHTTP("401 Unauthorized", []string{`WWW-Authenticate: Digest qop="auth", realm="estrealm", nonce="1"`}, "")
		}, code: fault.BadCredentials, rv: 22, status: 401, says: "another kind of login", posts: 1},
		{name: "Negotiate before Basic", answer: func(*estSeen) string {
			return estHTTP("401 Unauthorized", []string{"WWW-Authenticate: Negotiate", `WWW-Authenticate: Basic realm="r"`}, "")
		}, code: fault.BadCredentials, rv: 22, status: 401, says: "first for Basic", posts: 1},
		{name: "basic in lower case", answer: func(*estSeen) string {
			return estHTTP("401 Unauthorized", []string{`WWW-Authenticate: basic realm="r"`}, "")
		}, code: fault.BadCredentials, rv: 22, status: 401, posts: 1},
		{name: "denial", answer: estAlways(estHTTP("400 Bad Request", nil, "Error 400: Bad Request\nrequest 7: Denied by Policy Module 0x80094800\n")), code: fault.RequestRefused, rv: 13, status: 400, says: "Denied by Policy Module", posts: 2},
		{name: "forbidden", answer: estAlways(estHTTP("403 Forbidden", nil, "subject is not yours")), code: fault.NotAuthorized, rv: 94, status: 403, says: "subject is not yours"},
		{name: "not found", answer: estAlways(estHTTP("404 Not Found", nil, "")), code: fault.ESTAnswerUnreadable, rv: 14, status: 404},
		{name: "no content", answer: estAlways("HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n"), code: fault.ESTAnswerUnreadable, rv: 15, status: 204},
		{name: "locked", answer: estAlways(estHTTP("423 Locked", nil, "")), code: fault.ESTServerError, rv: 16, status: 423},
		{name: "named denial", answer: estAlways(estHTTP("400 Bad Request", nil, "The key is too short: 1024 bits [key-too-short].\n")), code: fault.KeyTooShort, rv: 13, status: 400, says: "1024 bits", posts: 2},
		{name: "name of another status", answer: estAlways(estHTTP("400 Bad Request", nil, "What? [busy].\n")), code: fault.RequestRefused, rv: 13, status: 400, posts: 2},
		{name: "a denial named as a refused login", answer: estAlways(estHTTP("400 Bad Request", nil, "What? [template].\n")), code: fault.Template, rv: 13, status: 400, posts: 2},
		{name: "429", answer: estAlways(estHTTP("429 Too Many Requests", nil, "")), code: fault.RequestRefused, rv: 94, status: 429},
		{name: "500", answer: estAlways(estHTTP("500 Internal Server Error", nil, "There was a problem during enrollment.")), code: fault.ESTServerError, rv: 94, status: 500, says: "during enrollment", posts: 2},
		{name: "502 in HTML", answer: estAlways(estHTTP("502 Bad Gateway", []string{"Content-Type: text/html"}, "<html>secret sauce</html>")), code: fault.ESTServerError, rv: 94, status: 502, says: "a page of HTML"},
		{name: "504", answer: estAlways(estHTTP("504 Gateway Timeout", nil, "")), code: fault.ESTServerError, rv: 94, status: 504, posts: 2},
		{name: "503 with Retry-After", answer: estAlways(estHTTP("503 Service Unavailable", []string{"Retry-After: 1"}, "")), code: fault.ESTServerError, rv: 94, status: 503, posts: 2},
		{name: "redirect", answer: estAlways(estHTTP("302 Found", []string{"Location: https://127.0.0.1:1/"}, "")), code: fault.ESTAnswerUnreadable, rv: 94, status: 302, posts: 2},
		{name: "202 without Retry-After", answer: estAlways("HTTP/1.1 202 Accepted\r\n\r\n"), code: fault.InProgress, rv: 26, status: 202, says: "not a number of seconds", posts: 2},
		{name: "202 with a date", answer: estAlways(estHTTP("202 Accepted", []string{"Retry-After: Fri, 31 Dec 1999 23:59:59 GMT"}, "")), code: fault.InProgress, rv: 26, status: 202},
		{name: "202 for an hour", answer: estAlways(estHTTP("202 Accepted", []string{"Retry-After: 3600"}, "the request waits for a manager")), code: fault.InProgress, rv: 26, status: 202, says: "waits for a manager", posts: 2},
		{name: "202 absurd", answer: estAlways(estHTTP("202 Accepted", []string{"Retry-After: 99999999999999999999"}, "")), code: fault.InProgress, rv: 26, status: 202},
		{name: "202 when not to wait", answer: estAlways(estHTTP("202 Accepted", []string{"Retry-After: 1"}, "")), config: func(c *capf.ESTConfig) { c.RetryWait = -1 }, code: fault.InProgress, rv: 26, status: 202, posts: 2},
		{name: "other content type", answer: estAlways(estHTTP("200 OK", []string{"Content-Type: text/html"}, estWire(p7))), code: fault.ESTAnswerUnreadable, rv: 11, status: 200, says: "content type"},
		{name: "bare content type", answer: estAlways(estHTTP("200 OK", []string{"Content-Type: application/pkcs7-mime"}, estWire(p7))), code: fault.ESTAnswerUnreadable, rv: 11, status: 200},
		{name: "no length", answer: estAlways("HTTP/1.1 200 OK\r\n" + kind + "\r\n\r\n" + estWire(p7)), code: fault.ESTAnswerUnreadable, rv: 11, status: 200, says: "Content-Length"},
		{name: "chunked", answer: estAlways("HTTP/1.1 200 OK\r\n" + kind + "\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nMIIB\n\r\n0\r\n\r\n"), code: fault.ESTAnswerUnreadable, rv: 11, status: 200, says: "Content-Length"},
		{name: "empty body", answer: estAlways(estHTTP("200 OK", []string{kind}, "\n\x00")), code: fault.ESTAnswerUnreadable, rv: 11, status: 200, says: "empty"},
		{name: "not base64", answer: estAlways(estHTTP("200 OK", []string{kind}, "<html>")), code: fault.ESTAnswerUnreadable, rv: 11, status: 200, says: "base64"},
		{name: "too long", answer: estAlways(estHTTP("200 OK", []string{kind}, strings.Repeat("A", 5000))), config: func(c *capf.ESTConfig) { c.RawLimit = 4096 }, code: fault.ESTAnswerUnreadable, rv: 11, status: 200, says: "4096 bytes"},
		{name: "truncated", answer: estAlways("HTTP/1.1 200 OK\r\n" + kind + "\r\nContent-Length: 5000\r\n\r\nMIIB"), code: fault.OutcomeUnknown, rv: 94, posts: 2},
		{name: "hung up", answer: estAlways(""), code: fault.OutcomeUnknown, rv: 94, posts: 2},
		{name: "not HTTP", answer: estAlways("SSH-2.0-OpenSSH_9.2\r\n\r\n"), code: fault.ESTAnswerUnreadable, rv: 94, posts: 2},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) { c.run(t, ca) })
	}
}

func (c estCase) run(t *testing.T, ca *estCA) {
	s := newLibest(t, ca, nil, func(s *libest) { s.answer = c.answer })
	defer s.close()
	_, err := s.client(c.config).Enroll(t.Context(), estCSR(t, "SEP001122334455"))
	c.check(t, err)
	if n := len(s.requests()); c.posts != 0 && n != c.posts {
		t.Errorf("the server saw %d requests, want %d", n, c.posts)
	}
}

func (c estCase) check(t *testing.T, err error) {
	t.Helper()
	var e *capf.ESTError
	if !errors.As(err, &e) {
		t.Fatalf("no ESTError in %v", err)
	}
	if !errors.Is(err, c.code) || e.RV != c.rv || e.Status != c.status || capf.ESTNumber(err) != c.rv {
		t.Errorf("%v: code %v, rv %d, status %d; want %v, %d, %d", err, fault.Of(err).Code, e.RV, e.Status, c.code, c.rv, c.status)
	}
	if e.Name() != fault.ESTName(c.rv) || !strings.Contains(err.Error(), e.Name()) {
		t.Errorf("the name %q is not in %v", e.Name(), err)
	}
	if !strings.Contains(err.Error(), c.says) {
		t.Errorf("%q does not say %q", err, c.says)
	}
	if strings.Contains(err.Error(), "s3cret") || strings.Contains(err.Error(), "\n") || strings.Contains(err.Error(), "secret sauce") {
		t.Errorf("unfit for a person: %q", err)
	}
}

func TestESTTolerantClientTakesWhatTheRFCAllows(t *testing.T) {
	ca := newESTCA(t)
	var kind string
	s := newLibest(t, ca, nil, func(s *libest) {
		s.answer = func(r *estSeen) string {
			if !r.login {
				return estHTTP("401 Unauthorized", []string{"WWW-Authenticate: Negotiate", `WWW-Authenticate: basic realm="r"`}, "")
			}
			return "HTTP/1.1 200 OK\r\nContent-Type: " + kind + "\r\n\r\n" + estWire(estP7(t, ca.issue(t, estParse(t, r.body), nil)))
		}
	})
	defer s.close()
	client := s.client(func(c *capf.ESTConfig) { c.Tolerant = true })
	for _, kind = range []string{"application/pkcs7-mime", `application/PKCS7-mime;smime-type="certs-only"`} {
		if _, err := client.Enroll(t.Context(), estCSR(t, "x")); err != nil {
			t.Errorf("%s: %v", kind, err)
		}
	}
	for _, kind = range []string{"text/html", "application/pkcs7-mime; smime-type=signed-data", ""} {
		if _, err := client.Enroll(t.Context(), estCSR(t, "x")); !errors.Is(err, fault.ESTAnswerUnreadable) {
			t.Errorf("%q: %v", kind, err)
		}
	}
}

func TestESTBase64OfAnyShape(t *testing.T) {
	ca := newESTCA(t)
	var shape func(string) string
	s := newLibest(t, ca, nil, func(s *libest) {
		s.answer = func(r *estSeen) string {
			flat := strings.NewReplacer("\n", "", "\x00", "").Replace(estWire(estP7(t, ca.issue(t, estParse(t, r.body), nil))))
			return estHTTP("200 OK", []string{"Content-Type: " + estP7Type + "; charset=utf-8"}, shape(flat))
		}
	})
	defer s.close()
	for name, f := range map[string]func(string) string{
		"one line":   func(s string) string { return s },
		"NULs":       func(s string) string { return s + "\n\x00\x00" },
		"76 CRLF":    func(s string) string { return s[:76] + "\r\n" + s[76:152] + "\r\n" + s[152:] + "\r\n" },
		"blanks":     func(s string) string { return " " + s[:5] + "\t " + s[5:] + "\v\f\n" },
		"blank line": func(s string) string { return "\r\n\r\n" + s },
	} {
		shape = f
		answer, err := s.client(nil).Enroll(t.Context(), estCSR(t, "x"))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if _, err := capf.ParsePKCS7(answer.Raw); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestESTServersThatCannotBeTalkedTo(t *testing.T) {
	ca, other := newESTCA(t), newESTCA(t)
	serverIs := func(change func(*libest)) func(t *testing.T) *libest {
		return func(t *testing.T) *libest { return newLibest(t, ca, nil, change) }
	}
	closed := func(t *testing.T) *libest { s := newLibest(t, ca, nil, nil); s.close(); return s }
	clientCAs := func(version uint16) func(*libest) {
		return func(s *libest) {
			s.tls.ClientAuth, s.tls.ClientCAs, s.tls.MaxVersion = tls.RequireAndVerifyClientCert, other.roots, version
		}
	}
	for name, c := range map[string]struct {
		server func(t *testing.T) *libest
		config func(*capf.ESTConfig)
		code   fault.Code
		rv     int
	}{
		"nobody there": {closed, nil, fault.ESTUnreachable, 43},
		"no such name": {serverIs(nil), func(c *capf.ESTConfig) {
			c.Dial = func(context.Context, string, string) (net.Conn, error) {
				return nil, &net.OpError{Op: "dial", Err: &net.DNSError{Err: "no such host", Name: "ra.invalid", IsNotFound: true}}
			}
		}, fault.ESTUnreachable, 42},
		"another CA":   {serverIs(nil), func(c *capf.ESTConfig) { c.Roots = other.roots }, fault.ESTServerTrust, 38},
		"another name": {serverIs(nil), func(c *capf.ESTConfig) { c.Server = strings.Replace(c.Server, "127.0.0.1", "localhost", 1) }, fault.ESTServerTrust, 53},
		"no TLS": {serverIs(func(s *libest) {
			s.broken = func(c net.Conn) {
				_, _ = io.WriteString(c, "HTTP/1.1 400 Bad Request\r\n\r\n")
				_, _ = io.Copy(io.Discard, c)
			}
		}), nil, fault.ESTAnswerUnreadable, 38},
		"hangs up at once": {serverIs(func(s *libest) { s.broken = func(net.Conn) {} }), nil, fault.ESTUnreachable, 38},
		"old TLS":          {serverIs(func(s *libest) { s.tls.MinVersion, s.tls.MaxVersion = tls.VersionTLS10, tls.VersionTLS11 }), nil, fault.ESTUnreachable, 38},
		// With TLS 1.2 the alert is handshake_failure, which can mean anything.
		"client certificate, TLS 1.2": {serverIs(clientCAs(tls.VersionTLS12)), nil, fault.ESTUnreachable, 38},
		"client certificate, TLS 1.3": {serverIs(clientCAs(tls.VersionTLS13)), nil, fault.ClientCertificate, 38},
		"wrong client certificate":    {serverIs(clientCAs(tls.VersionTLS13)), func(c *capf.ESTConfig) { c.Certificate = &ca.server }, fault.ClientCertificate, 38},
	} {
		t.Run(name, func(t *testing.T) {
			s := c.server(t)
			defer s.close()
			_, err := s.client(c.config).Enroll(t.Context(), estCSR(t, "x"))
			estCase{code: c.code, rv: c.rv}.check(t, err)
			if n := len(s.requests()); n != 0 {
				t.Errorf("the server saw %d requests", n)
			}
		})
	}
}

// estCutWrites fails when the first byte of HTTP is written: a TLS record of
// application data. With TLS 1.2 nothing of the handshake has that type.
type estCutWrites struct{ net.Conn }

func (c estCutWrites) Write(p []byte) (int, error) {
	if len(p) > 0 && p[0] == 23 {
		return 0, &net.OpError{Op: "write", Err: syscall.EPIPE}
	}
	return c.Conn.Write(p)
}

func TestESTRequestThatCannotBeSent(t *testing.T) {
	s := newLibest(t, newESTCA(t), nil, func(s *libest) { s.tls.MaxVersion = tls.VersionTLS12 })
	defer s.close()
	_, err := s.client(func(c *capf.ESTConfig) {
		c.Dial = func(ctx context.Context, network, addr string) (net.Conn, error) {
			conn, err := new(net.Dialer).DialContext(ctx, network, addr)
			return estCutWrites{conn}, err
		}
	}).Enroll(t.Context(), estCSR(t, "x"))
	estCase{code: fault.ESTHTTPWriteFault, rv: 10}.check(t, err)
}

func TestESTTimesByPhase(t *testing.T) {
	hang := func(c net.Conn) { _, _ = io.Copy(io.Discard, c) }
	for name, c := range map[string]struct {
		server func(*libest)
		config func(*capf.ESTConfig)
		code   fault.Code
		rv     int
		after  time.Duration
	}{
		"no answer": {func(s *libest) {
			s.answer = func(*estSeen) string { time.Sleep(11 * time.Second); return estChallenge }
		}, nil, fault.ESTReadTimeout, 35, 10 * time.Second},
		"as configured": {func(s *libest) {
			s.answer = func(*estSeen) string { time.Sleep(4 * time.Second); return estChallenge }
		}, func(c *capf.ESTConfig) { c.Timeout = 3 * time.Second }, fault.ESTReadTimeout, 35, 3 * time.Second},
		"the answer by itself": {func(s *libest) {
			s.answer = func(*estSeen) string { time.Sleep(4 * time.Second); return estChallenge }
		}, func(c *capf.ESTConfig) { c.AnswerTimeout = 3 * time.Second }, fault.ESTReadTimeout, 35, 3 * time.Second},
		"the handshake is no answer": {
			func(s *libest) { s.broken = hang },
			func(c *capf.ESTConfig) { c.AnswerTimeout = 3 * time.Second },
			fault.ESTUnreachable, 38, 10 * time.Second,
		},
		"body never ends": {func(s *libest) {
			s.answer = func(*estSeen) string {
				return "HTTP/1.1 200 OK\r\nContent-Type: " + estP7Type + "\r\nContent-Length: 5000\r\n\r\nMIIB"
			}
			s.linger = true
		}, nil, fault.ESTReadTimeout, 35, 10 * time.Second},
		"no handshake": {func(s *libest) { s.broken = hang }, nil, fault.ESTUnreachable, 38, 10 * time.Second},
		"no connection": {nil, func(c *capf.ESTConfig) {
			c.Dial = func(ctx context.Context, _, _ string) (net.Conn, error) { <-ctx.Done(); return nil, ctx.Err() }
		}, fault.ESTUnreachable, 43, 10 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newLibest(t, newESTCA(t), newESTMemory(), c.server)
				defer s.close()
				start := time.Now()
				_, err := s.client(c.config).Enroll(t.Context(), estCSR(t, "x"))
				estCase{code: c.code, rv: c.rv}.check(t, err)
				if took := time.Since(start); took != c.after {
					t.Errorf("gave up after %v, want %v", took, c.after)
				}
			})
		})
	}
}

func TestESTComesBackWhenToldTo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var waits int
		s := newLibest(t, newESTCA(t), newESTMemory(), nil)
		s.answer = func(r *estSeen) string {
			if r.login {
				if waits++; waits <= 3 {
					return fmt.Sprintf("HTTP/1.1 202 Accepted\r\nStatus: 202 Accepted\r\nretry-after: %d\r\n\r\n", 10*(waits-1))
				}
			}
			return s.normal(r)
		}
		defer s.close()
		start := time.Now()
		if _, err := s.client(nil).Enroll(t.Context(), estCSR(t, "x")); err != nil {
			t.Fatal(err)
		}
		// 0 counts as a second: no server is asked in a tight loop.
		if took := time.Since(start); took != 31*time.Second {
			t.Errorf("took %v", took)
		}
		if n := len(s.requests()); n != 8 {
			t.Errorf("%d requests, want 8", n)
		}
	})
}

func TestESTWaitsNoLongerThanItMay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newLibest(t, newESTCA(t), newESTMemory(), func(s *libest) {
			s.answer = estAlways(estHTTP("202 Accepted", []string{"Retry-After: 25"}, "still busy"))
		})
		defer s.close()
		start := time.Now()
		_, err := s.client(nil).Enroll(t.Context(), estCSR(t, "x"))
		estCase{code: fault.InProgress, rv: 26, status: 202, says: "still busy"}.check(t, err)
		if took := time.Since(start); took != 50*time.Second || fault.Of(err).RetryAfter != 25*time.Second {
			t.Errorf("took %v, told to come back in %v", took, fault.Of(err).RetryAfter)
		}
	})
}

func TestESTEndsWithItsCaller(t *testing.T) {
	for name, answer := range map[string]func(*estSeen) string{
		"while waiting":   estAlways(estHTTP("202 Accepted", []string{"Retry-After: 50"}, "")),
		"while answering": func(*estSeen) string { time.Sleep(9 * time.Second); return estChallenge },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newLibest(t, newESTCA(t), newESTMemory(), func(s *libest) { s.answer = answer })
				defer s.close()
				ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
				defer cancel()
				start := time.Now()
				_, err := s.client(nil).Enroll(ctx, estCSR(t, "x"))
				if !errors.Is(err, fault.Canceled) || !errors.Is(err, context.DeadlineExceeded) {
					t.Error(err)
				}
				if took := time.Since(start); took != 5*time.Second {
					t.Errorf("took %v", took)
				}
			})
		})
	}
}

func TestESTRequestThatIsTooLongIsNotSent(t *testing.T) {
	s := newLibest(t, newESTCA(t), nil, nil)
	defer s.close()
	_, err := s.client(nil).Enroll(t.Context(), make([]byte, 8000))
	estCase{code: fault.MalformedCSR, rv: 9, says: "8192"}.check(t, err)
	if len(s.requests()) != 0 {
		t.Error("it was sent")
	}
}

func TestESTConfigIsChecked(t *testing.T) {
	for _, c := range []capf.ESTConfig{
		{}, {Server: "http://ra:8084"}, {Server: "https://"}, {Server: "ra:8084"},
		{Server: "https://user:hunter2@ra:8084"}, {Server: "https://user:hunter2@ra:80%zz"},
		{Server: "https://ra/.well-known/est"}, {Server: "https://ra/?x=1"},
		{Server: "https://ra", Label: "../x"}, {Server: "https://ra", Label: "cacerts"}, {Server: "https://ra", Label: strings.Repeat("x", 129)},
	} {
		_, err := capf.NewESTClient(c)
		if err == nil {
			t.Errorf("%+v was accepted", c)
		} else if strings.Contains(err.Error(), "hunter2") {
			t.Errorf("the password is in %q", err)
		}
	}
	if _, err := capf.NewESTClient(capf.ESTConfig{Server: "https://ra:8084/"}); err != nil {
		t.Error(err)
	}
}

func TestESTClientCertificateIsPresented(t *testing.T) {
	ca := newESTCA(t)
	var peer *x509.Certificate
	s := newLibest(t, ca, nil, func(s *libest) {
		s.tls.ClientAuth = tls.RequireAnyClientCert
		s.tls.VerifyConnection = func(cs tls.ConnectionState) error { peer = cs.PeerCertificates[0]; return nil }
	})
	defer s.close()
	client := s.client(func(c *capf.ESTConfig) { c.Certificate = &ca.server })
	if _, err := client.Enroll(t.Context(), estCSR(t, "x")); err != nil || peer == nil || peer.Subject.CommonName != "ra.test" {
		t.Errorf("%v, %v", peer, err)
	}
	s.answer = func(*estSeen) string { return estHTTP("401 Unauthorized", nil, "") }
	_, err := client.Enroll(t.Context(), estCSR(t, "x"))
	estCase{code: fault.ClientCertificate, rv: 22, status: http.StatusUnauthorized}.check(t, err)
}
