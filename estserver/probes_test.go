package estserver_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"io"
	"net/http"
	"regexp"
	"strings"
	"testing"

	"github.com/smallstep/pkcs7"

	"github.com/onlineca/onlineca/estserver"
	"github.com/onlineca/onlineca/ra"
)

const enrollPath = "/.well-known/est/simpleenroll"

// issuedIn reads the one certificate out of the body of an enrolment's answer.
func issuedIn(tb testing.TB, body string) *x509.Certificate {
	tb.Helper()
	certs := certsIn(tb, body)
	if len(certs) != 1 {
		tb.Fatalf("%d certificates in the answer", len(certs))
	}
	return certs[0]
}

func certsIn(tb testing.TB, body string) []*x509.Certificate {
	tb.Helper()
	der, err := base64.StdEncoding.DecodeString(body)
	if err != nil {
		tb.Fatalf("%v in %q", err, body)
	}
	p7, err := pkcs7.Parse(der)
	if err != nil {
		tb.Fatal(err)
	}
	return p7.Certificates
}

// The body and its header, in every form that a client was seen to send.
func TestBodies(t *testing.T) {
	b := start(t, nil)
	der := simpleCSR(t)
	text := b64(der)
	bad := bytes.Clone(der)
	bad[len(bad)-1] ^= 1
	pemText := string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der}))
	leafPEM := string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: b.ca.root.Raw}))
	url64 := strings.NewReplacer("+", "-", "/", "_").Replace(text)

	const ok = "application/pkcs10"
	for _, p := range []struct {
		name, contentType, cte, body string
		status                       int
		says                         string
	}{
		{"no transfer encoding", ok, "", fold(text, 64, "\n"), 200, ""},
		{"BASE64", ok, "BASE64", fold(text, 64, "\n"), 200, ""},
		{"8bit", ok, "8bit", fold(text, 64, "\n"), 200, ""},
		{"binary, DER", ok, "binary", string(der), 400, "DER; EST wants base64"},
		{"76 CRLF", ok, "base64", fold(text, 76, "\r\n"), 200, ""},
		{"one line", ok, "base64", text, 200, ""},
		{"one line, LF", ok, "base64", text + "\n", 200, ""},
		{"trailing blanks", ok, "base64", fold(text, 64, "  \r\n") + "\n\n  ", 200, ""},
		{"leading blank line", ok, "base64", "\r\n" + text, 200, ""},
		{"blanks and tabs inside", ok, "base64", fold(text, 10, " \t"), 200, ""},
		{"PEM", ok, "", pemText, 200, ""},
		{"PEM of a certificate", ok, "", leafPEM, 400, "PEM, but not"},
		{"PEM twice", ok, "", pemText + pemText, 400, "PEM, but not"},
		{"base64url", ok, "", url64 + "-_", 400, "not base64"},
		{"junk after the DER", ok, "", b64(append(bytes.Clone(der), 1, 2, 3)), 400, "malformed-csr"},
		{"junk after the base64", ok, "", text + "!", 400, "not base64"},
		{"empty", ok, "", "", 400, "it is empty"},
		{"blank", ok, "", " \r\n", 400, "it is empty"},
		{"no request", ok, "", b64([]byte("hello, world")), 400, "malformed-csr"},
		{"a certificate", ok, "", b64(b.ca.root.Raw), 400, "malformed-csr"},
		{"bad signature", ok, "", b64(bad), 400, "bad-csr-signature"},
		{"charset", ok + "; charset=utf-8", "", text, 200, ""},
		{"broken parameter", ok + "; charset", "", text, 200, ""},
		{"upper case", "APPLICATION/PKCS10", "", text, 200, ""},
		{"no content type", "", "", text, 400, "no Content-Type"},
		{"text/plain", "text/plain", "", text, 400, "Content-Type is not"},
		{"pkcs10-evil", "application/pkcs10-evil", "", text, 400, "Content-Type is not"},
		{"70 kB", ok, "", strings.Repeat("A", 70<<10), 413, "65536"},
		{"10 MB of zeros", ok, "", strings.Repeat("\x00", 10<<20), 413, "65536"},
		{"65 kB of blanks", ok, "", text + strings.Repeat(" ", 65<<10), 413, "65536"},
	} {
		t.Run(p.name, func(t *testing.T) {
			req, err := http.NewRequest(http.MethodPost, b.url(enrollPath), strings.NewReader(p.body))
			if err != nil {
				t.Fatal(err)
			}
			req.Header["Content-Type"] = []string{p.contentType}
			if p.contentType == "" {
				req.Header["Content-Type"] = nil
			}
			if p.cte != "" {
				req.Header.Set("Content-Transfer-Encoding", p.cte)
			}
			req.SetBasicAuth("ciscora", "S3cret!pw")
			res, err := b.client().Do(req)
			if err != nil {
				t.Fatal(err)
			}
			body, _ := io.ReadAll(res.Body)
			res.Body.Close()
			if res.StatusCode != p.status || !strings.Contains(string(body), p.says) {
				t.Errorf("%d %q, want %d saying %q", res.StatusCode, body, p.status, p.says)
			}
			if p.status == 200 {
				if cn := issuedIn(t, string(body)).Subject.CommonName; cn != "SEP001122334455" {
					t.Errorf("the certificate is for %q", cn)
				}
			}
		})
	}
}

// How a request is framed: chunked, 100-continue, HTTP/1.0, keep-alive, close.
func TestFraming(t *testing.T) {
	b := start(t, nil)
	text := b64(simpleCSR(t))
	for name, raw := range map[string]string{
		"close": rawPost(enrollPath, basicHeader, text),
		// libEST sends two bytes beyond Content-Length.
		"extra CRLF": rawPost(enrollPath, basicHeader, text) + "\r\n",
		"chunked": "POST " + enrollPath + " HTTP/1.1\r\nHost: x\r\nConnection: close\r\n" + basicHeader +
			"Content-Type: application/pkcs10\r\nTransfer-Encoding: chunked\r\n\r\n" +
			"10\r\n" + text[:16] + "\r\n" + hexLen(text[16:]) + "\r\n" + text[16:] + "\r\n0\r\n\r\n",
		"HTTP/1.0": "POST " + enrollPath + " HTTP/1.0\r\n" + basicHeader +
			"Content-Type: application/pkcs10\r\nContent-Length: " + itoa(len(text)) + "\r\n\r\n" + text,
		"100-continue": rawPost(enrollPath, basicHeader+"Expect: 100-continue\r\n", text),
		"query":        rawPost(enrollPath+"?x=y", basicHeader, text),
	} {
		t.Run(name, func(t *testing.T) {
			got := b.raw(t, raw)
			got = strings.TrimPrefix(got, "HTTP/1.1 100 Continue\r\n\r\n")
			res, body := readAnswer(t, got)
			if res.StatusCode != http.StatusOK {
				t.Fatalf("%s", got)
			}
			issuedIn(t, body)
		})
	}
}

func TestKeepAlive(t *testing.T) {
	b := start(t, nil)
	conns := 0
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: b.tlsConfig()}}
	defer client.CloseIdleConnections()
	for range 3 {
		req, _ := http.NewRequest(http.MethodGet, b.url("/.well-known/est/cacerts"), nil)
		res, err := client.Do(req.WithContext(countConns(req.Context(), &conns)))
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.Copy(io.Discard, res.Body)
		res.Body.Close()
	}
	if conns != 1 {
		t.Errorf("%d connections for three requests", conns)
	}
}

// Paths, methods, and what is answered to those that are not there.
func TestPathsAndMethods(t *testing.T) {
	b := start(t, func(c *estserver.Config) {
		c.Labels = map[string]estserver.Label{"phones": c.Default}
	})
	long := strings.Repeat("a", 200)
	for _, p := range []struct {
		method, path string
		status       int
		allow        string
	}{
		{"GET", "/cacerts", 200, ""},
		{"HEAD", "/cacerts", 200, ""},
		{"GET", "/cacerts?x=y", 200, ""},
		{"GET", "/csrattrs", 204, ""},
		{"HEAD", "/csrattrs", 204, ""},
		{"POST", "/cacerts", 405, "GET, HEAD"},
		{"DELETE", "/csrattrs", 405, "GET, HEAD"},
		{"GET", "/simpleenroll", 405, "POST"},
		{"PUT", "/simpleenroll", 405, "POST"},
		{"OPTIONS", "/simpleenroll", 405, "POST"},
		{"GET", "/simplereenroll", 405, "POST"},
		{"POST", "/fullcmc", 501, ""},
		{"POST", "/serverkeygen", 404, ""},
		{"POST", "/tpmenroll", 404, ""},
		{"GET", "/phones/cacerts", 200, ""},
		{"GET", "/routers/cacerts", 404, ""},
		{"GET", "/phones/phones/cacerts", 404, ""},
		{"GET", "/cacerts/", 404, ""},
		{"GET", "//cacerts", 404, ""},
		{"GET", "/CACERTS", 404, ""},
		{"GET", "/cacerts/cacerts", 404, ""},
		{"GET", "/" + long + "/cacerts", 404, ""},
		{"GET", "/ph%2Fones/cacerts", 404, ""},
		{"GET", "/%70hones/cacerts", 404, ""},
		{"GET", "/", 404, ""},
		{"GET", "", 404, ""},
	} {
		t.Run(p.method+" "+p.path[:min(len(p.path), 24)], func(t *testing.T) {
			res, body := readAnswer2(t, p.method, b.raw(t, p.method+" /.well-known/est"+p.path+" HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"))
			if res.StatusCode != p.status || res.Header.Get("Allow") != p.allow {
				t.Errorf("%d, Allow %q; want %d, %q: %s", res.StatusCode, res.Header.Get("Allow"), p.status, p.allow, body)
			}
			if p.status >= 400 && len(body) < 20 {
				t.Errorf("no text: %q", body)
			}
		})
	}
	for _, path := range []string{"/", "/healthcheck", "/.well-known/est2/cacerts"} {
		if res, body := readAnswer(t, b.raw(t, "GET "+path+" HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")); res.StatusCode != http.StatusNotFound || body == "" {
			t.Errorf("%s: %d %q", path, res.StatusCode, body)
		}
	}
}

// A header that is too long is answered with 431 and a length.
func TestHeaderLimit(t *testing.T) {
	b := start(t, nil)
	raw := b.raw(t, "GET /.well-known/est/cacerts HTTP/1.1\r\nHost: x\r\nConnection: close\r\nX-Long: "+strings.Repeat("x", 20<<10)+"\r\n\r\n")
	res, body := readAnswer(t, raw)
	if res.StatusCode != http.StatusRequestHeaderFieldsTooLarge || res.ContentLength <= 0 || !strings.Contains(body, "16384") {
		t.Errorf("%d, %d bytes: %q", res.StatusCode, res.ContentLength, body)
	}
	// What net/http itself refuses.
	if raw := b.raw(t, "GET /.well-known/est/cacerts HTTP/1.1\r\nHost: x\r\nX-Long: "+strings.Repeat("x", 70<<10)+"\r\n\r\n"); !strings.HasPrefix(raw, "HTTP/1.1 431 ") {
		t.Errorf("70 kB: %.40q", raw)
	}
}

// HEAD has the headers of GET.
func TestHeadHasTheLengthOfGet(t *testing.T) {
	b := start(t, nil)
	get, body := readAnswer(t, b.raw(t, "GET /.well-known/est/cacerts HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"))
	head, none := readAnswer2(t, "HEAD", b.raw(t, "HEAD /.well-known/est/cacerts HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"))
	if int(get.ContentLength) != len(body) || head.Header.Get("Content-Length") != itoa(len(body)) || none != "" {
		t.Errorf("GET says %d for %d bytes, HEAD %s and %q", get.ContentLength, len(body), head.Header.Get("Content-Length"), none)
	}
}

// The whole chain, issuing CA first, root last, and no more than that.
func TestCACerts(t *testing.T) {
	b := start(t, nil)
	_, body := readAnswer(t, b.raw(t, "GET /.well-known/est/cacerts HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"))
	certs := certsIn(t, body)
	if len(certs) != 2 || !certs[0].Equal(b.ca.issuer) || !certs[1].Equal(b.ca.root) {
		t.Errorf("%d certificates", len(certs))
	}
}

// Keys, hashes and subjects that the default policy refuses.
func TestDefaultPolicy(t *testing.T) {
	b := start(t, nil)
	rsa1024, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	name := pkix.Name{CommonName: "SEP001122334455"}
	for _, p := range []struct {
		name   string
		csr    []byte
		status int
		says   string
	}{
		{"RSA 1024", csrOf(t, rsa1024, &x509.CertificateRequest{Subject: name}), 400, "rule keys: an RSA key of 1024 bits"},
		{"RSA 512", rsa512CSR, 400, "an RSA key of 512 bits"},
		{"P-384", csrOf(t, p384, &x509.CertificateRequest{Subject: name}), 200, ""},
		{"empty subject", csrOf(t, p384, &x509.CertificateRequest{}), 400, "rule names"},
		{"SAN only", csrOf(t, p384, &x509.CertificateRequest{DNSNames: []string{"sep.example.com"}}), 200, ""},
		{"brainpool", brainpoolCSR, 400, "malformed-csr"},
	} {
		t.Run(p.name, func(t *testing.T) {
			res, body := readAnswer(t, b.raw(t, rawPost(enrollPath, basicHeader, b64(p.csr))))
			if res.StatusCode != p.status || !strings.Contains(body, p.says) {
				t.Errorf("%d %q, want %d saying %q", res.StatusCode, body, p.status, p.says)
			}
		})
	}
}

// Labels have templates and policies of their own.
func TestLabels(t *testing.T) {
	b := start(t, func(c *estserver.Config) {
		c.Default.Template = "CiscoRA"
		routers := c.Default
		routers.Template = "Router"
		routers.Policy = ra.Policy{Subject: regexp.MustCompile(`CN=router-\d+`)}
		c.Labels = map[string]estserver.Label{"routers": routers}
	})
	text := b64(simpleCSR(t))
	if res, body := readAnswer(t, b.raw(t, rawPost("/.well-known/est/routers/simpleenroll", basicHeader, text))); res.StatusCode != http.StatusBadRequest || !strings.Contains(body, "rule subject") {
		t.Errorf("%d %q", res.StatusCode, body)
	}
	router := b64(csrOf(t, newKey(t), &x509.CertificateRequest{Subject: pkix.Name{CommonName: "router-7"}}))
	for path, body := range map[string]string{"/.well-known/est/routers/simpleenroll": router, enrollPath: text} {
		if res, answer := readAnswer(t, b.raw(t, rawPost(path, basicHeader, body))); res.StatusCode != http.StatusOK {
			t.Errorf("%s: %d %q", path, res.StatusCode, answer)
		}
	}
	got := map[string]string{}
	for _, r := range b.ca.seen() {
		got[r.Label] = r.Template + " " + r.CSR.Subject.CommonName + " " + r.Client.Name + " " + r.Client.Method
	}
	if got["routers"] != "Router router-7 ciscora basic" || got[""] != "CiscoRA SEP001122334455 ciscora basic" || len(got) != 2 {
		t.Errorf("%v", got)
	}
}
