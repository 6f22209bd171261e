package capf

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/onlineca/onlineca/capf/phone"
	"github.com/onlineca/onlineca/capf/wire"
	"github.com/onlineca/onlineca/ra/event"
	"github.com/onlineca/onlineca/ra/fault"
)

const testDevice = "SEP001122334455"

// memTable is a device table in memory.
type memTable struct {
	mu   sync.Mutex
	rows map[string]Device
}

func newMemTable(devices ...Device) *memTable {
	t := &memTable{rows: make(map[string]Device)}
	for _, d := range devices {
		t.rows[strings.ToLower(d.Name)] = d
	}
	return t
}

func (t *memTable) Device(_ context.Context, name string) (Device, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	d, ok := t.rows[strings.ToLower(name)]
	if !ok {
		return d, ErrNoDevice
	}
	return d, nil
}

func (t *memTable) Update(_ context.Context, name string, change func(*Device) error) (Device, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	d, ok := t.rows[strings.ToLower(name)]
	if !ok {
		return d, ErrNoDevice
	}
	if err := change(&d); err != nil {
		return d, err
	}
	t.rows[strings.ToLower(name)] = d
	return d, nil
}

// fakeCA is an online CA in the process. If hold is not nil each request waits
// for a value from it; if err is not nil it fails with it.
type fakeCA struct {
	hold chan struct{}
	err  error

	mu       sync.Mutex
	issuer   *LocalCA
	requests int
	byCSR    map[string]*LSC
}

func newFakeCA(t testing.TB) *fakeCA {
	t.Helper()
	local, err := NewLocalCA(ecServerCertificate(t, "Online Test CA"), 0, nil)
	if err != nil {
		t.Fatal(err)
	}
	return &fakeCA{issuer: local, byCSR: make(map[string]*LSC)}
}

func (c *fakeCA) EnrollCSR(ctx context.Context, device string, _ int, csr []byte) (*LSC, error) {
	if c.hold != nil {
		select {
		case <-c.hold:
		case <-ctx.Done():
			return nil, fault.New(fault.Canceled, "fake CA", context.Cause(ctx))
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.requests++
	if c.err != nil {
		return nil, c.err
	}
	if lsc := c.byCSR[string(csr)]; lsc != nil {
		return lsc, nil
	}
	req, err := x509.ParseCertificateRequest(csr)
	if err != nil {
		return nil, fault.New(fault.MalformedCSR, "fake CA", err)
	}
	if err := req.CheckSignature(); err != nil {
		return nil, fault.New(fault.BadCSRSignature, "fake CA", err)
	}
	der, err := c.issuer.Issue(req.Subject.CommonName, req.PublicKey)
	if err != nil {
		return nil, err
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, err
	}
	lsc := &LSC{DER: der, Certificate: cert, Chain: []*x509.Certificate{c.issuer.Certificate()}}
	c.byCSR[string(csr)] = lsc
	return lsc, nil
}

func (c *fakeCA) count() (requests, certificates int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.requests, len(c.byCSR)
}

// pipeListener is a listener in memory.
type pipeListener struct {
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func newPipeListener() *pipeListener {
	return &pipeListener{conns: make(chan net.Conn), closed: make(chan struct{})}
}

func (l *pipeListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *pipeListener) Close() error   { l.once.Do(func() { close(l.closed) }); return nil }
func (l *pipeListener) Addr() net.Addr { return pipeAddr("pipe") }

type pipeAddr string

func (a pipeAddr) Network() string { return "pipe" }
func (a pipeAddr) String() string  { return string(a) }

// pipeEnd is a pipe with an address of its own.
type pipeEnd struct {
	net.Conn
	addr pipeAddr
}

func (e pipeEnd) RemoteAddr() net.Addr { return e.addr }

func (l *pipeListener) dial(ctx context.Context, addr string) (net.Conn, error) {
	client, server := net.Pipe()
	select {
	case l.conns <- pipeEnd{server, pipeAddr(addr)}:
		return client, nil
	case <-l.closed:
		return nil, errors.New("connection refused")
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func ecServerCertificate(t testing.TB, cn string) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := GenerateServerCertificate(pkix.Name{CommonName: cn, Organization: []string{"Example"}, Country: []string{"US"}}, key, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

// bench is a CAPF server with a listener in memory.
type bench struct {
	t        testing.TB
	srv      *Server
	table    *memTable
	ca       *fakeCA
	listener *pipeListener
	roots    *x509.CertPool
	local    *LocalCA
	logs     *observer.ObservedLogs
	stop     func()
}

// pendingDevice is a device with an installation scheduled by null string, EC
// keys, and the ability to sign.
func pendingDevice(name string) Device {
	d := NewDevice(name)
	d.KeyOrder, d.ECKeySize, d.Signing = ECPreferred, 256, SigningEncrypt
	d.Schedule(OperationUpgrade, time.Time{})
	return d
}

// newBench starts a server. Its issuer is the fake online CA, and CAPF itself
// can issue too.
func newBench(t testing.TB, change func(*ServerConfig), devices ...Device) *bench {
	t.Helper()
	l := newPipeListener()
	b := newBenchOn(t, l, change, devices...)
	b.listener = l
	return b
}

// newBenchOn is newBench with another listener.
func newBenchOn(t testing.TB, l net.Listener, change func(*ServerConfig), devices ...Device) *bench {
	t.Helper()
	cert := ecServerCertificate(t, "CAPF-test")
	local, err := NewLocalCA(cert, 0, nil)
	if err != nil {
		t.Fatal(err)
	}
	b := &bench{t: t, table: newMemTable(devices...), ca: newFakeCA(t), local: local, roots: x509.NewCertPool()}
	b.roots.AddCert(cert.Leaf)
	core, logs := observer.New(zapcore.DebugLevel)
	b.logs = logs
	cfg := ServerConfig{
		Certificate: cert, Devices: b.table, Online: b.ca, Local: local, Logger: zap.New(core), MaxPerAddress: -1,
	}
	if change != nil {
		change(&cfg)
	}
	if b.srv, err = NewServer(cfg); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- b.srv.Serve(ctx, l) }()
	var once sync.Once
	b.stop = func() {
		once.Do(func() {
			cancel()
			if err := <-served; err != nil {
				t.Errorf("Serve: %v", err)
			}
			if n := len(b.srv.Sessions()); n != 0 {
				t.Errorf("%d sessions are left", n)
			}
		})
	}
	return b
}

// phoneConfig is a phone that reaches the bench and does not try twice.
func (b *bench) phoneConfig(device string) phone.Config {
	return phone.Config{
		Device: device, Roots: b.roots, Retries: -1,
		Dial: func(ctx context.Context) (net.Conn, error) { return b.listener.dial(ctx, device) },
	}
}

func (b *bench) device(name string) Device {
	b.t.Helper()
	d, err := b.table.Device(context.Background(), name)
	if err != nil {
		b.t.Fatal(err)
	}
	return d
}

// events are the facts of the trace so far.
func (b *bench) events() []event.Event {
	var all []event.Event
	for _, e := range b.logs.All() {
		if ev, _, ok := event.Of(e.Context); ok {
			all = append(all, ev)
		}
	}
	return all
}

// traced tells whether a line in our own words holds text.
func (b *bench) traced(text string) bool {
	for _, e := range b.events() {
		if l, ok := e.(event.CAPFTrace); ok && strings.Contains(l.Text, text) {
			return true
		}
	}
	return false
}

// wantRow compares the state of a device's row.
func (b *bench) wantRow(name string, op Operation, status Status, reason string) Device {
	b.t.Helper()
	d := b.device(name)
	if d.Operation != op || d.Status != status || !strings.Contains(d.Reason, reason) || (reason == "") != (d.Reason == "") {
		b.t.Errorf("%s: operation %v, status %d (%v), reason %q; want %v, %d, %q", name, d.Operation, d.Status, d.Status, d.Reason, op, status, reason)
	}
	return d
}

// rawPhone speaks the protocol byte by byte.
type rawPhone struct {
	t       testing.TB
	conn    *tls.Conn
	session uint32
}

func (b *bench) raw(addr string) *rawPhone {
	b.t.Helper()
	conn, err := b.listener.dial(context.Background(), addr)
	if err != nil {
		b.t.Fatal(err)
	}
	p := &rawPhone{t: b.t, conn: tls.Client(conn, &tls.Config{InsecureSkipVerify: true})}
	b.t.Cleanup(func() { conn.Close() })
	if err := p.conn.Handshake(); err != nil {
		b.t.Fatal(err)
	}
	return p
}

// hello reads AUTH_REQUEST.
func (p *rawPhone) hello() {
	p.t.Helper()
	m := p.read()
	if m.Command != wire.AuthRequest {
		p.t.Fatalf("the server begins with %v", m)
	}
	p.session = m.Session
}

func (p *rawPhone) read() wire.Message {
	p.t.Helper()
	m, err := wire.Read(p.conn)
	if err != nil {
		p.t.Fatalf("read: %v", err)
	}
	return m
}

// expect reads one message and compares its command.
func (p *rawPhone) expect(c wire.Command) wire.Message {
	p.t.Helper()
	m := p.read()
	if m.Command != c {
		p.t.Fatalf("got %v, want %v", m, c)
	}
	return m
}

// expectEnd reads END_SESSION and the end of the connection.
func (p *rawPhone) expectEnd(want wire.Reason) {
	p.t.Helper()
	m := p.expect(wire.EndSession)
	if r, err := m.Reason(); r != want || err != nil {
		p.t.Errorf("END_SESSION with reason %v (%v), want %v", r, err, want)
	}
	if _, err := wire.Read(p.conn); !errors.Is(err, io.EOF) {
		p.t.Errorf("after END_SESSION: %v, want the end", err)
	}
}

func (p *rawPhone) send(c wire.Command, e ...wire.Element) {
	p.t.Helper()
	if err := wire.Write(p.conn, wire.Message{Command: c, Session: p.session, Elements: e}); err != nil {
		p.t.Fatalf("send %v: %v", c, err)
	}
}

func (p *rawPhone) bytes(b []byte) {
	p.t.Helper()
	if _, err := p.conn.Write(b); err != nil {
		p.t.Fatalf("write: %v", err)
	}
}

// auth sends AUTH_RESPONSE by null string.
func (p *rawPhone) auth(version uint8, device string) {
	p.t.Helper()
	p.send(wire.AuthResponse, wire.Uint8(wire.TagReason, wire.ReasonOK), wire.Uint8(wire.TagVersion, version), wire.Text(wire.TagDeviceName, device))
}

// publicKey sends KEY_GENERATE_RESPONSE with a new key.
func (p *rawPhone) publicKey() crypto.Signer {
	p.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		p.t.Fatal(err)
	}
	der, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		p.t.Fatal(err)
	}
	p.send(wire.KeyGenerateResponse, wire.Element{Tag: wire.TagPublicKey, Value: der})
	return key
}

func mustRun(t testing.TB, cfg phone.Config) phone.Result {
	t.Helper()
	r, err := phone.Run(context.Background(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// wantFailure runs a phone that is to fail.
func wantFailure(t testing.TB, cfg phone.Config, want phone.Failure) *phone.Error {
	t.Helper()
	_, err := phone.Run(context.Background(), cfg)
	var e *phone.Error
	if !errors.As(err, &e) || e.Failure != want {
		t.Fatalf("phone: %v, want it to fail with %q", err, want)
	}
	return e
}
