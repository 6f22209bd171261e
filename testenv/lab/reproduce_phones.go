package lab

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"
	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"github.com/onlineca/onlineca/capf"
	"github.com/onlineca/onlineca/capf/phone"
	"github.com/onlineca/onlineca/capf/wire"
	"github.com/onlineca/onlineca/ra/event"
	"github.com/onlineca/onlineca/ra/fault"
)

// deviceTable is a device table in memory.
type deviceTable struct {
	mu   sync.Mutex
	rows map[string]capf.Device
}

// Device returns the row of a device.
func (t *deviceTable) Device(_ context.Context, name string) (capf.Device, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	d, ok := t.rows[strings.ToLower(name)]
	if !ok {
		return d, capf.ErrNoDevice
	}
	return d, nil
}

// Update changes the row of a device.
func (t *deviceTable) Update(_ context.Context, name string, change func(*capf.Device) error) (capf.Device, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	d, ok := t.rows[strings.ToLower(name)]
	if !ok {
		return d, capf.ErrNoDevice
	}
	if err := change(&d); err != nil {
		return d, err
	}
	t.rows[strings.ToLower(name)] = d
	return d, nil
}

// keyring keeps the keys of the phones for as long as the process runs: a
// scenario is about what becomes of a request, and making RSA keys would take
// longer than all the rest. Every device has a key of its own.
type keyring struct {
	mu   sync.Mutex
	keys map[string]crypto.Signer
}

var labKeys = keyring{keys: map[string]crypto.Signer{}}

func (k *keyring) of(device string) phone.KeySource {
	return func(ctx context.Context, spec wire.KeySpec) (crypto.Signer, error) {
		id := device + " " + spec.String()
		k.mu.Lock()
		defer k.mu.Unlock()
		if key, ok := k.keys[id]; ok {
			return key, nil
		}
		key, err := phone.Generate(ctx, spec)
		if err != nil {
			return nil, fmt.Errorf("lab: make the key of %s: %w", device, err)
		}
		k.keys[id] = key
		return key, nil
	}
}

// prepareKeys makes the keys of n phones that are not there yet.
func (k *keyring) prepare(ctx context.Context, n int) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(4)
	for i := range n {
		g.Go(func() error {
			id := deviceName(i) + " " + rsa2048.String()
			k.mu.Lock()
			_, ok := k.keys[id]
			k.mu.Unlock()
			if ok || ctx.Err() != nil {
				return ctx.Err()
			}
			key, err := rsa.GenerateKey(rand.Reader, rsa2048.Bits)
			if err != nil {
				return fmt.Errorf("lab: make the key of %s: %w", deviceName(i), err)
			}
			k.mu.Lock()
			defer k.mu.Unlock()
			k.keys[id] = key
			return nil
		})
	}
	return g.Wait()
}

// rsa2048 is what a device of the table makes by default.
var rsa2048 = wire.KeySpec{Type: wire.RSA, Bits: 2048}

// message is one that a phone sent or got.
type message struct {
	at     time.Time
	device string
	sent   bool
	name   string
}

// cast is CAPF with its phones.
type cast struct {
	stage    *stage
	log      *zap.Logger
	enroller *capf.Enroller
	table    *deviceTable
	dir      string // for the phones' certificates

	mu       sync.Mutex
	messages []message
}

// enrol has n phones come to CAPF.
func (s *servers) enrol(ctx context.Context, st *stage, n int, dir string) (*cast, error) {
	client, err := capf.NewESTClient(s.estConfig())
	if err != nil {
		return nil, fmt.Errorf("lab: %w", err)
	}
	cfg := capf.EnrollerConfig{Client: client, Logger: s.log, Anchors: capf.AnchorsOf(s.anchors()), Socket: 10}
	apply(&st.enroller, &cfg)
	enroller, err := capf.NewEnroller(cfg)
	if err != nil {
		return nil, fmt.Errorf("lab: %w", err)
	}
	host := st.host
	if host == "" {
		host = "localhost"
	}
	enroller.Start(ctx, capf.Service{Host: host, Port: s.certsrvPort(), Template: s.settings.Certsrv.Template, CACertLength: len(s.certsrv.PKI.ChainPEM())})
	c := &cast{stage: st, log: s.log, enroller: enroller, dir: dir, table: &deviceTable{rows: map[string]capf.Device{}}}
	for i := range n {
		d := capf.NewDevice(deviceName(i))
		d.Signing = capf.SigningEncrypt
		d.Schedule(capf.OperationUpgrade, time.Time{})
		apply(&st.device, &d)
		c.table.rows[strings.ToLower(d.Name)] = d
	}
	if st.request != nil {
		return c, c.byRequest(ctx, n)
	}
	return c, c.byPhone(ctx, n)
}

// byRequest gives CAPF a request for each device, without a phone.
func (c *cast) byRequest(ctx context.Context, n int) error {
	for i := range n {
		name := deviceName(i)
		csr, err := c.stage.request(name)
		if err != nil {
			return err
		}
		id := event.WithID(ctx, uuid.NewString())
		_, err = c.enroller.EnrollCSR(id, name, i+1, csr)
		_, _ = c.table.Update(ctx, name, func(d *capf.Device) error {
			f := fault.Of(err)
			if f == nil {
				return errors.New("no failure")
			}
			d.Operation, d.Reason, d.Code = capf.OperationNone, err.Error(), f.Code.String()
			d.Status = capf.StatusOf(capf.OperationUpgrade, capf.OpCode(f.Code.Row().Operation))
			return nil
		})
	}
	return nil
}

// byPhone starts CAPF and lets the phones come.
func (c *cast) byPhone(ctx context.Context, n int) error {
	cert, err := capfCertificate()
	if err != nil {
		return err
	}
	cfg := capf.ServerConfig{
		Certificate: cert, Devices: c.table, Online: c.enroller, Logger: c.log, MaxPerAddress: -1, OneAttempt: true,
	}
	apply(&c.stage.server, &cfg)
	if err := capf.CheckServerCertificate(cfg.Certificate.Leaf, time.Now()); err != nil {
		c.log.Warn("phones will not accept CAPF's certificate", zap.String("code", fault.Of(err).Code.String()), zap.Error(err))
	}
	server, err := capf.NewServer(cfg)
	if err != nil {
		return fmt.Errorf("lab: %w", err)
	}
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return fmt.Errorf("lab: %w", err)
	}
	ctx, cancel := context.WithCancel(ctx)
	var serving errgroup.Group
	serving.Go(func() error { return server.Serve(ctx, l) })
	roots := x509.NewCertPool()
	roots.AddCert(cfg.Certificate.Leaf)
	err = c.phones(ctx, n, phone.Config{
		Server: l.Addr().String(), Roots: roots, Retries: -1, Patience: 3 * productTimeout,
	})
	c.over(ctx, server, n)
	cancel()
	return errors.Join(err, serving.Wait(), c.stage.err)
}

// over waits for CAPF to have noticed that its phones are gone, and writes down
// what the device table says of them.
func (c *cast) over(ctx context.Context, server *capf.Server, n int) {
	ctx, cancel := context.WithTimeout(ctx, productTimeout)
	defer cancel()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for len(server.Sessions()) > 0 && ctx.Err() == nil {
		select {
		case <-tick.C:
		case <-ctx.Done():
		}
	}
	for i := range n {
		d, err := c.table.Device(ctx, deviceName(i))
		if err != nil {
			c.log.Warn("device", zap.String("device", deviceName(i)), zap.String("code", fault.UnknownDevice.String()),
				zap.String("reason", "it is not in the device table"))
			continue
		}
		c.log.Info("device", zap.String("device", d.Name), zap.Int("status", int(d.Status)),
			zap.Int("operation", int(d.Operation)), zap.String("code", d.Code), zap.String("reason", d.Reason))
	}
}

// manyPhones is how many come at once.
const manyPhones = 64

func (c *cast) phones(ctx context.Context, n int, cfg phone.Config) error {
	var g errgroup.Group
	g.SetLimit(min(n, manyPhones))
	if c.stage.inTurn {
		g.SetLimit(1)
	}
	for i := range n {
		g.Go(func() error { return c.phone(ctx, deviceName(i), cfg) })
	}
	return g.Wait()
}

// phone comes to CAPF as often as the scenario wants. That it fails is no error
// here.
func (c *cast) phone(ctx context.Context, name string, cfg phone.Config) error {
	cfg.Device, cfg.Keys = name, labKeys.of(name)
	cfg.Observe = func(sent bool, m wire.Message) {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.messages = append(c.messages, message{time.Now(), name, sent, m.Command.String()})
	}
	for contact := 1; contact <= max(1, c.stage.contacts); contact++ {
		cfg := cfg
		for _, f := range c.stage.phone {
			f(&cfg, contact)
		}
		r, err := phone.Run(ctx, cfg)
		if err != nil {
			c.log.Info("the phone gave up", zap.String("device", name), zap.Error(err))
			continue
		}
		if len(r.Certificate) > 0 {
			if err := os.WriteFile(filepath.Join(c.dir, name+".der"), r.Certificate, 0o644); err != nil { //nolint:gosec // A certificate is for everybody to read.
				return fmt.Errorf("lab: %w", err)
			}
		}
	}
	return nil
}

// capfCertificate is the certificate that CAPF shows to phones, one for the
// process.
var capfCertificate = sync.OnceValues(func() (tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("lab: %w", err)
	}
	return capf.GenerateServerCertificate(pkix.Name{Country: []string{"US"}, Organization: []string{"Lab"}}, key, time.Now())
})
