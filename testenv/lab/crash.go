package lab

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/onlineca/onlineca/testenv"
)

// CrashConfig says what a crash test is like. Every field has a default.
type CrashConfig struct {
	// For is how long processes are killed and certsrv fails. Default one
	// minute. What is under way then is waited for, for two minutes at most.
	For time.Duration
	// Store is "sqlite" (default) or the address of a PostgreSQL database,
	// postgres://…, which keeps the test's records.
	Store string
	// Processes is how many registration authorities share the store. Default
	// 1; more than one need PostgreSQL.
	Processes int
	// Clients is how many enrol at once. Default 6.
	Clients int
	// Seed makes the choices: which fault comes when, who is killed after how
	// long. The timing of the machine it does not make. Default 1.
	Seed uint64
	// Out is the directory for settings, stores and logs, as [Config.Out].
	// Empty: a temporary one, which is removed if all is well.
	Out string
	// Progress gets a line now and then, Result the report; nil for nowhere.
	Progress, Result io.Writer
}

// crashSettle bounds how long clients may need to get their certificates once
// nobody is killed any more.
const crashSettle = 2 * time.Minute

func (c *CrashConfig) complete() error {
	if c.For <= 0 {
		c.For = time.Minute
	}
	if c.Store == "" {
		c.Store = "sqlite"
	}
	c.Processes, c.Clients = max(c.Processes, 1), max(c.Clients, 0)
	if c.Clients == 0 {
		c.Clients = 6
	}
	if c.Seed == 0 {
		c.Seed = 1
	}
	if c.Progress == nil {
		c.Progress = io.Discard
	}
	if c.Result == nil {
		c.Result = io.Discard
	}
	if c.Store == "sqlite" && c.Processes > 1 {
		return errors.New("crash: several registration authorities share a PostgreSQL, not an SQLite file: give the address of one (--store postgres://…)")
	}
	if c.Store != "sqlite" && !strings.HasPrefix(c.Store, "postgres://") && !strings.HasPrefix(c.Store, "postgresql://") {
		return errors.New("crash: the store is neither sqlite nor the address of a PostgreSQL, postgres://USER@HOST/DATABASE")
	}
	return nil
}

// Crash runs registration authorities as processes of this program's own file,
// kills them at random moments while clients enrol and certsrv loses answers,
// and then compares what the clients, the stores and the mock CA have. The
// error says what kept it from running; what it found is in the report.
//
// The program that calls it must do what `onlineca serve --config FILE` does
// when it is started with these arguments.
func Crash(ctx context.Context, c CrashConfig) (_ *CrashReport, err error) {
	if err := c.complete(); err != nil {
		return nil, err
	}
	temporary := c.Out == ""
	if temporary {
		if c.Out, err = os.MkdirTemp("", "onlineca-crash-"); err != nil {
			return nil, fmt.Errorf("crash: %w", err)
		}
	}
	if err := prepare(c.Out); err != nil {
		return nil, err
	}
	t := &crashTest{CrashConfig: c, report: newCrashReport(c)}
	if err := t.start(); err != nil {
		return nil, err
	}
	defer t.certsrv.Close()
	if err := t.run(ctx); err != nil {
		return nil, err
	}
	r := t.report
	if err := t.verify(ctx); err != nil {
		return nil, err
	}
	if err := errors.Join(r.Write(c.Result), r.save(filepath.Join(c.Out, reportFile))); err != nil {
		return nil, err
	}
	if len(r.Violations) > 0 {
		fmt.Fprintf(c.Result, "\nSettings, stores and logs are in %s.\n", c.Out)
	} else if temporary {
		err = os.RemoveAll(c.Out)
	}
	return r, err
}

// crashTest is a crash test under way.
type crashTest struct {
	CrashConfig
	certsrv  *testenv.Certsrv
	password string // the clients'
	ras      []*crashRA

	mu     sync.Mutex // for what follows
	report *CrashReport
	has    []crashCertificate
}

// random is a source of choices of its own for each part of the test, so that
// one does not disturb the other.
func (t *crashTest) random(part uint64) *rand.Rand {
	return rand.New(rand.NewPCG(t.Seed, part)) //nolint:gosec // To be repeatable, not secret.
}

// The parts. Clients and processes add their number.
const (
	partFaults uint64 = iota
	partProcesses
	partClients = 1000
)

// run enrols, kills and injects until the time is over, and waits until the
// clients have what they asked for.
func (t *crashTest) run(ctx context.Context) error {
	fmt.Fprintf(t.Progress, "seed %d; certsrv is %s, everything else in %s\n", t.Seed, t.certsrv.URL, t.Out)
	if err := t.warmUp(ctx); err != nil {
		return err
	}
	alive, end := context.WithCancel(ctx)
	defer end()
	killing, stop := context.WithTimeout(ctx, t.For)
	defer stop()
	asking, giveUp := context.WithTimeout(ctx, t.For+crashSettle)
	defer giveUp()
	var processes, clients, others sync.WaitGroup
	for _, p := range t.ras {
		processes.Go(func() { p.keep(alive, killing) })
	}
	others.Go(func() { t.inject(killing) })
	others.Go(func() { t.tell(killing) })
	for n := range t.Clients {
		clients.Go(func() { t.client(asking, killing, n) })
	}
	clients.Wait()
	others.Wait()
	t.awaitAudit(asking)
	end()
	processes.Wait()
	return ctx.Err()
}

// warmUp has one process issue one certificate, and kills it. From then on the
// store knows a request number, without which no lost answer can be told from
// a request that never arrived.
func (t *crashTest) warmUp(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, crashSettle)
	defer cancel()
	p := t.ras[0]
	child, err := p.start()
	if err != nil {
		return err
	}
	defer child.kill()
	select {
	case <-child.ready:
	case <-child.ended:
		return fmt.Errorf("crash: the registration authority does not start; see %s", p.log)
	case <-ctx.Done():
		return fmt.Errorf("crash: start the registration authority: %w", context.Cause(ctx))
	}
	t.enrol(ctx, t.random(partClients-1), t.ras[:1], "warm-up")
	if len(t.has) == 0 {
		return fmt.Errorf("crash: the first enrolment does not succeed; see %s", p.log)
	}
	return nil
}

// tell says now and then how it goes.
func (t *crashTest) tell(ctx context.Context) {
	begin := time.Now()
	tick := time.NewTicker(10 * time.Second)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			t.mu.Lock()
			fmt.Fprintf(t.Progress, "%4.0f s: %d certificates, %d kills\n", time.Since(begin).Seconds(), len(t.has), t.report.Kills)
			t.mu.Unlock()
		case <-ctx.Done():
			return
		}
	}
}

// pause waits for a random time between least and most, or until ctx ends.
func pause(ctx context.Context, r *rand.Rand, least, most time.Duration) {
	timer := time.NewTimer(least + time.Duration(r.Int64N(int64(most-least))))
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}
