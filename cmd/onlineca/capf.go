package main

import (
	"crypto/x509"
	"fmt"
	"os"
	"path/filepath"

	"github.com/moby/sys/atomicwriter"
	"github.com/spf13/cobra"

	"github.com/onlineca/onlineca/internal/app"
)

func newCAPFCmd() *cobra.Command {
	group := func(use, short string, subs ...*cobra.Command) *cobra.Command {
		cmd := &cobra.Command{
			Use: use, Short: short, Args: cobra.NoArgs,
			RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
		}
		cmd.AddCommand(subs...)
		return cmd
	}
	return group("capf", "CAPF with an offline CA, and its certificates",
		group("csr", "Requests that wait for an offline CA", newCSRListCmd(), newCSRDumpCmd()),
		group("cert", "Certificates of an offline CA", newCertImportCmd()),
		newStaleLSCCmd(),
	)
}

func newCSRListCmd() *cobra.Command {
	return withTable(&cobra.Command{
		Use:   "list [--config FILE]",
		Short: "List the devices whose request waits for a certificate",
		Args:  cobra.NoArgs,
	}, func(cmd *cobra.Command, t table, _ []string) error {
		n := 0
		err := app.WriteCSRs(cmd.Context(), t.DeviceTable, func(d app.Device, _ []byte) error {
			n++
			fmt.Fprintf(cmd.OutOrStdout(), "%s  signed %s\n", d.Name, moment(d.CSRTime))
			return nil
		})
		if err == nil && n == 0 {
			fmt.Fprintln(cmd.OutOrStdout(), "no request waits")
		}
		return err
	})
}

func newCSRDumpCmd() *cobra.Command {
	var out string
	cmd := withTable(&cobra.Command{
		Use:   "dump [--config FILE] --out DIR",
		Short: "Write the waiting requests to files, DEVICE.csr",
		Args:  cobra.NoArgs,
	}, func(cmd *cobra.Command, t table, _ []string) error {
		if err := os.MkdirAll(out, 0o750); err != nil {
			return fmt.Errorf("dump requests: %w", err)
		}
		n := 0
		err := app.WriteCSRs(cmd.Context(), t.DeviceTable, func(d app.Device, text []byte) error {
			n++
			return atomicwriter.WriteFile(filepath.Join(out, d.Name+".csr"), text, 0o644)
		})
		if err != nil {
			return fmt.Errorf("dump requests: %w", err)
		}
		fmt.Fprintf(cmd.OutOrStdout(), "%d written to %s\n", n, out)
		return nil
	})
	cmd.Flags().StringVar(&out, "out", "", "`directory` for the requests")
	_ = cmd.MarkFlagRequired("out")
	return cmd
}

func newCertImportCmd() *cobra.Command {
	var issuer string
	cmd := withTable(&cobra.Command{
		Use:   "import [--config FILE] CERTIFICATE...",
		Short: "Hand over an offline CA's certificates, PEM or DER",
		Long: `Hand over an offline CA's certificates, PEM or DER. Each goes to the device
whose request it answers, found by its key, and is delivered at the device's
next contact.`,
		Args: cobra.MinimumNArgs(1),
	}, func(cmd *cobra.Command, t table, args []string) error {
		var ca *x509.Certificate
		if issuer != "" {
			certs, err := app.ReadCertificates("--issuer", issuer)
			if err != nil {
				return err
			}
			ca = certs[0]
		}
		return app.ImportCertificates(cmd.Context(), t.DeviceTable, args, ca, cmd.OutOrStdout())
	})
	cmd.Flags().StringVar(&issuer, "issuer", "", "PEM `file` with the CA's certificate, to check that it issued them")
	return cmd
}

// newStaleLSCCmd is "stale-lsc", which stands beneath "capf" as in the product
// and at the top.
func newStaleLSCCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "stale-lsc",
		Short: "LSCs of CAs that do not issue any more",
		Args:  cobra.NoArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	var issuers []string
	list := withTable(&cobra.Command{
		Use:   "list [--config FILE]",
		Short: "List the devices whose LSC comes from none of the present issuers",
		Args:  cobra.NoArgs,
	}, func(cmd *cobra.Command, t table, _ []string) error {
		certs, err := app.Issuers(t.settings, issuers)
		if err != nil {
			return err
		}
		all, err := t.Stale(cmd.Context(), certs...)
		if err != nil {
			return err
		}
		return printDevices(cmd.OutOrStdout(), all)
	})
	list.Flags().StringArrayVar(&issuers, "issuer", nil, "PEM `file` with an issuer's certificate (may be repeated); default: CAPF's own, and the CA's chain of the last start")
	cmd.AddCommand(list)
	return cmd
}
