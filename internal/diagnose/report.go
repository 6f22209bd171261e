package diagnose

import (
	"encoding/json"
	"fmt"
	"io"
	"time"

	"github.com/onlineca/onlineca/ra/fault"
)

// Schema names the form of the JSON report. The number changes when a field
// changes its meaning or goes.
const Schema = "onlineca.diagnose/1"

// Report is what a diagnosis found. Its JSON form is documented in
// docs/diagnose-schema.md.
type Report struct {
	Schema string `json:"schema"`
	// Verdict is "nothing-wrong", "faults" or "could-not-tell", Exit the exit
	// status that goes with it: 0, 1 or 3.
	Verdict string `json:"verdict"`
	Exit    int    `json:"exit"`
	// Name is the folder, or the archive, of a cluster's logs, if there are
	// those of several.
	Name string `json:"name,omitempty"`
	// Device is the one that was asked for alone, if one was.
	Device string `json:"device,omitempty"`
	Totals Totals `json:"totals"`
	// Faults sums the findings up, the most frequent first.
	Faults []Fault `json:"faults"`
	// Starts are the starts of the service, Enrolments the requests for
	// certificates. Of the good enrolments only some are listed.
	Starts     []Start     `json:"starts"`
	Enrolments []Enrolment `json:"enrolments"`
	// Missing are the logs that would make findings surer.
	Missing []Missing `json:"missing"`
	Clocks  []Clock   `json:"clocks"`
	Files   []File    `json:"files"`
	// Problems are what could not be read.
	Problems []Problem `json:"problems"`
	// Notes are what is to be known of the logs as a whole.
	Notes []string `json:"notes,omitempty"`
	// Clusters are the reports of each cluster, if the logs are those of
	// several. Then this report sums them up: its lists of starts, enrolments,
	// missing logs and clocks are empty.
	Clusters []Report `json:"clusters,omitempty"`
}

// Totals counts what was found.
type Totals struct {
	Enrolments   int `json:"enrolments"`
	Good         int `json:"good"`
	Failed       int `json:"failed"`
	Pending      int `json:"pending"`
	Unfinished   int `json:"unfinished"` // the log ends before their end
	Slow         int `json:"slow"`       // good, but slow
	Listed       int `json:"listed"`
	Starts       int `json:"starts"`
	FailedStarts int `json:"failed_starts"`
	Lines        int `json:"lines"`
	UnknownLines int `json:"unknown_lines"` // kept by no decoder
}

// Fault sums up the findings of one kind.
type Fault struct {
	Codes      []string   `json:"codes"`
	Confidence Confidence `json:"confidence"`
	Count      int        `json:"count"`
	Devices    []string   `json:"devices,omitempty"` // the first few
}

// Outcome is what became of an enrolment.
type Outcome string

// The outcomes of an enrolment.
const (
	OutcomeGood       Outcome = "good"
	OutcomeFailed     Outcome = "failed"
	OutcomePending    Outcome = "pending"
	OutcomeUnfinished Outcome = "unfinished"
)

// Finding names a fault and shows what it was recognised by.
type Finding struct {
	// Codes are the faults that fit, of which one is true; none if nothing in
	// the table fits.
	Codes      []string   `json:"codes"`
	Confidence Confidence `json:"confidence"`
	Symptom    string     `json:"symptom,omitempty"`
	Cause      string     `json:"cause,omitempty"`
	Fix        string     `json:"fix,omitempty"`
	Bug        string     `json:"bug,omitempty"`
	Note       string     `json:"note,omitempty"`
	Evidence   []Evidence `json:"evidence"`
	// Missing names the logs that would say more.
	Missing []string `json:"missing,omitempty"`
}

// Evidence is a line of a log, or the absence of one.
type Evidence struct {
	Log  string     `json:"log"`
	File string     `json:"file,omitempty"`
	Line int        `json:"line,omitempty"`
	Text string     `json:"text"`
	Time *time.Time `json:"time,omitempty"`
}

// Enrolment is one request for a certificate.
type Enrolment struct {
	Device  string `json:"device,omitempty"`
	Session int    `json:"session,omitempty"`
	ID      string `json:"id,omitempty"`
	ReqID   int    `json:"req_id,omitempty"`
	// Start is when the EST request began. It is absent if no date is known;
	// then Clock has the time of day.
	Start    *time.Time `json:"start,omitempty"`
	Clock    string     `json:"clock,omitempty"`
	Duration int64      `json:"duration_ms"`
	Outcome  Outcome    `json:"outcome"`
	Slow     bool       `json:"slow,omitempty"`
	// Exchanges say where the time went, as far as the logs say.
	Exchanges []Exchange `json:"exchanges,omitempty"`
	// Several tells that another enrolment ran at the same time and some lines
	// could belong to that.
	Several  bool     `json:"matched_by_order,omitempty"`
	Timeline []Moment `json:"timeline"`
	Finding  *Finding `json:"finding,omitempty"`
}

// Exchange is one exchange of the registration authority with certsrv.
type Exchange struct {
	What     string `json:"what"`
	Duration int64  `json:"duration_ms"`
	Status   int    `json:"status,omitempty"`
}

// Moment is one point of a timeline. Offset is in milliseconds from the
// enrolment's start.
type Moment struct {
	Offset int64  `json:"offset_ms"`
	Log    string `json:"log"`
	File   string `json:"file,omitempty"`
	Line   int    `json:"line,omitempty"`
	What   string `json:"what"`
	Text   string `json:"text,omitempty"`
	Bad    bool   `json:"bad,omitempty"`
}

// Start is one start of the service.
type Start struct {
	Time    *time.Time `json:"time,omitempty"`
	OK      bool       `json:"ok"`
	Logs    []string   `json:"logs"`
	File    string     `json:"file"`
	Line    int        `json:"line"`
	PID     int        `json:"pid,omitempty"`
	Finding *Finding   `json:"finding,omitempty"`
}

// Missing is a log that would make findings surer.
type Missing struct {
	Log     string `json:"log"`
	Why     string `json:"why"`
	Collect string `json:"collect"`
}

// Clock is what was found about the clock of one log.
type Clock struct {
	Log    string `json:"log"`
	Folder string `json:"folder"`
	// Zone and Skew are the difference to UTC: the zone of the clock, and how
	// far it is ahead besides, as far as seconds tell.
	Zone    string  `json:"zone,omitempty"`
	Skew    float64 `json:"skew_s"`
	Known   bool    `json:"known"`
	Matches int     `json:"matches,omitempty"`
	How     string  `json:"how"`
}

// File is a file that was read.
type File struct {
	Name string `json:"name"`
	// Log is what most of its lines are of, empty for none of the chain.
	Log     string   `json:"log,omitempty"`
	Also    []string `json:"also,omitempty"`
	Lines   int      `json:"lines"`
	Unknown int      `json:"unknown_lines"`
	Cut     int      `json:"cut_lines,omitempty"` // too long to keep whole
	Bytes   int64    `json:"bytes"`
	// SameAs is the file that holds the same, if this is its copy: then nothing
	// of this one is counted.
	SameAs string `json:"same_as,omitempty"`

	index int32
	sum   uint64 // of what it holds
}

// Problem is what could not be read.
type Problem struct {
	File string `json:"file"`
	Text string `json:"text"`
	// Refused tells that it was not read for safety's sake.
	Refused bool `json:"refused,omitempty"`
	// harmless tells that no log is missing for it.
	harmless bool
}

// WriteJSON writes the report as one JSON object.
func (r Report) WriteJSON(w io.Writer) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	return e.Encode(r)
}

// ms writes milliseconds for people.
func ms(n int64) string {
	switch {
	case n < 1000:
		return fmt.Sprintf("%d ms", n)
	case n < 60_000:
		return fmt.Sprintf("%.1f s", float64(n)/1000)
	default:
		return (time.Duration(n) * time.Millisecond).Round(time.Second).String()
	}
}

// described is how many codes of a finding are described one by one.
const described = 3

// describe joins symptom, cause and fix of several codes. The codes that CAPF
// alone leads to speak for all that stand behind them: what they are is in the
// registration authority's logs.
func describe(codes []fault.Code) (symptom, cause, fix, bug string) {
	if len(codes) == 0 {
		return "", "", "", ""
	}
	r := codes[0].Row()
	if len(codes) == 1 {
		return r.Symptom, r.Cause, r.Fix, r.Bug
	}
	if c := codes[0]; c == fault.ESTReadTimeout || c == fault.ESTServerError {
		return r.Symptom + "; behind it can be " + joinCodes(codes[1:]), r.Cause, r.Fix, r.Bug
	}
	for i, c := range codes[:min(len(codes), described)] {
		if i > 0 {
			symptom, cause, fix = symptom+"; or ", cause+" ", fix+" "
		}
		symptom += c.Row().Symptom
		cause += c.String() + ": " + c.Row().Cause
		fix += c.String() + ": " + c.Row().Fix
	}
	if len(codes) > described {
		symptom += "; or " + joinCodes(codes[described:])
	}
	return symptom, cause, fix, ""
}
