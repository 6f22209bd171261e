package capf

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/binary"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/onlineca/onlineca/capf/phone"
	"github.com/onlineca/onlineca/capf/wire"
	"github.com/onlineca/onlineca/internal/interop"
)

// capture is what passed over a connection, as a capture file.
type capture struct {
	mu   sync.Mutex
	file bytes.Buffer
	seq  [2]uint32
}

// tapped is the client's end of a connection that is captured.
type tapped struct {
	net.Conn
	c *capture
}

func (t tapped) Write(b []byte) (int, error) {
	t.c.add(0, 0x18, b)
	return t.Conn.Write(b)
}

func (t tapped) Read(b []byte) (int, error) {
	n, err := t.Conn.Read(b)
	if n > 0 {
		t.c.add(1, 0x18, b[:n])
	}
	return n, err
}

// newCapture begins a pcap file of raw IP packets (link type 101) with a TCP
// handshake to port 3804.
func newCapture() *capture {
	c := &capture{seq: [2]uint32{1000, 9000}}
	for _, v := range []any{uint32(0xa1b2c3d4), uint16(2), uint16(4), int32(0), uint32(0), uint32(1 << 18), uint32(101)} {
		_ = binary.Write(&c.file, binary.LittleEndian, v)
	}
	c.add(0, 0x02, nil)
	c.seq[0]++
	c.add(1, 0x12, nil)
	c.seq[1]++
	c.add(0, 0x10, nil)
	return c
}

// add appends one TCP segment from the client (0) or the server (1).
func (c *capture) add(from int, flags byte, data []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	ports := [2]uint16{51234, Port}
	addrs := [2][]byte{{192, 0, 2, 1}, {192, 0, 2, 2}}
	p := []byte{0x45, 0}
	p = binary.BigEndian.AppendUint16(p, uint16(40+len(data)))
	p = append(p, 0, 0, 0x40, 0, 64, 6, 0, 0)
	p = append(append(p, addrs[from]...), addrs[1-from]...)
	p = binary.BigEndian.AppendUint16(p, ports[from])
	p = binary.BigEndian.AppendUint16(p, ports[1-from])
	p = binary.BigEndian.AppendUint32(p, c.seq[from])
	p = binary.BigEndian.AppendUint32(p, c.seq[1-from])
	p = append(p, 0x50, flags, 0xff, 0xff, 0, 0, 0, 0)
	p = append(p, data...)
	c.seq[from] += uint32(len(data))
	for _, v := range []uint32{0, 0, uint32(len(p)), uint32(len(p))} {
		_ = binary.Write(&c.file, binary.LittleEndian, v)
	}
	c.file.Write(p)
}

func (c *capture) tshark(t *testing.T, args ...string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "capf.pcap")
	c.mu.Lock()
	err := os.WriteFile(path, c.file.Bytes(), 0o600)
	c.mu.Unlock()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), interop.Look("tshark"), append([]string{
		"-r", path, "-X", "lua_script:../contrib/capf.lua", "-Y", "capf", "-T", "fields", "-E", "separator=|", "-E", "aggregator=+"}, args...)...)
	cmd.Env = append(os.Environ(), "HOME="+t.TempDir())
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("tshark: %v\n%s", err, stderr.String())
	}
	if strings.Contains(strings.ToLower(stderr.String()), "lua") {
		t.Errorf("tshark says of the dissector: %s", stderr.String())
	}
	return string(out)
}

var wiresharkFields = []string{"-e", "capf.command", "-e", "capf.session", "-e", "capf.element.tag", "-e", "capf.device", "-e", "capf.reason", "-e", "capf.key_size", "-e", "capf.version"}

// The dissector understands a real session on the real port, decrypted with
// the secrets of the phone's end.
func TestWiresharkDissector(t *testing.T) {
	interop.Need(t, "tshark")
	d := pendingDevice(testDevice)
	d.KeyOrder = RSAOnly
	b := newBench(t, nil, d)
	defer b.stop()
	keys, err := os.Create(filepath.Join(t.TempDir(), "keys"))
	if err != nil {
		t.Fatal(err)
	}
	defer keys.Close()
	c := newCapture()
	pool := &phone.Pool{Size: 1}
	cfg := b.phoneConfig(testDevice)
	cfg.Keys = pool.Key
	cfg.TLS = func(c *tls.Config) { c.KeyLogWriter = keys }
	dial := cfg.Dial
	cfg.Dial = func(ctx context.Context) (net.Conn, error) {
		conn, err := dial(ctx)
		return tapped{conn, c}, err
	}
	mustRun(t, cfg)
	got := c.tshark(t, append([]string{"-o", "tls.keylog_file:" + keys.Name()}, wiresharkFields...)...)
	want := strings.Join([]string{
		"1|1|7||||3",
		"2|1|1+7+11+13|" + testDevice + "|1||3",
		"3|1|10+17|||2048|",
		"17|1|||||",
		"4|1|9||||",
		"6|1|19+6||||",
		"5|1|1+6||1||",
		"9|1|3+4||||",
		"10|1|1||1||",
		"15|1|1||1||",
	}, "\n") + "\n"
	if got != want {
		t.Errorf("tshark reads\n%swant\n%s", got, want)
	}
}

// It also understands what is in the clear, messages in pieces, several in one
// segment, elements without a name, and lies.
func TestWiresharkOddities(t *testing.T) {
	interop.Need(t, "tshark")
	c := newCapture()
	auth, err := wire.Message{Command: wire.AuthResponse, Session: 7, Elements: []wire.Element{
		wire.Text(wire.TagDeviceName, testDevice), {Tag: 15, Value: []byte{1, 2}},
		wire.SUDI{Certificate: []byte{0x30, 0}, SHA1: []byte{1}, SHA512: []byte{2}}.Element(),
	}}.Encode()
	if err != nil {
		t.Fatal(err)
	}
	c.add(0, 0x18, auth[:5])
	c.add(0, 0x18, auth[5:20])
	c.add(0, 0x18, append(auth[20:], 0x55, 17, 0, 0, 0, 7, 0, 0))
	c.add(1, 0x18, []byte{0x55, 15, 0, 0, 0, 7, 0, 4, 1, 0, 1, 9})
	c.add(1, 0x18, []byte{0x55, 15, 0, 0, 0, 7, 0, 4, 1, 0xff, 0xff, 9})
	got := c.tshark(t, "-d", "tcp.port==3804,capf", "-e", "capf.command", "-e", "capf.element.tag", "-e", "capf.part.tag", "-e", "capf.device", "-e", "_ws.expert.message", "-e", "_ws.col.Info")
	want := "2+17|13+15+16|0+1+3|" + testDevice + "|Element without a name| [AUTH_RESPONSE, session 7, " + testDevice + "] [REQUEST_IN_PROGRESS, session 7]\n" +
		"15|1|||Refused| [END_SESSION, session 7, reason 9 (unknown device)]\n" +
		"15||||Element is longer than what is left| [END_SESSION, session 7]\n"
	if got != want {
		t.Errorf("tshark reads\n%swant\n%s", got, want)
	}
}
