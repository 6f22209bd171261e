package store

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"
)

// logged is an audit log on the disk with one whole line.
func logged(t *testing.T) *audit {
	t.Helper()
	path := filepath.Join(t.TempDir(), "audit.jsonl")
	if err := os.WriteFile(path, []byte(`{"record":"0"}`+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := OpenAudit(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	return newAudit(nil, f, zap.NewNop())
}

// onDisk tells whether all lines are.
func (a *audit) onDisk() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.first.IsZero() && a.under.IsZero()
}

// A line that the next process could make up for is on the disk a moment later,
// any other at once.
func TestWhenLinesAreSynced(t *testing.T) {
	now := func(ago time.Duration) time.Time { return time.Now().Add(-ago) }
	for name, c := range map[string]struct {
		rec  func() Record
		have func(a *audit)
		soon bool
	}{
		"begun by this process":         {func() Record { return Record{row: 1, Created: now(time.Second)} }, nil, true},
		"of another process":            {func() Record { return Record{Created: now(time.Second)} }, nil, false},
		"begun long ago":                {func() Record { return Record{row: 1, Created: now(mendable)} }, nil, false},
		"the first line of its file":    {func() Record { return Record{row: 1, Created: now(0)} }, func(a *audit) { a.rooted = false }, false},
		"others wait already":           {func() Record { return Record{row: 1, Created: now(0)} }, func(a *audit) { a.first = now(time.Second) }, true},
		"others have waited for long":   {func() Record { return Record{row: 1, Created: now(0)} }, func(a *audit) { a.first = now(syncLate) }, false},
		"a sync has lasted for so long": {func() Record { return Record{row: 1, Created: now(0)} }, func(a *audit) { a.under = now(syncLate) }, false},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				a, rec := logged(t), c.rec()
				if c.have != nil {
					c.have(a)
				}
				writeLines([]*line{a.newLine(&rec)})
				if a.onDisk() == c.soon {
					t.Errorf("at once: %v", !c.soon)
				}
				time.Sleep(syncEvery + time.Millisecond)
				synctest.Wait()
				if !a.onDisk() {
					t.Error("it is not on the disk yet")
				}
				// The next one is not forgotten.
				rec.ID, rec.row, rec.Created = "another", 1, time.Now()
				writeLines([]*line{a.newLine(&rec)})
				time.Sleep(syncEvery + time.Millisecond)
				synctest.Wait()
				if !a.onDisk() {
					t.Error("the next is not on the disk")
				}
			})
		})
	}
}

// onRecords opens the database and the audit log of a directory.
func onRecords(t *testing.T, dir string) (d *Durable, shut func()) {
	t.Helper()
	s, err := Open(t.Context(), filepath.Join(dir, "requests.db"))
	if err != nil {
		t.Fatal(err)
	}
	f, err := OpenAudit(filepath.Join(dir, "audit.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	_, ca := request(t)
	if d, err = NewDurable(Config{Store: s, Next: ca, Fetch: ca, Authority: "ca", Audit: f}); err != nil {
		t.Fatal(err)
	}
	return d, func() {
		if err := errors.Join(d.Close(context.Background()), f.Close(), s.Close()); err != nil {
			t.Error(err)
		}
	}
}

// A machine that loses its power may lose what was not synced: any end of the
// audit log that the database's certificates have lines in. The next start finds
// what is missing, and nothing else.
func TestLinesThatAPowerFailureTook(t *testing.T) {
	const before, during = 3, 5 // certificates of the minute before, and of the last second
	var database, whole []byte
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		d, shut := onRecords(t, dir)
		r, _ := request(t)
		for i := range before + during {
			if i == before {
				time.Sleep(time.Minute)
			}
			time.Sleep(10 * time.Millisecond)
			r.Client.Name = fmt.Sprint(i)
			if _, err := d.Enroll(t.Context(), r); err != nil {
				t.Fatal(err)
			}
		}
		shut()
		var err error
		if database, err = os.ReadFile(filepath.Join(dir, "requests.db")); err != nil {
			t.Fatal(err)
		}
		if whole, err = os.ReadFile(filepath.Join(dir, "audit.jsonl")); err != nil {
			t.Fatal(err)
		}
	})
	lines := bytes.SplitAfter(bytes.TrimSuffix(whole, []byte("\n")), []byte("\n"))
	if len(lines) != before+during {
		t.Fatalf("%d lines:\n%s", len(lines), whole)
	}
	upTo := func(n int) []byte { return bytes.Join(lines[:n], nil) }
	for name, c := range map[string]struct {
		left   []byte
		become int // how many of the certificates have a line in the end
	}{
		"nothing":                       {whole, before + during},
		"the last line":                 {upTo(before + during - 1), before + during},
		"the last line break":           {bytes.TrimSuffix(whole, []byte("\n")), before + during},
		"half a line":                   {whole[:len(whole)-len(lines[0])/2], before + during},
		"all but its beginning":         {append(upTo(before+during-1), lines[before+during-1][:3]...), before + during},
		"lines, and zeros for them":     {append(upTo(before+2), make([]byte, 700)...), before + during},
		"all of the last second":        {upTo(before), before + during},
		"more than it can have been":    {upTo(1), 1 + during},
		"the log, which was put aside":  {nil, 0},
		"lines that were put aside":     {bytes.Join(lines[before+2:], nil), during - 2},
		"some put aside, and some lost": {bytes.Join(lines[before+1:before+3], nil), during - 1},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				dir := t.TempDir()
				log := filepath.Join(dir, "audit.jsonl")
				if err := errors.Join(os.WriteFile(filepath.Join(dir, "requests.db"), database, 0o600), os.WriteFile(log, c.left, 0o600)); err != nil {
					t.Fatal(err)
				}
				for range 2 { // what is there again is not missing the next time
					d, shut := onRecords(t, dir)
					if err := d.audit.leftovers(t.Context(), time.Now().Add(time.Hour)); err != nil {
						t.Error(err)
					}
					shut()
					text, err := os.ReadFile(log)
					if err != nil {
						t.Fatal(err)
					}
					seen := map[string]bool{}
					for text := range bytes.Lines(text) {
						var l AuditLine
						if json.Unmarshal(text, &l) != nil || l.Record == "" {
							continue
						}
						if seen[l.Record] {
							t.Errorf("record %s has two lines:\n%s", l.Record, text)
						}
						seen[l.Record] = true
						if l.Client == "" || l.CSRHash == "" || l.Serial == "" {
							t.Errorf("%+v", l)
						}
					}
					if len(seen) != c.become {
						t.Errorf("%d certificates have a line, want %d:\n%s", len(seen), c.become, text)
					}
				}
			})
		})
	}
}

// The log is read back to its beginning, if need be, in pieces that begin and end
// anywhere.
func TestBackwards(t *testing.T) {
	var text strings.Builder
	n := 0
	for text.Len() < 3*auditTail {
		for _, size := range []int{0, 1, n % 5000, 7} {
			n++
			fmt.Fprintf(&text, `{"record":"%d","subject":"%s"}`+"\n", n, strings.Repeat("x", size))
		}
		if n > 1000 && n < 1005 {
			text.WriteString("no line of ours" + strings.Repeat("\x00", auditTail+n) + "\n\n")
		}
	}
	for _, end := range []string{"", `{"record":"half`, "\x00\x00\n", `null` + "\n"} {
		path := filepath.Join(t.TempDir(), "audit.jsonl")
		if err := os.WriteFile(path, []byte(text.String()+end), 0o600); err != nil {
			t.Fatal(err)
		}
		f, err := OpenAudit(path)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		want := n
		err = f.backwards(func(l AuditLine) bool {
			if l.Record == "" { // null is JSON as well
				return true
			}
			if l.Record != fmt.Sprint(want) {
				t.Fatalf("record %s, want %d", l.Record, want)
			}
			want--
			return true
		})
		if err != nil || want != 0 {
			t.Errorf("after %q: %d lines were not read, %v", end, want, err)
		}
		read := 0
		if err := f.backwards(func(AuditLine) bool { read++; return read < 5 }); err != nil || read != 5 {
			t.Errorf("%d lines, want 5, %v", read, err)
		}
	}
}
