package capf

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/hex"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/onlineca/onlineca/capf/wire"
)

// clearPipe is a connection without TLS.
type clearPipe struct{ net.Conn }

func (c clearPipe) CloseWrite() error { return c.Close() }

// FuzzSession lets a phone send anything: the session ends, and a device is not
// said to have a certificate that was not issued for a key of its own.
func FuzzSession(f *testing.F) {
	bytesOf := func(s string) []byte {
		b, err := hex.DecodeString(strings.NewReplacer(" ", "", "|", "").Replace(s))
		if err != nil {
			f.Fatal(err)
		}
		return b
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		f.Fatal(err)
	}
	der, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		f.Fatal(err)
	}
	auth := bytesOf("55 02 00000001 001b | 07 0001 03 |" + hexName + "| 01 0001 01")
	keyMessage, err := wire.Message{Command: wire.KeyGenerateResponse, Session: 1, Elements: []wire.Element{{Tag: wire.TagPublicKey, Value: der}}}.Encode()
	if err != nil {
		f.Fatal(err)
	}
	stored := bytesOf("55 0a 00000001 0004 | 01 0001 01")
	for op := byte(1); op <= 4; op++ {
		f.Add(op, op, append([]byte{}, auth...))
	}
	f.Add(byte(2), byte(1), append(append(append([]byte{}, auth...), keyMessage...), stored...))
	f.Add(byte(2), byte(0), append(append([]byte{}, auth...), keyMessage...))
	f.Add(byte(3), byte(1), append(append([]byte{}, auth...), bytesOf("55 0e 00000001 0004 | 01 0001 01")...))
	f.Add(byte(4), byte(1), append(append([]byte{}, auth...), bytesOf("55 0c 00000001 0004 | 01 0001 07")...))

	cert := ecServerCertificate(f, "CAPF-test")
	local, err := NewLocalCA(cert, 0, nil)
	if err != nil {
		f.Fatal(err)
	}
	ca := newFakeCA(f)
	f.Fuzz(func(t *testing.T, op, kind byte, stream []byte) {
		d := pendingDevice(testDevice)
		d.Operation = Operation(1 + op%4)
		d.Issuer = []IssuerKind{IssuerOnline, IssuerLocal, IssuerOffline}[kind%3]
		d.AuthMode = AuthMode(1 + kind/3%4)
		d.AuthString = "123456"
		table := newMemTable(d)
		srv, err := NewServer(ServerConfig{Certificate: cert, Devices: table, Online: ca, Local: local})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancelCause(t.Context())
		defer cancel(nil)
		srv.base = ctx
		client, server := net.Pipe()
		p := srv.newSession(clearPipe{server}, "fuzz", 1, cancel)
		go func() {
			go func() { _, _ = io.Copy(io.Discard, client) }()
			_, _ = client.Write(stream)
			_ = client.Close()
		}()
		srv.work.Go(p.read)
		p.run(ctx)
		close(p.done)
		p.forget()
		_ = server.Close()
		srv.work.Wait()
		checkFuzzed(t, table, d)
	})
}

func checkFuzzed(t *testing.T, table *memTable, before Device) {
	t.Helper()
	d, err := table.Device(context.Background(), testDevice)
	if err != nil {
		t.Fatal(err)
	}
	// The null string is a device's own choice to trust whoever comes.
	if before.AuthMode != AuthByNullString && before.AuthMode != AuthByString && len(d.LSC) != 0 {
		t.Error("a certificate without authentication")
	}
	if before.Operation == OperationUpgrade && d.Status == StatusUpgradeSuccess && (before.Issuer != IssuerLocal || len(d.LSC) == 0) {
		t.Errorf("success with the issuer %v", before.Issuer)
	}
	if err := d.Check(); err != nil {
		t.Error(err)
	}
	if d.LastContact.After(time.Now()) {
		t.Error("a contact in the future")
	}
}
