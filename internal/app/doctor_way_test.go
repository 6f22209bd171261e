package app

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"math/big"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/onlineca/onlineca/testenv"
)

func TestDoctorServerCertificate(t *testing.T) {
	pki, err := testenv.NewPKI(testenv.PKIConfig{})
	if err != nil {
		t.Fatal(err)
	}
	// Its CA's certificate expired a year ago; the root's is still valid.
	old, err := testenv.NewPKI(testenv.PKIConfig{Now: time.Now().AddDate(-6, 0, 0)})
	if err != nil {
		t.Fatal(err)
	}
	const day = 24 * time.Hour
	now := time.Now()
	local := []string{"localhost"}
	name := func(step, code string) map[string]string { return map[string]string{step: code} }
	for title, c := range map[string]struct {
		pki     *testenv.PKI
		options testenv.ServerOptions
		edits   [][2]string
		want    outcomes
	}{
		"expired": {
			options: testenv.ServerOptions{NotBefore: now.Add(-9 * day), NotAfter: now.Add(-2 * day)},
			want:    outcomes{fails: name(stepClock, "expired"), skips: fromLogin, says: []string{"expired on "}},
		},
		"not yet valid": {
			options: testenv.ServerOptions{NotBefore: now.Add(2 * day)},
			want:    outcomes{fails: name(stepClock, "not-yet-valid"), skips: fromLogin, says: []string{"is not valid before "}},
		},
		"expires soon": {
			options: testenv.ServerOptions{NotAfter: now.Add(10*day + time.Hour)},
			want:    outcomes{warns: []string{stepClock}, skips: noEnroll, says: []string{"expires in 10 days"}},
		},
		"an expired intermediate": {
			pki: old, options: testenv.ServerOptions{NotBefore: now.Add(-day), NotAfter: now.Add(90 * day)},
			want: outcomes{fails: name(stepClock, "expired"), skips: fromLogin, says: []string{`the certificate of "LAB-ISSUING-CA" expired`}},
		},
		"self-signed": {
			options: testenv.ServerOptions{SelfSigned: true},
			want:    outcomes{fails: name(stepChain, "self-signed"), skips: fromLogin},
		},
		"wrong name": {
			options: testenv.ServerOptions{Names: []string{"iis.lab.example"}},
			want:    outcomes{fails: name(stepHostName, "name-mismatch"), skips: fromLogin, says: []string{"localhost is not among iis.lab.example"}},
		},
		"common name only": {
			options: testenv.ServerOptions{NoSAN: true},
			want:    outcomes{fails: name(stepHostName, "name-mismatch"), skips: fromLogin, says: []string{"certsrv.tls.match_common_name: true"}},
		},
		"common name only, and told to accept it": {
			options: testenv.ServerOptions{NoSAN: true},
			edits:   [][2]string{{"tls: {ca: [root.pem]}", "tls: {ca: [root.pem], match_common_name: true}"}},
			want:    outcomes{warns: []string{stepSettings, stepHostName}, skips: noEnroll},
		},
		"another common name, and told to accept it": {
			options: testenv.ServerOptions{Names: []string{"iis"}, NoSAN: true},
			edits:   [][2]string{{"tls: {ca: [root.pem]}", "tls: {ca: [root.pem], match_common_name: true}"}},
			want:    outcomes{fails: name(stepHostName, "name-mismatch"), warns: []string{stepSettings}, skips: fromLogin},
		},
		"missing intermediate": {
			options: testenv.ServerOptions{OmitIntermediate: true},
			want: outcomes{fails: name(stepChain, "untrusted-chain"), skips: fromLogin,
				says: []string{"the certificate of CN=LAB-ISSUING-CA,DC=lab,DC=example is missing"}},
		},
		"missing intermediate, but trusted": {
			options: testenv.ServerOptions{OmitIntermediate: true},
			edits:   [][2]string{{"[root.pem]", "[root.pem, issuing.pem]"}},
			want:    outcomes{skips: noEnroll, says: []string{`the server does not send`}},
		},
		"untrusted root": {
			edits: [][2]string{{"[root.pem]", "[other.pem]"}},
			want:  outcomes{fails: name(stepChain, "untrusted-chain"), skips: fromLogin, says: []string{"it is another CA of that name, or an earlier key of it"}},
		},
		"trusted by the system": {
			edits: [][2]string{{"  tls: {ca: [root.pem]}\n", ""}},
			want:  outcomes{fails: name(stepChain, "untrusted-chain"), skips: fromLogin, says: []string{"the roots of this system are trusted"}},
		},
		"the trusted certificates cannot be read": {
			edits: [][2]string{{"[root.pem]", "[gone.pem]"}},
			want:  outcomes{fails: name(stepSettings, ""), skips: append([]string{stepChain}, fromLogin...), says: []string{"gone.pem"}},
		},
	} {
		t.Run(title, func(t *testing.T) {
			if c.pki == nil {
				c.pki = pki
			}
			if c.options.Names == nil {
				c.options.Names = local
			}
			cert, err := c.pki.ServerCertificate(c.options)
			if err != nil {
				t.Fatal(err)
			}
			p := newPatient(t, testenv.Config{PKI: c.pki, Hostnames: local, Certificate: &cert})
			writeFile(t, filepath.Join(p.dir, "issuing.pem"), certPEM(c.pki.Current().Raw))
			writeFile(t, filepath.Join(p.dir, "other.pem"), certPEM(old.Root.Raw))
			p.config = writeSettings(t, p.dir, p.URL, c.edits...)
			c.want.hold(t, examine(t, DoctorOptions{Config: p.config}, p.password))
			if n := p.Challenges(); n != 0 && len(c.want.fails) > 0 {
				t.Errorf("%d logins were begun at a server that is not to be trusted", n)
			}
		})
	}
}

// A self-signed certificate that the settings trust works here, and is warned
// about: Unified CM would not take it.
func TestDoctorSelfSignedTrusted(t *testing.T) {
	pki, err := testenv.NewPKI(testenv.PKIConfig{})
	if err != nil {
		t.Fatal(err)
	}
	cert, err := pki.ServerCertificate(testenv.ServerOptions{SelfSigned: true})
	if err != nil {
		t.Fatal(err)
	}
	p := newPatient(t, testenv.Config{PKI: pki, Certificate: &cert})
	writeFile(t, filepath.Join(p.dir, "root.pem"), certPEM(cert.Certificate[0]))
	r := examine(t, DoctorOptions{Config: p.config}, p.password)
	outcomes{warns: []string{stepChain}, skips: noEnroll, says: []string{"Unified CM does not"}}.hold(t, r)
}

// authority makes certificates as no web server's template does.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

// issue makes a certificate of tmpl, by itself if a is nil.
func (a *authority) issue(t *testing.T, tmpl *x509.Certificate) *authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl.SerialNumber = big.NewInt(time.Now().UnixNano())
	tmpl.NotBefore, tmpl.NotAfter = time.Now().Add(-time.Hour), time.Now().AddDate(1, 0, 0)
	tmpl.BasicConstraintsValid = true
	if a == nil {
		a = &authority{tmpl, key}
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, a.cert, key.Public(), a.key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return &authority{cert, key}
}

func ca(cn string) *x509.Certificate {
	return &x509.Certificate{Subject: pkix.Name{CommonName: cn}, IsCA: true, KeyUsage: x509.KeyUsageCertSign}
}

func TestDoctorOddCertificates(t *testing.T) {
	root := (*authority)(nil).issue(t, ca("Odd Root"))
	inter := root.issue(t, ca("Odd Issuing\x1b[31m"))
	web := func() *x509.Certificate {
		return &x509.Certificate{
			Subject: pkix.Name{CommonName: "web"}, DNSNames: []string{"localhost"}, KeyUsage: x509.KeyUsageDigitalSignature,
			ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		}
	}
	for name, c := range map[string]struct {
		leaf func(*x509.Certificate)
		send []*authority
		want outcomes
	}{
		"the missing one is to be had elsewhere": {
			leaf: func(c *x509.Certificate) { c.IssuingCertificateURL = []string{"http://pki.example/odd.crt"} },
			want: outcomes{fails: map[string]string{stepChain: "untrusted-chain"}, skips: fromLogin,
				says: []string{`CN=Odd Issuing\u001b[31m is missing`, "http://pki.example/odd.crt"}},
		},
		"not for a web server": {
			leaf: func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth} }, send: []*authority{inter},
			want: outcomes{fails: map[string]string{stepChain: "untrusted-chain"}, skips: fromLogin, says: []string{"it is for: digitalSignature, clientAuth"}},
		},
		"no digitalSignature": {
			leaf: func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageKeyEncipherment }, send: []*authority{inter},
			want: outcomes{warns: []string{stepChain}, skips: noEnroll, says: []string{"lacks digitalSignature"}},
		},
		"the wrong order": {
			leaf: func(*x509.Certificate) {}, send: []*authority{root, inter},
			want: outcomes{skips: noEnroll, says: []string{"the order is wrong"}},
		},
	} {
		t.Run(name, func(t *testing.T) {
			tmpl := web()
			c.leaf(tmpl)
			leaf := inter.issue(t, tmpl)
			cert := tls.Certificate{Certificate: [][]byte{leaf.cert.Raw}, PrivateKey: leaf.key, Leaf: leaf.cert}
			for _, s := range c.send {
				cert.Certificate = append(cert.Certificate, s.cert.Raw)
			}
			p := newPatient(t, testenv.Config{Hostnames: []string{"localhost"}, Certificate: &cert})
			writeFile(t, filepath.Join(p.dir, "root.pem"), certPEM(root.cert.Raw))
			c.want.hold(t, examine(t, DoctorOptions{Config: p.config}, p.password))
		})
	}
}

// away writes settings for a server that is no mock.
func away(t *testing.T, url string, edits ...[2]string) string {
	t.Helper()
	p := newPatient(t, testenv.Config{})
	return writeSettings(t, p.dir, url, edits...)
}

func TestDoctorUnreachable(t *testing.T) {
	l := listen(t)
	l.Close()
	url := "https://" + l.Addr().String()

	t.Run("nobody listens", func(t *testing.T) {
		r := examine(t, DoctorOptions{Config: away(t, url)})
		outcomes{fails: map[string]string{stepTCP: "connection-refused"}, skips: fromTCP}.hold(t, r)
	})
	t.Run("the name does not resolve", func(t *testing.T) {
		r := examine(t, DoctorOptions{Config: away(t, "https://certsrv.invalid"), Lookup: func(_ context.Context, host string) ([]string, error) {
			return nil, &net.DNSError{Err: "no such host", Name: host, Server: "192.0.2.53:53", IsNotFound: true}
		}})
		outcomes{fails: map[string]string{stepName: "dns"}, skips: append([]string{stepTCP}, fromTCP...), says: []string{"certsrv.invalid: no such host (asked 192.0.2.53:53)"}}.hold(t, r)
	})
	t.Run("packets are dropped", func(t *testing.T) {
		r := examine(t, DoctorOptions{
			Config: away(t, url, [2]string{"login: 10s", "login: 20ms"}),
			Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
				<-ctx.Done()
				return nil, &net.OpError{Op: "dial", Err: ctx.Err()}
			},
		})
		outcomes{fails: map[string]string{stepTCP: "connect-timeout"}, skips: fromTCP}.hold(t, r)
	})
	t.Run("one address of two is dead", func(t *testing.T) {
		p := newPatient(t, testenv.Config{Hostnames: []string{"localhost"}})
		var d net.Dialer
		r := examine(t, DoctorOptions{
			Config: p.config,
			Lookup: func(context.Context, string) ([]string, error) { return []string{"192.0.2.1", "127.0.0.1"}, nil },
			Dial: func(ctx context.Context, network, address string) (net.Conn, error) {
				if strings.HasPrefix(address, "192.0.2.1:") {
					return nil, errors.New("refused by the test")
				}
				return d.DialContext(ctx, network, address)
			},
		}, p.password)
		outcomes{warns: []string{stepTCP}, skips: noEnroll, says: []string{"192.0.2.1"}}.hold(t, r)
	})
}

// What listens is no HTTPS server, or an old one.
func TestDoctorTLS(t *testing.T) {
	t.Run("plain HTTP", func(t *testing.T) {
		l := listen(t)
		s := &http.Server{}
		t.Cleanup(func() { s.Close() })
		go func() { _ = s.Serve(l) }()
		r := examine(t, DoctorOptions{Config: away(t, "https://"+l.Addr().String())})
		outcomes{fails: map[string]string{stepTLS: "tls-handshake"}, skips: fromTLS, says: []string{"HTTP without TLS"}}.hold(t, r)
	})
	t.Run("silence", func(t *testing.T) {
		l := listen(t)
		r := examine(t, DoctorOptions{Config: away(t, "https://"+l.Addr().String(), [2]string{"login: 10s", "login: 50ms"})})
		outcomes{fails: map[string]string{stepTLS: "login-timeout"}, skips: fromTLS}.hold(t, r)
	})
	t.Run("TLS 1.0", func(t *testing.T) {
		pki, err := testenv.NewPKI(testenv.PKIConfig{})
		if err != nil {
			t.Fatal(err)
		}
		cert, err := pki.ServerCertificate(testenv.ServerOptions{})
		if err != nil {
			t.Fatal(err)
		}
		l := tls.NewListener(listen(t), &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS10})
		s := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("WWW-Authenticate", "NTLM")
			w.WriteHeader(http.StatusUnauthorized)
		})}
		t.Cleanup(func() { s.Close() })
		go func() { _ = s.Serve(l) }()
		config := away(t, "https://"+l.Addr().String())
		writeFile(t, filepath.Join(filepath.Dir(config), "root.pem"), certPEM(pki.Root.Raw))
		r := examine(t, DoctorOptions{Config: config})
		outcomes{fails: map[string]string{stepTLS: "tls-handshake"}, skips: fromLogin, says: []string{"the server speaks TLS 1.0"}}.hold(t, r)
	})
}

// certsrv accepts the connection and then hangs, here or there. What is left
// is tested, or skipped; every wait ends.
func TestDoctorHanging(t *testing.T) {
	short := [2]string{"login: 10s, page: 10s", "login: 1s, page: 300ms"}
	for name, c := range map[string]struct {
		fault testenv.Fault
		step  testenv.Step
		want  outcomes
	}{
		"before the login": {
			testenv.Hang, testenv.StepHandshake,
			outcomes{fails: map[string]string{stepSchemes: "login-timeout"}, skips: fromLogin},
		},
		"in the login": {
			testenv.Hang, testenv.StepLogin,
			outcomes{fails: map[string]string{stepLogin: "login-timeout"}, skips: afterLogin},
		},
		"in the template list": {
			testenv.Hang, testenv.StepPage,
			outcomes{fails: map[string]string{stepTemplate: "page-timeout"}, skips: noEnroll},
		},
		"in the CA's chain": {
			testenv.Stalled, testenv.StepChain,
			outcomes{fails: map[string]string{stepCAChain: "chain-timeout"}, skips: noEnroll},
		},
		"an answer that is no HTTP": {
			testenv.Garbage, testenv.StepHandshake,
			outcomes{fails: map[string]string{stepSchemes: "page-unreadable"}, skips: fromLogin},
		},
		"no service": {
			testenv.Status503, testenv.StepHandshake,
			outcomes{fails: map[string]string{stepSchemes: "server-error"}, skips: fromLogin, says: []string{"503"}},
		},
		"closed": {
			testenv.CloseConnection, testenv.StepHandshake,
			outcomes{fails: map[string]string{stepSchemes: "connection-lost"}, skips: fromLogin},
		},
	} {
		t.Run(name, func(t *testing.T) {
			p := newPatient(t, testenv.Config{}, short)
			p.Inject(c.fault, testenv.On(c.step), testenv.Times(testenv.Forever))
			c.want.hold(t, examine(t, DoctorOptions{Config: p.config}, p.password))
		})
	}
}

func TestDoctorSettings(t *testing.T) {
	all := append([]string{stepName, stepTCP}, fromTCP...)
	t.Run("no file", func(t *testing.T) {
		r := examine(t, DoctorOptions{Config: filepath.Join(t.TempDir(), "gone.yaml")})
		outcomes{fails: map[string]string{stepSettings: ""}, skips: all, says: []string{"no such file"}}.hold(t, r)
	})
	t.Run("no YAML", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "onlineca.yaml")
		writeFile(t, path, "certsrv: [")
		outcomes{fails: map[string]string{stepSettings: ""}, skips: all}.hold(t, examine(t, DoctorOptions{Config: path}))
	})
	t.Run("a mistake elsewhere", func(t *testing.T) {
		p := newPatient(t, testenv.Config{}, [2]string{"listen: 127.0.0.1:0", "listen: nowhere"})
		r := examine(t, DoctorOptions{Config: p.config}, p.password)
		outcomes{fails: map[string]string{stepSettings: ""}, skips: noEnroll, says: []string{"nowhere"}}.hold(t, r)
	})
	t.Run("no password", func(t *testing.T) {
		p := newPatient(t, testenv.Config{}, [2]string{"password_file: password", "password_file: gone"})
		r := examine(t, DoctorOptions{Config: p.config}, p.password)
		outcomes{fails: map[string]string{stepSettings: ""}, skips: fromLogin}.hold(t, r)
		if p.Challenges() != 0 {
			t.Error("a login was begun without a password")
		}
	})
	t.Run("timeouts that are none", func(t *testing.T) {
		p := newPatient(t, testenv.Config{}, [2]string{"login: 10s", "login: -5s"})
		r := examine(t, DoctorOptions{Config: p.config}, p.password)
		outcomes{fails: map[string]string{stepSettings: ""}, skips: noEnroll}.hold(t, r)
	})
	t.Run("several hosts", func(t *testing.T) {
		p, second := newPatient(t, testenv.Config{}), testenv.New(t, testenv.Config{})
		urls := [2]string{"  url: " + p.URL + "/certsrv\n", "  urls: [" + p.URL + "/certsrv, " + second.URL + "/certsrv]\n"}
		config := writeSettings(t, p.dir, p.URL, urls)
		r := examine(t, DoctorOptions{Config: config}, p.password)
		outcomes{skips: noEnroll, says: []string{"not tested in this run: " + second.URL}}.hold(t, r)
		if p.Handshakes() == 0 || second.Handshakes() != 0 {
			t.Errorf("%d logins at the first host, %d at the second", p.Handshakes(), second.Handshakes())
		}
		r = examine(t, DoctorOptions{Config: config, URL: second.URL + "/certsrv"}, p.password)
		outcomes{skips: noEnroll}.hold(t, r)
		if second.Handshakes() == 0 || r.URL != second.URL+"/certsrv" {
			t.Errorf("%d logins at the second host, the report is about %s", second.Handshakes(), r.URL)
		}
		r = examine(t, DoctorOptions{Config: config, URL: "https://elsewhere.invalid/certsrv"}, p.password)
		outcomes{fails: map[string]string{stepSettings: ""}, skips: all, says: []string{"is none of the addresses"}}.hold(t, r)
	})
	t.Run("a password in the address", func(t *testing.T) {
		p := newPatient(t, testenv.Config{})
		config := writeSettings(t, p.dir, strings.Replace(p.URL, "https://", "https://ra:hunter2@", 1))
		r := examine(t, DoctorOptions{Config: config}, p.password, "hunter2")
		outcomes{fails: map[string]string{stepSettings: ""}, skips: all}.hold(t, r)
	})
}

func TestLanguage(t *testing.T) {
	for page, want := range map[string]string{
		`<html lang="de-DE"><body>Welcome`:              "German",
		`<!-- Welcome --><B>Willkommen</B>`:             "German",
		`<script>Welcome</script><B>Bienvenue</B>`:      "French",
		`<B>V&auml;lkommen</B>`:                         "Swedish",
		"<B>Welcome</B>":                                "English",
		"<B>Isten hozott</B>":                           "",
		"\xff\xfe<B>Welcome</B>":                        "English",
		`<meta http-equiv=content-language content=fr>`: "French",
	} {
		if got := language([]byte(page)); got != want {
			t.Errorf("%s: %q, want %q", page, got, want)
		}
	}
}

func TestDistance(t *testing.T) {
	for _, c := range []struct {
		a, b string
		want int
	}{{"", "", 0}, {"ciscora", "ciscora", 0}, {"ciscoar", "ciscora", 1}, {"csicora", "ciscora", 1}, {"cisco", "ciscora", 2}, {"größe", "grösse", 2}, {"", "abc", 3}} {
		if got := distance(c.a, c.b); got != c.want {
			t.Errorf("%q, %q: %d, want %d", c.a, c.b, got, c.want)
		}
		if got := distance(c.b, c.a); got != c.want {
			t.Errorf("%q, %q: %d, want %d", c.b, c.a, got, c.want)
		}
	}
}
