package chain

import (
	"context"
	"encoding/pem"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	pkcs12 "software.sslmate.com/src/go-pkcs12"
)

func contextWithCancel(t *testing.T) (context.Context, context.CancelFunc) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	t.Cleanup(cancel)
	return ctx, cancel
}

func TestRequestUsage(t *testing.T) {
	leaf := tempFile(t, "leaf.pem", pemOf(issue(t, nil, "leaf").cert))
	junk := tempFile(t, "junk", []byte("junk"))
	for _, c := range []struct {
		name string
		r    Request
		says string
	}{
		{"profile", Request{Profile: "toaster"}, `no appliance is called "toaster"; use one of ome-upload, ome-server`},
		{"no file", Request{Profile: OMEUpload}, "nothing to check: give a file or --connect with the appliance's certificate"},
		{"no peer", Request{Profile: OMEMigration, Files: []string{leaf}}, "ome-migration needs --peer"},
		{"no trust", Request{Profile: Expressway, Files: []string{leaf}}, "expressway needs --trust"},
		{"no name", Request{Profile: Jabber, Files: []string{leaf}}, "jabber needs --verify-name"},
		{"time", Request{Profile: OMEUpload, Files: []string{leaf}, At: "noon"}, `"noon" is no time; write 2026-01-31`},
		{"EKU", Request{Profile: CAPFLSC, Files: []string{leaf}, EKU: []string{"all"}}, `"all" is no extended key usage`},
		{"a CSR for a phone", Request{Profile: CAPFLSC, Files: []string{leaf}, CSR: leaf}, "--csr has no meaning for capf-lsc"},
		{"a device for OME", Request{Profile: OMEUpload, Files: []string{leaf}, VerifyName: device}, "--verify-name has no meaning for ome-upload"},
		{"another side for Expressway", Request{Profile: Expressway, Files: []string{leaf}, Trust: []string{leaf}, Peer: []string{leaf}}, "--peer has no meaning for expressway"},
		{"another store for Jabber", Request{Profile: Jabber, Files: []string{leaf}, VerifyName: "x", PeerTrust: []string{leaf}}, "--peer-trust has no meaning for jabber"},
		{"standard input twice", Request{Profile: OMEUpload, Files: []string{"-"}, CSR: "-"}, "standard input (-) can be read once only"},
		{"repair to standard output", Request{Profile: OMEUpload, Files: []string{leaf}, Fix: "-"}, "--fix needs the name of a file"},
		{"repair over its own file", Request{Profile: OMEUpload, Files: []string{leaf}, Fix: filepath.Join(filepath.Dir(leaf), ".", "leaf.pem")}, "--fix would overwrite"},
		{"repair over the trust store", Request{Profile: OMEUpload, Files: []string{junk}, Trust: []string{leaf}, Fix: leaf}, "--fix would overwrite"},
		{"an address that is a URL", Request{Profile: OMEUpload, Connect: "https://ome.example.com/"}, "is a URL; write HOST:PORT"},
		{"absent file", Request{Profile: OMEUpload, Files: []string{leaf + "x"}}, "no such file"},
		{"no request", Request{Profile: OMEUpload, Files: []string{leaf}, CSR: leaf}, "read certificate request"},
		{"unreadable LSC", Request{Profile: CAPFLSC, Files: []string{junk}}, "neither PEM, nor DER"},
		{"unreadable trust", Request{Profile: Expressway, Files: []string{leaf}, Trust: []string{junk}}, "neither PEM, nor DER"},
		{"password file", Request{Profile: OMEUpload, Files: []string{leaf}, PasswordFile: leaf + "x"}, "read the password"},
		{"nobody there", Request{Profile: OMEUpload, Connect: "127.0.0.1:1"}, "fetch the chain from 127.0.0.1:1"},
	} {
		v, err := c.r.Run(t.Context())
		if v != nil || err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v, want %q", c.name, err, c.says)
		}
	}
	var usage *UsageError
	if _, err := (Request{Profile: OMEUpload}).Run(t.Context()); !errors.As(err, &usage) {
		t.Errorf("%T", err)
	}
	// A repair takes what it can get.
	other := Request{Profile: OMEServer, Files: []string{leaf}, Peer: []string{leaf}, PeerTrust: []string{leaf}, Fix: filepath.Join(t.TempDir(), "fixed.pem")}
	if _, err := other.Run(t.Context()); err != nil {
		t.Error(err)
	}
	// Junk is something that these appliances have a verdict on.
	for _, p := range []Profile{OMEUpload, OMEServer, Expressway} {
		v, err := Request{Profile: p, Files: []string{junk}, Trust: []string{leaf}}.Run(t.Context())
		if err != nil || v.Accepted {
			t.Errorf("%s: %v", p, err)
		}
	}
}

func TestRequestReadsEverything(t *testing.T) {
	root := issue(t, nil, "Root-CA", asCA)
	leaf := issue(t, root, "OMENT", asServer())
	p12, err := pkcs12.Modern.Encode(leaf.key, leaf.cert, certsOf(root), "pass word")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for name, data := range map[string][]byte{
		"chain.p12": p12, "password": []byte("pass word\r\nsecond line"),
		"ome.csr": pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: request(t, leaf.key, "OMENT").Raw}),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	r := Request{Profile: OMEUpload, Files: []string{filepath.Join(dir, "chain.p12")}, PasswordFile: filepath.Join(dir, "password"), CSR: filepath.Join(dir, "ome.csr"), At: "2026-03-01 12:00:00"}
	v, err := r.Run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	f := only(t, v)
	if f.Rule != "encoding" || !strings.Contains(f.Detail, "this is PKCS#12; OpenManage Enterprise wants Base64") || !v.At.Equal(now) {
		t.Errorf("%s: %s, at %s", f.Rule, f.Detail, v.At)
	}
	r.PasswordFile = ""
	v, err = r.Run(t.Context())
	if err != nil || !strings.Contains(v.First().Detail, "--password-file") {
		t.Errorf("%v %v", v, err)
	}
	r = Request{Profile: OMEUpload, Files: []string{"-"}, Stdin: strings.NewReader(string(pemOf(leaf.cert, root.cert))), At: "2026-03-01"}
	if v, err = r.Run(t.Context()); err != nil || !v.Accepted || v.Inputs[0].Name != "standard input" {
		t.Errorf("%+v %v", v, err)
	}
}

func TestParseTime(t *testing.T) {
	for s, want := range map[string]time.Time{
		"": now, "2026-03-01T13:00:00+01:00": now, "2026-03-01 12:00:00": now, "2026-03-01": now.Truncate(24 * time.Hour),
	} {
		if got, err := ParseTime(s, now); err != nil || !got.Equal(want) {
			t.Errorf("%q: %s, %v", s, got, err)
		}
	}
}
