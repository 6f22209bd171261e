package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// checkFiles writes a server certificate and its root, and returns their paths.
func checkFiles(t *testing.T) (leaf, root, both string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	ca := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "Root-CA"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	server := &x509.Certificate{SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "OMENT"}, NotBefore: ca.NotBefore, NotAfter: ca.NotAfter, BasicConstraintsValid: true,
		KeyUsage:    x509.KeyUsageDigitalSignature | x509.KeyUsageKeyEncipherment,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}}
	dir := t.TempDir()
	var all []byte
	var paths []string
	for _, c := range []*x509.Certificate{server, ca} {
		der, err := x509.CreateCertificate(rand.Reader, c, ca, key.Public(), key)
		if err != nil {
			t.Fatal(err)
		}
		block := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
		all = append(all, block...)
		paths = append(paths, filepath.Join(dir, c.Subject.CommonName+".pem"))
		if err := os.WriteFile(paths[len(paths)-1], block, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	both = filepath.Join(dir, "chain.pem")
	if err := os.WriteFile(both, all, 0o600); err != nil {
		t.Fatal(err)
	}
	return paths[0], paths[1], both
}

func TestCheckExitStatus(t *testing.T) {
	leaf, root, both := checkFiles(t)
	fixed := filepath.Join(t.TempDir(), "fixed.pem")
	for _, c := range []struct {
		args   string
		status int
		stdout string
		stderr string
	}{
		{"--for ome-upload " + both, 0, "ACCEPTED", ""},
		{"--for ome-upload " + leaf, 1, "CGEN1008: Unable to process the request because an error occurred.", ""},
		{"--for ome-upload --trust " + root + " --fix " + fixed + " " + leaf, 1, "added: Root-CA", ""},
		{"--for ome-upload " + fixed, 0, "ACCEPTED", ""},
		{"--for ome-upload --fix " + fixed + " " + leaf, 2, "REFUSED", "the chain cannot be repaired"},
		{"--for expressway --trust " + root + " " + leaf, 0, "ACCEPTED", ""},
		{"--for expressway " + leaf, 2, "", "expressway needs --trust"},
		{"--for toaster " + leaf, 2, "", "no appliance is called \"toaster\""},
		{"--for ome-upload", 2, "", "nothing to check"},
		{"--for ome-upload /absent/chain.pem", 2, "", "no such file"},
		{"--for ome-upload --at noon " + both, 2, "", "is no time"},
		{both, 2, "", "\"for\" not set"},
		{"--for ome-upload --colour " + both, 2, "", "unknown flag"},
	} {
		var stdout, stderr strings.Builder
		status := run(t.Context(), append([]string{"check"}, strings.Fields(c.args)...), strings.NewReader(""), &stdout, &stderr)
		if status != c.status || !strings.Contains(stdout.String(), c.stdout) || !strings.Contains(stderr.String(), c.stderr) {
			t.Errorf("check %s: status %d, want %d\n%s%s", c.args, status, c.status, stdout.String(), stderr.String())
		}
		if c.stderr == "" && stderr.Len() > 0 {
			t.Errorf("check %s: %s", c.args, stderr.String())
		}
	}
}

func TestCheckJSON(t *testing.T) {
	_, _, both := checkFiles(t)
	file, err := os.Open(both)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	var stdout, stderr strings.Builder
	if status := run(t.Context(), []string{"check", "--for", "ome-upload", "--json", "-"}, file, &stdout, &stderr); status != 0 {
		t.Fatalf("status %d: %s", status, stderr.String())
	}
	var v struct {
		Schema   string
		Accepted bool
		Inputs   []struct{ Name string }
	}
	if err := json.Unmarshal([]byte(stdout.String()), &v); err != nil || !v.Accepted || v.Schema != "onlineca-check/1" || v.Inputs[0].Name != "standard input" {
		t.Errorf("%v %+v", err, v)
	}
}
