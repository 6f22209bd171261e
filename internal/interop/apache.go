package interop

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"text/template"
	"time"
)

// User is an account of an [ApacheServer].
type User struct {
	Domain, Name, Password string
}

// ApacheServer is Apache with mod_auth_gssapi and gss-ntlmssp: an NTLM server
// that this project did not write. It authenticates /certsrv and hands
// requests on to a backend with the header X-Remote-User.
//
// It offers Negotiate and NTLM, keeps the login on the connection, verifies the
// MIC, and does not look at channel bindings: mod_auth_gssapi passes none on.
type ApacheServer struct {
	// URL is https://localhost:PORT.
	URL string
	// Root is the certificate to trust, and the server's own.
	Root *x509.Certificate
	// RootFile holds it in PEM.
	RootFile string

	access string
}

// Access is a line of the access log.
type Access struct {
	Port   int // the client's
	Index  int // of the request on its connection, from 0
	Status int
	User   string // "-" for none
}

// Apache starts Apache for the length of a test, in front of backend
// (http://host:port). It skips the test where Apache is missing: see [Need].
func Apache(tb testing.TB, backend string, users ...User) *ApacheServer {
	tb.Helper()
	Need(tb, "apache2")
	modules := "/usr/lib/apache2/modules"
	for _, m := range []string{"mod_auth_gssapi.so", "mod_ssl.so", "mod_proxy_http.so"} {
		if _, err := os.Stat(filepath.Join(modules, m)); err != nil {
			Missing(tb, "Apache's "+m)
		}
	}
	if found, _ := filepath.Glob("/usr/lib/*/gssntlmssp/gssntlmssp.so"); len(found) == 0 {
		Missing(tb, "gss-ntlmssp")
	}
	// Not tb.TempDir: Apache's workers run as another user and must get in.
	dir, err := os.MkdirTemp("", "interop-apache-")
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil { //nolint:gosec // see above
		tb.Fatal(err)
	}
	a := &ApacheServer{access: filepath.Join(dir, "access.log"), RootFile: filepath.Join(dir, "server.pem")}
	a.certificate(tb, dir)
	var lines strings.Builder
	for _, u := range users {
		fmt.Fprintf(&lines, "%s:%s:%s\n", u.Domain, u.Name, u.Password)
	}
	write(tb, filepath.Join(dir, "users"), lines.String())
	port := freePort(tb)
	a.URL = "https://localhost:" + strconv.Itoa(port)
	a.configure(tb, dir, modules, backend, port)
	a.run(tb, dir, port)
	return a
}

func write(tb testing.TB, path, text string) {
	tb.Helper()
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil { //nolint:gosec // throw-away, and another user must read it
		tb.Fatal(err)
	}
}

// freePort finds a port that nobody listens on: Apache cannot choose one itself.
func freePort(tb testing.TB) int {
	tb.Helper()
	l, err := (&net.ListenConfig{}).Listen(context.Background(), "tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

func (a *ApacheServer) certificate(tb testing.TB, dir string) {
	tb.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		tb.Fatal(err)
	}
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "localhost"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		DNSNames: []string{"localhost"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), key)
	if err != nil {
		tb.Fatal(err)
	}
	if a.Root, err = x509.ParseCertificate(der); err != nil {
		tb.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		tb.Fatal(err)
	}
	write(tb, a.RootFile, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})))
	write(tb, filepath.Join(dir, "server.key"), string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER})))
}

// The directives that matter are those of the location: the NTLM context and
// the identity stay on the connection (GssapiConnectionBound, without which
// NTLM is not even offered).
//
// The RequestHeader line mends the 32-byte NEGOTIATE message of older versions
// of curl, which gss-ntlmssp does not take.
var apacheConf = template.Must(template.New("").Parse(`ServerName localhost
ServerRoot {{.Dir}}
PidFile {{.Dir}}/pid
ErrorLog {{.Dir}}/error.log
Listen 127.0.0.1:{{.Port}}
{{if .User}}User {{.User}}
Group {{.Group}}
{{end}}{{range .Modules}}LoadModule {{.}}_module {{$.ModuleDir}}/mod_{{.}}.so
{{end}}StartServers 1
ServerLimit 1
ThreadsPerChild 64
MaxRequestWorkers 64
KeepAlive On
KeepAliveTimeout 120
MaxKeepAliveRequests 0
LogFormat "%{remote}p %k %>s %u" conn
CustomLog {{.Dir}}/access.log conn
SSLEngine on
SSLCertificateFile {{.Dir}}/server.pem
SSLCertificateKeyFile {{.Dir}}/server.key
RequestHeader edit Authorization "^NTLM TlRMTVNTUAABAAAABoIIAAAAAAAAAAAAAAAAAAAAAAA=$" "NTLM TlRMTVNTUAABAAAABwIIAAAAAAAoAAAAAAAAACgAAAAAAAAAAAAAAA==" early
<Location /certsrv>
	AuthType GSSAPI
	AuthName certsrv
	GssapiSSLonly On
	GssapiAllowedMech ntlmssp
	GssapiConnectionBound On
	GssapiSignalPersistentAuth On
	Require valid-user
	RequestHeader set X-Remote-User expr=%{REMOTE_USER}
	RequestHeader unset Authorization
	ProxyPass {{.Backend}}/certsrv
</Location>
`))

func (a *ApacheServer) configure(tb testing.TB, dir, modules, backend string, port int) {
	tb.Helper()
	data := struct {
		Dir, ModuleDir, Backend, User, Group string
		Port                                 int
		Modules                              []string
	}{
		Dir: dir, ModuleDir: modules, Backend: strings.TrimRight(backend, "/"), Port: port,
		Modules: []string{"mpm_event", "authn_core", "authz_core", "authz_user", "auth_gssapi", "ssl", "headers", "proxy", "proxy_http"},
	}
	if os.Getuid() == 0 { // Apache does not serve as root
		data.User, data.Group = "nobody", "nogroup"
		if _, err := user.Lookup("www-data"); err == nil {
			data.User, data.Group = "www-data", "www-data"
		}
	}
	var b strings.Builder
	if err := apacheConf.Execute(&b, data); err != nil {
		tb.Fatal(err)
	}
	write(tb, filepath.Join(dir, "apache.conf"), b.String())
}

// run starts Apache, waits until it answers, and stops it when the test ends.
func (a *ApacheServer) run(tb testing.TB, dir string, port int) {
	tb.Helper()
	cmd := exec.Command(Look("apache2"), "-DFOREGROUND", "-f", filepath.Join(dir, "apache.conf")) //nolint:noctx // stopped below, and then it has to clean up
	cmd.Env = append(os.Environ(), "NTLM_USER_FILE="+filepath.Join(dir, "users"))
	var out strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		tb.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	tb.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		if err := <-ended; err != nil && cmd.ProcessState.Exited() && cmd.ProcessState.ExitCode() != 0 {
			tb.Logf("Apache: %v", err)
		}
	})
	giveUp := time.After(20 * time.Second)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		conn, err := (&net.Dialer{}).DialContext(context.Background(), "tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
		if err == nil {
			_ = conn.Close()
			return
		}
		select {
		case err := <-ended:
			ended <- err
			log, _ := os.ReadFile(filepath.Join(dir, "error.log"))
			tb.Fatalf("Apache ended at once: %v\n%s\n%s", err, out.String(), log)
		case <-giveUp:
			tb.Fatal("Apache does not listen after 20 s")
		case <-tick.C:
		}
	}
}

// Log returns the requests that Apache has logged, at least n of them: it logs
// a request after it has answered. The test fails if there are fewer after 10 s.
func (a *ApacheServer) Log(tb testing.TB, n int) []Access {
	tb.Helper()
	giveUp := time.After(10 * time.Second)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		all := a.read(tb)
		if len(all) >= n {
			return all
		}
		select {
		case <-giveUp:
			tb.Fatalf("Apache has logged %d requests, not %d", len(all), n)
		case <-tick.C:
		}
	}
}

func (a *ApacheServer) read(tb testing.TB) []Access {
	tb.Helper()
	b, err := os.ReadFile(a.access)
	if err != nil {
		tb.Fatal(err)
	}
	var all []Access
	for line := range strings.Lines(string(b)) {
		var l Access
		if !strings.HasSuffix(line, "\n") {
			break // it is just being written
		}
		if _, err := fmt.Sscan(line, &l.Port, &l.Index, &l.Status, &l.User); err != nil {
			tb.Fatalf("Apache's access log has the line %q: %v", line, err)
		}
		all = append(all, l)
	}
	return all
}
