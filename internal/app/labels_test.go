package app

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/onlineca/onlineca/ra"
	"github.com/onlineca/onlineca/testenv"
)

// The domain counts refused passwords whichever label they came by, and does
// not forget them when settings are read again.
func TestPasswordsArePassedOnSeldomWhicheverTheLabel(t *testing.T) {
	m := testenv.New(t, testenv.Config{})
	s := hostSettings(m)
	s.Certsrv.LoginPause = time.Nanosecond // so that nothing else stands before the domain
	s.EST.Labels = map[string]*LabelSettings{}
	for _, name := range []string{"a", "b", "c"} {
		l := new(LabelSettings)
		l.defaults("CiscoRA")
		s.EST.Labels[name] = l
	}
	p := hostParts(t, m)
	x := startSite(t, s, p)
	guess := func() {
		t.Helper()
		for _, label := range []string{"a", "b", "c", "a", "b", "c"} {
			status, _, body, err := x.tryEnroll(label+"/simpleenroll", func(r *http.Request) { r.SetBasicAuth(`LAB\phone`, "wrong") })
			if err != nil || status != http.StatusUnauthorized {
				t.Fatalf("a wrong password at %s: %d %s, %v", label, status, body, err)
			}
		}
	}
	guess()
	if _, err := x.Reload(s, p); err != nil {
		t.Fatal(err)
	}
	guess()
	if n := m.FailedLogons(); n != 2 {
		t.Errorf("the domain has seen %d wrong passwords, want 2", n)
	}
}

func TestKeyUsagesOfClientCertificates(t *testing.T) {
	m := testenv.New(t, testenv.Config{})
	s, p := hostSettings(m), hostParts(t, m)
	s.EST.Auth = AuthSettings{ClientCA: []string{"client-ca.pem"}, Require: "any"}
	vpn := &LabelSettings{Auth: s.EST.Auth}
	vpn.Auth.KeyUsages = []string{"ipsecUser", "serverAuth"}
	vpn.defaults("CiscoRA")
	s.EST.Labels = map[string]*LabelSettings{"vpn": vpn}
	ca, client := clientCertificate(t, x509.ExtKeyUsageServerAuth)
	p.ClientCAs = map[string][]*x509.Certificate{"": {ca}, "vpn": {ca}}
	x := startSite(t, s, p)
	x.client.Transport.(*http.Transport).TLSClientConfig.Certificates = []tls.Certificate{client}
	for path, want := range map[string]int{"simpleenroll": http.StatusUnauthorized, "vpn/simpleenroll": http.StatusOK} {
		if status, _, body := x.enroll(t, path); status != want {
			t.Errorf("%s: status %d, want %d: %s", path, status, want, body)
		}
	}
}

// clientCertificate is a certificate for usage, and the CA that it is from.
func clientCertificate(t *testing.T, usage x509.ExtKeyUsage) (ca *x509.Certificate, client tls.Certificate) {
	t.Helper()
	issue := func(c *x509.Certificate, parent *x509.Certificate, signer *ecdsa.PrivateKey) (*x509.Certificate, *ecdsa.PrivateKey) {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		if parent == nil {
			parent, signer = c, key
		}
		c.SerialNumber, c.NotBefore, c.NotAfter = big.NewInt(1), time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
		der, err := x509.CreateCertificate(rand.Reader, c, parent, &key.PublicKey, signer)
		if err != nil {
			t.Fatal(err)
		}
		if c, err = x509.ParseCertificate(der); err != nil {
			t.Fatal(err)
		}
		return c, key
	}
	ca, signer := issue(&x509.Certificate{Subject: pkix.Name{CommonName: "Routers"}, IsCA: true, BasicConstraintsValid: true}, nil, nil)
	leaf, key := issue(&x509.Certificate{Subject: pkix.Name{CommonName: "router1"}, ExtKeyUsage: []x509.ExtKeyUsage{usage}}, ca, signer)
	return ca, tls.Certificate{Certificate: [][]byte{leaf.Raw}, PrivateKey: key}
}

// What waits for a manager takes its time, and its client is not told to come
// back in seconds, the first time or later.
func TestPendingClientsComeBackInAMinute(t *testing.T) {
	m := testenv.New(t, testenv.Config{})
	s := hostSettings(m)
	s.Store = filepath.Join(t.TempDir(), "requests.db")
	s.Requests.Audit = filepath.Join(t.TempDir(), "audit.jsonl")
	s.EST.Template = "CiscoRAManual"
	x := startSite(t, s, hostParts(t, m))
	der, err := newRequest()
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if status, retry, body, err := x.post("simpleenroll", der, nil); status != http.StatusAccepted || retry != "60" {
			t.Errorf("status %d, Retry-After %s, want 202 and 60: %s %v", status, retry, body, err)
		}
	}
}

// A file that several labels name is one mistake, and the first place that
// names it is told.
func TestBadUserListIsToldOnce(t *testing.T) {
	dir := t.TempDir()
	users, password := filepath.Join(dir, "users"), filepath.Join(dir, "password")
	for _, path := range []string{users, password} {
		if err := os.WriteFile(path, []byte("garbage\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	s := DefaultSettings()
	s.Certsrv.PasswordFile = password
	s.EST.Labels = map[string]*LabelSettings{}
	for _, name := range []string{"c", "b", "a"} {
		s.EST.Labels[name] = &LabelSettings{Auth: AuthSettings{Users: users}}
	}
	_, err := CheckFiles(s)
	if want := "est.labels.a.auth.users: user list " + users + ", line 1: it is not user:hash"; err == nil || err.Error() != want {
		t.Errorf("got\n%v\nwant\n%s", err, want)
	}
}

// Restarts let no more wrong passwords through to the domain, and what is
// written says nothing of them.
func TestRestartsGrantNoMorePasswords(t *testing.T) {
	m := testenv.New(t, testenv.Config{LockoutThreshold: 5, Accounts: []testenv.Account{
		{Name: "ciscora", Password: testenv.DefaultPassword}, {Name: "victim", Password: "correct-horse"},
	}})
	s := hostSettings(m)
	s.EST.Auth = AuthSettings{Certsrv: true, Require: "any"}
	s.Certsrv.LoginPause = time.Nanosecond // so that nothing else stands before the domain
	s.Store, s.Requests.Audit = filepath.Join(t.TempDir(), "requests.db"), filepath.Join(t.TempDir(), "audit.jsonl")
	try := func(x *site, user, password string) int {
		status, _, _, err := x.tryEnroll("simpleenroll", func(r *http.Request) { r.SetBasicAuth(user, password) })
		if err != nil {
			t.Error(err)
		}
		return status
	}
	for i := range 4 {
		t.Run(fmt.Sprint("start ", i), func(t *testing.T) {
			x := startSite(t, s, hostParts(t, m))
			var wg sync.WaitGroup
			for n := range 6 {
				wg.Go(func() { try(x, `LAB\victim`, fmt.Sprint("wrong-password-", i, n)) })
			}
			wg.Wait()
			if status := try(x, `LAB\ciscora`, testenv.DefaultPassword); status != http.StatusOK {
				t.Errorf("the service's own account: status %d", status)
			}
		})
	}
	if n := m.FailedLogons(); n != 2 {
		t.Errorf("the domain saw %d wrong passwords, want 2", n)
	}
	for _, path := range []string{s.Store, s.Store + "-wal"} {
		raw, err := os.ReadFile(path)
		if err != nil && !errors.Is(err, fs.ErrNotExist) || bytes.Contains(raw, []byte("wrong-password")) {
			t.Errorf("%s: %v, or it holds a password", path, err)
		}
	}
}

// Who tries one-time passwords is stopped by the limit of the address, and the
// device itself, elsewhere, is not.
func TestTokensAreNotGuessedForLong(t *testing.T) {
	m := testenv.New(t, testenv.Config{})
	s := remembering(t, m)
	s.EST.Auth = AuthSettings{Tokens: filepath.Join(t.TempDir(), "tokens"), Require: "any"}
	tokens, err := ra.OpenTokenFile(s.EST.Auth.Tokens)
	if err != nil {
		t.Fatal(err)
	}
	right, err := tokens.Create("SEP001122334455", time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	s.EST.TrustedProxies = []string{"127.0.0.1"}
	x := startSite(t, s, hostParts(t, m))
	try := func(addr, password string) (int, string) {
		status, _, body, err := x.tryEnroll("simpleenroll", func(r *http.Request) {
			r.Header.Set("X-Forwarded-For", addr)
			r.SetBasicAuth("SEP001122334455", password)
		})
		if err != nil {
			t.Fatal(err)
		}
		return status, body
	}
	for n := range 20 {
		if status, body := try("192.0.2.1", fmt.Sprint("guess-", n)); status != http.StatusUnauthorized || !strings.Contains(body, "bad-credentials") {
			t.Fatalf("guess %d: %d %s", n, status, body)
		}
	}
	if status, body := try("192.0.2.1", right); status != http.StatusUnauthorized || !strings.Contains(body, "login-suspended") {
		t.Errorf("after 20 guesses: %d %s", status, body)
	}
	if status, body := try("192.0.2.2", right); status != http.StatusOK {
		t.Errorf("the device: %d %s", status, body)
	}
}
