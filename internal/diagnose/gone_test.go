package diagnose_test

import (
	"slices"
	"testing"
	"time"

	"github.com/onlineca/onlineca/internal/diagnose"
	"github.com/onlineca/onlineca/ra/event"
)

// A client that has gone is answered with a 500 that nobody reads. A full disk,
// the other fault that a 500 stands for, is not blamed for it.
func TestTheClientHasGone(t *testing.T) {
	const patience = 10 * time.Second
	for _, without := range [][]string{{}, {capfLog}, {iisLog}, {capfLog, iisLog}} {
		w := newWorld(90)
		surround(w, 10)
		w.enrol(noon, ending{rv: 35, after: patience, web: func(w *world, t time.Time) {
			w.login(t)
			w.submit(t.Add(100*time.Millisecond), 100*time.Millisecond)
			w.fetch(t.Add(9 * time.Second))
		}, est: func(w *world, t time.Time, c event.Conn) {
			w.authenticated(t, c)
			w.failed(t, patience, 1, 500)
		}})
		dir := t.TempDir()
		w.write(t, dir, without...)
		r := run(t, diagnose.Options{Paths: []string{dir}})
		f := findingOf(r)
		if f == nil || f.Confidence != diagnose.Unsure && !slices.Equal(f.Codes, []string{"est-read-timeout"}) || !slices.Contains(f.Codes, "est-read-timeout") {
			t.Errorf("without %v: %+v", without, f)
		}
	}
}
