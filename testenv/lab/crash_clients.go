package lab

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"fmt"
	mathrand "math/rand/v2"
	"time"

	"github.com/onlineca/onlineca/capf"
	"github.com/onlineca/onlineca/ra/fault"
)

// crashCertificate is one that a client has got.
type crashCertificate struct {
	device, serial string
	key            keyHash
}

// keyHash stands for a public key.
type keyHash [sha256.Size]byte

func keyHashOf(spki []byte) keyHash { return sha256.Sum256(spki) }

// String is what a person is shown of it.
func (h keyHash) String() string { return hex.EncodeToString(h[:8]) }

// client enrols one device after the other, each with a key of its own, until
// killing is over; ctx ends what it then still waits for.
func (t *crashTest) client(ctx, killing context.Context, n int) {
	r := t.random(partClients + uint64(n))
	for i := 0; killing.Err() == nil; i++ {
		t.enrol(ctx, r, t.ras, fmt.Sprintf("SEP%04d%08d", n, i))
		pause(killing, r, 10*time.Millisecond, 100*time.Millisecond)
	}
}

// enrol asks for one certificate as a phone does: at any of the registration
// authorities, again and again with the same request, until it has it.
func (t *crashTest) enrol(ctx context.Context, r *mathrand.Rand, ras []*crashRA, device string) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.violated("%s: make a key: %v", device, err)
		return
	}
	csr, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: pkix.Name{CommonName: device}}, key)
	if err != nil {
		t.violated("%s: make a request: %v", device, err)
		return
	}
	begin := time.Now()
	for tries := 1; ; tries++ {
		answer, err := t.ask(ctx, r, ras[r.IntN(len(ras))], csr)
		if err == nil {
			t.received(device, key, answer, tries, time.Since(begin))
			return
		}
		if ctx.Err() != nil {
			t.violated("%s has no certificate after %d tries; the last: %v", device, tries, err)
			return
		}
		t.count(func(rep *CrashReport) { rep.Answers[fault.Of(err).Code.String()]++ })
		pause(ctx, r, 50*time.Millisecond, 300*time.Millisecond)
	}
}

// ask makes one try. One in ten clients has no patience.
func (t *crashTest) ask(ctx context.Context, r *mathrand.Rand, p *crashRA, csr []byte) (*capf.Answer, error) {
	if r.IntN(10) == 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, time.Duration(1+r.IntN(300))*time.Millisecond)
		defer cancel()
	}
	return p.est.Enroll(ctx, csr)
}

// received notes the certificate that a client has got, which must be for its
// key.
func (t *crashTest) received(device string, key *ecdsa.PrivateKey, a *capf.Answer, tries int, took time.Duration) {
	certs, err := capf.ParsePKCS7(a.Raw)
	if err != nil || len(certs) == 0 {
		t.violated("%s was answered something that holds no certificate: %v", device, err)
		return
	}
	if !key.PublicKey.Equal(certs[0].PublicKey) {
		t.violated("%s was answered the certificate of another key, serial number %x", device, certs[0].SerialNumber)
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.has = append(t.has, crashCertificate{device, hex.EncodeToString(certs[0].SerialNumber.Bytes()), keyHashOf(certs[0].RawSubjectPublicKeyInfo)})
	r := t.report
	r.Certificates++
	r.Tries += tries
	r.Longest = max(r.Longest, took)
}

// count changes the report.
func (t *crashTest) count(f func(*CrashReport)) {
	t.mu.Lock()
	defer t.mu.Unlock()
	f(t.report)
}

// violated notes a promise that was not kept.
func (t *crashTest) violated(format string, args ...any) {
	t.count(func(r *CrashReport) { r.Violations = append(r.Violations, fmt.Sprintf(format, args...)) })
}
