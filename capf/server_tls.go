package capf

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"os"
	"time"

	"github.com/moby/sys/atomicwriter"

	"github.com/onlineca/onlineca/ra/fault"
)

// serverTLS is the TLS side of the server: its own certificate only, none asked
// of the phone.
func serverTLS(cfg ServerConfig) *tls.Config {
	c := &tls.Config{
		Certificates: []tls.Certificate{cfg.Certificate},
		MinVersion:   tls.VersionTLS12,
		// A phone has one session in months; a ticket would only cost memory.
		SessionTicketsDisabled: true,
		// One message, one TLS record: Go would send the first kilobytes of a
		// connection in short records, and phones stall when a message comes in
		// two.
		DynamicRecordSizingDisabled: true,
	}
	if cfg.LegacyTLS {
		c.MinVersion = tls.VersionTLS10
		// A 7900-series phone offers TLS 1.0 with [AES256-SHA:AES128-SHA] and
		// nothing else. Named, Go serves them without a GODEBUG setting.
		c.CipherSuites = []uint16{
			tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
			tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384, tls.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
			tls.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256, tls.TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
			tls.TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA, tls.TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA,
			tls.TLS_RSA_WITH_AES_256_CBC_SHA, tls.TLS_RSA_WITH_AES_128_CBC_SHA,
		}
	}
	return c
}

// serverYears is how long a generated server certificate is valid, as the
// product's.
const serverYears = 5

// GenerateServerCertificate makes CAPF's certificate with a new key, RSA 2048
// if key is nil: self-signed, with the extensions without which phones refuse
// to talk to CAPF (basic constraints CA:TRUE with path length 0; key usages
// digitalSignature and keyCertSign). An empty common name becomes CAPF- and
// eight random hexadecimal digits, as in the product. There is no extended key
// usage: it would restrict the certificates that CAPF itself issues.
func GenerateServerCertificate(subject pkix.Name, key crypto.Signer, now time.Time) (tls.Certificate, error) {
	if key == nil {
		var err error
		if key, err = rsa.GenerateKey(rand.Reader, 2048); err != nil {
			return tls.Certificate{}, fmt.Errorf("capf: generate the server's key: %w", err)
		}
	}
	if subject.CommonName == "" {
		var b [4]byte
		_, _ = rand.Read(b[:]) // never fails
		subject.CommonName = fmt.Sprintf("CAPF-%x", b)
	}
	serial, err := serialNumber()
	if err != nil {
		return tls.Certificate{}, err
	}
	template := &x509.Certificate{
		SerialNumber: serial, Subject: subject,
		NotBefore: now.Add(-time.Hour), NotAfter: now.AddDate(serverYears, 0, 0),
		BasicConstraintsValid: true, IsCA: true, MaxPathLen: 0, MaxPathLenZero: true,
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("capf: make the server's certificate: %w", err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("capf: read the server's new certificate: %w", err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}, nil
}

// serialNumber is a random positive number of 127 bits.
func serialNumber() (*big.Int, error) {
	n, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return nil, fmt.Errorf("capf: choose a serial number: %w", err)
	}
	return n.Add(n, big.NewInt(1)), nil
}

// CheckServerCertificate returns a fault.CAPFCertificate if phones would refuse
// the certificate.
func CheckServerCertificate(c *x509.Certificate, now time.Time) error {
	const need = x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign
	wrong := func(what string) error {
		return fault.Newf(fault.CAPFCertificate, fmt.Sprintf("certificate %q", c.Subject), "%s", what)
	}
	switch {
	case !c.BasicConstraintsValid || !c.IsCA:
		return wrong("basic constraints are not CA:TRUE")
	case c.MaxPathLen != 0 || !c.MaxPathLenZero:
		return wrong("the path length is not 0")
	case c.KeyUsage&need != need:
		return wrong("key usages digitalSignature and keyCertSign are not both there")
	case now.Before(c.NotBefore) || now.After(c.NotAfter):
		return wrong(fmt.Sprintf("it is valid from %s to %s, and the clock here says %s", utc(c.NotBefore), utc(c.NotAfter), utc(now)))
	}
	return nil
}

// LoadServerCertificate reads CAPF's certificate chain and key from one PEM
// file. If there is no such file it generates them and keeps them there,
// readable by the owner alone.
func LoadServerCertificate(path string, subject pkix.Name, now time.Time) (tls.Certificate, error) {
	cert, err := ReadServerCertificate(path, now)
	if errors.Is(err, fs.ErrNotExist) {
		return newServerFile(path, subject, now)
	}
	return cert, err
}

// ReadServerCertificate reads CAPF's certificate chain and key from one PEM
// file, and verifies that phones would accept it. The error wraps
// fs.ErrNotExist if there is no such file.
func ReadServerCertificate(path string, now time.Time) (tls.Certificate, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("capf: read the server's certificate: %w", err)
	}
	cert, err := tls.X509KeyPair(text, text)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("capf: %s does not hold the server's certificate and its key in PEM: %w", path, err)
	}
	if err := CheckServerCertificate(cert.Leaf, now); err != nil {
		return tls.Certificate{}, fmt.Errorf("capf: %s: %w", path, err)
	}
	return cert, nil
}

func newServerFile(path string, subject pkix.Name, now time.Time) (tls.Certificate, error) {
	cert, err := GenerateServerCertificate(subject, nil, now)
	if err != nil {
		return tls.Certificate{}, err
	}
	key, err := x509.MarshalPKCS8PrivateKey(cert.PrivateKey)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("capf: encode the server's key: %w", err)
	}
	var b bytes.Buffer
	_ = pem.Encode(&b, &pem.Block{Type: "CERTIFICATE", Bytes: cert.Certificate[0]}) // a buffer takes everything
	_ = pem.Encode(&b, &pem.Block{Type: "PRIVATE KEY", Bytes: key})
	if err := atomicwriter.WriteFile(path, b.Bytes(), 0o600); err != nil {
		return tls.Certificate{}, fault.New(fault.DiskFull, "capf: keep the server's new certificate in "+path, err)
	}
	return cert, nil
}
