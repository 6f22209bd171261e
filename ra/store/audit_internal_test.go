package store

import (
	"bytes"
	"encoding/json"
	"syscall"
	"testing"

	"go.uber.org/zap"
)

// A certificate that the database did not take comes again; its line does not.
func TestLineOfWhatWasNotSaved(t *testing.T) {
	var out bytes.Buffer
	a := newAudit(nil, &out, zap.NewNop())
	var lines []*line
	for _, r := range []Record{{ID: "1", Serial: "abc"}, {ID: "1", Serial: "abc"}, {ID: "1", Serial: "abd"}, {ID: "2", Serial: "abc"}} {
		lines = append(lines, a.newLine(&r))
	}
	if err := a.write(lines[0]); err != nil {
		t.Fatal(err)
	}
	a.unsaved(lines[0])
	if err := a.write(lines[1:]...); err != nil {
		t.Fatal(err)
	}
	if n := bytes.Count(out.Bytes(), []byte("\n")); n != 3 {
		t.Errorf("%d lines for three certificates:\n%s", n, &out)
	}
}

// narrow takes so many bytes, and then no more.
type narrow struct {
	bytes.Buffer
	room int
}

func (n *narrow) Write(p []byte) (int, error) {
	took := min(len(p), n.room)
	n.room -= took
	_, _ = n.Buffer.Write(p[:took])
	if took < len(p) {
		return took, syscall.ENOSPC
	}
	return took, nil
}

// Lines that are written together are known one by one when the disk fills up
// among them, and what is missing comes later, on lines of its own.
func TestLinesThatAreWrittenTogether(t *testing.T) {
	records := []Record{{ID: "1", Serial: "a"}, {ID: "2", Serial: "b"}, {ID: "3", Serial: "c"}}
	for room := 0; ; room++ {
		out := &narrow{room: room}
		a := newAudit(nil, out, zap.NewNop())
		var lines []*line
		for _, r := range records {
			lines = append(lines, a.newLine(&r))
		}
		err := a.write(lines...)
		if err == nil {
			break // there was room for all
		}
		whole := bytes.Count(out.Bytes(), []byte("}"))
		for i, l := range lines {
			if l.written != (i < whole) {
				t.Errorf("room for %d bytes, %d lines: line %d is said to be written: %v", room, whole, i, l.written)
			}
		}
		out.room = 1 << 20
		if err := a.write(lines...); err != nil {
			t.Error(err)
		}
		seen := map[string]int{}
		for text := range bytes.Lines(out.Bytes()) {
			var l AuditLine
			if json.Unmarshal(text, &l) == nil {
				seen[l.Record]++
			}
		}
		if len(seen) != 3 || seen["1"] != 1 || seen["2"] != 1 || seen["3"] != 1 {
			t.Errorf("room for %d bytes at first: %v\n%s", room, seen, out.Bytes())
		}
	}
}
