package main

import (
	"fmt"
	"io"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/onlineca/onlineca/testenv/lab"
)

func newReproduceCmd() *cobra.Command {
	var c lab.ReproduceConfig
	var list bool
	cmd := &cobra.Command{
		Use:   "reproduce CODE... | --all | --list",
		Short: "Produce a known failure, with the logs that it leaves",
		Long: `Run the whole chain in one process with a fault in its real place, let phones
enrol, and leave the logs that a CUCM and an IIS would have written. DIR gets
them, and report.md: what was done, what each log shows, and the sequence of
messages. With several codes each has a directory of its own below DIR.

What never answers is waited for one second, and the logs say so. With
--product-timing it is the product's ten seconds.

Exit status: 0 every failure appeared exactly as the table of failures says,
1 one did not, or could not be produced, 2 usage.`,
		Example: `  onlineca reproduce --list
  onlineca reproduce template
  onlineca reproduce login-timeout enroll-timeout --product-timing
  onlineca reproduce --all --out failures --bundle`,
		ValidArgsFunction: cobra.FixedCompletions(reproducibleNames(), cobra.ShellCompDirectiveNoFileComp),
		RunE: func(cmd *cobra.Command, args []string) error {
			c.Codes, c.Result = args, cmd.OutOrStdout()
			switch {
			case list:
				return listScenarios(cmd.OutOrStdout())
			case c.Out == "":
				return usagef(cmd, "--out: the name of a directory is missing")
			case c.All == (len(args) > 0):
				return usagef(cmd, "name the failures, or --all, or --list")
			case c.Phones < 1 || c.Phones > maxPhones:
				return usagef(cmd, "--phones %d: between 1 and %d", c.Phones, maxPhones)
			}
			if err := lab.CheckCodes(args); err != nil {
				return usagef(cmd, "%w", err)
			}
			return reproduce(cmd, c)
		},
	}
	f := cmd.Flags()
	f.BoolVar(&list, "list", false, "list the failures")
	f.BoolVar(&c.All, "all", false, "every failure that can be produced")
	f.StringVar(&c.Out, "out", "onlineca-failures", "`directory` for logs and reports")
	f.IntVar(&c.Phones, "phones", 1, "how many phones enrol in each")
	f.BoolVar(&c.ProductTiming, "product-timing", false, "wait the product's ten seconds")
	f.BoolVar(&c.Bundle, "bundle", false, "also pack the logs as a support engineer gets them (bundle.tar.gz)")
	return cmd
}

func reproduce(cmd *cobra.Command, c lab.ReproduceConfig) error {
	all, err := lab.Reproduce(cmd.Context(), c)
	if err != nil {
		return err
	}
	for _, r := range all {
		if len(r.Differences) > 0 {
			return failed{exitFailed}
		}
	}
	return nil
}

// listScenarios prints the table of what can be produced.
func listScenarios(w io.Writer) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "CODE\tSYMPTOM\tTAKES\tPRODUCT")
	var without []lab.ScenarioDoc
	for _, d := range lab.Scenarios() {
		if d.Reason != "" {
			without = append(without, d)
			continue
		}
		fmt.Fprintf(t, "%s\t%s\t%.0f s\t%.0f s\n", d.Code.String(), d.Symptom, d.Takes.Seconds(), d.Product.Seconds())
	}
	if err := t.Flush(); err != nil {
		return fmt.Errorf("reproduce: %w", err)
	}
	fmt.Fprintln(w, "\nNot produced:")
	for _, d := range without {
		fmt.Fprintf(w, "  %s: %s\n", d.Code.String(), d.Reason)
	}
	return nil
}

func reproducibleNames() []string {
	var names []string
	for _, d := range lab.Scenarios() {
		if d.Reason == "" {
			names = append(names, d.Code.String()+"\t"+d.Symptom)
		}
	}
	return names
}
