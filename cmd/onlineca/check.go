package main

import (
	"strings"

	"github.com/spf13/cobra"

	"github.com/onlineca/onlineca/internal/chain"
)

// unreadable is an input about which no appliance has a verdict.
type unreadable struct{ error }

func (u unreadable) Unwrap() error { return u.error }

// ExitCode returns 2.
func (unreadable) ExitCode() int { return exitUsage }

const checkLong = `Say whether an appliance would accept a certificate chain, in the appliance's
own words, before it is uploaded.

FILE may be PEM (one certificate or many, in any order, with text around), DER,
PKCS#7 or PKCS#12; several files make up one chain, and - is standard input.
Revocation is not checked.

Exit status: 0 the appliance would take it, 1 it would not, 2 usage, or input
that cannot be read and that no appliance has a verdict on.

Appliances (--for):
`

func newCheckCmd() *cobra.Command {
	var r chain.Request
	var profile string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "check --for APPLIANCE [FILE...]",
		Short: "Would this appliance accept this certificate chain?",
		Long:  checkLong + profileList(),
		Example: `  onlineca check --for ome-upload --csr ome.csr chain.pem
  onlineca check --for ome-upload --trust ca.pem --fix fixed.pem leaf.cer
  onlineca check --for expressway --trust root.pem --trust inter.pem exp.pem
  onlineca check --for cucm-iis --trust capf-trust.pem --connect ca.example.com:443`,
		RunE: func(cmd *cobra.Command, args []string) error {
			r.Profile, r.Files, r.Stdin = chain.Profile(profile), args, cmd.InOrStdin()
			v, err := r.Run(cmd.Context())
			if v != nil {
				write := v.WriteText
				if asJSON {
					write = v.WriteJSON
				}
				if werr := write(cmd.OutOrStdout()); werr != nil {
					return werr
				}
			}
			switch {
			case err != nil && cmd.Context().Err() != nil:
				return err
			case err != nil:
				return unreadable{err}
			case !v.Accepted:
				return failed{exitFailed}
			}
			return nil
		},
	}
	f := cmd.Flags()
	f.StringVar(&profile, "for", "", "the `APPLIANCE`: "+profileNames())
	f.StringVar(&r.CSR, "csr", "", "a `FILE` with the appliance's own certificate request (ome-*)")
	f.StringArrayVar(&r.Trust, "trust", nil, "a `FILE` of the trust store; may be repeated")
	f.StringArrayVar(&r.Peer, "peer", nil, "a `FILE` of the other side: target, Expressway-E; may be repeated")
	f.StringArrayVar(&r.PeerTrust, "peer-trust", nil, "a `FILE` of the other side's trust store (default: --trust); may be repeated")
	f.StringArrayVar(&r.PeerAddress, "peer-address", nil, "the peer address of the Expressway-C's zone, a `NAME`; may be repeated")
	f.StringVar(&r.VerifyName, "verify-name", "", "the `NAME` to find in the certificate: TLS verify name, host, domain, device")
	f.StringSliceVar(&r.EKU, "eku", nil, "extended key usages that an LSC must have: clientAuth,serverAuth")
	f.StringVar(&r.At, "at", "", "check for this `TIME` and not for now: 2026-01-31, or RFC 3339")
	f.StringVar(&r.PasswordFile, "password-file", "", "a `FILE` with the password of a PKCS#12 file")
	f.StringVar(&r.Connect, "connect", "", "take the chain from a TLS server, `HOST:PORT`")
	f.StringVar(&r.Fix, "fix", "", "write the repaired chain to `FILE`")
	f.BoolVar(&asJSON, "json", false, "write the verdict as JSON (docs/check-schema.md)")
	_ = cmd.MarkFlagRequired("for")
	return cmd
}

func profileNames() string {
	var names []string
	for _, p := range chain.Profiles() {
		names = append(names, string(p))
	}
	return strings.Join(names, ", ")
}

func profileList() string {
	var b strings.Builder
	for _, p := range chain.Profiles() {
		b.WriteString("  " + string(p) + "\n      " + p.Title() + ".\n      Give it " + p.Wants() + ".\n")
	}
	return strings.TrimRight(b.String(), "\n")
}
