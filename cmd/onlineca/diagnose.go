package main

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/moby/sys/atomicwriter"
	"github.com/spf13/cobra"

	"github.com/onlineca/onlineca/internal/diagnose"
)

func newDiagnoseCmd() *cobra.Command {
	var (
		o                    diagnose.Options
		asJSON               bool
		html, since, tz, day string
	)
	cmd := &cobra.Command{
		Use:   "diagnose PATH...",
		Short: "Name the fault from a bundle of logs, ours or a real cluster's",
		Long: `Read the logs of the chain and say what went wrong: CAPF traces, CiscoRA's
stdout, nginx's error.log with libEST's lines, IIS W3C logs, and our own JSON.

PATH is a file, a folder, an archive (.gz, .zip, .tar, .tar.gz) or "-" for
standard input. Names do not matter: the contents decide what a file is. Clocks
of different zones are matched by themselves. Folders beside each other that
have the same kinds of logs are those of several clusters, and are looked at one
by one; --together takes them as one.

Exit status: 0 nothing wrong, 1 faults found, 2 usage, 3 could not tell.`,
		Example: `  onlineca diagnose onlineca-lab/logs
  onlineca diagnose bundle.zip --device SEP001122334455 --html report.html
  onlineca diagnose capf00000012.txt u_ex260305.log --tz capf=-5h`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			o.Paths, o.Stdin = args, cmd.InOrStdin()
			if html == "-" || html == "" && cmd.Flags().Changed("html") {
				return usagef(cmd, "--html %q: the name of a file is needed", html)
			}
			if err := diagnoseTimes(&o, since, tz, day); err != nil {
				return usagef(cmd, "%w", err)
			}
			report, err := diagnose.Analyse(cmd.Context(), o)
			if err != nil {
				var usage *diagnose.UsageError
				if errors.As(err, &usage) {
					return usagef(cmd, "%w", err)
				}
				return couldNotTell{err}
			}
			if err := writeDiagnosis(cmd, report, asJSON, html); err != nil {
				return couldNotTell{err}
			}
			if status := diagnose.ExitStatus(report, nil); status != 0 {
				return failed{status}
			}
			return nil
		},
	}
	f := cmd.Flags()
	f.BoolVar(&asJSON, "json", false, "print the report as JSON (docs/diagnose-schema.md)")
	f.StringVar(&html, "html", "", "write the report as one HTML page to `file`, too")
	f.StringVar(&o.Device, "device", "", "only the enrolments of this device, `SEP…`")
	f.StringVar(&since, "since", "", "only what ran since then: `2026-03-05`, 2026-03-05T12:00, or 2h for two hours ago")
	f.StringVar(&tz, "tz", "", "zones of clocks that cannot be found out: `capf=-5h,error.log=+1h`")
	f.BoolVar(&o.Together, "together", false, "take all logs as those of one cluster, however they lie in folders")
	f.StringVar(&day, "day", "", "`day` of the first line of CAPF traces, 2026-03-05")
	return cmd
}

// couldNotTell is an error by which nobody is to believe that a fault was
// found.
type couldNotTell struct{ error }

func (e couldNotTell) Unwrap() error { return e.error }

// ExitCode returns 3.
func (couldNotTell) ExitCode() int { return diagnose.ExitCouldNotTell }

// writeDiagnosis prints the report, and writes it as a page if one is wanted.
func writeDiagnosis(cmd *cobra.Command, r diagnose.Report, asJSON bool, html string) error {
	if html != "" {
		var page bytes.Buffer
		if err := r.WriteHTML(&page); err != nil {
			return fmt.Errorf("write the page: %w", err)
		}
		if err := atomicwriter.WriteFile(html, page.Bytes(), 0o644); err != nil {
			return fmt.Errorf("write the page: %w", err)
		}
	}
	if asJSON {
		return r.WriteJSON(cmd.OutOrStdout())
	}
	return r.WriteText(cmd.OutOrStdout(), diagnose.ColourAuto)
}

// diagnoseTimes reads the options that are times.
func diagnoseTimes(o *diagnose.Options, since, tz, day string) (err error) {
	if since != "" {
		if o.Since, err = parseMoment(since); err != nil {
			return fmt.Errorf("--since: %w", err)
		}
	}
	if day != "" {
		if o.Day, err = time.Parse(time.DateOnly, day); err != nil {
			return fmt.Errorf("--day %q: a day is written 2026-03-05", day)
		}
	}
	if tz == "" {
		return nil
	}
	o.Zones = map[string]time.Duration{}
	for part := range strings.SplitSeq(tz, ",") {
		log, text, ok := strings.Cut(part, "=")
		d, err := time.ParseDuration(strings.TrimPrefix(text, "+"))
		if !ok || err != nil {
			return fmt.Errorf("--tz %q: zones are written capf=-5h,error.log=+1h", part)
		}
		o.Zones[log] = d
	}
	return nil
}

// parseMoment reads a day, a time, or how long ago.
func parseMoment(text string) (time.Time, error) {
	if ago, err := time.ParseDuration(text); err == nil && ago >= 0 {
		return time.Now().Add(-ago), nil
	}
	for _, layout := range []string{time.RFC3339, "2006-01-02T15:04:05", "2006-01-02T15:04", "2006-01-02 15:04:05", "2006-01-02 15:04", time.DateOnly} {
		if t, err := time.ParseInLocation(layout, text, time.Local); err == nil {
			return t, nil
		}
	}
	return time.Time{}, fmt.Errorf("%q is neither a time such as 2026-03-05T12:00 nor an age such as 2h", text)
}
