package capf

import (
	"bytes"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/hex"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/onlineca/onlineca/capf/wire"
)

// recv reads as a client does that calls recv(4096) once for each message: a
// message that comes in two TLS records would be cut.
func (p *rawPhone) recv() []byte {
	p.t.Helper()
	b := make([]byte, 4096)
	n, err := p.conn.Read(b)
	if err != nil {
		p.t.Fatalf("recv: %v", err)
	}
	return b[:n]
}

func (p *rawPhone) recvHex(want string) {
	p.t.Helper()
	if got, want := hex.EncodeToString(p.recv()), strings.NewReplacer(" ", "", "|", "").Replace(want); got != want {
		p.t.Fatalf("got  %s\nwant %s", got, want)
	}
}

func (p *rawPhone) sendHex(s string, tail ...byte) {
	p.t.Helper()
	b, err := hex.DecodeString(strings.NewReplacer(" ", "", "|", "").Replace(s))
	if err != nil {
		p.t.Fatal(err)
	}
	p.bytes(append(b, tail...))
}

const hexName = "0d 0010 534550303031313232333334343535 00"

func spki(t *testing.T) []byte {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	return der
}

// rsaDevice is a device that makes RSA keys of 2048 bits and cannot sign, as an
// independent client.
func rsaDevice(d Device) Device {
	d.KeyOrder, d.KeySize, d.Signing = RSAOnly, KeySize2048, SigningUnknown
	return d
}

// The byte streams of an independent client, version 3, as they were seen
// between it and its own server: what the server sends must be what that client
// accepts, byte by byte, and come well within its ten seconds.
func TestReplayIndependentClient(t *testing.T) {
	key := spki(t)
	for _, auth := range []struct {
		name   string
		device Device
		bytes  string
	}{
		{"password", stringDevice(), "55 02 00000001 0025 | 01 0001 01 | 07 0001 03 | 0b 0007 313233343536 00 |" + hexName},
		{"no password", pendingDevice(testDevice), "55 02 00000001 001f | 01 0001 01 | 07 0001 03 | 0b 0001 00 |" + hexName},
	} {
		t.Run(auth.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBench(t, func(c *ServerConfig) { c.Issuer, c.AnnounceAuthType = IssuerLocal, true }, rsaDevice(auth.device))
				defer b.stop()
				start := time.Now()
				p := b.raw("p")
				p.recvHex("55 01 00000001 0008 | 07 0001 03 | 08 0001 00")
				p.sendHex(auth.bytes)
				p.recvHex("55 03 00000001 0009 | 0a 0002 0800 | 11 0001 00")
				p.sendHex("55 11 00000001 0000")
				p.sendHex("55 04 00000001 0129 | 09 0126", key...)
				store := p.recv()
				checkStore(t, store, key)
				p.sendHex("55 0a 00000001 0004 | 01 0001 01")
				p.recvHex("55 0f 00000001 0004 | 01 0001 01")
				if took := time.Since(start); took >= 10*time.Second {
					t.Errorf("it took %v", took)
				}
				b.wantRow(testDevice, OperationNone, StatusUpgradeSuccess, "")
			})
		})
	}
}

// checkStore compares STORE_CERTIFICATE_REQUEST with the layout seen:
// CERTIFICATE_TYPE 1, then the certificate behind five bytes.
func checkStore(t *testing.T, b, key []byte) {
	t.Helper()
	if len(b) > wire.MaxMessage {
		t.Errorf("%d bytes in one message", len(b))
	}
	head := []byte{0x55, 9, 0, 0, 0, 1, b[6], b[7], 3, 0, 1, 1, 4, b[13], b[14], 1, b[16], b[17], 0, 1}
	if !bytes.HasPrefix(b, head) {
		t.Fatalf("STORE begins %x", b[:20])
	}
	cert, err := x509.ParseCertificate(b[20:])
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(cert.RawSubjectPublicKeyInfo, key) {
		t.Error("the certificate is for another key")
	}
}

// With the online CA that client is refused cleanly, before it makes a key.
func TestReplayIndependentClientOnline(t *testing.T) {
	b := newBench(t, func(c *ServerConfig) { c.AnnounceAuthType = true }, rsaDevice(stringDevice()))
	defer b.stop()
	p := b.raw("p")
	p.recvHex("55 01 00000001 0008 | 07 0001 03 | 08 0001 00")
	p.sendHex("55 02 00000001 0025 | 01 0001 01 | 07 0001 03 | 0b 0007 313233343536 00 |" + hexName)
	p.recvHex("55 0f 00000001 0004 | 01 0001 07")
	b.wantRow(testDevice, OperationNone, StatusUpgradeFailed, "cannot sign")
}

// Its other sequences.
func TestReplayFetchDeleteNone(t *testing.T) {
	const auth = "55 02 00000001 001f | 01 0001 01 | 07 0001 03 | 0b 0001 00 |" + hexName
	for name, tt := range map[string]struct {
		op     Operation
		script []string // what the server sends, what the client answers, in turn
		status Status
	}{
		"none":             {OperationNone, []string{"55 0f 00000001 0004 | 01 0001 00"}, 1},
		"delete":           {OperationDelete, []string{"55 0d 00000001 0000", "55 0e 00000001 0004 | 01 0001 01", "55 0f 00000001 0004 | 01 0001 01"}, 4},
		"delete, no file":  {OperationDelete, []string{"55 0d 00000001 0000", "55 0e 00000001 0004 | 01 0001 07", "55 0f 00000001 0004 | 01 0001 07"}, 7},
		"fetch, no file":   {OperationTroubleshoot, []string{"55 0b 00000001 0000", "55 0c 00000001 0004 | 01 0001 07", "55 0f 00000001 0004 | 01 0001 00"}, 5},
		"fetch, bad bytes": {OperationTroubleshoot, []string{"55 0b 00000001 0000", "55 0c 00000001 000d | 01 0001 01 | 04 0006 01 0003 0001 30", "55 0f 00000001 0004 | 01 0001 07"}, 8},
	} {
		t.Run(name, func(t *testing.T) {
			d := NewDevice(testDevice)
			d.Operation = tt.op
			b := newBench(t, nil, d)
			defer b.stop()
			p := b.raw("p")
			p.recvHex("55 01 00000001 0004 | 07 0001 03")
			p.sendHex(auth)
			for i, s := range tt.script {
				if i%2 == 0 {
					p.recvHex(s)
				} else {
					p.sendHex(s)
				}
			}
			if d := b.device(testDevice); d.Status != tt.status || d.Operation != OperationNone {
				t.Errorf("status %d, operation %v", d.Status, d.Operation)
			}
		})
	}
}

// A real product's soft client, version 2: no KEY_TYPE, no PASSWORD, its
// elements in another order, its key at once.
func TestReplaySoftClient(t *testing.T) {
	key := spki(t)
	b := newBench(t, func(c *ServerConfig) { c.Issuer = IssuerLocal }, rsaDevice(pendingDevice(testDevice)))
	defer b.stop()
	p := b.raw("p")
	p.recvHex("55 01 00000001 0004 | 07 0001 03")
	p.sendHex("55 02 00000001 001b | 07 0001 02 |" + hexName + "| 01 0001 01")
	p.recvHex("55 03 00000001 0005 | 0a 0002 0800")
	p.sendHex("55 04 00000001 0129 | 09 0126", key...)
	checkStore(t, p.recv(), key)
	p.sendHex("55 0a 00000001 0004 | 01 0001 01")
	p.recvHex("55 0f 00000001 0004 | 01 0001 01")
}

// A message that arrives byte by byte, and two that arrive at once, are read as
// well as one in one piece.
func TestReplayInPieces(t *testing.T) {
	key := spki(t)
	b := newBench(t, func(c *ServerConfig) { c.Issuer = IssuerLocal }, rsaDevice(pendingDevice(testDevice)))
	defer b.stop()
	p := b.raw("p")
	p.recv()
	auth, _ := hex.DecodeString(strings.NewReplacer(" ", "", "|", "").Replace("55 02 00000001 001b | 07 0001 02 |" + hexName + "| 01 0001 01"))
	for i := range auth {
		p.bytes(auth[i : i+1])
	}
	p.recv()
	p.sendHex("55 11 00000001 0000 55 11 00000001 0000 55 04 00000001 0129 | 09 0126", key...)
	checkStore(t, p.recv(), key)
}

// A long message comes in one TLS record too: some clients read it at one go,
// others stall.
func TestOneRecord(t *testing.T) {
	d := pendingDevice(testDevice)
	d.Model = strings.Repeat("x", 1200) // it stands in the certificate's subject
	b := newBench(t, nil, d)
	defer b.stop()
	p := b.raw("p")
	p.hello()
	p.auth(3, testDevice)
	p.expect(wire.KeyGenerateRequest)
	key := p.publicKey()
	m := p.expect(wire.EncryptRequest)
	answer, err := wire.EncryptStyle{}.Answer(key, &m)
	if err != nil {
		t.Fatal(err)
	}
	p.send(answer.Command, answer.Elements...)
	store, err := wire.Decode(p.recv())
	if err != nil || store.Command != wire.StoreCertificateRequest {
		t.Fatalf("%v, %v", store, err)
	}
	if der, _ := store.Certificate(); len(der) < 2400 {
		t.Errorf("the certificate has %d bytes: the test tests nothing", len(der))
	}
}
