package capf_test

import (
	"bytes"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"io/fs"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/onlineca/onlineca/capf"
	"github.com/onlineca/onlineca/internal/interop"
	"github.com/onlineca/onlineca/ra/fault"
)

func estPEM(kind string, der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
}

// smallRSA is an RSA key of 512 bits, made of two primes of 256: crypto/rsa
// makes no such key itself.
func smallRSA(t *testing.T) []byte {
	t.Helper()
	interop.Need(t, "openssl")
	dir := t.TempDir()
	key, csr := filepath.Join(dir, "key.pem"), filepath.Join(dir, "x.csr")
	openssl(t, "genrsa", "-out", key, "512")
	openssl(t, "req", "-new", "-sha256", "-key", key, "-subj", "/CN=SEP000000000512", "-out", csr)
	data, err := os.ReadFile(csr)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func openssl(t *testing.T, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "openssl", args...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("openssl %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

// badSignature changes the last byte of a request's signature.
func badSignature(der []byte) []byte {
	bad := bytes.Clone(der)
	bad[len(bad)-1] ^= 1
	return bad
}

func TestParseCSR(t *testing.T) {
	der := estCSR(t, "SEP001122334455")
	for name, data := range map[string][]byte{
		"DER":      der,
		"PEM":      estPEM("CERTIFICATE REQUEST", der),
		"old PEM":  append([]byte("some text\n"), estPEM("NEW CERTIFICATE REQUEST", der)...),
		"key, too": append(estPEM("EC PARAMETERS", []byte{6, 0}), estPEM("CERTIFICATE REQUEST", der)...),
	} {
		csr, err := capf.ParseCSR(data)
		if err != nil || !bytes.Equal(csr.Raw, der) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, c := range map[string]struct {
		data []byte
		code fault.Code
	}{
		"empty":         {nil, fault.MalformedCSR},
		"blank":         {[]byte(" \n"), fault.MalformedCSR},
		"zeros":         {make([]byte, 5000), fault.MalformedCSR},
		"text":          {[]byte("SEP001122334455"), fault.MalformedCSR},
		"certificate":   {estPEM("CERTIFICATE", der), fault.MalformedCSR},
		"cut off":       {der[:len(der)-9], fault.MalformedCSR},
		"trailing":      {append(bytes.Clone(der), 0), fault.MalformedCSR},
		"bad signature": {badSignature(der), fault.BadCSRSignature},
		"512 bits":      {smallRSA(t), fault.KeyTooShort},
	} {
		if _, err := capf.ParseCSR(c.data); !errors.Is(err, c.code) {
			t.Errorf("%s: %v, want %v", name, err, c.code)
		}
	}
}

func TestReadCSRFileRefusesWhatIsNoRequestWithoutReadingIt(t *testing.T) {
	dir := t.TempDir()
	big := filepath.Join(dir, "big.csr")
	if err := os.WriteFile(big, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(big, 10<<20); err != nil {
		t.Fatal(err)
	}
	for path, says := range map[string]string{big: "10485760 bytes", dir: "not a file"} {
		_, err := capf.ReadCSRFile(path)
		if !errors.Is(err, fault.MalformedCSR) || !strings.Contains(err.Error(), says) || strings.Count(err.Error(), path) != 1 {
			t.Errorf("%s: %v", path, err)
		}
	}
	if _, err := capf.ReadCSRFile(filepath.Join(dir, "none.csr")); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
	allocated := testing.AllocsPerRun(1, func() { _, _ = capf.ReadCSRFile(big) })
	if allocated > 100 {
		t.Errorf("%v allocations to refuse a large file", allocated)
	}
}

func TestParsePKCS7RefusesGarbage(t *testing.T) {
	ca := newESTCA(t)
	good := estP7(t, ca.issuing)
	for name, der := range map[string][]byte{
		"nothing": nil, "zeros": make([]byte, 100), "text": []byte("<html>"), "cut off": good[:len(good)/2],
		"a certificate": ca.issuing.Raw, "no certificate": estP7(t),
	} {
		if certs, err := capf.ParsePKCS7(der); !errors.Is(err, fault.CertificateUnreadable) {
			t.Errorf("%s: %v, %v", name, certs, err)
		}
	}
}

// The parser would recurse, or search, for minutes.
func TestParsePKCS7IsNotKeptBusy(t *testing.T) {
	nested := []byte{}
	for len(nested) < 1<<20 {
		nested = append(nested, 0x30, 0x83, 0x1f, 0xff, 0xff)
	}
	for name, der := range map[string][]byte{
		"nested":     append(nested, make([]byte, 2<<20)...),
		"indefinite": bytes.Repeat([]byte{0x30, 0x80}, 1<<20),
		"a few":      bytes.Repeat([]byte{0x30, 0x80}, 41),
		"many":       append([]byte{0x30, 0x80}, bytes.Repeat([]byte{5, 0}, 1<<19)...),
		"lengths":    {0x30, 0x85, 1, 1, 1, 1, 1},
		"tags":       bytes.Repeat([]byte{0x3f}, 100),
	} {
		if _, err := capf.ParsePKCS7(der); !errors.Is(err, fault.CertificateUnreadable) || strings.Contains(err.Error(), "ber2der") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// EJBCA and others on Bouncy Castle write indefinite lengths.
func TestParsePKCS7InBER(t *testing.T) {
	ca := newESTCA(t)
	der := estP7(t, ca.issuing)
	ber := append(append([]byte{0x30, 0x80}, der[4:]...), 0, 0)
	if der[1] != 0x82 {
		t.Fatalf("the header is %x", der[:4])
	}
	certs, err := capf.ParsePKCS7(ber)
	if err != nil || len(certs) != 1 || !certs[0].Equal(ca.issuing) {
		t.Errorf("%v, %v", certs, err)
	}
}

func TestLeafForTakesTheCertificateOfTheKey(t *testing.T) {
	ca := newESTCA(t)
	key := estKey(t)
	csr, err := capf.ParseCSR(estCSRFor(t, "SEP001122334455", key))
	if err != nil {
		t.Fatal(err)
	}
	leaf := ca.issue(t, csr, nil)
	got, err := capf.LeafFor([]*x509.Certificate{ca.root, ca.issuing, leaf}, key.Public())
	if err != nil || !got.Equal(leaf) {
		t.Errorf("%v, %v", got, err)
	}
	if _, err := capf.LeafFor([]*x509.Certificate{ca.root, ca.issuing}, key.Public()); !errors.Is(err, fault.WrongKeyCertificate) || !strings.Contains(err.Error(), "Test Issuing CA") {
		t.Error(err)
	}
	if _, err := capf.LeafFor([]*x509.Certificate{leaf}, &rsa.PublicKey{N: big.NewInt(7), E: 3}); !errors.Is(err, fault.WrongKeyCertificate) {
		t.Error(err)
	}
}

func TestWriteLSCWritesAllOrNothing(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "SEP001122334455.der")
	for _, der := range [][]byte{bytes.Repeat([]byte{7}, 9000), {1, 2, 3}} {
		if err := capf.WriteLSC(path, der); err != nil {
			t.Fatal(err)
		}
		got, err := os.ReadFile(path)
		if err != nil || !bytes.Equal(got, der) {
			t.Errorf("%d bytes, %v", len(got), err)
		}
		if info, _ := os.Stat(path); info.Mode() != 0o644 {
			t.Errorf("mode %v", info.Mode())
		}
	}
	if err := capf.WriteLSC(filepath.Join(dir, "none", "x.der"), nil); !errors.Is(err, fault.DiskFull) {
		t.Error(err)
	}
	if err := os.Mkdir(filepath.Join(dir, "dir.der"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := capf.WriteLSC(filepath.Join(dir, "dir.der"), nil); !errors.Is(err, fault.DiskFull) {
		t.Error(err)
	}
	estOnly(t, dir, "SEP001122334455.der", "dir.der")
}

// estOnly fails if dir holds anything but the names given.
func estOnly(t *testing.T, dir string, names ...string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]bool{}
	for _, n := range names {
		want[n] = true
	}
	for _, e := range entries {
		if !want[e.Name()] {
			t.Errorf("%s was left behind", e.Name())
		}
	}
	if len(entries) < len(names) {
		t.Errorf("%d files, want %v", len(entries), names)
	}
}

func FuzzParseCSR(f *testing.F) {
	der := estCSR(f, "SEP001122334455")
	f.Add(der)
	f.Add(estPEM("CERTIFICATE REQUEST", der))
	f.Fuzz(func(t *testing.T, data []byte) {
		csr, err := capf.ParseCSR(data)
		if (csr == nil) == (err == nil) {
			t.Fatal(csr, err)
		}
	})
}

func FuzzParsePKCS7(f *testing.F) {
	ca := newESTCA(f)
	f.Add(estP7(f, ca.issuing, ca.root))
	f.Add(estP7(f))
	f.Fuzz(func(t *testing.T, data []byte) {
		certs, err := capf.ParsePKCS7(data)
		if (len(certs) == 0) == (err == nil) {
			t.Fatal(certs, err)
		}
	})
}
