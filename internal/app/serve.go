package app

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"
)

// Serve runs the registration authority of the settings until ctx ends. What a
// person should know goes to out, the logs to where the settings say (standard
// error if nowhere).
func Serve(ctx context.Context, s Settings, out, stderr io.Writer) (err error) {
	files, err := s.load()
	if err != nil {
		return err
	}
	for _, w := range files.warnings {
		fmt.Fprintf(stderr, "onlineca: warning: %s\n", w)
	}
	cert, own, err := serverCertificate(s, time.Now())
	if err != nil {
		return err
	}
	log, closeLogs, err := serverLogs(s.Logs, stderr)
	if err != nil {
		return err
	}
	defer closeLogs()
	// Listening comes first: an address that is taken should not cost a login.
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", s.Listen)
	if err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	defer l.Close()
	r, err := StartRA(ctx, s, Parts{
		Password: files.password, Roots: files.roots, EPA: files.epa,
		ClientCAs: files.clientCAs, Certificate: cert, Log: log,
	})
	if err != nil {
		return err
	}
	defer r.Close()
	chain, err := r.Chain(ctx)
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "certsrv   %s as %s, template %s\n", s.Certsrv.URL, s.Certsrv.Username, s.Certsrv.Template)
	fmt.Fprintf(out, "CA        %s\n", chain[0].Subject)
	fmt.Fprintf(out, "EST       https://%s/.well-known/est/\n", l.Addr())
	if own != "" {
		fmt.Fprintf(out, "          clients trust it by %s\n", own)
	}
	return r.Serve(ctx, l)
}

// Healthcheck asks the EST server of the settings for its CA certificates, as a
// client would. A nil error means that it answers.
func Healthcheck(ctx context.Context, s Settings) error {
	cert, _, err := serverCertificate(s, time.Now())
	if err != nil {
		return err
	}
	host, port, err := net.SplitHostPort(s.Listen)
	if err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		host = "127.0.0.1"
	}
	scheme := "https"
	if s.EST.Plain {
		scheme = "http"
	}
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
	req, err := http.NewRequestWithContext(ctx, http.MethodHead, scheme+"://"+net.JoinHostPort(host, port)+"/.well-known/est/cacerts", nil)
	if err != nil {
		return err
	}
	resp, err := client.Do(req)
	if err != nil {
		return fmt.Errorf("healthcheck: %w", err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("healthcheck: the EST server answers %s", resp.Status)
	}
	return nil
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
