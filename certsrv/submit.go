package certsrv

import (
	"context"
	"crypto"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"strings"

	"github.com/onlineca/onlineca/ra"
	"github.com/onlineca/onlineca/ra/event"
	"github.com/onlineca/onlineca/ra/fault"
)

// Submission is what certfnsh.asp answered to a request that was not refused.
type Submission struct {
	// State is ra.Issued or ra.Pending.
	State ra.State
	// ReqID is the request's number at the CA.
	ReqID int
}

// Enroll submits r and fetches the certificate. It costs two requests.
//
// A denial is a Fault with the request's number, the CA's message and its
// HRESULT. A certificate that has been issued but could not be fetched is a
// Fault with the request's number: see [Client.Fetch].
func (c *Client) Enroll(ctx context.Context, r ra.Request) (ra.Result, error) {
	s, err := c.Submit(ctx, r)
	if err != nil {
		return ra.Result{}, err
	}
	if s.State == ra.Pending {
		return ra.Result{State: ra.Pending, ReqID: s.ReqID, RetryAfter: c.cfg.RetryAfter}, nil
	}
	res, err := c.Fetch(ctx, s.ReqID, r.CSR)
	if errors.Is(err, fault.ConnectionLost) {
		// The certificate exists, and to ask for it twice does no harm.
		res, err = c.Fetch(ctx, s.ReqID, r.CSR)
	}
	return res, err
}

// Submit sends r to the CA, once.
func (c *Client) Submit(ctx context.Context, r ra.Request) (Submission, error) {
	k := c.at(call{
		step: event.StepSubmit, op: "submit the request to", timeout: c.cfg.Timeouts.Submit, late: fault.EnrollTimeout,
	}, "/certfnsh.asp")
	form, err := c.form(r)
	if err != nil {
		return Submission{}, &fault.Fault{Code: fault.Of(err).Code, Op: "certsrv: prepare the request", Err: err, Unsent: true}
	}
	k.form = form
	var s Submission
	err = c.exchange(ctx, c.own, k, func(body []byte) error {
		if c.cfg.EnglishOnly {
			if err := k.englishOnly(body); err != nil {
				return err
			}
		}
		s, err = k.submission(body)
		return err
	})
	if f := fault.Of(err); err != nil && f.Code == fault.DeniedByPolicy && f.HRESULT == 0 && f.ReqID != 0 {
		return Submission{}, c.explain(ctx, f)
	}
	return s, err
}

// submission reads the answer of certfnsh.asp.
func (k call) submission(body []byte) (Submission, error) {
	switch o := parseOutcome(body); o.Kind {
	case issued:
		return Submission{State: ra.Issued, ReqID: o.ReqID}, nil
	case pending:
		return Submission{State: ra.Pending, ReqID: o.ReqID}, nil
	case unreadable, unavailable: // some page, but not this one
		o.Kind = unreadable
		f := k.refused(o)
		f.Err = fmt.Errorf("what became of the request cannot be seen from it: %w", fault.OutcomeUnknown)
		return Submission{}, f
	default:
		return Submission{}, k.refused(o)
	}
}

// explain looks up why a request was denied whose page did not say: the status
// stands on the page that certnew.cer shows for it. If that cannot be had, f
// is as good as it gets.
func (c *Client) explain(ctx context.Context, f *fault.Fault) error {
	k := c.fetchCall(f.ReqID)
	k.op = "look up why the request was denied at"
	var o outcome
	err := c.exchange(ctx, c.own, k, func(body []byte) error {
		o = parseOutcome(body)
		return nil
	})
	if err != nil || o.HRESULT == 0 {
		return f
	}
	o.Kind, o.ReqID = denied, f.ReqID
	full := k.refused(o)
	full.Op, full.Message = f.Op, f.Message
	return full
}

// Fetch asks what became of request id. The certificate must carry csr's key.
//
// The result is pending or issued; denied, revoked and unknown requests are
// Faults. Fetch is also how to poll a pending request.
func (c *Client) Fetch(ctx context.Context, id int, csr *x509.CertificateRequest) (ra.Result, error) {
	if csr == nil || id <= 0 {
		return ra.Result{}, fault.Newf(fault.Internal, "certsrv: fetch a certificate", "request %d, and a CSR to compare with: both are needed", id)
	}
	k := c.fetchCall(id)
	res := ra.Result{ReqID: id}
	err := c.exchange(ctx, c.own, k, func(body []byte) error {
		cert, err := parseCertificate(body)
		if err != nil {
			return k.notACertificate(body, err, &res, c)
		}
		if !sameKey(cert, csr) {
			return &fault.Fault{
				Code: fault.WrongKeyCertificate, Op: "certsrv: " + k.op + " " + k.url, ReqID: id,
				Err: fmt.Errorf("it is for %q, serial number %x, and the request for %q", cert.Subject, cert.SerialNumber, csr.Subject),
			}
		}
		res.State, res.Certificate = ra.Issued, cert
		return nil
	})
	if err != nil {
		return ra.Result{}, err
	}
	return res, nil
}

// fetchCall asks for a certificate. ENC is spelt as in the product's requests
// (the vendor's extract of an IIS log); ASP does not tell the cases of a name
// apart.
func (c *Client) fetchCall(id int) call {
	return c.at(call{
		step: event.StepFetch, op: "fetch the certificate from", timeout: c.cfg.Timeouts.Fetch, late: fault.FetchTimeout, reqID: id,
	}, "/certnew.cer?ReqID="+strconv.Itoa(id)+"&ENC=b64")
}

// notACertificate judges an answer of certnew.cer that is none.
func (k call) notACertificate(body []byte, cause error, res *ra.Result, c *Client) error {
	o := parseOutcome(body)
	switch o.Kind {
	case pending:
		res.State, res.RetryAfter, res.Message = ra.Pending, c.cfg.RetryAfter, o.Message
		return nil
	case denied, revoked, failed:
		o.ReqID = k.reqID
		return k.refused(o)
	default:
		return &fault.Fault{Code: fault.CertificateUnreadable, Op: "certsrv: " + k.op + " " + k.url, ReqID: k.reqID, Err: cause}
	}
}

// parseCertificate reads what certnew.cer delivers, going by the body: the
// content type depends on the User-Agent.
func parseCertificate(body []byte) (*x509.Certificate, error) {
	der := body
	if block, _ := pem.Decode(body); block != nil {
		der = block.Bytes
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("it begins %q: %w", snippet(body[:min(len(body), 60)]), err)
	}
	return cert, nil
}

// sameKey says whether cert carries the key of csr.
func sameKey(cert *x509.Certificate, csr *x509.CertificateRequest) bool {
	key, ok := cert.PublicKey.(interface{ Equal(crypto.PublicKey) bool })
	if !ok || csr.PublicKey == nil {
		return len(csr.RawSubjectPublicKeyInfo) > 0 && string(cert.RawSubjectPublicKeyInfo) == string(csr.RawSubjectPublicKeyInfo)
	}
	return key.Equal(csr.PublicKey)
}

// form is the body of the POST to certfnsh.asp.
func (c *Client) form(r ra.Request) (url.Values, error) {
	if r.CSR == nil || len(r.CSR.Raw) == 0 {
		return nil, fmt.Errorf("%w: there is none", fault.MalformedCSR)
	}
	attributes, err := c.attributes(r)
	if err != nil {
		return nil, err
	}
	return url.Values{
		"Mode":             {"newreq"},
		"CertRequest":      {string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: r.CSR.Raw}))},
		"CertAttrib":       {attributes},
		"FriendlyType":     {"Saved-Request Certificate"},
		"TargetStoreFlags": {"0"},
		"SaveCert":         {"yes"},
		"ThumbPrint":       {""},
	}, nil
}

// attributes are the request attributes, name:value lines (CertAttrib).
func (c *Client) attributes(r ra.Request) (string, error) {
	var b strings.Builder
	template := r.Template
	if template == "" {
		template = c.defaultTemplate()
	}
	line := func(name, value string) error {
		if err := attributeSafe(value); err != nil {
			return fmt.Errorf("%w: %s: %w", fault.RequestRefused, name, err)
		}
		b.WriteString(name + ":" + value + "\r\n")
		return nil
	}
	if template != "" {
		if err := line("CertificateTemplate", template); err != nil {
			return "", err
		}
	}
	if len(c.cfg.SAN) > 0 {
		cn := r.CSR.Subject.CommonName
		if strings.ContainsAny(cn, "&=") { // would begin another name
			return "", fmt.Errorf("%w: SAN: the common name %q holds a character that separates names", fault.RequestRefused, cn)
		}
		if err := line("SAN", strings.ReplaceAll(strings.Join(c.cfg.SAN, "&"), "{cn}", cn)); err != nil {
			return "", err
		}
	}
	if c.cfg.Marker != "" {
		if err := line("OnlineCA", c.cfg.Marker+" "+KeyID(r.CSR)); err != nil {
			return "", err
		}
	}
	return b.String(), nil
}

// KeyID is what the marker attribute carries of a request's key: the first 16
// hexadecimal digits of the SHA-256 of its SubjectPublicKeyInfo, which
// openssl req -pubkey -noout | openssl pkey -pubin -outform DER | sha256sum
// shows.
func KeyID(csr *x509.CertificateRequest) string {
	sum := sha256.Sum256(csr.RawSubjectPublicKeyInfo)
	return hex.EncodeToString(sum[:8])
}

// attributeSafe refuses what would begin another attribute.
func attributeSafe(s string) error {
	for _, r := range s {
		if r < ' ' || r == 0x7f || r == 0x85 || r == 0x2028 || r == 0x2029 {
			return fmt.Errorf("%q holds a control character", s)
		}
	}
	return nil
}
