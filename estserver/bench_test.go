//go:build unix

package estserver_test

import (
	"bufio"
	"context"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/globalsign/est"

	"github.com/onlineca/onlineca/estserver"
	"github.com/onlineca/onlineca/ra"
)

// bare is globalsign/est's own server with the bench's authority behind it and
// nothing in front.
type bare struct{ ca *authority }

var errNone = errors.New("not part of the benchmark")

func (b bare) CACerts(ctx context.Context, _ string, _ *http.Request) ([]*x509.Certificate, error) {
	return b.ca.CACerts(ctx)
}
func (b bare) CSRAttrs(context.Context, string, *http.Request) (est.CSRAttrs, error) {
	return est.CSRAttrs{}, nil
}
func (b bare) Enroll(ctx context.Context, csr *x509.CertificateRequest, _ string, _ *http.Request) (*x509.Certificate, error) {
	res, err := b.ca.Enroll(ctx, ra.Request{CSR: csr})
	return res.Certificate, err
}
func (b bare) Reenroll(context.Context, *x509.Certificate, *x509.CertificateRequest, string, *http.Request) (*x509.Certificate, error) {
	return nil, errNone
}
func (b bare) ServerKeyGen(context.Context, *x509.CertificateRequest, string, *http.Request) (*x509.Certificate, []byte, error) {
	return nil, nil, errNone
}
func (b bare) TPMEnroll(context.Context, *x509.CertificateRequest, []*x509.Certificate, []byte, []byte, string, *http.Request) (_, _, _ []byte, _ error) {
	return nil, nil, nil, errNone
}

// BenchmarkEnroll compares this server with the library that it is built on: the
// same keys, TLS settings, certificate authority and client, in one run. Ours
// checks a password and a policy besides. cpu-us/op is the processor time of
// the whole process, the client's share is the same for both.
func BenchmarkEnroll(b *testing.B) {
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		b.Fatal(err)
	}
	for _, keys := range []struct {
		name string
		key  crypto.Signer
	}{{"EC", newKey(b)}, {"RSA", rsaKey}} {
		body := fold(b64(csrOf(b, keys.key, &x509.CertificateRequest{Subject: pkix.Name{CommonName: "SEP001122334455"}})), 64, "\n")
		for _, mode := range []string{"keepalive", "new"} {
			for _, server := range []string{"globalsign", "onlineca"} {
				b.Run(keys.name+"/"+mode+"/"+server, func(b *testing.B) {
					bn := benchServer(b, server)
					benchEnroll(b, bn, body, mode == "new")
				})
			}
		}
	}
}

// benchServer starts one of the two servers.
func benchServer(b *testing.B, name string) *bench {
	if name == "onlineca" {
		return start(b, nil)
	}
	bn := configure(b, nil)
	router, err := est.NewRouter(&est.ServerConfig{CA: bare{bn.ca}, CheckBasicAuth: func(ctx context.Context, _ *http.Request, _, user, password string) error {
		return testUsers.Authenticate(ctx, ra.Credentials{Username: user, Password: password})
	}})
	if err != nil {
		b.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	bn.addr = l.Addr().String()
	srv := &http.Server{Handler: router, ReadHeaderTimeout: 10 * time.Second}
	go func() { _ = srv.Serve(tls.NewListener(l, bn.server.TLSConfig())) }()
	b.Cleanup(func() { _ = srv.Close() })
	return bn
}

func benchEnroll(b *testing.B, bn *bench, body string, fresh bool) {
	request := "POST " + enrollPath + " HTTP/1.1\r\nHost: localhost\r\n" + basicHeader +
		"Content-Type: application/pkcs10\r\nContent-Transfer-Encoding: base64\r\nContent-Length: " + itoa(len(body)) + "\r\n\r\n" + body
	cfg := bn.tlsConfig()
	var mu sync.Mutex
	var failed error
	before := cpuTime()
	b.SetParallelism(max(1, 4/runtime.GOMAXPROCS(0)))
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		var conn *tls.Conn
		var r *bufio.Reader
		for pb.Next() {
			if conn == nil || fresh {
				if conn != nil {
					conn.Close()
				}
				var err error
				if conn, err = tls.Dial("tcp", bn.addr, cfg); err != nil {
					mu.Lock()
					failed = err
					mu.Unlock()
					return
				}
				r = bufio.NewReader(conn)
			}
			if err := exchangeRaw(conn, r, request); err != nil {
				mu.Lock()
				failed = err
				mu.Unlock()
				return
			}
		}
		if conn != nil {
			conn.Close()
		}
	})
	b.StopTimer()
	b.ReportMetric(float64((cpuTime()-before).Microseconds())/float64(b.N), "cpu-us/op")
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "enrol/s")
	if failed != nil {
		b.Fatal(failed)
	}
}

// exchangeRaw sends a request and reads its answer.
func exchangeRaw(conn io.Writer, r *bufio.Reader, request string) error {
	if _, err := io.WriteString(conn, request); err != nil {
		return err
	}
	res, err := http.ReadResponse(r, nil)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if _, err := io.Copy(io.Discard, res.Body); err != nil {
		return err
	}
	if res.StatusCode != http.StatusOK {
		return fmt.Errorf("status %d", res.StatusCode)
	}
	return nil
}

// cpuTime is the processor time that this process has used.
func cpuTime() time.Duration {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkIdleConnections opens connections that come to nothing, 5000 of each
// kind (with -benchtime 5000x): silent ones, ones that stop after the TLS
// handshake, ones that stop in the middle of a body. It reports what each costs
// in memory and fails unless the server closes every one of them and serves an
// honest client meanwhile.
func BenchmarkIdleConnections(b *testing.B) {
	raw := rawPost(enrollPath, basicHeader, b64(simpleCSR(b)))
	for _, p := range []struct {
		name, sends string
		tls         bool
	}{{"silent", "", false}, {"idle-tls", "", true}, {"stalled-body", raw[:len(raw)-50], true}} {
		b.Run(p.name, func(b *testing.B) {
			const patience = 20 * time.Second
			bn := start(b, func(c *estserver.Config) {
				c.Timeouts = estserver.Timeouts{ReadHeader: patience, Read: patience, Write: patience, Idle: patience}
			})
			var closed atomic.Int64
			var wg sync.WaitGroup
			before := heap()
			for range b.N {
				conn, err := net.Dial("tcp", bn.addr)
				if err != nil {
					b.Fatal(err)
				}
				if p.tls {
					c := tls.Client(conn, bn.tlsConfig())
					if err := c.Handshake(); err != nil {
						b.Fatal(err)
					}
					if _, err := io.WriteString(c, p.sends); err != nil {
						b.Fatal(err)
					}
				}
				wg.Go(func() {
					defer conn.Close()
					_ = conn.SetReadDeadline(time.Now().Add(3 * patience))
					if _, err := io.Copy(io.Discard, conn); !errors.Is(err, os.ErrDeadlineExceeded) {
						closed.Add(1)
					}
				})
			}
			b.ReportMetric(float64(heap()-before)/float64(b.N), "heap-B/conn")
			res, _ := bn.post(b, enrollPath, "ciscora", "S3cret!pw", simpleCSR(b))
			if res.StatusCode != http.StatusOK {
				b.Errorf("an honest client gets %d", res.StatusCode)
			}
			wg.Wait()
			if n := int(closed.Load()); n != b.N {
				b.Errorf("%d of %d connections were closed", n, b.N)
			}
		})
	}
}

// heap is what is allocated, both ends of each connection together.
func heap() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc + m.StackInuse)
}
