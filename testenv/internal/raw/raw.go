// Package raw is an NTLM client driven by hand, for tests: one TCP connection,
// nothing is retried, nothing is sent that the test does not send. It can do
// what a client must not, such as send a wrong channel binding.
package raw

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
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"unicode/utf16"

	"github.com/Azure/go-ntlmssp"
	"golang.org/x/crypto/md4" //nolint:staticcheck // NTLM's password hash
)

// Binding is what a client puts into the AV pair for the channel binding.
type Binding string

// The bindings.
const (
	None  Binding = "none"
	Right Binding = "right"
	Wrong Binding = "wrong"
	Zero  Binding = "zero"
)

// Login says how to log in.
type Login struct {
	User, Password string
	Scheme         string // NTLM unless set
	Binding        Binding
	MIC            bool
	BreakMIC       bool
}

// Conn is one TLS connection.
type Conn struct {
	*tls.Conn
	R *bufio.Reader
	// Host and Path are where requests go; Path is what a login asks for.
	Host, Path string
	// Agent is the User-Agent.
	Agent string
}

// Dial connects to the host of rawURL.
func Dial(rawURL string, roots *x509.CertPool) (*Conn, error) {
	u, err := url.Parse(rawURL)
	if err != nil {
		return nil, err
	}
	c, err := tls.Dial("tcp", u.Host, &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}) //nolint:noctx // a test's connection ends with the test
	if err != nil {
		return nil, err
	}
	return &Conn{Conn: c, R: bufio.NewReader(c), Host: u.Host, Path: "/certsrv/", Agent: "Mozilla/5.0 (raw)"}, nil
}

// Reply is an answer with its body read.
type Reply struct {
	*http.Response
	Body string
}

// maxBody is how much of an answer is read.
const maxBody = 8 << 20

// ErrTooLong is the answer's error whose body does not end.
var ErrTooLong = errors.New("the body does not end")

// Send sends one request, as text, and reads the answer.
func (c *Conn) Send(method, path, authorization, body string) (Reply, error) {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s HTTP/1.1\r\nHost: %s\r\nUser-Agent: %s\r\n", method, path, c.Host, c.Agent)
	if authorization != "" {
		fmt.Fprintf(&b, "Authorization: %s\r\n", authorization)
	}
	if method == http.MethodPost {
		fmt.Fprintf(&b, "Content-Type: application/x-www-form-urlencoded\r\nContent-Length: %d\r\n", len(body))
	}
	b.WriteString("\r\n" + body)
	if _, err := io.WriteString(c, b.String()); err != nil {
		return Reply{}, err
	}
	resp, err := http.ReadResponse(c.R, &http.Request{Method: method}) //nolint:bodyclose // see below
	if err != nil {
		return Reply{}, err
	}
	// Closing the body would read it to its end, which it may not have.
	got, err := io.ReadAll(io.LimitReader(resp.Body, maxBody))
	if err == nil && len(got) == maxBody {
		err = ErrTooLong
	}
	return Reply{resp, string(got)}, err
}

// Login goes through the two legs and returns the last answer.
func (c *Conn) Login(l Login) (Reply, error) {
	if l.Scheme == "" {
		l.Scheme = "NTLM"
	}
	negotiate, err := Negotiate()
	if err != nil {
		return Reply{}, err
	}
	first, err := c.Send(http.MethodGet, c.Path, Header(l.Scheme, negotiate), "")
	if err != nil {
		return Reply{}, err
	}
	challenge, ok := Token(first, l.Scheme)
	if !ok {
		return first, nil
	}
	auth, err := l.Answer(negotiate, challenge, c.ConnectionState().PeerCertificates[0])
	if err != nil {
		return Reply{}, err
	}
	return c.Send(http.MethodGet, c.Path, Header(l.Scheme, auth), "")
}

// Header is the value of an Authorization header.
func Header(scheme string, token []byte) string {
	return scheme + " " + base64.StdEncoding.EncodeToString(token)
}

// Negotiate is go-ntlmssp's NEGOTIATE message, with REQUEST_TARGET set.
func Negotiate() ([]byte, error) {
	m, err := ntlmssp.NewNegotiateMessage("", "")
	if err != nil {
		return nil, err
	}
	m[12] |= 0x04
	return m, nil
}

// Token is what a scheme's WWW-Authenticate line carries.
func Token(a Reply, scheme string) ([]byte, bool) {
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

// Answer makes the AUTHENTICATE message: go-ntlmssp's, over a challenge whose
// TargetInfo has the binding in it.
func (l Login) Answer(negotiate, challenge []byte, cert *x509.Certificate) ([]byte, error) {
	msg, err := ntlmssp.NewAuthenticateMessage(l.rewrite(challenge, cert), l.User, l.Password, nil)
	if err != nil || !l.MIC && !l.BreakMIC {
		return msg, err
	}
	return l.addMIC(msg, negotiate, challenge), nil
}

// rewrite puts AV pairs before the end of the challenge's TargetInfo.
func (l Login) rewrite(challenge []byte, cert *x509.Certificate) []byte {
	var extra []byte
	av := func(id uint16, value []byte) {
		extra = binary.LittleEndian.AppendUint16(extra, id)
		extra = binary.LittleEndian.AppendUint16(extra, uint16(len(value)))
		extra = append(extra, value...)
	}
	switch l.Binding {
	case Right:
		av(0x0A, endPoint(cert))
	case Wrong:
		av(0x0A, bytes.Repeat([]byte{7}, 16))
	case Zero:
		av(0x0A, make([]byte, 16))
	}
	if l.MIC || l.BreakMIC {
		av(0x06, []byte{2, 0, 0, 0})
	}
	if len(challenge) < 48 {
		return challenge
	}
	n, at := int(binary.LittleEndian.Uint16(challenge[40:])), int(binary.LittleEndian.Uint32(challenge[44:]))
	if n < 4 || at+n > len(challenge) {
		return challenge
	}
	info := append(bytes.Clone(challenge[at:at+n-4]), append(extra, 0, 0, 0, 0)...)
	out := append(bytes.Clone(challenge), info...)
	binary.LittleEndian.PutUint16(out[40:], uint16(len(info)))
	binary.LittleEndian.PutUint16(out[42:], uint16(len(info)))
	binary.LittleEndian.PutUint32(out[44:], uint32(len(challenge)))
	return out
}

// addMIC makes room for version and MIC after the 64 bytes of header.
func (l Login) addMIC(msg, negotiate, challenge []byte) []byte {
	out := append(bytes.Clone(msg[:64]), make([]byte, 24)...)
	out = append(out, msg[64:]...)
	for at := 12; at <= 52; at += 8 {
		binary.LittleEndian.PutUint32(out[at+4:], binary.LittleEndian.Uint32(out[at+4:])+24)
	}
	nt := field(out, 20)
	h := md4.New()
	h.Write(wide(l.Password))
	domain, user := string16(field(out, 28)), string16(field(out, 36))
	key := hmacMD5(h.Sum(nil), wide(strings.ToUpper(user)+domain))
	copy(out[72:], hmacMD5(hmacMD5(key, nt[:16]), negotiate, challenge, out))
	if l.BreakMIC {
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
