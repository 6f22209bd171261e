package winauth

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// fakeIIS is a web server that verifies NTLMv2 for one account, a connection
// at a time, and counts. Its verification is written from MS-NLMP and shares
// nothing with the client but ntowfv2, whose values have a test of their own.
type fakeIIS struct {
	*httptest.Server
	user, domain, password string
	noMIC                  bool // no timestamp in the challenge
	providers              []string
	epa                    string // "", "accept", "require"
	cert                   *x509.Certificate
	handle                 func(w http.ResponseWriter, r *http.Request) // after the login
	before                 func(w http.ResponseWriter, r *http.Request) bool

	conns, type1, ok, failed, posts atomic.Int64
	lastMIC, lastBound              atomic.Bool
	lastSPN                         atomic.Value
}

type connState struct {
	mu        sync.Mutex
	negotiate []byte
	challenge []byte
	user      string
}

type connKey struct{}

// config returns a pool's configuration for s.
func (s *fakeIIS) config() Config {
	roots := x509.NewCertPool()
	roots.AddCert(s.cert)
	return Config{
		URL:        s.URL + "/certsrv",
		Credential: Credential{s.domain + `\` + s.user, s.password},
		TLS:        &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12},
		LoginPause: time.Hour,
	}
}

// start starts a server for LABDOM\ra-user with password "S3cret!pw".
func start(tb testing.TB, change func(*fakeIIS)) *fakeIIS {
	tb.Helper()
	s := &fakeIIS{user: "ra-user", domain: "LABDOM", password: "S3cret!pw", providers: []string{"Negotiate", "NTLM"}}
	if change != nil {
		change(s)
	}
	s.Server = httptest.NewUnstartedServer(http.HandlerFunc(s.serve))
	s.Config.ConnContext = func(ctx context.Context, _ net.Conn) context.Context {
		s.conns.Add(1)
		return context.WithValue(ctx, connKey{}, new(connState))
	}
	cert := selfSigned(tb)
	s.cert = cert.Leaf
	s.TLS = &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12}
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	s.StartTLS()
	tb.Cleanup(s.Close)
	return s
}

func selfSigned(tb testing.TB) tls.Certificate {
	tb.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		tb.Fatal(err)
	}
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "127.0.0.1"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), key)
	if err != nil {
		tb.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		tb.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}
}

const body401 = "<html><body>401 - Unauthorized: Access is denied due to invalid credentials.</body></html>"

func (s *fakeIIS) deny(w http.ResponseWriter, values ...string) {
	for _, v := range values {
		w.Header().Add("WWW-Authenticate", v)
	}
	w.WriteHeader(http.StatusUnauthorized)
	_, _ = io.WriteString(w, body401)
}

func (s *fakeIIS) serve(w http.ResponseWriter, r *http.Request) {
	if s.before != nil && s.before(w, r) {
		return
	}
	st := r.Context().Value(connKey{}).(*connState)
	st.mu.Lock()
	defer st.mu.Unlock()
	scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	msg, err := base64.StdEncoding.DecodeString(token)
	switch {
	case scheme == "" && st.user != "":
		s.authenticated(w, r)
	case scheme == "" || err != nil || len(msg) < 12 || !s.provides(scheme):
		s.deny(w, s.providers...)
	case msg[8] == 1:
		s.type1.Add(1)
		st.user, st.negotiate, st.challenge = "", msg, s.challenge(msg)
		s.deny(w, scheme+" "+base64.StdEncoding.EncodeToString(st.challenge))
	default:
		neg, chal := st.negotiate, st.challenge
		st.challenge = nil // good for one answer
		if err := s.verify(neg, chal, msg); err != nil {
			s.failed.Add(1)
			s.deny(w, s.providers...)
			return
		}
		s.ok.Add(1)
		st.user = s.user
		w.Header().Set("Persistent-Auth", "true")
		s.authenticated(w, r)
	}
}

func (s *fakeIIS) provides(scheme string) bool {
	for _, p := range s.providers {
		if p == scheme {
			return true
		}
	}
	return false
}

func (s *fakeIIS) authenticated(w http.ResponseWriter, r *http.Request) {
	if r.Method == http.MethodPost {
		s.posts.Add(1)
	}
	if s.handle != nil {
		s.handle(w, r)
		return
	}
	b, _ := io.ReadAll(r.Body)
	if r.URL.Path == "/certsrv" {
		http.Redirect(w, r, "/certsrv/", http.StatusMovedPermanently)
		return
	}
	fmt.Fprintf(w, "%s %s %d", r.Method, r.URL.Path, len(b))
}

// challenge makes a CHALLENGE message. Like gss-ntlmssp it has target info only
// if the client asked for the target.
func (s *fakeIIS) challenge(neg []byte) []byte {
	info := []byte{}
	pair := func(id uint16, v []byte) {
		info = binary.LittleEndian.AppendUint16(info, id)
		info = binary.LittleEndian.AppendUint16(info, uint16(len(v)))
		info = append(info, v...)
	}
	if binary.LittleEndian.Uint32(neg[12:])&4 != 0 {
		pair(2, utf16LE("LABDOM"))
		pair(1, utf16LE("LAB-DC"))
		if !s.noMIC {
			ft := uint64(time.Now().UnixNano())/100 + 116444736000000000
			pair(7, binary.LittleEndian.AppendUint64(nil, ft))
		}
		pair(0, nil)
	}
	m := append([]byte(signature), 2, 0, 0, 0)
	m = append(m, make([]byte, 8)...) // no target name
	m = binary.LittleEndian.AppendUint32(m, 0xa2898205)
	nonce := make([]byte, 8)
	_, _ = rand.Read(nonce)
	m = append(m, nonce...)
	m = append(m, make([]byte, 8)...)
	m = binary.LittleEndian.AppendUint16(m, uint16(len(info)))
	m = binary.LittleEndian.AppendUint16(m, uint16(len(info)))
	m = binary.LittleEndian.AppendUint32(m, 48)
	return append(m, info...)
}

func (s *fakeIIS) verify(neg, chal, auth []byte) error {
	if chal == nil {
		return fmt.Errorf("no challenge is open on this connection")
	}
	nt, err := fieldAt(auth, 20)
	if err != nil || len(nt) < 44 {
		return fmt.Errorf("NT response of %d bytes (%w)", len(nt), err)
	}
	dom, _ := fieldAt(auth, 28)
	user, _ := fieldAt(auth, 36)
	if !bytes.Equal(dom, utf16LE(s.domain)) || !bytes.Equal(user, utf16LE(s.user)) {
		return fmt.Errorf("another account")
	}
	owf := ntowfv2(Credential{s.domain + `\` + s.user, s.password})
	if !hmac.Equal(nt[:16], hmacMD5(owf, chal[24:32], nt[16:])) {
		return fmt.Errorf("wrong proof")
	}
	av := map[uint16][]byte{}
	for b := nt[44:]; len(b) >= 4 && binary.LittleEndian.Uint16(b) != 0; {
		n := int(binary.LittleEndian.Uint16(b[2:]))
		av[binary.LittleEndian.Uint16(b)] = b[4 : 4+n]
		b = b[4+n:]
	}
	mic := len(av[6]) == 4 && av[6][0]&2 != 0
	s.lastMIC.Store(mic)
	if mic {
		got := bytes.Clone(auth[72:88])
		zeroed := bytes.Clone(auth)
		clear(zeroed[72:88])
		if !hmac.Equal(got, hmacMD5(hmacMD5(owf, nt[:16]), neg, chal, zeroed)) {
			return fmt.Errorf("wrong MIC")
		}
	}
	s.lastSPN.Store(string(av[9]))
	cbt := av[10]
	s.lastBound.Store(cbt != nil)
	want, _ := channelBinding(s.cert)
	if s.epa == "require" && cbt == nil || s.epa != "" && cbt != nil && !bytes.Equal(cbt, want) {
		return fmt.Errorf("bad bindings")
	}
	return nil
}
