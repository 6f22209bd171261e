package store

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"
	"go.uber.org/zap"

	"github.com/onlineca/onlineca/ra"
)

// evenly waits until IDs follow the bubble's clock: they never go back, and another
// bubble's may have been later.
func evenly(t *testing.T) {
	t.Helper()
	id, err := uuid.NewV7()
	if err != nil {
		t.Fatal(err)
	}
	time.Sleep(time.Until(idTime(id.String())) + time.Hour)
}

// justBegun is a certificate's record that this process has just begun.
func justBegun(t *testing.T) *Record {
	t.Helper()
	rec := &Record{Serial: "abc", State: Issued, row: 1}
	if err := rec.begin(Claim{}, time.Now()); err != nil {
		t.Fatal(err)
	}
	return rec
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
	for name, c := range map[string]struct {
		change func(a *audit, rec *Record)
		soon   bool
	}{
		"begun by this process":  {func(*audit, *Record) {}, true},
		"of another process":     {func(_ *audit, rec *Record) { rec.row = 0 }, false},
		"begun long ago":         {func(*audit, *Record) { time.Sleep(mendable) }, false},
		"without a time":         {func(_ *audit, rec *Record) { rec.ID = "an ID" }, false},
		"the first of its file":  {func(a *audit, _ *Record) { a.mending.rooted = false }, false},
		"older than its file":    {func(a *audit, rec *Record) { rec.Updated = a.mending.since.Add(-time.Microsecond) }, false},
		"after a truncation":     {func(a *audit, _ *Record) { _ = a.w.(*AuditFile).Truncate(0) }, false},
		"after a quiet spell":    {func(a *audit, _ *Record) { a.mending.newest = time.Now().Add(-mendable) }, false},
		"the clock was ahead":    {func(a *audit, _ *Record) { a.mending.newest = time.Now().Add(time.Hour) }, false},
		"others wait already":    {func(a *audit, _ *Record) { a.first = time.Now().Add(-time.Second) }, true},
		"others wait for long":   {func(a *audit, _ *Record) { a.first = time.Now().Add(-syncLate) }, false},
		"a sync takes very long": {func(a *audit, _ *Record) { a.under = time.Now().Add(-syncLate) }, false},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				evenly(t)
				f, err := OpenAudit(filepath.Join(t.TempDir(), "audit.jsonl"))
				if err != nil {
					t.Fatal(err)
				}
				defer f.Close()
				a := newAudit(new(Store), f, zap.NewNop())
				for range 3 {
					writeLines([]*line{a.newLine(justBegun(t))})
					time.Sleep(syncEvery + time.Millisecond)
					synctest.Wait()
					if !a.onDisk() {
						t.Error("a line is not on the disk after a second")
					}
				}
				rec := justBegun(t)
				c.change(a, rec)
				writeLines([]*line{a.newLine(rec)})
				if a.onDisk() == c.soon {
					t.Errorf("it is on the disk at once: %v", !c.soon)
				}
				time.Sleep(syncEvery + time.Millisecond)
				synctest.Wait()
				if !a.onDisk() {
					t.Error("it is not on the disk after a second")
				}
			})
		})
	}
}

// onRecords opens the database and the audit log of a directory.
func onRecords(t *testing.T, dir string) (d *Durable, shut func()) {
	t.Helper()
	_, ca := request(t)
	return openRecords(t, dir, ca, nil)
}

// openRecords is onRecords with an authority, and with a disk if it is not nil.
func openRecords(t *testing.T, dir string, ca ra.Enroller, disk *disk) (d *Durable, shut func()) {
	t.Helper()
	s, err := Open(t.Context(), filepath.Join(dir, "requests.db"))
	if err != nil {
		t.Fatal(err)
	}
	f, err := OpenAudit(filepath.Join(dir, "audit.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	if disk != nil {
		f.flush = func() error { return disk.flush(f) }
	}
	if d, err = NewDurable(Config{Store: s, Next: ca, Fetch: new(instant), Authority: "ca", Patience: time.Hour, Audit: f}); err != nil {
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
		evenly(t)
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
					if err := d.audit.leftovers(t.Context(), time.Now().AddDate(1, 0, 0)); err != nil {
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

// disk has an audit log.
type disk struct {
	mu     sync.Mutex
	has    int64         // what a power failure leaves of it
	takes  time.Duration // for a sync
	killed bool          // nobody syncs any more
}

func (d *disk) flush(f *AuditFile) error {
	info, err := f.Stat()
	if err != nil {
		return err
	}
	d.mu.Lock()
	takes := d.takes
	d.mu.Unlock()
	time.Sleep(takes)
	d.mu.Lock()
	defer d.mu.Unlock()
	now, err := f.Stat()
	if err == nil && !d.killed {
		d.has = max(d.has, min(info.Size(), now.Size())) // it may have been truncated meanwhile
	}
	return err
}

// slowly is how long an authority takes, of a context.
type slowly struct{}

// machine is where processes are started, end and are killed, and the power fails.
type machine struct {
	t     *testing.T
	rnd   *rand.Rand
	dir   string
	disk  disk
	d     *Durable
	shut  func()
	r     ra.Request
	ca    *instant
	names int
	aside []byte // lines that are not in the log any more
}

func (m *machine) log() string { return filepath.Join(m.dir, "audit.jsonl") }

func (m *machine) start() {
	m.disk.mu.Lock()
	m.disk.killed = false
	m.disk.mu.Unlock()
	next := ra.EnrollerFunc(func(ctx context.Context, r ra.Request) (ra.Result, error) {
		if wait, _ := ctx.Value(slowly{}).(time.Duration); wait > 0 {
			time.Sleep(wait)
		}
		return m.ca.Enroll(ctx, r)
	})
	m.d, m.shut = openRecords(m.t, m.dir, next, &m.disk)
	if err := m.d.audit.leftovers(m.t.Context(), time.Now().Add(time.Second)); err != nil {
		m.t.Error(err)
	}
}

// stop ends the process: in order, or by a kill, which syncs nothing more.
func (m *machine) stop(kill bool) {
	m.disk.mu.Lock()
	m.disk.killed = kill
	m.disk.mu.Unlock()
	m.shut()
}

// fail leaves of the log what the disk has, some of the rest, and maybe zeros.
func (m *machine) fail() {
	text, err := os.ReadFile(m.log())
	if err != nil {
		m.t.Fatal(err)
	}
	left := m.disk.has + m.rnd.Int64N(int64(len(text))-m.disk.has+1)
	if m.rnd.IntN(2) == 0 {
		left = m.disk.has
	}
	text = text[:left]
	if m.rnd.IntN(3) == 0 {
		text = append(text, make([]byte, m.rnd.IntN(500))...)
	}
	if err := os.WriteFile(m.log(), text, 0o600); err != nil {
		m.t.Fatal(err)
	}
	m.disk.has = int64(len(text))
}

// putAside copies the log and truncates it.
func (m *machine) putAside() {
	m.disk.mu.Lock()
	defer m.disk.mu.Unlock()
	text, err := os.ReadFile(m.log())
	if err != nil {
		m.t.Fatal(err)
	}
	m.aside, m.disk.has = append(m.aside, text...), 0
	if err := os.Truncate(m.log(), 0); err != nil {
		m.t.Fatal(err)
	}
}

// enrol has clients enrol at once, some of them with a slow authority.
func (m *machine) enrol() {
	var all sync.WaitGroup
	for range 1 + m.rnd.IntN(6) {
		ctx, r := m.t.Context(), m.r
		if m.rnd.IntN(8) == 0 {
			ctx = context.WithValue(ctx, slowly{}, time.Duration(m.rnd.IntN(25))*time.Second)
		}
		m.names++
		r.Client.Name = fmt.Sprint(m.names)
		all.Go(func() {
			if _, err := m.d.Enroll(ctx, r); err != nil {
				m.t.Error(err)
			}
		})
	}
	all.Wait()
}

// verify has every certificate have its line, once.
func (m *machine) verify() {
	text, err := os.ReadFile(m.log())
	if err != nil {
		m.t.Fatal(err)
	}
	seen := map[string]int{}
	for text := range bytes.Lines(append(bytes.Clone(m.aside), text...)) {
		var l AuditLine
		if json.Unmarshal(text, &l) == nil && l.Record != "" {
			seen[l.Client]++
		}
	}
	for i := range m.names {
		if n := seen[fmt.Sprint(i+1)]; n != 1 {
			m.t.Errorf("certificate %d of %d has %d lines", i+1, m.names, n)
		}
	}
}

// Whatever becomes of processes and power, and however long the disk takes, there
// is a line for each certificate in the end, and only one.
func TestTheAuditLogOfABadMachine(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	for i := range uint64(30) {
		synctest.Test(t, func(t *testing.T) {
			evenly(t)
			r, ca := request(t)
			m := &machine{t: t, rnd: rand.New(rand.NewPCG(seed, i)), dir: t.TempDir(), r: r, ca: ca}
			m.start()
			for range 12 {
				m.disk.mu.Lock()
				m.disk.takes = []time.Duration{0, 0, 10 * time.Millisecond, 2 * time.Second, 15 * time.Second}[m.rnd.IntN(5)]
				m.disk.mu.Unlock()
				for range m.rnd.IntN(5) {
					m.enrol()
					time.Sleep([]time.Duration{0, time.Millisecond, 300 * time.Millisecond, 3 * time.Second, time.Minute}[m.rnd.IntN(5)])
				}
				switch m.rnd.IntN(5) {
				case 0:
					m.stop(false)
					m.start()
				case 1:
					m.stop(true)
					m.start()
				case 2:
					m.stop(true)
					m.fail()
					m.start()
				case 3:
					time.Sleep(time.Millisecond) // so that what comes is later than what was put aside
					m.putAside()
				}
			}
			m.stop(false)
			m.start()
			m.stop(false)
			m.verify()
		})
		if t.Failed() {
			t.Fatalf("at run %d", i)
		}
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
