package lab

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"maps"
	"slices"
	"strings"

	"golang.org/x/sync/errgroup"

	"github.com/onlineca/onlineca/capf"
)

// keyMakers makes a key of each type that a phone may have.
var keyMakers = map[string]func() (crypto.Signer, error){
	"rsa2048": func() (crypto.Signer, error) { return rsa.GenerateKey(rand.Reader, 2048) },
	"rsa3072": func() (crypto.Signer, error) { return rsa.GenerateKey(rand.Reader, 3072) },
	"rsa4096": func() (crypto.Signer, error) { return rsa.GenerateKey(rand.Reader, 4096) },
	"p256":    func() (crypto.Signer, error) { return ecdsa.GenerateKey(elliptic.P256(), rand.Reader) },
	"p384":    func() (crypto.Signer, error) { return ecdsa.GenerateKey(elliptic.P384(), rand.Reader) },
	"p521":    func() (crypto.Signer, error) { return ecdsa.GenerateKey(elliptic.P521(), rand.Reader) },
}

// Keys lists the key types that [Config].Key takes.
func Keys() []string { return slices.Sorted(maps.Keys(keyMakers)) }

func keyName(key string) string {
	if key == "" {
		return "rsa2048"
	}
	return key
}

// deviceName is the name of the n-th phone: SEP and a MAC address from the
// range that documentation uses.
func deviceName(n int) string { return fmt.Sprintf("SEP00112233%04X", 0x4455+n) }

// phones makes n phones, each with a key and the request that it would sign.
func phones(ctx context.Context, n int, key string, workers int) ([]capf.Job, error) {
	newKey, ok := keyMakers[keyName(key)]
	if !ok {
		return nil, fmt.Errorf("lab: %q is no key type; choose one of %s", key, strings.Join(Keys(), ", "))
	}
	jobs := make([]capf.Job, n)
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(workers)
	for i := range jobs {
		g.Go(func() error {
			if err := ctx.Err(); err != nil {
				return err
			}
			signer, err := newKey()
			if err != nil {
				return fmt.Errorf("lab: make the key of %s: %w", deviceName(i), err)
			}
			jobs[i], err = request(deviceName(i), signer)
			return err
		})
	}
	return jobs, g.Wait()
}

// request is a phone's certificate request.
func request(device string, key crypto.Signer) (capf.Job, error) {
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{
		Subject: pkix.Name{CommonName: device, OrganizationalUnit: []string{"Phones"}, Organization: []string{"Lab"}},
	}, key)
	if err != nil {
		return capf.Job{}, fmt.Errorf("lab: sign the request of %s: %w", device, err)
	}
	csr, err := x509.ParseCertificateRequest(der)
	if err != nil {
		return capf.Job{}, fmt.Errorf("lab: the request of %s: %w", device, err)
	}
	return capf.Job{Device: device, File: device + ".csr", CSR: csr}, nil
}
