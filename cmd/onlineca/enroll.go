package main

import (
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/onlineca/onlineca/internal/app"
)

func newEnrollCmd() *cobra.Command {
	var o app.EnrollOptions
	cmd := &cobra.Command{
		Use:   "enroll --server https://HOST:8084 --ca FILE --user NAME --password-file FILE --out DIR FILE.csr|DIR...",
		Short: "Enrol certificate requests over EST, as CAPF does",
		Long: `Enrol certificate requests (PKCS#10, PEM or DER) with an EST server, as CAPF
does: one device a file, the device's name is the file's (SEP001122334455.csr).

DIR gets DEVICE.der for each device, and the logs that CAPF would write:
logs/capf/capf00000001.txt, and logs/onlineca.jsonl. A device whose certificate
is there already is left out unless --again is given, so a batch that was
stopped goes on where it was.

Exit status: 0 every device has its certificate, 1 some have not, 2 usage.`,
		Example: `  onlineca enroll --server https://ra.example.com:8084 --ca chain.pem \
    --user 'CONTOSO\svc-ra' --password-file password --out phones csr/`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			o.Paths = args
			if o.Username != "" && o.PasswordFile == "" {
				return usagef(cmd, "--user needs --password-file: a file that holds the password on one line")
			}
			if (o.Certificate == "") != (o.Key == "") {
				return usagef(cmd, "--cert and --key go together")
			}
			if o.Timeout <= 0 {
				return usagef(cmd, "--timeout %v: more than 0, for example 10s", o.Timeout)
			}
			if o.Workers < 1 {
				return usagef(cmd, "--workers %d: at least 1", o.Workers)
			}
			o.Progress = cmd.ErrOrStderr()
			sum, err := app.Enroll(cmd.Context(), o)
			if len(sum.Results) > 0 {
				if werr := sum.WriteTable(cmd.OutOrStdout()); werr != nil {
					return fmt.Errorf("write the summary: %w", werr)
				}
			}
			switch {
			case err != nil:
				return err
			case cmd.Context().Err() != nil:
				return fmt.Errorf("interrupted: run the same command again to go on: %w", cmd.Context().Err())
			case !sum.OK():
				return failed{exitFailed}
			}
			return nil
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.Server, "server", "", "the EST server, `https://HOST:PORT`")
	f.StringVar(&o.Label, "label", "", "EST label, for a server that has several")
	f.StringArrayVar(&o.CA, "ca", nil, "PEM `file` to verify the server with (may be repeated; default: the system's)")
	f.StringVar(&o.Username, "user", "", "user `name` for HTTP Basic")
	f.StringVar(&o.PasswordFile, "password-file", "", "`file` with the password on one line")
	f.StringVar(&o.Certificate, "cert", "", "TLS client certificate, PEM `file`")
	f.StringVar(&o.Key, "key", "", "its key, PEM `file`")
	f.StringVar(&o.Out, "out", "", "`directory` for the certificates and the logs")
	f.IntVar(&o.Workers, "workers", 4, "enrolments at once")
	f.BoolVar(&o.Again, "again", false, "enrol also devices that have their certificate")
	f.DurationVar(&o.Timeout, "timeout", 10*time.Second, "how long to wait for each answer")
	f.DurationVar(&o.Wait, "wait", time.Minute, "how long to wait for a request that is pending; less than 0: not at all")
	for _, name := range []string{"server", "out"} {
		_ = cmd.MarkFlagRequired(name)
	}
	return cmd
}
