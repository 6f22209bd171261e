package app

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"strconv"
	"time"

	"github.com/onlineca/onlineca/capf"
)

// EnrollOptions is what `onlineca enroll` was told.
type EnrollOptions struct {
	Server string   // https://HOST:8084, with a label's path if there is one
	Label  string   // EST label, empty for none
	CA     []string // PEM files to verify the server with; none means the system's
	// Username and PasswordFile answer the server's Basic challenge.
	Username     string
	PasswordFile string
	// Certificate and Key are the TLS client certificate, PEM files.
	Certificate string
	Key         string

	Out     string   // directory for the certificates and logs
	Paths   []string // requests, or directories of them
	Workers int
	Again   bool
	Timeout time.Duration
	// Wait is how long a device may wait for a request that is pending.
	Wait time.Duration
	// Progress is where it is shown how the batch goes; nil for nowhere.
	Progress io.Writer
}

// Enroll enrols the devices of o, as CAPF does, and leaves DEVICE.der and the
// logs in the output directory.
func Enroll(ctx context.Context, o EnrollOptions) (capf.Summary, error) {
	cfg, err := o.client()
	if err != nil {
		return capf.Summary{}, err
	}
	jobs, err := capf.ReadJobs(o.Paths)
	if err != nil {
		return capf.Summary{}, err
	}
	client, err := capf.NewESTClient(cfg)
	if err != nil {
		return capf.Summary{}, err
	}
	if err := os.MkdirAll(o.Out, 0o750); err != nil {
		return capf.Summary{}, fmt.Errorf("output directory: %w", err)
	}
	log, closeLogs, err := capfLogs(o.Out)
	if err != nil {
		return capf.Summary{}, err
	}
	defer closeLogs()
	enroller, err := capf.NewEnroller(capf.EnrollerConfig{Client: client, Logger: log})
	if err != nil {
		return capf.Summary{}, err
	}
	enroller.Start(ctx, o.service())
	batch := capf.BatchConfig{Enroller: enroller, Out: o.Out, Workers: o.Workers, Again: o.Again}
	if o.Progress != nil {
		batch.Observer = capf.NewProgress(o.Progress, len(jobs))
	}
	return capf.RunBatch(ctx, batch, jobs)
}

// client reads what the options name.
func (o *EnrollOptions) client() (capf.ESTConfig, error) {
	cfg := capf.ESTConfig{Server: o.Server, Label: o.Label, Username: o.Username, Timeout: o.Timeout, RetryWait: o.Wait}
	var errs []error
	if len(o.CA) > 0 {
		certs, err := ReadCertificates("--ca", o.CA...)
		cfg.Roots = pool(certs)
		errs = append(errs, err)
	}
	if o.PasswordFile != "" {
		var err error
		cfg.Password, err = ReadPassword("--password-file", o.PasswordFile)
		errs = append(errs, err)
	}
	if o.Certificate != "" {
		var pair tls.Certificate
		pair, err := readKeyPair("--cert", o.Certificate, o.Key)
		cfg.Certificate = &pair
		errs = append(errs, err)
	}
	return cfg, errors.Join(errs...)
}

// service is what the trace notes of the start. An EST client knows nothing of
// the CA behind its server, so it is the server that stands there.
func (o *EnrollOptions) service() capf.Service {
	s := capf.Service{Port: 443, Template: o.Label}
	if u, err := url.Parse(o.Server); err == nil {
		s.Host = u.Hostname()
		if n, err := strconv.Atoi(u.Port()); err == nil {
			s.Port = n
		}
	}
	for _, path := range o.CA {
		if info, err := os.Stat(path); err == nil {
			s.CACertLength += int(info.Size())
		}
	}
	return s
}
