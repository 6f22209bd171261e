package diagnose_test

import (
	"context"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/onlineca/onlineca/internal/diagnose"
	"github.com/onlineca/onlineca/internal/interop"
	"github.com/onlineca/onlineca/ra/fault"
)

// BenchmarkThroughput diagnoses generated logs of one cluster, a fault among
// every thousand enrolments, and lets grep -c read the same files in the same
// run. ONLINECA_BENCH_MB sets how many megabytes there are: 32, or 1024 for
// the figure in the documentation. It reports both speeds and the most memory
// that the process has held (VmHWM).
func BenchmarkThroughput(b *testing.B) {
	want := 32
	if v := os.Getenv("ONLINECA_BENCH_MB"); v != "" {
		n, err := strconv.Atoi(v)
		if err != nil {
			b.Fatal(err)
		}
		want = n
	}
	dir := b.TempDir()
	size, enrolments := generate(b, dir, int64(want)<<20)
	runtime.GC()
	b.SetBytes(size)
	b.ReportMetric(float64(enrolments), "enrolments")
	for b.Loop() {
		r, err := diagnose.Run(context.Background(), diagnose.Options{Paths: []string{dir}}, io.Discard)
		if err != nil {
			b.Fatal(err)
		}
		check(b, r, enrolments)
	}
	b.ReportMetric(float64(peak(b))/(1<<20), "MiB-peak")
	b.ReportMetric(float64(size)/(1<<20)/grep(b, dir).Seconds(), "grep-MiB/s")
}

// check holds a report to what was generated: every good enrolment, and every
// failed one by its fault, each once.
func check(b *testing.B, r diagnose.Report, enrolments int) {
	b.Helper()
	failed, certain := enrolments/1000, 0
	for _, f := range r.Faults {
		if f.Confidence == diagnose.Certain && len(f.Codes) == 1 && f.Codes[0] == fault.Template.String() {
			certain += f.Count
		}
	}
	if got := r.Totals; got.Good != enrolments-failed || got.Failed != failed || certain != failed || got.Enrolments != enrolments || got.UnknownLines != 0 {
		b.Fatalf("%+v of %d enrolments, %d of %d faults named; clocks %+v", got, enrolments, certain, failed, r.Clocks)
	}
}

// generate writes logs of about size bytes and returns how many they are and
// how many enrolments they hold.
func generate(b *testing.B, dir string, size int64) (written int64, enrolments int) {
	b.Helper()
	files := map[string]*os.File{}
	for _, name := range []string{capfLog, errorLog, iisLog} {
		if err := os.MkdirAll(filepath.Join(dir, name[:2]), 0o700); err != nil {
			b.Fatal(err)
		}
		f, err := os.Create(filepath.Join(dir, name[:2], name))
		if err != nil {
			b.Fatal(err)
		}
		defer f.Close()
		files[name] = f
	}
	w := newWorld(11)
	bad := endings()[fault.Template]
	t := noon
	for written < size {
		w.lines = w.lines[:0]
		for range 1000 {
			enrolments++
			end := w.good()
			if enrolments%1000 == 0 {
				end = bad
			}
			t = t.Add(time.Duration(100+w.rand.IntN(1000)) * time.Millisecond)
			w.enrol(t, end)
		}
		t = t.Add(30 * time.Second)
		for name, text := range w.sorted() {
			n, err := files[name].Write(text)
			if err != nil {
				b.Fatal(err)
			}
			written += int64(n)
		}
	}
	return written, enrolments
}

// grep reads the same files with grep -c, and says how long it took.
func grep(b *testing.B, dir string) time.Duration {
	b.Helper()
	interop.Need(b, "grep")
	start := time.Now()
	out, err := exec.Command("grep", "-rc", "EST_ERR", dir).Output()
	if err != nil || len(out) == 0 {
		b.Fatalf("grep: %v", err)
	}
	return time.Since(start)
}

// peak is the most memory that this process has held, 0 where the system does
// not say.
func peak(b *testing.B) int64 {
	b.Helper()
	data, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(data)) {
		if v, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			n, _ := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(v), " kB"), 10, 64)
			return n << 10
		}
	}
	return 0
}
