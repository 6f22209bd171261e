package testenv

import (
	"fmt"
	"html"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/onlineca/onlineca/testenv/internal/page"
)

func (s *Certsrv) welcome(x *exchange) answer {
	if x.caDown != resultOK {
		return s.html(x, s.site.Unavailable())
	}
	return s.html(x, s.site.Welcome())
}

// submitForm is certrqxt.asp with the templates that the account is offered.
func (s *Certsrv) submitForm(x *exchange) answer {
	if x.caDown != resultOK {
		return s.html(x, s.site.Unavailable())
	}
	var options []page.Option
	for _, t := range s.ca.offered(x.user) {
		options = append(options, option(t))
	}
	return s.html(x, s.site.Submit(options, !s.conf.Standalone))
}

// Flags of a template's attributes in AD (MS-CRTD 2.26 to 2.28).
const (
	enrolPublish       = 0x08 // CT_FLAG_PUBLISH_TO_DS
	enrolPendAll       = 0x02 // CT_FLAG_PEND_ALL_REQUESTS
	nameFromRequest    = 0x01 // CT_FLAG_ENROLLEE_SUPPLIES_SUBJECT
	nameDirectoryPath  = -0x80000000
	nameUPN            = 0x02000000
	privateKeyExported = 0x10 // CT_FLAG_EXPORTABLE_KEY
)

func option(t Template) page.Option {
	o := page.Option{
		Name: t.Name, Display: t.DisplayName, FromAD: t.SubjectFromAD, OID: t.OID.String(),
		Major: 100, Minor: 4, PrivateKeyFlag: privateKeyExported, SubjectFlag: nameFromRequest,
	}
	if t.SubjectFromAD {
		o.EnrollFlag, o.SubjectFlag = enrolPublish, nameDirectoryPath|nameUPN
	}
	if t.ManualApproval {
		o.EnrollFlag |= enrolPendAll
	}
	return o
}

// submit is certfnsh.asp: a new request, or the question of what became of one.
func (s *Certsrv) submit(x *exchange) answer {
	if x.caDown != resultOK {
		return s.caUnreachable(x, false)
	}
	switch mode := strings.ToLower(x.form.Get("mode")); {
	case mode == "chkpnd":
		return s.checkPending(x)
	case mode != "newreq" || x.r.Method != http.MethodPost || x.form.Get("certrequest") == "":
		return s.html(x, s.site.Error(page.Failure{
			Result: page.InvalidParameter, LastStatus: page.InvalidParameter, Suggestion: s.site.BadData(),
			COM: "CCertRequest::Submit: " + s.site.Text(page.InvalidParameter), Request: x.form.Get("certrequest"),
		}))
	}
	sub := x.tweak
	sub.requester = or(x.user, `NT AUTHORITY\IUSR`)
	sub.request, sub.attributes = x.form.Get("certrequest"), x.form.Get("certattrib")
	r, err := s.ca.submit(sub)
	if err != nil {
		return serverError()
	}
	x.reqID = r.ReqID
	a := s.outcome(x, r)
	if r.Disposition == DispositionPending {
		// The page that lists pending requests knows them by this cookie.
		entry := fmt.Sprintf("%d,%s", r.ReqID, x.form.Get("friendlytype"))
		c := http.Cookie{Name: "Requests", Value: url.QueryEscape(entry), Path: "/certsrv", Secure: true, MaxAge: 10 * 24 * 3600} //nolint:gosec // not HttpOnly, as the product's scripts read it
		a.header.Add("Set-Cookie", c.String())
	}
	return a
}

func (s *Certsrv) checkPending(x *exchange) answer {
	id, _ := strconv.Atoi(x.form.Get("reqid"))
	r, ok := s.ca.find(id)
	if !ok {
		return s.noSuchRequest(x)
	}
	x.reqID = id
	return s.outcome(x, r)
}

// outcome is the page for what became of a request.
func (s *Certsrv) outcome(x *exchange, r CARequest) answer {
	switch r.Disposition {
	case DispositionIssued:
		return s.html(x, s.site.Issued(r.ReqID, s.ca.hierarchy().renewals(), x.class))
	case DispositionPending:
		return s.html(x, s.site.Pending(r.ReqID))
	case DispositionRevoked:
		return s.html(x, s.site.Revoked(r.ReqID, s.message(r)))
	default:
		return s.html(x, s.site.Denied(r.ReqID, s.message(r)))
	}
}

// message is the disposition message of a request that was not granted.
func (s *Certsrv) message(r CARequest) string {
	code := page.Status(r.Code)
	switch {
	case r.Disposition == DispositionPending:
		return s.site.UnderSubmission()
	case r.Disposition == DispositionRevoked:
		return s.site.Text(code)
	case r.DeniedBy != "":
		return s.site.DeniedBy(r.DeniedBy)
	case r.parse:
		return s.site.ParseError(code)
	default:
		return s.site.DeniedByPolicy(code, r.Template, r.terse)
	}
}

// caUnreachable is the error page of a web server that cannot reach its CA.
func (s *Certsrv) caUnreachable(x *exchange, fetch bool) answer {
	code := page.Status(x.caDown)
	f := page.Failure{
		Fetch: fetch, Result: code, LastStatus: code, Suggestion: s.site.NotStarted(),
		COM: "CCertRequest::Submit: " + s.site.Text(code), Request: x.form.Get("certrequest"),
	}
	if fetch {
		f.COM = "CCertRequest::RetrievePending: " + s.site.Text(code)
	}
	return s.html(x, s.site.Error(f))
}

func (s *Certsrv) noSuchRequest(x *exchange) answer {
	return s.html(x, s.site.Error(page.Failure{
		Fetch: true, Result: page.PropertyEmpty, LastStatus: page.PropertyEmpty,
		COM: "CCertRequest::RetrievePending: " + s.site.Text(page.PropertyEmpty), Suggestion: s.site.NotRequested(),
	}))
}

// caList is certcarc.asp.
func (s *Certsrv) caList(x *exchange) answer {
	if x.caDown != resultOK {
		return s.html(x, s.site.Unavailable())
	}
	return s.html(x, s.site.CACertificates(s.ca.hierarchy().renewals()))
}

// pendingList is certckpn.asp: the requests that this browser remembers.
func (s *Certsrv) pendingList(x *exchange) answer {
	var entries []page.Entry
	for _, c := range x.r.CookiesNamed("Requests") {
		v, _ := url.QueryUnescape(c.Value)
		id, label, _ := strings.Cut(v, ",")
		if n, err := strconv.Atoi(id); err == nil {
			entries = append(entries, page.Entry{ReqID: n, Label: or(html.UnescapeString(label), "Saved-Request Certificate")})
		}
	}
	return s.html(x, s.site.PendingList(entries))
}
