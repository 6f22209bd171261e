package page

import (
	"strconv"
	"strings"
)

// Failure is what an error page reports. Texts are plain; zero values are shown
// as the real page shows what was never set.
type Failure struct {
	// Fetch tells the fetch of a certificate from the submission of a request.
	Fetch bool
	// Disposition is the request's, 0 if it has none.
	Disposition int
	// Message is the disposition message.
	Message string
	// Result and LastStatus are the operation's and the request's status.
	Result, LastStatus Status
	// COM is the COM error info.
	COM string
	// Suggestion is the suggested cause; see the Suggest functions of [Site].
	Suggestion string
	// Request is echoed in a comment at the end.
	Request string
	// Quiet leaves out the paragraph that says that the request failed, as the
	// page for a pending request does.
	Quiet bool
}

type row struct{ ID, Label, Value string }

// Error is the page for everything that went wrong, of certfnsh.asp and of the
// certificate fetching pages. Each value stands on a line of its own after two
// tabs, which is where programs look for it.
func (s Site) Error(f Failure) []byte {
	c := s.chrome()
	t := c.T
	mode := `newreq <LocID ID=locModeSpacer>-</LocID> <LocID ID=locModeNewReq>` + t.ModeNew + `</LocID>`
	if f.Fetch {
		mode = `<LocID ID=locModeFetch>` + t.ModeFetch + `</LocID>`
	}
	disposition := `<LocID ID=locDispNeverSet>` + t.NeverSet + `</LocID>`
	if f.Disposition != 0 {
		disposition = strconv.Itoa(f.Disposition) + ` <LocID ID=locDispSpacer>-</LocID> <LocID ID=locDispName>` + t.disposition(f.Disposition) + `</LocID>`
	}
	rows := []row{
		{"locModeLabel", t.RowMode, mode},
		{"locDispLabel", t.RowDisposition, disposition},
		{"locDispMsgLabel", t.RowMessage, or(escape(f.Message), t.None)},
		{"locResultLabel", t.RowResult, escape(s.Text(f.Result))},
		{"locCOMErrLabel", t.RowCOM, or(escape(f.COM), t.None)},
		{"locLastStatusLabel", t.RowLastStatus, escape(s.Text(f.LastStatus))},
		{"locSugCauseLabel", t.RowCause, or(escape(f.Suggestion), t.NoSuggestion)},
	}
	return render("error", struct {
		chrome
		Failed  bool
		Rows    []row
		Request string
	}{c, !f.Quiet, rows, strings.ReplaceAll(escape(f.Request), "--", "- -")})
}

func or(s, otherwise string) string {
	if s == "" {
		return otherwise
	}
	return s
}

// NotStarted suggests that the certificate authority does not run.
func (s Site) NotStarted() string { return texts[s.Language.known()].NotStarted }

// NotRequested suggests that the certificate was never asked for.
func (s Site) NotRequested() string { return texts[s.Language.known()].NotRequested }

// BadData suggests that the request was no good.
func (s Site) BadData() string { return texts[s.Language.known()].BadData }

// UnderSubmission is the disposition message of a pending request.
func (s Site) UnderSubmission() string { return texts[s.Language.known()].UnderSubmission }
