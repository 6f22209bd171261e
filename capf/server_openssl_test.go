package capf

import (
	"bytes"
	"context"
	"crypto/x509/pkix"
	"encoding/pem"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/onlineca/onlineca/internal/interop"
)

// OpenSSL, which phones have too, gets the first message over a real socket:
// with TLS 1.2, with TLS 1.3, and with what a 7900-series phone offers.
func TestOpenSSLClient(t *testing.T) {
	interop.Need(t, "openssl")
	cert, err := GenerateServerCertificate(pkix.Name{}, nil, time.Now()) // RSA, for the key exchange of old phones
	if err != nil {
		t.Fatal(err)
	}
	ca := filepath.Join(t.TempDir(), "capf.pem")
	if err := os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Certificate[0]}), 0o600); err != nil {
		t.Fatal(err)
	}
	srv, err := NewServer(ServerConfig{Certificate: cert, Devices: newMemTable(), Issuer: IssuerOffline, LegacyTLS: true})
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	served := make(chan error, 1)
	go func() { served <- srv.Serve(ctx, l) }()
	for name, args := range map[string][]string{
		"TLS 1.2":          {"-tls1_2"},
		"TLS 1.3":          {"-tls1_3"},
		"7900-series, 256": {"-tls1", "-cipher", "AES256-SHA@SECLEVEL=0"},
		"7900-series, 128": {"-tls1", "-cipher", "AES128-SHA@SECLEVEL=0"},
	} {
		t.Run(name, func(t *testing.T) { readHello(t, l.Addr().String(), ca, args) })
	}
	cancel()
	if err := <-served; err != nil {
		t.Error(err)
	}
}

func readHello(t *testing.T, addr, ca string, args []string) {
	t.Helper()
	args = append([]string{"s_client", "-connect", addr, "-CAfile", ca, "-verify_return_error", "-quiet"}, args...)
	cmd := exec.CommandContext(t.Context(), "openssl", args...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	in, err := cmd.StdinPipe() // open, so that s_client stays
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	hello := make([]byte, 12)
	if _, err := io.ReadFull(out, hello); err != nil {
		t.Errorf("%v\n%s", err, stderr.String())
	}
	want := []byte{0x55, 1, 0, 0, 0, hello[5], 0, 4, 7, 0, 1, 3}
	if !bytes.Equal(hello, want) {
		t.Errorf("the first message is %x", hello)
	}
	_ = in.Close()
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
}
