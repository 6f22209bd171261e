package main

import (
	"strings"
	"text/tabwriter"

	"fmt"

	"github.com/spf13/cobra"

	"github.com/onlineca/onlineca/internal/app"
	"github.com/onlineca/onlineca/testenv/lab"
)

func newCertsrvCmd() *cobra.Command {
	var (
		o            lab.CertsrvOptions
		passwordFile string
		listFaults   bool
	)
	cmd := &cobra.Command{
		Use:   "certsrv",
		Short: "Run the mock IIS and AD CS alone",
		Long: `Run a mock of IIS with AD CS Web Enrollment, for a person with a browser, for
curl, or for a program in any language. NTLM is verified for real; certificates
come from a throw-away CA whose root says in its subject that it is not to be
trusted.

Without --password-file a password is made and shown. A browser asks for the
account; where it cannot speak NTLM to a host outside its zone, add the scheme
Basic (--scheme NTLM --scheme Basic).`,
		Example: `  onlineca certsrv --root-file root.pem
  curl --cacert root.pem --ntlm --user 'LAB\ciscora' https://localhost:8443/certsrv/
  onlineca certsrv --control 127.0.0.1:8444 --fault slow:12s@submit --epa require`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if listFaults {
				return printFaults(cmd)
			}
			if err := o.Check(); err != nil {
				return usagef(cmd, "%w", err)
			}
			if passwordFile != "" {
				var err error
				if o.Password, err = app.ReadPassword("--password-file", passwordFile); err != nil {
					return err
				}
			}
			o.Out = cmd.OutOrStdout()
			return lab.ServeCertsrv(cmd.Context(), o)
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.Listen, "listen", "127.0.0.1:8443", "`address` of the mock")
	f.StringVar(&o.Control, "control", "", "`address` of the control API; none by default")
	f.StringArrayVar(&o.Hostnames, "hostname", []string{"localhost", "127.0.0.1", "::1"}, "`name` in the IIS certificate, the first one in the address shown (may be repeated)")
	f.StringVar(&o.User, "user", `LAB\ciscora`, "the account, `DOMAIN\\name`")
	f.StringVar(&passwordFile, "password-file", "", "`file` with its password on one line")
	f.StringArrayVar(&o.Templates, "template", nil, "`name` of a further template like CiscoRA (may be repeated)")
	f.IntVar(&o.MinKeySize, "min-key-size", 0, "smallest RSA key, in `bits`, that the templates take; 0: 2048")
	f.StringArrayVar(&o.Faults, "fault", nil, "`fault[:parameter][@step][*times]` to begin with (may be repeated; see --faults)")
	f.BoolVar(&listFaults, "faults", false, "list the faults and end")
	f.StringVar(&o.Language, "language", "en", "language of the pages: en, de or fr")
	f.StringVar(&o.EPA, "epa", "off", "Extended Protection: off, accept or require")
	f.StringArrayVar(&o.Schemes, "scheme", []string{"Negotiate", "NTLM"}, "`scheme` that is offered: Negotiate, NTLM, Negotiate:Kerberos (which turns NTLM away) or Basic (may be repeated)")
	f.BoolVar(&o.RequireMIC, "require-mic", false, "refuse NTLM without a message integrity code")
	f.BoolVar(&o.SingleRequest, "auth-per-request", false, "forget who is on a connection after each request (authPersistSingleRequest)")
	f.BoolVar(&o.Anonymous, "anonymous", false, "let everybody in, unasked: a misconfiguration that exists")
	f.IntVar(&o.Lockout, "lockout", 0, "lock an account after so many failed logons in a row; 0: never")
	f.BoolVar(&o.Standalone, "standalone", false, "a stand-alone CA: no templates, and a manager approves each request")
	f.BoolVar(&o.SANAttribute, "san-attribute", false, "honour names in the request attribute SAN (EDITF_ATTRIBUTESUBJECTALTNAME2)")
	f.IntVar(&o.FirstReqID, "first-req-id", 1, "`number` of the first request")
	f.IntVar(&o.Renewals, "renewals", 0, "how often the CA's certificate has been renewed, 0 to 3")
	f.BoolVar(&o.HTTP2, "http2", false, "offer HTTP/2 and reset its streams, as IIS does where Windows authentication is needed")
	f.StringVar(&o.RootFile, "root-file", "", "`file` to write the root's certificate to")
	f.StringVar(&o.IISLog, "iis-log", "", "`file` for the IIS log")
	f.StringVar(&o.KeysDir, "write-keys", "", "`directory` to write the CA's keys to; never written otherwise")
	return cmd
}

// printFaults prints what --fault takes.
func printFaults(cmd *cobra.Command) error {
	w := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "FAULT\tAT\tEFFECT")
	for _, f := range lab.CertsrvFaults() {
		fmt.Fprintf(w, "%s\t%s\t%s\n", f.Name, strings.Join(f.Steps, ", "), f.Effect)
	}
	return w.Flush()
}
