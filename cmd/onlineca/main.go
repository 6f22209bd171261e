// Command onlineca is the CAPF Online CA chain without a CUCM: a registration
// authority in front of AD CS Web Enrollment, a CAPF for real and simulated
// phones, a mock certsrv, and the tools that explain failures.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/onlineca/onlineca/ra/fault"
)

// Exit codes. A command may end with others of its own, which its help lists.
const (
	exitFailed       = 1
	exitUsage        = 2
	exitLoginRefused = 3 // of serve
	exitInterrupted  = 130
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	// The first Ctrl-C asks for an orderly end, the second one gets its way.
	context.AfterFunc(ctx, stop)
	code := run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// run executes one command line and returns the exit code.
func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	root := newRootCmd()
	root.SetArgs(args)
	root.SetIn(stdin)
	root.SetOut(stdout)
	root.SetErr(stderr)
	err := root.ExecuteContext(ctx)
	var coded interface{ ExitCode() int }
	switch {
	case err == nil:
		return 0
	case errors.Is(err, context.Canceled) && ctx.Err() != nil:
		fmt.Fprintln(stderr, "onlineca: interrupted")
		return exitInterrupted
	case errors.As(err, &coded):
		report(stderr, err)
		return coded.ExitCode()
	default:
		report(stderr, err)
		return exitFailed
	}
}

// report prints an error for a person: what failed, then what to do about it.
func report(w io.Writer, err error) {
	var quiet interface{ Quiet() bool }
	if errors.As(err, &quiet) && quiet.Quiet() {
		return
	}
	for line := range strings.SplitSeq(strings.TrimRight(err.Error(), "\n"), "\n") {
		fmt.Fprintf(w, "onlineca: error: %s\n", line)
	}
	var f *fault.Fault
	var u *usageError
	switch {
	case errors.As(err, &f) && f.Code != fault.Unknown:
		fmt.Fprintf(w, "hint: %s\n", f.Hint())
	case errors.As(err, &u):
		fmt.Fprintf(w, "hint: %s\n", u.hint)
	}
}

// usageError is a command line that cannot be understood.
type usageError struct {
	err  error
	hint string
}

func usagef(cmd *cobra.Command, format string, args ...any) error {
	return &usageError{fmt.Errorf(format, args...), "see " + cmd.CommandPath() + " --help"}
}

func (u *usageError) Error() string { return u.err.Error() }
func (u *usageError) Unwrap() error { return u.err }

// ExitCode returns 2.
func (u *usageError) ExitCode() int { return exitUsage }

// failed ends a command whose own output has already said what failed.
type failed struct{ code int }

func (f failed) Error() string { return "failed" }

// ExitCode returns the command's exit code.
func (f failed) ExitCode() int { return f.code }

// Quiet says that nothing is left to be printed.
func (failed) Quiet() bool { return true }
