package capf

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	mathrand "math/rand/v2"
	"net"
	"os"
	"runtime"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/onlineca/onlineca/capf/phone"
	"github.com/onlineca/onlineca/capf/wire"
)

// scale is the number in the environment variable name, or usual.
func scale(t testing.TB, name string, usual int) int {
	t.Helper()
	s := os.Getenv(name)
	if s == "" {
		return usual
	}
	n, err := strconv.Atoi(s)
	if err != nil || n <= 0 {
		t.Fatalf("%s=%q is no number", name, s)
	}
	return n
}

func pendingDevices(n int) []Device {
	all := make([]Device, n)
	for i := range all {
		all[i] = pendingDevice(fmt.Sprintf("SEP%012X", i+1))
	}
	return all
}

// Thousands of phones at once, each with an EC key of its own, all enrolled
// through the online CA. ONLINECA_PHONES sets how many.
func TestFleet(t *testing.T) {
	usual := 2000
	if testing.Short() {
		usual = 200
	}
	n := scale(t, "ONLINECA_PHONES", usual)
	devices := pendingDevices(n)
	// On a machine that is busy with other things nobody is to lose patience.
	const patience = time.Hour
	b := newBench(t, func(c *ServerConfig) {
		c.Timeouts = Timeouts{Handshake: patience, Auth: patience, Keygen: patience, Sign: patience, CA: patience, Store: patience, Issue: patience, Write: patience}
	}, devices...)
	seen := 0
	s := phone.Fleet{Count: n,
		Config: func(i int) phone.Config {
			cfg := b.phoneConfig(devices[i].Name)
			cfg.Patience = patience
			return cfg
		},
		Observe: func(_ phone.Outcome, done, _ int) { seen++ },
	}.Run(t.Context())
	if s.Succeeded != n || seen != n {
		t.Errorf("%d of %d phones succeeded, %d were reported: %v", s.Succeeded, n, seen, s.Examples)
	}
	if requests, certs := b.ca.count(); requests != n || certs != n {
		t.Errorf("%d requests, %d certificates", requests, certs)
	}
	b.stop()
	for _, d := range devices {
		b.wantRow(d.Name, OperationNone, StatusUpgradeSuccess, "")
	}
	t.Logf("%.0f phones a second, half of them within %v, 99 %% within %v", s.PerSecond, s.P50, s.P99)
}

// hostile is one bad connection. It returns when the server has ended it, or
// ctx ends.
type hostile func(ctx context.Context, conn net.Conn, rnd *mathrand.Rand)

// secured does f behind a TLS handshake.
func secured(f func(ctx context.Context, conn *tls.Conn, session byte)) hostile {
	return func(ctx context.Context, conn net.Conn, _ *mathrand.Rand) {
		c := tls.Client(conn, &tls.Config{InsecureSkipVerify: true})
		if c.HandshakeContext(ctx) != nil {
			return
		}
		hello, err := wire.Read(c)
		if err != nil {
			return
		}
		f(ctx, c, byte(hello.Session))
		_, _ = io.Copy(io.Discard, c)
	}
}

func hostiles() []hostile {
	name := append([]byte{13, 0, 16}, testDevice+"\x00"...)
	write := func(b ...byte) hostile {
		return secured(func(_ context.Context, c *tls.Conn, _ byte) { _, _ = c.Write(b) })
	}
	return []hostile{
		// Nothing at all.
		func(_ context.Context, conn net.Conn, _ *mathrand.Rand) { _, _ = io.Copy(io.Discard, conn) },
		// Random bytes instead of TLS.
		func(_ context.Context, conn net.Conn, rnd *mathrand.Rand) {
			b := make([]byte, 1+rnd.IntN(600))
			for i := range b {
				b[i] = byte(rnd.Uint32())
			}
			go func() { _, _ = conn.Write(b) }()
			_, _ = io.Copy(io.Discard, conn)
		},
		// TLS, and then nothing.
		secured(func(context.Context, *tls.Conn, byte) {}),
		// One byte a second.
		secured(func(ctx context.Context, c *tls.Conn, _ byte) {
			for {
				if _, err := c.Write([]byte{wire.Magic}); err != nil {
					return
				}
				wait(ctx, time.Second)
				if ctx.Err() != nil {
					return
				}
			}
		}),
		// A length of 65535.
		write(wire.Magic, 2, 0, 0, 0, 1, 0xff, 0xff),
		// A length of 16384, and nothing behind it.
		write(wire.Magic, 2, 0, 0, 0, 1, 0x40, 0),
		// A wrong session id, for a device that exists.
		write(append([]byte{wire.Magic, 2, 0xff, 0xff, 0xff, 0xff, 0, byte(len(name) + 4), 7, 0, 1, 3}, name...)...),
		// Out of order.
		secured(func(_ context.Context, c *tls.Conn, s byte) { _, _ = c.Write([]byte{wire.Magic, 4, 0, 0, 0, s, 0, 0}) }),
		// Gone in the middle of a message.
		secured(func(_ context.Context, c *tls.Conn, s byte) {
			_, _ = c.Write([]byte{wire.Magic, 2, 0, 0, 0, s, 0, 9, 1})
			_ = c.NetConn().Close()
		}),
	}
}

// A thousand connections of a hostile address do not keep honest phones from
// enrolling; the limits hold, nothing panics, and nothing is left behind. The
// clock is the bubble's, so that stalled connections run into their deadlines.
// ONLINECA_HOSTILE sets how many there are.
func TestHostilePeers(t *testing.T) {
	n := scale(t, "ONLINECA_HOSTILE", 1000)
	const seed = 3804
	t.Logf("seed %d", seed)
	synctest.Test(t, func(t *testing.T) {
		const honest = 50
		perAddress := max(2, n/60) // fewer than would be there at once
		devices := pendingDevices(honest)
		b := newBench(t, func(c *ServerConfig) { c.MaxPerAddress = perAddress }, append(devices, pendingDevice(testDevice))...)
		ctx, cancel := context.WithCancel(t.Context())
		kinds := hostiles()
		var bad sync.WaitGroup
		for i := range n {
			bad.Go(func() {
				rnd := mathrand.New(mathrand.NewPCG(seed, uint64(i)))
				wait(ctx, time.Duration(rnd.IntN(300))*time.Second)
				conn, err := b.listener.dial(ctx, "192.0.2.1")
				if err != nil {
					return
				}
				defer conn.Close()
				kinds[i%len(kinds)](ctx, conn, rnd)
			})
		}
		var good sync.WaitGroup
		for i, d := range devices {
			good.Go(func() {
				wait(ctx, time.Duration(i*5)*time.Second)
				if _, err := phone.Run(ctx, b.phoneConfig(d.Name)); err != nil {
					t.Errorf("an honest phone: %v", err)
				}
				b.srv.mu.Lock()
				defer b.srv.mu.Unlock()
				if c := b.srv.addresses["192.0.2.1"]; c > perAddress {
					t.Errorf("%d connections from one address", c)
				}
			})
		}
		good.Wait()
		bad.Wait() // each of them comes to its end by itself
		cancel()
		b.stop()
		b.srv.mu.Lock()
		defer b.srv.mu.Unlock()
		if b.srv.conns != 0 || len(b.srv.addresses) != 0 || len(b.srv.sessions) != 0 || len(b.srv.phones) != 0 {
			t.Errorf("left behind: %d connections, %d addresses, %d sessions, %d phones", b.srv.conns, len(b.srv.addresses), len(b.srv.sessions), len(b.srv.phones))
		}
		if b.srv.refused == 0 {
			t.Error("no connection was refused: the limit was not put to the test")
		}
		// What went wrong before authentication says nothing about the device.
		b.wantRow(testDevice, OperationUpgrade, StatusOperationPending, "")
	})
}

// When every place is taken, the next connection is closed, and a place that
// becomes free is given away again.
func TestMaxConnections(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, func(c *ServerConfig) { c.MaxConnections = 2 }, NewDevice(testDevice))
		defer b.stop()
		first, second := b.raw("a"), b.raw("b")
		first.hello()
		second.hello()
		conn, err := b.listener.dial(t.Context(), "c")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := conn.Read(make([]byte, 1)); err == nil {
			t.Error("a third connection was served")
		}
		first.auth(3, testDevice)
		first.expectEnd(wire.ReasonNoAction)
		first.conn.Close()
		synctest.Wait()
		mustRun(t, b.phoneConfig(testDevice))
	})
}

// BenchmarkWaitingPhone reports the memory of a phone that generates its key:
// all of it, and what is beyond a TLS connection that waits in Read. Both ends
// of each connection are in the process; the phone's end is in both numbers,
// and so cancels out in the second.
func BenchmarkWaitingPhone(b *testing.B) {
	const n = 500
	for range b.N {
		plain := memoryOf(b, func(stop <-chan struct{}) { waitingTLS(b, n, stop) })
		devices := pendingDevices(n)
		bench := newBench(b, nil, devices...)
		waiting := memoryOf(b, func(stop <-chan struct{}) {
			for i := range n {
				p := bench.raw(devices[i].Name)
				p.hello()
				p.auth(3, devices[i].Name)
				p.expect(wire.KeyGenerateRequest)
			}
		})
		bench.stop()
		b.ReportMetric(waiting/n, "B/phone")
		b.ReportMetric((waiting-plain)/n, "B/phone-beyond-TLS")
	}
}

func memoryOf(b *testing.B, build func(stop <-chan struct{})) float64 {
	b.Helper()
	var before, after runtime.MemStats
	runtime.GC()
	runtime.GC()
	runtime.ReadMemStats(&before)
	stop := make(chan struct{})
	build(stop)
	runtime.GC()
	runtime.GC()
	runtime.ReadMemStats(&after)
	close(stop)
	return float64(after.HeapAlloc+after.StackInuse) - float64(before.HeapAlloc+before.StackInuse)
}

// waitingTLS makes n TLS connections whose server waits in Read.
func waitingTLS(b *testing.B, n int, stop <-chan struct{}) {
	b.Helper()
	config := &tls.Config{Certificates: []tls.Certificate{ecServerCertificate(b, "CAPF-test")}, SessionTicketsDisabled: true, MinVersion: tls.VersionTLS12}
	for range n {
		c, s := net.Pipe()
		server, client := tls.Server(s, config), tls.Client(c, &tls.Config{InsecureSkipVerify: true})
		go func() {
			_, _ = server.Read(make([]byte, wire.HeaderLen))
		}()
		if err := client.Handshake(); err != nil {
			b.Fatal(err)
		}
		go func() {
			<-stop
			_ = c.Close()
			_ = s.Close()
		}()
	}
}

// BenchmarkHandshake is what TLS alone costs, both ends.
func BenchmarkHandshake(b *testing.B) {
	config := &tls.Config{Certificates: []tls.Certificate{ecServerCertificate(b, "CAPF-test")}, SessionTicketsDisabled: true, MinVersion: tls.VersionTLS12}
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			c, s := net.Pipe()
			go func() {
				_ = tls.Server(s, config).Handshake()
				_, _ = s.Read(make([]byte, 1))
			}()
			if err := tls.Client(c, &tls.Config{InsecureSkipVerify: true}).Handshake(); err != nil {
				b.Error(err)
			}
			_ = c.Close()
			_ = s.Close()
		}
	})
}

// BenchmarkSession is a whole installation with an EC key and the fake online
// CA, both ends, TLS included.
func BenchmarkSession(b *testing.B) {
	devices := pendingDevices(b.N)
	bench := newBench(b, func(c *ServerConfig) { c.Logger = nil }, devices...)
	defer bench.stop()
	b.ResetTimer()
	s := phone.Fleet{Count: b.N, Parallel: 64, Config: func(i int) phone.Config { return bench.phoneConfig(devices[i].Name) }}.Run(context.Background())
	if s.Failed > 0 {
		b.Error(s.Examples)
	}
	b.ReportMetric(s.PerSecond, "sessions/s")
}

// Phones of the 7900 series speak TLS 1.0 with RSA key exchange: they are
// served when that is switched on, and only then.
func TestLegacyTLS(t *testing.T) {
	rsaKey, err := phone.Generate(t.Context(), wire.KeySpec{Type: wire.RSA, Bits: 2048})
	if err != nil {
		t.Fatal(err)
	}
	for _, legacy := range []bool{true, false} {
		b := newBench(t, func(c *ServerConfig) {
			cert, err := GenerateServerCertificate(c.Certificate.Leaf.Subject, rsaKey, time.Now())
			if err != nil {
				t.Fatal(err)
			}
			c.Certificate, c.LegacyTLS = cert, legacy
		}, NewDevice(testDevice))
		b.roots.AddCert(b.srv.cfg.Certificate.Leaf)
		cfg := b.phoneConfig(testDevice)
		cfg.Version = 2
		cfg.LegacyTLS = true
		var spoken uint16
		cfg.TLS = func(c *tls.Config) {
			verify := c.VerifyConnection
			c.VerifyConnection = func(s tls.ConnectionState) error {
				spoken = s.Version
				return verify(s)
			}
		}
		if legacy {
			mustRun(t, cfg)
			if spoken != tls.VersionTLS10 {
				t.Errorf("the old phone speaks %s", tls.VersionName(spoken))
			}
			cfg.LegacyTLS = false // a phone of today is served beside it
			mustRun(t, cfg)
		} else {
			wantFailure(t, cfg, phone.FailTLS)
		}
		b.stop()
	}
}
