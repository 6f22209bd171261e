package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/onlineca/onlineca/testenv/lab"
)

// maxPhones is as many as there are device names in a lab.
const maxPhones = 0x10000 - 0x4455

func newLabCmd() *cobra.Command {
	var c lab.Config
	cmd := &cobra.Command{
		Use:   "lab",
		Short: "Enrol simulated phones through the whole chain, everything embedded",
		Long: `Run the whole chain in one process: simulated phones, CAPF, the EST server,
the registration authority, and a mock of IIS with AD CS. Every phone enrols for
a Locally Significant Certificate; DIR gets the certificates and the logs that a
CUCM and an IIS would have written.

Keys of 1024 bits (--key rsa1024) are taken by a registration authority and by a
template only where their minimum is lowered; the lab lowers both.

The next run in the same DIR replaces what this one left. The lab's CA is a
throw-away: its root says so in its subject, and its keys are never written.

Exit status: 0 every phone has its certificate, 1 some have not, 2 usage.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if c.Phones < 1 || c.Phones > maxPhones {
				return usagef(cmd, "--phones %d: between 1 and %d", c.Phones, maxPhones)
			}
			if c.Workers < 1 {
				return usagef(cmd, "--workers %d: at least 1", c.Workers)
			}
			if err := c.Check(); err != nil {
				return usagef(cmd, "%w", err)
			}
			c.Progress, c.Result = cmd.ErrOrStderr(), cmd.OutOrStdout()
			sum, err := lab.Run(cmd.Context(), c)
			switch {
			case err != nil:
				return err
			case sum.OK():
				return nil
			case cmd.Context().Err() != nil:
				return fmt.Errorf("interrupted before every phone had its certificate: %w", cmd.Context().Err())
			}
			return failed{exitFailed}
		},
	}
	f := cmd.Flags()
	f.IntVar(&c.Phones, "phones", 5, "how many phones")
	f.StringVar(&c.Out, "out", "onlineca-lab", "`directory` for certificates and logs")
	f.BoolVar(&c.KeepRunning, "keep-running", false, "leave the servers up until Ctrl-C, and print their addresses")
	f.StringVar(&c.Key, "key", "rsa2048", "the phones' keys: "+strings.Join(lab.Keys(), ", "))
	f.IntVar(&c.Workers, "workers", 8, "enrolments at once")
	return cmd
}
