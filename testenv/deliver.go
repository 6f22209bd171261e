package testenv

import (
	"bytes"
	"crypto/rand"
	"crypto/x509"
	"net/http"
	"strconv"

	"github.com/onlineca/onlineca/testenv/internal/page"
)

// begin sends the head of the answer, announcing its whole body, and the first
// half of that.
func begin(w http.ResponseWriter, a answer) {
	w.Header().Set("Content-Length", strconv.Itoa(len(a.body)))
	w.WriteHeader(a.status)
	_, _ = w.Write(a.body[:len(a.body)/2])
	_ = http.NewResponseController(w).Flush()
}

func truncated(w http.ResponseWriter, _ *exchange, _ *armed, a answer) {
	begin(w, a)
	panic(http.ErrAbortHandler)
}

func stalled(w http.ResponseWriter, x *exchange, _ *armed, a answer) {
	begin(w, a)
	<-x.r.Context().Done()
	panic(http.ErrAbortHandler)
}

// endless sends the body over and over until the client has enough.
func endless(w http.ResponseWriter, x *exchange, _ *armed, a answer) {
	w.WriteHeader(a.status)
	body := a.body
	if len(body) == 0 {
		body = bytes.Repeat([]byte("<BR>\r\n"), 100)
	}
	for x.r.Context().Err() == nil {
		if _, err := w.Write(body); err != nil {
			break
		}
	}
	panic(http.ErrAbortHandler)
}

func garbage(w http.ResponseWriter, x *exchange, _ *armed, _ answer) {
	c, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		x.abort(w)
		return
	}
	_, _ = c.Write([]byte("\x15\x03\x01 this is not HTTP\r\n\r\n"))
	_ = c.Close()
}

var fileSteps = []Step{StepFetch, StepChain}

var contentFaults = []faultKind{
	{
		name: "empty", steps: answersOnly,
		effect: "answers 200 with an empty body, what was asked being done",
		after:  func(_ *exchange, _ *armed, a *answer) { a.body = nil },
	},
	{
		name: "unknown-page", steps: answersOnly,
		effect: "answers with a page that has none of the known marks, what was asked being done",
		after: func(_ *exchange, _ *armed, a *answer) {
			a.header.Set("Content-Type", "text/html")
			a.body = []byte("<html><head><title>Portal</title></head>\r\n<body><h1>Under maintenance</h1></body></html>\r\n")
		},
	},
	{
		name: "html-certificate", files: true, steps: fileSteps,
		effect: "sends an HTML page with the content type of a certificate",
		after: func(x *exchange, _ *armed, a *answer) {
			a.header.Set("Content-Type", "application/pkix-cert")
			a.body = x.s.site.Welcome()
		},
	},
	{
		name: "bad-certificate", files: true, steps: fetchOnly,
		effect: "sends random bytes where the certificate should be, in its armour",
		certificate: func(_ *exchange, c *x509.Certificate) ([]byte, error) {
			b := make([]byte, len(c.Raw))
			_, err := rand.Read(b)
			return b, err
		},
	},
	{
		name: "other-key", files: true, steps: fetchOnly,
		effect: "sends a certificate that the CA has signed, for a key that is not the request's",
		certificate: func(x *exchange, c *x509.Certificate) ([]byte, error) {
			r, ok := x.s.ca.find(x.reqID)
			if !ok {
				return c.Raw, nil // the step was a CA certificate's: nothing to exchange
			}
			other, err := x.s.ca.otherKey(r)
			if err != nil {
				return nil, err
			}
			return other.Raw, nil
		},
	},
	{
		name: "wrong-chain", files: true, steps: fileSteps[1:],
		effect: "sends the chain of another hierarchy, whose names are the same",
		chain: func(x *exchange, _ []*x509.Certificate) ([]*x509.Certificate, error) {
			other, err := NewPKI(x.s.PKI.conf)
			if err != nil {
				return nil, err
			}
			return other.Chain(0), nil
		},
	},
	{
		name: "chain-without-root", files: true, steps: fileSteps[1:],
		effect: "leaves the root out of the chain",
		chain: func(_ *exchange, chain []*x509.Certificate) ([]*x509.Certificate, error) {
			return chain[:len(chain)-1], nil
		},
	},
	{
		name: "bad-chain", files: true, steps: fileSteps[1:],
		effect: "sends bytes that are no PKCS#7",
		after: func(_ *exchange, _ *armed, a *answer) {
			a.body = bytes.Repeat([]byte{0x30, 0x80, 0x06, 0x09}, 256)
		},
	},
}

var caFaults = []faultKind{
	{
		name: "ca-stopped", steps: answersOnly, code: resultRPCUnavailable,
		effect: "the CA's service is stopped: pages say so, submissions and fetches fail with the code",
		before: func(x *exchange, a *armed) *answer { x.caDown = a.Code; return nil },
	},
	{
		name: "rpc-down", steps: []Step{StepSubmit, StepFetch, StepChain, StepCRL}, code: resultRPCUnavailable,
		effect: "the web server cannot reach the CA (RPC): the step fails with the code, the other pages are there",
		before: func(x *exchange, a *armed) *answer { x.caDown = a.Code; return nil },
	},
	{
		name: "access-denied", steps: answersOnly, code: resultAccessDenied,
		effect: "the CA does not know the web server's caller: web server and CA on two machines, and no delegation",
		before: func(x *exchange, a *armed) *answer { x.caDown = a.Code; return nil },
	},
	{
		name: "deny", steps: submitOnly, code: resultUnsupported,
		effect: "the policy module denies the request, with a ReqID and the code",
		before: func(x *exchange, a *armed) *answer { x.tweak.deny = a.Code; return nil },
	},
	{
		name: "deny-terse", steps: submitOnly, code: resultTemplateDenied,
		effect: "the policy module denies the request without saying why; the code stands in the fetch page's LastStatus alone",
		before: func(x *exchange, a *armed) *answer {
			x.tweak.deny, x.tweak.terse = a.Code, true
			return nil
		},
	},
	{
		name: "hold", steps: submitOnly,
		effect: "keeps the request pending whatever its template says",
		before: func(x *exchange, _ *armed) *answer { x.tweak.hold = true; return nil },
	},
	{
		name: "revoked", steps: submitOnly,
		effect: "issues the certificate, revokes it and says so",
		after: func(x *exchange, _ *armed, a *answer) {
			if x.s.ca.revoke(x.reqID) == nil {
				r, _ := x.s.ca.find(x.reqID)
				a.body = x.s.outcome(x, r).body
			}
		},
	},
	{
		name: "no-templates", steps: []Step{StepPage},
		effect: "offers no template at all",
		after: func(x *exchange, _ *armed, a *answer) {
			if x.file() == "certrqxt.asp" {
				a.body = x.s.site.Submit([]page.Option(nil), true)
			}
		},
	},
}
