package estserver

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"runtime/debug"

	"github.com/globalsign/est"

	"github.com/onlineca/onlineca/ra/event"
	"github.com/onlineca/onlineca/ra/fault"
)

// library is the certificate authority that globalsign/est's router sees. Each
// request brings its exchange in its context.
type library struct{}

type exchangeKey struct{}

func exchangeOf(ctx context.Context) *exchange {
	x, _ := ctx.Value(exchangeKey{}).(*exchange)
	return x
}

var errNotExposed = errors.New("estserver: this operation is not exposed")

// CACerts delivers the chain.
func (library) CACerts(ctx context.Context, _ string, _ *http.Request) (certs []*x509.Certificate, err error) {
	x := exchangeOf(ctx)
	defer x.caught(ctx, &err)
	return x.s.cfg.Chain.CACerts(ctx)
}

// CSRAttrs delivers the label's attributes.
func (library) CSRAttrs(ctx context.Context, _ string, _ *http.Request) (est.CSRAttrs, error) {
	return exchangeOf(ctx).label.attrs, nil
}

// Enroll is never reached: see [exchange.certify].
func (library) Enroll(context.Context, *x509.CertificateRequest, string, *http.Request) (*x509.Certificate, error) {
	return nil, errNotExposed
}

// ServerKeyGen makes a key and enrols it.
func (library) ServerKeyGen(ctx context.Context, csr *x509.CertificateRequest, _ string, _ *http.Request) (cert *x509.Certificate, key []byte, err error) {
	x := exchangeOf(ctx)
	defer x.caught(ctx, &err)
	return x.generate(ctx, csr)
}

// Reenroll is never reached: see [exchange.certify].
func (library) Reenroll(context.Context, *x509.Certificate, *x509.CertificateRequest, string, *http.Request) (*x509.Certificate, error) {
	return nil, errNotExposed
}

// TPMEnroll is not exposed: it is no part of EST, and the library panics on
// requests of one part.
func (library) TPMEnroll(context.Context, *x509.CertificateRequest, []*x509.Certificate, []byte, []byte, string, *http.Request) (_, _, _ []byte, err error) {
	return nil, nil, nil, errNotExposed
}

// caught ends a call of the library: it keeps the error, which the library
// would reduce to a text, and turns a panic into one, which the library would
// answer with 200 and an empty body.
func (x *exchange) caught(ctx context.Context, err *error) {
	if p := recover(); p != nil {
		event.Emit(ctx, x.s.cfg.Logger, event.Panic{Value: fmt.Sprint(p), Stack: string(debug.Stack())})
		*err = fault.Newf(fault.Internal, "answer "+x.op.name, "panic: %v", p)
	}
	x.called, x.err = true, *err
}

// ask has the library serve the exchange's operation. der is the certificate
// request of operations that have one.
func (x *exchange) ask(ctx context.Context, der []byte) (*recorder, error) {
	method, body := http.MethodGet, io.Reader(nil)
	path := x.op.name
	if x.op.enrols {
		method = http.MethodPost
		body = bytes.NewReader(base64.StdEncoding.AppendEncode(nil, der))
	}
	// Only what the library needs goes in: it believes forwarded-for headers.
	req, err := http.NewRequestWithContext(context.WithValue(ctx, exchangeKey{}, x), method, prefix+path, body)
	if err != nil {
		return nil, fault.New(fault.Internal, "answer "+x.op.name, err)
	}
	req.RemoteAddr, req.RequestURI, req.Proto = x.client.Addr, prefix+path, "HTTP/1.1"
	if x.op.enrols {
		req.Header = http.Header{
			"Content-Type":              {csrMediaType},
			"Content-Transfer-Encoding": {"base64"},
		}
	}
	rec := &recorder{header: http.Header{}}
	x.s.router.ServeHTTP(rec, req)
	return rec, x.verdict(rec)
}

// verdict says what the library's answer means.
func (x *exchange) verdict(rec *recorder) error {
	switch {
	case x.err != nil:
		return x.err
	case rec.status == http.StatusOK && rec.body.Len() > 0:
		return nil
	case x.op.enrols && !x.called && rec.status == http.StatusBadRequest:
		// The request was parsed before, so that only its signature is left.
		return fault.Newf(fault.BadCSRSignature, "verify the certificate request", "%s", bytes.TrimSpace(rec.body.Bytes()))
	default:
		return fault.Newf(fault.Internal, "answer "+x.op.name, "globalsign/est answered %d with %d bytes", rec.status, rec.body.Len())
	}
}

// recorder keeps what the library answers.
type recorder struct {
	header http.Header
	status int
	body   bytes.Buffer
}

func (r *recorder) Header() http.Header { return r.header }

func (r *recorder) WriteHeader(status int) {
	if r.status == 0 {
		r.status = status
	}
}

func (r *recorder) Write(b []byte) (int, error) {
	r.WriteHeader(http.StatusOK)
	return r.body.Write(b)
}
