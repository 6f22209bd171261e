package main

import (
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"
)

const rootLong = `onlineca is the CAPF Online CA chain without a CUCM.

  phone ──CAPF──▶ capf ──EST──▶ registration authority ──NTLM──▶ AD CS /certsrv

Try it, everything embedded:        onlineca lab
In front of a real AD CS:           onlineca serve --config onlineca.yaml`

func newRootCmd() *cobra.Command {
	root := &cobra.Command{
		Use:           "onlineca",
		Short:         "The CAPF Online CA chain: phones enrol through EST and AD CS Web Enrollment",
		Long:          rootLong,
		SilenceErrors: true,
		SilenceUsage:  true,
		Args:          cobra.NoArgs,
		RunE:          func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error { return usagef(cmd, "%w", err) })
	root.AddCommand(
		newConfigCmd(),
		newLabCmd(),
		newReproduceCmd(),
		newCrashCmd(),
		newServeCmd(),
		newEnrollCmd(),
		newCertsrvCmd(),
		newCheckCmd(),
		newDiagnoseCmd(),
		newDoctorCmd(),
		newHealthcheckCmd(),
		newRequestsCmd(),
		newTokenCmd(),
		newPhoneCmd(),
		newDeviceCmd(),
		newCAPFCmd(),
		newStaleLSCCmd(),
		newVersionCmd(),
	)
	wrapArgs(root)
	return root
}

// wrapArgs makes every command's complaint about its arguments, and about flags
// that are missing or exclude each other, a usage error.
func wrapArgs(cmd *cobra.Command) {
	check := cmd.Args
	if check == nil {
		check = cobra.ArbitraryArgs
	}
	cmd.Args = func(cmd *cobra.Command, args []string) error {
		err := check(cmd, args)
		if err == nil {
			err = cmd.ValidateRequiredFlags()
		}
		if err == nil {
			err = cmd.ValidateFlagGroups()
		}
		if err != nil {
			return usagef(cmd, "%w", err)
		}
		return nil
	}
	for _, sub := range cmd.Commands() {
		wrapArgs(sub)
	}
}

// version is set when a release is built: -ldflags "-X main.version=v1.2.3".
var version string

func newVersionCmd() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print the version",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			fmt.Fprintf(cmd.OutOrStdout(), "onlineca %s (%s, %s/%s)\n", versionText(), runtime.Version(), runtime.GOOS, runtime.GOARCH)
			return nil
		},
	}
}

// versionText is the release, or what the build knows of its commit.
func versionText() string {
	if version != "" {
		return version
	}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	if v := info.Main.Version; v != "" && v != "(devel)" {
		return v
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" && len(s.Value) >= 12 {
			return "devel-" + s.Value[:12]
		}
	}
	return "devel"
}
