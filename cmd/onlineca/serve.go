package main

import (
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/onlineca/onlineca/internal/app"
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
SIGHUP reads the settings, certificates and user lists again.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			reload := make(chan os.Signal, 1)
			signal.Notify(reload, syscall.SIGHUP)
			defer signal.Stop(reload)
			return app.Serve(cmd.Context(), app.ServeOptions{
				Config: config, Out: cmd.OutOrStdout(), Stderr: cmd.ErrOrStderr(), Reload: reload,
			})
		},
	}
	configFlag(cmd, &config)
	return cmd
}

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
