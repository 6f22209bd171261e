package capf

import (
	"context"
	"fmt"
	mathrand "math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/onlineca/onlineca/capf/phone"
)

// The same as TestHostilePeers on real sockets, all of them at once: what
// stalls is closed in time, an address has no more connections than it may, and
// honest phones enrol beside it. The hostile ones come from eight addresses of
// loopback, which only Linux has without being told.
func TestHostilePeersOnSockets(t *testing.T) {
	n := scale(t, "ONLINECA_HOSTILE", 270)
	const seed, honest, addresses = 3804, 20, 8
	needFiles(t, uint64(2*n+500))
	limit, patience := max(2, n/(2*addresses)), 3*time.Second
	if n > 1000 {
		patience = 15 * time.Second // so many handshakes take that long
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	devices := pendingDevices(honest)
	b := newBenchOn(t, l, func(c *ServerConfig) {
		c.MaxPerAddress, c.Timeouts = limit, Timeouts{Handshake: patience, Auth: patience, Keygen: patience}
	}, append(devices, pendingDevice(testDevice))...)
	defer b.stop()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	dial := func(ctx context.Context, from string) (net.Conn, error) {
		d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}
		return d.DialContext(ctx, "tcp", l.Addr().String())
	}
	kinds := hostiles()
	var bad, good sync.WaitGroup
	var connected, over atomic.Int32
	for i := range n {
		bad.Go(func() {
			conn, err := dial(ctx, fmt.Sprintf("127.0.0.%d", 2+i/len(kinds)%addresses))
			if err != nil {
				t.Errorf("connection %d: %v", i, err)
				return
			}
			defer conn.Close()
			connected.Add(1)
			// Whatever the server does not end itself is ended with the test.
			stop := context.AfterFunc(ctx, func() { over.Add(1); conn.Close() })
			defer stop()
			kinds[i%len(kinds)](ctx, conn, mathrand.New(mathrand.NewPCG(seed, uint64(i))))
		})
	}
	for _, d := range devices {
		good.Go(func() {
			cfg := b.phoneConfig(d.Name)
			cfg.Dial = func(ctx context.Context) (net.Conn, error) { return dial(ctx, "127.0.0.1") }
			cfg.Retries, cfg.RetryDelay, cfg.Patience = 50, 100*time.Millisecond, time.Minute
			if _, err := phone.Run(ctx, cfg); err != nil {
				t.Errorf("an honest phone: %v", err)
			}
			b.srv.mu.Lock()
			defer b.srv.mu.Unlock()
			for addr, c := range b.srv.addresses {
				if c > limit {
					t.Errorf("%d connections from %s, at most %d are allowed", c, addr, limit)
				}
			}
		})
	}
	good.Wait()
	bad.Wait()
	if over.Load() > 0 {
		t.Errorf("%d connections were not ended by the server", over.Load())
	}
	b.stop()
	b.srv.mu.Lock()
	defer b.srv.mu.Unlock()
	if b.srv.conns != 0 || len(b.srv.addresses) != 0 || len(b.srv.sessions) != 0 || len(b.srv.phones) != 0 {
		t.Errorf("left behind: %d connections, %d addresses, %d sessions, %d phones", b.srv.conns, len(b.srv.addresses), len(b.srv.sessions), len(b.srv.phones))
	}
	if b.srv.refused == 0 {
		t.Error("no connection was refused: the limit was not put to the test")
	}
	b.wantRow(testDevice, OperationUpgrade, StatusOperationPending, "")
	t.Logf("%d hostile connections, %d of them refused; %d honest phones enrolled", connected.Load(), b.srv.refused, honest)
}

// needFiles raises the limit of open files, or skips the test if the machine
// does not allow as many.
func needFiles(t *testing.T, n uint64) {
	t.Helper()
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	if limit.Cur >= n {
		return
	}
	if limit.Max < n {
		t.Skipf("the test needs %d open files, and the machine allows %d (ulimit -Hn)", n, limit.Max)
	}
	limit.Cur = n
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
}
