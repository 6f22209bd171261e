package app

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"sync/atomic"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"github.com/onlineca/onlineca/certsrv"
	"github.com/onlineca/onlineca/certsrv/winauth"
	"github.com/onlineca/onlineca/estserver"
	"github.com/onlineca/onlineca/ra"
)

// RA is a registration authority, wired and started, that serves on a listener
// it is given.
type RA struct {
	upstreams *upstreams
	// passwords verifies those that are passed through to certsrv. One limit to
	// guessing holds for all labels and survives a reload: the domain counts
	// what is refused, not which way it came.
	passwords ra.Authenticator
	chain     *ra.Chain
	server    *estserver.Server
	records   *records // nil without a store
	anchors   []*x509.Certificate
	log       *zap.Logger
	road      atomic.Pointer[ra.Enroller] // to certsrv, by the settings last read
	began     Settings                    // as they were at the start
	password  string

	// What the admin address tells.
	metrics     *metrics // nil without an admin address
	load        ra.Load
	certificate atomic.Pointer[x509.Certificate] // the EST server's, nil behind a proxy
	loginPause  time.Duration
	draining    atomic.Bool
	// count counts the requests of the store by state; nil without a store.
	count func(context.Context) (map[string]int, error)
}

// Parts is what a registration authority needs beside its settings, where it
// does not come from the files that they name: for processes that hold it in
// memory.
type Parts struct {
	// Password of the certsrv account.
	Password string
	// Roots are trusted for certsrv, nil for the system's.
	Roots []*x509.Certificate
	// EPA is the certificate to bind logins to, nil for certsrv's own.
	EPA *x509.Certificate
	// ClientCAs are the CAs of client certificates, by label.
	ClientCAs map[string][]*x509.Certificate
	// Certificate is the EST server's.
	Certificate tls.Certificate
	// EnglishOnly reads the pages of certsrv as the product does, in English
	// alone.
	EnglishOnly bool
	// Dial opens the connections to certsrv, nil for a net.Dialer.
	Dial func(ctx context.Context, network, addr string) (net.Conn, error)
	// Log may be nil.
	Log *zap.Logger
}

// StartRA logs in to certsrv, fetches the CA's chain and wires the server. That
// either of the first two fails is an error which names the cause; it stands in
// the logs in the product's words.
func StartRA(ctx context.Context, s Settings, p Parts) (*RA, error) {
	r := &RA{anchors: p.Roots, loginPause: s.Certsrv.LoginPause, began: s, password: p.Password}
	if s.Admin.Listen != "" {
		r.metrics = newMetrics()
		p.Log = r.metrics.watch(p.Log)
	}
	r.log = p.Log
	var err error
	if r.upstreams, err = newUpstreams(s, p); err != nil {
		return nil, err
	}
	if err := r.start(ctx, s, p); err != nil {
		return nil, errors.Join(err, r.Close())
	}
	if r.metrics != nil {
		r.metrics.registry.MustRegister(gauges{r})
	}
	return r, nil
}

func (r *RA) start(ctx context.Context, s Settings, p Parts) (err error) {
	estserver.LogStarting(ctx, p.Log)
	// First the store: a database that is not there should not cost a login.
	if s.Store != noStore {
		if r.records, err = openRecords(ctx, s); err != nil {
			return err
		}
		r.count = r.records.counts
	}
	r.passwords = ra.NewAttempts(r.upstreams, ra.AttemptsConfig{
		Scope: "certsrv", Ledger: r.ledger(), Lease: s.patience(), Log: p.Log,
		Own: ra.Credentials{Username: s.Certsrv.Username, Password: p.Password},
	})
	if err := r.upstreams.Start(ctx); err != nil {
		return err
	}
	r.chain, err = ra.NewChain(ctx, r.upstreams, ra.ChainConfig{Refresh: s.Certsrv.ChainRefresh, Log: p.Log})
	if err != nil {
		return err
	}
	r.pave(s, p.Log)
	if r.records != nil {
		chain, err := r.chain.CACerts(ctx)
		if err != nil {
			return err
		}
		if err := r.records.start(ctx, s, ra.EnrollerFunc(r.submit), r.upstreams.Failover, r.upstreams.family.first(), chain[0], p.Log); err != nil {
			return err
		}
	}
	cfg, err := r.configure(s, p)
	if err != nil {
		return err
	}
	if r.server, err = estserver.New(cfg); err != nil {
		return err
	}
	r.note(s, p)
	return nil
}

// configure wires what stands between the clients and certsrv.
func (r *RA) configure(s Settings, p Parts) (estserver.Config, error) {
	cfg, err := s.serverConfig(p, r.passwords, r.ledger())
	if err != nil {
		return estserver.Config{}, err
	}
	cfg.Chain = r.chain
	cfg.Enroller = r.stack(p.Log)
	return cfg, nil
}

// ledger is where refused passwords are counted: in the store, and without one
// in memory.
func (r *RA) ledger() ra.Ledger {
	if r.records == nil {
		return nil
	}
	return r.records.store.Ledger()
}

// note keeps what the admin address tells of the settings.
func (r *RA) note(s Settings, p Parts) {
	if s.EST.Plain || len(p.Certificate.Certificate) == 0 {
		r.certificate.Store(nil)
	} else {
		r.certificate.Store(leafOf(p.Certificate))
	}
	if r.metrics != nil {
		r.metrics.knowLabels(s)
	}
}

// upstream is the road of a request from the store to certsrv, outermost
// decorator first.
func (r *RA) upstream(s Settings, log *zap.Logger) ra.Enroller {
	var e ra.Enroller = r.upstreams // fail-over, then a breaker before each host
	e = r.chain.Follow(e)           // before the rules for phones, which look at the chain
	e = checkLSC(e, r.chain, s.EST.forPhones, log)
	e = ra.LimitConcurrency(e, ra.Concurrency{Running: r.began.Certsrv.Sessions, Waiting: s.EST.MaxRequests, Load: &r.load})
	return ra.Recover(e, log)
}

// pave makes the road to certsrv that of other settings. What is under way goes
// on by the old one.
func (r *RA) pave(s Settings, log *zap.Logger) {
	e := r.upstream(s, log)
	r.road.Store(&e)
}

// submit sends a request down the road that there is now.
func (r *RA) submit(ctx context.Context, req ra.Request) (ra.Result, error) {
	return (*r.road.Load()).Enroll(ctx, req)
}

// stack is the road of a request from the EST server to the store, or straight
// to certsrv where there is none.
func (r *RA) stack(log *zap.Logger) ra.Enroller {
	var e ra.Enroller = ra.EnrollerFunc(r.submit)
	if r.records != nil {
		e = r.records
	}
	return ra.Logged(ra.Recover(e, log), log)
}

// Serve answers EST requests on l until ctx ends, and keeps the chain fresh.
// What has been submitted by then is finished first.
func (r *RA) Serve(ctx context.Context, l net.Listener) error {
	anchors := r.anchors
	if chain, err := r.chain.CACerts(ctx); err == nil && anchors == nil {
		anchors = chain
	}
	r.server.LogStarted(ctx, anchors)
	stop := context.AfterFunc(ctx, func() { r.draining.Store(true) })
	defer stop()
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return r.chain.Run(ctx) })
	if r.records != nil {
		g.Go(func() error { return r.records.Run(ctx) })
	}
	g.Go(func() error { return r.server.Serve(ctx, l) })
	return g.Wait()
}

// Reload has new requests served by other settings: server certificate, users,
// labels, policies, templates. When the settings are refused, everything stays.
// What concerns certsrv's account and hosts, the store and listening stays as it
// was at the start in any case: ignored names the settings that differ and take a
// restart.
func (r *RA) Reload(s Settings, p Parts) (ignored []string, err error) {
	p.Log = r.log
	cfg, err := r.configure(s, p)
	if err != nil {
		return nil, err
	}
	if err := r.server.Reload(cfg); err != nil {
		return nil, err
	}
	for _, c := range r.upstreams.clients {
		if err := c.SetTemplate(s.Certsrv.Template); err != nil {
			return nil, err
		}
	}
	r.pave(s, p.Log)
	r.note(s, p)
	ignored = restartFor(r.began, s)
	if p.Password != r.password {
		ignored = append(ignored, "the password in certsrv.password_file")
	}
	return ignored, nil
}

// closeTimeout bounds how long Close waits for what is being submitted for
// clients that have gone: its outcome is found out after the next start.
const closeTimeout = 30 * time.Second

// Close waits for what is being submitted, ends the sessions with certsrv and
// closes the store. Serve must have returned.
func (r *RA) Close() error {
	var err error
	if r.records != nil {
		ctx, cancel := context.WithTimeout(context.Background(), closeTimeout)
		defer cancel()
		err = r.records.close(ctx)
	}
	r.upstreams.Close()
	return err
}

// Chain is the CA's chain: the issuing CA first, the root last.
func (r *RA) Chain(ctx context.Context) ([]*x509.Certificate, error) { return r.chain.CACerts(ctx) }

// knownChain is the chain that was last fetched.
func (r *RA) knownChain() []*x509.Certificate {
	certs, err := r.chain.CACerts(context.Background()) // asks nobody
	if err != nil {
		return nil
	}
	return certs
}

// certsrvConfig says how the certsrv at address is asked.
func (s *Settings) certsrvConfig(address string, p Parts) certsrv.Config {
	c := &s.Certsrv
	cfg := certsrv.Config{
		URL: address, Username: c.Username, Password: p.Password,
		Template: c.Template, StrictTemplate: c.MissingTemplate == "refuse",
		MatchCommonName: c.TLS.MatchCommonName,
		Timeouts:        certsrv.Timeouts(c.Timeouts),
		Sessions:        c.Sessions, LoginPause: c.LoginPause,
		UserAgent: c.UserAgent, SAN: c.SAN, Marker: c.Marker, EnglishOnly: p.EnglishOnly,
		DialContext: p.Dial, Logger: p.Log,
	}
	if p.Roots != nil {
		cfg.Roots = pool(p.Roots)
	}
	if s.Store != noStore {
		// The store asks after what is pending, from then on with growing pauses.
		cfg.RetryAfter = s.Requests.PollFirst
	}
	e := &c.ExtendedProtection
	cfg.EPA = winauth.EPA{Binding: bindings[e.ChannelBinding], Certificate: p.EPA, NoMIC: e.MIC == "off", Probe: e.Probe}
	return cfg
}

var bindings = map[string]winauth.Binding{
	"auto": winauth.BindAuto, "off": winauth.BindOff, "certificate": winauth.BindCertificate,
}

// serverConfig says how clients are served; chain and enroller are added by the
// caller. passwords verifies what is passed through to certsrv; ledger, which may
// be nil, counts refused passwords of user lists.
func (s *Settings) serverConfig(p Parts, passwords ra.Authenticator, ledger ra.Ledger) (estserver.Config, error) {
	proxies, err := s.EST.proxies()
	if err != nil {
		return estserver.Config{}, fmt.Errorf("est.trusted_proxies: %w", err)
	}
	cfg := estserver.Config{
		Realm: s.EST.Realm, Logger: p.Log,
		TrustedProxies: proxies, ProxyCertificateHeader: s.EST.ProxyCertificateHeader, Plain: s.EST.Plain,
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return &p.Certificate, nil },
		Labels:         map[string]estserver.Label{},
		Timeouts:       estserver.Timeouts{Write: s.patience(), Shutdown: s.patience()},
	}
	for name, l := range s.EST.all() {
		label, err := l.label(p.ClientCAs[name], passwords, ledger)
		if err != nil {
			return estserver.Config{}, fmt.Errorf("%s: %w", labelKey(name), err)
		}
		if name == "" {
			cfg.Default = label
		} else {
			cfg.Labels[name] = label
		}
	}
	return cfg, nil
}

// patience is the longest that an answer can take: every exchange with certsrv
// at its limit, with a login and a template check before it.
func (s *Settings) patience() time.Duration {
	t := s.Certsrv.Timeouts
	return 2*t.Login + t.Page + t.Submit + t.Fetch + 30*time.Second
}
