package diagnose_test

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/onlineca/onlineca/internal/diagnose"
	"github.com/onlineca/onlineca/ra/fault"
)

// clusterAt writes the logs of a cluster with one fault, its kinds in folders
// of their own, and returns the device that fails.
func clusterAt(t *testing.T, dir string, seed uint64, code fault.Code, zone time.Duration) string {
	t.Helper()
	w := newWorld(seed)
	w.zone, w.number = zone, int(seed)*1000
	surround(w, 10)
	device := w.enrol(noon, endings()[code])
	for name, text := range w.sorted() {
		path := filepath.Join(dir, name[:2], name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return device
}

// The logs of clusters that lie beside each other are not mixed, although all
// happens at the same moments.
func TestClustersBesideEachOther(t *testing.T) {
	dir := t.TempDir()
	want := map[string]string{}
	for i, code := range []fault.Code{fault.Template, fault.BadCredentials, fault.LoginTimeout} {
		name := filepath.Join(dir, "bundles", code.String())
		want[clusterAt(t, name, uint64(70+i), code, time.Duration(i-2)*time.Hour)] = code.String()
	}
	r := run(t, diagnose.Options{Paths: []string{dir}, Good: 1000})
	if len(r.Clusters) != 3 || r.Totals.Enrolments != 33 || r.Totals.Failed != 3 || r.Exit != 1 || len(r.Notes) != 1 || len(r.Enrolments) != 0 {
		t.Fatalf("%d clusters, %+v, %v", len(r.Clusters), r.Totals, r.Notes)
	}
	for _, c := range r.Clusters {
		if c.Totals.Enrolments != 11 || c.Totals.Failed != 1 || c.Exit != 1 || len(c.Files) != 3 || len(c.Clocks) != 3 {
			t.Errorf("%s: %+v, %d files, %+v", c.Name, c.Totals, len(c.Files), c.Clocks)
		}
		for _, e := range c.Enrolments {
			if e.Finding != nil && (!slices.Equal(e.Finding.Codes, []string{want[e.Device]}) || filepath.Base(c.Name) != want[e.Device]) {
				t.Errorf("%s in %s: %v", e.Device, c.Name, e.Finding.Codes)
			}
		}
	}
	for device, code := range want {
		one := run(t, diagnose.Options{Paths: []string{dir}, Device: device})
		if len(one.Clusters) != 1 || filepath.Base(one.Clusters[0].Name) != code || one.Totals.Enrolments != 1 || one.Exit != 1 {
			t.Errorf("--device %s: %d clusters, %+v", device, len(one.Clusters), one.Totals)
		}
	}
	if r := run(t, diagnose.Options{Paths: []string{dir}, Device: "SEPNOBODY"}); r.Exit != diagnose.ExitCouldNotTell || len(r.Clusters) != 0 {
		t.Errorf("a device that is nowhere: exit %d, %d clusters", r.Exit, len(r.Clusters))
	}
	for _, format := range []diagnose.Format{diagnose.Text, diagnose.HTML} {
		var b bytes.Buffer
		if _, err := diagnose.Run(t.Context(), diagnose.Options{Paths: []string{dir}, Format: format}, &b); err != nil {
			t.Fatal(err)
		}
		for device, code := range want {
			if out := b.String(); strings.Count(out, filepath.Join("bundles", code)) == 0 || !strings.Contains(out, device) {
				t.Errorf("%s says nothing of %s", format, code)
			}
		}
	}
}

// One cluster's logs stay together: its kinds in folders of their own, and when
// it is asked for.
func TestOneClusterIsNotDivided(t *testing.T) {
	dir := t.TempDir()
	clusterAt(t, dir, 75, fault.Template, -5*time.Hour)
	if r := run(t, diagnose.Options{Paths: []string{dir}}); len(r.Clusters) != 0 || len(r.Notes) != 0 || r.Totals.Failed != 1 {
		t.Errorf("%d clusters, %v, %+v", len(r.Clusters), r.Notes, r.Totals)
	}
	dir = t.TempDir()
	clusterAt(t, filepath.Join(dir, "a"), 76, fault.Template, 0)
	clusterAt(t, filepath.Join(dir, "b"), 77, fault.Template, 0)
	if r := run(t, diagnose.Options{Paths: []string{dir}, Together: true}); len(r.Clusters) != 0 || len(r.Notes) != 0 || r.Totals.Failed != 2 {
		t.Errorf("together: %d clusters, %v, %+v", len(r.Clusters), r.Notes, r.Totals)
	}
	// What could be of either keeps them together, and that is said.
	if err := os.Rename(filepath.Join(dir, "b", iisLog[:2]), filepath.Join(dir, "windows")); err != nil {
		t.Fatal(err)
	}
	if r := run(t, diagnose.Options{Paths: []string{dir}}); len(r.Clusters) != 0 || len(r.Notes) != 1 || !strings.Contains(r.Notes[0], filepath.Join(dir, "windows")) {
		t.Errorf("a log beside: %d clusters, %v", len(r.Clusters), r.Notes)
	}
}
