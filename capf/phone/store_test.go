package phone_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"strings"
	"sync"
	"testing"

	"github.com/onlineca/onlineca/capf/phone"
	"github.com/onlineca/onlineca/capf/wire"
)

func TestParseIdentity(t *testing.T) {
	f := newFake(t, nil)
	rsaKey, _ := rsa.GenerateKey(rand.Reader, 1024)
	ecKey, _ := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	block := func(kind string, der []byte) string {
		return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
	}
	pkcs8, _ := x509.MarshalPKCS8PrivateKey(rsaKey)
	sec1, _ := x509.MarshalECPrivateKey(ecKey)
	rsaCert, ecCert := block("CERTIFICATE", f.issue(rsaKey.Public())), block("CERTIFICATE", f.issue(ecKey.Public()))
	for name, text := range map[string]string{
		"PKCS#8, key first":         block("PRIVATE KEY", pkcs8) + rsaCert,
		"PKCS#1, certificate first": "some words\n" + rsaCert + block("RSA PRIVATE KEY", x509.MarshalPKCS1PrivateKey(rsaKey)),
		"SEC 1 with parameters":     block("EC PARAMETERS", []byte{6, 0}) + block("EC PRIVATE KEY", sec1) + ecCert,
	} {
		id, err := phone.ParseIdentity([]byte(text))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		again, err := id.PEM()
		if err != nil {
			t.Fatal(err)
		}
		if back, err := phone.ParseIdentity(again); err != nil || !bytes.Equal(back.Certificate, id.Certificate) {
			t.Errorf("%s, written and read: %v", name, err)
		}
	}
	for want, text := range map[string]string{
		"no private key":     rsaCert,
		"no certificate":     block("PRIVATE KEY", pkcs8),
		"do not belong":      block("PRIVATE KEY", pkcs8) + ecCert,
		"encrypted":          block("ENCRYPTED PRIVATE KEY", pkcs8) + rsaCert,
		"two private keys":   block("PRIVATE KEY", pkcs8) + block("PRIVATE KEY", pkcs8) + rsaCert,
		"its private key":    block("PRIVATE KEY", []byte{1}) + rsaCert,
		"its certificate: x": block("PRIVATE KEY", pkcs8) + block("CERTIFICATE", []byte{1}),
	} {
		if _, err := phone.ParseIdentity([]byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
}

func TestConfig(t *testing.T) {
	roots := x509.NewCertPool()
	for want, cfg := range map[string]phone.Config{
		"device name":      {Server: "x:1", Roots: roots},
		"address of CAPF":  {Device: sep, Roots: roots},
		"certificates to":  {Device: sep, Server: "x:1"},
		"no version 4":     {Device: sep, Server: "x:1", Roots: roots, Version: 4},
		"ENCRYPT exchange": {Device: sep, Server: "x:1", Roots: roots, Encrypt: wire.EncryptStyle{Request: 1}},
		"goes with an LSC": {Device: sep, Server: "x:1", Roots: roots, Auth: phone.Auth{SUDI: &phone.Identity{}}},
	} {
		if _, err := phone.New(cfg); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
}

func TestPool(t *testing.T) {
	p := phone.Pool{Size: 2}
	var mu sync.Mutex
	different := make(map[crypto.Signer]int)
	var wg sync.WaitGroup
	for range 10 {
		wg.Go(func() {
			k, err := p.Key(t.Context(), wire.KeySpec{Type: wire.EC})
			if err != nil {
				t.Error(err)
			}
			mu.Lock()
			defer mu.Unlock()
			different[k]++
		})
	}
	wg.Wait()
	if len(different) != 2 {
		t.Errorf("%d keys", len(different))
	}
}
