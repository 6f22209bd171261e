package estserver_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/onlineca/onlineca/estserver"
	"github.com/onlineca/onlineca/ra"
)

var oidChallengePassword = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 7}

// csrWithChallenge makes a request with a challengePassword, which the standard
// library cannot.
func csrWithChallenge(tb testing.TB, key *ecdsa.PrivateKey, cn, password string) []byte {
	tb.Helper()
	plain, err := x509.ParseCertificateRequest(csrOf(tb, key, &x509.CertificateRequest{Subject: pkix.Name{CommonName: cn}}))
	if err != nil {
		tb.Fatal(err)
	}
	type attribute struct {
		Type   asn1.ObjectIdentifier
		Values []asn1.RawValue `asn1:"set"`
	}
	type info struct {
		Version    int
		Subject    asn1.RawValue
		PublicKey  asn1.RawValue
		Attributes []attribute `asn1:"tag:0,set"`
	}
	value := asn1.RawValue{Tag: asn1.TagPrintableString, Bytes: []byte(password)}
	body, err := asn1.Marshal(info{
		Subject:    asn1.RawValue{FullBytes: plain.RawSubject},
		PublicKey:  asn1.RawValue{FullBytes: plain.RawSubjectPublicKeyInfo},
		Attributes: []attribute{{oidChallengePassword, []asn1.RawValue{value}}},
	})
	if err != nil {
		tb.Fatal(err)
	}
	sum := sha256.Sum256(body)
	sig, err := key.Sign(nil, sum[:], crypto.SHA256)
	if err != nil {
		tb.Fatal(err)
	}
	der, err := asn1.Marshal(struct {
		Info      asn1.RawValue
		Algorithm pkix.AlgorithmIdentifier
		Signature asn1.BitString
	}{
		asn1.RawValue{FullBytes: body},
		pkix.AlgorithmIdentifier{Algorithm: asn1.ObjectIdentifier{1, 2, 840, 10045, 4, 3, 2}},
		asn1.BitString{Bytes: sig, BitLength: 8 * len(sig)},
	})
	if err != nil {
		tb.Fatal(err)
	}
	return der
}

// bindingOf is what a client puts into challengePassword, computed on its side
// of the connection.
func bindingOf(tb testing.TB, conn *tls.Conn) string {
	tb.Helper()
	state := conn.ConnectionState()
	value := state.TLSUnique
	if state.Version == tls.VersionTLS13 {
		var err error
		if value, err = state.ExportKeyingMaterial("EXPORTER-Channel-Binding", nil, 32); err != nil {
			tb.Fatal(err)
		}
	}
	return base64.StdEncoding.EncodeToString(value)
}

// The request is linked to its TLS connection, or it is not accepted.
func TestProofOfPossession(t *testing.T) {
	b := start(t, func(c *estserver.Config) {
		c.Default.PoP = estserver.PoPRequired
		optional := c.Default
		optional.PoP = estserver.PoPOptional
		off := c.Default
		off.PoP = estserver.PoPOff
		ra := c.Default
		ra.Auth = estserver.Auth{Certificates: &estserver.CertificateAuth{OwnChain: true}}
		c.Labels = map[string]estserver.Label{"optional": optional, "off": off, "ra": ra}
	})
	cmcRA := b.pairOf(t, "ra", func(c *x509.Certificate) {
		c.ExtKeyUsage = nil
		c.UnknownExtKeyUsage = []asn1.ObjectIdentifier{{1, 3, 6, 1, 5, 5, 7, 3, 28}}
	})
	plain := b.pairOf(t, "ra", nil)
	right := func(s string) string { return s }
	wrong := func(s string) string { return strings.ToLower(s) + "x" }
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		for _, p := range []struct {
			label    string
			password func(string) string // nil for none
			cert     []tls.Certificate
			status   int
		}{
			{"", right, nil, 200}, {"", wrong, nil, 400}, {"", nil, nil, 400},
			{"optional", right, nil, 200}, {"optional", wrong, nil, 400}, {"optional", nil, nil, 200},
			{"off", wrong, nil, 200}, {"off", nil, nil, 200},
			{"ra", nil, []tls.Certificate{cmcRA}, 200}, {"ra", wrong, []tls.Certificate{cmcRA}, 200}, {"ra", nil, []tls.Certificate{plain}, 400},
		} {
			cfg := b.tlsConfig(p.cert...)
			cfg.MinVersion, cfg.MaxVersion = version, version
			// A client that would resume, where a TLS 1.2 session has no
			// tls-unique.
			cfg.ClientSessionCache = tls.NewLRUClientSessionCache(1)
			for range 2 {
				conn, err := tls.Dial("tcp", b.addr, cfg)
				if err != nil {
					t.Fatal(err)
				}
				if conn.ConnectionState().DidResume {
					t.Error("the session was resumed")
				}
				key := newKey(t)
				der := csrOf(t, key, &x509.CertificateRequest{Subject: pkix.Name{CommonName: "SEP1"}})
				if p.password != nil {
					der = csrWithChallenge(t, key, "SEP1", p.password(bindingOf(t, conn)))
				}
				path := strings.ReplaceAll("/.well-known/est/"+p.label+"/simpleenroll", "//", "/")
				_, _ = io.WriteString(conn, rawPost(path, basicHeader, b64(der)))
				raw, _ := io.ReadAll(conn)
				conn.Close()
				res, body := readAnswer(t, string(raw))
				if res.StatusCode != p.status || p.status == http.StatusBadRequest && !strings.Contains(body, "Proof of Possession Mismatch") {
					t.Errorf("%s, label %q, password %v: %d %s", tls.VersionName(version), p.label, p.password != nil, res.StatusCode, body)
				}
			}
		}
	}
	// A server that wants it says so.
	_, body := readAnswer(t, b.raw(t, "GET /.well-known/est/csrattrs HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"))
	der, err := base64.StdEncoding.DecodeString(body)
	oid, _ := asn1.Marshal(oidChallengePassword)
	if err != nil || !bytes.Contains(der, oid) {
		t.Errorf("csrattrs %q: %v", body, err)
	}
}

// rdn makes a name of one attribute each, in the given string type.
func rdn(tb testing.TB, tag int, pairs ...string) []byte {
	tb.Helper()
	oids := map[string]asn1.ObjectIdentifier{"CN": {2, 5, 4, 3}, "O": {2, 5, 4, 10}, "OU": {2, 5, 4, 11}}
	type attribute struct {
		Type  asn1.ObjectIdentifier
		Value asn1.RawValue
	}
	var name []asn1.RawValue
	for i := 0; i < len(pairs); i += 2 {
		set, err := asn1.MarshalWithParams([]attribute{{oids[pairs[i]], asn1.RawValue{Tag: tag, Bytes: []byte(pairs[i+1])}}}, "set")
		if err != nil {
			tb.Fatal(err)
		}
		name = append(name, asn1.RawValue{FullBytes: set})
	}
	raw, err := asn1.Marshal(name)
	if err != nil {
		tb.Fatal(err)
	}
	return raw
}

// A renewal is for the same names, however they are written.
func TestReenroll(t *testing.T) {
	b := start(t, func(c *estserver.Config) {
		c.Default.Auth = estserver.Auth{Certificates: &estserver.CertificateAuth{OwnChain: true, Grace: time.Hour}}
		fewer := c.Default
		fewer.Reenroll.FewerNames = true
		both := c.Default
		both.Auth = estserver.Auth{Basic: testUsers}
		lax := both
		lax.Reenroll.WithoutCertificate = true
		c.Labels = map[string]estserver.Label{"fewer": fewer, "password": both, "lax": lax}
	})
	key := newKey(t)
	utf8 := rdn(t, asn1.TagUTF8String, "O", "Example", "OU", "Phones", "CN", "SEP001122334455")
	printable := rdn(t, asn1.TagPrintableString, "CN", "SEP001122334455", "OU", "phones", "O", "Example ")
	holder := func(change func(*x509.Certificate)) tls.Certificate {
		return b.pairOf(t, "", func(c *x509.Certificate) {
			c.RawSubject, c.DNSNames = utf8, []string{"sep.example.com", "b.example.com"}
			if change != nil {
				change(c)
			}
		})
	}
	cert := holder(nil)
	other := newAuthority(t, "Other")
	strangerKey := newKey(t)
	stranger := tls.Certificate{PrivateKey: strangerKey, Certificate: [][]byte{other.leaf(t, "SEP001122334455", strangerKey, nil).Raw}}
	names := []string{"sep.example.com", "b.example.com"}
	for _, p := range []struct {
		name, label string
		cert        []tls.Certificate
		csr         x509.CertificateRequest
		status      int
		says        string
	}{
		{"identical", "", []tls.Certificate{cert}, x509.CertificateRequest{RawSubject: utf8, DNSNames: names}, 200, ""},
		{"other string type and order", "", []tls.Certificate{cert}, x509.CertificateRequest{RawSubject: printable, DNSNames: []string{"B.example.com", "sep.example.com"}}, 200, ""},
		{"other subject", "", []tls.Certificate{cert}, x509.CertificateRequest{Subject: pkix.Name{CommonName: "SEP2"}, DNSNames: names}, 403, "names of the subject"},
		{"less of a subject", "", []tls.Certificate{cert}, x509.CertificateRequest{Subject: pkix.Name{CommonName: "SEP001122334455"}, DNSNames: names}, 403, "names of the subject"},
		{"no SAN", "", []tls.Certificate{cert}, x509.CertificateRequest{RawSubject: utf8}, 403, "alternative names"},
		{"another SAN", "", []tls.Certificate{cert}, x509.CertificateRequest{RawSubject: utf8, DNSNames: append([]string{"c.example.com"}, names...)}, 403, "alternative names"},
		{"fewer names allowed", "fewer", []tls.Certificate{cert}, x509.CertificateRequest{RawSubject: utf8, DNSNames: names[:1]}, 200, ""},
		{"fewer names allowed, not others", "fewer", []tls.Certificate{cert}, x509.CertificateRequest{RawSubject: utf8, DNSNames: []string{"c.example.com"}}, 403, "alternative names"},
		{"expired, within grace", "", []tls.Certificate{holder(func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Minute) })}, x509.CertificateRequest{RawSubject: utf8, DNSNames: names}, 200, ""},
		{"expired, beyond grace", "", []tls.Certificate{holder(func(c *x509.Certificate) {
			c.NotBefore, c.NotAfter = time.Now().Add(-9*time.Hour), time.Now().Add(-2*time.Hour)
		})}, x509.CertificateRequest{RawSubject: utf8, DNSNames: names}, 401, "it expired on"},
		{"no EKU", "", []tls.Certificate{holder(func(c *x509.Certificate) { c.ExtKeyUsage = nil })}, x509.CertificateRequest{RawSubject: utf8, DNSNames: names}, 200, ""},
		{"no certificate", "", nil, x509.CertificateRequest{RawSubject: utf8}, 401, "presented none"},
		{"password and certificate", "password", []tls.Certificate{cert}, x509.CertificateRequest{RawSubject: utf8, DNSNames: names}, 200, ""},
		{"password and another's certificate", "password", []tls.Certificate{stranger}, x509.CertificateRequest{Subject: pkix.Name{CommonName: "SEP001122334455"}}, 403, "did not present the certificate"},
		{"password only", "password", nil, x509.CertificateRequest{RawSubject: utf8}, 403, "did not present the certificate"},
		{"password only, allowed", "lax", nil, x509.CertificateRequest{RawSubject: utf8}, 200, ""},
	} {
		t.Run(p.name, func(t *testing.T) {
			user, password := "", ""
			if p.label == "password" || p.label == "lax" {
				user, password = "ciscora", "S3cret!pw"
			}
			path := strings.ReplaceAll("/.well-known/est/"+p.label+"/simplereenroll", "//", "/")
			res, body := b.post(t, path, user, password, csrOf(t, key, &p.csr), p.cert...)
			if res.StatusCode != p.status || !strings.Contains(body, p.says) {
				t.Errorf("%d %s; want %d, %q", res.StatusCode, body, p.status, p.says)
			}
		})
	}
	for _, r := range b.ca.seen() {
		if r.Operation != ra.Reenroll {
			t.Errorf("the enroller was asked to %s", r.Operation)
		}
	}
	// Grace is for renewals only.
	expired := holder(func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Minute) })
	if res, body := b.post(t, enrollPath, "", "", csrOf(t, key, &x509.CertificateRequest{RawSubject: utf8}), expired); res.StatusCode != http.StatusUnauthorized {
		t.Errorf("%d %s", res.StatusCode, body)
	}
}

// A one-time password enrols its device, and its device only, and is spent only
// by a request that is let through.
func TestTokens(t *testing.T) {
	tokens, err := ra.OpenTokenFile(filepath.Join(t.TempDir(), "tokens.json"))
	if err != nil {
		t.Fatal(err)
	}
	password, err := tokens.Create("SEP001122334455", time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	b := start(t, func(c *estserver.Config) {
		c.Default.Auth = estserver.Auth{Tokens: tokens, Basic: testUsers}
		c.Default.Policy.Keys = []string{"p256"}
	})
	name := pkix.Name{CommonName: "SEP001122334455"}
	first := csrOf(t, newKey(t), &x509.CertificateRequest{Subject: name})
	for _, p := range []struct {
		name, user, password string
		csr                  []byte
		status               int
		says                 string
	}{
		{"another device's name", "SEP001122334455", password, csrOf(t, newKey(t), &x509.CertificateRequest{Subject: pkix.Name{CommonName: "SEP9"}}), 403, "the password is that of SEP001122334455"},
		{"refused by policy", "SEP001122334455", password, rsa512CSR, 400, ""},
		{"first use", "SEP001122334455", password, first, 200, ""},
		{"the same again", "SEP001122334455", password, first, 200, ""},
		{"another key", "SEP001122334455", password, simpleCSR(t), 401, "used for another key"},
		{"wrong", "SEP001122334455", password[1:], first, 401, "bad-credentials"},
		{"password of a user", "ciscora", "S3cret!pw", simpleCSR(t), 200, ""},
	} {
		res, body := b.post(t, enrollPath, p.user, p.password, p.csr)
		if res.StatusCode != p.status || !strings.Contains(body, p.says) {
			t.Errorf("%s: %d %s", p.name, res.StatusCode, body)
		}
	}
	var who []string
	for _, r := range b.ca.seen() {
		who = append(who, r.Client.Method+" "+r.Client.Name)
	}
	if got := fmt.Sprint(who); got != "[token SEP001122334455 token SEP001122334455 basic ciscora]" {
		t.Error(got)
	}
}

// A generated key is delivered with its certificate, once.
func TestServerKeygen(t *testing.T) {
	b := start(t, func(c *estserver.Config) { c.Default.ServerKeygen = true })
	raw := b.raw(t, rawPost("/.well-known/est/serverkeygen", basicHeader, b64(simpleCSR(t))))
	res, body := readAnswer(t, raw)
	if res.StatusCode != http.StatusOK || int(res.ContentLength) != len(body) || !strings.HasPrefix(res.Header.Get("Content-Type"), "multipart/mixed; boundary=") {
		t.Fatal(raw)
	}
	if key, cert := strings.Index(body, "application/pkcs8"), strings.Index(body, "smime-type=certs-only"); key < 0 || cert < key {
		t.Errorf("the key is not before the certificate: %s", body)
	}
	b.ca.setAnswer(func(context.Context, ra.Request) (ra.Result, error) {
		return ra.Result{State: ra.Pending, ReqID: 44, RetryAfter: time.Minute}, nil
	})
	res, body = readAnswer(t, b.raw(t, rawPost("/.well-known/est/serverkeygen", basicHeader, b64(simpleCSR(t)))))
	if res.StatusCode != http.StatusBadRequest || !strings.Contains(body, "cannot wait") || !strings.Contains(body, "request 44") {
		t.Errorf("%d %s", res.StatusCode, body)
	}
	if res, _ := readAnswer(t, b.raw(t, rawPost("/.well-known/est/serverkeygen", basicHeader, b64(rsa512CSR)))); res.StatusCode != http.StatusBadRequest {
		t.Errorf("512 bits: %d", res.StatusCode)
	}
}

// New settings are used from the next request on; broken ones are not.
func TestReload(t *testing.T) {
	ca := newAuthority(t, "x")
	var cfg estserver.Config
	b := start(t, func(c *estserver.Config) { cfg = *c })
	status := func(user, password string) int {
		res, _ := b.post(t, enrollPath, user, password, simpleCSR(t))
		return res.StatusCode
	}
	if n := status("new", "user"); n != http.StatusUnauthorized {
		t.Errorf("%d", n)
	}
	cfg.Default = estserver.Label{Template: "New", Auth: estserver.Auth{Basic: users{"new": "user"}}}
	if err := b.server.Reload(cfg); err != nil {
		t.Fatal(err)
	}
	if n := status("new", "user"); n != http.StatusOK || b.ca.seen()[0].Template != "New" {
		t.Errorf("%d, %+v", n, b.ca.seen())
	}
	for _, broken := range []estserver.Config{{}, {Enroller: ca, Chain: ca, Default: cfg.Default}} {
		if err := b.server.Reload(broken); err == nil {
			t.Error("a broken configuration was accepted")
		}
	}
	if n := status("new", "user"); n != http.StatusOK {
		t.Errorf("%d", n)
	}
}

func TestParseCSRAttrs(t *testing.T) {
	attrs, err := estserver.ParseCSRAttrs([]string{"rsa2048", "p384", "subjectAltName", "extKeyUsage", "challengePassword", "1.2.3"})
	if err != nil {
		t.Fatal(err)
	}
	text, _ := json.Marshal(attrs)
	want := `{"OIDs":[[1,2,840,113549,1,9,7],[1,2,3]],"Attributes":[{"Type":[1,2,840,113549,1,1,1],"Values":[2048]},` +
		`{"Type":[1,2,840,10045,2,1],"Values":[[1,3,132,0,34]]},{"Type":[1,2,840,113549,1,9,14],"Values":[[2,5,29,17],[2,5,29,37]]}]}`
	if string(text) != want {
		t.Errorf("%s", text)
	}
	if _, err := attrs.Marshal(); err != nil {
		t.Error(err)
	}
	for _, w := range []string{"", "p255", "rsa", "1", "9.9.9", "1.2.x", "1..2"} {
		if _, err := estserver.ParseCSRAttrs([]string{w}); err == nil {
			t.Errorf("%q was accepted", w)
		}
	}
}
