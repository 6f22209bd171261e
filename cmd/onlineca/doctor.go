package main

import (
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/onlineca/onlineca/internal/app"
)

func newDoctorCmd() *cobra.Command {
	var o app.DoctorOptions
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "doctor [--config FILE]",
		Short: "Would a phone get a certificate? Test the way to AD CS step by step",
		Long: `Walk the way from the settings to a certificate, as "onlineca serve" does, and
say of each step what it found, how long it took and, if it failed, why and what
to do: name, TCP, TLS, the IIS certificate, its name, the clocks, the schemes
offered, the login, channel binding, page language, template, the CA's chain.

Nothing is changed on the server unless --enroll is given: then one throw-away
certificate is requested, and its number printed for somebody to revoke it.

At most two logons fail, whatever is wrong: too few to lock an account whose
last logons were good.

Exit status: 0 a phone would succeed, 1 a phone would fail, 2 usage.`,
		Example: `  onlineca doctor --config onlineca.yaml
  onlineca doctor --config onlineca.yaml --enroll --json | jq .ok`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			out := cmd.OutOrStdout()
			text := app.DoctorText{W: out, Color: colored(out)}
			if !asJSON {
				o.Observe = text.Step
			}
			r := app.Doctor(cmd.Context(), o)
			if asJSON {
				if err := r.WriteJSON(out); err != nil {
					return fmt.Errorf("write the report: %w", err)
				}
			} else {
				text.End(&r)
			}
			switch {
			case r.Interrupted:
				return cmd.Context().Err()
			case !r.OK:
				return failed{exitFailed}
			}
			return nil
		},
	}
	configFlag(cmd, &o.Config)
	cmd.Flags().StringVar(&o.URL, "url", "", "which of several certsrv hosts (certsrv.urls) to test, an `address` of the settings; default: the first")
	cmd.Flags().BoolVar(&o.Enroll, "enroll", false, "request one throw-away certificate")
	cmd.Flags().BoolVar(&asJSON, "json", false, "write the report as JSON (docs/doctor.md)")
	return cmd
}

// colored says whether out is a terminal that may be written to in colour
// (https://no-color.org).
func colored(out io.Writer) bool {
	f, ok := out.(*os.File)
	return ok && os.Getenv("NO_COLOR") == "" && term.IsTerminal(int(f.Fd()))
}
