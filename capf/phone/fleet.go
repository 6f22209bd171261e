package phone

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"time"
)

// Fleet is many phones.
type Fleet struct {
	// Count is how many phones there are.
	Count int
	// Config describes the phone of a number from 0 to Count-1.
	Config func(i int) Config
	// Parallel is how many are busy at once; all of them if 0.
	Parallel int
	// Observe, if not nil, is told of each phone that is done, one at a time.
	Observe func(o Outcome, done, total int)
}

// Outcome is how one phone of a fleet ended.
type Outcome struct {
	Number int
	Device string
	Result Result
	Err    error // nil for a session that ended well
}

// Summary is how a fleet ended.
type Summary struct {
	Total, Succeeded, Failed int
	// Operations counts those that ended well.
	Operations map[Operation]int
	// Failures counts those that did not, by what they failed at.
	Failures map[Failure]int
	// Examples has one error for each kind of failure.
	Examples map[Failure]error
	// Attempts is how many connections were made.
	Attempts int
	Elapsed  time.Duration
	// PerSecond is how many phones succeeded in a second.
	PerSecond float64
	// P50, P95 and P99 are the times that phones which succeeded took from
	// the first connection to the end.
	P50, P95, P99 time.Duration
}

// Run runs every phone and returns when the last is done, or has noticed that
// ctx ended.
func (f Fleet) Run(ctx context.Context) Summary {
	parallel := f.Parallel
	if parallel <= 0 || parallel > f.Count {
		parallel = f.Count
	}
	start := time.Now()
	outcomes := make([]Outcome, f.Count)
	numbers := make(chan int)
	var (
		wg   sync.WaitGroup
		mu   sync.Mutex
		done int
	)
	for range parallel {
		wg.Go(func() {
			for i := range numbers {
				cfg := f.Config(i)
				r, err := Run(ctx, cfg)
				outcomes[i] = Outcome{Number: i, Device: cfg.Device, Result: r, Err: err}
				mu.Lock()
				done++
				if f.Observe != nil {
					f.Observe(outcomes[i], done, f.Count)
				}
				mu.Unlock()
			}
		})
	}
	for i := range f.Count {
		numbers <- i
	}
	close(numbers)
	wg.Wait()
	return summarize(outcomes, time.Since(start))
}

func summarize(outcomes []Outcome, elapsed time.Duration) Summary {
	s := Summary{
		Total: len(outcomes), Elapsed: elapsed,
		Operations: make(map[Operation]int), Failures: make(map[Failure]int), Examples: make(map[Failure]error),
	}
	var times []time.Duration
	for _, o := range outcomes {
		s.Attempts += o.Result.Attempts
		if o.Err == nil {
			s.Succeeded++
			s.Operations[o.Result.Operation]++
			times = append(times, o.Result.Duration)
			continue
		}
		s.Failed++
		kind := FailLocal
		var e *Error
		if errors.As(o.Err, &e) {
			kind = e.Failure
		}
		s.Failures[kind]++
		if s.Examples[kind] == nil {
			s.Examples[kind] = o.Err
		}
	}
	if elapsed > 0 {
		s.PerSecond = float64(s.Succeeded) / elapsed.Seconds()
	}
	slices.Sort(times)
	s.P50, s.P95, s.P99 = percentile(times, 50), percentile(times, 95), percentile(times, 99)
	return s
}

// percentile is the smallest time that p percent of the sorted times do not
// exceed.
func percentile(sorted []time.Duration, p int) time.Duration {
	if len(sorted) == 0 {
		return 0
	}
	return sorted[(len(sorted)*p+99)/100-1]
}

// WriteText writes the summary for a person.
func (s Summary) WriteText(w io.Writer) error {
	var b strings.Builder
	phones := "phones"
	if s.Total == 1 {
		phones = "phone"
	}
	fmt.Fprintf(&b, "%d %s in %v: %d succeeded", s.Total, phones, s.Elapsed.Round(time.Millisecond), s.Succeeded)
	if s.Succeeded > 0 {
		fmt.Fprintf(&b, " (%.1f per second; half within %v, 95 %% within %v, 99 %% within %v)", s.PerSecond,
			s.P50.Round(time.Millisecond), s.P95.Round(time.Millisecond), s.P99.Round(time.Millisecond))
	}
	fmt.Fprintf(&b, ", %d failed, %d connections\n", s.Failed, s.Attempts)
	for _, op := range []Operation{Install, Delete, Troubleshoot, None} {
		if n := s.Operations[op]; n > 0 {
			fmt.Fprintf(&b, "  %-20s %d\n", op, n)
		}
	}
	kinds := make([]Failure, 0, len(s.Failures))
	for k := range s.Failures {
		kinds = append(kinds, k)
	}
	slices.SortFunc(kinds, func(a, b Failure) int {
		if d := s.Failures[b] - s.Failures[a]; d != 0 {
			return d
		}
		return strings.Compare(string(a), string(b))
	})
	for _, k := range kinds {
		fmt.Fprintf(&b, "  failed: %-20s %d, for example %v\n", k, s.Failures[k], s.Examples[k])
	}
	_, err := io.WriteString(w, b.String())
	return err
}
