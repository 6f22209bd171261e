package app

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/onlineca/onlineca/testenv"
)

// What was enrolled is on record, and in the audit log, when the process ends.
func TestEverythingIsOnRecord(t *testing.T) {
	dir := t.TempDir()
	m := testenv.New(t, testenv.Config{})
	s := hostSettings(m)
	s.Store = filepath.Join(dir, "requests.db")
	s.Requests.Audit = filepath.Join(dir, "audit.jsonl")
	t.Run("serve", func(t *testing.T) {
		x := startSite(t, s, hostParts(t, m))
		for range 3 {
			if status, _, body := x.enroll(t, "simpleenroll"); status != 200 {
				t.Fatalf("status %d: %s", status, body)
			}
		}
	})
	audit, err := os.ReadFile(s.Requests.Audit)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range m.Issued() {
		if serial := c.Certificate.SerialNumber.Text(16); strings.Count(string(audit), serial) != 1 {
			t.Errorf("serial number %s is not once in the audit log:\n%s", serial, audit)
		}
	}
	if n := strings.Count(string(audit), "\n"); n != 3 {
		t.Errorf("the audit log has %d lines, want 3", n)
	}
}
