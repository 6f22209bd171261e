package testenv

import (
	"crypto/rand"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/onlineca/onlineca/testenv/internal/page"
)

// Step is a place in an enrolment, for faults to happen at.
type Step string

// The steps.
const (
	// StepAny is every step but the handshake.
	StepAny Step = "any"
	// StepHandshake is a request that is answered 401: the legs of a login.
	StepHandshake Step = "handshake"
	// StepLogin is GET /certsrv and /certsrv/ by somebody who is logged in.
	StepLogin Step = "login"
	// StepPage is certrqxt.asp, and the other pages with forms.
	StepPage Step = "page"
	// StepChain is certcarc.asp, and certnew.p7b and certnew.cer for CACert.
	StepChain Step = "chain"
	// StepSubmit is POST certfnsh.asp.
	StepSubmit Step = "submit"
	// StepFetch is certnew.cer and certnew.p7b for a request.
	StepFetch Step = "fetch"
	// StepCRL is certcrl.crl.
	StepCRL Step = "crl"
)

// exchange is one request on its way through the mock.
type exchange struct {
	s     *Certsrv
	r     *http.Request
	conn  *conn
	step  Step
	start time.Time
	body  []byte
	form  url.Values // names in lower case, of query and body
	class page.Class

	user                 string
	loggedIn, bound, mic bool
	final                string // last token of SPNEGO
	reqID                int
	fault                *armed
	// What a fault makes of a submission.
	tweak submission
	// caDown is what a fault makes of the certificate authority.
	caDown HRESULT
}

// answer is what goes back.
type answer struct {
	status    int
	substatus int
	win32     uint32
	header    http.Header
	body      []byte
}

// maxBody is what classic ASP reads of a request (AspMaxRequestEntityAllowed).
const maxBody = 200_000

// ServeHTTP is IIS: it authenticates, lets the application answer, and logs.
func (s *Certsrv) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if !s.enter() {
		panic(http.ErrAbortHandler)
	}
	defer s.running.Done()
	x := &exchange{
		s: s, r: r, start: s.conf.Clock(), class: page.ClassOf(r.UserAgent()),
		conn: r.Context().Value(connKey{}).(*conn),
	}
	if r.Method == http.MethodPost && r.ContentLength == 0 && r.Header.Get("Content-Length") == "" {
		s.finish(w, x, lengthRequired())
		return
	}
	x.body = s.readBody(w, r)
	x.form = x.values()
	x.step = x.stepOf()
	if refused := s.authenticateIfAsked(x); refused != nil {
		x.step = StepHandshake
		s.finish(w, x, refused.answer())
		return
	}
	s.finish(w, x, answer{})
	if s.conf.AuthPersistSingleRequest {
		x.conn.user = ""
	}
}

// readBody reads what comes with a request, and what it has no use for too: the
// connection lives on.
func (s *Certsrv) readBody(w http.ResponseWriter, r *http.Request) []byte {
	c := http.NewResponseController(w)
	_ = c.SetReadDeadline(time.Now().Add(s.conf.IdleTimeout))
	b, _ := io.ReadAll(http.MaxBytesReader(w, r.Body, 1<<20)) // what is missing is missing in the form
	_ = c.SetReadDeadline(time.Time{})
	return b
}

// authenticateIfAsked asks for a login below /certsrv, and nowhere else.
func (s *Certsrv) authenticateIfAsked(x *exchange) *refusal {
	if !x.below() {
		return nil
	}
	return s.authenticate(x)
}

func (x *exchange) below() bool {
	p := strings.ToLower(x.r.URL.Path)
	return p == "/certsrv" || strings.HasPrefix(p, "/certsrv/")
}

// values reads the query and a form body. ASP knows names in any case.
func (x *exchange) values() url.Values {
	out := url.Values{}
	add := func(encoded string) {
		v, _ := url.ParseQuery(encoded) // ASP takes what it can read
		for name, list := range v {
			out[strings.ToLower(name)] = append(out[strings.ToLower(name)], list...)
		}
	}
	add(x.r.URL.RawQuery)
	if x.r.Method == http.MethodPost {
		add(string(x.body))
	}
	return out
}

// file is the name of the file below /certsrv, in lower case.
func (x *exchange) file() string {
	p := strings.ToLower(x.r.URL.Path)
	return strings.TrimPrefix(strings.TrimPrefix(p, "/certsrv"), "/")
}

// isFile reports whether a file is asked for, and not a page.
func (x *exchange) isFile() bool { return strings.HasPrefix(x.file(), "certnew.") }

func (x *exchange) stepOf() Step {
	switch x.file() {
	case "certfnsh.asp":
		return StepSubmit
	case "certcarc.asp":
		return StepChain
	case "certnew.cer", "certnew.p7b":
		if strings.EqualFold(x.form.Get("reqid"), "CACert") {
			return StepChain
		}
		return StepFetch
	case "certcrl.crl":
		return StepCRL
	case "", "default.asp":
		return StepLogin
	default:
		return StepPage
	}
}

// finish takes the request to its end: through a fault if one is waiting for
// it, through the application unless it has an answer already, and onto the
// wire and into the log.
func (s *Certsrv) finish(w http.ResponseWriter, x *exchange, a answer) {
	s.log.begin(x.step)
	x.fault = s.faults.take(x)
	if x.fault != nil && x.fault.kind.before != nil {
		if early := x.fault.kind.before(x, x.fault); early != nil {
			a = *early
		}
		if a.status == statusGone {
			a.status = 0
			s.record(x, a)
			if x.fault.kind.end != nil {
				x.fault.kind.end(x, x.fault)
			}
			x.abort(w)
			return
		}
	}
	if a.status == 0 {
		if !x.wait(s.conf.Delay) {
			s.record(x, answer{status: http.StatusOK, win32: win32NetnameGone})
			x.abort(w)
			return
		}
		a = s.route(x)
	}
	if x.fault != nil && x.fault.kind.after != nil {
		x.fault.kind.after(x, x.fault, &a)
	}
	s.send(w, x, a)
}

// wait returns false if the client or the mock is gone before d is over.
func (x *exchange) wait(d time.Duration) bool {
	if d <= 0 {
		return true
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-x.r.Context().Done():
		return false
	}
}

// send writes the answer, in the way that a fault wants if there is one.
func (s *Certsrv) send(w http.ResponseWriter, x *exchange, a answer) {
	h := w.Header()
	for name, list := range a.header {
		h[name] = list
	}
	if h.Get("Date") == "" {
		h.Set("Date", s.conf.Clock().UTC().Format(http.TimeFormat))
	}
	if x.loggedIn {
		h.Set("Persistent-Auth", "true")
	}
	if x.final != "" {
		h[authenticateHeader] = []string{x.final}
	}
	if h.Get("Server") == "" {
		h.Set("Server", "Microsoft-IIS/10.0")
		h.Set("X-Powered-By", "ASP.NET")
	}
	if x.fault != nil && x.fault.kind.deliver != nil {
		s.record(x, answer{status: a.status, substatus: a.substatus, win32: win32NetnameGone})
		x.fault.kind.deliver(w, x, x.fault, a)
		return
	}
	// Logged before it is sent: whoever has the answer finds it in the log.
	s.record(x, a)
	h.Set("Content-Length", strconv.Itoa(len(a.body)))
	w.WriteHeader(a.status)
	if x.r.Method != http.MethodHead {
		_, _ = w.Write(a.body)
	}
}

// abort breaks the connection without an answer.
func (x *exchange) abort(w http.ResponseWriter) {
	if c, _, err := http.NewResponseController(w).Hijack(); err == nil {
		_ = c.Close()
		return
	}
	panic(http.ErrAbortHandler)
}

// route is the site: the application below /certsrv, nothing elsewhere.
func (s *Certsrv) route(x *exchange) answer {
	if len(x.body) > maxBody {
		return aspTooLarge()
	}
	if !x.below() {
		return notFound()
	}
	if strings.EqualFold(x.r.URL.Path, "/certsrv") {
		return s.redirectToSlash(x)
	}
	switch x.r.Method {
	case http.MethodGet, http.MethodHead, http.MethodPost:
	default:
		return methodNotAllowed()
	}
	h, ok := application[x.file()]
	if !ok {
		return notFound()
	}
	return h(s, x)
}

// application maps a file below /certsrv to what answers for it.
var application = map[string]func(*Certsrv, *exchange) answer{
	"":             (*Certsrv).welcome,
	"default.asp":  (*Certsrv).welcome,
	"certrqus.asp": func(s *Certsrv, x *exchange) answer { return s.html(x, s.site.RequestType()) },
	"certrqad.asp": func(s *Certsrv, x *exchange) answer { return s.html(x, s.site.Advanced()) },
	"certrqxt.asp": (*Certsrv).submitForm,
	"certfnsh.asp": (*Certsrv).submit,
	"certckpn.asp": (*Certsrv).pendingList,
	"certcarc.asp": (*Certsrv).caList,
	"certnew.cer":  (*Certsrv).fetchCertificate,
	"certnew.p7b":  (*Certsrv).fetchChain,
	"certcrl.crl":  (*Certsrv).fetchCRL,
}

// html is a page made by classic ASP: it says nothing of its character set in
// the header, and sets a session cookie that nobody needs.
func (s *Certsrv) html(x *exchange, body []byte) answer {
	a := answer{status: http.StatusOK, header: http.Header{}, body: body}
	a.header.Set("Cache-Control", "private")
	a.header.Set("Content-Type", "text/html")
	if !strings.Contains(x.r.Header.Get("Cookie"), "ASPSESSIONID") {
		a.header.Add("Set-Cookie", "ASPSESSIONIDQQADSCTB="+letters(24)+"; secure; path=/")
	}
	return a
}

// letters is a session's name in the manner of ASP.
func letters(n int) string {
	b := make([]byte, n)
	_, _ = rand.Read(b) // never fails, says crypto/rand
	for i := range b {
		b[i] = 'A' + b[i]%26
	}
	return string(b)
}
