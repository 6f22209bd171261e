package lab

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/onlineca/onlineca/capf"
	"github.com/onlineca/onlineca/capf/devices"
	"github.com/onlineca/onlineca/capf/phone"
	"github.com/onlineca/onlineca/capf/wire"
	"github.com/onlineca/onlineca/internal/app"
	"github.com/onlineca/onlineca/ra/fault"
)

// sessions is CAPF towards phones, with its device table.
type sessions struct {
	addr    string
	cert    tls.Certificate
	table   *devices.Table
	serving *errgroup.Group
	cancel  context.CancelFunc
}

// startCAPF brings up CAPF in front of the registration authority, and adds the
// phones to its table: each is to install a certificate.
func (s *servers) startCAPF(ctx context.Context, c Config) (_ *sessions, err error) {
	p := &sessions{serving: new(errgroup.Group)}
	if p.table, err = devices.Open(ctx, filepath.Join(c.Out, stateDir, "devices.db")); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, p.table.Close())
		}
	}()
	if err := addPhones(ctx, p.table, c); err != nil {
		return nil, err
	}
	if p.cert, err = capf.GenerateServerCertificate(pkix.Name{}, nil, time.Now()); err != nil {
		return nil, err
	}
	settings := s.settings
	settings.CAPF.MaxPerAddress = -1
	server, err := app.NewCAPF(ctx, settings, app.CAPFParts{
		Certificate: p.cert, Devices: p.table, EST: s.estConfig(), Anchors: s.anchors(), LSCTrust: s.anchors(), Log: s.log,
	})
	if err != nil {
		return nil, err
	}
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("lab: %w", err)
	}
	p.addr = l.Addr().String()
	serveCtx, cancel := context.WithCancel(ctx)
	p.cancel = cancel
	p.serving.Go(func() error { return server.Serve(serveCtx, l) })
	return p, nil
}

// stop ends CAPF and closes its table.
func (p *sessions) stop() error {
	p.cancel()
	return errors.Join(p.serving.Wait(), p.table.Close())
}

// addPhones adds the lab's phones to the device table.
func addPhones(ctx context.Context, table *devices.Table, c Config) error {
	spec, err := c.key()
	if err != nil {
		return fmt.Errorf("lab: %w", err)
	}
	all := make([]capf.Device, c.Phones)
	for i := range all {
		d := capf.NewDevice(deviceName(i))
		d.Signing = capf.SigningEncrypt
		if err := setKey(&d, spec); err != nil {
			return err
		}
		d.Schedule(capf.OperationUpgrade, time.Time{})
		all[i] = d
	}
	return table.Add(ctx, all...)
}

// setKey has a device make keys of a kind.
func setKey(d *capf.Device, spec wire.KeySpec) (err error) {
	if spec.Type == wire.RSA {
		d.KeySize, err = capf.ParseKeySize(fmt.Sprint(spec.Bits))
		return err
	}
	d.KeyOrder = capf.ECOnly
	d.ECKeySize = map[string]int{"p256": 256, "p384": 384, "p521": 521}[spec.String()]
	return nil
}

// callIn has every phone contact CAPF, and writes what each one got.
func (p *sessions) callIn(ctx context.Context, c Config) capf.Summary {
	roots := x509.NewCertPool()
	leaf, err := x509.ParseCertificate(p.cert.Certificate[0])
	if err == nil {
		roots.AddCert(leaf)
	}
	sum := capf.Summary{Results: make([]capf.JobResult, c.Phones)}
	progress := capf.NewProgress(c.Progress, c.Phones)
	start := time.Now()
	phone.Fleet{
		Count: c.Phones, Parallel: c.Workers,
		Config: func(i int) phone.Config {
			return phone.Config{Server: p.addr, Roots: roots, Device: deviceName(i)}
		},
		Observe: func(o phone.Outcome, done, total int) {
			r := p.result(ctx, c, o)
			sum.Results[o.Number] = r
			switch r.Outcome {
			case capf.OutcomeIssued:
				sum.Issued++
			case capf.OutcomeCanceled:
				sum.Canceled++
			default:
				sum.Failed++
			}
			progress.Done(r, done, total)
		},
	}.Run(ctx)
	sum.Took = time.Since(start)
	return sum
}

// result is what became of one phone, with CAPF's reason where it failed.
func (p *sessions) result(ctx context.Context, c Config, o phone.Outcome) capf.JobResult {
	r := capf.JobResult{
		Device: o.Device, Outcome: capf.OutcomeIssued, Took: o.Result.Duration,
		Path: filepath.Join(c.Out, lscDir, o.Device+".der"),
	}
	err := o.Err
	if err == nil {
		r.Certificate, err = x509.ParseCertificate(o.Result.Certificate)
	}
	if err == nil {
		err = capf.WriteLSC(r.Path, o.Result.Certificate)
	}
	if err == nil {
		return r
	}
	r.Outcome, r.Err, r.Code = capf.OutcomeFailed, err, fault.Of(err).Code
	if ctx.Err() != nil {
		r.Outcome = capf.OutcomeCanceled
		return r
	}
	// The phone only hears that it was declined; CAPF knows why.
	if d, tableErr := p.table.Device(ctx, o.Device); tableErr == nil && d.Reason != "" {
		r.Err = fmt.Errorf("%w; CAPF: %s", err, d.Reason)
		if code, ok := fault.Lookup(d.Code); ok {
			r.Code = code
		}
	}
	return r
}
