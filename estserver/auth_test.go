package estserver_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"io"
	"net/http"
	"net/netip"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/onlineca/onlineca/estserver"
	"github.com/onlineca/onlineca/ra"
	"github.com/onlineca/onlineca/ra/fault"
)

// pairOf is a client certificate of the bench's own authority, with the chain.
func (b *bench) pairOf(tb testing.TB, cn string, change func(*x509.Certificate)) tls.Certificate {
	tb.Helper()
	key := newKey(tb)
	cert := b.ca.leaf(tb, cn, key, change)
	return tls.Certificate{Certificate: [][]byte{cert.Raw, b.ca.issuer.Raw}, PrivateKey: key, Leaf: cert}
}

// post sends a request over a TLS connection of its own.
func (b *bench) post(tb testing.TB, path, user, password string, der []byte, certs ...tls.Certificate) (*http.Response, string) {
	tb.Helper()
	req, err := http.NewRequest(http.MethodPost, b.url(path), strings.NewReader(b64(der)))
	if err != nil {
		tb.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/pkcs10")
	if user != "" {
		req.SetBasicAuth(user, password)
	}
	res, err := b.client(certs...).Do(req)
	if err != nil {
		tb.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		tb.Fatal(err)
	}
	return res, string(body)
}

// What the label asks for, and what the client brings.
func TestAuthentication(t *testing.T) {
	other := newAuthority(t, "Other")
	b := start(t, func(c *estserver.Config) {
		ca := c.Chain.(*authority)
		certs := &estserver.CertificateAuth{CAs: []*x509.Certificate{ca.root}}
		c.Labels = map[string]estserver.Label{
			"cert":  {Auth: estserver.Auth{Certificates: certs}},
			"any":   {Auth: estserver.Auth{Certificates: certs, Basic: testUsers}},
			"all":   {Auth: estserver.Auth{Certificates: certs, Basic: testUsers, RequireAll: true}},
			"open":  {Auth: estserver.Auth{Anonymous: true}},
			"named": {Auth: estserver.Auth{Certificates: &estserver.CertificateAuth{CAs: []*x509.Certificate{ca.root}, Subject: regexp.MustCompile(`CN=SEP.*`)}}},
		}
	})
	good := b.pairOf(t, "SEP001122334455", nil)
	expired := b.pairOf(t, "SEP001122334455", func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Minute) })
	future := b.pairOf(t, "SEP001122334455", func(c *x509.Certificate) { c.NotBefore = time.Now().Add(time.Minute) })
	server := b.pairOf(t, "SEP001122334455", func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth} })
	noEKU := b.pairOf(t, "SEP001122334455", func(c *x509.Certificate) { c.ExtKeyUsage = nil })
	router := b.pairOf(t, "router", nil)
	key := newKey(t)
	self := makeCA(t, "SEP001122334455", 9, key, nil, key)
	selfPair := tls.Certificate{Certificate: [][]byte{self.Raw}, PrivateKey: key}
	foreignKey := newKey(t)
	foreign := tls.Certificate{Certificate: [][]byte{other.leaf(t, "SEP001122334455", foreignKey, nil).Raw}, PrivateKey: foreignKey}

	for _, p := range []struct {
		name, label, user, password string
		certs                       []tls.Certificate
		status                      int
		says, challenge             string
	}{
		{"password", "", "ciscora", "S3cret!pw", nil, 200, "", ""},
		{"nothing", "", "", "", nil, 401, "unable to authorize", `Basic realm="estrealm"`},
		{"wrong password", "", "ciscora", "x", nil, 401, "bad-credentials", `Basic realm="estrealm"`},
		{"certificate where none is asked for", "", "", "", []tls.Certificate{good}, 401, "unable", `Basic realm="estrealm"`},
		{"certificate", "cert", "", "", []tls.Certificate{good}, 200, "", ""},
		{"no certificate", "cert", "", "", nil, 401, "presented none", ""},
		{"password instead", "cert", "ciscora", "S3cret!pw", nil, 401, "presented none", ""},
		{"expired", "cert", "", "", []tls.Certificate{expired}, 401, "it expired on", ""},
		{"not yet valid", "cert", "", "", []tls.Certificate{future}, 401, "not valid before", ""},
		{"server certificate", "cert", "", "", []tls.Certificate{server}, 401, "extended key usage", ""},
		{"no EKU", "cert", "", "", []tls.Certificate{noEKU}, 200, "", ""},
		{"self-signed", "cert", "", "", []tls.Certificate{selfPair}, 401, "self-signed", ""},
		{"foreign", "cert", "", "", []tls.Certificate{foreign}, 401, "does not lead to an accepted CA", ""},
		{"other subject", "named", "", "", []tls.Certificate{router}, 401, "subject is not among", ""},
		{"right subject", "named", "", "", []tls.Certificate{good}, 200, "", ""},
		{"any: certificate", "any", "", "", []tls.Certificate{good}, 200, "", ""},
		{"any: password", "any", "ciscora", "S3cret!pw", nil, 200, "", ""},
		{"any: bad certificate, good password", "any", "ciscora", "S3cret!pw", []tls.Certificate{expired}, 200, "", ""},
		{"any: bad certificate only", "any", "", "", []tls.Certificate{expired}, 401, "it expired on", `Basic realm="estrealm"`},
		{"any: nothing", "any", "", "", nil, 401, "unable", `Basic realm="estrealm"`},
		{"all: both", "all", "ciscora", "S3cret!pw", []tls.Certificate{good}, 200, "", ""},
		{"all: certificate only", "all", "", "", []tls.Certificate{good}, 401, "unable", `Basic realm="estrealm"`},
		{"all: password only", "all", "ciscora", "S3cret!pw", nil, 401, "presented none", `Basic realm="estrealm"`},
		{"all: wrong password", "all", "ciscora", "x", []tls.Certificate{good}, 401, "bad-credentials", `Basic realm="estrealm"`},
		{"open", "open", "", "", nil, 200, "", ""},
	} {
		t.Run(p.name, func(t *testing.T) {
			path := enrollPath
			if p.label != "" {
				path = "/.well-known/est/" + p.label + "/simpleenroll"
			}
			res, body := b.post(t, path, p.user, p.password, simpleCSR(t), p.certs...)
			if res.StatusCode != p.status || !strings.Contains(body, p.says) || res.Header.Get("WWW-Authenticate") != p.challenge {
				t.Errorf("%d, challenge %q, %q; want %d, %q, %q", res.StatusCode, res.Header.Get("WWW-Authenticate"), body, p.status, p.challenge, p.says)
			}
		})
	}
}

// The Authorization header of another scheme, or none that can be read.
func TestOtherSchemes(t *testing.T) {
	b := start(t, nil)
	text := b64(simpleCSR(t))
	for _, h := range []string{"Bearer abc", "Digest username=x", "Basic !!!", "Basic", "NTLM TlRM"} {
		res, body := readAnswer(t, b.raw(t, rawPost(enrollPath, "Authorization: "+h+"\r\n", text)))
		if res.StatusCode != http.StatusUnauthorized || !strings.Contains(body, "not HTTP Basic") {
			t.Errorf("%s: %d %q", h, res.StatusCode, body)
		}
	}
	if n := len(b.ca.seen()); n != 0 {
		t.Errorf("%d requests reached the authority", n)
	}
}

// Authentication comes first: nothing is said of the body to strangers.
func TestAuthenticationComesBeforeTheBody(t *testing.T) {
	b := start(t, nil)
	raw := strings.Replace(rawPost(enrollPath, "", "rubbish"), "application/pkcs10", "text/html", 1)
	if res, body := readAnswer(t, b.raw(t, raw)); res.StatusCode != http.StatusUnauthorized || strings.Contains(body, "Content-Type") {
		t.Errorf("%d %q", res.StatusCode, body)
	}
}

// Behind a proxy: who is believed, and what.
func TestProxy(t *testing.T) {
	var b *bench
	configure := func(trusted string) func(*estserver.Config) {
		return func(c *estserver.Config) {
			c.TrustedProxies = []netip.Prefix{netip.MustParsePrefix(trusted)}
			c.ProxyCertificateHeader = "X-SSL-Client-Cert"
			c.Default.Auth = estserver.Auth{Certificates: &estserver.CertificateAuth{CAs: []*x509.Certificate{c.Chain.(*authority).root}}}
		}
	}
	headers := func(tb testing.TB, cn, xff string) string {
		cert := b.ca.leaf(tb, cn, newKey(tb), nil)
		text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Raw})
		text = append(text, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: b.ca.issuer.Raw})...)
		return "X-SSL-Client-Cert: " + url.PathEscape(string(text)) + "\r\nX-Forwarded-For: " + xff + "\r\nX-Real-IP: 6.6.6.6\r\n"
	}
	t.Run("trusted", func(t *testing.T) {
		b = start(t, configure("127.0.0.0/8"))
		res, body := readAnswer(t, b.raw(t, rawPost(enrollPath, headers(t, "SEP9", "6.6.6.6, 192.0.2.7"), b64(simpleCSR(t)))))
		if res.StatusCode != http.StatusOK {
			t.Fatalf("%d %s", res.StatusCode, body)
		}
		if c := b.ca.seen()[0].Client; c.Addr != "192.0.2.7" || c.Name != "SEP9" || c.Method != "certificate" || c.Certificate == nil {
			t.Errorf("%+v", c)
		}
	})
	t.Run("trusted, hop by hop", func(t *testing.T) {
		b = start(t, configure("127.0.0.0/8"))
		readAnswer(t, b.raw(t, rawPost(enrollPath, headers(t, "SEP9", "6.6.6.6, 192.0.2.7, 127.0.0.9"), b64(simpleCSR(t)))))
		if c := b.ca.seen()[0].Client; c.Addr != "192.0.2.7" {
			t.Errorf("%+v", c)
		}
	})
	t.Run("stranger", func(t *testing.T) {
		b = start(t, configure("192.0.2.0/24"))
		res, body := readAnswer(t, b.raw(t, rawPost(enrollPath, headers(t, "SEP9", "192.0.2.7"), b64(simpleCSR(t)))))
		if res.StatusCode != http.StatusUnauthorized || !strings.Contains(body, "presented none") {
			t.Errorf("%d %s", res.StatusCode, body)
		}
	})
	block := func(der []byte) string {
		return url.PathEscape(string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})))
	}
	for name, header := range map[string]string{
		"escapes":              "%zz",
		"text":                 "none",
		"no certificate":       block([]byte{0x30, 0}),
		"one above unreadable": block([]byte{0x30, 0}) + "ISSUER",
		"rest unreadable":      "ISSUER" + "none",
	} {
		t.Run("trusted, rubbish: "+name, func(t *testing.T) {
			b = start(t, configure("127.0.0.0/8"))
			header := strings.Replace(header, "ISSUER", block(b.ca.issuer.Raw), 1) // one that is accepted
			res, body := readAnswer(t, b.raw(t, rawPost(enrollPath, "X-SSL-Client-Cert: "+header+"\r\nX-Forwarded-For: ,,\r\n", b64(simpleCSR(t)))))
			if res.StatusCode != http.StatusUnauthorized || !strings.Contains(body, "what the proxy sends in X-SSL-Client-Cert is no URL-encoded PEM") {
				t.Errorf("%d %s", res.StatusCode, body)
			}
		})
	}
	t.Run("trusted, of another CA", func(t *testing.T) {
		b = start(t, configure("127.0.0.0/8"))
		res, body := readAnswer(t, b.raw(t, rawPost(enrollPath, "X-SSL-Client-Cert: "+block(newAuthority(t, "x").issuer.Raw)+"\r\n", b64(simpleCSR(t)))))
		if res.StatusCode != http.StatusUnauthorized || !strings.Contains(body, "does not lead to an accepted CA") {
			t.Errorf("%d %s", res.StatusCode, body)
		}
	})
}

// A configuration that nobody could have meant is refused.
func TestNewRefuses(t *testing.T) {
	ca := newAuthority(t, "x")
	basic := estserver.Label{Auth: estserver.Auth{Basic: testUsers}}
	for says, c := range map[string]estserver.Config{
		"Enroller is missing":              {Chain: ca, Default: basic},
		"Chain is missing":                 {Enroller: ca, Default: basic},
		"default label: auth: no means":    {Enroller: ca, Chain: ca},
		`"simpleenroll" cannot be a label`: {Enroller: ca, Chain: ca, Default: basic, Labels: map[string]estserver.Label{"simpleenroll": basic}},
		`"a/b" cannot be a label`:          {Enroller: ca, Chain: ca, Default: basic, Labels: map[string]estserver.Label{"a/b": basic}},
		"label x: auth: no means":          {Enroller: ca, Chain: ca, Default: basic, Labels: map[string]estserver.Label{"x": {}}},
		"auth: RequireAll needs":           {Enroller: ca, Chain: ca, Default: estserver.Label{Auth: estserver.Auth{Basic: testUsers, RequireAll: true}}},
		"auth: Anonymous excludes":         {Enroller: ca, Chain: ca, Default: estserver.Label{Auth: estserver.Auth{Basic: testUsers, Anonymous: true}}},
		"auth: Certificates needs CAs":     {Enroller: ca, Chain: ca, Default: estserver.Label{Auth: estserver.Auth{Certificates: &estserver.CertificateAuth{}}}},
		"Plain without TrustedProxies":     {Enroller: ca, Chain: ca, Default: basic, Plain: true},
		"ProxyCertificateHeader without":   {Enroller: ca, Chain: ca, Default: basic, ProxyCertificateHeader: "X"},
		"Limits.Body is 99999":             {Enroller: ca, Chain: ca, Default: basic, Limits: estserver.Limits{Body: 99999}},
		`"sha3" is no hash function`:       {Enroller: ca, Chain: ca, Default: estserver.Label{Auth: basic.Auth, Policy: ra.Policy{Hashes: []string{"sha3"}}}},
	} {
		if _, err := estserver.New(c); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%v, want %q", err, says)
		}
	}
}

// Every fault has its status, its text and, where the client is to wait, whole
// seconds.
func TestFaultsBecomeAnswers(t *testing.T) {
	b := start(t, nil)
	der := simpleCSR(t)
	for _, code := range fault.Codes() {
		b.ca.setAnswer(func(context.Context, ra.Request) (ra.Result, error) {
			return ra.Result{}, &fault.Fault{Code: code, Op: "ask ca.internal.example", Message: "words of the CA", ReqID: 42, RetryAfter: 1500 * time.Millisecond}
		})
		res, body := b.post(t, enrollPath, "ciscora", "S3cret!pw", der)
		want := code.Row().HTTP
		if want == 0 {
			want = 500
		}
		if res.StatusCode != want || !strings.Contains(body, code.String()) || !strings.Contains(body, "words of the CA") || !strings.Contains(body, "request 42") {
			t.Errorf("%s: %d %q", code, res.StatusCode, body)
		}
		if strings.Contains(body, "internal.example") {
			t.Errorf("%s: the answer names our upstream: %q", code, body)
		}
		if got := res.Header.Get("Retry-After"); (want == 202) != (got == "2") {
			t.Errorf("%s: Retry-After %q", code, got)
		}
	}
	b.ca.setAnswer(func(context.Context, ra.Request) (ra.Result, error) {
		return ra.Result{State: ra.Pending, ReqID: 43, Message: "Taken Under Submission"}, nil
	})
	res, body := b.post(t, enrollPath, "ciscora", "S3cret!pw", der)
	if res.StatusCode != http.StatusAccepted || res.Header.Get("Retry-After") != "60" || !strings.Contains(body, "Taken Under Submission") {
		t.Errorf("%d %v %q", res.StatusCode, res.Header, body)
	}
	b.ca.setAnswer(func(context.Context, ra.Request) (ra.Result, error) { panic("upstream") })
	if res, body := b.post(t, enrollPath, "ciscora", "S3cret!pw", der); res.StatusCode != http.StatusInternalServerError || !strings.Contains(body, "internal") {
		t.Errorf("%d %q", res.StatusCode, body)
	}
	b.ca.setAnswer(func(context.Context, ra.Request) (ra.Result, error) { return ra.Result{}, nil })
	if res, body := b.post(t, enrollPath, "ciscora", "S3cret!pw", der); res.StatusCode != http.StatusInternalServerError || body == "" {
		t.Errorf("%d %q", res.StatusCode, body)
	}
}
