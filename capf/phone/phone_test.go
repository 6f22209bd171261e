package phone_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1"
	"crypto/sha512"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/onlineca/onlineca/capf/phone"
	"github.com/onlineca/onlineca/capf/wire"
	"github.com/onlineca/onlineca/internal/interop"
)

const sep = "SEP001122334455"

// fakeCAPF is a server that plays a script: it sends bytes and compares what
// comes back. It shares nothing with this project's server.
type fakeCAPF struct {
	t     testing.TB
	cert  tls.Certificate
	key   *ecdsa.PrivateKey
	roots *x509.CertPool
}

func newFake(t testing.TB, change func(*x509.Certificate)) *fakeCAPF {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "CAPF-fake"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		BasicConstraintsValid: true, IsCA: true, MaxPathLenZero: true,
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
	}
	if change != nil {
		change(template)
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	f := &fakeCAPF{t: t, cert: tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}, key: key, roots: x509.NewCertPool()}
	f.roots.AddCert(leaf)
	return f
}

// config is a phone whose connections are served by one script each.
func (f *fakeCAPF) config(scripts ...func(c *peer)) phone.Config {
	n := 0
	return phone.Config{
		Device: sep, Roots: f.roots, Retries: -1,
		Sleep: func(context.Context, time.Duration) {},
		Dial: func(context.Context) (net.Conn, error) {
			if n >= len(scripts) {
				return nil, errors.New("no more scripts")
			}
			script := scripts[n]
			n++
			client, server := net.Pipe()
			go func() {
				defer server.Close()
				conn := tls.Server(server, &tls.Config{Certificates: []tls.Certificate{f.cert}})
				if conn.Handshake() == nil {
					script(&peer{f.t, conn})
				}
			}()
			return client, nil
		},
	}
}

func (f *fakeCAPF) issue(pub crypto.PublicKey) []byte {
	template := &x509.Certificate{SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: sep}, NotBefore: time.Now(), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, f.cert.Leaf, pub, f.key)
	if err != nil {
		f.t.Error(err)
	}
	return der
}

type peer struct {
	t    testing.TB
	conn *tls.Conn
}

func unhex(s string) []byte {
	b, err := hex.DecodeString(strings.NewReplacer(" ", "", "|", "").Replace(s))
	if err != nil {
		panic(err)
	}
	return b
}

func (p *peer) send(s string, tail ...byte) { _, _ = p.conn.Write(append(unhex(s), tail...)) }

// recv reads one message, which must come in one TLS record.
func (p *peer) recv() []byte {
	b := make([]byte, 16<<10)
	n, err := p.conn.Read(b)
	if err != nil {
		return nil
	}
	if n != wire.HeaderLen+int(binary.BigEndian.Uint16(b[6:])) {
		p.t.Errorf("the phone sent %d bytes at once, a message of %d", n, wire.HeaderLen+int(binary.BigEndian.Uint16(b[6:])))
	}
	return b[:n]
}

func (p *peer) want(s string) {
	if got := p.recv(); !bytes.Equal(got, unhex(s)) {
		p.t.Errorf("the phone sent\n     %x\nwant %x", got, unhex(s))
	}
}

// key reads KEY_GENERATE_RESPONSE.
func (p *peer) key() crypto.PublicKey {
	b := p.recv()
	if len(b) < 11 {
		p.t.Errorf("no key: %x", b)
		return nil
	}
	pub, err := x509.ParsePKIXPublicKey(b[11:])
	if err != nil {
		p.t.Errorf("the key: %v", err)
	}
	return pub
}

// store sends STORE_CERTIFICATE_REQUEST in the layout seen.
func (p *peer) store(session byte, der []byte) {
	n := len(der)
	b := []byte{0x55, 9, 0, 0, 0, session}
	b = binary.BigEndian.AppendUint16(b, uint16(4+3+5+n))
	b = append(b, 3, 0, 1, 1, 4)
	b = binary.BigEndian.AppendUint16(b, uint16(5+n))
	b = append(b, 1)
	b = binary.BigEndian.AppendUint16(b, uint16(2+n))
	b = append(b, 0, 1)
	_, _ = p.conn.Write(append(b, der...))
}

const (
	name45 = "0d 0010 534550303031313232333334343535 00"
	endOK  = "55 0f 00000001 0004 | 01 0001 01"
)

// The phone as version 3 sends byte for byte what an independent client sends.
func TestVersion3Bytes(t *testing.T) {
	f := newFake(t, nil)
	for name, tt := range map[string]struct {
		auth phone.Auth
		want string
	}{
		"password":    {phone.Auth{String: "123456"}, "55 02 00000001 0025 | 01 0001 01 | 07 0001 03 | 0b 0007 313233343536 00 |" + name45},
		"no password": {phone.Auth{}, "55 02 00000001 001f | 01 0001 01 | 07 0001 03 | 0b 0001 00 |" + name45},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			cfg := f.config(func(c *peer) {
				c.send("55 01 00000001 0008 | 07 0001 03 | 08 0001 00")
				c.want(tt.want)
				c.send("55 03 00000001 0009 | 0a 0002 0400 | 11 0001 00")
				c.want("55 11 00000001 0000")
				pub := c.key()
				if k, ok := pub.(*rsa.PublicKey); !ok || k.N.BitLen() != 1024 {
					t.Errorf("key %T", pub)
				}
				c.store(1, f.issue(pub))
				c.want("55 0a 00000001 0004 | 01 0001 01")
				c.send(endOK)
			})
			cfg.Auth, cfg.Dir = tt.auth, dir
			r, err := phone.Run(t.Context(), cfg)
			if err != nil || r.Operation != phone.Install || r.Session != 1 || r.Attempts != 1 {
				t.Fatalf("%+v, %v", r, err)
			}
			path := filepath.Join(dir, sep+".pem")
			interop.Private(t, path)
			id, err := phone.LoadIdentity(path)
			if err != nil || !bytes.Equal(id.Certificate, r.Certificate) {
				t.Error(err)
			}
			if left, _ := os.ReadDir(dir); len(left) != 1 {
				t.Errorf("files left: %v", left)
			}
		})
	}
}

// The phone as version 2 sends what a real product's soft client sends, and
// understands a request without KEY_TYPE.
func TestVersion2Bytes(t *testing.T) {
	f := newFake(t, nil)
	cfg := f.config(func(c *peer) {
		c.send("55 01 00000001 0004 | 07 0001 03")
		c.want("55 02 00000001 001b | 07 0001 02 |" + name45 + "| 01 0001 01")
		c.send("55 03 00000001 0005 | 0a 0002 0400")
		c.store(1, f.issue(c.key()))
		c.want("55 0a 00000001 0004 | 01 0001 01")
		c.send(endOK)
	})
	cfg.Version, cfg.InProgress = 2, -1
	if _, err := phone.Run(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
}

// A phone proves itself by certificate with the signatures and in the order
// seen; the session number inside the SUDI's is little-endian.
func TestCertificateBytes(t *testing.T) {
	f := newFake(t, nil)
	key, _ := rsa.GenerateKey(rand.Reader, 1024)
	id := &phone.Identity{Certificate: f.issue(key.Public()), Key: key}
	cfg := f.config(func(c *peer) {
		c.send("55 01 00000102 0004 | 07 0001 03")
		b := c.recv()
		c.send("55 0f 00000102 0004 | 01 0001 00")
		checkCertificateAuth(t, b, id.Certificate, &key.PublicKey)
	})
	cfg.Auth = phone.Auth{Certificate: id, SUDI: id}
	r, err := phone.Run(t.Context(), cfg)
	if err != nil || r.Operation != phone.None {
		t.Fatalf("%+v, %v", r, err)
	}
}

func checkCertificateAuth(t *testing.T, b, cert []byte, pub *rsa.PublicKey) {
	t.Helper()
	var tags []byte
	values := make(map[byte][]byte)
	for rest := b[8:]; len(rest) > 3; {
		n := int(binary.BigEndian.Uint16(rest[1:3]))
		tags = append(tags, rest[0])
		values[rest[0]], rest = rest[3:3+n], rest[3+n:]
	}
	if want := []byte{1, 4, 6, 7, 11, 13, 16, 20}; !bytes.Equal(tags, want) {
		t.Errorf("elements %v, want %v", tags, want)
	}
	input := append([]byte(sep+"\x00"), cert...)
	h1, h512 := sha1.Sum(input), sha512.Sum512(input)
	if err := rsa.VerifyPKCS1v15(pub, 0, h1[:], values[6]); err != nil {
		t.Errorf("SIGNED_DATA: %v", err)
	}
	if !bytes.Equal(values[20][:3], []byte{3, 0, 128}) {
		t.Errorf("SHA2_SIGNED_DATA begins %x", values[20][:3])
	}
	if err := rsa.VerifyPKCS1v15(pub, 0, h512[:], values[20][3:]); err != nil {
		t.Errorf("SHA2_SIGNED_DATA: %v", err)
	}
	sudi := values[16][3:]
	n := len(cert)
	h1 = sha1.Sum(append([]byte{2, 1, 0, 0}, cert...))
	if !bytes.Equal(sudi[:n], cert) || sudi[n] != 1 {
		t.Error("SUDI_DATA does not begin with the certificate")
	}
	if err := rsa.VerifyPKCS1v15(pub, 0, h1[:], sudi[n+3:n+3+128]); err != nil {
		t.Errorf("SUDI_DATA: %v", err)
	}
}

// The key that waits for its certificate survives the phone's restart, and a
// certificate whose receipt was not noticed is taken again.
func TestPendingKeySurvives(t *testing.T) {
	f := newFake(t, nil)
	dir := t.TempDir()
	var pub crypto.PublicKey
	var der []byte
	hello := func(c *peer) { c.send("55 01 00000001 0004 | 07 0001 03"); c.recv() }
	cfg := f.config(
		func(c *peer) {
			hello(c)
			c.send("55 03 00000001 0008 | 11 0001 01 | 12 0001 00")
			c.recv()
			pub = c.key()
			der = f.issue(pub)
			c.send("55 10 00000001 0005 | 0c 0002 003c")
		},
		func(c *peer) { // the answer to STORE gets lost
			hello(c)
			c.store(1, der)
			c.recv()
		},
		func(c *peer) {
			hello(c)
			c.store(1, der)
			c.want("55 0a 00000001 0004 | 01 0001 01")
			c.send(endOK)
		},
		func(c *peer) { // a certificate for a key that the phone has not
			hello(c)
			other, _ := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
			c.store(1, f.issue(other.Public()))
			c.want("55 0a 00000001 0004 | 01 0001 07")
			c.send("55 0f 00000001 0004 | 01 0001 07")
		},
	)
	cfg.Dir = dir
	wantFailure := func(want phone.Failure) {
		t.Helper()
		_, err := phone.Run(t.Context(), cfg)
		var e *phone.Error
		if !errors.As(err, &e) || e.Failure != want {
			t.Fatalf("%v, want %q", err, want)
		}
		if want == phone.FailLater && e.After != time.Minute {
			t.Errorf("come back after %v", e.After)
		}
	}
	wantFailure(phone.FailLater)
	interop.Private(t, filepath.Join(dir, sep+".pending.pem"))
	wantFailure(phone.FailLost)
	if _, err := phone.Run(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	wantFailure(phone.FailDeclined)
	id, err := phone.LoadIdentity(filepath.Join(dir, sep+".pem"))
	if err != nil || !bytes.Equal(id.Certificate, der) {
		t.Errorf("the phone's certificate: %v", err)
	}
}

// A phone comes back when it is told to, or the connection is lost, and after
// the time that it was told; a refusal is final.
func TestRetries(t *testing.T) {
	f := newFake(t, nil)
	var slept []time.Duration
	lost := func(c *peer) { c.send("55 01 00000001 0004 | 07 0001 03"); c.recv() }
	later := func(c *peer) { lost(c); c.send("55 10 00000001 0004 | 0c 0001 05") }
	refused := func(c *peer) { lost(c); c.send("55 0f 00000001 0004 | 01 0001 09") }
	cfg := f.config(lost, later, refused, lost)
	cfg.Retries, cfg.Sleep = 0, func(_ context.Context, d time.Duration) { slept = append(slept, d) }
	var told []time.Duration
	cfg.Retrying = func(err error, d time.Duration) {
		if err == nil {
			t.Error("it tries again because of nothing")
		}
		told = append(told, d)
	}
	r, err := phone.Run(t.Context(), cfg)
	var e *phone.Error
	if !errors.As(err, &e) || e.Failure != phone.FailUnknown || r.Attempts != 3 {
		t.Errorf("%v after %d attempts", err, r.Attempts)
	}
	if len(slept) != 2 || slept[0] != 30*time.Second || slept[1] != 5*time.Second {
		t.Errorf("pauses %v", slept)
	}
	if !slices.Equal(told, slept) {
		t.Errorf("it said %v and waited %v", told, slept)
	}
}

// What a CAPF can do wrong.
func TestServerErrors(t *testing.T) {
	f := newFake(t, nil)
	hello := func(c *peer) { c.send("55 01 00000001 0004 | 07 0001 03"); c.recv() }
	for name, tt := range map[string]struct {
		script func(c *peer)
		change func(*phone.Config)
		want   phone.Failure
		text   string
	}{
		"does not begin":      {func(c *peer) { c.send(endOK) }, nil, phone.FailProtocol, "END_SESSION"},
		"another session":     {func(c *peer) { hello(c); c.send("55 0f 00000002 0004 | 01 0001 01") }, nil, phone.FailProtocol, "session id 2"},
		"nonsense":            {func(c *peer) { c.send("16 03 01 00 00 00 00 00") }, nil, phone.FailProtocol, "0x16"},
		"end without reason":  {func(c *peer) { hello(c); c.send("55 0f 00000001 0000") }, nil, phone.FailProtocol, "REASON"},
		"unknown command":     {func(c *peer) { hello(c); c.send("55 63 00000001 0000") }, nil, phone.FailProtocol, "COMMAND_99"},
		"unknown curve":       {func(c *peer) { hello(c); c.send("55 03 00000001 0008 | 11 0001 01 | 12 0001 07") }, nil, phone.FailProtocol, "CURVE 7"},
		"another kind of key": {func(c *peer) { hello(c); c.send("55 03 00000001 0005 | 0a 0002 0400") }, func(c *phone.Config) { c.Key = wire.KeySpec{Type: wire.EC} }, phone.FailCannot, "asks for rsa1024, this phone makes p256"},
		"sign without a key":  {func(c *peer) { hello(c); c.send("55 06 00000001 0004 | 13 0001 02") }, nil, phone.FailProtocol, "no new key"},
		"cannot sign":         {func(c *peer) { hello(c); c.send("55 06 00000001 0004 | 13 0001 02") }, func(c *phone.Config) { c.NoEncrypt = true }, phone.FailCannot, "ENCRYPT_REQUEST"},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := f.config(tt.script)
			if tt.change != nil {
				tt.change(&cfg)
			}
			_, err := phone.Run(t.Context(), cfg)
			var e *phone.Error
			if !errors.As(err, &e) || e.Failure != tt.want || !strings.Contains(err.Error(), tt.text) {
				t.Errorf("%v, want %q with %q", err, tt.want, tt.text)
			}
		})
	}
}

// Real phones refuse a CAPF whose certificate lacks what a CAPF's has.
func TestServerCertificate(t *testing.T) {
	for name, change := range map[string]func(*x509.Certificate){
		"no CA":          func(c *x509.Certificate) { c.IsCA, c.MaxPathLenZero = false, false },
		"no path length": func(c *x509.Certificate) { c.MaxPathLenZero, c.MaxPathLen = false, -1 },
		"no usage":       func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageCertSign },
	} {
		f := newFake(t, change)
		hello := func(c *peer) {
			c.send("55 01 00000001 0004 | 07 0001 03")
			c.recv()
			c.send("55 0f 00000001 0004 | 01 0001 00")
		}
		cfg := f.config(hello, hello)
		cfg.Patience = time.Second
		_, err := phone.Run(t.Context(), cfg)
		var e *phone.Error
		if !errors.As(err, &e) || e.Failure != phone.FailTLS || !strings.Contains(err.Error(), "CA:TRUE") {
			t.Errorf("%s: %v", name, err)
		}
		cfg.AnyExtensions = true
		if _, err := phone.Run(t.Context(), cfg); err != nil {
			t.Errorf("%s, tolerated: %v", name, err)
		}
	}
}
