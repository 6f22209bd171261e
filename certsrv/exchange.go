package certsrv

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/onlineca/onlineca/certsrv/winauth"
	"github.com/onlineca/onlineca/ra"
	"github.com/onlineca/onlineca/ra/event"
	"github.com/onlineca/onlineca/ra/fault"
)

const loginLate = fault.LoginTimeout

// call is one exchange with certsrv.
type call struct {
	step event.UpstreamStep
	op   string // "submit the request to": stands before the URL
	// url is what is shown, path what follows /certsrv in the request.
	url, path string
	form      url.Values // for a POST
	timeout   time.Duration
	late      fault.Code // when time runs out
	reqID     int        // that it is about, 0 for none
	// quiet leaves out the event of success: the product makes no such exchange.
	quiet bool
	// data reports the length of the body: it decides about credentials.
	data bool
}

// at completes k with its address.
func (c *Client) at(k call, path string) call {
	k.path, k.url = path, c.shown+path
	return k
}

// exchange performs k on s, hands the body of a 200 to parse, and reports the
// outcome of both as one event. Its errors are Faults.
func (c *Client) exchange(ctx context.Context, s *site, k call, parse func(body []byte) error) error {
	x := &winauth.Exchange{Timeout: k.timeout}
	start := c.cfg.Now()
	body, status, err := c.send(winauth.WithExchange(ctx, x), s, k)
	switch {
	case x.LoginFailed:
		login := c.loginCall() // which is what failed, on the way to k
		login.reqID, login.form = k.reqID, k.form
		k = login
	case x.LoggedIn:
		c.report(ctx, c.loginCall(), start, 0, false, nil)
	}
	if err != nil {
		err = c.fault(k, err, x)
	} else {
		if k.data {
			event.Emit(ctx, c.cfg.Logger, event.UpstreamData{Length: len(body)})
		}
		err = parse(body)
	}
	c.report(ctx, k, start, status, !x.LoggedIn, err)
	return err
}

// loginCall is the exchange that begins others when no session is idle.
func (c *Client) loginCall() call {
	return c.at(call{step: event.StepLogin, op: "log in to", late: loginLate}, "")
}

// report emits the one event of an exchange.
func (c *Client) report(ctx context.Context, k call, start time.Time, status int, reused bool, err error) {
	took := c.cfg.Now().Sub(start)
	if err == nil || ra.IsLook(ctx) && isAnswer(err) {
		if !k.quiet {
			event.Emit(ctx, c.cfg.Logger, event.UpstreamDone{Step: k.step, URL: k.url, Status: status, Duration: took, Reused: reused})
		}
		return
	}
	f := fault.Of(err)
	event.Emit(ctx, c.cfg.Logger, event.UpstreamFailed{
		Step: k.step, URL: k.url, Curl: f.Code.Row().Curl, Text: f.CurlText(),
		Code: f.Code.String(), Error: err.Error(), Duration: took,
	})
}

// isAnswer tells whether an error is what certsrv says of a request number that
// is not the one that is looked for: another's, refused, or never handed out.
func isAnswer(err error) bool {
	f := fault.Of(err)
	return f.Denied || f.Code == fault.WrongKeyCertificate || f.Code == fault.NoSuchRequest
}

// send performs k and returns the body of a 200. Everything else is an error.
func (c *Client) send(ctx context.Context, s *site, k call) (body []byte, status int, err error) {
	r := s.http.R().SetContext(ctx)
	method := http.MethodGet
	if k.form != nil {
		method = http.MethodPost
		// A reader that net/http knows: it can be had again, and has a length,
		// without which http.sys answers 411.
		r.SetBody(strings.NewReader(k.form.Encode()))
		r.SetHeader("Content-Type", "application/x-www-form-urlencoded")
		r.SetHeader("Referer", c.shown+"/certrqxt.asp") // as the product and browsers do
	}
	resp, err := r.Execute(method, c.base+k.path)
	if err != nil {
		var ue *url.Error
		if errors.As(err, &ue) {
			err = ue.Err // it repeats method and URL
		}
		return nil, 0, err
	}
	if resp.StatusCode() != http.StatusOK {
		return nil, resp.StatusCode(), &httpError{
			status: resp.StatusCode(), server: resp.Header().Get("Server"),
			location: resp.Header().Get("Location"), post: k.form != nil,
		}
	}
	return resp.Body(), http.StatusOK, nil
}

// httpError is an answer whose status is not 200.
type httpError struct {
	status           int
	server, location string
	post             bool
}

func (e *httpError) Error() string {
	s := fmt.Sprintf("status %d %s", e.status, http.StatusText(e.status))
	if e.server != "" {
		s += " from " + e.server
	}
	if e.location != "" {
		s += fmt.Sprintf(", which leads to %q", snippet([]byte(e.location)))
	}
	if e.status == http.StatusUnauthorized {
		s += ", on a connection that is logged in: the account may not read this page, or IIS forgets the login after each request (authPersistSingleRequest)"
	}
	return s
}

// Unwrap says that a POST which ended in an error of the server may have been
// carried out. What http.sys refuses by itself (503) has not.
func (e *httpError) Unwrap() error {
	if e.post && e.status >= http.StatusInternalServerError && e.status != http.StatusServiceUnavailable {
		return fault.OutcomeUnknown
	}
	return nil
}
