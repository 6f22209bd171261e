package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/onlineca/onlineca/internal/app"
)

func newConfigCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "config",
		Short: "Work with the settings file",
		Args:  cobra.NoArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(&cobra.Command{
		Use:   "check FILE",
		Short: "Check a settings file and every file that it names",
		Long: `Check a settings file: its keys and values, and that every file it names can
be read and holds what it should. Nobody is asked over the network; that is
what "onlineca doctor" is for.

Exit status: 0 the file is good, 1 it is not.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			s, err := app.ReadSettings(args[0])
			if err != nil {
				return err
			}
			warnings, err := app.CheckFiles(s)
			for _, w := range warnings {
				fmt.Fprintf(cmd.ErrOrStderr(), "onlineca: warning: %s\n", w)
			}
			if err != nil {
				return fmt.Errorf("%s: %w", args[0], err)
			}
			fmt.Fprintf(cmd.OutOrStdout(), "%s is good\n", args[0])
			return nil
		},
	})
	return cmd
}
