package diagnose

import (
	_ "embed" // the page's template
	"fmt"
	"html/template"
	"io"
	"slices"
	"strings"
)

//go:embed page.html
var pageText string

var page = template.Must(template.New("page").Funcs(template.FuncMap{
	"ms": ms, "name": name, "when": when, "place": place, "plural": plural, "bytes": bytesText,
	"join": strings.Join, "bars": bars,
}).Parse(pageText))

// WriteHTML writes the report as one page that needs nothing else: no script,
// no font, no picture from elsewhere.
func (r Report) WriteHTML(w io.Writer) error {
	return page.Execute(w, r)
}

// HasGood reports whether there are enrolments to list that went well.
func (r Report) HasGood() bool {
	return slices.ContainsFunc(r.Enrolments, func(e Enrolment) bool {
		return e.Outcome == OutcomeGood && !e.Slow && e.Finding == nil
	})
}

// lane is one log's row of a drawn timeline.
type lane struct {
	Log   string
	Y     int
	Marks []dot
}

// dot is a moment drawn on its lane.
type dot struct {
	X     string
	Bad   bool
	Title string
}

// drawing is a timeline as it is drawn.
type drawing struct {
	Width, Height, Left int
	Lanes               []lane
	Ticks               []tick
}

type tick struct {
	X      string
	Text   string
	Anchor string
}

const (
	drawWidth  = 900
	drawLeft   = 90
	laneHeight = 26
)

// bars lays out the timeline of an enrolment, a lane for each log.
func bars(e Enrolment) drawing {
	lo, hi := int64(0), max(1, e.Duration)
	for _, m := range e.Timeline {
		lo, hi = min(lo, m.Offset), max(hi, m.Offset)
	}
	x := func(at int64) string {
		return fmt.Sprintf("%.1f", drawLeft+8+float64(at-lo)/float64(hi-lo)*(drawWidth-drawLeft-24))
	}
	d := drawing{Width: drawWidth, Left: drawLeft}
	for _, log := range allLogs {
		l := lane{Log: string(log), Y: 14 + len(d.Lanes)*laneHeight}
		for _, m := range e.Timeline {
			if m.Log == l.Log {
				title := fmt.Sprintf("%+.3f s  %s", float64(m.Offset)/1000, m.What)
				l.Marks = append(l.Marks, dot{X: x(m.Offset), Bad: m.Bad, Title: title})
			}
		}
		if len(l.Marks) > 0 {
			d.Lanes = append(d.Lanes, l)
		}
	}
	for i := range int64(5) {
		at := lo + (hi-lo)*i/4
		d.Ticks = append(d.Ticks, tick{
			X: x(at), Text: fmt.Sprintf("%+.2f s", float64(at)/1000), Anchor: [...]string{"start", "middle", "middle", "middle", "end"}[i],
		})
	}
	d.Height = 14 + len(d.Lanes)*laneHeight + 12
	return d
}
