package store

import (
	"bytes"
	"context"
	"crypto/x509"
	"path/filepath"
	"testing"

	"go.uber.org/zap"

	"github.com/onlineca/onlineca/ra"
)

// A certificate that the database did not take comes again; its line does not.
func TestLineOfWhatWasNotSaved(t *testing.T) {
	var out bytes.Buffer
	a := newAudit(nil, &out, zap.NewNop())
	one := Record{ID: "1", Serial: "abc"}
	if err := a.line(one); err != nil {
		t.Fatal(err)
	}
	a.unsaved(one)
	for _, r := range []Record{one, {ID: "1", Serial: "abd"}, {ID: "2", Serial: "abc"}} {
		if err := a.line(r); err != nil {
			t.Fatal(err)
		}
	}
	if n := bytes.Count(out.Bytes(), []byte("\n")); n != 3 {
		t.Errorf("%d lines for three certificates:\n%s", n, &out)
	}
}

type nobody struct{}

func (nobody) Enroll(context.Context, ra.Request) (ra.Result, error) { return ra.Result{}, errClosed }
func (nobody) Fetch(context.Context, int, *x509.CertificateRequest) (ra.Result, error) {
	return ra.Result{}, errClosed
}

// What the database knows is in the audit log on the disk, not only in the file.
func TestLineIsSyncedBeforeTheCommit(t *testing.T) {
	dir := t.TempDir()
	s, err := Open(t.Context(), filepath.Join(dir, "requests.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	f, err := OpenAudit(filepath.Join(dir, "audit.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	d, err := NewDurable(Config{Store: s, Next: nobody{}, Fetch: nobody{}, Audit: f})
	if err != nil {
		t.Fatal(err)
	}
	if err := d.audit.line(Record{ID: "1", Serial: "abc"}); err != nil || !d.audit.unsynced {
		t.Fatalf("%v, unsynced %v", err, d.audit.unsynced)
	}
	if _, err := s.Save(t.Context(), Record{ID: "1", State: Issued}, "x"); err != nil {
		t.Fatal(err)
	}
	if d.audit.unsynced {
		t.Error("the transaction was on the disk before the line")
	}
	if err := d.Close(t.Context()); err != nil {
		t.Error(err)
	}
}
