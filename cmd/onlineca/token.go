package main

import (
	"fmt"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/onlineca/onlineca/internal/app"
)

func newTokenCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "token",
		Short: "One-time passwords for devices that enrol for the first time",
		Args:  cobra.NoArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	var config, label string
	flags := func(c *cobra.Command) *cobra.Command {
		configFlag(c, &config)
		c.Flags().StringVar(&label, "label", "", "EST label that the password is for; default: the paths without a label")
		return c
	}
	cmd.AddCommand(
		flags(newTokenCreateCmd(&config, &label)),
		flags(newTokenListCmd(&config, &label)),
		flags(newTokenRevokeCmd(&config, &label)),
	)
	return cmd
}

func newTokenCreateCmd(config, label *string) *cobra.Command {
	var (
		device string
		ttl    time.Duration
	)
	cmd := &cobra.Command{
		Use:   "create [--config FILE] --device NAME [--ttl 24h]",
		Short: "Make a one-time password for a device, and show it this once",
		Long: `Make a one-time password for a device. The device gives it by HTTP Basic, with
its own name as the user name. It is good until it expires, and for the key that
it was first used with.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if ttl <= 0 {
				return usagef(cmd, "--ttl %v: must be positive", ttl)
			}
			tokens, err := app.Tokens(*config, *label)
			if err != nil {
				return err
			}
			password, err := tokens.Create(device, ttl)
			if err != nil {
				return err
			}
			fmt.Fprintln(cmd.OutOrStdout(), password)
			return nil
		},
	}
	cmd.Flags().StringVar(&device, "device", "", "the device's `name`")
	cmd.Flags().DurationVar(&ttl, "ttl", 24*time.Hour, "how long it is good")
	_ = cmd.MarkFlagRequired("device")
	return cmd
}

func newTokenListCmd(config, label *string) *cobra.Command {
	return &cobra.Command{
		Use:   "list [--config FILE]",
		Short: "List the one-time passwords by device; not the passwords themselves",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			tokens, err := app.Tokens(*config, *label)
			if err != nil {
				return err
			}
			all, err := tokens.List()
			if err != nil {
				return err
			}
			w := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 0, 2, ' ', 0)
			fmt.Fprintln(w, "DEVICE\tCREATED\tEXPIRES\tUSED")
			for _, t := range all {
				used := "-"
				if t.Used != nil {
					used = t.Used.UTC().Format(time.RFC3339)
				}
				fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", t.Device, t.Created.UTC().Format(time.RFC3339), t.Expires.UTC().Format(time.RFC3339), used)
			}
			return w.Flush()
		},
	}
}

func newTokenRevokeCmd(config, label *string) *cobra.Command {
	var device string
	cmd := &cobra.Command{
		Use:   "revoke [--config FILE] --device NAME",
		Short: "Take back every one-time password of a device",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			tokens, err := app.Tokens(*config, *label)
			if err != nil {
				return err
			}
			n, err := tokens.Revoke(device)
			if err != nil {
				return err
			}
			fmt.Fprintf(cmd.OutOrStdout(), "%d taken back\n", n)
			return nil
		},
	}
	cmd.Flags().StringVar(&device, "device", "", "the device's `name`")
	_ = cmd.MarkFlagRequired("device")
	return cmd
}
