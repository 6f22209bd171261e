package diagnose

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
)

// lineReader reads lines of bounded length, whatever the file holds.
type lineReader struct {
	r    *bufio.Reader
	max  int
	over []byte // of a line longer than the buffer
	n    int64  // bytes read
	// cut tells that the last line was longer than max.
	cut bool
}

func newLineReader(r io.Reader, maxLine int) *lineReader {
	return &lineReader{r: bufio.NewReaderSize(r, min(maxLine, 64<<10)), max: maxLine}
}

// next returns the next line without its line feed, valid until the next call.
func (l *lineReader) next() ([]byte, error) {
	l.cut = false
	b, err := l.r.ReadSlice('\n')
	l.n += int64(len(b))
	if !errors.Is(err, bufio.ErrBufferFull) {
		return bytes.TrimSuffix(b, []byte("\n")), last(b, err)
	}
	l.over = append(l.over[:0], b...)
	for errors.Is(err, bufio.ErrBufferFull) {
		b, err = l.r.ReadSlice('\n')
		l.n += int64(len(b))
		if room := l.max - len(l.over); len(b) > room {
			l.cut = true
			l.over = append(l.over, b[:room]...)
		} else {
			l.over = append(l.over, b...)
		}
	}
	return bytes.TrimSuffix(l.over, []byte("\n")), last(l.over, err)
}

// last lets the end of the file wait until its last line has been taken.
func last(b []byte, err error) error {
	if errors.Is(err, io.EOF) && len(b) > 0 {
		return nil
	}
	return err
}

// fetch reads the lines that the report shows.
func (w *walker) fetch(ctx context.Context, wanted map[ref]bool) error {
	w.wanted = map[string]map[int32]bool{}
	for r := range wanted {
		name := w.order[r.file]
		if w.wanted[name] == nil {
			w.wanted[name] = map[int32]bool{}
		}
		w.wanted[name][r.line] = true
	}
	for _, in := range w.inputs {
		if !w.needed(in) {
			continue
		}
		if err := w.visit(ctx, in, w.pick); err != nil {
			return err
		}
	}
	return nil
}

// needed reports whether a line of an input, or of a file inside it, is shown.
func (w *walker) needed(in input) bool {
	if in.label == "archive" {
		return len(w.wanted) > 0
	}
	return len(w.wanted[in.name]) > 0
}

// pick keeps the wanted lines of a file.
func (w *walker) pick(_ context.Context, f *File, r io.Reader, limits Limits) error {
	want := w.wanted[f.Name]
	lr := newLineReader(r, limits.Line)
	for n := int32(1); len(want) > 0; n++ {
		b, err := lr.next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read: %w", err)
		}
		if want[n] {
			delete(want, n)
			w.texts[ref{f.index, n}] = shown(b)
		}
	}
	return nil
}

// maxShown is how much of a line is shown.
const maxShown = 400

// shown makes a line fit to be shown: printable, and not endless.
func shown(b []byte) string {
	b = bytes.TrimSuffix(b, []byte("\r"))
	long := len(b) > maxShown
	if long {
		b = b[:maxShown]
	}
	s := printable(b)
	if long {
		s += " …"
	}
	return s
}

func printable(b []byte) string {
	out := make([]rune, 0, len(b))
	for _, r := range string(b) {
		if r < 0x20 || r >= 0x7f && r < 0xa0 || r == 0xfffd {
			r = '.'
		}
		out = append(out, r)
	}
	return string(out)
}
