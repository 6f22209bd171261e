package app

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/moby/sys/atomicwriter"
	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"github.com/onlineca/onlineca/internal/chain"
)

// ServeOptions is what `onlineca serve` was told.
type ServeOptions struct {
	// Config is the settings file.
	Config string
	// Out gets what a person should know, Stderr warnings, and the logs where
	// the settings name no directory.
	Out, Stderr io.Writer
	// Reload, when it delivers, has the settings file read again. May be nil.
	Reload <-chan os.Signal
}

// Serve runs the registration authority of a settings file until ctx ends.
func Serve(ctx context.Context, o ServeOptions) (err error) {
	s, err := ReadSettings(o.Config)
	if err != nil {
		return err
	}
	p, own, err := o.parts(s)
	if err != nil {
		return err
	}
	var closeLogs func()
	if p.Log, closeLogs, err = serverLogs(s.Logs, o.Stderr); err != nil {
		return err
	}
	defer closeLogs()
	// Listening comes first: an address that is taken should not cost a login.
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", s.Listen)
	if err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	defer l.Close()
	admin, err := startAdmin(ctx, s.Admin, p.Log)
	if err != nil {
		return err
	}
	defer admin.close()
	phones, err := openCAPF(ctx, s)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, phones.close()) }()
	r, err := StartRA(ctx, s, p)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	issuers, err := r.Chain(ctx)
	if err != nil {
		return err
	}
	if err := keepChain(s, issuers); err != nil {
		return err
	}
	fmt.Fprintf(o.Out, "certsrv   %s as %s, template %s\n", strings.Join(s.Certsrv.targets(), ", "), s.Certsrv.Username, s.Certsrv.Template)
	fmt.Fprintf(o.Out, "CA        %s\n", chain.Distinguished(issuers[0].RawSubject))
	at, everywhere := reachableAt(l, p.Certificate)
	fmt.Fprintf(o.Out, "EST       %s://%s/.well-known/est/%s\n", s.EST.scheme(), at, everywhere)
	if own != "" && !s.EST.Plain { // clients see the proxy's certificate then
		fmt.Fprintf(o.Out, "          clients trust it by %s\n", own)
	}
	if admin != nil {
		admin.answerFor(r, s.Admin)
		at, everywhere := reachableAt(admin.listen, tls.Certificate{})
		fmt.Fprintf(o.Out, "admin     http://%s/readyz, /healthz and /metrics%s\n", at, everywhere)
	}
	g, ctx := errgroup.WithContext(ctx)
	if phones != nil {
		if err := phones.start(ctx, s, p, r.knownChain, l.Addr()); err != nil {
			return err
		}
		at, everywhere := reachableAt(phones.listen, tls.Certificate{})
		fmt.Fprintf(o.Out, "CAPF      %s%s, its certificate is in %s\n", at, everywhere, capfTrustPath(s))
		g.Go(func() error { return phones.server.Serve(ctx, phones.listen) })
	}
	fmt.Fprintln(o.Out, "\nIt stays up until Ctrl-C.")
	go o.reload(ctx, r, p.Log)
	g.Go(func() error { return r.Serve(ctx, l) })
	return g.Wait()
}

// scheme is what an address of the EST server begins with.
func (e *ESTSettings) scheme() string {
	if e.Plain {
		return "http"
	}
	return "https"
}

// chainPath is where a start leaves the CA's chain, for clients and for the
// commands that need to know who issues.
func chainPath(s Settings) string { return filepath.Join(s.State, "ca-chain.pem") }

func keepChain(s Settings, chain []*x509.Certificate) error {
	ders := make([][]byte, len(chain))
	for i, c := range chain {
		ders[i] = c.Raw
	}
	return keepCertificates(s, chainPath(s), ders)
}

// keepCertificates writes certificates to a file of the state directory, for
// whoever is to trust them.
func keepCertificates(s Settings, path string, ders [][]byte) error {
	var text []byte
	for _, der := range ders {
		text = append(text, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})...)
	}
	if err := os.MkdirAll(s.State, 0o700); err != nil {
		return fmt.Errorf("state: %w", err)
	}
	if err := atomicwriter.WriteFile(path, text, 0o644); err != nil {
		return fmt.Errorf("state: write certificates: %w", err)
	}
	return nil
}

// parts reads the files of the settings, and warns of what is unwise in them.
// own is the server's certificate, if it is of our making.
func (o *ServeOptions) parts(s Settings) (p Parts, own string, err error) {
	files, err := s.load()
	if err != nil {
		return Parts{}, "", err
	}
	for _, w := range files.warnings {
		fmt.Fprintf(o.Stderr, "onlineca: warning: %s\n", w)
	}
	cert, own, err := serverCertificate(s, time.Now())
	if err != nil {
		return Parts{}, "", err
	}
	return Parts{
		Password: files.password, Roots: files.roots, EPA: files.epa,
		ClientCAs: files.clientCAs, Certificate: cert,
	}, own, nil
}

// reload reads the settings again whenever it is told to, until ctx ends. What
// is wrong with them is said, and changes nothing.
func (o *ServeOptions) reload(ctx context.Context, r *RA, log *zap.Logger) {
	again := func() ([]string, error) {
		s, err := ReadSettings(o.Config)
		if err != nil {
			return nil, err
		}
		p, _, err := o.parts(s)
		if err != nil {
			return nil, err
		}
		p.Log = log
		return r.Reload(s, p)
	}
	for {
		select {
		case <-ctx.Done():
			return
		case <-o.Reload:
		}
		ignored, err := again()
		if err != nil {
			fmt.Fprintf(o.Stderr, "onlineca: warning: settings not reloaded, the old ones stay: %v\n", err)
			log.Warn("settings not reloaded", zap.Error(err))
			continue
		}
		fmt.Fprintf(o.Out, "settings  %s reloaded\n", o.Config)
		log.Info("settings reloaded", zap.String("file", o.Config))
		if len(ignored) > 0 {
			fmt.Fprintf(o.Stderr, "onlineca: warning: these settings have changed and take a restart: %s\n", strings.Join(ignored, ", "))
			log.Warn("settings have changed that take a restart", zap.Strings("settings", ignored))
		}
	}
}

// Healthcheck asks the running server of the settings whether it is well: its
// admin address for /readyz if it has one, else the EST server for its CA
// certificates, as a client would. A nil error means yes.
func Healthcheck(ctx context.Context, s Settings) error {
	if s.Admin.Listen != "" {
		return askReady(ctx, s.Admin.Listen)
	}
	cert, _, err := serverCertificate(s, time.Now())
	if err != nil {
		return err
	}
	host, port, err := net.SplitHostPort(s.Listen)
	if err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	host = reachable(host)
	// The certificate that the server must present is known to the letter, so
	// it is compared instead of verified: its names are for clients elsewhere.
	client := &http.Client{Timeout: 4 * time.Second, Transport: &http.Transport{TLSClientConfig: &tls.Config{
		InsecureSkipVerify: true, //nolint:gosec // Compared below.
		VerifyConnection: func(cs tls.ConnectionState) error {
			if len(cs.PeerCertificates) == 0 || !cs.PeerCertificates[0].Equal(leafOf(cert)) {
				return errors.New("another server answers on this port: its certificate is not ours")
			}
			return nil
		},
	}}}
	defer client.CloseIdleConnections()
	req, err := http.NewRequestWithContext(ctx, http.MethodHead, s.EST.scheme()+"://"+net.JoinHostPort(host, port)+"/.well-known/est/cacerts", nil)
	if err != nil {
		return err
	}
	resp, err := client.Do(req)
	if err != nil {
		return fmt.Errorf("healthcheck: %w", err)
	}
	_ = resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("healthcheck: the EST server answers %s", resp.Status)
	}
	return nil
}

// reachable is where to ask a server of this machine that listens on host.
func reachable(host string) string {
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		return "127.0.0.1"
	}
	return host
}

func leafOf(c tls.Certificate) *x509.Certificate {
	if c.Leaf != nil {
		return c.Leaf
	}
	leaf, err := x509.ParseCertificate(c.Certificate[0])
	if err != nil {
		return new(x509.Certificate)
	}
	return leaf
}
