package diagnose_test

import (
	"bytes"
	"compress/gzip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/onlineca/onlineca/internal/diagnose"
	"github.com/onlineca/onlineca/ra/fault"
)

// Logs that stand there twice are counted once.
func TestTheSameLogsTwice(t *testing.T) {
	dir := t.TempDir()
	clusterAt(t, filepath.Join(dir, "logs"), 78, fault.Template, 0)
	if err := os.CopyFS(filepath.Join(dir, "copy"), os.DirFS(filepath.Join(dir, "logs"))); err != nil {
		t.Fatal(err)
	}
	if r := run(t, diagnose.Options{Paths: []string{dir}}); len(r.Clusters) != 0 || r.Totals.Enrolments != 11 || len(r.Notes) != 1 {
		t.Errorf("%d clusters, %v, %+v", len(r.Clusters), r.Notes, r.Totals)
	}
}

// So are single files: copied under another name, into another folder, packed.
func TestTheSameFileTwice(t *testing.T) {
	dir := t.TempDir()
	device := clusterAt(t, dir, 79, fault.Template, -5*time.Hour)
	want := run(t, diagnose.Options{Paths: []string{dir}})
	capf := filepath.Join(dir, capfLog[:2], capfLog)
	copyTo(t, capf, filepath.Join(dir, capfLog[:2], "Copy of "+capfLog), false)
	alone := run(t, diagnose.Options{Paths: []string{dir}})
	if len(alone.Notes) != 1 || !strings.Contains(alone.Notes[0], "Copy of "+capfLog+" holds the same as "+filepath.ToSlash(capf)) {
		t.Errorf("one copy: %q", alone.Notes)
	}
	copyTo(t, filepath.Join(dir, errorLog[:2], errorLog), filepath.Join(dir, "again.gz"), true)
	copyTo(t, filepath.Join(dir, iisLog[:2], iisLog), filepath.Join(dir, "again.log"), false)
	for _, together := range []bool{false, true} {
		r := run(t, diagnose.Options{Paths: []string{dir}, Together: together})
		if r.Totals != want.Totals || len(r.Notes) != 1 || !strings.Contains(r.Notes[0], "2 files more") {
			t.Errorf("%+v, want %+v, %q", r.Totals, want.Totals, r.Notes)
		}
		same := 0
		for _, f := range r.Files {
			if f.SameAs != "" {
				same++
			}
		}
		if len(r.Files) != 6 || same != 3 {
			t.Errorf("%d files, %d of them copies", len(r.Files), same)
		}
		if f := findingOf(r); f == nil || len(r.Faults) != 1 || r.Faults[0].Devices[0] != device || f.Codes[0] != "template" {
			t.Errorf("%+v", r.Faults)
		}
	}
}

// Clusters that lie beside each other may share a web server, and its log.
func TestClustersShareALog(t *testing.T) {
	dir := t.TempDir()
	a, b := filepath.Join(dir, "a"), filepath.Join(dir, "b")
	clusterAt(t, a, 80, fault.Template, 0)
	clusterAt(t, b, 81, fault.Template, 0)
	web := filepath.Join(iisLog[:2], iisLog)
	copyTo(t, filepath.Join(a, web), filepath.Join(b, web), false)
	if r := run(t, diagnose.Options{Paths: []string{dir}}); len(r.Clusters) != 2 || len(r.Clusters[1].Clocks) != 3 || len(r.Notes) != 1 {
		t.Errorf("%d clusters, %q", len(r.Clusters), r.Notes)
	}
}

func copyTo(t *testing.T, from, to string, pack bool) {
	t.Helper()
	data, err := os.ReadFile(from)
	if err != nil {
		t.Fatal(err)
	}
	if pack {
		var b bytes.Buffer
		z := gzip.NewWriter(&b)
		if _, err := z.Write(data); err != nil {
			t.Fatal(err)
		}
		if err := z.Close(); err != nil {
			t.Fatal(err)
		}
		data = b.Bytes()
	}
	if err := os.WriteFile(to, data, 0o600); err != nil {
		t.Fatal(err)
	}
}
