package storetest

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"math/big"
	"sync"
	"testing"
	"time"

	"github.com/onlineca/onlineca/ra"
	"github.com/onlineca/onlineca/ra/fault"
)

// Authority is a certificate authority that hands out numbers in order, as AD
// CS does, and whose answers can be made to get lost. It is an [ra.Enroller]
// and a store.Fetcher. Its zero value is not useful: see [NewAuthority].
type Authority struct {
	ca  *x509.Certificate
	key *ecdsa.PrivateKey

	mu       sync.Mutex
	next     int
	requests map[int]*entry
	// Answer, if set, decides about each submission before the authority sees
	// it (arrived false) and before its answer is returned (arrived true): an
	// error is returned in place of the answer.
	Answer func(ctx context.Context, r ra.Request, arrived bool) error
	// Manual leaves requests pending until [Authority.Approve].
	Manual  bool
	fetches int
}

// entry is a row of the authority's database.
type entry struct {
	csr    *x509.CertificateRequest
	cert   *x509.Certificate
	denied bool
}

// NewAuthority makes an authority whose first number is first.
func NewAuthority(tb testing.TB, first int) *Authority {
	tb.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		tb.Fatal(err)
	}
	now := time.Now()
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "Test CA"},
		NotBefore: now.Add(-time.Hour), NotAfter: now.Add(10 * 365 * 24 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), key)
	if err != nil {
		tb.Fatal(err)
	}
	ca, err := x509.ParseCertificate(der)
	if err != nil {
		tb.Fatal(err)
	}
	return &Authority{ca: ca, key: key, next: first, requests: map[int]*entry{}}
}

// Request makes a request of a client, with a new key.
func Request(tb testing.TB, device, client string) ra.Request {
	tb.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		tb.Fatal(err)
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: pkix.Name{CommonName: device}}, key)
	if err != nil {
		tb.Fatal(err)
	}
	csr, err := x509.ParseCertificateRequest(der)
	if err != nil {
		tb.Fatal(err)
	}
	return ra.Request{Operation: ra.Enroll, CSR: csr, Label: "phones", Template: "CiscoRA", Client: ra.Client{Name: client, Method: "basic", Addr: "192.0.2.7:1234"}}
}

// Enroll submits.
func (a *Authority) Enroll(ctx context.Context, r ra.Request) (ra.Result, error) {
	if a.Answer != nil {
		if err := a.Answer(ctx, r, false); err != nil {
			return ra.Result{}, err
		}
	}
	id, err := a.submit(r.CSR)
	if err != nil {
		return ra.Result{}, err
	}
	if a.Answer != nil {
		if err := a.Answer(ctx, r, true); err != nil {
			return ra.Result{}, err
		}
	}
	return a.Fetch(ctx, id, r.CSR)
}

func (a *Authority) submit(csr *x509.CertificateRequest) (int, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	id := a.next
	a.next++
	a.requests[id] = &entry{csr: csr}
	if a.Manual {
		return id, nil
	}
	return id, a.issue(id)
}

func (a *Authority) issue(id int) error {
	now := time.Now()
	e := a.requests[id]
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{
		SerialNumber: big.NewInt(int64(id) + 0x1000), Subject: e.csr.Subject,
		NotBefore: now.Add(-10 * time.Minute), NotAfter: now.Add(365 * 24 * time.Hour), KeyUsage: x509.KeyUsageDigitalSignature,
	}, a.ca, e.csr.PublicKey, a.key)
	if err != nil {
		return fmt.Errorf("issue request %d: %w", id, err)
	}
	e.cert, err = x509.ParseCertificate(der)
	return err
}

// Fetch says what became of a request.
func (a *Authority) Fetch(_ context.Context, id int, csr *x509.CertificateRequest) (ra.Result, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.fetches++
	e, ok := a.requests[id]
	refuse := func(code fault.Code) (ra.Result, error) {
		return ra.Result{}, &fault.Fault{Code: code, Op: "fetch", ReqID: id}
	}
	switch {
	case !ok:
		return refuse(fault.NoSuchRequest)
	case e.denied:
		return refuse(fault.DeniedByAdmin)
	case e.cert == nil:
		return ra.Result{State: ra.Pending, ReqID: id, RetryAfter: time.Minute, Message: "Taken Under Submission"}, nil
	case string(e.csr.RawSubjectPublicKeyInfo) != string(csr.RawSubjectPublicKeyInfo):
		return refuse(fault.WrongKeyCertificate)
	}
	return ra.Result{State: ra.Issued, ReqID: id, Certificate: e.cert}, nil
}

// Others lets n requests of somebody else's be issued.
func (a *Authority) Others(tb testing.TB, n int) {
	tb.Helper()
	csr := Request(tb, "other", "other").CSR
	for range n {
		if _, err := a.submit(csr); err != nil {
			tb.Fatal(err)
		}
	}
}

// Approve issues what is pending.
func (a *Authority) Approve(tb testing.TB) {
	tb.Helper()
	a.mu.Lock()
	defer a.mu.Unlock()
	for id, e := range a.requests {
		if e.cert == nil && !e.denied {
			if err := a.issue(id); err != nil {
				tb.Fatal(err)
			}
		}
	}
}

// Deny denies what is pending.
func (a *Authority) Deny() {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, e := range a.requests {
		e.denied = e.cert == nil
	}
}

// Delete removes the row of a request, as an administrator does.
func (a *Authority) Delete(id int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.requests, id)
}

// Submissions counts the requests for a device that arrived.
func (a *Authority) Submissions(device string) int {
	a.mu.Lock()
	defer a.mu.Unlock()
	n := 0
	for _, e := range a.requests {
		if e.csr.Subject.CommonName == device {
			n++
		}
	}
	return n
}

// Fetches counts how often a number was asked for.
func (a *Authority) Fetches() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.fetches
}
