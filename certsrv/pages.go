package certsrv

import (
	"bytes"
	"html"
	"regexp"
	"strconv"
	"strings"
	"unicode/utf8"
)

// What pages are recognised by: element IDs, addresses and numbers, which are
// the same in every language. Attributes stand with and without quotes.
var (
	commentMark     = regexp.MustCompile(`(?s)<!--.*?(?:-->|$)`)
	issuedMark      = regexp.MustCompile(`(?i)certnew\.cer\?ReqID=(\d+)&`)
	revokedMark     = idMark(`locIssRev`)
	deniedMark      = idMark(`locDenied`)
	reasonMark      = idMark(`locInfoReqIDandReason`)
	pendingMark     = idMark(`locInfoReqID`)
	failedMark      = idMark(`locReqFailed`)
	resultMark      = idMark(`locResultLabel`)
	chromeMark      = idMark(`locMSCertSrv`)
	titleMark       = idMark(`locPageTitle`)
	dispositionMark = regexp.MustCompile(`(?i)(\d+)\s*<LocID\s+ID="?locDispSpacer\b`)
	numberMark      = regexp.MustCompile(`\d+`)
	hresultMark     = regexp.MustCompile(`0x([0-9a-fA-F]{1,8})\b`)
	renewalsMark    = regexp.MustCompile(`\bnRenewals\s*=\s*(\d+)\s*;`)
	formMark        = regexp.MustCompile(`(?i)<Form\s[^>]*certfnsh\.asp`)
	menuMark        = regexp.MustCompile(`(?i)Href="?cert\w+\.asp`)
	optionMark      = regexp.MustCompile(`(?i)<Option\s+Value="([^"]*)"`)
	tagMark         = regexp.MustCompile(`<[^>]*>`)
	// A row of an error page: its value stands on a line of its own, after two tabs.
	rowMark = regexp.MustCompile(`(?i)<DD>\r?\n\t\t([^\r\n]*)`)
)

func idMark(id string) *regexp.Regexp {
	return regexp.MustCompile(`(?i)\bID="?` + id + `\b`)
}

// The rows of an error page, in their order.
const (
	rowDisposition = 1
	rowMessage     = 2
	rowResult      = 3
)

// kind is what a page says became of a request.
type kind uint8

const (
	unreadable  kind = iota // no page of certsrv's
	issued                  // there is a certificate to fetch
	pending                 // a CA manager must approve
	denied                  // refused
	revoked                 // issued, then revoked
	failed                  // an error page
	unavailable             // some page of certsrv's: in place of a form, that the CA does not run
)

// outcome is what a page says.
type outcome struct {
	Kind        kind
	ReqID       int    // 0 if the page shows none
	Disposition int    // CR_DISP_*: 1 error, 2 denied, 3 issued, 5 pending, 6 revoked
	HRESULT     uint32 // 0 if the page shows none
	Message     string // the CA's own words
}

// parseOutcome reads an answer of certfnsh.asp or, if it is no certificate, of
// certnew.cer.
func parseOutcome(body []byte) outcome {
	page := strip(body)
	o := outcome{Disposition: number(dispositionMark, page)}
	if id := number(issuedMark, page); id != 0 {
		o.Kind, o.ReqID = issued, id
		return o
	}
	reason := after(reasonMark, page)
	switch {
	case revokedMark.MatchString(page):
		o.Kind = revoked
		o.reason(reason)
	case reason != "" || deniedMark.MatchString(page):
		o.Kind = denied
		o.reason(reason)
	case number(numberMark, after(pendingMark, page)) != 0:
		o.Kind, o.ReqID = pending, number(numberMark, after(pendingMark, page))
	default:
		o.rows(page)
	}
	return o
}

// reason reads the paragraph that tells a request's number and why it was
// refused: the first number, and what stands between the quotes.
func (o *outcome) reason(p string) {
	if p == "" {
		return
	}
	p = plain(p)
	o.ReqID = number(numberMark, p)
	o.Message = p
	if i, j := strings.IndexByte(p, '"'), strings.LastIndexByte(p, '"'); i >= 0 && j > i {
		o.Message = strings.TrimSpace(p[i+1 : j])
	}
	o.HRESULT = hresult(o.Message)
}

// rows reads an error page, which has the same rows in every language.
func (o *outcome) rows(page string) {
	rows := rowMark.FindAllStringSubmatch(page, 16)
	row := func(i int) string {
		if i >= len(rows) {
			return ""
		}
		return plain(rows[i][1])
	}
	const codes = rowResult // and what follows
	for i := codes; i < len(rows) && o.HRESULT == 0; i++ {
		o.HRESULT = hresult(row(i))
	}
	if o.HRESULT == 0 {
		o.HRESULT = hresult(row(rowMessage))
	}
	o.Message = row(rowMessage)
	if unset(o.Message) {
		o.Message = row(rowResult)
	}
	switch o.Disposition {
	case 2:
		o.Kind = denied
	case 5:
		o.Kind = pending
	case 6:
		o.Kind = revoked
	default:
		switch {
		case failedMark.MatchString(page) || resultMark.MatchString(page) || len(rows) > rowResult:
			o.Kind = failed
		case chromeMark.MatchString(page) && !menuMark.MatchString(page):
			// Of the pages that come in place of certrqxt.asp or certcarc.asp only
			// one is known: the CA's service has not been started.
			o.Kind, o.HRESULT, o.Message = unavailable, hresult(page), body(page)
		default:
			o.Message = body(page)
		}
	}
}

// unset says whether a row's value is one of "(none)", "(never set)" and their
// translations.
func unset(s string) bool {
	return s == "" || strings.HasPrefix(s, "(") && strings.HasSuffix(s, ")")
}

// parseRenewals reads certcarc.asp: how often the CA's certificate has been
// renewed.
func parseRenewals(page []byte) (int, bool) {
	m := renewalsMark.FindSubmatch(page)
	if m == nil {
		return 0, false
	}
	n, err := strconv.Atoi(string(m[1]))
	return n, err == nil && n < 1<<16
}

// strip decodes a page and takes its comments out: they echo the request.
func strip(b []byte) string {
	return string(bytes.ToValidUTF8(commentMark.ReplaceAll(b, nil), []byte("\uFFFD")))
}

// after returns what follows the first match of mark, up to the end of its
// paragraph. A mark's own tag is left out.
func after(mark *regexp.Regexp, page string) string {
	at := mark.FindStringIndex(page)
	if at == nil {
		return ""
	}
	rest := page[at[1]:]
	if i := strings.IndexByte(rest, '>'); i >= 0 {
		rest = rest[i+1:]
	}
	for _, end := range []string{"</P>", "</p>", "<P ", "<p "} {
		if i := strings.Index(rest, end); i >= 0 {
			rest = rest[:i]
		}
	}
	return rest
}

// number returns the first number that mark finds, its first group if it has
// one; 0 if there is none or it is too large to be a request's.
func number(mark *regexp.Regexp, s string) int {
	m := mark.FindStringSubmatch(s)
	if m == nil {
		return 0
	}
	n, err := strconv.ParseInt(m[len(m)-1], 10, 32)
	if err != nil {
		return 0
	}
	return int(n)
}

// hresult returns the first status in s that is not success.
func hresult(s string) uint32 {
	for _, m := range hresultMark.FindAllStringSubmatch(s, 16) {
		if n, err := strconv.ParseUint(m[1], 16, 32); err == nil && n != 0 {
			return uint32(n)
		}
	}
	return 0
}

// plain takes the mark-up out of s and runs its blanks together.
func plain(s string) string {
	return strings.Join(strings.Fields(html.UnescapeString(tagMark.ReplaceAllString(s, " "))), " ")
}

// body is the beginning of a page's text, from its title if it has one.
func body(page string) string {
	if at := titleMark.FindStringIndex(page); at != nil {
		_, page, _ = strings.Cut(page[at[1]:], ">")
	}
	return snippet([]byte(plain(page)))
}

// snippet is the beginning of b, fit for a message.
func snippet(b []byte) string {
	const most = 200
	s := string(bytes.ToValidUTF8(b[:min(len(b), most+utf8.UTFMax)], nil))
	s = strings.Join(strings.Fields(s), " ")
	if r := []rune(s); len(r) > most {
		return string(r[:most]) + "…"
	}
	return s
}
