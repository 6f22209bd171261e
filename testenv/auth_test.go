package testenv_test

import (
	"crypto"
	"encoding/base64"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/onlineca/onlineca/testenv"
	"github.com/onlineca/onlineca/testenv/internal/raw"
)

var good = raw.Login{User: testenv.DefaultUser, Password: testenv.DefaultPassword, Binding: raw.None}

// last is the newest request in the mock's list.
func last(s *testenv.Certsrv) testenv.Request {
	list := s.Requests()
	return list[len(list)-1]
}

// TestExtendedProtection goes through every setting of the server, binding and
// MIC of the client, and scheme.
func TestExtendedProtection(t *testing.T) {
	// certsrv as documented: what a client gets that binds so.
	want := map[testenv.EPA]map[raw.Binding]int{
		testenv.EPAOff:     {raw.None: 200, raw.Right: 200, raw.Wrong: 200, raw.Zero: 200},
		testenv.EPAAccept:  {raw.None: 200, raw.Right: 200, raw.Wrong: 401, raw.Zero: 401},
		testenv.EPARequire: {raw.None: 401, raw.Right: 200, raw.Wrong: 401, raw.Zero: 401},
	}
	for epa, row := range want {
		s := testenv.New(t, testenv.Config{EPA: epa})
		for bind, status := range row {
			for _, mic := range []bool{false, true} {
				for _, scheme := range []string{"NTLM", "Negotiate"} {
					t.Run(fmt.Sprintf("%s/%s/mic=%v/%s", epa, bind, mic, scheme), func(t *testing.T) {
						l := good
						l.Binding, l.MIC, l.Scheme = bind, mic, scheme
						a := dialRaw(t, s.URL, s.Pool()).login(l)
						r := last(s)
						if a.StatusCode != status || r.Status != status {
							t.Fatalf("status %d, logged %d, want %d", a.StatusCode, r.Status, status)
						}
						if status == 401 && (r.Substatus != 1 || r.Win32 != 2148074310) {
							t.Errorf("logged 401 %d %d, want 401 1 2148074310", r.Substatus, r.Win32)
						}
						if status == 200 {
							bound := bind == raw.Right && epa != testenv.EPAOff
							if r.Bound != bound || r.MIC != mic || !r.Login {
								t.Errorf("bound %v, MIC %v, login %v", r.Bound, r.MIC, r.Login)
							}
						}
					})
				}
			}
		}
	}
}

// TestBindingHash has IIS certificates signed with each hash.
func TestBindingHash(t *testing.T) {
	pki, err := testenv.NewPKI(testenv.PKIConfig{})
	if err != nil {
		t.Fatal(err)
	}
	for _, h := range []crypto.Hash{crypto.SHA256, crypto.SHA384, crypto.SHA512} {
		cert, err := pki.ServerCertificate(testenv.ServerOptions{Hash: h})
		if err != nil {
			t.Fatal(err)
		}
		s := testenv.New(t, testenv.Config{PKI: pki, Certificate: &cert, EPA: testenv.EPARequire})
		l := good
		l.Binding = raw.Right
		if a := dialRaw(t, s.URL, s.Pool()).login(l); a.StatusCode != http.StatusOK || !last(s).Bound {
			t.Errorf("%v: status %d", h, a.StatusCode)
		}
	}
}

func TestMIC(t *testing.T) {
	s := testenv.New(t, testenv.Config{RequireMIC: true})
	for _, tc := range []struct {
		name         string
		mic, corrupt bool
		status       int
	}{{"none", false, false, 401}, {"good", true, false, 200}, {"wrong", true, true, 401}} {
		l := good
		l.MIC, l.BreakMIC = tc.mic, tc.corrupt
		if a := dialRaw(t, s.URL, s.Pool()).login(l); a.StatusCode != tc.status {
			t.Errorf("%s MIC: status %d, want %d", tc.name, a.StatusCode, tc.status)
		}
	}
	lax := testenv.New(t, testenv.Config{})
	l := good
	l.BreakMIC = true
	if a := dialRaw(t, lax.URL, lax.Pool()).login(l); a.StatusCode != http.StatusUnauthorized {
		t.Errorf("a wrong MIC passes where none is required: status %d", a.StatusCode)
	}
}

func TestNames(t *testing.T) {
	s := testenv.New(t, testenv.Config{})
	for user, status := range map[string]int{
		`LAB\ciscora`: 200, `lab\CISCORA`: 200, `ciscora`: 200, `ciscora@lab.example`: 200, `lab.example\ciscora`: 200,
		`OTHER\ciscora`: 401, `ciscora@other.example`: 401, `LAB\nobody`: 401, `nobody`: 401,
	} {
		l := good
		l.User = user
		a := dialRaw(t, s.URL, s.Pool()).login(l)
		if a.StatusCode != status {
			t.Errorf("%s: status %d, want %d", user, a.StatusCode, status)
		}
		if r := last(s); status == 200 && r.User != testenv.DefaultUser {
			t.Errorf("%s is logged as %q", user, r.User)
		}
	}
}

// TestSchemes looks at what is offered, and who gets in.
func TestSchemes(t *testing.T) {
	for _, tc := range []struct {
		schemes             []testenv.Scheme
		offer               []string
		ntlm, negotiate, ok int
	}{
		{nil, []string{"Negotiate", "NTLM"}, 200, 200, 0},
		{[]testenv.Scheme{"NTLM"}, []string{"NTLM"}, 200, 401, 0},
		{[]testenv.Scheme{"Negotiate"}, []string{"Negotiate"}, 401, 200, 0},
		{[]testenv.Scheme{testenv.SchemeKerberos}, []string{"Negotiate"}, 401, 401, 0},
	} {
		s := testenv.New(t, testenv.Config{Schemes: tc.schemes})
		a := dialRaw(t, s.URL, s.Pool()).send(http.MethodGet, "/certsrv/", "", "")
		if got := a.Header.Values("WWW-Authenticate"); !slices.Equal(got, tc.offer) {
			t.Errorf("%v offers %q", tc.schemes, got)
		}
		for scheme, want := range map[string]int{"NTLM": tc.ntlm, "Negotiate": tc.negotiate} {
			l := good
			l.Scheme = scheme
			a := dialRaw(t, s.URL, s.Pool()).login(l)
			if a.StatusCode != want {
				t.Errorf("%v: %s gets %d, want %d", tc.schemes, scheme, a.StatusCode, want)
			}
			if got := a.Header.Values("WWW-Authenticate"); want == 401 && !slices.Equal(got, tc.offer) {
				t.Errorf("%v: %s refused with %q", tc.schemes, scheme, got)
			}
		}
	}
}

// TestPairOf401 compares the two kinds of 401 with captured ones.
func TestPairOf401(t *testing.T) {
	s := testenv.New(t, testenv.Config{})
	c := dialRaw(t, s.URL, s.Pool())
	iis := c.send(http.MethodGet, "/certsrv", "", "")
	kernel := c.send(http.MethodGet, "/certsrv", "NTLM "+base64.StdEncoding.EncodeToString(negotiateMessage(t)), "")
	for _, tc := range []struct {
		a                           raw.Reply
		server, contentType, xpower string
		length                      int
	}{
		{iis, "Microsoft-IIS/10.0", "text/html", "ASP.NET", 1293},
		{kernel, "Microsoft-HTTPAPI/2.0", "text/html; charset=us-ascii", "", 341},
	} {
		h := tc.a.Header
		if tc.a.StatusCode != http.StatusUnauthorized || h.Get("Server") != tc.server || h.Get("Content-Type") != tc.contentType ||
			h.Get("X-Powered-By") != tc.xpower || len(tc.a.Body) != tc.length || tc.a.ContentLength != int64(tc.length) {
			t.Errorf("%d %v, %d bytes", tc.a.StatusCode, h, len(tc.a.Body))
		}
	}
	if got := kernel.Header.Values("WWW-Authenticate"); len(got) != 1 || !strings.HasPrefix(got[0], "NTLM TlRMTVNTUAAC") {
		t.Errorf("challenge %q", got)
	}
}

// TestIdentityOfConnection: NTLM authenticates a connection, and a challenge is
// good for one answer on the connection that it was sent on.
func TestIdentityOfConnection(t *testing.T) {
	s := testenv.New(t, testenv.Config{})
	c := dialRaw(t, s.URL, s.Pool())
	if a := c.login(good); a.StatusCode != http.StatusOK || a.Header.Get("Persistent-Auth") != "true" {
		t.Fatalf("login: %d %v", a.StatusCode, a.Header)
	}
	if a := c.send(http.MethodGet, "/certsrv/", "", ""); a.StatusCode != http.StatusOK || a.Header.Get("Persistent-Auth") != "" {
		t.Errorf("second request: %d %v", a.StatusCode, a.Header)
	}
	if r := last(s); r.User != testenv.DefaultUser || r.Login {
		t.Errorf("second request is logged as %+v", r)
	}
	if a := dialRaw(t, s.URL, s.Pool()).send(http.MethodGet, "/certsrv/", "", ""); a.StatusCode != http.StatusUnauthorized {
		t.Errorf("another connection: %d", a.StatusCode)
	}
	// A new type 1 drops the identity.
	negotiate := raw.Header("NTLM", negotiateMessage(t))
	c.send(http.MethodGet, "/certsrv/", negotiate, "")
	if a := c.send(http.MethodGet, "/certsrv/", "", ""); a.StatusCode != http.StatusUnauthorized {
		t.Errorf("after a new type 1: %d", a.StatusCode)
	}
	if s.Handshakes() != 1 || s.FailedLogons() != 0 {
		t.Errorf("%d handshakes, %d failed logons", s.Handshakes(), s.FailedLogons())
	}
}

func TestSplitAndReplayedHandshake(t *testing.T) {
	s := testenv.New(t, testenv.Config{})
	first, second := dialRaw(t, s.URL, s.Pool()), dialRaw(t, s.URL, s.Pool())
	negotiate := negotiateMessage(t)
	a := first.send(http.MethodGet, "/certsrv/", "NTLM "+base64.StdEncoding.EncodeToString(negotiate), "")
	challenge, _ := raw.Token(a, "NTLM")
	answer := raw.Header("NTLM", answerTo(t, good, negotiate, challenge))
	if a := second.send(http.MethodGet, "/certsrv/", answer, ""); a.StatusCode != http.StatusUnauthorized || last(s).Win32 != 2148074248 {
		t.Errorf("answer on another connection: %d, logged %d", a.StatusCode, last(s).Win32)
	}
	if a := first.send(http.MethodGet, "/certsrv/", answer, ""); a.StatusCode != http.StatusOK {
		t.Fatalf("answer on its own connection: %d", a.StatusCode)
	}
	if a := first.send(http.MethodGet, "/certsrv/", answer, ""); a.StatusCode != http.StatusUnauthorized {
		t.Errorf("the same answer again: %d", a.StatusCode)
	}
	// An answer to another connection's challenge, where a challenge waits, is a
	// failed logon: the domain controller counts it.
	first.send(http.MethodGet, "/certsrv/", "NTLM "+base64.StdEncoding.EncodeToString(negotiate), "")
	first.send(http.MethodGet, "/certsrv/", answer, "")
	if r := last(s); r.Win32 != 2148074252 || s.FailedLogons() != 1 {
		t.Errorf("answer to an old challenge: logged %d, %d failed logons", r.Win32, s.FailedLogons())
	}
}

func TestLockout(t *testing.T) {
	s := testenv.New(t, testenv.Config{LockoutThreshold: 2})
	bad := good
	bad.Password = "wrong"
	for range 2 {
		dialRaw(t, s.URL, s.Pool()).login(bad)
	}
	if a := dialRaw(t, s.URL, s.Pool()).login(good); a.StatusCode != http.StatusUnauthorized || last(s).Win32 != 1909 {
		t.Errorf("a locked account: %d, logged %d", a.StatusCode, last(s).Win32)
	}
	s.Unlock()
	if a := dialRaw(t, s.URL, s.Pool()).login(good); a.StatusCode != http.StatusOK {
		t.Errorf("an unlocked account: %d", a.StatusCode)
	}
}

// TestClockSkew: the client's clock may be 36 hours away, not more. go-ntlmssp
// sends back the server's own time, so the server's clock is what moves.
func TestClockSkew(t *testing.T) {
	for skew, status := range map[time.Duration]int{35 * time.Hour: 200, 37 * time.Hour: 401, -37 * time.Hour: 401} {
		now := time.Now()
		s := testenv.New(t, testenv.Config{Clock: func() time.Time { return now }})
		c := dialRaw(t, s.URL, s.Pool())
		negotiate := negotiateMessage(t)
		a := c.send(http.MethodGet, "/certsrv/", "NTLM "+base64.StdEncoding.EncodeToString(negotiate), "")
		challenge, _ := raw.Token(a, "NTLM")
		now = now.Add(skew)
		answer := answerTo(t, good, negotiate, challenge)
		if a := c.send(http.MethodGet, "/certsrv/", "NTLM "+base64.StdEncoding.EncodeToString(answer), ""); a.StatusCode != status {
			t.Errorf("%v away: status %d, want %d", skew, a.StatusCode, status)
		}
	}
}

func TestAnonymousAllowed(t *testing.T) {
	s := testenv.New(t, testenv.Config{AnonymousAllowed: true})
	if a := dialRaw(t, s.URL, s.Pool()).send(http.MethodGet, "/certsrv/", "", ""); a.StatusCode != http.StatusOK {
		t.Errorf("status %d", a.StatusCode)
	}
}

func TestAuthPersistSingleRequest(t *testing.T) {
	s := testenv.New(t, testenv.Config{AuthPersistSingleRequest: true})
	c := dialRaw(t, s.URL, s.Pool())
	if a := c.login(good); a.StatusCode != http.StatusOK {
		t.Fatalf("login: %d", a.StatusCode)
	}
	if a := c.send(http.MethodGet, "/certsrv/", "", ""); a.StatusCode != http.StatusUnauthorized {
		t.Errorf("second request: %d", a.StatusCode)
	}
}

// TestBodyOfLoginLeg: the body of a request that is refused is read, and the
// connection lives on.
func TestBodyOfLoginLeg(t *testing.T) {
	s := testenv.New(t, testenv.Config{})
	c := dialRaw(t, s.URL, s.Pool())
	if a := c.send(http.MethodPost, "/certsrv/certfnsh.asp", "", strings.Repeat("x", 100_000)); a.StatusCode != http.StatusUnauthorized {
		t.Fatalf("status %d", a.StatusCode)
	}
	if a := c.login(good); a.StatusCode != http.StatusOK {
		t.Errorf("login after it: %d", a.StatusCode)
	}
	if s.Submissions() != 0 {
		t.Errorf("%d submissions", s.Submissions())
	}
}

func TestIISLogOfLogin(t *testing.T) {
	s := testenv.New(t, testenv.Config{})
	c := dialRaw(t, s.URL, s.Pool())
	c.Path = "/certsrv"
	c.send(http.MethodGet, "/certsrv", "", "")
	if a := c.login(good); a.StatusCode != http.StatusMovedPermanently || !strings.HasSuffix(a.Header.Get("Location"), "/certsrv/") {
		t.Fatalf("%d, Location %q", a.StatusCode, a.Header.Get("Location"))
	}
	bad := good
	bad.Password = "wrong"
	c.login(bad)
	var got []string
	for _, r := range s.Requests() {
		got = append(got, fmt.Sprintf("%s %s [%s] %d %d %d", r.Method, r.Path, r.User, r.Status, r.Substatus, r.Win32))
	}
	want := []string{
		`GET /certsrv [] 401 2 5`,
		`GET /certsrv [] 401 1 2148074254`,
		`GET /certsrv [LAB\ciscora] 301 0 0`,
		`GET /certsrv [] 401 1 2148074254`,
		`GET /certsrv [] 401 1 2148074252`,
	}
	if !slices.Equal(got, want) {
		t.Errorf("log:\n%s\nwant:\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func TestHTTP2IsReset(t *testing.T) {
	s := testenv.New(t, testenv.Config{HTTP2: true})
	client := s.Client()
	tr := client.Transport.(*http.Transport)
	tr.Protocols.SetHTTP2(true)
	_, err := client.Get(s.URL + "/certsrv/")
	if err == nil || !strings.Contains(err.Error(), "HTTP_1_1_REQUIRED") {
		t.Errorf("over HTTP/2: %v", err)
	}
	if resp, err := s.Client().Get(s.URL + "/certsrv/"); err != nil || resp.StatusCode != http.StatusUnauthorized {
		t.Errorf("over HTTP/1.1: %v, %v", resp, err)
	} else {
		resp.Body.Close()
	}
}

func TestBasic(t *testing.T) {
	s := testenv.New(t, testenv.Config{Schemes: []testenv.Scheme{testenv.SchemeNTLM, testenv.SchemeBasic}})
	for password, status := range map[string]int{testenv.DefaultPassword: 200, "wrong": 401} {
		token := base64.StdEncoding.EncodeToString([]byte(testenv.DefaultUser + ":" + password))
		c := dialRaw(t, s.URL, s.Pool())
		if a := c.send(http.MethodGet, "/certsrv/", "Basic "+token, ""); a.StatusCode != status {
			t.Errorf("%s: %d, want %d", password, a.StatusCode, status)
		}
		if a := c.send(http.MethodGet, "/certsrv/", "", ""); a.StatusCode != http.StatusUnauthorized {
			t.Errorf("Basic stays on the connection: %d", a.StatusCode)
		}
	}
}

func TestPostWithoutLength(t *testing.T) {
	s := testenv.New(t, testenv.Config{})
	c := dialRaw(t, s.URL, s.Pool())
	fmt.Fprintf(c.Conn, "POST /certsrv/certfnsh.asp HTTP/1.1\r\nHost: %s\r\n\r\n", c.Host)
	resp, err := http.ReadResponse(c.R, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusLengthRequired || resp.Header.Get("Server") != "Microsoft-HTTPAPI/2.0" {
		t.Errorf("%d %v", resp.StatusCode, resp.Header)
	}
}

// TestSecondTry: after a refusal, a login can begin anew on the same connection.
func TestSecondTry(t *testing.T) {
	s := testenv.New(t, testenv.Config{})
	c := dialRaw(t, s.URL, s.Pool())
	bad := good
	bad.Password = "wrong"
	if a := c.login(bad); a.StatusCode != http.StatusUnauthorized || len(a.Header.Values("WWW-Authenticate")) != 2 {
		t.Errorf("wrong password: %d %q", a.StatusCode, a.Header.Values("WWW-Authenticate"))
	}
	if a := c.login(good); a.StatusCode != http.StatusOK {
		t.Errorf("right password: %d", a.StatusCode)
	}
}
