//go:build unix

package app

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/globalsign/est"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"golang.org/x/crypto/bcrypt"

	"github.com/onlineca/onlineca/ra"
)

// benchCA is a CA in memory in the place of certsrv: it signs, and that is all.
type benchCA struct {
	root   *x509.Certificate
	key    crypto.Signer
	serial atomic.Int64
}

func newBenchCA(b *testing.B, key crypto.Signer) *benchCA {
	b.Helper()
	ca := &benchCA{key: key}
	tmpl := &x509.Certificate{
		Subject: pkix.Name{CommonName: "Bench CA"}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	var err error
	if ca.root, err = ca.sign(tmpl, tmpl, key.Public()); err != nil {
		b.Fatal(err)
	}
	return ca
}

func (ca *benchCA) sign(tmpl, parent *x509.Certificate, pub crypto.PublicKey) (*x509.Certificate, error) {
	tmpl.SerialNumber = big.NewInt(ca.serial.Add(1))
	tmpl.NotBefore, tmpl.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(24*time.Hour)
	der, err := x509.CreateCertificate(rand.Reader, tmpl, parent, pub, ca.key)
	if err != nil {
		return nil, err
	}
	return x509.ParseCertificate(der)
}

func (ca *benchCA) CACerts(context.Context) ([]*x509.Certificate, error) {
	return []*x509.Certificate{ca.root}, nil
}

func (ca *benchCA) Enroll(_ context.Context, r ra.Request) (ra.Result, error) {
	cert, err := ca.sign(&x509.Certificate{
		RawSubject: r.CSR.RawSubject, KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}, ca.root, r.CSR.PublicKey)
	if err != nil {
		return ra.Result{}, err
	}
	return ra.Result{State: ra.Issued, Certificate: cert, ReqID: int(cert.SerialNumber.Int64())}, nil
}

var errNotMeasured = errors.New("not part of the benchmark")

func (ca *benchCA) Fetch(context.Context, int, *x509.CertificateRequest) (ra.Result, error) {
	return ra.Result{}, errNotMeasured
}
func (ca *benchCA) Authenticate(context.Context, ra.Credentials) error { return errNotMeasured }

// bareCA is the same CA as globalsign/est wants it.
type bareCA struct{ *benchCA }

func (b bareCA) CACerts(ctx context.Context, _ string, _ *http.Request) ([]*x509.Certificate, error) {
	return b.benchCA.CACerts(ctx)
}
func (b bareCA) CSRAttrs(context.Context, string, *http.Request) (est.CSRAttrs, error) {
	return est.CSRAttrs{}, errNotMeasured
}
func (b bareCA) Enroll(ctx context.Context, csr *x509.CertificateRequest, _ string, _ *http.Request) (*x509.Certificate, error) {
	res, err := b.benchCA.Enroll(ctx, ra.Request{CSR: csr})
	return res.Certificate, err
}
func (b bareCA) Reenroll(context.Context, *x509.Certificate, *x509.CertificateRequest, string, *http.Request) (*x509.Certificate, error) {
	return nil, errNotMeasured
}
func (b bareCA) ServerKeyGen(context.Context, *x509.CertificateRequest, string, *http.Request) (*x509.Certificate, []byte, error) {
	return nil, nil, errNotMeasured
}
func (b bareCA) TPMEnroll(context.Context, *x509.CertificateRequest, []*x509.Certificate, []byte, []byte, string, *http.Request) (_, _, _ []byte, _ error) {
	return nil, nil, nil, errNotMeasured
}

const benchUser, benchPassword = "phones", "a password"

// benchVariants are what is compared, the bare library first.
var benchVariants = []struct {
	name              string
	bare, store, logs bool
}{
	{name: "globalsign", bare: true},
	{name: "onlineca"},
	{name: "onlineca+sqlite", store: true},
	{name: "onlineca+sqlite+log", store: true, logs: true},
}

// benchRounds is how often each variant has its turn, and benchRound how many
// enrolments a turn should have: it begins and ends with clients that wait for
// nobody, whose enrolments share no transactions.
const benchRounds, benchRound = 15, 1500

// variantsEnv restricts the comparison to some variants, comma-separated: for a
// processor profile of one.
const variantsEnv = "ONLINECA_BENCH_VARIANTS"

// BenchmarkEnrolment compares the bare library's server with this one, wired as
// in earnest: without a store, with one, and with the log besides. Keys, TLS,
// CA, clients and requests are the same. All of them run side by side and take
// turns, so that the machine's other work troubles all alike; what is reported
// is the middle one of the rounds, in processor time per enrolment and in
// enrolments per second, and of each round's ratio of processor times to the bare
// library. b.N is the number of requests that each variant is sent. The clients
// are other processes, so that the processor time is the server's alone. The
// bare library compares a password with a text, ours has verified it by bcrypt
// once.
func BenchmarkEnrolment(b *testing.B) {
	ec, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		b.Fatal(err)
	}
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		b.Fatal(err)
	}
	for _, k := range []struct {
		name string
		key  crypto.Signer
	}{{"EC", ec}, {"RSA", rsaKey}} {
		for _, mode := range []string{"keepalive", "new"} {
			b.Run(k.name+"/"+mode, func(b *testing.B) { compare(b, k.key, mode == "new") })
		}
	}
}

// contestant is one variant with its clients.
type contestant struct {
	name    string
	clients *benchClients
	ra      *RA
	audit   string    // the audit log, empty for none
	cpu     []float64 // microseconds per enrolment, of each round
	rate    []float64 // enrolments per second, of each round
}

// compare has the variants enrol in turn, and reports what each costs.
func compare(b *testing.B, key crypto.Signer, fresh bool) {
	bodies := benchRequests(b, key, b.N+benchAtOnce)
	var all []*contestant
	for _, v := range benchVariants {
		if only := os.Getenv(variantsEnv); only != "" && !slices.Contains(strings.Split(only, ","), v.name) {
			continue
		}
		c, ca := &contestant{name: v.name}, newBenchCA(b, key)
		c.ra, c.audit = benchRA(b, ca, v.store, v.logs)
		var h http.Handler
		if v.bare {
			h = bareHandler(b, ca)
		}
		c.clients = startClients(b, benchLoad{Addr: serveBench(b, c.ra, h), Root: ca.root.Raw, Fresh: fresh, Bodies: bodies})
		all = append(all, c)
	}
	if len(all) == 0 {
		b.Fatalf("%s names no variant", variantsEnv)
	}
	b.ResetTimer()
	rounds := min(benchRounds, max(3, b.N/benchRound))
	for round := range rounds {
		n := b.N*(round+1)/rounds - b.N*round/rounds
		if n == 0 {
			continue
		}
		for i := range all {
			all[(i+round)%len(all)].round(b, n)
		}
	}
	b.StopTimer()
	b.ReportMetric(0, "ns/op") // of all of them together, which says nothing
	for _, c := range all {
		b.ReportMetric(median(c.cpu), c.name+"-us")
		b.ReportMetric(median(c.rate), c.name+"/s")
		if c != all[0] {
			b.ReportMetric(median(ratios(c.cpu, all[0].cpu)), c.name+"-ratio")
		}
		c.clients.stop(b)
		if c.audit == "" {
			continue
		}
		if text, err := os.ReadFile(c.audit); err != nil || bytes.Count(text, []byte("\n")) != len(bodies) {
			b.Errorf("%s: %d lines in the audit log for %d certificates, %v", c.name, bytes.Count(text, []byte("\n")), len(bodies), err)
		}
	}
}

// round has n requests enrolled. All that an enrolment writes is written before
// its client is answered.
func (c *contestant) round(b *testing.B, n int) {
	before, start := processorTime(), time.Now()
	c.clients.enrol(b, n)
	c.cpu = append(c.cpu, float64((processorTime()-before).Microseconds())/float64(n))
	c.rate = append(c.rate, float64(n)/time.Since(start).Seconds())
}

func ratios(a, b []float64) []float64 {
	r := make([]float64, min(len(a), len(b)))
	for i := range r {
		r[i] = a[i] / b[i]
	}
	return r
}

func median(values []float64) float64 {
	values = slices.Sorted(slices.Values(values))
	n := len(values)
	if n == 0 {
		return 0
	}
	return (values[(n-1)/2] + values[n/2]) / 2
}

func processorTime() time.Duration {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u) // cannot fail with these arguments
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// benchRA is a registration authority as StartRA makes it, but for certsrv, and
// the name of its audit log.
func benchRA(b *testing.B, ca *benchCA, withStore, logs bool) (r *RA, audit string) {
	b.Helper()
	dir := b.TempDir()
	hash, err := bcrypt.GenerateFromPassword([]byte(benchPassword), bcrypt.DefaultCost)
	if err != nil {
		b.Fatal(err)
	}
	users := filepath.Join(dir, "users")
	if err := os.WriteFile(users, []byte(benchUser+":"+string(hash)+"\n"), 0o600); err != nil {
		b.Fatal(err)
	}
	cert, err := ca.sign(&x509.Certificate{
		Subject: pkix.Name{CommonName: "127.0.0.1"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}, ca.root, ca.key.Public())
	if err != nil {
		b.Fatal(err)
	}
	s := DefaultSettings()
	s.EST.Template, s.EST.Auth = "CiscoRA", AuthSettings{Users: users, Require: "any"}
	s.EST.Certificates = "any"
	if withStore {
		audit = filepath.Join(dir, "audit.jsonl")
		s.Store, s.Requests.Audit = filepath.Join(dir, "requests.db"), audit
	}
	p := Parts{Certificate: tls.Certificate{Certificate: [][]byte{cert.Raw}, PrivateKey: ca.key, Leaf: cert}}
	if logs {
		f, err := os.Create(filepath.Join(dir, "onlineca.jsonl"))
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() { _ = f.Close() })
		p.Log = zap.New(zapcore.NewCore(zapcore.NewJSONEncoder(zap.NewProductionEncoderConfig()), zapcore.Lock(f), zap.InfoLevel))
	}
	r = &RA{log: p.Log, upstreams: &upstreams{
		Failover: ra.NewFailover(p.Log, ra.NewTarget("bench", ca, s.breaker(p.Log))), family: &family{ca: ca.root},
	}}
	if err := r.start(b.Context(), s, p); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		if err := r.Close(); err != nil {
			b.Error(err)
		}
	})
	return r, audit
}

func bareHandler(b *testing.B, ca *benchCA) http.Handler {
	b.Helper()
	h, err := est.NewRouter(&est.ServerConfig{CA: bareCA{ca}, CheckBasicAuth: func(_ context.Context, _ *http.Request, _, user, password string) error {
		if user != benchUser || password != benchPassword {
			return errNotMeasured
		}
		return nil
	}})
	if err != nil {
		b.Fatal(err)
	}
	return h
}

// serveBench serves r, or bare with the TLS of r, and returns the address.
func serveBench(b *testing.B, r *RA, bare http.Handler) string {
	b.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	done := make(chan struct{})
	if bare != nil {
		srv := &http.Server{Handler: bare, ReadHeaderTimeout: 10 * time.Second}
		go func() { defer close(done); _ = srv.Serve(tls.NewListener(l, r.server.TLSConfig())) }()
		b.Cleanup(func() { _ = srv.Close(); <-done })
		return l.Addr().String()
	}
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		defer close(done)
		if err := r.Serve(ctx, l); err != nil {
			b.Error(err)
		}
	}()
	b.Cleanup(func() { cancel(); <-done })
	return l.Addr().String()
}
