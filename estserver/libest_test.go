package estserver_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"io"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/onlineca/onlineca/estserver"
	"github.com/onlineca/onlineca/ra"
	"github.com/onlineca/onlineca/ra/fault"
)

// What Cisco's libEST client needs, looked at byte by byte: it compares header
// names and values as they are on the wire.
func TestWhatLibESTNeeds(t *testing.T) {
	attrs, err := estserver.ParseCSRAttrs([]string{"rsa2048", "ecdsa-with-SHA256"})
	if err != nil {
		t.Fatal(err)
	}
	b := start(t, func(c *estserver.Config) { c.Default.CSRAttrs = attrs })
	text := fold(b64(simpleCSR(t)), 64, "\n")
	get := func(path string) string {
		return "GET /.well-known/est/" + path + " HTTP/1.1\r\nUser-Agent: Cisco EST client 1.0\r\nConnection: close\r\nHost: localhost:8084\r\nAccept: */*\r\n\r\n\r\n"
	}
	for _, p := range []struct {
		name, request, status, contentType string
		encoded                            bool
	}{
		{"cacerts", get("cacerts"), "HTTP/1.1 200 OK", "application/pkcs7-mime", true},
		{"csrattrs", get("csrattrs"), "HTTP/1.1 200 OK", "application/csrattrs", true},
		{"enrol", rawPost(enrollPath, basicHeader, text) + "\r\n", "HTTP/1.1 200 OK", "application/pkcs7-mime; smime-type=certs-only", true},
		{"challenge", rawPost(enrollPath, "", text) + "\r\n", "HTTP/1.1 401 Unauthorized", "text/plain", false},
		{"refusal", rawPost(enrollPath, "Authorization: Basic eDp5\r\n", text), "HTTP/1.1 401 Unauthorized", "text/plain", false},
		{"bad request", rawPost(enrollPath, basicHeader, "x"), "HTTP/1.1 400 Bad Request", "text/plain", false},
		{"not found", get("nothing"), "HTTP/1.1 404 Not Found", "text/plain", false},
	} {
		t.Run(p.name, func(t *testing.T) {
			raw := b.raw(t, p.request)
			head, body, ok := strings.Cut(raw, "\r\n\r\n")
			if !ok {
				t.Fatalf("no end of the header: %q", raw)
			}
			lines := strings.Split(head, "\r\n")
			if lines[0] != p.status {
				t.Errorf("status line %q, want %q", lines[0], p.status)
			}
			if n := len(lines) - 1; n > 16 {
				t.Errorf("%d headers, libEST reads 16", n)
			}
			if !strings.Contains(head, "\r\nContent-Length: "+strconv.Itoa(len(body))) {
				t.Errorf("no Content-Length: %d in %q", len(body), head)
			}
			if !strings.Contains(head, "\r\nContent-Type: "+p.contentType) {
				t.Errorf("no Content-Type: %s in %q", p.contentType, head)
			}
			if strings.Contains(head, "chunked") {
				t.Error("the answer is chunked")
			}
			if strings.HasPrefix(p.status, "HTTP/1.1 401") {
				checkChallenge(t, head)
			}
			if p.encoded {
				checkBase64(t, body)
			}
		})
	}
}

// checkChallenge wants one challenge, spelt as libEST looks for it.
func checkChallenge(t *testing.T, head string) {
	t.Helper()
	all := regexp.MustCompile(`(?i)\r\nwww-authenticate: [^\r]*`).FindAllString(head, -1)
	if len(all) != 1 || all[0] != "\r\nWWW-Authenticate: Basic realm=\"estrealm\"" {
		t.Errorf("challenges %q", all)
	}
}

// checkBase64 wants lines of 64 characters ended by LF, and none that is empty.
func checkBase64(t *testing.T, body string) {
	t.Helper()
	lines := strings.SplitAfter(body, "\n")
	if last := lines[len(lines)-1]; last != "" {
		t.Errorf("the last line %q is not ended", last)
	}
	lines = lines[:len(lines)-1]
	for i, l := range lines {
		if i < len(lines)-1 && len(l) != 65 || len(l) < 2 || len(l) > 65 || strings.Contains(l, "\r") {
			t.Errorf("line %d is %q", i+1, l)
		}
	}
}

// A chain larger than net/http's buffer still comes with its length.
func TestLargeChainHasALength(t *testing.T) {
	b := start(t, func(c *estserver.Config) {
		big := c.Chain.(*authority)
		c.Chain = manyCerts{big, 20}
	})
	raw := b.raw(t, "GET /.well-known/est/cacerts HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
	res, body := readAnswer(t, raw)
	if len(body) < 4096 || int(res.ContentLength) != len(body) || len(certsIn(t, body)) != 40 {
		t.Errorf("%d bytes, Content-Length %d", len(body), res.ContentLength)
	}
}

// The statuses that libEST understands are those that faults are answered with.
func TestPendingForLibEST(t *testing.T) {
	b := start(t, nil)
	b.ca.setAnswer(func(context.Context, ra.Request) (ra.Result, error) {
		return ra.Result{}, &fault.Fault{Code: fault.Busy, RetryAfter: 90 * time.Second}
	})
	raw := b.raw(t, rawPost(enrollPath, basicHeader, b64(simpleCSR(t))))
	if !strings.HasPrefix(raw, "HTTP/1.1 202 Accepted\r\n") || !strings.Contains(raw, "\r\nRetry-After: 90\r\n") || !strings.Contains(raw, "\r\nContent-Length: ") {
		t.Errorf("%q", raw)
	}
}

// libEST speaks TLS 1.2 with P-256 and offers nothing else.
func TestTLS(t *testing.T) {
	b := start(t, nil)
	for _, p := range []struct {
		name   string
		change func(*tls.Config)
		works  bool
	}{
		{"TLS 1.2, P-256", func(c *tls.Config) {
			c.MaxVersion, c.CurvePreferences = tls.VersionTLS12, []tls.CurveID{tls.CurveP256}
		}, true},
		{"TLS 1.3, X25519", func(c *tls.Config) {
			c.MinVersion, c.CurvePreferences = tls.VersionTLS13, []tls.CurveID{tls.X25519}
		}, true},
		{"TLS 1.1", func(c *tls.Config) { c.MinVersion, c.MaxVersion = tls.VersionTLS11, tls.VersionTLS11 }, false},
		{"HTTP/1.0 only", func(c *tls.Config) { c.NextProtos = []string{"http/1.0"} }, true},
		{"h2 only", func(c *tls.Config) { c.NextProtos = []string{"h2"} }, false},
		{"h2 preferred", func(c *tls.Config) { c.NextProtos = []string{"h2", "http/1.1"} }, true},
	} {
		cfg := b.tlsConfig()
		asked := 0
		cfg.GetClientCertificate = func(i *tls.CertificateRequestInfo) (*tls.Certificate, error) {
			asked++
			return &tls.Certificate{}, nil
		}
		p.change(cfg)
		conn, err := tls.Dial("tcp", b.addr, cfg)
		if (err == nil) != p.works {
			t.Errorf("%s: %v", p.name, err)
			continue
		}
		if err != nil {
			continue
		}
		if proto := conn.ConnectionState().NegotiatedProtocol; proto == "h2" {
			t.Errorf("%s: negotiated %q", p.name, proto)
		}
		if asked != 1 {
			t.Errorf("%s: asked %d times for a certificate", p.name, asked)
		}
		conn.Close()
	}
}

// CertificateRequest names the CAs that are of use, those of the chain too.
func TestCertificateRequestNamesTheCAs(t *testing.T) {
	other := newAuthority(t, "Manufacturing")
	b := start(t, func(c *estserver.Config) {
		c.Default.Auth.Certificates = &estserver.CertificateAuth{CAs: append([]*certificate(nil), other.root), OwnChain: true}
	})
	cfg := b.tlsConfig()
	var names [][]byte
	cfg.GetClientCertificate = func(i *tls.CertificateRequestInfo) (*tls.Certificate, error) {
		names = i.AcceptableCAs
		return &tls.Certificate{}, nil
	}
	conn, err := tls.Dial("tcp", b.addr, cfg)
	if err != nil {
		t.Fatal(err)
	}
	conn.Close()
	for _, c := range []*certificate{other.root, b.ca.root, b.ca.issuer} {
		found := false
		for _, n := range names {
			found = found || bytes.Equal(n, c.RawSubject)
		}
		if !found {
			t.Errorf("%s is not named", c.Subject)
		}
	}
}

// The correlation id comes back; one that could forge log lines does not.
func TestCorrelationID(t *testing.T) {
	b := start(t, nil)
	for sent, want := range map[string]string{"capf-17.a_B": "capf-17.a_B", "": "", "two words": "", strings.Repeat("x", 65): ""} {
		req, _ := http.NewRequest(http.MethodGet, b.url("/.well-known/est/cacerts"), nil)
		if sent != "" {
			req.Header.Set("X-Correlation-ID", sent)
		}
		res, err := b.client().Do(req)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.Copy(io.Discard, res.Body)
		res.Body.Close()
		got := res.Header.Get("X-Correlation-ID")
		if want != "" && got != want || want == "" && (len(got) < 20 || got == sent) {
			t.Errorf("sent %q, got %q", sent, got)
		}
	}
}
