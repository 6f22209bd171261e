//go:build unix

package app

import (
	"bufio"
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
	"encoding/base64"
	"encoding/gob"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
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

// benchVariants are what is compared.
var benchVariants = []struct {
	name              string
	bare, store, logs bool
}{
	{name: "globalsign", bare: true},
	{name: "onlineca"},
	{name: "onlineca+sqlite", store: true},
	{name: "onlineca+sqlite+log", store: true, logs: true},
}

// BenchmarkEnrolment compares the bare library's server with this one, wired as
// in earnest: without a store, with one, and with the log besides. Keys, TLS,
// CA and clients are the same; each enrolment is another request. The clients
// are another process, so that cpu-us/op is the server's share alone. The bare
// library compares a password with a text, ours has verified it by bcrypt once.
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
			for _, v := range benchVariants {
				b.Run(k.name+"/"+mode+"/"+v.name, func(b *testing.B) {
					ca := newBenchCA(b, k.key)
					r := benchRA(b, ca, v.store, v.logs)
					var h http.Handler
					if v.bare {
						h = bareHandler(b, ca)
					}
					benchClients(b, ca, serveBench(b, r, h), k.key, mode == "new")
				})
			}
		}
	}
}

// benchRA is a registration authority as StartRA makes it, but for certsrv.
func benchRA(b *testing.B, ca *benchCA, withStore, logs bool) *RA {
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
		s.Store, s.Requests.Audit = filepath.Join(dir, "requests.db"), filepath.Join(dir, "audit.jsonl")
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
	r := &RA{log: p.Log, upstreams: &upstreams{Failover: ra.NewFailover(p.Log, ra.NewTarget("bench", ca, s.breaker(p.Log)))}}
	if err := r.start(b.Context(), s, p); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		if err := r.Close(); err != nil {
			b.Error(err)
		}
	})
	return r
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

// benchLoad is what the process of the clients is to do.
type benchLoad struct {
	Addr   string
	Root   []byte
	Fresh  bool // a new connection for each enrolment
	Bodies []string
}

// benchAtOnce is how many clients there are.
const benchAtOnce = 32

// clientsEnv makes the test binary the process of the clients.
const clientsEnv = "ONLINECA_BENCH_CLIENTS"

// benchClients has b.N requests enrolled, and measures the server.
func benchClients(b *testing.B, ca *benchCA, addr string, key crypto.Signer, fresh bool) {
	load := benchLoad{Addr: addr, Root: ca.root.Raw, Fresh: fresh, Bodies: make([]string, b.N+benchAtOnce)}
	for i := range load.Bodies {
		der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: pkix.Name{CommonName: fmt.Sprintf("SEP%012X", i)}}, key)
		if err != nil {
			b.Fatal(err)
		}
		load.Bodies[i] = base64.StdEncoding.EncodeToString(der)
	}
	cmd := exec.CommandContext(b.Context(), os.Args[0], "-test.run=^TestBenchClients$", "-test.v")
	cmd.Env = append(os.Environ(), clientsEnv+"=yes")
	in, err := cmd.StdinPipe()
	if err != nil {
		b.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		b.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	if err := gob.NewEncoder(in).Encode(load); err != nil {
		b.Fatal(err)
	}
	load.Bodies = nil
	lines := bufio.NewScanner(out)
	await(b, lines, "ready")
	before := processorTime()
	b.ResetTimer()
	if _, err := in.Write([]byte{1}); err != nil {
		b.Fatal(err)
	}
	await(b, lines, "done")
	b.StopTimer()
	b.ReportMetric(float64((processorTime()-before).Microseconds())/float64(b.N), "cpu-us/op")
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "enrol/s")
	_, _ = io.Copy(io.Discard, out)
	if err := cmd.Wait(); err != nil {
		b.Error(err)
	}
}

// await reads up to a line, and fails if there is another end.
func await(b *testing.B, lines *bufio.Scanner, want string) {
	b.Helper()
	var said bytes.Buffer
	for lines.Scan() {
		if lines.Text() == want {
			return
		}
		said.WriteString(lines.Text() + "\n")
	}
	b.Fatalf("the clients did not say %q but\n%s", want, &said)
}

func processorTime() time.Duration {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u) // cannot fail with these arguments
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// TestBenchClients is the process of the clients.
func TestBenchClients(t *testing.T) {
	if os.Getenv(clientsEnv) == "" {
		t.Skip("it is run by BenchmarkEnrolment")
	}
	in := bufio.NewReader(os.Stdin)
	var load benchLoad
	if err := gob.NewDecoder(in).Decode(&load); err != nil {
		t.Fatal(err)
	}
	root, err := x509.ParseCertificate(load.Root)
	if err != nil {
		t.Fatal(err)
	}
	c := benchClient{benchLoad: load, tls: &tls.Config{RootCAs: pool([]*x509.Certificate{root})}}
	// The first enrolments, one of each client, are not measured: a password is
	// verified, and connections are made.
	c.next.Store(int64(len(load.Bodies) - benchAtOnce))
	measured, stop := make(chan struct{}), int64(len(load.Bodies)-benchAtOnce)
	var warm, all sync.WaitGroup
	for range benchAtOnce {
		warm.Add(1)
		all.Go(func() {
			conn := c.connect(t)
			c.enrol(t, conn, c.Bodies[c.next.Add(1)-1])
			warm.Done()
			<-measured
			for i := c.next.Add(1) - 1; i < stop && !t.Failed(); i = c.next.Add(1) - 1 {
				if load.Fresh {
					conn.Close()
					conn = c.connect(t)
				}
				c.enrol(t, conn, c.Bodies[i])
			}
			conn.Close()
		})
	}
	warm.Wait()
	c.next.Store(0)
	fmt.Println("ready")
	if _, err := in.ReadByte(); err != nil {
		t.Fatal(err)
	}
	close(measured)
	all.Wait()
	if !t.Failed() {
		fmt.Println("done")
	}
}

type benchClient struct {
	benchLoad
	tls  *tls.Config
	next atomic.Int64
}

type benchConn struct {
	*tls.Conn
	r *bufio.Reader
}

func (c *benchClient) connect(t *testing.T) *benchConn {
	conn, err := tls.Dial("tcp", c.Addr, c.tls)
	if err != nil {
		t.Error(err)
		return &benchConn{Conn: tls.Client(nil, c.tls)}
	}
	return &benchConn{conn, bufio.NewReader(conn)}
}

func (c *benchClient) enrol(t *testing.T, conn *benchConn, body string) {
	if t.Failed() {
		return
	}
	text := "POST /.well-known/est/simpleenroll HTTP/1.1\r\nHost: localhost\r\nAuthorization: Basic " +
		base64.StdEncoding.EncodeToString([]byte(benchUser+":"+benchPassword)) +
		"\r\nContent-Type: application/pkcs10\r\nContent-Transfer-Encoding: base64\r\nContent-Length: " + fmt.Sprint(len(body)) + "\r\n\r\n" + body
	if _, err := io.WriteString(conn, text); err != nil {
		t.Error(err)
		return
	}
	resp, err := http.ReadResponse(conn.r, nil)
	if err != nil {
		t.Error(err)
		return
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Errorf("%s: %s, %v", resp.Status, answer, err)
	}
}
