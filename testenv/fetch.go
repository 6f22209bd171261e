package testenv

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"net/http"
	"strconv"
	"strings"

	"github.com/smallstep/pkcs7"

	"github.com/onlineca/onlineca/testenv/internal/page"
)

// fetchCertificate is certnew.cer: a certificate, or a page that says why not.
func (s *Certsrv) fetchCertificate(x *exchange) answer {
	cert, _, failed := s.wanted(x)
	if failed != nil {
		return *failed
	}
	if x.fault != nil && x.fault.kind.certificate != nil {
		der, err := x.fault.kind.certificate(x, cert)
		if err != nil {
			return serverError()
		}
		return s.file(x, "application/pkix-cert", der)
	}
	return s.file(x, "application/pkix-cert", cert.Raw)
}

// fetchChain is certnew.p7b: the certificates without signatures or content.
func (s *Certsrv) fetchChain(x *exchange) answer {
	cert, chain, failed := s.wanted(x)
	if failed != nil {
		return *failed
	}
	if cert != chain[0] {
		chain = append([]*x509.Certificate{cert}, chain...)
	}
	if x.fault != nil && x.fault.kind.chain != nil {
		changed, err := x.fault.kind.chain(x, chain)
		if err != nil {
			return serverError()
		}
		chain = changed
	}
	// The order in a PKCS#7 means nothing; Windows' is not the issuer's order.
	var der []byte
	for i := len(chain) - 1; i >= 0; i-- {
		der = append(der, chain[i].Raw...)
	}
	p7b, err := pkcs7.DegenerateCertificate(der)
	if err != nil {
		return serverError()
	}
	return s.file(x, "application/x-pkcs7-certificates", p7b)
}

// wanted finds what ReqID asks for: the certificate and the chain from its
// issuer to the root. For CACert the certificate is the chain's first.
func (s *Certsrv) wanted(x *exchange) (*x509.Certificate, []*x509.Certificate, *answer) {
	fail := func(a answer) (*x509.Certificate, []*x509.Certificate, *answer) { return nil, nil, &a }
	if x.caDown != resultOK {
		return fail(s.caUnreachable(x, true))
	}
	if x.step == StepChain {
		_, chain, ok := s.generation(x)
		if !ok {
			return fail(s.badRenewal(x))
		}
		return chain[0], chain, nil
	}
	id, _ := strconv.Atoi(x.form.Get("reqid"))
	r, ok := s.ca.find(id)
	if !ok {
		return fail(s.noSuchRequest(x))
	}
	x.reqID = id
	if r.Certificate == nil {
		return fail(s.notIssued(x, r))
	}
	return r.Certificate, s.ca.hierarchy().chainOf(r.Certificate), nil
}

// generation reads Renewal; without one, the newest is meant. ok is false for a
// renewal that has not happened.
func (s *Certsrv) generation(x *exchange) (n int, chain []*x509.Certificate, ok bool) {
	pki := s.ca.hierarchy()
	n = pki.renewals()
	if v := x.form.Get("renewal"); v != "" {
		var err error
		if n, err = strconv.Atoi(v); err != nil {
			return 0, nil, false
		}
	}
	chain = pki.Chain(n)
	return n, chain, chain != nil
}

func (s *Certsrv) badRenewal(x *exchange) answer {
	return s.html(x, s.site.Error(page.Failure{
		Fetch: true, Result: page.InvalidParameter, LastStatus: page.InvalidParameter,
		COM: "CCertRequest::GetCAProperty: " + s.site.Text(page.InvalidParameter),
	}))
}

// notIssued is the page for a request that has no certificate (yet).
func (s *Certsrv) notIssued(x *exchange, r CARequest) answer {
	return s.html(x, s.site.Error(page.Failure{
		Fetch: true, Quiet: true, Disposition: int(r.Disposition),
		Message: strings.TrimSpace(s.message(r)), LastStatus: page.Status(r.Code),
	}))
}

// fetchCRL is certcrl.crl.
func (s *Certsrv) fetchCRL(x *exchange) answer {
	if x.caDown != resultOK {
		return s.caUnreachable(x, true)
	}
	n, _, ok := s.generation(x)
	if !ok {
		return s.badRenewal(x)
	}
	der, err := s.ca.revocationList(n)
	if err != nil {
		return serverError()
	}
	if strings.EqualFold(x.form.Get("enc"), "bin") {
		return s.typed(x, "application/pkix-crl", der)
	}
	return s.typed(x, "application/pkix-crl", armour("X509 CRL", der))
}

// file sends a certificate or a PKCS#7: DER if Enc=bin, and otherwise PEM whose
// label says CERTIFICATE for either.
func (s *Certsrv) file(x *exchange, contentType string, der []byte) answer {
	if strings.EqualFold(x.form.Get("enc"), "bin") {
		return s.typed(x, contentType, der)
	}
	return s.typed(x, contentType, armour("CERTIFICATE", der))
}

// typed sends a file to browsers with its content type, and to programs that
// the pages do not know as text/html.
func (s *Certsrv) typed(x *exchange, contentType string, body []byte) answer {
	a := s.html(x, body)
	a.status = http.StatusOK
	if x.class != page.Unknown {
		a.header.Set("Content-Type", contentType)
	}
	return a
}

// armour is PEM with CR LF.
func armour(label string, der []byte) []byte {
	return bytes.ReplaceAll(pem.EncodeToMemory(&pem.Block{Type: label, Bytes: der}), []byte("\n"), []byte("\r\n"))
}
