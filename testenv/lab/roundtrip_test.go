package lab

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/onlineca/onlineca/internal/diagnose"
	"github.com/onlineca/onlineca/internal/zaplog"
	"github.com/onlineca/onlineca/ra/fault"
)

// diagnosed is what the reader finds in logs: of every start of the service and
// of every enrolment that failed.
func diagnosed(t *testing.T, paths ...string) []*diagnose.Finding {
	t.Helper()
	r, err := diagnose.Analyse(t.Context(), diagnose.Options{Paths: paths})
	if err != nil {
		t.Fatal(err)
	}
	var all []*diagnose.Finding
	for _, s := range r.Starts {
		if s.Finding != nil {
			all = append(all, s.Finding)
		}
	}
	for _, e := range r.Enrolments {
		if e.Finding != nil {
			all = append(all, e.Finding)
		}
	}
	return all
}

// productLogs are the logs that the product has, as the tree has them.
var productLogs = []string{zaplog.CAPFFile, zaplog.StdoutFile, zaplog.ErrorFile, zaplog.IISDir}

// someOf are the product's logs of a run that stand in a set of bits.
func someOf(dir string, set int) (paths []string) {
	for i, name := range productLogs {
		if set&(1<<i) != 0 {
			paths = append(paths, filepath.Join(dir, filepath.FromSlash(name)))
		}
	}
	return paths
}

// What is reproduced is recognised. From all logs, our own among them, with its
// one code. From those that the product has, and from any of them alone or
// together, the finding is right or honestly unsure: the true code is always
// among those that it names, and where there are all of them there is a
// finding. Several phones at once make no difference.
func TestReproducedThenDiagnosed(t *testing.T) {
	for _, c := range reproducible() {
		t.Run(c.String(), func(t *testing.T) {
			for _, r := range []Reproduction{reproduced(t, c), severalOf(t, c)} {
				logs := filepath.Join(r.Dir, logsDir)
				if got := diagnosed(t, logs); !slices.ContainsFunc(got, func(f *diagnose.Finding) bool {
					return slices.Equal(f.Codes, []string{c.String()}) && f.Confidence != diagnose.Unsure
				}) {
					t.Errorf("from all logs: %s", written(got))
				}
				if inProductsLogs(c) && r.Bundle != "" {
					checkFindings(t, c, "bundle", true, diagnosed(t, r.Bundle))
				}
				for set := 1; set < 1<<len(productLogs); set++ {
					paths := someOf(r.Dir, set)
					checkFindings(t, c, strings.Join(paths, " "), false, diagnosed(t, paths...))
				}
			}
		})
	}
}

// checkFindings holds findings to what was wrong: what is said must be true.
func checkFindings(t *testing.T, c fault.Code, of string, needed bool, got []*diagnose.Finding) {
	t.Helper()
	found := false
	for _, f := range got {
		if slices.Contains(f.Codes, c.String()) {
			found = true
			continue
		}
		if !slices.ContainsFunc(scenarios[c].before, func(b fault.Code) bool { return slices.Contains(f.Codes, b.String()) }) {
			t.Errorf("from %s: %s", of, written([]*diagnose.Finding{f}))
		}
	}
	if needed && !found {
		t.Errorf("from %s: %s", of, written(got))
	}
}

// written is a list of findings in a line each.
func written(all []*diagnose.Finding) string {
	var b strings.Builder
	for _, f := range all {
		b.WriteString("\n  " + string(f.Confidence) + ": " + strings.Join(f.Codes, ", "))
	}
	return b.String()
}

// inProductsLogs says whether a failure shows in a log that the product has.
func inProductsLogs(c fault.Code) bool {
	return slices.ContainsFunc(c.Row().Shows, func(s fault.Sighting) bool { return s.Log != fault.LogOwn && s.Log != fault.DeviceTable })
}

// What is left open says which log would tell: where only ours can, that is
// said too.
func TestWhatIsOpenSaysWhichLogWouldTell(t *testing.T) {
	for _, c := range []fault.Code{fault.ClientCertificate, fault.InProgress, fault.LoginSuspended, fault.Pending, fault.Busy} {
		all := diagnosed(t, reproduced(t, c).Bundle)
		if len(all) == 0 {
			t.Errorf("%s: nothing is found", c.String())
		}
		for _, f := range all {
			if f.Confidence == diagnose.Unsure && !slices.Contains(f.Missing, string(fault.LogOwn)) {
				t.Errorf("%s: %+v", c.String(), f)
			}
		}
	}
}

// The tree of many reproductions is read as what it is: each directory by
// itself, bundles beside their logs counted once.
func TestTheWholeTreeIsDiagnosed(t *testing.T) {
	all, err := everything()
	if err != nil {
		t.Fatal(err)
	}
	r, err := diagnose.Analyse(t.Context(), diagnose.Options{Paths: []string{filepath.Dir(reproduced(t, fault.DNS).Dir)}})
	if err != nil {
		t.Fatal(err)
	}
	if len(r.Clusters) != len(all) {
		t.Errorf("%d clusters of %d", len(r.Clusters), len(all))
	}
	for _, c := range r.Clusters {
		code := filepath.Base(filepath.Dir(c.Name))
		if !slices.ContainsFunc(c.Faults, func(f diagnose.Fault) bool { return slices.Equal(f.Codes, []string{code}) }) {
			t.Errorf("%s: %+v", c.Name, c.Faults)
		}
	}
}
