package testenv_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/smallstep/pkcs7"

	"github.com/onlineca/onlineca/testenv"
	"github.com/onlineca/onlineca/testenv/internal/raw"
)

// where is a request for each step.
var where = map[testenv.Step]string{
	testenv.StepLogin:  "/certsrv",
	testenv.StepPage:   "/certsrv/certrqxt.asp",
	testenv.StepChain:  "/certsrv/certnew.p7b?ReqID=CACert&Renewal=0&Enc=bin",
	testenv.StepFetch:  "/certsrv/certnew.cer?ReqID=1&Enc=b64",
	testenv.StepCRL:    "/certsrv/certcrl.crl?Type=base",
	testenv.StepSubmit: "/certsrv/certfnsh.asp",
}

// ask makes the request of a step; somebody who is logged in.
func (v visitor) ask(step testenv.Step, csr string) (raw.Reply, error) {
	if step == testenv.StepSubmit {
		return v.try(http.MethodPost, where[step], form(csr, "CertificateTemplate:CiscoRA"))
	}
	return v.try(http.MethodGet, where[step], nil)
}

// effects says how each fault shows to a client. issued is how many
// certificates there are afterwards, for those that happen to a submission.
var effects = map[string]func(*testing.T, visitor, raw.Reply, error){
	"close":       broken(0, io.EOF, io.ErrUnexpectedEOF),
	"reset":       broken(0, syscall.ECONNRESET),
	"answer-lost": broken(1, io.EOF, io.ErrUnexpectedEOF),
	"truncated":   broken(1, io.ErrUnexpectedEOF),
	"garbage": func(t *testing.T, _ visitor, _ raw.Reply, err error) {
		if err == nil || !strings.Contains(err.Error(), "malformed HTTP") {
			t.Errorf("error %v", err)
		}
	},
	"restart":     broken(0, syscall.ECONNRESET, io.EOF, syscall.EPIPE),
	"slow":        issues(1),
	"slow-answer": issues(1),
	"session-lost": func(t *testing.T, v visitor, a raw.Reply, err error) {
		if err != nil || a.StatusCode != http.StatusUnauthorized || last(v.s).User != "" {
			t.Errorf("%d, %v", a.StatusCode, err)
		}
	},
	"clock-wrong": func(t *testing.T, _ visitor, a raw.Reply, _ error) {
		date, err := http.ParseTime(a.Header.Get("Date"))
		if err != nil || time.Until(date) < time.Hour {
			t.Errorf("Date %q", a.Header.Get("Date"))
		}
	},
	"status-500": status(500),
	"status-503": status(503),
	"status-404": status(404),
	"elsewhere":  status(302),
	"empty":      body(""),
	"unknown-page": func(t *testing.T, _ visitor, a raw.Reply, _ error) {
		if a.StatusCode != http.StatusOK || strings.Contains(a.Body, "ID=loc") {
			t.Errorf("%d:\n%s", a.StatusCode, a.Body)
		}
	},
	"html-certificate": func(t *testing.T, _ visitor, a raw.Reply, _ error) {
		if a.Header.Get("Content-Type") != "application/pkix-cert" || !strings.Contains(a.Body, "<HTML>") {
			t.Errorf("%v\n%s", a.Header, a.Body)
		}
	},
	"bad-certificate": func(t *testing.T, _ visitor, a raw.Reply, _ error) {
		if !strings.HasPrefix(a.Body, "-----BEGIN CERTIFICATE-----\r\n") || strings.Contains(a.Body, "-----BEGIN CERTIFICATE-----\r\nMI") {
			t.Errorf("%s", a.Body)
		}
	},
	"other-key": func(t *testing.T, v visitor, a raw.Reply, _ error) {
		c := mustParse(t, decodePEM(t, a.Body))
		if err := c.CheckSignatureFrom(v.s.PKI.Current()); err != nil {
			t.Error(err)
		}
		if bytes.Equal(c.RawSubjectPublicKeyInfo, v.s.Issued()[0].CSR.RawSubjectPublicKeyInfo) {
			t.Error("it has the key of the request")
		}
	},
	"wrong-chain": func(t *testing.T, v visitor, a raw.Reply, _ error) {
		p, err := pkcs7.Parse([]byte(a.Body))
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range p.Certificates {
			if c.Equal(v.s.Root) {
				t.Error("it has the right root")
			}
		}
	},
	"chain-without-root": func(t *testing.T, _ visitor, a raw.Reply, _ error) {
		if p, err := pkcs7.Parse([]byte(a.Body)); err != nil || len(p.Certificates) != 1 {
			t.Errorf("%v", err)
		}
	},
	"bad-chain": func(t *testing.T, _ visitor, a raw.Reply, _ error) {
		if _, err := pkcs7.Parse([]byte(a.Body)); err == nil || len(a.Body) == 0 {
			t.Error("it can be read")
		}
	},
	"ca-stopped":    page("The RPC server is unavailable. 0x800706ba (WIN32: 1722 RPC_S_SERVER_UNAVAILABLE)", 0),
	"rpc-down":      page("CCertRequest::Submit", 0),
	"access-denied": page("0x80070005 (WIN32: 5 ERROR_ACCESS_DENIED)", 0),
	"deny":          page(`Your Request Id is 1. The disposition message is "Denied by Policy Module  0x80094800, `, 0),
	"deny-terse": func(t *testing.T, v visitor, a raw.Reply, err error) {
		page(`The disposition message is "Denied by Policy Module".`, 0)(t, v, a, err)
		if later := v.get("/certsrv/certnew.cer?ReqID=1"); !strings.Contains(later.Body, "0x80094012") {
			t.Errorf("no code on the fetch page:\n%s", later.Body)
		}
	},
	"hold":         page("ID=locInfoReqID>", 0),
	"revoked":      page("<P ID=locIssRev> ", 1),
	"no-templates": page("No certificate templates could be found.", 0),
	"hang":         hangs, "stalled": hangs,
	"endless": func(t *testing.T, _ visitor, a raw.Reply, err error) {
		if !errors.Is(err, errEnough) {
			t.Errorf("it ends: %v, %d bytes", err, len(a.Body))
		}
	},
	"bad-challenge": nil, "lost-challenge": nil, // see TestHandshakeFaults
}

var errEnough = errors.New("read enough")

func hangs(t *testing.T, _ visitor, _ raw.Reply, err error) {
	var timeout net.Error
	if !errors.As(err, &timeout) || !timeout.Timeout() {
		t.Errorf("it does not hang: %v", err)
	}
}

func broken(issued int, anyOf ...error) func(*testing.T, visitor, raw.Reply, error) {
	return func(t *testing.T, v visitor, _ raw.Reply, err error) {
		for _, e := range anyOf {
			if errors.Is(err, e) {
				issues(issued)(t, v, raw.Reply{}, nil)
				return
			}
		}
		t.Errorf("error %v, want one of %v", err, anyOf)
	}
}

func issues(n int) func(*testing.T, visitor, raw.Reply, error) {
	return func(t *testing.T, v visitor, _ raw.Reply, err error) {
		if err != nil || len(v.s.Issued()) != n {
			t.Errorf("%v, %d certificates, want %d", err, len(v.s.Issued()), n)
		}
	}
}

func status(code int) func(*testing.T, visitor, raw.Reply, error) {
	return func(t *testing.T, v visitor, a raw.Reply, err error) {
		if err != nil || a.StatusCode != code || v.s.Submissions() != 0 {
			t.Errorf("%v, status %d, %d submissions", err, a.StatusCode, v.s.Submissions())
		}
	}
}

func body(want string) func(*testing.T, visitor, raw.Reply, error) {
	return func(t *testing.T, _ visitor, a raw.Reply, err error) {
		if err != nil || a.Body != want {
			t.Errorf("%v, body %q", err, a.Body)
		}
	}
}

func page(want string, issued int) func(*testing.T, visitor, raw.Reply, error) {
	return func(t *testing.T, v visitor, a raw.Reply, err error) {
		if err != nil || a.StatusCode != http.StatusOK || !strings.Contains(a.Body, want) {
			t.Errorf("%v: no %q in\n%s", err, want, a.Body)
		}
		issues(issued)(t, v, a, nil)
	}
}

// TestEveryFault injects each fault of the table once, at its own step, and
// looks at its effect; the request after it must be answered as ever.
func TestEveryFault(t *testing.T) {
	for _, doc := range testenv.Faults() {
		effect, known := effects[doc.Name]
		if !known {
			t.Errorf("fault %s is not tested", doc.Name)
		}
		if effect == nil {
			continue
		}
		t.Run(doc.Name, func(t *testing.T) {
			v := visit(t, testenv.Config{})
			csr, _ := newCSR(t, "SEP001122334455")
			step := doc.Steps[0]
			if step == testenv.StepAny {
				step = testenv.StepSubmit
			}
			if step == testenv.StepFetch {
				issued(t, v.submit(csr, "CertificateTemplate:CiscoRA"))
			}
			text := doc.Name + "@" + string(step)
			if doc.Parameter == "duration" && doc.Name != "clock-wrong" {
				text = doc.Name + ":1ms@" + string(step)
			}
			if err := v.s.InjectText(text); err != nil {
				t.Fatal(err)
			}
			a, err := v.limited(doc.Name).ask(step, csr)
			effect(t, v, a, err)
			if got := v.s.Waiting(); len(got) != 0 {
				t.Errorf("still waiting: %q", got)
			}
			v.s.Restart(0) // ends what hangs, so that it is in the list
			again, err := v.ask(testenv.StepLogin, csr)
			if err != nil || again.StatusCode != http.StatusMovedPermanently {
				t.Errorf("the next request: %v, %d", err, again.StatusCode)
			}
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			defer cancel()
			until(ctx, t, "a request is marked with the fault", func() bool { return faultLogged(v.s, doc.Name) })
		})
	}
	if len(effects) != len(testenv.Faults()) {
		t.Errorf("%d effects for %d faults", len(effects), len(testenv.Faults()))
	}
}

func faultLogged(s *testenv.Certsrv, name string) bool {
	for _, r := range s.Requests() {
		if r.Fault == name {
			return true
		}
	}
	return false
}

// limited is a visitor who does not wait long for what hangs, and does not read
// for ever.
func (v visitor) limited(fault string) visitor {
	switch fault {
	case "hang", "stalled":
		v.patience = 100 * time.Millisecond
	case "endless":
		v.appetite = 5 << 20
	}
	return v
}

// TestHandshakeFaults: the faults of a login's legs.
func TestHandshakeFaults(t *testing.T) {
	s := testenv.New(t, testenv.Config{})
	s.Inject(testenv.LostChallenge)
	if a := dialRaw(t, s.URL, s.Pool()).login(good); a.StatusCode != http.StatusUnauthorized || last(s).Win32 != 2148074248 {
		t.Errorf("lost challenge: %d, logged %d", a.StatusCode, last(s).Win32)
	}
	s.Inject(testenv.BadChallenge)
	c := dialRaw(t, s.URL, s.Pool())
	a := c.send(http.MethodGet, "/certsrv", "NTLM TlRMTVNTUAABAAAABoIIAAAAAAAAAAAAAAAAAAAAAAA=", "")
	if token, ok := raw.Token(a, "NTLM"); a.StatusCode != http.StatusUnauthorized || !ok || len(token) > 20 {
		t.Errorf("bad challenge: %d %x", a.StatusCode, token)
	}
	s.Inject(testenv.Status503, testenv.On(testenv.StepHandshake))
	if a := dialRaw(t, s.URL, s.Pool()).send(http.MethodGet, "/certsrv", "", ""); a.StatusCode != http.StatusServiceUnavailable {
		t.Errorf("503 in the handshake: %d", a.StatusCode)
	}
	s.Inject(testenv.Hang, testenv.On(testenv.StepAny))
	if a := dialRaw(t, s.URL, s.Pool()).send(http.MethodGet, "/certsrv", "", ""); a.StatusCode != http.StatusUnauthorized {
		t.Errorf("a fault at any step happens to a leg of the login: %d", a.StatusCode)
	}
}

// TestFaultsAreUsedUp: times, order, and forever.
func TestFaultsAreUsedUp(t *testing.T) {
	v := visit(t, testenv.Config{})
	v.s.Inject(testenv.Status500, testenv.On(testenv.StepLogin), testenv.Times(2))
	v.s.Inject(testenv.Status503, testenv.On(testenv.StepLogin))
	v.s.Inject(testenv.Status404, testenv.On(testenv.StepPage), testenv.Times(testenv.Forever))
	if got := fmt.Sprint(v.s.Waiting()); got != "[status-500@login*2 status-503@login*1 status-404@page*forever]" {
		t.Errorf("waiting: %s", got)
	}
	for i, want := range []int{500, 500, 503, 301} {
		if a := v.get("/certsrv"); a.StatusCode != want {
			t.Errorf("login %d: %d, want %d", i, a.StatusCode, want)
		}
	}
	for range 3 {
		if a := v.get("/certsrv/certrqxt.asp"); a.StatusCode != http.StatusNotFound {
			t.Errorf("page: %d", a.StatusCode)
		}
	}
	v.s.ClearFaults()
	if a := v.get("/certsrv/certrqxt.asp"); a.StatusCode != http.StatusOK {
		t.Errorf("page after ClearFaults: %d", a.StatusCode)
	}
}

func TestFaultText(t *testing.T) {
	s := testenv.New(t, testenv.Config{})
	for text, want := range map[string]string{
		"hang@submit":           "hang@submit*1",
		"slow:12s@login*3":      "slow:12s@login*3",
		"deny:0x80094012":       "deny:0x80094012@submit*1",
		"rpc-down*forever":      "rpc-down:0x800706ba@submit*forever",
		"answer-lost":           "answer-lost@submit*1",
		"no-templates@page*10":  "no-templates@page*10",
		"lost-challenge":        "lost-challenge@handshake*1",
		"clock-wrong:-48h@any*": "",
		"hang@nowhere":          "",
		"other-key@submit":      "",
		"nosuch":                "",
		"hang:3s":               "",
		"slow:fast":             "",
		"slow:0s":               "",
		"deny:0x1234567890":     "",
		"hang*0":                "",
		"hang*-1":               "",
		"":                      "",
	} {
		s.ClearFaults()
		err := s.InjectText(text)
		if (err == nil) != (want != "") {
			t.Errorf("%q: %v", text, err)
		}
		if got := strings.Join(s.Waiting(), " "); got != want {
			t.Errorf("%q: waiting %q, want %q", text, got, want)
		}
	}
}

// TestCloseEndsWhatHangs: Close waits for nothing that waits for nothing.
func TestCloseEndsWhatHangs(t *testing.T) {
	s := testenv.New(t, testenv.Config{AnonymousAllowed: true})
	s.Inject(testenv.Hang, testenv.On(testenv.StepLogin), testenv.Times(testenv.Forever))
	errs := make(chan error)
	for range 4 {
		c := dialRaw(t, s.URL, s.Pool())
		if err := c.Handshake(); err != nil {
			t.Fatal(err)
		}
		go func() {
			_, err := c.Send(http.MethodGet, "/certsrv", "", "")
			errs <- err
		}()
	}
	s.Close()
	for range 4 {
		if err := <-errs; err == nil {
			t.Error("a request was answered")
		}
	}
	if _, open := s.Connections(); open != 0 {
		t.Errorf("%d connections are open", open)
	}
	s.Close()
}
