// Package diagnose reads the logs of the chain, ours or a real cluster's,
// joins them into enrolments and names the fault of every one that failed, and
// of every start of the service that failed.
//
// It reads CAPF traces, CiscoRA's printout, nginx's error.log with libEST's
// lines, the W3C log of IIS and our own JSON log. The contents of a line
// decide what it is; names of files do not matter. Files are read once as a
// stream, and only what an enrolment is made of is kept; the lines that are
// shown as evidence are fetched in a second pass.
//
// What a log does not say is not guessed: a fault that several codes fit is
// reported with all of them, and with the log that would tell them apart.
package diagnose

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"runtime"
	"time"

	"golang.org/x/sync/errgroup"
)

// Format is a form in which a report is written.
type Format string

// The forms of a report. Text is for people, JSON for programs
// (docs/diagnose-schema.md), HTML one self-contained page.
const (
	Text Format = "text"
	JSON Format = "json"
	HTML Format = "html"
)

// Colour says whether text is coloured.
type Colour byte

// The zero Colour is on where the writer is a terminal and NO_COLOR is unset.
const (
	ColourAuto Colour = iota
	ColourOn
	ColourOff
)

// Options says what to read and how to write it.
type Options struct {
	// Paths are files, folders (with everything below them), archives (.gz,
	// .zip, .tar, .tar.gz), or "-" for Stdin.
	Paths []string
	// Stdin is what "-" stands for, nil for os.Stdin.
	Stdin io.Reader
	// Format is Text if empty.
	Format Format
	Colour Colour
	// Device leaves only the enrolments of one device, if not empty.
	Device string
	// Since leaves out enrolments that had ended by then, and starts of the
	// service before it, if not zero. What has no known date stays.
	Since time.Time
	// Zones says which zone the clock of a log is in, as the difference to
	// UTC: Zones["capf"] = -5 * time.Hour. The keys are "capf" and
	// "error.log". Without it the zone is found from the logs themselves.
	Zones map[string]time.Duration
	// Day is the day of the first line of CAPF traces, if it is neither in the
	// name of a file nor to be found from the other logs.
	Day time.Time
	// Good is how many enrolments without fault are listed one by one; the
	// others are only counted. 0 means 100, negative none.
	Good int
	// Slow is how long a good enrolment may take before it is shown where the
	// time went. 0 means three seconds.
	Slow time.Duration
	// Together takes all logs as those of one cluster. Otherwise folders beside
	// each other that have the same kinds of logs are those of several.
	Together bool
	// Limits bounds what is read.
	Limits Limits

	slice int // facts in a slice of time, sliceFacts if 0
}

// UsageError is a mistake in the options: exit status 2.
type UsageError struct{ Err error }

// Error says what is wrong with the options.
func (e *UsageError) Error() string { return e.Err.Error() }

// Unwrap returns the cause.
func (e *UsageError) Unwrap() error { return e.Err }

func usage(format string, args ...any) error {
	return &UsageError{fmt.Errorf("diagnose: "+format, args...)}
}

// The exit statuses of a diagnosis.
const (
	ExitNothingWrong = 0
	ExitFaults       = 1
	ExitUsage        = 2
	ExitCouldNotTell = 3
)

// ExitStatus is the status that a command ends with after [Run].
func ExitStatus(r Report, err error) int {
	var u *UsageError
	switch {
	case errors.As(err, &u):
		return ExitUsage
	case err != nil:
		return ExitCouldNotTell
	default:
		return r.Exit
	}
}

// Run reads what o names and writes the report to w. The error is a
// *UsageError for a mistake in o, or says what could not be read or written;
// a fault that was found is no error.
func Run(ctx context.Context, o Options, w io.Writer) (Report, error) {
	r, err := Analyse(ctx, o)
	if err != nil {
		return r, err
	}
	switch o.Format {
	case JSON:
		err = r.WriteJSON(w)
	case HTML:
		err = r.WriteHTML(w)
	default:
		err = r.WriteText(w, o.Colour)
	}
	if err != nil {
		return r, fmt.Errorf("diagnose: write the report: %w", err)
	}
	return r, nil
}

// Analyse is Run without the writing.
func Analyse(ctx context.Context, o Options) (Report, error) {
	if err := o.check(); err != nil {
		return Report{}, err
	}
	w := &walker{limits: o.Limits.orDefault()}
	defer w.cleanUp()
	if err := w.find(ctx, o.Paths, o.Stdin); err != nil {
		return Report{}, err
	}
	facts, err := w.readOnce(ctx, o.Together)
	if err != nil {
		return Report{}, err
	}
	var all []*analysis
	want := map[ref]bool{}
	for _, g := range w.groups(facts, o.Together) {
		a := &analysis{o: o, all: facts, folder: g, leftGood: max(0, o.Good), leftBad: maxListed}
		if g != nil {
			a.all = facts.of(g.all())
		}
		a.align()
		a.look()
		a.judgeStarts()
		a.walk()
		maps.Copy(want, a.wanted())
		all = append(all, a)
	}
	if err := w.fetch(ctx, want); err != nil {
		return Report{}, err
	}
	if len(all) == 1 {
		r := all[0].report(w)
		r.Name = ""
		return r, nil
	}
	return sumUp(all, w), nil
}

func (o *Options) check() error {
	if len(o.Paths) == 0 {
		return usage("nothing to read: give files, folders or archives, or - for standard input")
	}
	switch o.Format {
	case "", Text, JSON, HTML:
	default:
		return usage("there is no format %q: text, json and html are known", o.Format)
	}
	for k, z := range o.Zones {
		if k != string(logCAPF) && k != string(logError) {
			return usage("the zone of %q cannot be set: capf and error.log have clocks in local time, the others are in UTC", k)
		}
		if z < -14*time.Hour || z > 14*time.Hour {
			return usage("the zone of %s is %v from UTC: no place on earth is more than 14 hours away", k, z)
		}
	}
	if o.Stdin == nil {
		o.Stdin = os.Stdin
	}
	if o.Good == 0 {
		o.Good = 100
	}
	if o.slice == 0 {
		o.slice = sliceFacts
	}
	if o.Slow == 0 {
		o.Slow = 3 * time.Second
	}
	return nil
}

// readAll reads every file once, several at a time.
func (w *walker) readAll(ctx context.Context) (*facts, error) {
	jobs := w.jobs()
	parts := make([]*collector, len(jobs))
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(max(1, runtime.GOMAXPROCS(0)))
	for i, job := range jobs {
		g.Go(func() error {
			c := newCollector()
			parts[i] = c
			for _, in := range job {
				if err := w.visit(ctx, in, c.read); err != nil {
					return err
				}
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	return merge(parts), nil
}
