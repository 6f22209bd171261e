package lab

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"

	"github.com/moby/sys/atomicwriter"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/onlineca/onlineca/internal/zaplog"
	"github.com/onlineca/onlineca/testenv"
)

// CertsrvOptions is what `onlineca certsrv` was told.
type CertsrvOptions struct {
	Listen, Control string   // addresses; an empty Control means no control API
	Hostnames       []string // in the IIS certificate
	User            string   // DOMAIN\name
	Password        string   // empty: one is made and shown
	Templates       []string // names of further templates like CiscoRA
	MinKeySize      int      // smallest RSA key that templates take; 0: 2048
	Faults          []string // "name[:parameter][@step][*times]"
	Language        string
	EPA             string
	Schemes         []string
	RequireMIC      bool
	SingleRequest   bool // see testenv.Config.AuthPersistSingleRequest
	Anonymous       bool // see testenv.Config.AnonymousAllowed
	Lockout         int  // failed logons in a row that lock an account; 0: never
	Standalone      bool // no templates, and each request waits for a manager
	SANAttribute    bool
	FirstReqID      int // 0 means 1
	Renewals        int
	RootFile        string // where the root's certificate is written
	IISLog          string // where the IIS log is written; empty: nowhere
	KeysDir         string // where keys are written; empty: nowhere
	HTTP2           bool
	Out             io.Writer

	made bool // the password was made here, and must be shown
}

// Check says what is wrong with the options that are words and numbers.
func (o *CertsrvOptions) Check() error {
	oneOf := func(flag, value string, known ...string) error {
		if slices.Contains(known, value) {
			return nil
		}
		return fmt.Errorf("--%s %q: one of %s", flag, value, strings.Join(known, ", "))
	}
	errs := []error{
		oneOf("language", o.Language, string(testenv.English), string(testenv.German), string(testenv.French)),
		oneOf("epa", o.EPA, string(testenv.EPAOff), string(testenv.EPAAccept), string(testenv.EPARequire)),
	}
	for _, s := range o.Schemes {
		errs = append(errs, oneOf("scheme", s, string(testenv.SchemeNegotiate), string(testenv.SchemeNTLM),
			string(testenv.SchemeKerberos), string(testenv.SchemeBasic)))
	}
	if o.Renewals < 0 || o.Renewals > testenv.MaxRenewals {
		errs = append(errs, fmt.Errorf("--renewals %d: between 0 and %d", o.Renewals, testenv.MaxRenewals))
	}
	if o.Lockout < 0 {
		errs = append(errs, fmt.Errorf("--lockout %d: 0 or more", o.Lockout))
	}
	if o.FirstReqID < 0 {
		errs = append(errs, fmt.Errorf("--first-req-id %d: 1 or more", o.FirstReqID))
	}
	if o.Standalone && len(o.Templates) > 0 {
		errs = append(errs, errors.New("--template: a stand-alone CA (--standalone) has none"))
	}
	if o.MinKeySize != 0 && (o.MinKeySize < shortKey || o.MinKeySize > longKey) {
		errs = append(errs, fmt.Errorf("--min-key-size %d: between %d and %d bits", o.MinKeySize, shortKey, longKey))
	}
	if o.Standalone && o.MinKeySize != 0 {
		errs = append(errs, errors.New("--min-key-size: a stand-alone CA (--standalone) has no templates, and takes keys of 1024 bits"))
	}
	if domain, name, ok := strings.Cut(o.User, `\`); !ok || domain == "" || name == "" {
		errs = append(errs, fmt.Errorf(`--user %q: the form is DOMAIN\name`, o.User))
	}
	return errors.Join(errs...)
}

// ServeCertsrv runs the mock alone until ctx ends.
func ServeCertsrv(ctx context.Context, o CertsrvOptions) (err error) {
	if err := o.Check(); err != nil {
		return err
	}
	c := o.config()
	if o.IISLog != "" {
		w, closeLog, err := zap.Open(o.IISLog)
		if err != nil {
			return fmt.Errorf("certsrv: open the IIS log: %w", err)
		}
		defer closeLog()
		c.Log = zap.New(zaplog.IIS(zapcore.Lock(w)))
	}
	if c.Listener, err = (&net.ListenConfig{}).Listen(ctx, "tcp", o.Listen); err != nil {
		return fmt.Errorf("certsrv: listen: %w", err)
	}
	alone := testenv.Alone{Config: c, Faults: o.Faults}
	if o.Control != "" {
		if alone.Control, err = (&net.ListenConfig{}).Listen(ctx, "tcp", o.Control); err != nil {
			return errors.Join(fmt.Errorf("certsrv: listen for the control API: %w", err), c.Listener.Close())
		}
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	alone.Ready = func(s *testenv.Certsrv) {
		if err := o.announce(s, c.Accounts[0], alone.Control); err != nil {
			cancel(err)
		}
	}
	if err := testenv.ServeAlone(ctx, alone); err != nil {
		return err
	}
	if cause := context.Cause(ctx); !errors.Is(cause, context.Canceled) {
		return cause
	}
	return nil
}

// config says what the mock is like.
func (o *CertsrvOptions) config() testenv.Config {
	domain, name, _ := strings.Cut(o.User, `\`)
	if o.Password == "" {
		o.Password, o.made = "Mock-"+rand.Text(), true
	}
	c := testenv.Config{
		Hostnames: o.Hostnames, Domain: domain,
		Accounts: []testenv.Account{{Domain: domain, Name: name, Password: o.Password}},
		Language: testenv.Language(o.Language), EPA: testenv.EPA(o.EPA),
		Renewals: o.Renewals, HTTP2: o.HTTP2,
		RequireMIC: o.RequireMIC, AuthPersistSingleRequest: o.SingleRequest, AnonymousAllowed: o.Anonymous,
		LockoutThreshold: o.Lockout, Standalone: o.Standalone, SANAttribute: o.SANAttribute, FirstReqID: o.FirstReqID,
	}
	if !o.Standalone {
		c.Templates = testenv.DefaultTemplates()
	}
	for _, s := range o.Schemes {
		c.Schemes = append(c.Schemes, testenv.Scheme(s))
	}
	for _, name := range o.Templates {
		c.Templates = append(c.Templates, phoneTemplate(name))
	}
	setMinKeySize(c.Templates, o.MinKeySize)
	return c
}

// phoneTemplate is a template like CiscoRA by another name.
func phoneTemplate(name string) testenv.Template {
	for _, t := range testenv.DefaultTemplates() {
		if t.Name == labTemplate {
			t.Name, t.DisplayName = name, name
			return t
		}
	}
	return testenv.Template{Name: name, DisplayName: name}
}

// announce writes the files that were asked for and says how to use the mock.
func (o *CertsrvOptions) announce(s *testenv.Certsrv, a testenv.Account, control net.Listener) error {
	if o.RootFile != "" {
		if err := atomicwriter.WriteFile(o.RootFile, s.RootPEM(), 0o644); err != nil {
			return fmt.Errorf("certsrv: write the root's certificate: %w", err)
		}
	}
	if o.KeysDir != "" {
		if err := s.PKI.WriteKeys(o.KeysDir); err != nil {
			return fmt.Errorf("certsrv: write the keys: %w", err)
		}
	}
	fmt.Fprintf(o.Out, "certsrv   %s/certsrv/\n", s.URL)
	fmt.Fprintf(o.Out, "account   %s\\%s", a.Domain, a.Name)
	if o.made {
		fmt.Fprintf(o.Out, ", password %s", a.Password)
	}
	fmt.Fprintf(o.Out, "\nroot      %s\n", s.Root.Subject.CommonName)
	if o.RootFile != "" {
		fmt.Fprintf(o.Out, "          in %s\n", o.RootFile)
	}
	if control != nil {
		fmt.Fprintf(o.Out, "control   http://%s/control/\n", control.Addr())
	}
	for _, f := range o.Faults {
		fmt.Fprintf(o.Out, "fault     %s\n", f)
	}
	fmt.Fprintln(o.Out, "\nIt stays up until Ctrl-C.")
	return nil
}

// CertsrvFault describes a fault of the mock.
type CertsrvFault struct {
	Name   string   // with its parameter, if it takes one
	Steps  []string // where it can happen, the default first
	Effect string
}

// CertsrvFaults lists the faults of the mock.
func CertsrvFaults() []CertsrvFault {
	docs := testenv.Faults()
	all := make([]CertsrvFault, len(docs))
	for i, d := range docs {
		all[i] = CertsrvFault{Name: d.Name, Effect: d.Effect}
		if d.Parameter != "" {
			all[i].Name += ":" + d.Parameter
		}
		for _, s := range d.Steps {
			all[i].Steps = append(all[i].Steps, string(s))
		}
	}
	return all
}
