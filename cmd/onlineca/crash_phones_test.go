package main

import (
	"bufio"
	"context"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/onlineca/onlineca/capf/phone"
	"github.com/onlineca/onlineca/testenv"
)

// child is this program in a process of its own.
type child struct {
	cmd   *exec.Cmd
	lines []string // what it said until it was ready
}

// startChild starts it and waits until it says that it stays up.
func startChild(t *testing.T, args ...string) *child {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	c := &child{cmd: exec.Command(self, args...)}
	var stderr lockedBuffer
	c.cmd.Stderr = &stderr
	out, err := c.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.kill)
	for scan := bufio.NewScanner(out); scan.Scan(); {
		c.lines = append(c.lines, scan.Text())
		if strings.Contains(scan.Text(), "Ctrl-C") {
			go func() { _, _ = io.Copy(io.Discard, out) }()
			return c
		}
	}
	t.Fatalf("onlineca %s ended before it was ready:\n%s\n%s", args[0], strings.Join(c.lines, "\n"), stderr.String())
	return nil
}

// kill ends it with SIGKILL.
func (c *child) kill() {
	_ = c.cmd.Process.Kill()
	_ = c.cmd.Wait() // it was killed
}

// killed is the test of a server that is killed amid the enrolment of phones.
type killed struct {
	t       *testing.T
	n       int
	long    bool // the product's own times, not shortened ones
	dir     string
	config  string
	capf    string
	control string // the mock's
	roots   *x509.CertPool

	restarted chan struct{} // closed when the server is up again

	mu     sync.Mutex
	before map[string]bool // devices for which the CA had issued by then
	got    map[string][]byte
	most   int // attempts of a phone
}

func deviceOf(i int) string { return fmt.Sprintf("SEP%012X", i+1) }

// A server that is CAPF and the registration authority in one is killed amid
// the enrolment of many phones. Whatever the certificate authority has issued
// is delivered at the phone's first contact after that; every phone gets its
// certificate within the attempts that phones make; each gets one; no device is
// left without a way on. The long form has five hundred phones and none of the
// times shortened.
func TestKilledServerLosesNoPhone(t *testing.T) {
	if testing.Short() {
		t.Skip("kills a process")
	}
	t.Parallel() // it waits most of the time
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 0))
	k := &killed{t: t, n: 60, dir: t.TempDir(), restarted: make(chan struct{}), got: map[string][]byte{}}
	if os.Getenv("ONLINECA_LONG") != "" {
		k.n, k.long = 500, true
	}
	ctx, cancel := context.WithTimeout(t.Context(), 8*time.Minute)
	defer cancel()
	k.prepare(rnd)
	server := startChild(t, "serve", "--config", k.config)
	k.trust()
	var phones sync.WaitGroup
	for i := range k.n {
		phones.Go(func() { k.phone(ctx, deviceOf(i)) })
	}
	enough := k.n/5 + rnd.IntN(3*k.n/5)
	k.awaitSubmissions(ctx, enough)
	server.kill()
	k.mu.Lock()
	delivered := len(k.got)
	k.mu.Unlock()
	server = startChild(t, "serve", "--config", k.config)
	k.mu.Lock()
	k.before = map[string]bool{}
	for _, c := range k.issued() {
		k.before[deviceIn(c)] = true
	}
	k.mu.Unlock()
	close(k.restarted)
	phones.Wait()
	k.verify()
	t.Logf("killed after %d submissions: %d certificates were issued, %d of them delivered; a phone made %d attempts at most", enough, len(k.before), delivered, k.most)
	if len(k.before) <= delivered {
		t.Error("no certificate was under way when the server was killed: nothing was shown")
	}
	server.kill()
}

// prepare starts the mock and writes settings and devices. Its answers are
// slow, before the certificate is issued or after it.
func (k *killed) prepare(rnd *rand.Rand) {
	args := []string{"certsrv", "--listen", "127.0.0.1:0", "--control", "127.0.0.1:0", "--root-file", filepath.Join(k.dir, "root.pem")}
	for range 2 * k.n {
		kind := "slow-answer"
		if rnd.IntN(3) == 0 {
			kind = "slow"
		}
		args = append(args, "--fault", fmt.Sprintf("%s:%dms@submit", kind, 50+rnd.IntN(400)))
	}
	mock := startChild(k.t, args...)
	k.control = find(k.t, mock.lines, `control +(http://.*)$`)
	write(k.t, filepath.Join(k.dir, "password"), find(k.t, mock.lines, `password (.*)$`))
	l, err := net.Listen("tcp", "127.0.0.1:0") // only to choose a port that both lives have
	if err != nil {
		k.t.Fatal(err)
	}
	k.capf = l.Addr().String()
	l.Close()
	text := settings(find(k.t, mock.lines, `certsrv +(https://.*)/certsrv/`)) + "capf:\n  listen: " + k.capf + "\n  max_per_address: -1\n"
	if !k.long {
		text += "  retry_delay: 1s\nrequests: {patience: 2s, retry_after: 1s, grace: 4s, poll_first: 200ms}\n"
	}
	k.config = filepath.Join(k.dir, "onlineca.yaml")
	write(k.t, k.config, text)
	csv := "name,key_order,ec_key_size,signing,operation\n"
	for i := range k.n {
		csv += deviceOf(i) + ",ec,256,encrypt,install\n"
	}
	write(k.t, filepath.Join(k.dir, "devices.csv"), csv)
	onlineca(k.t, "device", "import", "--config", k.config, filepath.Join(k.dir, "devices.csv")).want(k.t, 0, fmt.Sprintf("%d added", k.n))
}

func (k *killed) trust() {
	k.roots = x509.NewCertPool()
	if !k.roots.AppendCertsFromPEM([]byte(read(k.t, filepath.Join(k.dir, "state", "capf-certificate.pem")))) {
		k.t.Fatal("no certificate of CAPF")
	}
}

// ask asks the mock's control API.
func (k *killed) ask(what string, answer any) {
	resp, err := http.Get(k.control + what)
	if err != nil {
		k.t.Error(err)
		return
	}
	defer resp.Body.Close()
	if err := json.NewDecoder(resp.Body).Decode(answer); err != nil {
		k.t.Error(err)
	}
}

func (k *killed) issued() (all []testenv.ControlCertificate) {
	k.ask("issued", &all)
	return all
}

// deviceIn is the device that a certificate is for.
func deviceIn(c testenv.ControlCertificate) string {
	_, name, _ := strings.Cut(c.Subject, "SEP")
	if len(name) < 12 {
		return c.Subject
	}
	return "SEP" + name[:12]
}

func (k *killed) awaitSubmissions(ctx context.Context, n int) {
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		var counts struct{ Submissions int }
		if k.ask("counts", &counts); counts.Submissions >= n {
			return
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			k.t.Fatalf("%d of %d submissions: %v", counts.Submissions, n, context.Cause(ctx))
		}
	}
}

// phone is one phone with its three retries. In the short form it waits with
// the first of them until the server is back.
func (k *killed) phone(ctx context.Context, device string) {
	var began atomic.Bool // the contact began after the restart
	isUp := func() bool {
		select {
		case <-k.restarted:
			return true
		default:
			return false
		}
	}
	cfg := phone.Config{
		Device: device, Roots: k.roots, Server: k.capf,
		Dial: func(ctx context.Context) (net.Conn, error) {
			began.Store(isUp())
			return new(net.Dialer).DialContext(ctx, "tcp", k.capf)
		},
		Retrying: func(err error, _ time.Duration) {
			k.mu.Lock()
			defer k.mu.Unlock()
			if began.Load() && k.before[device] {
				k.t.Errorf("%s: its certificate had been issued, and its contact after the restart ended with %v", device, err)
			}
		},
	}
	if !k.long {
		cfg.RetryDelay = time.Second
		cfg.Sleep = func(ctx context.Context, d time.Duration) {
			select {
			case <-k.restarted:
			case <-ctx.Done():
			}
			timer := time.NewTimer(d)
			defer timer.Stop()
			select {
			case <-timer.C:
			case <-ctx.Done():
			}
		}
	}
	r, err := phone.Run(ctx, cfg)
	k.mu.Lock()
	defer k.mu.Unlock()
	if err == nil && r.Operation != phone.Install {
		err = errors.New("it was not told to install")
	}
	if err != nil {
		k.t.Errorf("%s after %d attempts: %v", device, r.Attempts, err)
		return
	}
	k.got[device], k.most = r.Certificate, max(k.most, r.Attempts)
}

// verify compares what the phones, the certificate authority and the device
// table have.
func (k *killed) verify() {
	all := map[string][]testenv.ControlCertificate{}
	for _, c := range k.issued() {
		all[deviceIn(c)] = append(all[deviceIn(c)], c)
	}
	for i := range k.n {
		device := deviceOf(i)
		if certs := all[device]; len(certs) != 1 || string(certs[0].DER) != string(k.got[device]) {
			k.t.Errorf("%s has one certificate, and the CA has issued %d for it", device, len(certs))
		}
	}
	if len(all) != k.n {
		k.t.Errorf("certificates for %d devices", len(all))
	}
	if n := strings.Count(onlineca(k.t, "device", "export", "--config", k.config).stdout, "Upgrade Success"); n != k.n {
		k.t.Errorf("%d devices have succeeded by the table", n)
	}
}
