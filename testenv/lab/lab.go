// Package lab runs the whole chain in one process: phones, CAPF, the EST
// server, the registration authority, and beneath them a mock of IIS and AD CS.
package lab

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strconv"

	"github.com/moby/sys/atomicwriter"
	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"github.com/onlineca/onlineca/capf"
	"github.com/onlineca/onlineca/internal/app"
	"github.com/onlineca/onlineca/internal/zaplog"
	"github.com/onlineca/onlineca/testenv"
)

// The account, template and User-Agent that the lab's registration authority
// uses: those of the vendor's examples.
const (
	labDomain    = "LAB"
	labUser      = "ciscora"
	labTemplate  = "CiscoRA"
	labUserAgent = "CiscoRA 1.0"
)

// Config says what a lab is like. Out is needed.
type Config struct {
	// Phones is how many phones enrol. Default 5.
	Phones int
	// Key is the phones' key type, one of [Keys]; default "rsa2048". For
	// "rsa1024" the registration authority's policy and the template's minimum
	// are lowered: neither takes so short a key otherwise.
	Key string
	// Workers is how many enrol at once. Default 8.
	Workers int
	// Out is the directory that gets certificates and logs. A directory that
	// an earlier lab made is cleared, any other must be empty.
	Out string
	// KeepRunning leaves the servers up until the context ends.
	KeepRunning bool
	// Progress shows how it goes; nil for nowhere. Result gets what a person
	// reads at the end; nil for nowhere.
	Progress, Result io.Writer
}

// Run runs a lab. It returns when every phone has enrolled or failed; with
// KeepRunning, when ctx ends after that. The error says what kept the lab from
// running; whether every phone has its LSC is in the summary.
func Run(ctx context.Context, c Config) (capf.Summary, error) {
	if c.Phones == 0 {
		c.Phones = 5
	}
	if c.Workers == 0 {
		c.Workers = 8
	}
	if c.Progress == nil {
		c.Progress = io.Discard
	}
	if c.Result == nil {
		c.Result = io.Discard
	}
	if err := c.Check(); err != nil {
		return capf.Summary{}, fmt.Errorf("lab: %w", err)
	}
	if err := prepare(c.Out); err != nil {
		return capf.Summary{}, err
	}
	log, closeLogs, err := zaplog.Tree(c.Out, os.Getpid(), nil)
	if err != nil {
		return capf.Summary{}, err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	s, err := start(ctx, log, options{settings: c.settings, certsrv: c.shortTemplates})
	if err != nil {
		return capf.Summary{}, errors.Join(err, closeLogs())
	}
	sum, err := s.run(ctx, c)
	cancel()
	return sum, errors.Join(err, s.stop(), closeLogs())
}

// settings has the registration authority keep its requests in the lab's
// directory, as it does in earnest, and pass the keys that the phones make.
func (c Config) settings(s *app.Settings) {
	c.shortKeys(s)
	s.Store = filepath.Join(c.Out, stateDir, "requests.db")
	s.Requests.Audit = filepath.Join(c.Out, stateDir, "audit.jsonl")
}

// options make a chain another than that of a good lab: a scenario puts its
// fault into its place with them. Every field may be nil.
type options struct {
	certsrv  func(*testenv.Config)
	settings func(*app.Settings)
	parts    func(*app.Parts)
	est      func(*capf.ESTConfig)
	// ready gets the mock before anything asks it.
	ready func(*testenv.Certsrv) error
	// front stands at the EST port in place of the registration authority.
	front front
	// keepFailed goes on when the registration authority cannot start: what
	// CAPF then finds at its port takes connections and never answers.
	keepFailed bool
}

// servers is a running chain.
type servers struct {
	log      *zap.Logger
	options  options
	certsrv  *testenv.Certsrv
	password string
	settings app.Settings
	ra       *app.RA
	failed   error // why the registration authority has not started
	est      net.Listener
	serving  *errgroup.Group
}

// start brings up the mock, then the registration authority in front of it.
func start(ctx context.Context, log *zap.Logger, o options) (*servers, error) {
	password, err := newPassword()
	if err != nil {
		return nil, err
	}
	s := &servers{log: log, options: o, password: password}
	c := testenv.Config{
		Hostnames: []string{"localhost", "127.0.0.1", "::1"},
		Domain:    labDomain,
		Accounts:  []testenv.Account{{Domain: labDomain, Name: labUser, Password: password}},
		Log:       log,
	}
	change(o.certsrv, &c)
	if s.certsrv, err = testenv.Start(c); err != nil {
		return nil, fmt.Errorf("lab: start the mock certsrv: %w", err)
	}
	if o.ready != nil {
		err = o.ready(s.certsrv)
	}
	if err == nil {
		err = s.startRA(ctx)
	}
	if err != nil {
		s.certsrv.Close()
		return nil, err
	}
	return s, nil
}

// change lets f change v, if there is an f.
func change[T any](f func(*T), v *T) {
	if f != nil {
		f(v)
	}
}

func (s *servers) startRA(ctx context.Context) error {
	cert, err := s.certsrv.PKI.ServerCertificate(testenv.ServerOptions{Names: []string{"localhost", "127.0.0.1", "::1"}})
	if err != nil {
		return fmt.Errorf("lab: the EST server's certificate: %w", err)
	}
	s.settings = app.DefaultSettings()
	s.settings.Certsrv.URL = s.certsrv.URL + "/certsrv"
	s.settings.Certsrv.Username = labDomain + `\` + labUser
	s.settings.Certsrv.Template = labTemplate
	s.settings.Certsrv.UserAgent = labUserAgent
	change(s.options.settings, &s.settings)
	parts := app.Parts{Password: s.password, Roots: s.anchors(), Certificate: cert, Log: s.log}
	change(s.options.parts, &parts)
	s.ra, s.failed = app.StartRA(ctx, s.settings, parts)
	if s.failed != nil && !s.options.keepFailed {
		return fmt.Errorf("lab: %w", s.failed)
	}
	s.est, err = (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		err = errors.Join(err, s.closeRA())
		return fmt.Errorf("lab: %w", err)
	}
	s.serving = new(errgroup.Group)
	s.serving.Go(func() error {
		switch {
		case s.options.front != nil:
			return s.options.front(ctx, s.est, cert)
		case s.failed != nil:
			return serveMute(ctx, s.est, cert)
		default:
			return s.ra.Serve(ctx, s.est)
		}
	})
	return nil
}

func (s *servers) closeRA() error {
	if s.ra == nil {
		return nil
	}
	return s.ra.Close()
}

// stop ends the servers. Their context must have ended.
func (s *servers) stop() error {
	err := errors.Join(s.serving.Wait(), s.closeRA())
	s.certsrv.Close()
	return err
}

// anchors are what CAPF-trust would hold: the lab CA's whole chain.
func (s *servers) anchors() []*x509.Certificate {
	return s.certsrv.PKI.Chain(len(s.certsrv.PKI.Issuing) - 1)
}

// estURL is the EST server's address.
func (s *servers) estURL() string { return "https://localhost:" + port(s.est.Addr()) }

// certsrvPort is the port of the mock.
func (s *servers) certsrvPort() int {
	u, err := url.Parse(s.certsrv.URL)
	if err != nil {
		return 0
	}
	n, _ := strconv.Atoi(u.Port())
	return n
}

func port(a net.Addr) string {
	_, p, _ := net.SplitHostPort(a.String())
	return p
}

// run enrols the phones and says what came of it.
func (s *servers) run(ctx context.Context, c Config) (sum capf.Summary, err error) {
	chainPath := filepath.Join(c.Out, chainFile)
	chainPEM := s.certsrv.PKI.ChainPEM()
	if err := atomicwriter.WriteFile(chainPath, chainPEM, 0o644); err != nil {
		return capf.Summary{}, fmt.Errorf("lab: write the CA's chain: %w", err)
	}
	if err := os.MkdirAll(filepath.Join(c.Out, stateDir), 0o700); err != nil {
		return capf.Summary{}, fmt.Errorf("lab: %w", err)
	}
	if err := os.MkdirAll(filepath.Join(c.Out, lscDir), 0o750); err != nil {
		return capf.Summary{}, fmt.Errorf("lab: %w", err)
	}
	phones, err := s.startCAPF(ctx, c)
	if err != nil {
		return capf.Summary{}, fmt.Errorf("lab: start CAPF: %w", err)
	}
	defer func() { err = errors.Join(err, phones.stop()) }()
	key, _ := c.key() // it was checked
	fmt.Fprintf(c.Progress, "phones that call CAPF at %s: %d (keys: %s)\n", phones.addr, c.Phones, key)
	if c.short() {
		fmt.Fprintf(c.Progress, "onlineca: warning: keys of %d bits are no protection; est.policy.keys and the template's minimum were lowered for them\n", key.Bits)
	}
	sum = phones.callIn(ctx, c)
	if err := sum.WriteTable(c.Result); err != nil {
		return sum, fmt.Errorf("lab: %w", err)
	}
	if ctx.Err() != nil {
		return sum, ctx.Err()
	}
	s.describe(c)
	if !c.KeepRunning || ctx.Err() != nil {
		return sum, nil
	}
	if err := s.invite(c); err != nil {
		return sum, err
	}
	<-ctx.Done()
	return sum, nil
}

// estConfig is how CAPF reaches the registration authority.
func (s *servers) estConfig() capf.ESTConfig {
	roots := x509.NewCertPool()
	roots.AddCert(s.certsrv.Root)
	est := capf.ESTConfig{
		Server: s.estURL(), Roots: roots, Logger: s.log,
		Username: labDomain + `\` + labUser, Password: s.password,
	}
	change(s.options.est, &est)
	return est
}
