package conformance_test

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"html"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/smallstep/pkcs7"

	"github.com/onlineca/onlineca/testenv/conformance"
	"github.com/onlineca/onlineca/testenv/internal/raw"
)

// plain is the simplest client that passes: a connection and a login for every
// call. Its faults, each of which a real client has had, make it fail.
type plain struct {
	t conformance.Target

	englishOnly bool // recognises pages by their prose
	idIsPending bool // takes every page with a ReqID for pending
	anyKey      bool // does not compare the certificate's key
	resubmits   bool // sends a request again when something went wrong
	unbound     bool // knows no channel binding
	stubborn    bool // tries a wrong password again and again
	endlessWait bool // has no timeout
	oldestCA    bool // takes generation 0 for the newest
	anyAnswer   bool // takes a page for a chain

	mu      sync.Mutex
	refused bool
}

var errRefused = errors.New("the server refuses the credentials")

// connect dials and logs in.
func (p *plain) connect(ctx context.Context) (*raw.Conn, error) {
	p.mu.Lock()
	refused := p.refused
	p.mu.Unlock()
	if refused && !p.stubborn {
		return nil, errRefused
	}
	c, err := raw.Dial(p.t.URL, p.t.Roots)
	if err != nil {
		return nil, err
	}
	if !p.endlessWait {
		_ = c.SetDeadline(time.Now().Add(p.t.Timeout))
	}
	context.AfterFunc(ctx, func() { c.Close() })
	l := raw.Login{User: p.t.User, Password: p.t.Password, Binding: raw.Right, MIC: true}
	if p.unbound {
		l.Binding = raw.None
	}
	c.Path = "/certsrv/"
	a, err := c.Login(l)
	if err == nil && a.StatusCode == http.StatusUnauthorized && !strings.Contains(strings.Join(a.Header.Values("WWW-Authenticate"), " "), "NTLM") {
		l.Scheme = "Negotiate"
		a, err = c.Login(l)
	}
	switch {
	case err != nil:
	case a.StatusCode == http.StatusUnauthorized:
		p.mu.Lock()
		p.refused = true
		p.mu.Unlock()
		err = errRefused
	case a.StatusCode != http.StatusOK:
		err = fmt.Errorf("login: HTTP %d", a.StatusCode)
	}
	if err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}

// do makes one request on a connection of its own; one more if the server has
// forgotten who is on it.
func (p *plain) do(ctx context.Context, method, path, body string) (string, error) {
	var a raw.Reply
	for range 2 {
		c, err := p.connect(ctx)
		if err != nil {
			return "", err
		}
		a, err = c.Send(method, "/certsrv/"+path, "", body)
		c.Close()
		if err != nil {
			return "", err
		}
		if a.StatusCode != http.StatusUnauthorized {
			break
		}
	}
	if a.StatusCode != http.StatusOK {
		return "", fmt.Errorf("%s: HTTP %d", path, a.StatusCode)
	}
	return a.Body, nil
}

func (p *plain) Close() error { return nil }

func (p *plain) Login(ctx context.Context) error {
	_, err := p.do(ctx, http.MethodGet, "", "")
	return err
}

var (
	option   = regexp.MustCompile(`(?i)<Option\s+Value="([^"]+)"`)
	renewals = regexp.MustCompile(`var nRenewals=(\d+);`)
	issued   = regexp.MustCompile(`certnew\.cer\?ReqID=(\d+)&`)
	deniedID = regexp.MustCompile(`ID=locInfoReqIDandReason>\D*(\d+)`)
	waiting  = regexp.MustCompile(`ID=locInfoReqID>\D*(\d+)`)
	state    = regexp.MustCompile(`(\d+)\s*<LocID\s+ID=locDispSpacer`)
	hresult  = regexp.MustCompile(`0x[0-9a-fA-F]{8}`)
	quoted   = regexp.MustCompile(`(?s)"([^"]*)"\.\s*</P>`)
)

func (p *plain) Templates(ctx context.Context) ([]string, error) {
	page, err := p.do(ctx, http.MethodGet, "certrqxt.asp", "")
	if err != nil {
		return nil, err
	}
	if !strings.Contains(page, "name=taRequest") && !strings.Contains(page, "Name=taRequest") {
		return nil, errors.New("certrqxt.asp: not the page with the form")
	}
	var names []string
	for _, m := range option.FindAllStringSubmatch(page, -1) {
		if f := strings.Split(html.UnescapeString(m[1]), ";"); len(f) > 1 {
			names = append(names, f[1])
		}
	}
	return names, nil
}

func (p *plain) Chain(ctx context.Context) ([]*x509.Certificate, error) {
	page, err := p.do(ctx, http.MethodGet, "certcarc.asp", "")
	if err != nil {
		return nil, err
	}
	m := renewals.FindStringSubmatch(page)
	if m == nil {
		return nil, errors.New("certcarc.asp: no nRenewals")
	}
	if p.oldestCA {
		m[1] = "0"
	}
	body, err := p.do(ctx, http.MethodGet, "certnew.p7b?ReqID=CACert&Enc=bin&Renewal="+m[1], "")
	if err != nil {
		return nil, err
	}
	p7, err := pkcs7.Parse([]byte(body))
	if err != nil {
		if p.anyAnswer {
			return nil, nil
		}
		return nil, err
	}
	return sorted(p7.Certificates), nil
}

// sorted puts the certificates of a path into the order from issuer to root.
func sorted(certs []*x509.Certificate) []*x509.Certificate {
	var out []*x509.Certificate
	for _, c := range certs {
		if bytes.Equal(c.RawIssuer, c.RawSubject) {
			out = append(out, c)
		} else {
			out = append([]*x509.Certificate{c}, out...)
		}
	}
	return out
}

func (p *plain) Submit(ctx context.Context, csr []byte, template string) (conformance.Outcome, error) {
	form := url.Values{
		"Mode": {"newreq"}, "CertRequest": {base64.StdEncoding.EncodeToString(csr)},
		"CertAttrib": {"CertificateTemplate:" + template + "\r\n"}, "SaveCert": {"yes"}, "TargetStoreFlags": {"0"},
	}
	page, err := p.do(ctx, http.MethodPost, "certfnsh.asp", form.Encode())
	if err != nil && p.resubmits {
		page, err = p.do(ctx, http.MethodPost, "certfnsh.asp", form.Encode())
	}
	if err != nil {
		return conformance.Outcome{}, err
	}
	o, err := p.read(page)
	if err != nil {
		return o, err
	}
	if o.State == conformance.Denied && o.Code == 0 {
		later, err := p.Fetch(ctx, o.ReqID, csr)
		o.Code = later.Code
		return o, err
	}
	if o.State != conformance.Issued {
		return o, nil
	}
	got, err := p.Fetch(ctx, o.ReqID, csr)
	if err != nil {
		return o, err
	}
	return got, nil
}

// read finds out what a page of certfnsh.asp says.
func (p *plain) read(page string) (conformance.Outcome, error) {
	if p.englishOnly && !strings.Contains(page, "Certificate Issued") && !strings.Contains(page, "Certificate Pending") {
		return conformance.Outcome{State: conformance.Denied}, nil
	}
	number := func(re *regexp.Regexp) int {
		if m := re.FindStringSubmatch(page); m != nil {
			n, _ := strconv.Atoi(m[1])
			return n
		}
		return 0
	}
	if id := number(issued); id != 0 {
		return conformance.Outcome{State: conformance.Issued, ReqID: id}, nil
	}
	if id := number(deniedID); id != 0 && !strings.Contains(page, "ID=locIssRev>") {
		if p.idIsPending {
			return conformance.Outcome{State: conformance.Pending, ReqID: id}, nil
		}
		o := conformance.Outcome{State: conformance.Denied, ReqID: id, Code: code(page)}
		if m := quoted.FindStringSubmatch(page); m != nil {
			o.Message = html.UnescapeString(m[1])
		}
		return o, nil
	}
	if id := number(waiting); id != 0 {
		return conformance.Outcome{State: conformance.Pending, ReqID: id}, nil
	}
	return conformance.Outcome{}, errors.New("certfnsh.asp: the page says neither issued nor pending nor denied")
}

func code(page string) uint32 {
	n, _ := strconv.ParseUint(hresult.FindString(page), 0, 32)
	return uint32(n)
}

func (p *plain) Fetch(ctx context.Context, id int, csr []byte) (conformance.Outcome, error) {
	body, err := p.do(ctx, http.MethodGet, fmt.Sprintf("certnew.cer?ReqID=%d&Enc=b64", id), "")
	if err != nil {
		return conformance.Outcome{}, err
	}
	o := conformance.Outcome{ReqID: id}
	if block, _ := pem.Decode([]byte(body)); block != nil {
		return p.checked(o, block.Bytes, csr)
	}
	switch m := state.FindStringSubmatch(body); {
	case m != nil && m[1] == "5":
		o.State = conformance.Pending
		return o, nil
	case m != nil && m[1] == "2":
		o.State = conformance.Denied
		// The first number on the page is the result's, 0x0; the code is in
		// LastStatus.
		o.Code = code(body)
		return o, nil
	}
	return o, errors.New("certnew.cer: no certificate and no disposition")
}

// checked reads a certificate, which must be for the request's key.
func (p *plain) checked(o conformance.Outcome, der, csr []byte) (conformance.Outcome, error) {
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return o, err
	}
	request, err := x509.ParseCertificateRequest(csr)
	if err != nil {
		return o, err
	}
	if !p.anyKey && !bytes.Equal(request.RawSubjectPublicKeyInfo, cert.RawSubjectPublicKeyInfo) {
		return o, errors.New("the certificate is for another key")
	}
	o.State, o.Certificate = conformance.Issued, cert
	return o, nil
}
