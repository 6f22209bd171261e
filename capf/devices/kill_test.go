package devices_test

import (
	"bufio"
	"context"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/moby/sys/atomicwriter"

	"github.com/onlineca/onlineca/capf"
	"github.com/onlineca/onlineca/capf/devices"
	"github.com/onlineca/onlineca/capf/phone"
	"github.com/onlineca/onlineca/ra/fault"
)

// childEnv makes the test binary a CAPF server: its value is the directory
// that it works in, and file 3 its listener.
const childEnv = "ONLINECA_TEST_CAPF_DIR"

func TestMain(m *testing.M) {
	if dir := os.Getenv(childEnv); dir != "" {
		if err := serveChild(dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

func serveChild(dir string) error {
	l, err := net.FileListener(os.NewFile(3, "listener"))
	if err != nil {
		return err
	}
	table, err := devices.Open(context.Background(), filepath.Join(dir, "devices.db"))
	if err != nil {
		return err
	}
	cert, err := capf.LoadServerCertificate(filepath.Join(dir, "capf.pem"), pkix.Name{}, time.Now())
	if err != nil {
		return err
	}
	ca, err := capf.NewLocalCA(cert, 0, nil)
	if err != nil {
		return err
	}
	srv, err := capf.NewServer(capf.ServerConfig{
		Certificate: cert, Devices: table, Online: &fileCA{dir: filepath.Join(dir, "ca"), ca: ca}, MaxPerAddress: -1,
	})
	if err != nil {
		return err
	}
	fmt.Println("ready")
	return srv.Serve(context.Background(), l)
}

// fileCA is an online CA that remembers in files what it has issued, and gives
// the same certificate for the same request: it outlives the CAPF process.
type fileCA struct {
	dir string
	ca  *capf.LocalCA
}

func (c *fileCA) EnrollCSR(_ context.Context, device string, _ int, csr []byte) (*capf.LSC, error) {
	sum := sha256.Sum256(csr)
	path := filepath.Join(c.dir, device+"-"+hex.EncodeToString(sum[:8]))
	der, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		req, parseErr := x509.ParseCertificateRequest(csr)
		if parseErr != nil {
			return nil, fault.New(fault.MalformedCSR, "file CA", parseErr)
		}
		if der, err = c.ca.Issue(device, req.PublicKey); err == nil {
			err = atomicwriter.WriteFile(path, der, 0o600)
		}
	}
	if err != nil {
		return nil, fault.New(fault.DiskFull, "file CA", err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fault.New(fault.CertificateUnreadable, "file CA", err)
	}
	return &capf.LSC{DER: der, Certificate: cert}, nil
}

// child is a CAPF server in a process of its own.
type child struct {
	cmd *exec.Cmd
}

func start(t *testing.T, dir string, listener *os.File) *child {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childEnv+"="+dir)
	cmd.ExtraFiles = []*os.File{listener}
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReader(out).ReadString('\n'); err != nil || line != "ready\n" {
		t.Fatalf("the server says %q, %v", line, err)
	}
	return &child{cmd}
}

func (c *child) kill() {
	_ = c.cmd.Process.Signal(syscall.SIGKILL)
	_ = c.cmd.Wait()
}

// The CAPF process is killed twice in the middle of 500 enrolments. Afterwards
// no device is missing or stuck, and every certificate that the CA has issued
// is the one that its phone holds: none was lost, none issued twice.
func TestKill(t *testing.T) {
	const phones = 500
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "ca"), 0o700); err != nil {
		t.Fatal(err)
	}
	cert, err := capf.LoadServerCertificate(filepath.Join(dir, "capf.pem"), pkix.Name{}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	addPhones(t, filepath.Join(dir, "devices.db"), phones)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	file, err := l.(*net.TCPListener).File()
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()

	server := start(t, dir, file)
	defer func() { server.kill() }()
	var mu sync.Mutex
	killed := 0
	roots := x509.NewCertPool()
	roots.AddCert(cert.Leaf)
	fleet := phone.Fleet{Count: phones, Parallel: 60,
		Config: func(i int) phone.Config {
			return phone.Config{
				Server: l.Addr().String(), Roots: roots, Device: deviceName(i), Retries: 20, RetryDelay: time.Nanosecond,
			}
		},
		Observe: func(o phone.Outcome, done, _ int) {
			if o.Err != nil {
				t.Errorf("%s: %v", o.Device, o.Err)
			}
			mu.Lock()
			defer mu.Unlock()
			// Connections wait in the listener's queue until the next process
			// takes them: the listener lives in this process too.
			if done == 120 || done == 330 {
				server.kill()
				killed++
				server = start(t, dir, file)
			}
		},
	}
	s := fleet.Run(t.Context())
	if s.Succeeded != phones || killed != 2 {
		t.Fatalf("%d of %d phones succeeded, the server was killed %d times: %v", s.Succeeded, phones, killed, s.Examples)
	}
	t.Logf("%d connections for %d phones", s.Attempts, phones)
	if s.Attempts == phones {
		t.Error("no phone had to try again: the server was killed in an idle moment")
	}
	server.kill()
	checkTable(t, dir, phones)
}

func deviceName(i int) string { return fmt.Sprintf("SEP%012X", i+1) }

func addPhones(t *testing.T, path string, n int) {
	t.Helper()
	table, err := devices.Open(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	defer table.Close()
	all := make([]capf.Device, n)
	for i := range all {
		all[i] = capf.NewDevice(deviceName(i))
		all[i].KeyOrder, all[i].ECKeySize, all[i].Signing = capf.ECOnly, 256, capf.SigningEncrypt
		all[i].Schedule(capf.OperationUpgrade, time.Time{})
	}
	if err := table.Add(t.Context(), all...); err != nil {
		t.Fatal(err)
	}
}

func checkTable(t *testing.T, dir string, phones int) {
	t.Helper()
	table, err := devices.Open(t.Context(), filepath.Join(dir, "devices.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer table.Close()
	all, err := table.List(t.Context(), devices.Filter{})
	if err != nil || len(all) != phones {
		t.Fatalf("%d devices, %v", len(all), err)
	}
	held := make(map[string]bool)
	for _, d := range all {
		if d.Operation != capf.OperationNone || d.Status != capf.StatusUpgradeSuccess || len(d.LSC) == 0 || len(d.CSR) != 0 {
			t.Errorf("%s: operation %v, status %v, reason %q", d.Name, d.Operation, d.Status, d.Reason)
		}
		held[string(d.LSC)] = true
	}
	files, err := os.ReadDir(filepath.Join(dir, "ca"))
	if err != nil {
		t.Fatal(err)
	}
	// What was being written when the process was killed has a dot in front.
	files = slices.DeleteFunc(files, func(f fs.DirEntry) bool { return strings.HasPrefix(f.Name(), ".") })
	for _, f := range files {
		der, err := os.ReadFile(filepath.Join(dir, "ca", f.Name()))
		if err != nil {
			t.Fatal(err)
		}
		if !held[string(der)] {
			t.Errorf("certificate %s was issued and not delivered", f.Name())
		}
	}
	if len(files) != phones {
		t.Errorf("the CA has issued %d certificates for %d phones", len(files), phones)
	}
}
