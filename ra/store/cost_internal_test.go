package store

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"math/big"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/onlineca/onlineca/ra"
)

// instant is an authority that has a certificate ready.
type instant struct {
	cert *x509.Certificate
	last atomic.Int64
}

func (i *instant) Enroll(context.Context, ra.Request) (ra.Result, error) {
	return ra.Result{State: ra.Issued, ReqID: int(i.last.Add(1)), Certificate: i.cert}, nil
}
func (i *instant) Fetch(context.Context, int, *x509.CertificateRequest) (ra.Result, error) {
	return ra.Result{}, errors.New("nothing is to be fetched")
}

// request is a request, and an authority for it.
func request(t *testing.T) (ra.Request, *instant) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: pkix.Name{CommonName: "SEP001122334455"}}, key)
	if err != nil {
		t.Fatal(err)
	}
	csr, err := x509.ParseCertificateRequest(der)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(7), NotBefore: time.Now(), NotAfter: time.Now().Add(time.Hour), RawSubject: csr.RawSubject}
	if der, err = x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), key); err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	r := ra.Request{Operation: ra.Enroll, CSR: csr, Template: "CiscoRA", Client: ra.Client{Method: "basic", Addr: "192.0.2.1"}}
	return r, &instant{cert: cert}
}

// costly is an enroller on a new SQLite file, and a request for it.
func costly(t *testing.T) (*Durable, ra.Request) {
	t.Helper()
	r, ca := request(t)
	s, err := Open(t.Context(), filepath.Join(t.TempDir(), "requests.db"))
	if err != nil {
		t.Fatal(err)
	}
	d, err := NewDurable(Config{Store: s, Next: ca, Fetch: ca, Authority: "ca", Audit: new(counted)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(d.Close(context.Background()), s.Close()); err != nil {
			t.Error(err)
		}
	})
	return d, r
}

// counted is an audit log that counts how often it is written to.
type counted struct{ atomic.Int64 }

func (c *counted) Write(p []byte) (int, error) {
	c.Add(1)
	return len(p), nil
}

// An enrolment is two statements and a line in the audit log. Those that come at
// the same time share transactions; each of these has three more statements, and
// writes to the log once.
func TestWhatAnEnrolmentWrites(t *testing.T) {
	const clients, each = 32, 4
	synctest.Test(t, func(t *testing.T) {
		d, r := costly(t)
		g := d.cfg.Store.group
		before := g.lite.statements.Load()
		var all sync.WaitGroup
		for i := range clients {
			mine := r
			all.Go(func() {
				for k := range each {
					mine.Client.Name = strconv.Itoa(i*each + k) // another request each time
					if _, err := d.Enroll(t.Context(), mine); err != nil {
						t.Error(err)
					}
				}
			})
		}
		all.Wait()
		changes, commits, statements := g.changes.Load(), g.commits.Load(), g.lite.statements.Load()-before
		if changes != 2*clients*each {
			t.Errorf("%d enrolments were %d changes, want %d", clients*each, changes, 2*clients*each)
		}
		if most := changes / 16; commits > most {
			t.Errorf("%d changes were made in %d transactions, want at most %d", changes, commits, most)
		}
		if n := d.audit.w.(*counted).Load(); n > commits {
			t.Errorf("the audit log was written to %d times in %d transactions", n, commits)
		}
		if own := statements - changes; own > 3*commits {
			t.Errorf("%d statements for %d changes in %d transactions, want one for a change and three for a transaction", statements, changes, commits)
		}
	})
}

// Somebody who is alone does not wait for others.
func TestNobodyWaitsForOthersWhoAreNotThere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, r := costly(t)
		start := time.Now()
		for i := range 5 {
			r.Client.Name = strconv.Itoa(i)
			if _, err := d.Enroll(t.Context(), r); err != nil {
				t.Error(err)
			}
		}
		if passed := time.Since(start); passed != 0 {
			t.Errorf("five enrolments took %v", passed)
		}
	})
}

// What the collector has to remove is a good part of an enrolment's cost.
func TestWhatAnEnrolmentAllocates(t *testing.T) {
	d, r := costly(t)
	n := 0
	allocs := testing.AllocsPerRun(500, func() {
		n++
		r.Client.Name = strconv.Itoa(n)
		if _, err := d.Enroll(t.Context(), r); err != nil {
			t.Fatal(err)
		}
	})
	t.Log(allocs, "allocations")
	const most = 150
	if allocs > most {
		t.Errorf("an enrolment makes %v allocations, want at most %d", allocs, most)
	}
}
