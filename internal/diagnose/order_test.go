package diagnose_test

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"github.com/onlineca/onlineca/internal/diagnose"
)

// A log that was rotated in the middle of a request is read in the order in
// which it was written, however the parts are called.
func TestRotatedLogs(t *testing.T) {
	text, err := os.ReadFile("../logfmt/libest/testdata/ces-template.error.log")
	if err != nil {
		t.Fatal(err)
	}
	lines := bytes.SplitAfter(text, []byte("\n"))
	for _, names := range [][3]string{
		{"error.log.2", "error.log.1", "error.log"},
		{"error.log.11", "error.log.10", "error.log.9"},
		{"error.log-20190226", "error.log-20190227", "error.log"},
		{"error1.log", "error2.log", "error10.log"},
	} {
		dir := t.TempDir()
		for i, part := range [][][]byte{lines[:5], lines[5:7], lines[7:]} {
			if err := os.WriteFile(filepath.Join(dir, names[i]), bytes.Join(part, nil), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		r := run(t, diagnose.Options{Paths: []string{dir}})
		if f := findingOf(r); r.Totals.Enrolments != 1 || f == nil || f.Codes[0] != "template" || f.Confidence != diagnose.Certain {
			t.Errorf("%v: %+v, %+v", names, r.Totals, f)
		}
	}
}
