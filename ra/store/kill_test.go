//go:build linux

package store_test

import (
	"bufio"
	"context"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/onlineca/onlineca/internal/interop"
	"github.com/onlineca/onlineca/ra"
	"github.com/onlineca/onlineca/ra/fault"
	"github.com/onlineca/onlineca/ra/store"
	"github.com/onlineca/onlineca/ra/store/storetest"
)

// childEnv makes the test binary a registration authority: its value is the
// address of the certificate authority and the location of the store.
const childEnv = "ONLINECA_TEST_STORE_CHILD"

func TestMain(m *testing.M) {
	if child := os.Getenv(childEnv); child != "" {
		if err := serveChild(child); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// reply is what goes over the two connections of a child.
type reply struct {
	ReqID   int    `json:"req_id"`
	Cert    []byte `json:"cert,omitempty"`
	Pending bool   `json:"pending,omitempty"`
	Code    string `json:"code,omitempty"`
}

func (r reply) result() (ra.Result, error) {
	if r.Code != "" {
		code, _ := fault.Lookup(r.Code)
		return ra.Result{}, &fault.Fault{Code: code, Op: "remote", ReqID: r.ReqID}
	}
	if r.Pending {
		return ra.Result{State: ra.Pending, ReqID: r.ReqID}, nil
	}
	cert, err := x509.ParseCertificate(r.Cert)
	return ra.Result{State: ra.Issued, ReqID: r.ReqID, Certificate: cert}, err
}

func replyOf(res ra.Result, err error) reply {
	r := reply{ReqID: res.ReqID, Pending: res.State == ra.Pending}
	if err != nil {
		f := fault.Of(err)
		return reply{Code: f.Code.String(), ReqID: f.ReqID}
	}
	if res.Certificate != nil {
		r.Cert = res.Certificate.Raw
	}
	return r
}

// remote is an authority over HTTP.
type remote struct{ url string }

func (c remote) post(ctx context.Context, path string, csr *x509.CertificateRequest) (ra.Result, error) {
	body := string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: csr.Raw}))
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.url+path, strings.NewReader(body))
	if err != nil {
		return ra.Result{}, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return ra.Result{}, fault.New(fault.OutcomeUnknown, "remote", err)
	}
	defer resp.Body.Close()
	var r reply
	if err := json.NewDecoder(resp.Body).Decode(&r); err != nil {
		return ra.Result{}, fault.New(fault.OutcomeUnknown, "remote", err)
	}
	return r.result()
}

func (c remote) Enroll(ctx context.Context, r ra.Request) (ra.Result, error) {
	return c.post(ctx, "/submit", r.CSR)
}

func (c remote) Fetch(ctx context.Context, id int, csr *x509.CertificateRequest) (ra.Result, error) {
	return c.post(ctx, "/fetch?id="+strconv.Itoa(id), csr)
}

// serveChild is a registration authority: it prints its address and serves
// until it is killed.
func serveChild(child string) error {
	ca, location, _ := strings.Cut(child, " ")
	ctx := context.Background()
	s, err := store.Open(ctx, location)
	if err != nil {
		return err
	}
	d, err := store.NewDurable(store.Config{
		Store: s, Next: remote{ca}, Fetch: remote{ca}, Authority: "ca",
		Patience: 300 * time.Millisecond, Grace: 1500 * time.Millisecond, Lease: 500 * time.Millisecond,
		PollFirst: 50 * time.Millisecond, PollMax: 400 * time.Millisecond, Tick: 50 * time.Millisecond,
	})
	if err != nil {
		return err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	fmt.Println(l.Addr())
	go func() { _ = d.Run(ctx) }()
	return http.Serve(l, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		csr, err := readCSR(r.Body)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		res, err := d.Enroll(r.Context(), ra.Request{Operation: ra.Enroll, CSR: csr, Client: ra.Client{Name: "client"}})
		_ = json.NewEncoder(w).Encode(replyOf(res, err))
	}))
}

func readCSR(r io.Reader) (*x509.CertificateRequest, error) {
	data, err := io.ReadAll(r)
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(data)
	if block == nil {
		return nil, errors.New("no PEM")
	}
	return x509.ParseCertificateRequest(block.Bytes)
}

// crash is a crash test: registration authorities that are killed at random
// while clients enrol.
type crash struct {
	t        *testing.T
	ca       *storetest.Authority
	server   *httptest.Server
	location string
	rnd      *rand.Rand
	rndMu    sync.Mutex
	addrs    []atomic.Pointer[string]
	kills    atomic.Int32
}

func (c *crash) chance(n int) bool {
	c.rndMu.Lock()
	defer c.rndMu.Unlock()
	return c.rnd.IntN(n) == 0
}

func (c *crash) millis(n int) time.Duration {
	c.rndMu.Lock()
	defer c.rndMu.Unlock()
	return time.Duration(c.rnd.IntN(n)+1) * time.Millisecond
}

// authority serves the CA: some answers are slow, some are lost before the
// request has arrived, some after.
func (c *crash) authority() {
	c.server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		csr, err := readCSR(r.Body)
		if err != nil {
			return // the sender was killed
		}
		if id := r.URL.Query().Get("id"); id != "" {
			n, _ := strconv.Atoi(id)
			_ = json.NewEncoder(w).Encode(replyOf(c.ca.Fetch(r.Context(), n, csr)))
			return
		}
		if c.chance(10) {
			panic(http.ErrAbortHandler)
		}
		out := replyOf(c.ca.Enroll(context.WithoutCancel(r.Context()), ra.Request{CSR: csr}))
		late := time.NewTimer(c.millis(20))
		defer late.Stop()
		<-late.C
		if c.chance(10) {
			panic(http.ErrAbortHandler)
		}
		_ = json.NewEncoder(w).Encode(out)
	}))
	c.server.Config.ErrorLog = nil
}

// process keeps one registration authority running, killing it now and then,
// until ctx ends.
func (c *crash) process(ctx context.Context, i int) {
	for ctx.Err() == nil {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), childEnv+"="+c.server.URL+" "+c.location)
		cmd.Stderr = os.Stderr
		cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
		out, err := cmd.StdoutPipe()
		if err != nil {
			c.t.Error(err)
			return
		}
		if err := cmd.Start(); err != nil {
			c.t.Error(err)
			return
		}
		if line, err := bufio.NewReader(out).ReadString('\n'); err == nil {
			addr := "http://" + strings.TrimSpace(line)
			c.addrs[i].Store(&addr)
		}
		death := time.NewTimer(100*time.Millisecond + c.millis(500))
		select {
		case <-death.C:
			c.kills.Add(1)
		case <-ctx.Done():
		}
		death.Stop()
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}
}

// client asks one process after the other until it has its certificate.
func (c *crash) client(ctx context.Context, n int) {
	r := storetest.Request(c.t, fmt.Sprint("SEP", n), "client")
	for i := 0; ctx.Err() == nil; i++ {
		if addr := c.addrs[(n+i)%len(c.addrs)].Load(); addr != nil {
			res, err := remote{*addr}.post(ctx, "/", r.CSR)
			if err == nil && res.Certificate != nil {
				return
			}
		}
		again := time.NewTimer(20*time.Millisecond + c.millis(50))
		select {
		case <-again.C:
		case <-ctx.Done():
		}
		again.Stop()
	}
	c.t.Errorf("SEP%d has no certificate", n)
}

func (c *crash) run(processes, clients, each int) {
	c.authority()
	defer c.server.Close()
	c.addrs = make([]atomic.Pointer[string], processes)
	ctx, cancel := context.WithTimeout(c.t.Context(), 2*time.Minute)
	defer cancel()
	var alive, asking sync.WaitGroup
	stop, end := context.WithCancel(ctx)
	for i := range processes {
		alive.Go(func() { c.process(stop, i) })
	}
	for n := range clients {
		asking.Go(func() {
			for k := range each {
				c.client(ctx, n*each+k)
			}
		})
	}
	asking.Wait()
	end()
	alive.Wait()
	c.verify(clients * each)
}

// verify compares what the authority has with what is on record.
func (c *crash) verify(devices int) {
	s, err := store.Open(c.t.Context(), c.location)
	if err != nil {
		c.t.Fatal(err)
	}
	defer s.Close()
	recs, err := s.List(c.t.Context(), store.Filter{States: []store.State{store.Issued}})
	if err != nil {
		c.t.Fatal(err)
	}
	known := map[int]bool{}
	for _, r := range recs {
		known[r.ReqID] = true
	}
	for n := range devices {
		if got := c.ca.Submissions(fmt.Sprint("SEP", n)); got != 1 {
			c.t.Errorf("SEP%d was submitted %d times", n, got)
		}
	}
	if len(known) != devices || len(recs) != devices {
		c.t.Errorf("%d certificates on record with %d numbers, want %d", len(recs), len(known), devices)
	}
	c.t.Logf("%d devices, %d kills, %d fetches", devices, c.kills.Load(), c.ca.Fetches())
}

func crashTest(t *testing.T, location string, processes int) {
	if testing.Short() {
		t.Skip("kills processes for some seconds")
	}
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	ca := storetest.NewAuthority(t, 1)
	ca.Others(t, 1)
	c := &crash{t: t, ca: ca, location: location, rnd: rand.New(rand.NewPCG(seed, 0))}
	c.run(processes, 4, 8)
}

func TestKilledProcessesLoseNothing(t *testing.T) {
	t.Run("SQLite", func(t *testing.T) { crashTest(t, sqliteFile(t), 1) })
	t.Run("PostgreSQL, two processes", func(t *testing.T) {
		interop.Need(t, "postgres", "initdb")
		crashTest(t, storetest.Postgres(t)(t), 2)
	})
}
