package wire_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/asn1"
	"encoding/binary"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"

	"github.com/onlineca/onlineca/capf/wire"
	"github.com/onlineca/onlineca/internal/interop"
)

var rsaKey = sync.OnceValue(func() *rsa.PrivateKey {
	k, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		panic(err)
	}
	return k
})

func ecKey(t testing.TB, c elliptic.Curve) *ecdsa.PrivateKey {
	t.Helper()
	k, err := ecdsa.GenerateKey(c, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func TestMalformed(t *testing.T) {
	tests := map[string]string{
		"empty":                    ``,
		"short header":             `55 01 0000`,
		"wrong magic":              `54 01 00000001 0000`,
		"body shorter than length": `55 01 00000001 0008 | 07 0001 03`,
		"body longer than length":  `55 01 00000001 0004 | 07 0001 03 | 08 0001 00`,
		"length 65535":             `55 01 00000001 ffff | 07 0001 03`,
		"length over the limit":    `55 01 00000001 4001`,
		"half an element header":   `55 01 00000001 0002 | 07 00`,
		"element longer than body": `55 01 00000001 0004 | 07 0002 03`,
		"element of 65535":         `55 01 00000001 0004 | 07 ffff 03`,
		"a name twice":             `55 02 00000001 000a | 0d 0002 41 00 | 0d 0002 42 00`,
	}
	for name, s := range tests {
		t.Run(name, func(t *testing.T) {
			if m, err := wire.Decode(unhex(t, s)); !errors.Is(err, wire.ErrFormat) {
				t.Errorf("Decode = %v, %v; want an error that wraps ErrFormat", m, err)
			}
		})
	}
}

// Elements without a name are skipped and reported, wherever they stand.
func TestUnknownElements(t *testing.T) {
	m, err := wire.Decode(unhex(t, `55 02 00000007 0014 | 0e 0001 ff | 07 0001 02 | 63 0000 | 0d 0003 "AB" 00 | 0f 0000`))
	if err != nil {
		t.Fatal(err)
	}
	want := []wire.Element{{Tag: 14, Value: []byte{0xff}}, {Tag: 99, Value: []byte{}}, {Tag: 15, Value: []byte{}}}
	if diff := cmp.Diff(want, m.Unknown); diff != "" {
		t.Errorf("Unknown (-want +got)\n%s", diff)
	}
	if v, err := m.Uint8(wire.TagVersion); v != 2 || err != nil {
		t.Errorf("VERSION = %d, %v", v, err)
	}
	if s, err := m.Text(wire.TagDeviceName); s != "AB" || err != nil {
		t.Errorf("DEVICE_NAME = %q, %v", s, err)
	}
}

func TestElementAccess(t *testing.T) {
	m := wire.Message{Command: wire.AuthResponse, Elements: []wire.Element{
		{Tag: wire.TagVersion, Value: []byte{0, 3}},
		{Tag: wire.TagKeySize, Value: []byte{8}},
		{Tag: wire.TagDeviceName, Value: []byte("SEP")},
		{Tag: wire.TagPassword, Value: []byte("12\x0034\x00")},
		{Tag: wire.TagCertificate, Value: []byte{1, 0, 9, 0, 1, 0x30}},
		{Tag: wire.TagSUDIData, Value: []byte{1, 0, 1, 0xaa}},
		{Tag: wire.TagSHA2SignedData, Value: []byte{1, 0, 1, 0xaa}},
	}}
	wrong := map[string]func() error{
		"VERSION of two bytes":        func() error { _, err := m.Uint8(wire.TagVersion); return err },
		"KEY_SIZE of one byte":        func() error { _, err := m.Uint16(wire.TagKeySize); return err },
		"PASSWORD with a NUL inside":  func() error { _, err := m.Text(wire.TagPassword); return err },
		"CERTIFICATE that lies":       func() error { _, err := m.Certificate(); return err },
		"SUDI without a certificate":  func() error { _, err := m.SUDI(); return err },
		"SHA2_SIGNED_DATA with SHA-1": func() error { _, err := m.SHA2Signed(); return err },
	}
	for name, f := range wrong {
		if err := f(); !errors.Is(err, wire.ErrFormat) {
			t.Errorf("%s: %v, want ErrFormat", name, err)
		} else if strings.Contains(err.Error(), "34") {
			t.Errorf("%s: the error holds the value: %v", name, err)
		}
	}
	if s, err := m.Text(wire.TagDeviceName); s != "SEP" || err != nil {
		t.Errorf("text without its NUL = %q, %v", s, err)
	}
	if _, err := m.Reason(); !errors.Is(err, wire.ErrMissing) {
		t.Errorf("Reason = %v, want ErrMissing", err)
	}
	if s := m.String(); strings.Contains(s, "12") && strings.Contains(s, "34") {
		t.Errorf("String shows values: %s", s)
	}
}

func TestRetryDelay(t *testing.T) {
	for s, want := range map[string]uint32{
		`55 10 00000001 0004 | 0c 0001 1e`:       30,
		`55 10 00000001 0005 | 0c 0002 0100`:     256,
		`55 10 00000001 0007 | 0c 0004 00010000`: 65536,
	} {
		m, err := wire.Decode(unhex(t, s))
		if err != nil {
			t.Fatal(err)
		}
		if got, ok := m.RetryDelay(); !ok || got != want {
			t.Errorf("%s: RetryDelay = %d, %v, want %d", s, got, ok, want)
		}
	}
}

type writes [][]byte

func (w *writes) Write(b []byte) (int, error) { *w = append(*w, bytes.Clone(b)); return len(b), nil }

func TestOneWriteAndLimits(t *testing.T) {
	var w writes
	m := wire.Message{Command: wire.StoreCertificateRequest, Elements: []wire.Element{wire.CertificateValue(fill(4000))}}
	if err := wire.Write(&w, m); err != nil || len(w) != 1 {
		t.Errorf("Write = %v with %d writes, want one", err, len(w))
	}
	m.Elements[0] = wire.CertificateValue(fill(4095 - 8 - 3 - 5))
	if b, err := m.Encode(); err != nil || len(b) != wire.MaxMessage {
		t.Errorf("a message of 4095 bytes: %d, %v", len(b), err)
	}
	m.Elements[0] = wire.CertificateValue(fill(4096 - 8 - 3 - 5))
	if _, err := m.Encode(); !errors.Is(err, wire.ErrTooLong) {
		t.Errorf("a message of 4096 bytes: %v, want ErrTooLong", err)
	}
	if b, err := m.EncodeLong(); err != nil || len(b) != 4096 {
		t.Errorf("EncodeLong: %d, %v", len(b), err)
	}
	m.Elements[0] = wire.CertificateValue(fill(wire.MaxBody))
	if _, err := m.EncodeLong(); !errors.Is(err, wire.ErrTooLong) {
		t.Errorf("a body over the limit: %v, want ErrTooLong", err)
	}
}

func TestRead(t *testing.T) {
	m := wire.Message{Command: wire.StoreCertificateRequest, Session: 9, Elements: []wire.Element{wire.CertificateValue(fill(12000))}}
	b, err := m.EncodeLong()
	if err != nil {
		t.Fatal(err)
	}
	r := iotest.OneByteReader(bytes.NewReader(append(b, b...)))
	for range 2 {
		got, err := wire.Read(r)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(m, got); diff != "" {
			t.Errorf("(-want +got)\n%s", diff)
		}
	}
	if _, err := wire.Read(r); !errors.Is(err, io.EOF) {
		t.Errorf("at the end: %v, want io.EOF", err)
	}
	for _, n := range []int{1, 7, 8, 9, len(b) - 1} {
		if _, err := wire.Read(bytes.NewReader(b[:n])); !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("after %d bytes: %v, want io.ErrUnexpectedEOF", n, err)
		}
	}
}

// A length alone must not make the reader allocate the body.
func TestReadAllocatesWhatArrives(t *testing.T) {
	lie := unhex(t, `55 02 00000001 4000`)
	const times = 100
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for range times {
		if _, err := wire.Read(bytes.NewReader(lie)); err == nil {
			t.Fatal("no error")
		}
	}
	runtime.ReadMemStats(&after)
	if n := (after.TotalAlloc - before.TotalAlloc) / times; n > 4096 {
		t.Errorf("a frame that announces 16 KiB and ends costs %d bytes", n)
	}
}

func TestKeySpec(t *testing.T) {
	for _, k := range wire.AllKeySpecs() {
		if back, err := wire.ParseKeySpec(strings.ToUpper(k.String())); err != nil || back != k {
			t.Errorf("ParseKeySpec(%q) = %v, %v", k, back, err)
		}
		m := wire.Message{Command: wire.KeyGenerateRequest, Elements: k.Elements(3)}
		if back, err := m.KeySpec(); err != nil || back != k {
			t.Errorf("%v: KeySpec of its elements = %v, %v", k, back, err)
		}
	}
	if _, err := wire.ParseKeySpec("rsa512"); err == nil {
		t.Error("rsa512 was taken")
	}
	p256 := wire.KeySpec{Type: wire.EC, Curve: wire.P256}
	if err := p256.Check(ecKey(t, elliptic.P256()).Public()); err != nil {
		t.Error(err)
	}
	if p256.Check(ecKey(t, elliptic.P384()).Public()) == nil || p256.Check(rsaKey().Public()) == nil {
		t.Error("another key passes for P-256")
	}
	if (wire.KeySpec{Bits: 3072}).Check(rsaKey().Public()) == nil {
		t.Error("2048 bits pass for 3072")
	}
}

func TestPublicKeyForms(t *testing.T) {
	pkcs1 := x509.MarshalPKCS1PublicKey(&rsaKey().PublicKey)
	if len(pkcs1) != 270 { // the length in the product's trace
		t.Errorf("PKCS#1 of 2048 bits has %d bytes", len(pkcs1))
	}
	pkix, _ := x509.MarshalPKIXPublicKey(&rsaKey().PublicKey)
	for _, der := range [][]byte{pkcs1, pkix} {
		pub, err := wire.ParsePublicKey(der)
		if err != nil || !rsaKey().PublicKey.Equal(pub) {
			t.Errorf("ParsePublicKey(%d bytes) = %v", len(der), err)
		}
	}
	if _, err := wire.ParsePublicKey([]byte("0")); !errors.Is(err, wire.ErrFormat) {
		t.Errorf("nonsense: %v", err)
	}
}

func TestSignatures(t *testing.T) {
	cert := fill(100)
	if got := wire.SUDIInput(0x01020304, cert)[:4]; !bytes.Equal(got, []byte{4, 3, 2, 1}) {
		t.Errorf("the session id of a SUDI signature is %x, want little-endian", got)
	}
	if got := wire.AuthInput("AB", cert)[:3]; !bytes.Equal(got, []byte("AB\x00")) {
		t.Errorf("the input of a certificate signature begins with %x", got)
	}
	for _, key := range []crypto.Signer{rsaKey(), ecKey(t, elliptic.P256()), ecKey(t, elliptic.P521())} {
		for _, h := range []crypto.Hash{crypto.SHA1, crypto.SHA512} {
			sig, err := wire.Sign(key, cert, h)
			if err != nil {
				t.Fatal(err)
			}
			if err := wire.Verify(key.Public(), cert, sig, h); err != nil {
				t.Errorf("%T %v: %v", key, h, err)
			}
			sig[len(sig)/2] ^= 1
			if err := wire.Verify(key.Public(), cert, sig, h); !errors.Is(err, wire.ErrSignature) {
				t.Errorf("%T %v: a changed signature passes: %v", key, h, err)
			}
		}
	}
}

// An RSA signature is type 1 padding around the bare hash: openssl, which knows
// nothing of this package, recovers the hash and nothing else.
func TestRSASignatureByOpenSSL(t *testing.T) {
	interop.Need(t, "openssl")
	dir := t.TempDir()
	sig, err := wire.Sign(rsaKey(), []byte("input"), crypto.SHA1)
	if err != nil {
		t.Fatal(err)
	}
	pub, _ := x509.MarshalPKIXPublicKey(&rsaKey().PublicKey)
	sigFile, keyFile := filepath.Join(dir, "sig"), filepath.Join(dir, "pub.der")
	if err := errors.Join(os.WriteFile(sigFile, sig, 0o600), os.WriteFile(keyFile, pub, 0o600)); err != nil {
		t.Fatal(err)
	}
	out, err := exec.CommandContext(t.Context(), "openssl", "pkeyutl", "-verifyrecover", "-pubin", "-keyform", "DER",
		"-inkey", keyFile, "-in", sigFile, "-pkeyopt", "rsa_padding_mode:pkcs1").Output()
	if err != nil {
		t.Fatal(err)
	}
	h := crypto.SHA1.New()
	h.Write([]byte("input"))
	if !bytes.Equal(out, h.Sum(nil)) {
		t.Errorf("openssl recovers %x, want the bare hash %x", out, h.Sum(nil))
	}
}

func TestEncryptStyles(t *testing.T) {
	digest := bytes.Repeat([]byte{0x11}, 32)
	for _, style := range []wire.EncryptStyle{
		{}, {Bare: true}, {Request: wire.EncryptResponse}, {Request: wire.SignCertificateRequest, Element: 14}, {Element: 15},
	} {
		if err := style.Check(); err != nil {
			t.Fatal(err)
		}
		for _, key := range []crypto.Signer{rsaKey(), ecKey(t, elliptic.P256())} {
			req, err := style.NewRequest(5, key.Public(), digest, crypto.SHA256)
			if err != nil {
				t.Fatal(err)
			}
			req = reread(t, req)
			res, err := style.Answer(key, &req)
			if err != nil {
				t.Fatalf("%+v: %v", style, err)
			}
			if res.Command != style.ResponseCommand() || res.Command == req.Command || res.Session != 5 {
				t.Errorf("%+v: request %v, answer %v", style, req, res)
			}
			res = reread(t, res)
			sig, err := style.Signature(&res)
			if err != nil {
				t.Fatal(err)
			}
			if !signedBy(key.Public(), digest, sig) {
				t.Errorf("%+v %T: the signature is not one that x509 takes", style, key)
			}
		}
	}
	if (wire.EncryptStyle{Request: wire.EndSession}).Check() == nil || (wire.EncryptStyle{Element: wire.TagPassword}).Check() == nil {
		t.Error("an impossible style passes")
	}
}

func reread(t *testing.T, m wire.Message) wire.Message {
	t.Helper()
	b, err := m.Encode()
	if err != nil {
		t.Fatal(err)
	}
	back, err := wire.Decode(b)
	if err != nil {
		t.Fatal(err)
	}
	return back
}

func signedBy(pub crypto.PublicKey, digest, sig []byte) bool {
	switch p := pub.(type) {
	case *rsa.PublicKey:
		return rsa.VerifyPKCS1v15(p, crypto.SHA256, digest, sig) == nil
	case *ecdsa.PublicKey:
		return ecdsa.VerifyASN1(p, digest, sig)
	}
	return false
}

// The data of the default style for RSA and SHA-256 is a DigestInfo of 51 bytes.
func TestEncryptRequestBytes(t *testing.T) {
	digest := bytes.Repeat([]byte{0x11}, 32)
	m, err := (wire.EncryptStyle{}).NewRequest(1, &rsaKey().PublicKey, digest, crypto.SHA256)
	if err != nil {
		t.Fatal(err)
	}
	want := append(unhex(t, `55 06 00000001 003a | 13 0001 02 | 06 0033 3031300d060960864801650304020105000420`), digest...)
	if got, _ := m.Encode(); !bytes.Equal(got, want) {
		t.Errorf("\n got %x\nwant %x", got, want)
	}
	var info asn1.RawValue
	if rest, err := asn1.Unmarshal(want[len(want)-51:], &info); err != nil || len(rest) != 0 {
		t.Errorf("the DigestInfo does not parse: %v", err)
	}
}

func FuzzDecode(f *testing.F) {
	f.Add([]byte{0x55, 1, 0, 0, 0, 1, 0, 4, 7, 0, 1, 3})
	f.Add([]byte{0x55, 2, 0, 0, 0, 1, 0, 8, 14, 0, 1, 3, 1, 0, 1, 1})
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := wire.Decode(b)
		r, rErr := wire.Read(bytes.NewReader(b))
		if err != nil {
			if !errors.Is(err, wire.ErrFormat) {
				t.Errorf("error without ErrFormat: %v", err)
			}
			return
		}
		if rErr != nil || !cmp.Equal(m, r) {
			t.Errorf("Read and Decode differ: %v, %v, %v", m, r, rErr)
		}
		for _, ask := range []func(){
			func() { _, _ = m.SUDI() }, func() { _, _ = m.SHA2Signed() }, func() { _, _ = m.Certificate() },
			func() { _, _ = m.PublicKey() }, func() { _, _ = m.KeySpec() }, func() { _, _ = m.RetryDelay() },
			func() { _, _ = m.Text(wire.TagDeviceName) }, func() { _ = m.String() },
		} {
			ask()
		}
		if len(m.Unknown) > 0 {
			return
		}
		if back, err := m.EncodeLong(); err != nil || !bytes.Equal(back, b) {
			t.Errorf("decoded and encoded again:\n got %x, %v\nwant %x", back, err, b)
		}
	})
}

func FuzzRoundTrip(f *testing.F) {
	f.Add(uint8(4), uint32(1), uint8(9), []byte("key"), uint8(13), []byte("name"))
	f.Fuzz(func(t *testing.T, c uint8, s uint32, t1 uint8, v1 []byte, t2 uint8, v2 []byte) {
		if t1 == t2 || !wire.Tag(t1).Known() || !wire.Tag(t2).Known() || v1 == nil || v2 == nil {
			return
		}
		m := wire.Message{Command: wire.Command(c), Session: s, Elements: []wire.Element{{Tag: wire.Tag(t1), Value: v1}, {Tag: wire.Tag(t2), Value: v2}}}
		b, err := m.EncodeLong()
		if err != nil {
			return
		}
		if n := int(binary.BigEndian.Uint16(b[6:])); n != len(b)-wire.HeaderLen {
			t.Errorf("length %d, body %d", n, len(b)-wire.HeaderLen)
		}
		back, err := wire.Decode(b)
		if err != nil || !cmp.Equal(m, back) {
			t.Errorf("%v, %v; want %v", back, err, m)
		}
	})
}
