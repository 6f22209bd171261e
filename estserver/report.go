package estserver

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/onlineca/onlineca/ra/event"
	"github.com/onlineca/onlineca/ra/fault"
)

// report says what became of a request: in libEST's lines, in their order, and
// in our own words.
func (x *exchange) report(ctx context.Context, a *answer) {
	log := x.s.cfg.Logger
	if log == nil {
		return
	}
	failed := a.status >= 400 && !isChallenge(a.err)
	if failed {
		x.reportFailure(ctx, a)
	}
	status := a.status
	if status == http.StatusOK {
		status = -1 // what libEST writes for every success
	}
	event.Emit(ctx, log, event.ESTAccess{
		Client: x.client.Addr, Time: x.conn.born, Method: x.r.Method, Path: x.r.URL.EscapedPath(),
		Proto: x.r.Proto, Status: status,
	})
	event.Emit(ctx, log, event.ESTReferer{Referer: orDash(x.r.Referer())})
	event.Emit(ctx, log, event.ESTUserAgent{UserAgent: x.r.UserAgent()})
	if failed && x.r.Close {
		// A client that asked to close does so as soon as it has read this.
		event.Emit(ctx, log, event.ESTShutdownFailed{})
	}
	if !isChallenge(a.err) {
		event.Emit(ctx, log, x.request(a))
	}
}

// reportFailure writes libEST's lines for a request that failed. Its server
// knows few causes: a client refused, a request unread, and the rest.
func (x *exchange) reportFailure(ctx context.Context, a *answer) {
	log := x.s.cfg.Logger
	rc := fault.ESTCAEnrollFail
	var he *httpError
	switch {
	case errors.As(a.err, &he):
		rc = fault.ESTHTTPBadReq
	case a.status == http.StatusUnauthorized:
		rc = fault.ESTAuthFail
		if a.faultOf != nil && a.faultOf.Code != fault.ClientCertificate {
			event.Emit(ctx, log, event.ESTAuthFailed{AuthType: 1})
		}
	case a.faultOf != nil && a.faultOf.Code.Row().EST == fault.ESTBadPKCS10:
		rc = fault.ESTBadPKCS10
	}
	name := fault.ESTName(rc)
	event.Emit(ctx, log, event.ESTEnrollFailed{RC: rc, Name: name})
	event.Emit(ctx, log, event.ESTHTTPError{
		Status: a.status, Body: fmt.Sprintf("Error %d: %s\n%s\n", a.status, http.StatusText(a.status), libESTText(a.status)),
	})
	event.Emit(ctx, log, event.ESTResponse{RC: rc, Name: name})
	event.Emit(ctx, log, event.ESTRequestFailed{RV: rc, Name: name})
}

// libESTText is what libEST answers with a status.
func libESTText(status int) string {
	switch status {
	case http.StatusUnauthorized:
		return unauthorizedText
	case http.StatusNotFound:
		return "The path specified is not recognized."
	case http.StatusMethodNotAllowed:
		return "Invalid HTTP method used.  Either GET or POST required depending on the request type."
	case http.StatusBadGateway:
		return "An error occurred while communicating to the upstream server."
	case http.StatusGatewayTimeout:
		return "There was an issue connecting to the upstream server."
	case http.StatusInternalServerError:
		return "An error has occured during enrollment." //nolint:misspell // libEST spells it so
	default:
		return "Invalid or corrupted pkcs10 request."
	}
}

// request is the exchange in our own words.
func (x *exchange) request(a *answer) event.ESTRequest {
	e := event.ESTRequest{
		Operation: x.op.name, Label: x.labelName, Client: x.client.Addr, User: x.client.Name,
		Status: a.status, ReqID: x.result.ReqID, Duration: time.Since(x.start),
	}
	if x.csr != nil {
		e.Subject = x.csr.Subject.String()
	}
	if c := x.result.Certificate; c != nil {
		e.Serial = c.SerialNumber.Text(16)
	}
	if a.err != nil {
		e.Error = a.err.Error()
	}
	if a.faultOf != nil {
		e.Code = a.faultOf.Code.String()
		e.ReqID = a.faultOf.ReqID
	}
	return e
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}
