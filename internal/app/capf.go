package app

import (
	"context"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/url"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/onlineca/onlineca/capf"
	"github.com/onlineca/onlineca/capf/devices"
)

// CAPFParts is what CAPF needs beside its settings.
type CAPFParts struct {
	// Certificate is CAPF's own.
	Certificate tls.Certificate
	// Devices is the device table.
	Devices capf.DeviceTable
	// EST says how to reach the registration authority.
	EST capf.ESTConfig
	// Anchors verify what it delivers; none means what it gives for its CA.
	Anchors []*x509.Certificate
	// CA is its CA's chain as of now, if that is known.
	CA func() []*x509.Certificate
	// LSCTrust and MICTrust are the CAs that phones may authenticate by. CA is
	// always one of them.
	LSCTrust, MICTrust []*x509.Certificate
	// Log may be nil.
	Log *zap.Logger
}

// NewCAPF wires CAPF: towards phones its own protocol, towards the registration
// authority EST. It writes the trace of a start with an Online CA.
func NewCAPF(ctx context.Context, s Settings, p CAPFParts) (*capf.Server, error) {
	c := &s.CAPF
	local, err := capf.NewLocalCA(p.Certificate, c.ValidityDays, nil)
	if err != nil {
		return nil, err
	}
	cfg := capf.ServerConfig{
		Certificate: p.Certificate, LegacyTLS: c.LegacyTLS, Devices: p.Devices,
		Issuer: capf.IssuerKind(c.Issuer), Local: local, LocalFallback: c.LocalFallback,
		LSCTrust: p.LSCTrust, MICTrust: p.MICTrust, LSCIssuers: p.CA, OneAttempt: c.OneAttempt,
		MaxConnections: c.MaxConnections, MaxPerAddress: c.MaxPerAddress, Logger: p.Log,
		Encrypt: c.Encrypt.style(), AnnounceAuthType: c.AnnounceAuthType,
		AskAgain: true, RetryDelay: c.RetryDelay, EndInsteadOfRetry: c.EndInsteadOfRetry,
		Timeouts: capf.Timeouts{Keygen: c.KeygenTimeout},
	}
	if p.EST.Server != "" {
		client, err := capf.NewESTClient(p.EST)
		if err != nil {
			return nil, err
		}
		online, err := capf.NewEnroller(capf.EnrollerConfig{Client: client, Logger: p.Log, Anchors: anchorsOf(p.Anchors)})
		if err != nil {
			return nil, err
		}
		cfg.Online = online
		known := p.Anchors
		if p.CA != nil {
			known = p.CA()
		}
		online.Start(ctx, s.service(known))
	}
	return capf.NewServer(cfg)
}

// anchorsOf trusts certs; none leaves it to the EST server to say what its CA is.
func anchorsOf(certs []*x509.Certificate) capf.Anchors {
	if len(certs) == 0 {
		return capf.Anchors{}
	}
	return capf.AnchorsOf(certs)
}

// service is what CAPF notes of the Online CA when it starts.
func (s *Settings) service(anchors []*x509.Certificate) capf.Service {
	v := capf.Service{Port: 443, Template: s.Certsrv.Template}
	if u, err := url.Parse(s.Certsrv.URL); err == nil {
		v.Host = u.Hostname()
		if n, err := strconv.Atoi(u.Port()); err == nil {
			v.Port = n
		}
	}
	for _, a := range anchors {
		v.CACertLength += len(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.Raw}))
	}
	return v
}

// capfTrustPath is where a start leaves CAPF's certificate without its key, for
// the phones' trust lists.
func capfTrustPath(s Settings) string { return filepath.Join(s.State, "capf-certificate.pem") }

// trust reads the CAs that phones may authenticate by.
func (c *CAPFSettings) trust() (lsc, mic []*x509.Certificate, err error) {
	lsc, err = ReadCertificates("capf.lsc_trust", c.LSCTrust...)
	mic, micErr := ReadCertificates("capf.mic_trust", c.MICTrust...)
	return lsc, mic, errors.Join(err, micErr)
}

// loadCAPF reads every file that CAPF's settings name, where there is to be a
// CAPF. The certificate may be missing: the first start makes it.
func (p *parts) loadCAPF(c *CAPFSettings) error {
	if c.Listen == "" {
		return nil
	}
	_, _, err := c.trust()
	errs := []error{err}
	cert, err := capf.ReadServerCertificate(c.Certificate, time.Now())
	switch _, ok := cert.PrivateKey.(*rsa.PrivateKey); {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		errs = append(errs, fmt.Errorf("capf.certificate: %w", err))
	case c.LegacyTLS && !ok:
		errs = append(errs, fmt.Errorf("capf.legacy_tls: the key in %s is not RSA, and phones of the 7900 series speak nothing else", c.Certificate))
	}
	p.warnOpen("capf.certificate", c.Certificate)
	if c.PasswordFile != "" {
		_, err := ReadPassword("capf.password_file", c.PasswordFile)
		errs = append(errs, err)
		p.warnOpen("capf.password_file", c.PasswordFile)
	}
	if c.LegacyTLS {
		p.warn("capf.legacy_tls: TLS 1.0 and RSA key exchange are not secure: switch them off when the last phone of the 7900 series is gone")
	}
	return errors.Join(errs...)
}

// runningCAPF is CAPF in the process of the registration authority.
type runningCAPF struct {
	certificate tls.Certificate
	server      *capf.Server
	listen      net.Listener
	devices     *devices.Table
}

// openCAPF opens CAPF's files and its port, if the settings want one; nil
// otherwise. It comes before the registration authority's start, so that a port
// that is taken costs no login.
func openCAPF(ctx context.Context, s Settings) (r *runningCAPF, err error) {
	if s.CAPF.Listen == "" {
		return nil, nil
	}
	r = new(runningCAPF)
	defer func() {
		if err != nil {
			err = errors.Join(err, r.close())
		}
	}()
	if r.listen, err = (&net.ListenConfig{}).Listen(ctx, "tcp", s.CAPF.Listen); err != nil {
		return nil, fmt.Errorf("capf.listen: %w", err)
	}
	if r.certificate, err = capf.LoadServerCertificate(s.CAPF.Certificate, pkix.Name{}, time.Now()); err != nil {
		return nil, err
	}
	if err := keepCertificates(s, capfTrustPath(s), r.certificate.Certificate); err != nil {
		return nil, err
	}
	r.devices, err = devices.Open(ctx, s.CAPF.Devices)
	return r, err
}

// start wires CAPF. est is the address that the registration authority listens
// on, p what it was started with, ca its CA's chain as of now.
func (r *runningCAPF) start(ctx context.Context, s Settings, p Parts, ca func() []*x509.Certificate, est net.Addr) error {
	lscTrust, micTrust, err := s.CAPF.trust()
	if err != nil {
		return err
	}
	parts := CAPFParts{
		Certificate: r.certificate, Devices: r.devices, CA: ca,
		LSCTrust: slices.Concat(ca(), lscTrust), MICTrust: micTrust, Log: p.Log,
	}
	if parts.EST, err = s.ownEST(p, est); err != nil {
		return err
	}
	r.server, err = NewCAPF(ctx, s, parts)
	return err
}

// ownEST is how CAPF reaches the registration authority in its own process: the
// certificate that it must present is known, so it is the only root.
func (s *Settings) ownEST(p Parts, est net.Addr) (capf.ESTConfig, error) {
	username, password := s.Certsrv.Username, p.Password
	if s.CAPF.PasswordFile != "" {
		var err error
		username = s.CAPF.Username
		if password, err = ReadPassword("capf.password_file", s.CAPF.PasswordFile); err != nil {
			return capf.ESTConfig{}, err
		}
	}
	host, port, _ := net.SplitHostPort(est.String())
	if ip := net.ParseIP(host); ip != nil && ip.IsUnspecified() {
		host = "127.0.0.1"
	}
	leaf := leafOf(p.Certificate)
	if leaf.VerifyHostname(host) != nil && len(leaf.DNSNames) > 0 {
		host = leaf.DNSNames[0]
	}
	addr := est.String()
	if strings.HasPrefix(addr, "0.0.0.0:") || strings.HasPrefix(addr, "[::]:") {
		addr = net.JoinHostPort("127.0.0.1", port)
	}
	roots := x509.NewCertPool()
	roots.AddCert(leaf)
	return capf.ESTConfig{
		Server: "https://" + net.JoinHostPort(host, port), Label: s.CAPF.Label, Roots: roots, Logger: p.Log,
		Username: username, Password: password, Timeout: s.CAPF.ESTTimeout, RetryWait: -1,
		Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, network, addr)
		},
	}, nil
}

// close closes what is open. The port may have been closed by who served it.
func (r *runningCAPF) close() error {
	if r == nil {
		return nil
	}
	if r.listen != nil {
		_ = r.listen.Close()
	}
	if r.devices == nil {
		return nil
	}
	return r.devices.Close()
}
