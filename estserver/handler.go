package estserver

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"runtime/debug"
	"time"

	"github.com/onlineca/onlineca/ra"
	"github.com/onlineca/onlineca/ra/event"
	"github.com/onlineca/onlineca/ra/fault"
)

// exchange is one request on its way to its answer.
type exchange struct {
	s         *settings
	r         *http.Request
	start     time.Time
	conn      *connection
	op        operation
	label     *label
	labelName string

	client   ra.Client
	proxied  bool                // came through a trusted proxy
	peer     []*x509.Certificate // what the client presented, unverified
	peerErr  error               // why what a proxy handed on cannot be read
	verified *x509.Certificate   // what of it was verified, nil for none
	token    *ra.Credentials     // the one-time password it came with

	csr    *x509.CertificateRequest
	called bool  // the library has called back
	err    error // what it was answered
	result ra.Result
}

// ServeHTTP answers one EST request.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	x := &exchange{s: s.current.Load(), r: r, start: time.Now(), conn: s.connectionOf(r)}
	ctx := x.identify(r.Context())
	a := x.answerTo(ctx)
	if a.err != nil {
		drain(r)
	}
	// The client may be gone; the log says what it would have been told.
	_ = a.write(w, event.ID(ctx))
	// libEST's lines do not say which request they belong to but by standing
	// together.
	s.reporting.Lock()
	defer s.reporting.Unlock()
	x.report(ctx, a)
}

// maxDrain is how much of an unwanted body is read and thrown away, in bytes.
const maxDrain = 32 << 20

// drain reads what the client is still sending. If it were left unread, closing
// the connection would reset it, and the client would lose the answer. A client
// that waits for 100 Continue has sent nothing.
func drain(r *http.Request) {
	if r.Header.Get("Expect") == "" {
		_, _ = io.CopyN(io.Discard, r.Body, maxDrain)
	}
}

// answerTo turns everything into an answer, a panic too.
func (x *exchange) answerTo(ctx context.Context) (a *answer) {
	defer func() {
		if p := recover(); p != nil {
			event.Emit(ctx, x.s.cfg.Logger, event.Panic{Value: fmt.Sprint(p), Stack: string(debug.Stack())})
			a = x.failed(fault.Newf(fault.Internal, "answer "+x.op.name, "panic: %v", p))
		}
	}()
	if err := x.route(); err != nil {
		return x.failed(err)
	}
	if !x.op.enrols {
		return x.serve(ctx, nil)
	}
	if err := x.authenticate(ctx); err != nil {
		return x.failed(err)
	}
	der, err := x.readCSR()
	if err != nil {
		return x.failed(err)
	}
	return x.serve(ctx, der)
}

func (x *exchange) failed(err error) *answer {
	basic := x.label != nil && x.label.asksForPassword()
	return x.s.errorAnswer(err, basic)
}

// route finds out what is asked for, and whether that can be asked for.
func (x *exchange) route() error {
	if n := headerSize(x.r); n > x.s.cfg.Limits.Headers {
		return &httpError{status: http.StatusRequestHeaderFieldsTooLarge,
			text: fmt.Sprintf("The header has %d bytes, at most %d are read.", n, x.s.cfg.Limits.Headers)}
	}
	if x.r.TLS == nil && !x.proxied {
		return &httpError{status: http.StatusBadRequest, text: "EST is spoken over HTTPS only; this is HTTP from " + x.client.Addr + ", which is not a trusted proxy."}
	}
	notFound := &httpError{status: http.StatusNotFound, text: "The path specified is not recognized."}
	name, op, ok := parsePath(x.r.URL.EscapedPath())
	if !ok {
		return notFound
	}
	if x.label, ok = x.s.labels[name]; !ok {
		return notFound
	}
	x.op, x.labelName = op, name
	switch {
	case op.name == opFullCMC:
		return &httpError{status: http.StatusNotImplemented, text: "Full CMC is not supported; use simpleenroll."}
	case op.name == opServerKeygen && !x.label.ServerKeygen:
		return &httpError{status: http.StatusNotFound, text: "Keys are not generated here; make one and use simpleenroll."}
	}
	for _, m := range op.methods {
		if x.r.Method == m {
			return nil
		}
	}
	return &httpError{status: http.StatusMethodNotAllowed, allow: op.methods,
		text: "Invalid HTTP method used.  Either GET or POST required depending on the request type."}
}

// headerSize is what the request line and headers took on the wire.
func headerSize(r *http.Request) int {
	n := len(r.Method) + len(r.RequestURI) + len(r.Proto) + 4 + len("Host: \r\n") + len(r.Host)
	for k, vs := range r.Header {
		for _, v := range vs {
			n += len(k) + len(v) + 4
		}
	}
	return n
}

// readCSR reads the body of an enrolment request and looks whether it holds a
// certificate request at all. The signature is still to be verified.
func (x *exchange) readCSR() ([]byte, error) {
	if err := checkContentType(x.r.Header.Get("Content-Type")); err != nil {
		return nil, err
	}
	limit := x.s.cfg.Limits.Body
	if x.r.ContentLength > limit {
		return nil, tooLarge(limit)
	}
	body, err := io.ReadAll(io.LimitReader(x.r.Body, limit+1))
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		return nil, &httpError{status: http.StatusBadRequest,
			text: fmt.Sprintf("The body did not arrive within %v.", x.s.cfg.Timeouts.Read)}
	case err != nil:
		return nil, fault.New(fault.Canceled, "read the request body", err)
	}
	if int64(len(body)) > limit {
		return nil, tooLarge(limit)
	}
	der, err := decodeBody(body)
	if err != nil {
		return nil, err
	}
	x.csr, err = ra.InspectCSR(der)
	return der, err
}

func tooLarge(limit int64) error {
	return &httpError{status: http.StatusRequestEntityTooLarge, text: fmt.Sprintf("The body is longer than %d bytes.", limit)}
}

// serve answers, or has the library answer and dresses that for real clients.
func (x *exchange) serve(ctx context.Context, der []byte) *answer {
	if x.op.name == opCSRAttrs && x.label.noAttrs() {
		return &answer{status: http.StatusNoContent}
	}
	if x.op.name == opEnroll || x.op.name == opReenroll {
		return x.certify(ctx)
	}
	rec, err := x.ask(ctx, der)
	if err != nil {
		return x.failed(err)
	}
	a := &answer{status: http.StatusOK, header: map[string]string{"Content-Type": contentTypes[x.op.name]}}
	if x.op.name == opServerKeygen {
		a.header["Content-Type"] = rec.header.Get("Content-Type")
		a.body = rec.body.Bytes()
		return a
	}
	a.header["Content-Transfer-Encoding"] = "base64"
	a.body = foldBase64(rec.body.Bytes())
	return a
}

// contentTypes are those of answers. libEST compares certsOnly byte by byte.
var contentTypes = map[string]string{
	opCACerts:  certsOnly,
	opCSRAttrs: "application/csrattrs",
}

const certsOnly = "application/pkcs7-mime; smime-type=certs-only"

// isChallenge says whether err is only the question for a password.
func isChallenge(err error) bool {
	var c challenge
	return errors.As(err, &c)
}
