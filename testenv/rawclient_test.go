package testenv_test

import (
	"bufio"
	"bytes"
	"crypto/hmac"
	"crypto/md5"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"unicode/utf16"

	"github.com/Azure/go-ntlmssp"
	"golang.org/x/crypto/md4" //nolint:staticcheck // NTLM's password hash
)

// binding is what a client puts into the AV pair for the channel binding.
type binding string

const (
	noBinding    binding = "none"
	rightBinding binding = "right"
	wrongBinding binding = "wrong"
	zeroBinding  binding = "zero"
)

// login says how the raw client logs in.
type login struct {
	user, password string
	scheme         string // NTLM unless set
	binding        binding
	mic            bool
	breakMIC       bool
}

// rawConn is one TCP connection, driven by hand: nothing is retried, nothing is
// sent that the test does not send.
type rawConn struct {
	t    *testing.T
	c    *tls.Conn
	r    *bufio.Reader
	host string
	path string
}

func dialRaw(t *testing.T, rawURL string, roots *x509.CertPool) *rawConn {
	t.Helper()
	u, err := url.Parse(rawURL)
	if err != nil {
		t.Fatal(err)
	}
	c, err := tls.Dial("tcp", u.Host, &tls.Config{RootCAs: roots})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return &rawConn{t: t, c: c, r: bufio.NewReader(c), host: u.Host, path: "/certsrv/"}
}

// reply is an answer with its body read.
type reply struct {
	*http.Response
	body string
}

// send sends one request, as text, and reads the answer.
func (c *rawConn) send(method, path, authorization, body string) reply {
	c.t.Helper()
	a, err := c.try(method, path, authorization, body)
	if err != nil {
		c.t.Fatalf("%s %s: %v", method, path, err)
	}
	return a
}

func (c *rawConn) try(method, path, authorization, body string) (reply, error) {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s HTTP/1.1\r\nHost: %s\r\nUser-Agent: Mozilla/5.0 (raw)\r\n", method, path, c.host)
	if authorization != "" {
		fmt.Fprintf(&b, "Authorization: %s\r\n", authorization)
	}
	if method == http.MethodPost {
		fmt.Fprintf(&b, "Content-Type: application/x-www-form-urlencoded\r\nContent-Length: %d\r\n", len(body))
	}
	b.WriteString("\r\n" + body)
	if _, err := io.WriteString(c.c, b.String()); err != nil {
		return reply{}, err
	}
	resp, err := http.ReadResponse(c.r, &http.Request{Method: method})
	if err != nil {
		return reply{}, err
	}
	defer resp.Body.Close()
	got, err := io.ReadAll(resp.Body)
	return reply{resp, string(got)}, err
}

// login goes through the two legs and returns the last answer.
func (c *rawConn) login(l login) reply {
	c.t.Helper()
	if l.scheme == "" {
		l.scheme = "NTLM"
	}
	negotiate := negotiateMessage(c.t)
	first := c.send(http.MethodGet, c.path, l.scheme+" "+base64.StdEncoding.EncodeToString(negotiate), "")
	challenge, ok := tokenOf(first, l.scheme)
	if !ok {
		return first
	}
	auth := l.answer(c.t, negotiate, challenge, c.c.ConnectionState().PeerCertificates[0])
	return c.send(http.MethodGet, c.path, l.scheme+" "+base64.StdEncoding.EncodeToString(auth), "")
}

// negotiateMessage is go-ntlmssp's, with REQUEST_TARGET set.
func negotiateMessage(t *testing.T) []byte {
	t.Helper()
	m, err := ntlmssp.NewNegotiateMessage("", "")
	if err != nil {
		t.Fatal(err)
	}
	m[12] |= 0x04
	return m
}

func tokenOf(a reply, scheme string) ([]byte, bool) {
	for _, h := range a.Header.Values("WWW-Authenticate") {
		name, token, found := strings.Cut(h, " ")
		if !found || name != scheme {
			continue
		}
		if b, err := base64.StdEncoding.DecodeString(token); err == nil {
			return b, true
		}
	}
	return nil, false
}

// answer makes the AUTHENTICATE message: go-ntlmssp's, over a challenge whose
// TargetInfo has the binding in it.
func (l login) answer(t *testing.T, negotiate, challenge []byte, cert *x509.Certificate) []byte {
	t.Helper()
	msg, err := ntlmssp.NewAuthenticateMessage(l.rewrite(challenge, cert), l.user, l.password, nil)
	if err != nil {
		t.Fatal(err)
	}
	if !l.mic && !l.breakMIC {
		return msg
	}
	return l.addMIC(msg, negotiate, challenge)
}

// rewrite puts AV pairs before the end of the challenge's TargetInfo.
func (l login) rewrite(challenge []byte, cert *x509.Certificate) []byte {
	var extra []byte
	av := func(id uint16, value []byte) {
		extra = binary.LittleEndian.AppendUint16(extra, id)
		extra = binary.LittleEndian.AppendUint16(extra, uint16(len(value)))
		extra = append(extra, value...)
	}
	switch l.binding {
	case rightBinding:
		av(0x0A, endPoint(cert))
	case wrongBinding:
		av(0x0A, bytes.Repeat([]byte{7}, 16))
	case zeroBinding:
		av(0x0A, make([]byte, 16))
	}
	if l.mic || l.breakMIC {
		av(0x06, []byte{2, 0, 0, 0})
	}
	n, at := int(binary.LittleEndian.Uint16(challenge[40:])), int(binary.LittleEndian.Uint32(challenge[44:]))
	info := append(bytes.Clone(challenge[at:at+n-4]), append(extra, 0, 0, 0, 0)...)
	out := append(bytes.Clone(challenge), info...)
	binary.LittleEndian.PutUint16(out[40:], uint16(len(info)))
	binary.LittleEndian.PutUint16(out[42:], uint16(len(info)))
	binary.LittleEndian.PutUint32(out[44:], uint32(len(challenge)))
	return out
}

// addMIC makes room for version and MIC after the 64 bytes of header.
func (l login) addMIC(msg, negotiate, challenge []byte) []byte {
	out := append(bytes.Clone(msg[:64]), make([]byte, 24)...)
	out = append(out, msg[64:]...)
	for at := 12; at <= 52; at += 8 {
		binary.LittleEndian.PutUint32(out[at+4:], binary.LittleEndian.Uint32(out[at+4:])+24)
	}
	nt := field(out, 20)
	h := md4.New()
	h.Write(wide(l.password))
	domain, user := string16(field(out, 28)), string16(field(out, 36))
	key := hmacMD5(h.Sum(nil), wide(strings.ToUpper(user)+domain))
	copy(out[72:], hmacMD5(hmacMD5(key, nt[:16]), negotiate, challenge, out))
	if l.breakMIC {
		out[80] ^= 1
	}
	return out
}

func field(b []byte, at int) []byte {
	n, o := int(binary.LittleEndian.Uint16(b[at:])), int(binary.LittleEndian.Uint32(b[at+4:]))
	return b[o : o+n]
}

func hmacMD5(key []byte, data ...[]byte) []byte {
	h := hmac.New(md5.New, key)
	for _, d := range data {
		h.Write(d)
	}
	return h.Sum(nil)
}

func wide(s string) []byte {
	var b []byte
	for _, u := range utf16.Encode([]rune(s)) {
		b = binary.LittleEndian.AppendUint16(b, u)
	}
	return b
}

func string16(b []byte) string {
	u := make([]uint16, len(b)/2)
	for i := range u {
		u[i] = binary.LittleEndian.Uint16(b[2*i:])
	}
	return string(utf16.Decode(u))
}

// endPoint is the channel binding, worked out here a second time.
func endPoint(cert *x509.Certificate) []byte {
	var hash []byte
	switch cert.SignatureAlgorithm {
	case x509.ECDSAWithSHA384, x509.SHA384WithRSA:
		sum := sha512.Sum384(cert.Raw)
		hash = sum[:]
	case x509.ECDSAWithSHA512, x509.SHA512WithRSA:
		sum := sha512.Sum512(cert.Raw)
		hash = sum[:]
	default:
		sum := sha256.Sum256(cert.Raw)
		hash = sum[:]
	}
	data := "tls-server-end-point:" + string(hash)
	b := binary.LittleEndian.AppendUint32(make([]byte, 16), uint32(len(data)))
	sum := md5.Sum(append(b, data...))
	return sum[:]
}

// readAll reads a body, or gives up after limit bytes.
func readAll(resp *http.Response, limit int64) (string, error) {
	if limit == 0 {
		b, err := io.ReadAll(resp.Body)
		return string(b), err
	}
	b, err := io.ReadAll(io.LimitReader(resp.Body, limit))
	if err == nil && int64(len(b)) == limit {
		err = errEnough
	}
	return string(b), err
}
