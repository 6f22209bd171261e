package app

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/moby/sys/atomicwriter"
)

// ownValidity is how long a certificate made on the first start is valid: the
// longest that current TLS clients take.
const ownValidity = 398 * 24 * time.Hour

// serverCertificate loads the EST server's certificate, or the one that an
// earlier start made, or makes one: ECDSA P-256, which costs a handshake a
// fraction of what RSA does. own is the file that clients need to trust when
// the certificate is of our making, "" otherwise.
func serverCertificate(s Settings, now time.Time) (cert tls.Certificate, own string, err error) {
	if s.TLS.Certificate != "" {
		cert, err = readKeyPair("tls", s.TLS.Certificate, s.TLS.Key)
		return cert, "", err
	}
	certPath := filepath.Join(s.State, "est-server.pem")
	keyPath := filepath.Join(s.State, "est-server.key")
	names := ownNames(s)
	cert, err = readKeyPair("state", certPath, keyPath)
	switch {
	case err == nil && stillGood(cert.Leaf, names, now):
		return cert, certPath, nil
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return tls.Certificate{}, "", fmt.Errorf("%w (remove both files to have new ones made)", err)
	}
	certPEM, keyPEM, err := selfSigned(names, now)
	if err != nil {
		return tls.Certificate{}, "", err
	}
	if err := os.MkdirAll(s.State, 0o700); err != nil {
		return tls.Certificate{}, "", fmt.Errorf("state: %w", err)
	}
	if err := atomicwriter.WriteFile(keyPath, keyPEM, 0o600); err != nil {
		return tls.Certificate{}, "", fmt.Errorf("state: write the server's key: %w", err)
	}
	if err := atomicwriter.WriteFile(certPath, certPEM, 0o644); err != nil {
		return tls.Certificate{}, "", fmt.Errorf("state: write the server's certificate: %w", err)
	}
	cert, err = tls.X509KeyPair(certPEM, keyPEM)
	return cert, certPath, err
}

// ownNames are the names of a certificate of our making.
func ownNames(s Settings) []string {
	names := []string{"localhost", "127.0.0.1", "::1"}
	if host, err := os.Hostname(); err == nil && host != "" {
		names = append(names, host)
	}
	if host, _, err := net.SplitHostPort(s.Listen); err == nil && host != "" {
		if ip := net.ParseIP(host); ip == nil || !ip.IsUnspecified() {
			names = append(names, host)
		}
	}
	names = append(names, s.TLS.Names...)
	slices.Sort(names)
	return slices.Compact(names)
}

// stillGood says whether a certificate of our making can be used again: it has
// every name, and more than a tenth of its life left.
func stillGood(leaf *x509.Certificate, names []string, now time.Time) bool {
	if leaf == nil || now.Before(leaf.NotBefore) || now.Add(ownValidity/10).After(leaf.NotAfter) {
		return false
	}
	return !slices.ContainsFunc(names, func(n string) bool { return leaf.VerifyHostname(n) != nil })
}

func selfSigned(names []string, now time.Time) (certPEM, keyPEM []byte, err error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return nil, nil, err
	}
	template := &x509.Certificate{
		SerialNumber: serial,
		Subject:      pkix.Name{CommonName: "onlineca EST server"},
		NotBefore:    now.Add(-5 * time.Minute),
		NotAfter:     now.Add(ownValidity),
		KeyUsage:     x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		// Clients are given this certificate as their only root. libEST verifies
		// with OpenSSL, which wants a root to be a CA.
		BasicConstraintsValid: true,
		IsCA:                  true,
		MaxPathLenZero:        true,
	}
	for _, n := range names {
		if ip := net.ParseIP(n); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else {
			template.DNSNames = append(template.DNSNames, n)
		}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, nil, err
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
		pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER}), nil
}
