package chain

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// TestRepairedTwin: what --fix can put right is right afterwards.
func TestRepairedTwin(t *testing.T) {
	root := issue(t, nil, "Root-CA", asCA)
	inter := issue(t, root, "Inter-CA1", asCA)
	leaf := issue(t, inter, "OMENT", asServer("oment.example.com"))
	other := issue(t, inter, "OMENT-400", asServer())
	stranger := issue(t, root, "stranger")
	trust := inputs(input(t, "trust.pem", root, inter))
	der := slices.Concat(leaf.cert.Raw, inter.cert.Raw, root.cert.Raw)
	full := []string{"OMENT", "Inter-CA1", "Root-CA"}
	for _, c := range []struct {
		name  string
		o     Options
		want  []string
		added int
		fails string
	}{
		{"order", Options{Profile: OMEUpload, Files: inputs(input(t, "f", root, leaf, inter))}, full, 0, "chain-links"},
		{"strangers and repeats", Options{Profile: OMEUpload, Files: inputs(input(t, "f", leaf, stranger, inter, root, root))}, full, 0, "chain-links"},
		{"missing root", Options{Profile: OMEUpload, Files: inputs(input(t, "f", leaf, inter)), Trust: trust}, full, 1, "chain-complete"},
		{"missing everything", Options{Profile: OMEUpload, Files: inputs(input(t, "f", leaf)), Trust: trust}, full, 2, "chain-complete"},
		{"DER", Options{Profile: OMEUpload, Files: inputs(inputBytes(t, "f", der))}, full, 0, "encoding"},
		{"PKCS#7", Options{Profile: OMEUpload, Files: inputs(inputBytes(t, "f", degenerate(t, root, leaf, inter)))}, full, 0, "encoding"},
		{"UTF-16", Options{Profile: OMEUpload, Files: inputs(inputBytes(t, "f", wide(pemOf(certsOf(leaf, inter, root)...))))}, full, 0, "encoding"},
		{"single, DER", Options{Profile: OMEServer, Files: inputs(inputBytes(t, "f", der))}, full[:1], 0, "encoding"},
		{"migration", Options{Profile: OMEMigration, Files: inputs(input(t, "f", leaf)), Peer: inputs(input(t, "p", other, inter, root))}, full, 2, "trust"},
		{"Expressway, DER", Options{Profile: Expressway, Files: inputs(inputBytes(t, "f", der[:len(leaf.cert.Raw)])), Trust: trust}, full, 2, "format"},
		{"LSC", Options{Profile: CAPFLSC, Files: inputs(input(t, "f", leaf)), PeerTrust: trust}, full, 2, "chain-complete"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := brokenRules(check(t, c.o)); !cmp.Equal(got, []string{c.fails}) {
				t.Errorf("before: %v", got)
			}
			c.o.At = now
			data, r, err := Repair(c.o)
			if err != nil {
				t.Fatal(err)
			}
			if len(r.Added) != c.added || r.Missing != "" || !r.Accepted || r.Text != "" {
				t.Errorf("%+v", r)
			}
			file := filepath.Join(t.TempDir(), "fixed.pem")
			if err := WriteRepaired(file, data, r); err != nil {
				t.Fatal(err)
			}
			in, err := ReadFile(file, nil)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(c.want, names(in)); diff != "" {
				t.Error(diff)
			}
			c.o.Files = inputs(in)
			accepted(t, check(t, c.o))
		})
	}
}

// TestRepairInventsNothing: where a certificate is missing, nothing is written.
func TestRepairInventsNothing(t *testing.T) {
	root := issue(t, nil, "Root-CA", asCA)
	inter := issue(t, root, "Inter-CA1", asCA)
	leaf := issue(t, inter, "OMENT", asServer())
	dir := t.TempDir()
	in := filepath.Join(dir, "leaf.pem")
	if err := os.WriteFile(in, pemOf(leaf.cert), 0o600); err != nil {
		t.Fatal(err)
	}
	fixed := filepath.Join(dir, "fixed.pem")
	v, err := Request{Profile: OMEUpload, Files: []string{in}, Fix: fixed, At: "2026-03-01"}.Run(t.Context())
	if err == nil || !strings.Contains(err.Error(), `the certificate of "Inter-CA1", which issued "OMENT", is missing; give it with --trust`) {
		t.Errorf("error %v", err)
	}
	if v == nil || v.Accepted {
		t.Error("there is a verdict all the same, and it is no")
	}
	if _, err := os.Stat(fixed); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a file was written: %v", err)
	}
	// A defect that a file cannot mend stays one.
	bad := issue(t, inter, "OMENT", asServer(), extended(x509.ExtKeyUsageServerAuth))
	_, r, err := Repair(Options{Profile: OMEUpload, At: now, Files: inputs(input(t, "f", bad, inter, root))})
	if err != nil || r.Accepted || r.Text != "CGEN1008: "+cgen1008Text {
		t.Errorf("%+v, %v", r, err)
	}
	// Where a complete chain is not needed, what is there is written.
	_, r, err = Repair(Options{Profile: Expressway, At: now, Files: inputs(inputBytes(t, "f", leaf.cert.Raw)), Trust: inputs(input(t, "t", root))})
	if err != nil || !strings.Contains(r.Missing, `"Inter-CA1"`) || len(r.Certificates) != 1 {
		t.Errorf("%+v, %v", r, err)
	}
}

func TestRepairedFileIsWholeOrAbsent(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "absent")
	err := WriteRepaired(filepath.Join(dir, "fixed.pem"), []byte("x"), &Repaired{})
	if err == nil || !strings.Contains(err.Error(), "fixed.pem") {
		t.Errorf("%v", err)
	}
	file := tempFile(t, "fixed.pem", []byte("old"))
	if err := WriteRepaired(file, []byte("new"), &Repaired{}); err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(file)
	if err != nil || !bytes.Equal(got, []byte("new")) {
		t.Errorf("%q, %v", got, err)
	}
	left, err := os.ReadDir(filepath.Dir(file))
	if err != nil || len(left) != 1 {
		t.Errorf("%v, %v", left, err)
	}
}

// serve presents a chain over TLS.
func serve(t *testing.T, config *tls.Config, as ...*authority) string {
	t.Helper()
	pair := tls.Certificate{PrivateKey: as[0].key}
	for _, a := range as {
		pair.Certificate = append(pair.Certificate, a.cert.Raw)
	}
	if config == nil {
		config = &tls.Config{}
	}
	config.Certificates = []tls.Certificate{pair}
	s := httptest.NewUnstartedServer(http.NotFoundHandler())
	s.TLS = config
	s.Config.ErrorLog = nil
	s.StartTLS()
	t.Cleanup(s.Close)
	return s.Listener.Addr().String()
}

func TestFetch(t *testing.T) {
	root := issue(t, nil, "Root-CA", asCA)
	inter := issue(t, root, "Inter-CA", asCA)
	leaf := issue(t, inter, "server", asServer("127.0.0.1"), expired)
	for name, config := range map[string]*tls.Config{
		"plain":                               nil,
		"TLS 1.0":                             {MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS10},
		"wants a client certificate":          {ClientAuth: tls.RequireAnyClientCert},
		"wants a client certificate, TLS 1.2": {ClientAuth: tls.RequireAnyClientCert, MaxVersion: tls.VersionTLS12},
	} {
		in, err := Fetch(t.Context(), serve(t, config, leaf, inter))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if diff := cmp.Diff([]string{"server", "Inter-CA"}, names(in)); diff != "" || in.Format != FormatTLS {
			t.Errorf("%s: %s %s", name, in.Format, diff)
		}
	}
}

func TestFetchFails(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			_, _ = c.Write([]byte("220 mail.example.com\r\n"))
			c.Close()
		}
	}()
	if _, err := Fetch(t.Context(), l.Addr().String()); err == nil || !strings.Contains(err.Error(), "fetch the chain from "+l.Addr().String()) {
		t.Errorf("no TLS: %v", err)
	}
	l.Close()
	if _, err := Fetch(t.Context(), l.Addr().String()); err == nil {
		t.Error("nobody listens")
	}
}

// A server that takes the connection and says nothing.
func TestFetchTimesOut(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := Fetch(ctx, l.Addr().String()); err == nil || !strings.Contains(err.Error(), "no answer in time to the connection or to the TLS handshake") {
		t.Error(err)
	}
}

// A server that says nothing is left when the caller goes, at the latest.
func TestFetchEndsWithItsContext(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	ctx, cancel := contextWithCancel(t)
	accepted := make(chan net.Conn, 1)
	go func() {
		c, err := l.Accept()
		if err == nil {
			accepted <- c
			cancel()
		}
	}()
	_, err = Fetch(ctx, l.Addr().String())
	if err == nil {
		t.Error("there was an answer")
	}
	(<-accepted).Close()
}

func TestRequestConnect(t *testing.T) {
	root := issue(t, nil, "Root-CA", asCA)
	inter := issue(t, root, "Inter-CA", asCA)
	leaf := issue(t, inter, "127.0.0.1", asServer("127.0.0.1"))
	address := serve(t, nil, leaf, inter)
	trust := tempFile(t, "trust.pem", pemOf(root.cert, inter.cert))
	v, err := Request{Profile: CUCMIIS, Connect: address, Trust: []string{trust}, At: "2026-03-01"}.Run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	accepted(t, v) // the host of the address is the name that is looked for
	if v.Inputs[0].Format != FormatTLS || v.Chain[0].Position != 1 {
		t.Errorf("%+v", v.Inputs)
	}
	// With a file, the server is where a repair finds what is missing.
	fixed := filepath.Join(t.TempDir(), "fixed.pem")
	v, err = Request{Profile: Expressway, Files: []string{tempFile(t, "leaf.pem", pemOf(leaf.cert))}, Connect: address,
		Trust: []string{tempFile(t, "root.pem", pemOf(root.cert))}, At: "2026-03-01", Fix: fixed}.Run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if v.Repair == nil || len(v.Repair.Certificates) != 3 || len(v.Repair.Added) != 2 || v.Repair.Added[0].Source != address {
		t.Errorf("%+v", v.Repair)
	}
}
