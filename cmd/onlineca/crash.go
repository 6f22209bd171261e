package main

import (
	"time"

	"github.com/spf13/cobra"

	"github.com/onlineca/onlineca/testenv/lab"
)

func newCrashCmd() *cobra.Command {
	var c lab.CrashConfig
	cmd := &cobra.Command{
		Use:   "crash",
		Short: "Kill registration authorities while clients enrol, and see that nothing is lost",
		Long: `Run registration authorities in front of a mock certsrv, and kill their processes
with SIGKILL at random moments, while clients enrol and certsrv loses answers,
breaks connections and fails. Then compare what the clients, the store and the
mock CA have.

Exit status: 0 every client has its certificate, the store knows every
certificate, and nothing was submitted twice; 1 not so; 2 usage.`,
		Example: `  onlineca crash
  onlineca crash --for 1h --store postgres://ra@localhost/ra --processes 2 --seed 7 --out crash`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			switch {
			case c.For < time.Second:
				return usagef(cmd, "--for %v: at least one second", c.For)
			case c.Processes < 1 || c.Processes > 8:
				return usagef(cmd, "--processes %d: between 1 and 8", c.Processes)
			case c.Clients < 1 || c.Clients > 1000:
				return usagef(cmd, "--clients %d: between 1 and 1000", c.Clients)
			}
			if c.Seed == 0 {
				c.Seed = uint64(time.Now().UnixNano())
			}
			c.Progress, c.Result = cmd.ErrOrStderr(), cmd.OutOrStdout()
			r, err := lab.Crash(cmd.Context(), c)
			if err == nil && len(r.Violations) > 0 {
				err = failed{exitFailed}
			}
			return err
		},
	}
	f := cmd.Flags()
	f.DurationVar(&c.For, "for", time.Minute, "how long processes are killed")
	f.StringVar(&c.Store, "store", "sqlite", "sqlite, or the `address` of a PostgreSQL database, postgres://…, which keeps the records")
	f.IntVar(&c.Processes, "processes", 1, "how many registration authorities; several need PostgreSQL")
	f.IntVar(&c.Clients, "clients", 6, "how many clients enrol at once")
	f.Uint64Var(&c.Seed, "seed", 0, "choose what happens as in the run that printed this `number`; 0: another each time")
	f.StringVar(&c.Out, "out", "", "`directory` for settings, stores and logs (default: a temporary one, kept if something was violated)")
	return cmd
}
