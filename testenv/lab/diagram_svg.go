package lab

import (
	"bytes"
	"encoding/xml"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// The measures of the drawing, in pixels. Letters are taken as charWidth wide,
// which is a little more than they are in the fonts that are asked for.
const (
	svgMargin   = 20
	svgWidth    = 1180
	headHeight  = 90
	boxHeight   = 34
	boxWidth    = 190
	lineHeight  = 15
	stepGap     = 14
	charWidth   = 7
	noteWidth   = 250
	notePadding = 8
)

// columns are where the parties' lines are.
var columns = [parties]int{svgMargin + boxWidth/2, 400, 700, svgWidth - svgMargin - boxWidth/2 - 20}

const svgStyle = `
  text { font: 12px "DejaVu Sans", Verdana, sans-serif; fill: #1c2733 }
  .title { font-size: 15px; font-weight: bold }
  .party { font-weight: bold; text-anchor: middle }
  .box { fill: #e8eef5; stroke: #5b7083 }
  .life { stroke: #9aa9b7; stroke-dasharray: 4 4 }
  .arrow { stroke: #2a4d69; stroke-width: 1.4; fill: none }
  .said { text-anchor: middle }
  .note { fill: #fff8dc; stroke: #c9b458 }
  .bad.arrow { stroke: #b3261e }
  .bad.note { fill: #fde7e5; stroke: #b3261e }
  text.bad { fill: #8c1d18 }
`

// svg draws the sequence.
func (d *diagram) svg() []byte {
	var body bytes.Buffer
	y := headHeight + stepGap
	for _, s := range d.steps {
		if s.note {
			y = drawNote(&body, s, y)
		} else {
			y = drawArrow(&body, s, y)
		}
	}
	height := y + svgMargin
	var b bytes.Buffer
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" viewBox="0 0 %d %d" role="img">`+"\n", svgWidth, height, svgWidth, height)
	fmt.Fprintf(&b, "<title>%s</title>\n<style>%s</style>\n", escape(d.title), svgStyle)
	for _, bad := range []string{"", "bad"} {
		colour := map[string]string{"": "#2a4d69", "bad": "#b3261e"}[bad]
		fmt.Fprintf(&b, `<marker id="head%s" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="8" markerHeight="8" orient="auto-start-reverse"><path d="M0 0L10 5L0 10z" fill="%s"/></marker>`+"\n", bad, colour)
	}
	fmt.Fprintf(&b, `<rect width="%d" height="%d" fill="#ffffff"/>`+"\n", svgWidth, height)
	for i, line := range wrap(d.title, (svgWidth-2*svgMargin)/9) {
		fmt.Fprintf(&b, `<text class="title" x="%d" y="%d">%s</text>`+"\n", svgMargin, 24+18*i, escape(line))
	}
	for p := range parties {
		x := columns[p]
		fmt.Fprintf(&b, `<line class="life" x1="%d" y1="%d" x2="%d" y2="%d"/>`+"\n", x, headHeight-boxHeight/2, x, height-svgMargin/2)
		fmt.Fprintf(&b, `<rect class="box" x="%d" y="%d" width="%d" height="%d" rx="5"/>`+"\n", x-boxWidth/2, headHeight-boxHeight, boxWidth, boxHeight)
		fmt.Fprintf(&b, `<text class="party" x="%d" y="%d">%s</text>`+"\n", x, headHeight-boxHeight/2+4, escape(partyNames[p]))
	}
	b.Write(body.Bytes())
	b.WriteString("</svg>\n")
	return b.Bytes()
}

// drawArrow draws an arrow with its text above, from y on, and returns where
// the next one begins.
func drawArrow(b *bytes.Buffer, s step, y int) int {
	x1, x2 := columns[s.from], columns[s.to]
	left, right := min(x1, x2), max(x1, x2)
	lines := wrap(s.text, (right-left-20)/charWidth)
	for _, line := range lines {
		y += lineHeight
		fmt.Fprintf(b, `<text class="said%s" x="%d" y="%d">%s</text>`+"\n", badClass(s), (left+right)/2, y-4, escape(line))
	}
	head := "head"
	if s.bad {
		head = "headbad"
	}
	fmt.Fprintf(b, `<line class="arrow%s" x1="%d" y1="%d" x2="%d" y2="%d" marker-end="url(#%s)"/>`+"\n", badClass(s), x1, y, x2, y, head)
	return y + stepGap
}

// drawNote draws a box over the line of its party.
func drawNote(b *bytes.Buffer, s step, y int) int {
	lines := wrap(s.text, (noteWidth-2*notePadding)/charWidth)
	height := len(lines)*lineHeight + 2*notePadding - 4
	x := max(svgMargin/2, min(columns[s.from]-noteWidth/2, svgWidth-noteWidth-svgMargin/2))
	fmt.Fprintf(b, `<rect class="note%s" x="%d" y="%d" width="%d" height="%d" rx="4"/>`+"\n", badClass(s), x, y, noteWidth, height)
	for i, line := range lines {
		fmt.Fprintf(b, `<text class="%s" x="%d" y="%d">%s</text>`+"\n", strings.TrimSpace(badClass(s)), x+notePadding, y+notePadding+8+i*lineHeight, escape(line))
	}
	return y + height + stepGap
}

func badClass(s step) string {
	if s.bad {
		return " bad"
	}
	return ""
}

// escape makes a text fit into XML; what XML does not allow becomes U+FFFD.
func escape(s string) string {
	var b strings.Builder
	_ = xml.EscapeText(&b, []byte(s)) // a Builder fails at nothing
	return b.String()
}

// wrap breaks a text into lines of at most n characters, at blanks where there
// are any, otherwise after a mark.
func wrap(s string, n int) []string {
	n = max(n, 10)
	var lines []string
	for rest := strings.TrimSpace(s); rest != ""; {
		if utf8.RuneCountInString(rest) <= n {
			return append(lines, rest)
		}
		cut := breakAt([]rune(rest), n)
		lines = append(lines, strings.TrimSpace(string([]rune(rest)[:cut])))
		rest = strings.TrimSpace(string([]rune(rest)[cut:]))
	}
	if len(lines) == 0 {
		lines = []string{""}
	}
	return lines
}

// breakAt finds where to break a line of more than n characters.
func breakAt(rest []rune, n int) int {
	for i := n; i > n/3; i-- {
		if unicode.IsSpace(rest[i]) {
			return i
		}
	}
	for i := n - 1; i > n/3; i-- {
		if strings.ContainsRune("/?&=_-.,", rest[i]) {
			return i + 1
		}
	}
	return n
}
