package store

import (
	"bytes"
	"testing"
)

// A certificate that the database did not take comes again; its line does not.
func TestLineOfWhatWasNotSaved(t *testing.T) {
	var out bytes.Buffer
	a := newAudit(nil, &out)
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
