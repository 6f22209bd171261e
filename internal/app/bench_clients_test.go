//go:build unix

package app

import (
	"bufio"
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/gob"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"sync"
	"sync/atomic"
	"testing"
)

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

// benchRequests makes n requests for the key.
func benchRequests(b *testing.B, key crypto.Signer, n int) []string {
	b.Helper()
	bodies := make([]string, n)
	for i := range bodies {
		der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: pkix.Name{CommonName: fmt.Sprintf("SEP%012X", i)}}, key)
		if err != nil {
			b.Fatal(err)
		}
		bodies[i] = base64.StdEncoding.EncodeToString(der)
	}
	return bodies
}

// benchClients is the process of the clients of one server.
type benchClients struct {
	cmd   *exec.Cmd
	in    io.WriteCloser
	out   io.Reader
	lines *bufio.Scanner
}

// startClients starts the clients. Each of them has enrolled once when it
// returns.
func startClients(b *testing.B, load benchLoad) *benchClients {
	b.Helper()
	c := &benchClients{cmd: exec.CommandContext(b.Context(), os.Args[0], "-test.run=^TestBenchClients$", "-test.v")}
	c.cmd.Env = append(os.Environ(), clientsEnv+"=yes")
	var err error
	if c.in, err = c.cmd.StdinPipe(); err != nil {
		b.Fatal(err)
	}
	if c.out, err = c.cmd.StdoutPipe(); err != nil {
		b.Fatal(err)
	}
	if err := c.cmd.Start(); err != nil {
		b.Fatal(err)
	}
	c.lines = bufio.NewScanner(c.out)
	if err := gob.NewEncoder(c.in).Encode(load); err != nil {
		b.Fatal(err)
	}
	await(b, c.lines, "done")
	return c
}

// enrol has the clients send their next n requests, and waits for the answers.
func (c *benchClients) enrol(b *testing.B, n int) {
	b.Helper()
	if _, err := fmt.Fprintln(c.in, n); err != nil {
		b.Fatal(err)
	}
	await(b, c.lines, "done")
}

func (c *benchClients) stop(b *testing.B) {
	b.Helper()
	_ = c.in.Close()
	_, _ = io.Copy(io.Discard, c.out)
	if err := c.cmd.Wait(); err != nil {
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
	c := benchClient{benchLoad: load, tls: &tls.Config{RootCAs: pool([]*x509.Certificate{root})}, conns: make([]*benchConn, benchAtOnce)}
	// The first enrolments, one of each client, are not measured: a password is
	// verified, and connections are made.
	for i := range c.conns {
		c.conns[i] = c.connect(t)
	}
	for ask := benchAtOnce; !t.Failed(); {
		c.enrolAll(t, ask)
		if !t.Failed() {
			fmt.Println("done")
		}
		if _, err := fmt.Fscanln(in, &ask); err != nil {
			break // the benchmark is over
		}
	}
	for _, conn := range c.conns {
		conn.Close()
	}
}

type benchClient struct {
	benchLoad
	tls   *tls.Config
	conns []*benchConn
	next  atomic.Int64
}

// enrolAll sends the next n requests.
func (c *benchClient) enrolAll(t *testing.T, n int) {
	stop := min(c.next.Load()+int64(n), int64(len(c.Bodies)))
	var all sync.WaitGroup
	for k := range c.conns {
		all.Go(func() {
			for i := c.next.Add(1) - 1; i < stop && !t.Failed(); i = c.next.Add(1) - 1 {
				if c.Fresh {
					c.conns[k].Close()
					c.conns[k] = c.connect(t)
				}
				c.enrol(t, c.conns[k], c.Bodies[i])
			}
		})
	}
	all.Wait()
	c.next.Store(stop)
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
