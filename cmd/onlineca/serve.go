package main

import (
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/onlineca/onlineca/internal/app"
	"github.com/onlineca/onlineca/ra/fault"
)

func newServeCmd() *cobra.Command {
	var config string
	cmd := &cobra.Command{
		Use:   "serve [--config FILE]",
		Short: "Run the registration authority in front of AD CS",
		Long: `Run the registration authority: an EST server (RFC 7030) for phones, CAPF and
any other EST client, in front of AD CS Web Enrollment (/certsrv).

At the start it logs in to certsrv and fetches the CA's chain; if either fails
it says why and ends. Ctrl-C or SIGTERM ends it after the requests under way;
SIGHUP reads the settings, certificates and user lists again.

Exit status: 0 it was told to end, 1 something failed, 2 usage, 3 Windows refused
the account of certsrv.username: whoever starts it again and again by itself must
not do so then, for each start counts towards locking the account.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			reload := make(chan os.Signal, 1)
			signal.Notify(reload, syscall.SIGHUP)
			defer signal.Stop(reload)
			err := app.Serve(cmd.Context(), app.ServeOptions{
				Config: config, Out: cmd.OutOrStdout(), Stderr: cmd.ErrOrStderr(), Reload: reload,
			})
			if errors.Is(err, fault.BadCredentials) || errors.Is(err, fault.EPARequired) {
				return loginRefused{err}
			}
			return err
		},
	}
	configFlag(cmd, &config)
	return cmd
}

// loginRefused is a start that ended because Windows refused the account.
type loginRefused struct{ error }

// Unwrap returns the refusal.
func (l loginRefused) Unwrap() error { return l.error }

// ExitCode returns 3.
func (loginRefused) ExitCode() int { return exitLoginRefused }

func newHealthcheckCmd() *cobra.Command {
	var config string
	cmd := &cobra.Command{
		Use:   "healthcheck [--config FILE]",
		Short: "Ask the running registration authority whether it answers",
		Long: `Ask the registration authority that runs on this machine with these settings
whether it is ready, at admin.listen; or, if the settings have no such address,
for its CA certificates, as an EST client would.

Exit status: 0 it answers, 1 it does not.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			s, err := app.ReadSettings(config)
			if err != nil {
				return err
			}
			if err := app.Healthcheck(cmd.Context(), s); err != nil {
				return err
			}
			fmt.Fprintln(cmd.OutOrStdout(), "the registration authority answers")
			return nil
		},
	}
	configFlag(cmd, &config)
	return cmd
}

// configFlag adds the flag that names the settings file.
func configFlag(cmd *cobra.Command, config *string) {
	cmd.Flags().StringVar(config, "config", "onlineca.yaml", "settings `file`, YAML")
}
