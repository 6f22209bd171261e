package lab

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"github.com/onlineca/onlineca/internal/zaplog"
	"github.com/onlineca/onlineca/ra/fault"
	"github.com/onlineca/onlineca/testenv"
)

// ReproduceConfig says what to reproduce. Out and either Codes or All are
// needed.
type ReproduceConfig struct {
	// Codes are the kebab-case names of failures; All is every one that has a
	// scenario.
	Codes []string
	All   bool
	// Out is the directory that gets the logs: of one code in itself, of
	// several in a directory for each. What an earlier lab left there is
	// cleared, anything else is refused.
	Out string
	// Phones is how many phones enrol in each. Default 1; some scenarios take
	// more.
	Phones int
	// ProductTiming has the timeouts last the product's ten seconds. Otherwise
	// Timeout is what they last; default one second.
	ProductTiming bool
	Timeout       time.Duration
	// Bundle also writes the logs as a support engineer would get them.
	Bundle bool
	// Workers is how many reproductions run at once. Default 4.
	Workers int
	// Result gets a line for each, nil for nowhere.
	Result io.Writer
}

// Reproduction is one failure as it came out.
type Reproduction struct {
	Code fault.Code
	// Dir has the logs and report.md.
	Dir string
	// Bundle is the archive, if one was asked for.
	Bundle string
	// Differences says in what the failure is not as its row says. None means
	// that it appeared exactly so.
	Differences []string
	Took        time.Duration
}

// Reproduce produces failures and writes what they leave. The error is for
// what kept it from running, a code that does not exist among it; a failure
// that did not appear as its row says is in the result.
func Reproduce(ctx context.Context, c ReproduceConfig) ([]Reproduction, error) {
	codes, err := c.codes()
	if err != nil {
		return nil, err
	}
	c.defaults()
	results := make([]Reproduction, len(codes))
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(c.Workers)
	var mu sync.Mutex
	for i, code := range codes {
		g.Go(func() error {
			if err := ctx.Err(); err != nil {
				return err
			}
			dir := c.Out
			if len(codes) > 1 {
				dir = filepath.Join(c.Out, code.String())
			}
			r, err := c.one(ctx, code, dir)
			if err != nil {
				return fmt.Errorf("reproduce %s: %w", code.String(), err)
			}
			results[i] = r
			mu.Lock()
			defer mu.Unlock()
			return r.write(c.Result)
		})
	}
	return results, g.Wait()
}

// codes are what is to be reproduced, each once.
func (c *ReproduceConfig) codes() ([]fault.Code, error) {
	if c.All {
		return reproducible(), nil
	}
	var codes []fault.Code
	seen := map[fault.Code]bool{}
	for _, name := range c.Codes {
		code, _, err := findScenario(name)
		if err != nil {
			return nil, err
		}
		if !seen[code] {
			codes = append(codes, code)
		}
		seen[code] = true
	}
	if len(codes) == 0 {
		return nil, errors.New("lab: nothing to reproduce: name a failure, or all")
	}
	return codes, nil
}

// CheckCodes says whether each name is that of a failure that can be produced.
func CheckCodes(names []string) error {
	for _, name := range names {
		if _, _, err := findScenario(name); err != nil {
			return err
		}
	}
	return nil
}

func (c *ReproduceConfig) defaults() {
	if c.Timeout <= 0 {
		c.Timeout = shortTimeout
	}
	if c.Workers <= 0 {
		c.Workers = 4
	}
	if c.Phones <= 0 {
		c.Phones = 1
	}
	if c.Result == nil {
		c.Result = io.Discard
	}
}

// write says in a line how it went.
func (r *Reproduction) write(w io.Writer) error {
	verdict := "as its row says"
	if len(r.Differences) > 0 {
		verdict = "NOT as its row says"
	}
	_, err := fmt.Fprintf(w, "%-24s %-20s %4.1f s  %s\n", r.Code.String(), verdict, r.Took.Seconds(), filepath.Join(r.Dir, reportFile))
	for _, d := range r.Differences {
		_, err = fmt.Fprintf(w, "    %s\n", d)
	}
	if err != nil {
		return fmt.Errorf("lab: %w", err)
	}
	return nil
}

// run is one reproduction that is going on.
type run struct {
	code     fault.Code
	scenario scenario
	config   *ReproduceConfig
	dir      string
	phones   int
	began    time.Time
	took     time.Duration
	failed   error // why the registration authority has not started
	cast     *cast
	logs     *logs
}

// one reproduces one failure in dir.
func (c *ReproduceConfig) one(ctx context.Context, code fault.Code, dir string) (Reproduction, error) {
	r := &run{code: code, scenario: scenarios[code], config: c, dir: dir, began: time.Now()}
	r.phones = max(c.Phones, r.scenario.phones)
	if err := labKeys.prepare(ctx, r.phones); err != nil {
		return Reproduction{}, err
	}
	if err := prepare(dir); err != nil {
		return Reproduction{}, err
	}
	if err := os.MkdirAll(filepath.Join(dir, lscDir), 0o750); err != nil {
		return Reproduction{}, fmt.Errorf("lab: %w", err)
	}
	if err := r.play(ctx); err != nil {
		return Reproduction{}, err
	}
	if err := ctx.Err(); err != nil { // what the logs have is no failure of the row's
		return Reproduction{}, err
	}
	r.took = time.Since(r.began)
	var err error
	if r.logs, err = readLogs(dir); err != nil {
		return Reproduction{}, err
	}
	out := Reproduction{Code: code, Dir: dir, Took: r.took}
	marks := r.look()
	out.Differences = r.differences(marks)
	if err := r.report(out, marks); err != nil {
		return out, err
	}
	if c.Bundle {
		out.Bundle, err = writeBundle(dir, code.String())
	}
	return out, err
}

// play runs the chain with the fault in its place.
func (r *run) play(ctx context.Context) error {
	log, closeLogs, err := zaplog.Tree(r.dir, os.Getpid(), nil)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	st := r.stage(ctx, log)
	if st.err != nil {
		return errors.Join(st.err, closeLogs())
	}
	s, err := start(ctx, log, st.options())
	if err != nil {
		return errors.Join(err, st.err, closeLogs())
	}
	r.failed = s.failed
	if err = arm(s.certsrv, st.running); err == nil {
		err = os.WriteFile(filepath.Join(r.dir, chainFile), s.certsrv.PKI.ChainPEM(), 0o600)
	}
	if err == nil {
		r.cast, err = s.enrol(ctx, st, r.phones, filepath.Join(r.dir, lscDir))
	}
	if err == nil {
		err = r.settle(ctx, s, st)
	}
	cancel()
	return errors.Join(err, s.stop(), closeLogs())
}

// settleTime is how long a machine that has much else to do may take for what
// comes after a timeout.
const settleTime = time.Minute

// settle waits until the registration authority is done with what its clients
// no longer wait for: its last lines belong to the logs.
func (r *run) settle(ctx context.Context, s *servers, st *stage) error {
	if !st.late {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, 3*st.timeout+settleTime)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !s.quiet(r.dir, r.phones) {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil // the check will say what is missing
		}
	}
	return nil
}

// quiet says whether each phone's request has its line in our own log.
func (s *servers) quiet(dir string, phones int) bool {
	text, err := os.ReadFile(filepath.Join(dir, filepath.FromSlash(zaplog.JSONFile)))
	return err != nil || strings.Count(string(text), `"kind":"est-request"`) >= phones
}

// stage sets the chain up.
func (r *run) stage(ctx context.Context, log *zap.Logger) *stage {
	st := &stage{ctx: ctx, log: log, dir: r.dir, timeout: r.config.Timeout}
	st.client = st.timeout - st.timeout/5 // CAPF loses its patience first, as in the product
	if r.config.ProductTiming {
		st.timeout, st.client = productTimeout, productTimeout
	}
	if st.pki, st.err = testenv.NewPKI(testenv.PKIConfig{}); st.err == nil {
		r.scenario.set(st)
	}
	return st
}

// timeout is what the scenario let pass.
func (r *run) timeout() time.Duration {
	if r.config.ProductTiming {
		return productTimeout
	}
	return r.config.Timeout
}

// milliseconds of a duration, as the logs have them.
func milliseconds(d time.Duration) string { return strconv.FormatInt(d.Milliseconds(), 10) }
