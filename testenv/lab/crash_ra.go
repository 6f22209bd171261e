package lab

import (
	"bufio"
	"context"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	mathrand "math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"golang.org/x/crypto/bcrypt"

	"github.com/onlineca/onlineca/capf"
	"github.com/onlineca/onlineca/testenv"
)

// crashUser is who the clients are.
const crashUser = "phones"

// start starts the mock and writes what the registration authorities need.
func (t *crashTest) start() (err error) {
	// A name of its own, so that a database may have the records of other runs.
	pki, err := testenv.NewPKI(testenv.PKIConfig{CAName: "CRASH-CA-" + rand.Text()[:8]})
	if err != nil {
		return err
	}
	var password string
	if password, err = newPassword(); err != nil {
		return err
	}
	// The numbers do not begin with 1, as they do not in earnest.
	t.certsrv, err = testenv.Start(testenv.Config{
		PKI: pki, Domain: labDomain, FirstReqID: 4711,
		Accounts: []testenv.Account{{Domain: labDomain, Name: labUser, Password: password}},
	})
	if err != nil {
		return fmt.Errorf("crash: start the mock certsrv: %w", err)
	}
	if err = t.files(password); err == nil {
		err = t.authorities()
	}
	if err != nil {
		t.certsrv.Close()
	}
	return err
}

// state is the path of a file that the processes share.
func (t *crashTest) state(name string) string { return filepath.Join(t.Out, stateDir, name) }

// files writes passwords, certificates and the EST server's key.
func (t *crashTest) files(password string) error {
	t.password = rand.Text()
	hash, err := bcrypt.GenerateFromPassword([]byte(t.password), bcrypt.MinCost)
	if err != nil {
		return fmt.Errorf("crash: %w", err)
	}
	cert, err := t.certsrv.PKI.ServerCertificate(testenv.ServerOptions{Names: []string{"127.0.0.1"}})
	if err != nil {
		return err
	}
	key, err := x509.MarshalPKCS8PrivateKey(cert.PrivateKey)
	if err != nil {
		return fmt.Errorf("crash: %w", err)
	}
	var chain []byte
	for _, der := range cert.Certificate {
		chain = append(chain, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})...)
	}
	for _, dir := range []string{stateDir, logsDir} {
		if err := os.MkdirAll(filepath.Join(t.Out, dir), 0o700); err != nil {
			return fmt.Errorf("crash: %w", err)
		}
	}
	for name, text := range map[string][]byte{
		"password": []byte(password + "\n"), "users": []byte(crashUser + ":" + string(hash) + "\n"),
		"root.pem": t.certsrv.RootPEM(), "est.pem": chain,
		"est.key": pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key}),
	} {
		if err := os.WriteFile(t.state(name), text, 0o600); err != nil {
			return fmt.Errorf("crash: %w", err)
		}
	}
	return nil
}

// crashRA is one registration authority, which lives many times.
type crashRA struct {
	t      *crashTest
	number int
	config string // its settings file
	audit  string
	log    string // what all its lives have said
	est    *capf.ESTClient
}

// authorities chooses ports and writes the settings.
func (t *crashTest) authorities() error {
	roots := t.certsrv.Pool()
	for n := range t.Processes {
		l, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // Only to choose a port.
		if err != nil {
			return fmt.Errorf("crash: %w", err)
		}
		listen := l.Addr().String()
		_ = l.Close() // nothing was accepted
		name := fmt.Sprintf("ra-%d", n+1)
		p := &crashRA{
			t: t, number: n, config: t.state(name + ".yaml"),
			audit: t.state(name + ".audit.jsonl"), log: filepath.Join(t.Out, logsDir, name+".log"),
		}
		if err := os.WriteFile(p.config, []byte(t.settings(name, listen)), 0o600); err != nil {
			return fmt.Errorf("crash: %w", err)
		}
		p.est, err = capf.NewESTClient(capf.ESTConfig{
			Server: "https://" + listen, Roots: roots, Username: crashUser, Password: t.password,
			Timeout: 5 * time.Second, RetryWait: -1,
		})
		if err != nil {
			return err
		}
		t.ras = append(t.ras, p)
	}
	return nil
}

// settings are those of a registration authority whose patience is short.
func (t *crashTest) settings(name, listen string) string {
	store := t.Store
	if store == "sqlite" {
		store = name + ".db"
	}
	return fmt.Sprintf(`listen: %[2]s
state: %[1]s
store: %[3]q
requests:
  patience: 1s
  retry_after: 1s
  grace: 3s
  lease: 2s
  poll_first: 100ms
  poll_max: 1s
  audit: %[1]s.audit.jsonl
tls: {certificate: est.pem, key: est.key}
certsrv:
  url: %[4]s/certsrv
  username: %[5]s\%[6]s
  password_file: password
  template: %[7]s
  tls: {ca: [root.pem]}
  timeouts: {login: 2s, page: 1s, submit: 1s, fetch: 1s}
  breaker: {failures: 5, pause: 300ms}
  login_pause: 1s
est:
  auth: {users: users}
logs: {level: warn}
`, name, listen, store, t.certsrv.URL, labDomain, labUser, labTemplate)
}

// crashChild is one life of a registration authority.
type crashChild struct {
	cmd   *exec.Cmd
	ready chan struct{} // closed when it has said that it is up
	ended chan struct{} // closed when it has ended
}

// start starts a process.
func (p *crashRA) start() (*crashChild, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("crash: %w", err)
	}
	log, err := os.OpenFile(p.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, fmt.Errorf("crash: %w", err)
	}
	defer log.Close()
	c := &crashChild{
		cmd:   exec.Command(self, "serve", "--config", p.config), //nolint:noctx // Its end is this test's subject.
		ready: make(chan struct{}), ended: make(chan struct{}),
	}
	c.cmd.Stderr, c.cmd.SysProcAttr = log, dieWithParent()
	out, err := c.cmd.StdoutPipe()
	if err != nil {
		return nil, fmt.Errorf("crash: %w", err)
	}
	if err := c.cmd.Start(); err != nil {
		return nil, fmt.Errorf("crash: start the registration authority: %w", err)
	}
	go func() {
		defer close(c.ended)
		for lines := bufio.NewScanner(out); lines.Scan(); {
			if strings.HasPrefix(lines.Text(), "It stays up") {
				close(c.ready)
				break
			}
		}
		_, _ = io.Copy(io.Discard, out)
		_ = c.cmd.Wait() // it was killed, most likely
	}()
	return c, nil
}

// kill ends it with SIGKILL.
func (c *crashChild) kill() {
	_ = c.cmd.Process.Kill()
	<-c.ended
}

// finish asks it to end, and kills it if it does not.
func (c *crashChild) finish() error {
	switch err := c.cmd.Process.Signal(os.Interrupt); {
	case err == nil:
		timer := time.NewTimer(10 * time.Second)
		defer timer.Stop()
		select {
		case <-c.ended:
			if code := c.cmd.ProcessState.ExitCode(); code != 0 && code != 130 {
				return fmt.Errorf("exit code %d", code)
			}
			return nil
		case <-timer.C:
		}
	case runtime.GOOS == "windows": // where one process cannot ask another
		c.kill()
		return nil
	}
	c.kill()
	return errors.New("it had to be killed")
}

// keep has the process run until alive ends, and kills it now and then until
// killing ends.
func (p *crashRA) keep(alive, killing context.Context) {
	r := p.t.random(partProcesses + uint64(p.number))
	for alive.Err() == nil {
		c, err := p.start()
		if err != nil {
			p.t.violated("%v", err)
			return
		}
		p.outlive(alive, killing, r, c)
	}
}

// outlive waits for the end of one life, or brings it about: one in four
// processes dies while it starts, the others some time after.
func (p *crashRA) outlive(alive, killing context.Context, r *mathrand.Rand, c *crashChild) {
	early, span := r.IntN(4) == 0, r.Int64N(int64(1500*time.Millisecond))
	ready := c.ready
	if early {
		span /= 5
		ready = nil
	}
	death := time.NewTimer(time.Duration(span))
	defer death.Stop()
	if !early {
		death.Stop()
	}
	for {
		select {
		case <-ready:
			ready = nil
			death.Reset(time.Duration(span) + 50*time.Millisecond)
		case <-death.C:
			if killing.Err() == nil {
				c.kill()
				p.t.killed(early)
				return
			}
		case <-c.ended:
			// It could not start, because of a fault of certsrv's. A service
			// manager waits a little before the next try.
			p.t.count(func(r *CrashReport) { r.Ended++ })
			pause(alive, r, 50*time.Millisecond, 150*time.Millisecond)
			return
		case <-alive.Done():
			if err := c.finish(); err != nil {
				p.t.violated("process %d does not end when it is asked to: %v", p.number+1, err)
			}
			return
		}
	}
}

func (t *crashTest) killed(early bool) {
	t.count(func(r *CrashReport) {
		r.Kills++
		if early {
			r.KilledStarting++
		}
	})
}
