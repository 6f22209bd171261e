package diagnose_test

import (
	"maps"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/onlineca/onlineca/internal/diagnose"
	"github.com/onlineca/onlineca/ra/fault"
)

// With a log missing the finding is still right, or honestly unsure: what is
// named has the true fault among it, always.
func TestWithALogMissingItIsRightOrUnsure(t *testing.T) {
	for code, end := range endings() {
		for _, without := range []string{capfLog, errorLog, iisLog} {
			t.Run(code.String()+" without "+without, func(t *testing.T) {
				w := newWorld(2)
				surround(w, 20)
				device := w.enrol(noon, end)
				dir := t.TempDir()
				w.write(t, dir, without)
				r := run(t, diagnose.Options{Paths: []string{dir}, Good: 1000})
				for _, e := range r.Enrolments {
					if e.Finding == nil {
						continue
					}
					if e.Device != "" && e.Device != device {
						t.Errorf("%s is blamed\n%s", e.Device, only(t, r, device))
					}
					if !slices.Contains(e.Finding.Codes, code.String()) {
						t.Errorf("%v, %s\n%s", e.Finding.Codes, e.Finding.Confidence, only(t, r, device))
					}
				}
				if without != capfLog {
					if e := find(r, device); e == nil || e.Finding == nil {
						t.Errorf("nothing is said of %s\n%s", device, only(t, r, device))
					}
				}
			})
		}
	}
}

// A failure among 200 healthy enrolments of a busy cluster, several at any
// moment, one phone failing and then three at once, with all logs and with any
// of them missing: whatever is named has the true fault among it, and no
// healthy enrolment is blamed.
func TestAmongABusyClustersHealthyOnes(t *testing.T) {
	all := endings()
	maps.Copy(all, openEndings())
	for code, end := range all {
		t.Run(code.String(), func(t *testing.T) {
			t.Parallel()
			w := newWorld(41)
			at := noon.Add(-65 * time.Second)
			failing := map[string]bool{}
			for i := range 200 {
				at = at.Add(time.Duration(100+w.rand.IntN(1000)) * time.Millisecond)
				w.enrol(at, w.good())
				if i == 60 || i > 120 && i < 124 {
					failing[w.enrol(at.Add(time.Duration(w.rand.IntN(300))*time.Millisecond), end)] = true
				}
			}
			dir := t.TempDir()
			w.write(t, dir)
			for _, without := range []string{"", capfLog, errorLog, iisLog} {
				var paths []string
				for _, name := range []string{capfLog, errorLog, iisLog} {
					if name != without {
						paths = append(paths, filepath.Join(dir, name))
					}
				}
				checkBlame(t, run(t, diagnose.Options{Paths: paths, Good: 1000}), code, failing, without)
			}
		})
	}
}

// checkBlame holds a report to which devices failed, and by which fault.
func checkBlame(t *testing.T, r diagnose.Report, code fault.Code, failing map[string]bool, without string) {
	t.Helper()
	named := map[string]bool{}
	for _, e := range r.Enrolments {
		switch {
		case e.Finding == nil:
		case e.Device != "" && !failing[e.Device]:
			t.Errorf("without %q: %s is blamed\n%s", without, e.Device, only(t, r, e.Device))
		case !slices.Contains(e.Finding.Codes, code.String()):
			t.Errorf("without %q: %v, %s\n%s", without, e.Finding.Codes, e.Finding.Confidence, only(t, r, e.Device))
		default:
			named[e.Device] = true
		}
	}
	for device := range failing {
		if without != capfLog && !named[device] {
			t.Errorf("without %q: nothing is said of %s", without, device)
		}
	}
}

// In logs as dense as they get every failure is one enrolment, not two halves:
// CAPF's, and the registration authority's with nobody to belong to.
func TestFailuresInDenseLogsAreWhole(t *testing.T) {
	for _, seed := range []uint64{61, 64} {
		w := newWorld(seed)
		at, failing := noon, map[string]bool{}
		const all, each = 2000, 20
		for i := range all {
			at = at.Add(time.Duration(100+w.rand.IntN(1000)) * time.Millisecond)
			end := w.good()
			if i%each == each/2 {
				end = endings()[fault.Template]
			}
			if device := w.enrol(at, end); end.rv != 0 {
				failing[device] = true
			}
		}
		dir := t.TempDir()
		w.write(t, dir)
		r := run(t, diagnose.Options{Paths: []string{dir}})
		if r.Totals.Enrolments != all || r.Totals.Failed != all/each || r.Totals.Good != all-all/each {
			t.Errorf("seed %d: %+v", seed, r.Totals)
		}
		for _, e := range r.Enrolments {
			if e.Finding != nil && (!failing[e.Device] || !slices.Equal(e.Finding.Codes, []string{"template"}) || e.Finding.Confidence != diagnose.Certain) {
				t.Errorf("seed %d: %q %+v", seed, e.Device, e.Finding)
			}
		}
	}
}
