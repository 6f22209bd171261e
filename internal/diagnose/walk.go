package diagnose

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
)

// walker finds the files to read and opens them, twice: once to read them and
// once to fetch the lines that are shown.
type walker struct {
	limits Limits
	inputs []input
	temp   []string

	mu       sync.Mutex // guards what the reading of several files adds to
	problems []Problem
	notes    []string
	files    map[string]*File
	order    []string
	texts    map[ref]string
	wanted   map[string]map[int32]bool
}

// input is a file of the outermost level.
type input struct {
	path  string // where it is
	name  string // what it is called in the report
	label string // what its first lines are, "archive" for an archive
}

// find lists the files to read.
func (w *walker) find(ctx context.Context, paths []string, stdin io.Reader) error {
	w.files, w.texts = map[string]*File{}, map[ref]string{}
	for _, p := range paths {
		if p == "-" {
			if err := w.spool(ctx, stdin); err != nil {
				return err
			}
			continue
		}
		info, err := os.Stat(p)
		if err != nil {
			return usage("cannot read %s: %w", p, err)
		}
		if !info.IsDir() {
			w.inputs = append(w.inputs, input{path: p, name: filepath.ToSlash(p)})
			continue
		}
		if err := w.folder(ctx, p); err != nil {
			return err
		}
	}
	slices.SortStableFunc(w.inputs, func(a, b input) int { return asWritten(a.name, b.name) })
	w.inputs = slices.CompactFunc(w.inputs, func(a, b input) bool { return a.name == b.name })
	if len(w.inputs) > w.limits.Files {
		w.problem(w.inputs[w.limits.Files].name, refuse("there are %d files, and only %d are read", len(w.inputs), w.limits.Files))
		w.inputs = w.inputs[:w.limits.Files]
	}
	for i := range w.inputs {
		w.inputs[i].label = w.sniff(w.inputs[i].path)
	}
	return nil
}

// errNoFile is a link or a device in a folder: no log is missing without it.
var errNoFile = errors.New("it is neither a file nor a folder")

// folder lists the files below a folder. Symbolic links are not followed, and
// what is no file (a pipe, a device) is not opened.
func (w *walker) folder(ctx context.Context, root string) error {
	return filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case err != nil:
			w.problem(filepath.ToSlash(path), err)
			return nil
		case d.Type().IsRegular():
			w.inputs = append(w.inputs, input{path: path, name: filepath.ToSlash(path)})
		case !d.IsDir():
			w.problem(filepath.ToSlash(path), errNoFile)
		}
		return nil
	})
}

// spool keeps standard input in a file, because it is read twice.
func (w *walker) spool(ctx context.Context, stdin io.Reader) error {
	f, err := os.CreateTemp("", "onlineca-diagnose-")
	if err != nil {
		return fmt.Errorf("diagnose: keep standard input: %w", err)
	}
	w.temp = append(w.temp, f.Name())
	defer f.Close()
	n, err := io.Copy(f, io.LimitReader(ctxReader{ctx, stdin}, w.limits.Stdin))
	if err != nil {
		return fmt.Errorf("diagnose: read standard input: %w", err)
	}
	if n == w.limits.Stdin {
		w.problem("-", refuse("only the first %s of standard input are read", bytesText(n)))
	}
	w.inputs = append(w.inputs, input{path: f.Name(), name: "-"})
	return nil
}

func (w *walker) cleanUp() {
	for _, f := range w.temp {
		_ = os.Remove(f) // It is in the directory for such files.
	}
}

// sniff looks at the beginning of a file: what its lines are decides with
// which others it is read in one go. An error is met again when it is read.
func (w *walker) sniff(path string) string {
	f, err := os.Open(path)
	if err != nil {
		return ""
	}
	defer f.Close()
	br := bufio.NewReaderSize(f, 4096)
	head, _ := br.Peek(4096)
	if kindOf(head) != plain {
		return "archive"
	}
	var t tally
	start, _ := io.ReadAll(io.LimitReader(decoded(br), int64(len(head))))
	for line := range strings.Lines(string(start)) {
		t.count(dialectOf([]byte(line)))
	}
	return string(t.most())
}

// jobs groups the files that continue each other: those of one folder whose
// lines are alike, in the order of their names.
func (w *walker) jobs() [][]input {
	var jobs [][]input
	at := map[string]int{}
	for _, in := range w.inputs {
		key := filepath.Dir(in.path) + "\x00" + in.label
		if in.label == "archive" && kindByName(in.name) != gzipFile {
			key = in.path
		}
		i, ok := at[key]
		if !ok {
			i = len(jobs)
			at[key] = i
			jobs = append(jobs, nil)
		}
		jobs[i] = append(jobs[i], in)
	}
	return jobs
}

// visitor reads one file. The reader holds what is unpacked.
type visitor func(ctx context.Context, f *File, r io.Reader, limits Limits) error

// visit opens a file of the outermost level, and every file inside it. What
// cannot be read is a problem of the report; the error is for what ends the
// whole work.
func (w *walker) visit(ctx context.Context, in input, v visitor) error {
	f, err := os.Open(in.path)
	if err != nil {
		w.problem(in.name, err)
		return nil
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		w.problem(in.name, err)
		return nil
	}
	o := opener{w: w, v: v, budget: &budget{limits: w.limits, size: info.Size()}, seen: map[string]int{}}
	if err := o.open(ctx, in.name, f, f, info.Size(), 0); err != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		w.problem(in.name, err)
	}
	return nil
}

// remark notes what is to be known of the logs.
func (w *walker) remark(format string, args ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.notes = append(w.notes, fmt.Sprintf(format, args...))
}

// problem notes what could not be read, once.
func (w *walker) problem(name string, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	p := Problem{File: name, Text: err.Error(), Refused: errors.Is(err, errRefused), harmless: errors.Is(err, errNoFile)}
	if !slices.Contains(w.problems, p) {
		w.problems = append(w.problems, p)
	}
}

// file returns the entry of the report for a file.
func (w *walker) file(name string) (*File, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	f := w.files[name]
	if f == nil {
		if len(w.order) >= w.limits.Files {
			return nil, refuse("more than %d files", w.limits.Files)
		}
		f = &File{Name: name, index: int32(len(w.order))}
		w.files[name] = f
		w.order = append(w.order, name)
	}
	return f, nil
}

// ctxReader ends when its context does.
type ctxReader struct {
	ctx context.Context
	r   io.Reader
}

func (c ctxReader) Read(p []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, err
	}
	return c.r.Read(p)
}
