package capf

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/onlineca/onlineca/capf/wire"
	"github.com/onlineca/onlineca/internal/interop"
	"github.com/onlineca/onlineca/ra/fault"
)

// CAPF's certificate is made once, kept for its owner alone, and read from then
// on.
func TestLoadServerCertificate(t *testing.T) {
	path := filepath.Join(t.TempDir(), "capf.pem")
	first, err := LoadServerCertificate(path, pkix.Name{Organization: []string{"Example"}}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	interop.Private(t, path)
	c := first.Leaf
	if !regexp.MustCompile(`^CAPF-[0-9a-f]{8}$`).MatchString(c.Subject.CommonName) || c.Subject.Organization[0] != "Example" {
		t.Errorf("subject %q", c.Subject)
	}
	if !c.IsCA || c.MaxPathLen != 0 || !c.MaxPathLenZero || c.KeyUsage != x509.KeyUsageDigitalSignature|x509.KeyUsageCertSign {
		t.Errorf("CA %v, path length %d, usage %b", c.IsCA, c.MaxPathLen, c.KeyUsage)
	}
	again, err := LoadServerCertificate(path, pkix.Name{}, time.Now())
	if err != nil || !bytes.Equal(again.Certificate[0], first.Certificate[0]) {
		t.Errorf("the second time: %v", err)
	}
	if _, err := LoadServerCertificate(path, pkix.Name{}, time.Now().AddDate(6, 0, 0)); !errors.Is(err, fault.CAPFCertificate) || !strings.Contains(err.Error(), "valid from") {
		t.Errorf("expired: %v", err)
	}
	if err := os.WriteFile(path, []byte("nonsense"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := LoadServerCertificate(path, pkix.Name{}, time.Now()); err == nil || !strings.Contains(err.Error(), path) {
		t.Errorf("nonsense: %v", err)
	}
	if _, err := LoadServerCertificate(filepath.Join(path, "x"), pkix.Name{}, time.Now()); err == nil {
		t.Error("a path through a file")
	}
}

func TestNewServerChecks(t *testing.T) {
	cert := ecServerCertificate(t, "CAPF-test")
	local, err := NewLocalCA(cert, 0, nil)
	if err != nil {
		t.Fatal(err)
	}
	table := newMemTable()
	for want, cfg := range map[string]ServerConfig{
		"certificate and its key": {Devices: table, Local: local},
		"device table":            {Certificate: cert, Local: local},
		"has no CA":               {Certificate: cert, Devices: table},
		"none is configured":      {Certificate: cert, Devices: table, Issuer: IssuerOnline},
		"no issuer \"acme\"":      {Certificate: cert, Devices: table, Issuer: "acme"},
		"not RSA":                 {Certificate: cert, Devices: table, Local: local, LegacyTLS: true},
		"ENCRYPT exchange":        {Certificate: cert, Devices: table, Local: local, Encrypt: wire.EncryptStyle{Request: 99}},
		"read the server's":       {Certificate: tls.Certificate{Certificate: [][]byte{{1}}, PrivateKey: cert.PrivateKey}, Devices: table, Local: local},
	} {
		if _, err := NewServer(cfg); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
	if _, err := NewServer(ServerConfig{Certificate: cert, Devices: table, Issuer: IssuerOffline}); err != nil {
		t.Errorf("an offline CA needs nothing else: %v", err)
	}
}
