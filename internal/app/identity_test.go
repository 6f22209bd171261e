package app

import (
	"crypto/x509"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/onlineca/onlineca/internal/interop"
)

var testTime = time.Date(2026, 3, 5, 12, 0, 0, 0, time.UTC)

func TestServerCertificateIsMadeOnceAndKept(t *testing.T) {
	s := DefaultSettings()
	s.State = filepath.Join(t.TempDir(), "state")
	first, own, err := serverCertificate(s, testTime)
	if err != nil {
		t.Fatal(err)
	}
	if own == "" {
		t.Error("nobody is told which file to trust")
	}
	interop.Private(t, filepath.Join(s.State, "est-server.key"))
	leaf := leafOf(first)
	roots := x509.NewCertPool()
	roots.AddCert(leaf)
	for _, name := range []string{"localhost", "127.0.0.1", "::1"} {
		if _, err := leaf.Verify(x509.VerifyOptions{Roots: roots, DNSName: name, CurrentTime: testTime}); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	again, _, err := serverCertificate(s, testTime.Add(24*time.Hour))
	if err != nil || !leafOf(again).Equal(leaf) {
		t.Errorf("the next start made another certificate (%v)", err)
	}
	s.TLS.Names = []string{"ra.example.com"}
	named, _, err := serverCertificate(s, testTime)
	if err != nil || leafOf(named).VerifyHostname("ra.example.com") != nil {
		t.Errorf("a new name has no certificate (%v)", err)
	}
	late, _, err := serverCertificate(s, testTime.Add(ownValidity))
	if err != nil || leafOf(late).Equal(leafOf(named)) {
		t.Errorf("an old certificate was not replaced (%v)", err)
	}
}

func TestServerCertificateDamaged(t *testing.T) {
	s := DefaultSettings()
	s.State = t.TempDir()
	for _, name := range []string{"est-server.pem", "est-server.key"} {
		if err := os.WriteFile(filepath.Join(s.State, name), []byte("damaged"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if _, _, err := serverCertificate(s, testTime); err == nil {
		t.Error("a damaged key was replaced without a word: clients trust the old certificate")
	}
}
