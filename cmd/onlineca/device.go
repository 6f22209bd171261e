package main

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/moby/sys/atomicwriter"
	"github.com/spf13/cobra"

	"github.com/onlineca/onlineca/internal/app"
)

// table is a device table opened for one command.
type table struct {
	*app.DeviceTable
	settings app.Settings
}

// withTable makes a command that works on the device table of a settings file.
func withTable(cmd *cobra.Command, run func(cmd *cobra.Command, t table, args []string) error) *cobra.Command {
	var config string
	configFlag(cmd, &config)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		t, s, err := app.OpenDevices(cmd.Context(), config)
		if err != nil {
			return err
		}
		err = run(cmd, table{t, s}, args)
		return errors.Join(err, t.Close())
	}
	return cmd
}

func newDeviceCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "device",
		Short: "The device table of CAPF",
		Args:  cobra.NoArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newDeviceAddCmd(), newDeviceScheduleCmd(), newDeviceListCmd(), newDeviceShowCmd(),
		newDeviceRemoveCmd(), newDeviceImportCmd(), newDeviceExportCmd())
	return cmd
}

// schedule reads what is to be done and until when.
type schedule struct {
	operation string
	within    time.Duration
}

func (s *schedule) flags(cmd *cobra.Command, operation string) {
	cmd.Flags().StringVar(&s.operation, "operation", operation, "`what` to do at the next contact: install, delete, troubleshoot or none")
	cmd.Flags().DurationVar(&s.within, "within", 0, "how long the phone has for it; 0: no deadline")
}

func (s *schedule) read(cmd *cobra.Command) (app.Operation, time.Time, error) {
	op, err := app.ParseOperation(s.operation)
	if err != nil {
		return op, time.Time{}, usagef(cmd, "--operation: %w", err)
	}
	if s.within < 0 {
		return op, time.Time{}, usagef(cmd, "--within %v: may not be negative", s.within)
	}
	if s.within == 0 {
		return op, time.Time{}, nil
	}
	return op, time.Now().Add(s.within), nil
}

func newDeviceAddCmd() *cobra.Command {
	var (
		plan     schedule
		authFile string
		words    = map[string]*string{}
	)
	cmd := withTable(&cobra.Command{
		Use:   "add [--config FILE] NAME...",
		Short: "Add devices, and schedule what they are to do",
		Long: `Add devices, all of them or, if one is wrong, none.

A device can have a certificate from an online or offline CA only if it can sign
the request, by an exchange that is unverified against hardware: say so with
--signing encrypt. The simulated phones of "onlineca phone" can.`,
		Args: cobra.MinimumNArgs(1),
	}, func(cmd *cobra.Command, t table, args []string) error {
		op, finishBy, err := plan.read(cmd)
		if err != nil {
			return err
		}
		values := map[string]string{}
		for key, v := range words {
			values[key] = *v
		}
		if authFile != "" {
			if values["auth-string"], err = app.ReadPassword("--auth-string-file", authFile); err != nil {
				return err
			}
		}
		all := make([]app.Device, len(args))
		for i, name := range args {
			if all[i], err = app.NewDevice(name, values); err != nil {
				return usagef(cmd, "%w", err)
			}
			all[i].Schedule(op, finishBy)
		}
		if err := t.Add(cmd.Context(), all...); err != nil {
			return err
		}
		fmt.Fprintf(cmd.OutOrStdout(), "%d added\n", len(all))
		return nil
	})
	plan.flags(cmd, "install")
	for _, f := range []struct{ key, usage string }{
		{"auth", "how it authenticates: string, null (default), lsc or mic"},
		{"auth-string", "authentication string; implies --auth string"},
		{"model", "model, as in CP-8865: goes into the certificate's common name"},
		{"key-order", "rsa (default), ec or ec-preferred"},
		{"key-size", "size of its RSA key: 1024, 2048 (default), 3072 or 4096"},
		{"ec-key-size", "size of its EC key: 256, 384 (default) or 521"},
		{"issuer", "online, local or offline; default: that of the settings"},
		{"signing", "encrypt: it can sign a request; none: it cannot; default: unknown, which is taken for none"},
	} {
		words[f.key] = cmd.Flags().String(f.key, "", f.usage)
	}
	cmd.Flags().StringVar(&authFile, "auth-string-file", "", "`file` with the authentication string")
	return cmd
}

func newDeviceScheduleCmd() *cobra.Command {
	var plan schedule
	cmd := withTable(&cobra.Command{
		Use:   "schedule [--config FILE] NAME...",
		Short: "Say what devices are to do at their next contact",
		Args:  cobra.MinimumNArgs(1),
	}, func(cmd *cobra.Command, t table, args []string) error {
		op, finishBy, err := plan.read(cmd)
		if err != nil {
			return err
		}
		if err := t.Schedule(cmd.Context(), op, finishBy, args...); err != nil {
			return err
		}
		fmt.Fprintf(cmd.OutOrStdout(), "%d scheduled\n", len(args))
		return nil
	})
	plan.flags(cmd, "install")
	return cmd
}

func newDeviceListCmd() *cobra.Command {
	var (
		f       app.DeviceFilter
		status  string
		expires time.Duration
	)
	cmd := withTable(&cobra.Command{
		Use:   "list [--config FILE]",
		Short: "List devices",
		Args:  cobra.NoArgs,
	}, func(cmd *cobra.Command, t table, _ []string) error {
		if status != "" {
			var err error
			if f.Status, err = app.ParseStatus(status); err != nil {
				return usagef(cmd, "--status: %w", err)
			}
		}
		if f.Code != "" {
			if err := app.CheckCode(f.Code); err != nil {
				return usagef(cmd, "--code: %w", err)
			}
		}
		if expires != 0 {
			f.ExpiresBefore = time.Now().Add(expires)
		}
		all, err := t.List(cmd.Context(), f)
		if err != nil {
			return err
		}
		return printDevices(cmd.OutOrStdout(), all)
	})
	cmd.Flags().StringVar(&f.Name, "name", "", "`names`, with * and ?")
	cmd.Flags().StringVar(&status, "status", "", "certificate `status`, in words or by its number")
	cmd.Flags().DurationVar(&expires, "expires-within", 0, "whose LSC ends within this `time`")
	cmd.Flags().StringVar(&f.LSCIssuer, "issuer", "", "whose LSC's issuer has this `text` in its name")
	cmd.Flags().StringVar(&f.Code, "code", "", "whose last session ended with this `fault`")
	cmd.Flags().BoolVar(&f.Waiting, "waiting", false, "whose request waits for a certificate")
	return cmd
}

func printDevices(out io.Writer, all []app.Device) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "NAME\tOPERATION\tSTATUS\tLSC UNTIL\tLSC ISSUER\tREASON")
	for _, d := range all {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\n", d.Name, d.Operation, d.Status, day(d.LSCValidUntil),
			cmp.Or(d.LSCIssuer, "-"), cmp.Or(d.Reason, "-"))
	}
	return w.Flush()
}

func day(t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return t.UTC().Format(time.DateOnly)
}

func newDeviceShowCmd() *cobra.Command {
	return withTable(&cobra.Command{
		Use:   "show [--config FILE] NAME",
		Short: "Show all that is known of a device",
		Args:  cobra.ExactArgs(1),
	}, func(cmd *cobra.Command, t table, args []string) error {
		d, err := t.Device(cmd.Context(), args[0])
		if err != nil {
			return err
		}
		w := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 0, 2, ' ', 0)
		for _, row := range [][2]string{
			{"name", d.Name}, {"model", d.Model},
			{"authentication", d.AuthMode.String()},
			{"key order", d.KeyOrder.String()}, {"RSA key size", d.KeySize.String()}, {"EC key size", fmt.Sprint(cmp.Or(d.ECKeySize, 384))},
			{"issuer", cmp.Or(string(d.Issuer), "that of the settings")}, {"signing", cmp.Or(string(d.Signing), "unknown")},
			{"operation", d.Operation.String()}, {"finish by", app.FormatFinishBy(d.FinishBy)},
			{"status", fmt.Sprintf("%d %s", int(d.Status), d.Status)}, {"reason", d.Reason}, {"code", d.Code},
			{"last contact", moment(d.LastContact)},
			{"LSC valid until", moment(d.LSCValidUntil)}, {"LSC issuer", d.LSCIssuer}, {"LSC issuer valid until", moment(d.LSCIssuerValidUntil)},
			{"request waits", fmt.Sprint(len(d.CSR) > 0 && len(d.Issued) == 0)},
			{"certificate waits", fmt.Sprint(len(d.Issued) > 0)},
		} {
			fmt.Fprintf(w, "%s\t%s\n", row[0], cmp.Or(row[1], "-"))
		}
		return w.Flush()
	})
}

func moment(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(time.RFC3339)
}

func newDeviceRemoveCmd() *cobra.Command {
	return withTable(&cobra.Command{
		Use:   "remove [--config FILE] NAME...",
		Short: "Remove devices: all of them or, if one is not there, none",
		Args:  cobra.MinimumNArgs(1),
	}, func(cmd *cobra.Command, t table, args []string) error {
		removed, err := t.Remove(cmd.Context(), args...)
		if err != nil {
			return err
		}
		fmt.Fprintf(cmd.OutOrStdout(), "%d removed\n", len(removed))
		for _, d := range removed {
			if text := app.Uncollected(d); text != "" {
				fmt.Fprintln(cmd.OutOrStdout(), text)
			}
		}
		return nil
	})
}

func newDeviceImportCmd() *cobra.Command {
	return withTable(&cobra.Command{
		Use:   "import [--config FILE] DEVICES.csv",
		Short: "Add and change devices by a CSV file with a header",
		Long: `Add and change devices by a CSV file with a header: all lines or, if one is
wrong, none. Only the column "name" must be there; an empty value leaves a device
as it is, and an authentication string without a mode makes the mode that of the
string. "onlineca device export" shows the columns. "-" is standard input.`,
		Args: cobra.ExactArgs(1),
	}, func(cmd *cobra.Command, t table, args []string) error {
		in := cmd.InOrStdin()
		if args[0] != "-" {
			f, err := os.Open(args[0])
			if err != nil {
				return fmt.Errorf("import devices: %w", err)
			}
			defer f.Close()
			in = f
		}
		added, changed, err := t.ImportCSV(cmd.Context(), in)
		if err != nil {
			return err
		}
		fmt.Fprintf(cmd.OutOrStdout(), "%d added, %d changed\n", added, changed)
		return nil
	})
}

func newDeviceExportCmd() *cobra.Command {
	var out string
	cmd := withTable(&cobra.Command{
		Use:   "export [--config FILE] [--out DEVICES.csv]",
		Short: "Write the devices as CSV; it holds their authentication strings",
		Args:  cobra.NoArgs,
	}, func(cmd *cobra.Command, t table, _ []string) error {
		if out == "" {
			return t.Export(cmd.Context(), cmd.OutOrStdout(), app.DeviceFilter{})
		}
		var text strings.Builder
		if err := t.Export(cmd.Context(), &text, app.DeviceFilter{}); err != nil {
			return err
		}
		if err := atomicwriter.WriteFile(out, []byte(text.String()), 0o600); err != nil {
			return fmt.Errorf("export devices: %w", err)
		}
		return nil
	})
	cmd.Flags().StringVar(&out, "out", "", "`file` to write; default: standard output")
	return cmd
}
