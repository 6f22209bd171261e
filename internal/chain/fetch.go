package chain

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"
)

// fetchTimeout bounds connection and handshake together.
const fetchTimeout = 10 * time.Second

// Fetch connects to a TLS server and returns the certificates that it presents,
// in its order. address is HOST:PORT; without a port it is 443. Nothing about
// the certificates is verified: that is what the check is for. A server that
// breaks the handshake off afterwards, because it wants a client certificate,
// has still shown its own.
func Fetch(ctx context.Context, address string) (*Input, error) {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		host, port = strings.Trim(address, "[]"), "443"
	}
	ctx, cancel := context.WithTimeout(ctx, fetchTimeout)
	defer cancel()
	in := &Input{Name: net.JoinHostPort(host, port), Format: FormatTLS}
	d := tls.Dialer{Config: &tls.Config{
		ServerName: host,
		//nolint:gosec // The chain is fetched to be judged, and nothing is sent.
		InsecureSkipVerify: true,
		MinVersion:         tls.VersionTLS10, // old appliances, too, have certificates
		CipherSuites:       everySuite(),
		VerifyConnection: func(c tls.ConnectionState) error {
			in.Certs = c.PeerCertificates
			in.note("presented over %s", tls.VersionName(c.Version))
			return nil
		},
	}}
	conn, err := d.DialContext(ctx, "tcp", in.Name)
	if conn != nil {
		_ = conn.Close() // nothing was sent
	}
	if len(in.Certs) > 0 {
		return in, nil
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return nil, fmt.Errorf("fetch the chain from %s: no answer in time to the connection or to the TLS handshake; does it speak TLS, and is nothing in between? (%w)", in.Name, err)
	}
	if err != nil {
		return nil, fmt.Errorf("fetch the chain from %s: %w", in.Name, err)
	}
	return nil, fmt.Errorf("fetch the chain from %s: the server presented no certificate", in.Name)
}

// everySuite lists what this program can speak before TLS 1.3.
func everySuite() []uint16 {
	var ids []uint16
	for _, s := range append(tls.CipherSuites(), tls.InsecureCipherSuites()...) {
		ids = append(ids, s.ID)
	}
	return ids
}
