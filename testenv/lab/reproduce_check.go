package lab

import (
	"cmp"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/onlineca/onlineca/capf"
	"github.com/onlineca/onlineca/ra/fault"
)

// sighting is a line of a row's Shows, and where it was found.
type sighting struct {
	fault.Sighting
	lines []int // in its log, from 0
	seen  bool  // an absence has no lines
}

// look finds what the row says is to be seen.
func (r *run) look() []sighting {
	var all []sighting
	for _, s := range r.code.Row().Shows {
		found := sighting{Sighting: s}
		switch s.Log {
		case fault.LogIIS:
			found.lines, found.seen = r.lookAtIIS(s.Line)
		case fault.DeviceTable:
			found.seen = r.lookAtTable()
		case fault.LogOwn:
			found.lines = r.lookAtOwn(strings.TrimPrefix(s.Line, "code "))
			found.seen = len(found.lines) > 0
		default:
			found.lines = matching(r.logs.files[s.Log].lines, linePattern(s.Line))
			found.seen = len(found.lines) > 0
		}
		all = append(all, found)
	}
	return all
}

// What stands in a line of the table for what differs from run to run.
var (
	placeholder = regexp.MustCompile(`\b(?:HOST|NAME)\b`)
	milliText   = regexp.MustCompile(`\b(?:N|\d+) milliseconds`)
)

// linePattern is the expression for a line of the table.
func linePattern(line string) *regexp.Regexp {
	s := regexp.QuoteMeta(line)
	s = placeholder.ReplaceAllString(s, `\S+`)
	return regexp.MustCompile(milliText.ReplaceAllString(s, `\d+ milliseconds`))
}

func matching(lines []string, re *regexp.Regexp) []int {
	var at []int
	for i, line := range lines {
		if re.MatchString(line) {
			at = append(at, i)
		}
	}
	return at
}

// lookAtTable says whether a device holds an LSC that none of those has issued
// who issue today.
func (r *run) lookAtTable() bool {
	for _, d := range r.cast.table.rows {
		if d.LSCIssuer != "" && !capf.IssuedBy(d.LSC, r.cast.stage.pki.Chain(0)) {
			return true
		}
	}
	return false
}

func (r *run) lookAtOwn(code string) []int {
	var at []int
	for _, e := range r.logs.entries {
		if e.code() == code {
			at = append(at, e.line)
		}
	}
	return at
}

// hit is a line of the log of IIS.
type hit struct {
	line                  int
	method, stem, user    string
	status, substatus, ms int
	win32                 string
}

// hits reads the log of IIS, whose fields are those of its default.
func (l *logs) hits() []hit {
	var all []hit
	for i, line := range l.files[fault.LogIIS].lines {
		f := strings.Fields(line)
		if len(f) != 15 || strings.HasPrefix(line, "#") {
			continue
		}
		h := hit{line: i, method: f[3], stem: f[4], user: f[7], win32: f[13]}
		h.status, _ = strconv.Atoi(f[11])
		h.substatus, _ = strconv.Atoi(f[12])
		h.ms, _ = strconv.Atoi(f[14])
		all = append(all, h)
	}
	return all
}

// webForms are the forms in which the table speaks of the log of IIS.
var webForms = []struct {
	re *regexp.Regexp
	// is says whether a request is the one that is meant by the words that re
	// has found.
	is func(r *run, m []string, h hit) bool
	// not, if not nil, says which request there must not be.
	not func(m []string, h hit) bool
}{
	{
		re:  regexp.MustCompile(`^(\d{3}) on (?:(?:GET|POST) )?(\S+), but no (?:(?:GET|POST) )?(\S+)$`),
		is:  func(_ *run, m []string, h hit) bool { return strconv.Itoa(h.status) == m[1] && at(h, m[2]) },
		not: func(m []string, h hit) bool { return at(h, m[3]) && h.status == 200 },
	},
	{
		re:  regexp.MustCompile(`^401 on (\S+), never a user name$`),
		is:  func(_ *run, m []string, h hit) bool { return h.status == 401 && at(h, m[1]) },
		not: func(_ []string, h hit) bool { return h.user != "-" },
	},
	{
		re: regexp.MustCompile(`^(\d{3}) on (\S+) without a user name$`),
		is: func(_ *run, m []string, h hit) bool {
			return strconv.Itoa(h.status) == m[1] && at(h, m[2]) && h.user == "-"
		},
	},
	{
		re: regexp.MustCompile(`^(\d{3}) (\d+) (\d+) on (\S+)$`),
		is: func(_ *run, m []string, h hit) bool {
			return strconv.Itoa(h.status) == m[1] && strconv.Itoa(h.substatus) == m[2] && h.win32 == m[3] && at(h, m[4])
		},
	},
	{
		re: regexp.MustCompile(`^status 4xx or 5xx on (\S+)$`),
		is: func(_ *run, m []string, h hit) bool { return h.status >= 400 && h.user != "-" && at(h, m[1]) },
	},
	{
		// The product's ten seconds are the run's own timeout here. IIS begins
		// to count a moment after its client.
		re: regexp.MustCompile(`^time-taken of \d+ or more on (?:(?:GET|POST) )?(\S+)$`),
		is: func(r *run, m []string, h hit) bool {
			return at(h, m[1]) && int64(h.ms) >= r.timeout().Milliseconds()/2
		},
	},
	{
		re: regexp.MustCompile(`^(\d{3}) on (?:(?:GET|POST) )?(\S+)$`),
		is: func(_ *run, m []string, h hit) bool { return strconv.Itoa(h.status) == m[1] && at(h, m[2]) },
	},
	{
		re:  regexp.MustCompile(`^nothing$`),
		is:  func(*run, []string, hit) bool { return false },
		not: func([]string, hit) bool { return true },
	},
}

// at says whether a request is for what the table calls by the end of its path;
// "/certsrv" is everything below it.
func at(h hit, name string) bool {
	return strings.HasSuffix(h.stem, name) || strings.HasPrefix(h.stem, name+"/")
}

// lookAtIIS finds the requests that a sentence of the table speaks of.
func (r *run) lookAtIIS(line string) (lines []int, seen bool) {
	for _, form := range webForms {
		m := form.re.FindStringSubmatch(line)
		if m == nil {
			continue
		}
		refuted := false
		for _, h := range r.logs.hits() {
			if form.is(r, m, h) {
				lines = append(lines, h.line)
			}
			refuted = refuted || form.not != nil && form.not(m, h)
		}
		return lines, (len(lines) > 0 || line == "nothing") && !refuted
	}
	return nil, false
}

// differences says in what the failure did not appear as its row says.
func (r *run) differences(marks []sighting) []string {
	var all []string
	differ := func(format string, args ...any) { all = append(all, fmt.Sprintf(format, args...)) }
	for _, s := range marks {
		if !s.seen {
			differ("not in %s: %s", cmp.Or(r.logs.files[s.Log].path, string(s.Log)), s.Line)
		}
	}
	row := r.code.Row()
	if want, got := row.EST, r.estNumbers(); !slices.Contains(got, want) {
		differ("no device ended with %d (%s) but with %v", want, fault.ESTName(want), got)
	}
	if got, ok := r.ownCode(); !ok {
		differ("our own log names %s", got)
	}
	if r.failed != nil && fault.Of(r.failed).Code != r.code {
		differ("the registration authority did not start because of %s", fault.Of(r.failed).Code.String())
	}
	if got, ok := r.deviceStatus(); !ok {
		differ("no device has the certificate status %d in the device table but %v", row.DeviceStatus, got)
	}
	return all
}

// estNumbers are the EST_ERR numbers that the devices ended with: 0 for one
// that never came so far as to ask the EST server.
func (r *run) estNumbers() []int {
	last := map[string]int{}
	for i := range r.phones {
		last[deviceName(i)] = fault.ESTNone
	}
	for _, e := range r.logs.entries {
		if e.Kind == "capf-enrolled" && e.Event.RV != nil {
			last[e.Event.Device] = *e.Event.RV
		}
	}
	var all []int
	for _, n := range last {
		all = append(all, n)
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// causes are the entries of our own log in which a failure is named at its
// place; in the others it is what the next one on the road sees of it.
var causes = map[string]bool{"upstream-failed": true, "enrollment": true, "est-request": true, "certificate-unfit": true}

// ownCode is the first failure that our own log names where it happened, and
// whether that is the row's. What CAPF saw counts when nobody behind it has
// noticed anything, the device table when not even CAPF's enroller has.
func (r *run) ownCode() (string, bool) {
	for _, of := range []func(entry) bool{
		func(e entry) bool { return causes[e.Kind] },
		func(e entry) bool { return e.Kind == "enrolment failed" },
		func(e entry) bool { return true },
	} {
		var first string
		for _, e := range r.logs.entries {
			code := e.code()
			if code == "" || !of(e) || r.comesBefore(code) {
				continue
			}
			if first == "" {
				first = code
			}
		}
		if first != "" {
			return first, first == r.code.String()
		}
	}
	return "no failure", false
}

// comesBefore says whether a code is one that the scenario produces on its way.
func (r *run) comesBefore(code string) bool {
	return slices.ContainsFunc(r.scenario.before, func(c fault.Code) bool { return c.String() == code })
}

// deviceStatus looks into the device table as it was in the end.
func (r *run) deviceStatus() ([]int, bool) {
	want := r.code.Row().DeviceStatus
	var got []int
	for _, d := range r.cast.table.rows {
		got = append(got, int(d.Status))
	}
	slices.Sort(got)
	got = slices.Compact(got)
	return got, want == 0 || r.scenario.good || slices.Contains(got, want)
}
