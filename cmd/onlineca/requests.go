package main

import (
	"cmp"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/onlineca/onlineca/internal/app"
)

func newRequestsCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "requests",
		Short: "The registration authority's requests, and what became of them",
		Args:  cobra.NoArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newRequestsListCmd(), newRequestsShowCmd(), newRequestsRetryCmd(), newRequestsAssignCmd(), newRequestsForgetCmd())
	return cmd
}

// withRequests makes a command that works on the store of a settings file.
func withRequests(cmd *cobra.Command, run func(cmd *cobra.Command, s *app.RequestStore, args []string) error) *cobra.Command {
	var config string
	configFlag(cmd, &config)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		s, err := app.OpenRequests(cmd.Context(), config)
		if err != nil {
			return err
		}
		err = run(cmd, s, args)
		return errors.Join(err, s.Close())
	}
	return cmd
}

func newRequestsListCmd() *cobra.Command {
	var (
		f            app.RequestFilter
		states       []string
		since, until string
		asJSON       bool
	)
	cmd := withRequests(&cobra.Command{
		Use:   "list [--config FILE]",
		Short: "List requests, the newest last",
		Args:  cobra.NoArgs,
	}, func(cmd *cobra.Command, s *app.RequestStore, _ []string) (err error) {
		if f.States, err = app.RequestStates(states); err != nil {
			return usagef(cmd, "--state: %w", err)
		}
		if f.Limit < 0 {
			return usagef(cmd, "--limit %d: 0 or more", f.Limit)
		}
		if f.Serial != "" {
			if f.Serial, err = app.ParseSerial(f.Serial); err != nil {
				return usagef(cmd, "--serial: %w", err)
			}
		}
		for _, t := range []struct {
			flag, text string
			into       *time.Time
		}{{"--since", since, &f.Since}, {"--until", until, &f.Until}} {
			if t.text == "" {
				continue
			}
			if *t.into, err = parseMoment(t.text); err != nil {
				return usagef(cmd, "%s: %w", t.flag, err)
			}
		}
		all, err := s.List(cmd.Context(), f)
		if err != nil {
			return err
		}
		if asJSON {
			return writeJSON(cmd.OutOrStdout(), append([]app.RequestRecord{}, all...))
		}
		w := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 0, 2, ' ', 0)
		fmt.Fprintln(w, "ID\tCAME\tSTATE\tREQID\tSERIAL\tSUBJECT\tCLIENT\tREASON")
		for _, r := range all {
			fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", r.ID, moment(r.Created), r.State, number(r.ReqID),
				cmp.Or(r.Serial, "-"), r.Subject, cmp.Or(r.ClientName, r.ClientAddr, "-"), cmp.Or(r.Code, "-"))
		}
		return w.Flush()
	})
	fl := cmd.Flags()
	fl.StringSliceVar(&states, "state", nil, "only of these `states`: submitting, unknown, pending, issued, denied, failed, expired")
	fl.StringVar(&f.Subject, "device", "", "only whose subject holds this `name`")
	fl.StringVar(&f.Client, "client", "", "only of clients with this `text` in their name")
	fl.StringVar(&f.Serial, "serial", "", "only the certificate with this serial `number`, hexadecimal")
	fl.StringVar(&since, "since", "", "only what came since then: `2026-03-05`, 2026-03-05T12:00, or 2h for two hours ago")
	fl.StringVar(&until, "until", "", "only what came before then")
	fl.IntVar(&f.Limit, "limit", 0, "at most so many, the newest; 0: all")
	fl.BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

func number(n int) string {
	if n == 0 {
		return "-"
	}
	return fmt.Sprint(n)
}

func writeJSON(w io.Writer, v any) error {
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	return enc.Encode(v)
}

func newRequestsShowCmd() *cobra.Command {
	var asJSON bool
	cmd := withRequests(&cobra.Command{
		Use:   "show [--config FILE] ID",
		Short: "Show all that is known of a request; the beginning of its ID is enough",
		Args:  cobra.ExactArgs(1),
	}, func(cmd *cobra.Command, s *app.RequestStore, args []string) error {
		r, err := s.Show(cmd.Context(), args[0])
		if err != nil {
			return err
		}
		if asJSON {
			return writeJSON(cmd.OutOrStdout(), r)
		}
		return printRequest(cmd.OutOrStdout(), r)
	})
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

func printRequest(out io.Writer, r app.RequestRecord) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	next := "asked after next"
	if r.Refused() {
		next = "told until"
	}
	for _, row := range [][2]string{
		{"ID", r.ID}, {"authority", r.Authority}, {"subject", r.Subject}, {"operation", string(r.Operation)},
		{"label", r.Label}, {"template", r.Template},
		{"client", r.ClientName}, {"authenticated by", r.ClientMethod}, {"from", r.ClientAddr},
		{"state", string(r.State)}, {"attempts", fmt.Sprint(r.Attempts)}, {"request number", number(r.ReqID)},
		{"came after number", number(r.AfterReqID)},
		{"serial number", r.Serial}, {"valid until", moment(r.NotAfter)},
		{"code", r.Code}, {"message", r.Message},
		{"came", moment(r.Created)}, {"submitted", moment(r.Submitted)}, {"changed", moment(r.Updated)},
		{next, moment(r.Next)}, {"CSR, SHA-256", r.CSRHash},
	} {
		fmt.Fprintf(w, "%s\t%s\n", row[0], cmp.Or(row[1], "-"))
	}
	if err := w.Flush(); err != nil {
		return err
	}
	if len(r.Certificate) > 0 {
		return pem.Encode(out, &pem.Block{Type: "CERTIFICATE", Bytes: r.Certificate})
	}
	return nil
}

func newRequestsRetryCmd() *cobra.Command {
	return withRequests(&cobra.Command{
		Use:   "retry [--config FILE] ID",
		Short: "Ask after a pending request now, or let a settled one be submitted again",
		Long: `Ask after a pending request at the next opportunity.

One whose outcome is unknown, that was denied or that expired is taken for one
that never reached the CA: when the client asks again, it is submitted again. For
an unknown one do that only when you have seen on the CA that there is no
certificate for it.`,
		Args: cobra.ExactArgs(1),
	}, func(cmd *cobra.Command, s *app.RequestStore, args []string) error {
		r, err := s.Retry(cmd.Context(), args[0], time.Now())
		if err != nil {
			return err
		}
		fmt.Fprintf(cmd.OutOrStdout(), "%s is %s\n", r.ID, r.State)
		return nil
	})
}

func newRequestsAssignCmd() *cobra.Command {
	var reqID int
	cmd := withRequests(&cobra.Command{
		Use:   "assign [--config FILE] ID --req-id N",
		Short: "Say which number a request whose answer was lost has at the CA",
		Args:  cobra.ExactArgs(1),
	}, func(cmd *cobra.Command, s *app.RequestStore, args []string) error {
		if reqID < 1 {
			return usagef(cmd, "--req-id %d: the number stands on the CA under Issued Certificates", reqID)
		}
		r, err := s.Assign(cmd.Context(), args[0], reqID, time.Now())
		if err != nil {
			return err
		}
		fmt.Fprintf(cmd.OutOrStdout(), "%s has number %d; its certificate is fetched next\n", r.ID, r.ReqID)
		return nil
	})
	cmd.Flags().IntVar(&reqID, "req-id", 0, "`number` at the CA")
	_ = cmd.MarkFlagRequired("req-id")
	return cmd
}

func newRequestsForgetCmd() *cobra.Command {
	return withRequests(&cobra.Command{
		Use:   "forget [--config FILE] ID",
		Short: "Remove the record of a request; what the CA has of it stays there",
		Args:  cobra.ExactArgs(1),
	}, func(cmd *cobra.Command, s *app.RequestStore, args []string) error {
		r, err := s.Forget(cmd.Context(), args[0], time.Now())
		if err != nil {
			return err
		}
		fmt.Fprintf(cmd.OutOrStdout(), "%s (%s, %s) is forgotten\n", r.ID, r.Subject, r.State)
		return nil
	})
}
