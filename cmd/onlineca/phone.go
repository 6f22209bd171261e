package main

import (
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/onlineca/onlineca/internal/app"
)

// A fleet of this many phones with RSA keys would spend minutes on making keys.
const manyPhones = 1000

func newPhoneCmd() *cobra.Command {
	var (
		o        app.PhoneOptions
		authFile string
		null     bool
	)
	cmd := &cobra.Command{
		Use:   "phone --capf HOST:3804 --ca FILE [--auth-string STRING | --null | --lsc FILE | --mic FILE]",
		Short: "Simulate phones towards a CAPF",
		Long: `Simulate phones: each calls CAPF and does what it is told, as a phone does:
generate a key, sign the request, store the certificate, show it or delete it.
The CAPF may be this program's, another's or a CUCM's; how a phone signs a
request is unverified against hardware (see docs/capf.md).

With --count there are many phones at once, named PREFIX and a number. CAPF lets
no more than 64 in from one address, unless max_per_address in its settings says
otherwise. A fleet of 1000 or more shares 16 keys unless --key says EC, or
--key-pool otherwise: making RSA keys would cost more than everything else. That
is said when it happens.

Exit status: 0 every phone's session ended well, 1 some did not, 2 usage.`,
		Example: `  onlineca phone --capf localhost:3804 --ca capf.pem --auth-string 123456 --out .
  onlineca phone --capf localhost:3804 --ca capf.pem --null --count 2000 --key p256`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if authFile != "" {
				var err error
				if o.AuthString, err = app.ReadPassword("--auth-string-file", authFile); err != nil {
					return err
				}
			}
			if o.Count < 1 || o.Parallel < 0 || o.KeyPool < 0 || o.Retries < 0 {
				return usagef(cmd, "--count must be at least 1; --parallel, --key-pool and --retries may not be negative")
			}
			if o.Version != 2 && o.Version != 3 {
				return usagef(cmd, "--version %d: 2 or 3", o.Version)
			}
			if err := o.Check(); err != nil {
				return usagef(cmd, "%w", err)
			}
			if o.Count >= manyPhones && o.CostlyKeys() && !cmd.Flags().Changed("key-pool") {
				o.KeyPool = 16
			}
			if o.KeyPool > 0 {
				fmt.Fprintf(cmd.ErrOrStderr(), "onlineca: warning: the phones share %d keys; their certificates are good for nothing but a test\n", o.KeyPool)
			}
			o.Progress = cmd.ErrOrStderr()
			sum, err := app.Phones(cmd.Context(), o)
			if err != nil {
				return err
			}
			if err := sum.WriteText(cmd.OutOrStdout()); err != nil {
				return fmt.Errorf("write the summary: %w", err)
			}
			switch {
			case cmd.Context().Err() != nil:
				return fmt.Errorf("interrupted: %w", cmd.Context().Err())
			case sum.Failed > 0:
				return failed{exitFailed}
			}
			return nil
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.CAPF, "capf", "", "CAPF, `HOST:PORT`")
	f.StringArrayVar(&o.CA, "ca", nil, "PEM `file` with CAPF's certificate or its CA's (may be repeated)")
	f.StringVar(&o.AuthString, "auth-string", "", "authentication `string`, as a user types it")
	f.StringVar(&authFile, "auth-string-file", "", "`file` with the authentication string")
	f.BoolVar(&null, "null", false, "authenticate by null string (the default)")
	f.StringVar(&o.LSC, "lsc", "", "authenticate by this LSC: `file` with certificate and key, PEM")
	f.StringVar(&o.MIC, "mic", "", "authenticate by this MIC: `file` with certificate and key, PEM")
	f.StringVar(&o.Key, "key", "", "the only `kind` of key the phone makes: rsa1024 to rsa4096, p256, p384, p521; default: what CAPF asks for")
	f.StringVar(&o.Device, "device", "SEP001122334455", "the phone's `name`")
	f.StringVar(&o.NamePrefix, "name-prefix", "SEP00112233", "beginning of the `names` of many phones")
	f.IntVar(&o.Count, "count", 1, "how many phones")
	f.IntVar(&o.Parallel, "parallel", 0, "how many at once; 0: all")
	f.IntVar(&o.KeyPool, "key-pool", 0, "how many different keys the phones share; 0: each has its own")
	f.IntVar(&o.Version, "version", 3, "version of the CAPF protocol, 2 or 3")
	f.BoolVar(&o.NoEncrypt, "no-encrypt", false, "a phone that cannot sign a request, such as Jabber")
	f.IntVar(&o.Encrypt.Request, "encrypt-request", 6, "`command` by which CAPF asks for a signature: 5, 6 or 22; as capf.encrypt of its settings")
	f.IntVar(&o.Encrypt.Element, "encrypt-element", 6, "`element` that carries it: 6, 14 or 15")
	f.BoolVar(&o.Encrypt.Bare, "encrypt-bare", false, "the hash alone is sent: the phone puts the DigestInfo around it")
	f.IntVar(&o.Retries, "retries", 3, fmt.Sprintf("how often a phone tries again, %v apart", 30*time.Second))
	f.BoolVar(&o.LegacyTLS, "legacy-tls", false, "TLS 1.0 and RSA key exchange, as 7900 series phones")
	f.StringVar(&o.TLSKeys, "tls-keys", "", "`file` to append the TLS secrets to, for Wireshark")
	f.StringVar(&o.Out, "out", "", "`directory` for DEVICE.pem, certificate and key")
	cmd.MarkFlagsMutuallyExclusive("auth-string", "auth-string-file", "null", "lsc", "mic")
	for _, name := range []string{"capf", "ca"} {
		_ = cmd.MarkFlagRequired(name)
	}
	return cmd
}
