package chain

import (
	"slices"
	"strings"
	"unicode"
)

// width is how wide a report is made; log lines and commands are not broken.
const width = 80

// wideRunes are the characters that take two columns of a terminal: Korean, Chinese,
// Japanese and what goes with them (Unicode Standard Annex 11).
var wideRunes = &unicode.RangeTable{
	R16: []unicode.Range16{{0x1100, 0x115f, 1}, {0x2e80, 0x303e, 1}, {0x3041, 0xa4cf, 1}, {0xa960, 0xa97f, 1}, {0xac00, 0xd7a3, 1},
		{0xf900, 0xfaff, 1}, {0xfe30, 0xfe6f, 1}, {0xff00, 0xff60, 1}, {0xffe0, 0xffe6, 1}},
	R32: []unicode.Range32{{0x1f300, 0x1faff, 1}, {0x20000, 0x3fffd, 1}},
}

// runeColumns is how many columns of a terminal a character takes.
func runeColumns(r rune) int {
	switch {
	case unicode.In(r, unicode.Mn, unicode.Me):
		return 0
	case unicode.Is(wideRunes, r):
		return 2
	}
	return 1
}

// columns is how many columns of a terminal a text takes.
func columns(s string) (n int) {
	for _, r := range s {
		n += runeColumns(r)
	}
	return n
}

// head is how much of s fits into n columns, in bytes.
func head(s string, n int) int {
	for i, r := range s {
		if n -= runeColumns(r); n < 0 {
			return i
		}
	}
	return len(s)
}

// shorten makes s fit into n columns, with a mark at the end if it was cut.
func shorten(s string, n int) string {
	if columns(s) <= n {
		return s
	}
	return s[:head(s, n-1)] + "~"
}

// table is lines of cells, the same number in each line.
type table [][]string

// write writes the cells below each other, two columns apart and indented.
func (t table) write(b *strings.Builder) {
	widths := make([]int, len(t[0]))
	for _, line := range t {
		for i, cell := range line {
			widths[i] = max(widths[i], columns(cell))
		}
	}
	for _, line := range t {
		var out strings.Builder
		for i, cell := range line {
			out.WriteString("  " + cell + strings.Repeat(" ", widths[i]-columns(cell)))
		}
		b.WriteString(strings.TrimRight(out.String(), " ") + "\n")
	}
}

// paragraph writes text in lines of at most [width] columns; lines after the
// first are indented as far as the label is wide. What is wider than a line is
// broken behind a comma, as in long names, or where the line ends.
func paragraph(b *strings.Builder, label, text string) {
	indent := strings.Repeat(" ", columns(label))
	line, length, empty := label, len(indent), true
	newline := func() {
		b.WriteString(line + "\n")
		line, length, empty = indent, len(indent), true
	}
	for _, word := range slices.Collect(strings.FieldsSeq(text)) {
		if !empty && length+1+columns(word) > width {
			newline()
		}
		for cut := head(word, width-length); cut < len(word); cut = head(word, width-length) {
			if comma := strings.LastIndexByte(word[:cut], ','); comma >= 0 {
				cut = comma + 1
			}
			if cut == 0 {
				break // no line is wide enough
			}
			line += word[:cut]
			word = word[cut:]
			newline()
		}
		if !empty {
			line += " "
			length++
		}
		line += word
		length += columns(word)
		empty = false
	}
	b.WriteString(line + "\n")
}
