package app

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"time"

	"github.com/mattn/go-isatty"
	"github.com/schollz/progressbar/v3"

	"github.com/onlineca/onlineca/capf"
	"github.com/onlineca/onlineca/capf/phone"
	"github.com/onlineca/onlineca/capf/wire"
)

// PhoneOptions is what `onlineca phone` was told.
type PhoneOptions struct {
	CAPF string   // HOST:3804
	CA   []string // PEM files: CAPF's certificate, or its CA's

	// Device is the name of one phone. NamePrefix and Count make many: the
	// prefix is filled up with a hexadecimal number to SEP and twelve digits.
	Device     string
	NamePrefix string
	Count      int
	Parallel   int

	// AuthString, LSC and MIC are the ways to authenticate; none is null string.
	AuthString string
	LSC, MIC   string // files with certificate and key, PEM
	// Key is the only kind of key the phone makes; empty: what CAPF asks for.
	Key string
	// KeyPool is how many different keys many phones share; 0: none, each phone
	// makes its own.
	KeyPool int

	Version   int
	NoEncrypt bool
	// Encrypt is the form of the exchange by which the phones sign requests.
	Encrypt   EncryptSettings
	Retries   int
	Out       string // directory for DEVICE.pem, certificate and key; empty: nowhere
	LegacyTLS bool
	// TLSKeys is a file to append the connections' TLS secrets to, in the form
	// that Wireshark reads; empty: nowhere.
	TLSKeys string

	// Progress shows how many phones are done, or why a single one tries again.
	Progress io.Writer
}

// Check returns an error that says what is wrong with the options. No file is
// read for it.
func (o *PhoneOptions) Check() error {
	if _, port, err := net.SplitHostPort(o.CAPF); err != nil || port == "" {
		return fmt.Errorf("--capf %q: HOST:PORT is wanted, and the port of CAPF is %d as a rule", o.CAPF, capf.Port)
	}
	if o.Key != "" {
		if _, err := wire.ParseKeySpec(o.Key); err != nil {
			return fmt.Errorf("--key: %w", err)
		}
	}
	if err := o.Encrypt.check(); err != nil {
		return fmt.Errorf("--encrypt-request, --encrypt-element: %w", err)
	}
	_, err := o.names()
	return err
}

// CostlyKeys tells whether so many keys take longer than everything else: RSA
// keys do.
func (o *PhoneOptions) CostlyKeys() bool {
	spec, err := wire.ParseKeySpec(o.Key)
	return err != nil || spec.Type == wire.RSA
}

// Phones has the phones of o call CAPF, and returns how they fared.
func Phones(ctx context.Context, o PhoneOptions) (sum phone.Summary, err error) {
	if err := o.Check(); err != nil {
		return phone.Summary{}, err
	}
	base, err := o.config()
	if err != nil {
		return phone.Summary{}, err
	}
	if o.TLSKeys != "" {
		f, openErr := os.OpenFile(o.TLSKeys, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
		if openErr != nil {
			return phone.Summary{}, fmt.Errorf("--tls-keys: %w", openErr)
		}
		defer func() { err = errors.Join(err, f.Close()) }()
		base.TLS = func(c *tls.Config) { c.KeyLogWriter = f }
	}
	names, err := o.names()
	if err != nil {
		return phone.Summary{}, err
	}
	if o.Out != "" {
		if err := os.MkdirAll(o.Out, 0o700); err != nil {
			return phone.Summary{}, fmt.Errorf("output directory: %w", err)
		}
	}
	if o.Progress != nil && len(names) == 1 {
		base.Retrying = func(err error, delay time.Duration) {
			fmt.Fprintf(o.Progress, "%s: %v; again in %v\n", names[0], err, delay)
		}
	}
	show := o.progress(len(names))
	return phone.Fleet{
		Count: len(names), Parallel: o.Parallel,
		Config: func(i int) phone.Config {
			c := base
			c.Device = names[i]
			return c
		},
		Observe: show,
	}.Run(ctx), nil
}

// config is what all phones have in common.
func (o *PhoneOptions) config() (phone.Config, error) {
	c := phone.Config{
		Server: o.CAPF, Version: uint8(o.Version), NoEncrypt: o.NoEncrypt, Dir: o.Out,
		Encrypt: o.Encrypt.style(), LegacyTLS: o.LegacyTLS, Retries: o.Retries,
		Auth: phone.Auth{String: o.AuthString},
	}
	if o.Retries == 0 {
		c.Retries = -1
	}
	certs, err := ReadCertificates("--ca", o.CA...)
	if err != nil {
		return c, err
	}
	c.Roots = x509.NewCertPool()
	for _, cert := range certs {
		c.Roots.AddCert(cert)
	}
	if o.Key != "" {
		if c.Key, err = wire.ParseKeySpec(o.Key); err != nil {
			return c, fmt.Errorf("--key: %w", err)
		}
	}
	if o.KeyPool > 0 {
		c.Keys = (&phone.Pool{Size: o.KeyPool}).Key
	}
	for flag, path := range map[string]string{"--lsc": o.LSC, "--mic": o.MIC} {
		if path == "" {
			continue
		}
		if c.Auth.Certificate, err = phone.LoadIdentity(path); err != nil {
			return c, fmt.Errorf("%s: %w", flag, err)
		}
	}
	return c, nil
}

// names are the phones' names: SEP and twelve hexadecimal digits.
func (o *PhoneOptions) names() ([]string, error) {
	if o.Count <= 1 && o.Device != "" {
		return []string{o.Device}, nil
	}
	const length = len("SEP001122334455")
	digits := length - len(o.NamePrefix)
	if digits < 1 || digits > 12 {
		return nil, fmt.Errorf("--name-prefix %q: between 3 and %d characters, the rest of the %d is a number", o.NamePrefix, length-1, length)
	}
	if err := capf.CheckDeviceName(o.NamePrefix); err != nil {
		return nil, fmt.Errorf("--name-prefix: %w", err)
	}
	if digits < 8 && o.Count > 1<<(4*digits) {
		return nil, fmt.Errorf("--name-prefix %q leaves room for %d names, and --count wants %d: use a shorter one", o.NamePrefix, 1<<(4*digits), o.Count)
	}
	names := make([]string, o.Count)
	for i := range names {
		names[i] = strings.ToUpper(fmt.Sprintf("%s%0*x", o.NamePrefix, digits, i))
	}
	return names, nil
}

// progress shows the phones that are done: a bar on a terminal, otherwise a
// line for each failure and for each tenth of the way.
func (o *PhoneOptions) progress(total int) func(out phone.Outcome, done, total int) {
	if o.Progress == nil || total == 1 {
		return nil
	}
	var bar *progressbar.ProgressBar
	if f, ok := o.Progress.(*os.File); ok && isatty.IsTerminal(f.Fd()) {
		bar = progressbar.NewOptions(total, progressbar.OptionSetWriter(f), progressbar.OptionSetDescription("phones"),
			progressbar.OptionShowCount(), progressbar.OptionFullWidth(), progressbar.OptionClearOnFinish(), progressbar.OptionThrottle(100*time.Millisecond))
	}
	step := max(total/10, 1)
	return func(out phone.Outcome, done, total int) {
		if out.Err != nil && !errors.Is(out.Err, context.Canceled) {
			if bar != nil {
				_ = bar.Clear()
			}
			fmt.Fprintf(o.Progress, "%s: %v\n", out.Device, out.Err)
		}
		switch {
		case bar != nil:
			_ = bar.Set(done)
		case done%step == 0 || done == total:
			fmt.Fprintf(o.Progress, "[%d/%d]\n", done, total)
		}
	}
}
