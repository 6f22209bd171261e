package main

import (
	"encoding/json"
	"net"
	"net/http"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/onlineca/onlineca/internal/interop"
)

// capfRoad is a road with CAPF at its beginning.
type capfRoad struct {
	road
	config, capf, ca string
	mock             []string // what the mock said when it started
}

func startCAPFRoad(t *testing.T, capfSettings string, certsrvArgs ...string) capfRoad {
	t.Helper()
	c := capfRoad{road: road{dir: t.TempDir()}}
	lines := server(t, "Ctrl-C", append([]string{
		"certsrv", "--listen", "127.0.0.1:0", "--root-file", filepath.Join(c.dir, "root.pem"),
	}, certsrvArgs...)...)
	c.mock = lines
	c.certsrv = find(t, lines, `certsrv +(https://.*)/certsrv/`)
	write(t, filepath.Join(c.dir, "password"), find(t, lines, `password (.*)$`))
	c.config = filepath.Join(c.dir, "onlineca.yaml")
	write(t, c.config, settings(c.certsrv)+"capf:\n  listen: 127.0.0.1:0\n"+capfSettings)
	lines = server(t, "Ctrl-C", "serve", "--config", c.config)
	c.capf = find(t, lines, `CAPF +([^,]*),`)
	c.ca = find(t, lines, `its certificate is in (.*)$`)
	return c
}

func (c capfRoad) phone(t *testing.T, args ...string) result {
	t.Helper()
	return onlineca(t, append([]string{"phone", "--capf", c.capf, "--ca", c.ca, "--key", "p256", "--retries", "0"}, args...)...)
}

func (c capfRoad) device(t *testing.T, verb string, args ...string) result {
	t.Helper()
	return onlineca(t, append([]string{"device", verb, "--config", c.config}, args...)...)
}

func TestPhoneInstallsFetchesDeletes(t *testing.T) {
	c := startCAPFRoad(t, "")
	const name = "SEP00112233AAAA"
	c.phone(t, "--device", name).want(t, 1, "unknown device")
	c.device(t, "add", "--auth-string", "123456", "--key-order", "ec", "--signing", "encrypt", name).want(t, 0, "1 added")
	// P-384 is what the table asks for when it says no more than EC.
	phone := func(args ...string) result {
		return c.phone(t, append([]string{"--key", "p384", "--device", name, "--out", filepath.Join(c.dir, "phones")}, args...)...)
	}
	phone("--auth-string", "654321").want(t, 1, "declined")
	c.device(t, "show", name).want(t, 0, "auth-string")
	phone("--auth-string", "123456").want(t, 0, "1 succeeded", "install")
	c.device(t, "show", name).want(t, 0, "3 ", "LAB-ISSUING-CA")
	if strings.Contains(read(t, c.ca), "PRIVATE KEY") {
		t.Error("what phones are to trust holds CAPF's key")
	}
	interop.Private(t, filepath.Join(c.dir, "phones", name+".pem"))

	c.device(t, "schedule", "--operation", "troubleshoot", name).want(t, 0, "1 scheduled")
	phone("--auth-string", "123456").want(t, 0, "troubleshoot")
	c.device(t, "schedule", "--operation", "delete", name).want(t, 0)
	phone("--auth-string", "123456").want(t, 0, "delete")
	phone("--auth-string", "123456").want(t, 0, "none")

	trace := read(t, filepath.Join(c.dir, "logs/capf/capf00000001.txt"))
	for _, l := range []string{
		"CAPF_EV_CA_CERT_REP in State: CAPF_STATE_AWAIT_CA_CERT_RESP", "Sending STORE_CERT_REQ msg",
		"tkcertificatestatus='3'", "MsgType : CAPF_MSG_END_SESSION",
	} {
		if !strings.Contains(trace, l) {
			t.Errorf("the trace lacks %q", l)
		}
	}
	c.device(t, "list", "--name", "SEP*AAAA").want(t, 0, name)
	onlineca(t, "stale-lsc", "list", "--config", c.config).want(t, 0, "NAME")
	c.device(t, "remove", name).want(t, 0, "1 removed")
	c.device(t, "remove", name).want(t, 1, name)
}

// Devices can be added before the server's first start, with keys of any kind.
// What CAPF's settings name is looked at by then, too.
func TestCAPFBeforeTheFirstStart(t *testing.T) {
	dir := t.TempDir()
	config := filepath.Join(dir, "onlineca.yaml")
	write(t, filepath.Join(dir, "password"), "secret")
	write(t, filepath.Join(dir, "broken.pem"), "-----BEGIN NONSENSE-----\n")
	const base = "https://localhost/certsrv"
	write(t, config, settings(base)+"capf:\n  listen: 127.0.0.1:0\n  certificate: broken.pem\n  mic_trust: [missing.pem]\n  password_file: none\n  username: capf\n")
	onlineca(t, "config", "check", config).want(t, 1, "capf.certificate", "capf.mic_trust", "capf.password_file")

	write(t, config, settings(base)+"capf:\n  listen: 127.0.0.1:0\n")
	device := func(verb string, args ...string) result {
		return onlineca(t, append([]string{"device", verb, "--config", config}, args...)...)
	}
	device("add", "--key-order", "ec", "--ec-key-size", "521", "SEP00112233AAAA").want(t, 0, "1 added")
	device("show", "SEP00112233AAAA").want(t, 0, "521")
	device("add", "--ec-key-size", "200", "SEP00112233BBBB").want(t, 1, "256, 384 or 521")
	device("add", "--ec-key-size", "P-256", "SEP00112233BBBB").want(t, 2, "256, 384 or 521")
	device("list", "--code", "nonsense").want(t, 2, "no fault")
	device("list", "--code", "auth-string").want(t, 0, "NAME")
}

func TestManyPhones(t *testing.T) {
	c := startCAPFRoad(t, "  max_per_address: -1\n")
	var csv strings.Builder
	csv.WriteString("name,key_order,ec_key_size,signing,operation\n")
	for _, n := range []string{"0", "1", "2", "3", "4", "5", "6", "7", "8", "9", "A", "B"} {
		csv.WriteString("SEP00112233000" + n + ",ec,256,encrypt,install\n")
	}
	write(t, filepath.Join(c.dir, "devices.csv"), csv.String())
	c.device(t, "import", filepath.Join(c.dir, "devices.csv")).want(t, 0, "12 added, 0 changed")
	c.phone(t, "--count", "12", "--name-prefix", "SEP00112233").want(t, 0, "12 phones", "12 succeeded")
	r := c.device(t, "export")
	r.want(t, 0)
	if n := strings.Count(r.stdout, "Upgrade Success"); n != 12 {
		t.Errorf("%d devices have succeeded, want 12:\n%s", n, r.stdout)
	}
}

// What cannot be meant is said at once, and not after the pauses between a
// phone's attempts.
func TestPhoneUsage(t *testing.T) {
	for want, args := range map[string][]string{
		"HOST:PORT":                 {"--capf", "localhost"},
		"no key type":               {"--capf", "localhost:3804", "--key", "rsa512"},
		"--name-prefix: ":           {"--capf", "localhost:3804", "--count", "3", "--name-prefix", "SEPé"},
		"leaves room":               {"--capf", "localhost:3804", "--count", "300", "--name-prefix", "SEP0011223344"},
		"ENCRYPT exchange":          {"--capf", "localhost:3804", "--encrypt-request", "9"},
		"numbers up to 255":         {"--capf", "localhost:3804", "--encrypt-element", "262"},
		"none of the others":        {"--capf", "localhost:3804", "--null", "--auth-string", "1234"},
		"required flag(s) \"capf\"": nil,
	} {
		onlineca(t, append([]string{"phone", "--ca", "capf.pem"}, args...)...).want(t, 2, want)
	}
}

// Each form of the exchange by which a phone signs can be set at both ends. The
// TLS secrets of the connections are for Wireshark.
func TestEncryptFormAtBothEnds(t *testing.T) {
	c := startCAPFRoad(t, "  encrypt: {request: 5, element: 14, bare: true}\n")
	const name = "SEP00112233AAAA"
	c.device(t, "add", "--signing", "encrypt", name).want(t, 0)
	phone := func(args ...string) result {
		return c.phone(t, append([]string{"--device", name, "--key", "rsa2048"}, args...)...)
	}
	phone().want(t, 1, "ENCRYPT")
	keys := filepath.Join(c.dir, "keys.log")
	phone("--encrypt-request", "5", "--encrypt-element", "14", "--encrypt-bare", "--tls-keys", keys).want(t, 0, "install")
	if text := read(t, keys); !strings.Contains(text, "SERVER_TRAFFIC_SECRET_0 ") {
		t.Errorf("the TLS secrets: %q", text)
	}
}

// An offline CA, here openssl, gets the requests and gives certificates.
func TestOfflineCA(t *testing.T) {
	interop.Need(t, "openssl")
	c := startCAPFRoad(t, "  issuer: offline\n")
	const name = "SEP00112233BBBB"
	c.device(t, "add", "--key-order", "ec", "--signing", "encrypt", name).want(t, 0)
	phone := func() result {
		return c.phone(t, "--key", "p384", "--device", name, "--out", filepath.Join(c.dir, "phones"))
	}
	phone().want(t, 1, "told to come back")
	onlineca(t, "capf", "csr", "list", "--config", c.config).want(t, 0, name)
	csrs := filepath.Join(c.dir, "csrs")
	onlineca(t, "capf", "csr", "dump", "--config", c.config, "--out", csrs).want(t, 0, "1 written")

	openssl(t, c.dir, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
		"-subj", "/CN=Offline CA", "-keyout", "ca.key", "-out", "ca.pem", "-days", "30")
	openssl(t, c.dir, "x509", "-req", "-in", filepath.Join(csrs, name+".csr"), "-CA", "ca.pem", "-CAkey", "ca.key",
		"-CAcreateserial", "-days", "20", "-out", "lsc.pem")
	onlineca(t, "capf", "cert", "import", "--config", c.config, "--issuer", filepath.Join(c.dir, "ca.pem"),
		filepath.Join(c.dir, "lsc.pem")).want(t, 0, name)
	phone().want(t, 0, "1 succeeded", "install")
	c.device(t, "show", name).want(t, 0, "Offline CA")
	// Offline CA is none of the issuers that the server knows of.
	onlineca(t, "capf", "stale-lsc", "list", "--config", c.config).want(t, 0, name)

	// Who removes a device learns what it leaves behind.
	const gone = "SEP00112233CCCC"
	c.device(t, "add", "--key-order", "ec", "--ec-key-size", "256", "--signing", "encrypt", gone).want(t, 0)
	c.phone(t, "--device", gone).want(t, 1, "told to come back")
	c.device(t, "remove", name, gone).want(t, 0, "2 removed", gone+": its request of ", "may be with the CA")
}

// A port that is taken is noticed before anybody is asked to log in.
func TestCAPFPortTaken(t *testing.T) {
	dir := t.TempDir()
	lines := server(t, "Ctrl-C", "certsrv", "--listen", "127.0.0.1:0", "--control", "127.0.0.1:0", "--root-file", filepath.Join(dir, "root.pem"))
	write(t, filepath.Join(dir, "password"), find(t, lines, `password (.*)$`))
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	config := filepath.Join(dir, "onlineca.yaml")
	write(t, config, settings(find(t, lines, `certsrv +(https://.*)/certsrv/`))+"capf:\n  listen: "+taken.Addr().String()+"\n")
	onlineca(t, "serve", "--config", config).want(t, 1, "capf.listen", "address already in use")
	resp, err := http.Get(find(t, lines, `control +(http://.*)$`) + "counts")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var counts struct{ Handshakes, Connections int }
	if err := json.NewDecoder(resp.Body).Decode(&counts); err != nil || counts.Connections > 0 || counts.Handshakes > 0 {
		t.Errorf("certsrv was asked: %+v, %v", counts, err)
	}
}

// A device that cannot sign is refused before it makes a key, or served by CAPF
// itself, as configured.
func TestDeviceThatCannotSign(t *testing.T) {
	for name, f := range map[string]struct {
		settings string
		code     int
		text     string
	}{
		"refused":         {"", 1, "declined"},
		"served by CAPF":  {"  local_fallback: true\n", 0, "1 succeeded"},
		"local all along": {"  issuer: local\n", 0, "1 succeeded"},
	} {
		t.Run(name, func(t *testing.T) {
			c := startCAPFRoad(t, f.settings)
			c.device(t, "add", "--key-order", "ec", "CSFALICE").want(t, 0)
			c.phone(t, "--key", "p384", "--device", "CSFALICE", "--no-encrypt").want(t, f.code, f.text)
			if f.code != 0 {
				c.device(t, "show", "CSFALICE").want(t, 0, "device-cannot-sign")
			}
		})
	}
}

func openssl(t *testing.T, dir string, args ...string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "openssl", args...)
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("openssl %s: %v\n%s", args[0], err, out)
	}
}

// The CA is renewed while everything runs: the next phone gets its certificate,
// and may authenticate by it.
func TestPhoneAfterTheCAWasRenewed(t *testing.T) {
	c := startCAPFRoad(t, "", "--control", "127.0.0.1:0")
	phones := filepath.Join(c.dir, "phones")
	install := func(name string) {
		t.Helper()
		c.device(t, "add", "--auth-string", "123456", "--key-order", "ec", "--signing", "encrypt", name).want(t, 0, "1 added")
		c.phone(t, "--key", "p384", "--device", name, "--out", phones, "--auth-string", "123456").want(t, 0, "1 succeeded")
	}
	install("SEP00112233AAAA")
	resp, err := http.Post(find(t, c.mock, `control +(http://.*)$`)+"renew", "application/json", strings.NewReader("{}"))
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusNoContent {
		t.Fatal(resp.Status)
	}
	install("SEP00112233BBBB")
	for _, name := range []string{"SEP00112233AAAA", "SEP00112233BBBB"} {
		c.device(t, "remove", name).want(t, 0)
		c.device(t, "add", "--auth", "lsc", "--key-order", "ec", "--signing", "encrypt", name).want(t, 0, "1 added")
		c.phone(t, "--key", "p384", "--device", name, "--out", phones, "--lsc", filepath.Join(phones, name+".pem")).want(t, 0, "1 succeeded")
	}
}
