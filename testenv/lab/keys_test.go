package lab

import (
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/x509"
	"os"
	"path/filepath"
	"testing"

	"github.com/onlineca/onlineca/capf/wire"
	"github.com/onlineca/onlineca/testenv"
)

// madeKey is the kind of a key.
func madeKey(t *testing.T, pub any) string {
	t.Helper()
	switch k := pub.(type) {
	case *rsa.PublicKey:
		return wire.KeySpec{Type: wire.RSA, Bits: k.N.BitLen()}.String()
	case *ecdsa.PublicKey:
		for _, spec := range wire.AllKeySpecs() {
			if spec.Type == wire.EC && spec.Curve.Elliptic() == k.Curve {
				return spec.String()
			}
		}
	}
	t.Fatalf("a key of type %T", pub)
	return ""
}

// Every kind of key that a phone can make goes all the way: the phone makes it
// and signs the request, the registration authority passes it, certsrv issues,
// and the phone stores a certificate for it.
func TestEveryKindOfKeyThroughTheOnlineCA(t *testing.T) {
	if len(Keys()) != 7 {
		t.Errorf("kinds of keys: %q", Keys())
	}
	for _, key := range Keys() {
		t.Run(key, func(t *testing.T) {
			if testing.Short() && key == "rsa4096" {
				t.Skip("a phone spends seconds on making it")
			}
			t.Parallel()
			out := filepath.Join(t.TempDir(), "out")
			sum, err := Run(t.Context(), Config{Phones: 1, Key: key, Out: out})
			if err != nil || !sum.OK() {
				t.Fatalf("%v %+v", err, sum)
			}
			cert := sum.Results[0].Certificate
			if got := madeKey(t, cert.PublicKey); got != key {
				t.Errorf("the certificate is for a key of the kind %s", got)
			}
			chain, err := os.ReadFile(filepath.Join(out, "ca-chain.pem"))
			if err != nil {
				t.Fatal(err)
			}
			roots := x509.NewCertPool()
			roots.AppendCertsFromPEM(chain)
			if _, err := cert.Verify(x509.VerifyOptions{Roots: roots}); err != nil {
				t.Errorf("certsrv's CA has not issued it: %v", err)
			}
		})
	}
}

// Only a lab whose phones make short keys has a template that takes them.
func TestOnlyShortKeysLowerTheMinimum(t *testing.T) {
	for key, want := range map[string]int{"rsa1024": 1024, "RSA1024": 1024, "rsa2048": 0, "p256": 0, "": 0} {
		var m testenv.Config
		c := Config{Key: key}
		c.shortTemplates(&m)
		least := 0
		if len(m.Templates) > 0 {
			least = m.Templates[0].MinKeySize
		}
		if least != want {
			t.Errorf("key %q: the template's minimum is %d", key, least)
		}
	}
}

// The flag is for every template, those that were named among them.
func TestMinKeySizeOfTheMock(t *testing.T) {
	for _, given := range []int{0, 1024, 4096} {
		o := CertsrvOptions{User: `LAB\ciscora`, Templates: []string{"Phones"}, MinKeySize: given}
		all := o.config().Templates
		if len(all) != len(testenv.DefaultTemplates())+1 {
			t.Fatalf("%d templates", len(all))
		}
		for _, m := range all {
			if m.MinKeySize != given {
				t.Errorf("%s: the minimum is %d, want %d", m.Name, m.MinKeySize, given)
			}
		}
	}
}
