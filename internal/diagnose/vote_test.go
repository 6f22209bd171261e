package diagnose_test

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/onlineca/onlineca/internal/diagnose"
)

// Half a day of a busy cluster that pauses every ten minutes, of which the other
// log has the first half: its pauses fall on one another at many differences,
// its enrolments at one.
func TestBusyLogsThatPauseRegularly(t *testing.T) {
	const zone = 5*time.Hour + 6*time.Second
	for seed := range uint64(4) {
		r := rand.New(rand.NewPCG(seed, 7))
		var xs, ys []int64
		at := noon
		for i := range 75_000 {
			at = at.Add(time.Duration(100+r.IntN(1000)) * time.Millisecond)
			if i%1000 == 0 {
				at = at.Add(30 * time.Second)
			}
			xs = append(xs, at.Truncate(time.Second).UnixMilli())
			if i > 37_500 {
				continue
			}
			y := at.Add(zone)
			ys = append(ys, y.Truncate(time.Second).UnixMilli(), y.Add(time.Duration(75+r.IntN(225))*time.Millisecond).Truncate(time.Second).UnixMilli())
		}
		slices.Sort(ys)
		if got := time.Duration(diagnose.Offset(xs, ys)) * time.Millisecond; (got - zone).Abs() > 1500*time.Millisecond {
			t.Errorf("seed %d: %v, want %v", seed, got, zone)
		}
	}
}

// Two days of two logs that count in seconds: what one notes at a moment the
// other notes in the second before, in the same or in the one after. Four in
// five moments also have something else that happens exactly an hour and a bit
// later. All three seconds count together for the true difference, and they do
// only in a window about a whole second.
func TestSecondsAreComparedAboutWholeOnes(t *testing.T) {
	const zone, other = 5*time.Hour + 6*time.Second, 6*time.Hour + 13*time.Minute + 27*time.Second
	for seed := range uint64(4) {
		r := rand.New(rand.NewPCG(seed, 9))
		var xs, ys []int64
		for i := range 700 {
			at := noon.Add(time.Duration(r.IntN(2*24*60*60)) * time.Second)
			xs = append(xs, at.UnixMilli())
			ys = append(ys, at.Add(zone+time.Duration(i%3-1)*time.Second).UnixMilli())
			if i%5 > 0 {
				ys = append(ys, at.Add(other).UnixMilli())
			}
		}
		slices.Sort(xs)
		slices.Sort(ys)
		if got := time.Duration(diagnose.Offset(xs, ys)) * time.Millisecond; got != zone {
			t.Errorf("seed %d: %v, want %v", seed, got, zone)
		}
	}
}
