package diagnose_test

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/onlineca/onlineca/internal/diagnose"
	"github.com/onlineca/onlineca/ra/fault"
)

const dnsExtract = "../logfmt/nginx/testdata/ces-dns.stdout"

func extract(tb testing.TB) []byte {
	tb.Helper()
	data, err := os.ReadFile(dnsExtract)
	if err != nil {
		tb.Fatal(err)
	}
	return data
}

func gzipped(tb testing.TB, data []byte) []byte {
	tb.Helper()
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	_, err := w.Write(data)
	if err := errors.Join(err, w.Close()); err != nil {
		tb.Fatal(err)
	}
	return b.Bytes()
}

func tarred(tb testing.TB, headers []tar.Header, data []byte) []byte {
	tb.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, h := range headers {
		h.Mode = 0o600
		if h.Typeflag == 0 {
			h.Typeflag, h.Size = tar.TypeReg, int64(len(data))
		}
		if err := w.WriteHeader(&h); err != nil {
			tb.Fatal(err)
		}
		if h.Size > 0 {
			if _, err := w.Write(data); err != nil {
				tb.Fatal(err)
			}
		}
	}
	if err := w.Close(); err != nil {
		tb.Fatal(err)
	}
	return b.Bytes()
}

func zipped(tb testing.TB, data []byte, names ...string) []byte {
	tb.Helper()
	var b bytes.Buffer
	w := zip.NewWriter(&b)
	for _, name := range names {
		f, err := w.Create(name)
		if err != nil {
			tb.Fatal(err)
		}
		if _, err := f.Write(data); err != nil {
			tb.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		tb.Fatal(err)
	}
	return b.Bytes()
}

func diagnoseBytes(t *testing.T, name string, data []byte, l diagnose.Limits) diagnose.Report {
	t.Helper()
	file := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(file, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return run(t, diagnose.Options{Paths: []string{file}, Limits: l})
}

// Names do not matter, nor how the files are packed.
func TestPacked(t *testing.T) {
	log := extract(t)
	for name, data := range map[string][]byte{
		"plain":     log,
		"gz":        gzipped(t, log),
		"tar":       tarred(t, []tar.Header{{Name: "active/x"}}, log),
		"tar.gz":    gzipped(t, tarred(t, []tar.Header{{Name: "active/", Typeflag: tar.TypeDir}, {Name: "active/x"}}, log)),
		"zip":       zipped(t, log, "logs/x"),
		"gz in zip": zipped(t, gzipped(t, log), "logs/x.gz"),
		"zip in gz": gzipped(t, zipped(t, log, "x")),
		"crlf":      bytes.ReplaceAll(log, []byte("\n"), []byte("\r\n")),
	} {
		r := diagnoseBytes(t, "whatever", data, diagnose.Limits{})
		f := findingOf(r)
		if f == nil || !slices.Equal(f.Codes, []string{"dns"}) || f.Evidence[0].Line != 3 || !strings.Contains(f.Evidence[0].Text, "Could not resolve") {
			t.Errorf("%s: %+v, %+v", name, f, r.Problems)
		}
	}
}

func TestStdin(t *testing.T) {
	r := run(t, diagnose.Options{Paths: []string{"-"}, Stdin: bytes.NewReader(gzipped(t, extract(t)))})
	if f := findingOf(r); f == nil || f.Evidence[0].File != "-" || f.Evidence[0].Line != 3 {
		t.Errorf("%+v", f)
	}
	left, err := filepath.Glob(filepath.Join(os.TempDir(), "onlineca-diagnose-*"))
	if err != nil || len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
}

// zeros is an endless supply of nothing.
type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

func TestBombsAreRefused(t *testing.T) {
	if testing.Short() {
		t.Skip("packs 128 MiB")
	}
	var gz bytes.Buffer
	w := gzip.NewWriter(&gz)
	_, err := io.CopyN(w, zeros{}, 128<<20)
	if err := errors.Join(err, w.Close()); err != nil {
		t.Fatal(err)
	}
	// A zip that says it holds 50 GB, in two files of 25.
	var z bytes.Buffer
	zw := zip.NewWriter(&z)
	for _, name := range []string{"a", "b"} {
		if _, err := zw.CreateRaw(&zip.FileHeader{Name: name, Method: zip.Deflate, UncompressedSize64: 25 << 30}); err != nil {
			t.Fatal(err)
		}
	}
	if err := zw.Close(); err != nil {
		t.Fatal(err)
	}
	var lying bytes.Buffer
	lw := zip.NewWriter(&lying)
	f, err := lw.CreateRaw(&zip.FileHeader{Name: "a", Method: zip.Deflate, UncompressedSize64: 10, CompressedSize64: uint64(gz.Len() - 18)})
	if err != nil {
		t.Fatal(err)
	}
	_, err = f.Write(gz.Bytes()[10 : gz.Len()-8])
	if err := errors.Join(err, lw.Close()); err != nil {
		t.Fatal(err)
	}
	for name, data := range map[string][]byte{
		"gz": gz.Bytes(), "zip of 50 GB": z.Bytes(), "gz in gz in gz in gz": gzipped(t, gzipped(t, gzipped(t, gzipped(t, extract(t))))),
	} {
		r := diagnoseBytes(t, "x", data, diagnose.Limits{})
		if len(r.Problems) != 1 || !r.Problems[0].Refused || r.Exit != diagnose.ExitCouldNotTell {
			t.Errorf("%s: %+v, exit %d", name, r.Problems, r.Exit)
		}
	}
	// archive/zip itself stops at the size that the zip says.
	if r := diagnoseBytes(t, "x", lying.Bytes(), diagnose.Limits{}); len(r.Problems) != 1 || r.Exit != diagnose.ExitCouldNotTell {
		t.Errorf("a zip that lies: %+v, exit %d", r.Problems, r.Exit)
	}
	if r := diagnoseBytes(t, "x", gzipped(t, extract(t)), diagnose.Limits{Unpacked: 100}); len(r.Problems) != 1 || !r.Problems[0].Refused {
		t.Errorf("%+v", r.Problems)
	}
}

// A name that climbs out of the archive is refused; what else is in there is
// read.
func TestClimbingNamesAreRefused(t *testing.T) {
	log := extract(t)
	links := []tar.Header{{Name: "../../etc/x"}, {Name: "/etc/x"}, {Name: `..\x`}, {Name: "l", Typeflag: tar.TypeSymlink, Linkname: "/etc/passwd"}, {Name: "good"}}
	for name, data := range map[string][]byte{
		"tar": tarred(t, links, log),
		"zip": zipped(t, log, "../../etc/x", "/etc/x", `..\x`, "c:/x", "good"),
	} {
		r := diagnoseBytes(t, "x", data, diagnose.Limits{})
		refused := 0
		for _, p := range r.Problems {
			if p.Refused {
				refused++
			}
		}
		if refused != 4 || len(r.Files) != 1 || findingOf(r) == nil {
			t.Errorf("%s: %+v, %+v", name, r.Problems, r.Files)
		}
	}
}

// A file of 10 MB without a line feed is one line that is read over.
func TestEndlessLine(t *testing.T) {
	var before, after runtime.MemStats
	data := append(bytes.Repeat([]byte("x"), 10<<20), append([]byte("\n"), extract(t)...)...)
	file := filepath.Join(t.TempDir(), "x")
	if err := os.WriteFile(file, data, 0o600); err != nil {
		t.Fatal(err)
	}
	runtime.ReadMemStats(&before)
	r := run(t, diagnose.Options{Paths: []string{file}})
	runtime.ReadMemStats(&after)
	if f := findingOf(r); f == nil || f.Evidence[0].Line != 4 || r.Files[0].Cut != 1 || r.Files[0].Lines != 7 {
		t.Errorf("%+v, %+v", f, r.Files)
	}
	if got := after.TotalAlloc - before.TotalAlloc; got > 4<<20 {
		t.Errorf("%d bytes were allocated", got)
	}
}

func TestNoLogs(t *testing.T) {
	for name, data := range map[string][]byte{"empty": nil, "words": []byte("hello\n# world\n"), "binary": bytes.Repeat([]byte{0, 255, '\n'}, 1000)} {
		r := diagnoseBytes(t, "x", data, diagnose.Limits{})
		if r.Exit != diagnose.ExitCouldNotTell || r.Totals.UnknownLines != r.Totals.Lines {
			t.Errorf("%s: exit %d, %+v", name, r.Exit, r.Totals)
		}
	}
}

// Everything in one file, torn at both ends, is told apart line by line.
func TestMixedAndTorn(t *testing.T) {
	w := newWorld(9)
	surround(w, 10)
	device := w.enrol(noon, endings()[fault.Template])
	dir := t.TempDir()
	w.write(t, dir)
	var all []byte
	for _, name := range []string{capfLog, errorLog, iisLog} {
		data, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		all = append(append(all, data[7:len(data)-7]...), '\n')
	}
	r := run(t, diagnose.Options{Paths: []string{"-"}, Stdin: bytes.NewReader(all)})
	if e := find(r, device); e == nil || e.Finding == nil || !slices.Equal(e.Finding.Codes, []string{"template"}) || r.Totals.Failed != 1 {
		t.Errorf("%s", text(t, r))
	}
	if r.Totals.UnknownLines == 0 || r.Totals.UnknownLines > 6 {
		t.Errorf("%d unknown lines", r.Totals.UnknownLines)
	}
}

// A trace that goes on in the next file, over midnight.
func TestRotated(t *testing.T) {
	w := newWorld(10)
	w.zone, w.skewCAPF, w.skewError, w.skewIIS = 0, 0, 0, 0
	midnight := noon.Truncate(24 * time.Hour).Add(24 * time.Hour)
	for i := range 20 {
		w.enrol(midnight.Add(time.Duration(i-10)*3*time.Second), w.good())
	}
	dir := t.TempDir()
	w.write(t, dir)
	data, err := os.ReadFile(filepath.Join(dir, capfLog))
	if err != nil {
		t.Fatal(err)
	}
	cut := bytes.LastIndexByte(data[:len(data)/2], '\n') + 1
	if err := errors.Join(
		os.WriteFile(filepath.Join(dir, "capf9.txt"), data[:cut], 0o600), os.WriteFile(filepath.Join(dir, "capf10.txt"), data[cut:], 0o600),
		os.Remove(filepath.Join(dir, capfLog)),
	); err != nil {
		t.Fatal(err)
	}
	r := run(t, diagnose.Options{Paths: []string{dir}})
	if r.Totals.Good != 20 || r.Totals.Enrolments != 20 {
		t.Errorf("%s", text(t, r))
	}
	for _, e := range r.Enrolments {
		if e.Start == nil || e.Start.Sub(midnight).Abs() > time.Minute {
			t.Errorf("%s at %v", e.Device, e.Start)
		}
	}
}

func TestInterrupted(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := diagnose.Run(ctx, diagnose.Options{Paths: []string{"../logfmt"}}, io.Discard); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
}

func FuzzAnalyse(f *testing.F) {
	for _, dir := range extractDirs {
		all, err := filepath.Glob(dir + "/*")
		if err != nil {
			f.Fatal(err)
		}
		for _, name := range all {
			data, err := os.ReadFile(name)
			if err == nil {
				f.Add(data)
			}
		}
	}
	f.Add(gzipped(f, extract(f)))
	f.Add(zipped(f, extract(f), "x"))
	f.Add([]byte(`{"ts":"2026-11-21T20:59:31.3Z","kind":"est-request","id":"1","event":{"operation":"simpleenroll","status":401,"code":"template"}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		r, err := diagnose.Analyse(context.Background(), diagnose.Options{Paths: []string{"-"}, Stdin: bytes.NewReader(data)})
		if err != nil {
			t.Fatal(err)
		}
		for _, format := range []func(io.Writer) error{r.WriteJSON, r.WriteHTML} {
			if err := format(io.Discard); err != nil {
				t.Fatal(err)
			}
		}
		if err := r.WriteText(io.Discard, diagnose.ColourOn); err != nil {
			t.Fatal(err)
		}
	})
}

// What cannot be read to its end, or holds no line of a log, is not called
// healthy.
func TestWhatWasNotReadIsNotHealthy(t *testing.T) {
	packed := gzipped(t, extract(t))
	for name, b := range map[string][]byte{
		"broken off":       packed[:len(packed)/2],
		"braces, not JSON": []byte(strings.Repeat("{\x00\xff no log\n", 50)),
		"none of ours":     []byte(`{"level":"info","msg":"another program's"}` + "\n"),
	} {
		if r := diagnoseBytes(t, "x.gz", b, diagnose.Limits{}); r.Exit != diagnose.ExitCouldNotTell {
			t.Errorf("%s: exit %d, %+v, %+v", name, r.Exit, r.Files, r.Problems)
		}
	}
	if r := diagnoseBytes(t, "x.gz", packed, diagnose.Limits{}); len(r.Files) != 1 || !strings.HasSuffix(r.Files[0].Name, "x.gz") {
		t.Errorf("%+v", r.Files)
	}
}

// Windows PowerShell writes UTF-16, editors a byte order mark.
func TestByteOrderMarks(t *testing.T) {
	text := extract(t)
	want := diagnoseBytes(t, "x", text, diagnose.Limits{})
	wide := []byte{0xff, 0xfe}
	for _, c := range text {
		wide = append(wide, c, 0)
	}
	for name, b := range map[string][]byte{"UTF-16": wide, "UTF-8": append([]byte("\xef\xbb\xbf"), text...), "packed": gzipped(t, wide)} {
		r := diagnoseBytes(t, "x", b, diagnose.Limits{})
		if r.Totals != want.Totals || len(r.Files) != 1 || r.Files[0].Log != want.Files[0].Log || findingOf(r) == nil {
			t.Errorf("%s: %+v, %+v", name, r.Totals, r.Files)
		}
	}
}
