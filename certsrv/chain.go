package certsrv

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/smallstep/pkcs7"

	"github.com/onlineca/onlineca/ra/event"
	"github.com/onlineca/onlineca/ra/fault"
)

// maxChain limits how many certificates are looked at, and maxPKCS7 how many
// bytes: far more than a CA has on its way to a root. The PKCS#7 parser takes a
// time that grows with the square of the depth of its input.
const (
	maxChain = 64
	maxPKCS7 = 64 << 10
)

// chain is a chain and when it was fetched.
type chain struct {
	certs []*x509.Certificate
	at    time.Time
}

// Start logs in and fetches the CA's chain, as the product does when it
// starts. Its error names the cause; the events tell it in the product's
// words. The next CACerts, if it comes within a minute, returns the same chain
// without asking again.
func (c *Client) Start(ctx context.Context) error {
	certs, err := c.start(ctx)
	if err != nil {
		e := event.ChainUnavailable{}
		if f := fault.Of(err); f != nil {
			e.Curl = f.Code.Row().Curl
		}
		event.Emit(ctx, c.cfg.Logger, e)
		return err
	}
	event.Emit(ctx, c.cfg.Logger, event.ChainRetrieved{Certificates: len(certs)})
	c.mu.Lock()
	c.fresh = chain{certs, c.cfg.Now()}
	c.mu.Unlock()
	return nil
}

func (c *Client) start(ctx context.Context) ([]*x509.Certificate, error) {
	if err := c.Login(ctx); err != nil {
		return nil, err
	}
	return c.fetchChain(ctx)
}

// CACerts returns the CA's certificates for its newest key: the issuing CA
// first, the root last.
func (c *Client) CACerts(ctx context.Context) ([]*x509.Certificate, error) {
	c.mu.Lock()
	fresh := c.fresh
	c.fresh = chain{}
	c.mu.Unlock()
	if fresh.certs != nil && c.cfg.Now().Sub(fresh.at) < time.Minute {
		return fresh.certs, nil
	}
	return c.fetchChain(ctx)
}

// chainCall is the pattern of the exchanges that are about the CA's certificates.
func (c *Client) chainCall() call {
	return call{step: event.StepChain, timeout: c.cfg.Timeouts.Page, late: fault.ChainTimeout}
}

// renewals asks how often the CA's certificate has been renewed: the newest has
// that number, the oldest 0.
func (c *Client) renewals(ctx context.Context) (n int, err error) {
	ask := c.at(c.chainCall(), "/certcarc.asp")
	ask.op, ask.quiet = "find the newest CA certificate at", true
	err = c.exchange(ctx, c.own, ask, func(body []byte) error {
		var ok bool
		if n, ok = parseRenewals(body); !ok {
			return ask.refused(parseOutcome(body))
		}
		return nil
	})
	return n, err
}

// FirstCACert returns the oldest of the CA's certificates that certsrv has, as a
// rule the one that the CA was installed with (Renewal=0). Renewing a CA, with
// the same key or a new one, adds to its certificates and keeps its database;
// installing it anew begins both again. So the key of this certificate tells a CA
// from its successor of the same name.
func (c *Client) FirstCACert(ctx context.Context) (*x509.Certificate, error) {
	first, err := c.caCert(ctx, 0)
	var no *Refusal
	if err == nil || !errors.As(err, &no) {
		return first, err
	}
	last, lastErr := c.renewals(ctx)
	if lastErr != nil {
		return nil, lastErr
	}
	for n := 1; n <= min(last, maxChain); n++ {
		if cert, err := c.caCert(ctx, n); err == nil || !errors.As(err, &no) {
			return cert, err
		}
	}
	return nil, err
}

// caCert fetches one of the CA's certificates.
func (c *Client) caCert(ctx context.Context, renewal int) (cert *x509.Certificate, err error) {
	get := c.at(c.chainCall(), "/certnew.cer?ReqID=CACert&Renewal="+strconv.Itoa(renewal)+"&Enc=b64")
	get.op, get.quiet = "fetch a CA certificate from", true
	err = c.exchange(ctx, c.own, get, func(body []byte) error {
		if cert, err = parseCertificate(body); err == nil {
			return nil
		}
		if o := parseOutcome(body); o.Kind == failed || o.Kind == unavailable {
			return get.refused(o)
		}
		return fault.New(fault.ChainUnreadable, "certsrv: "+get.op+" "+get.url, err)
	})
	return cert, err
}

func (c *Client) fetchChain(ctx context.Context) (certs []*x509.Certificate, err error) {
	renewal, err := c.renewals(ctx)
	if err != nil {
		return nil, err
	}
	get := c.at(c.chainCall(), "/certnew.p7b?ReqID=CACert&Renewal="+strconv.Itoa(renewal)+"&Enc=bin")
	get.op = "fetch the CA's chain from"
	err = c.exchange(ctx, c.own, get, func(body []byte) error {
		certs, err = parseChain(body)
		if err == nil {
			return nil
		}
		if o := parseOutcome(body); o.Kind == failed || o.Kind == unavailable {
			return get.refused(o)
		}
		return fault.New(fault.ChainUnreadable, "certsrv: "+get.op+" "+get.url, err)
	})
	return certs, err
}

// parseChain reads what certnew.p7b delivers and puts it in order.
func parseChain(body []byte) ([]*x509.Certificate, error) {
	certs, err := parsePKCS7(body)
	if err != nil {
		return nil, err
	}
	return sortChain(certs)
}

// parsePKCS7 reads a PKCS#7 in DER or in PEM, whatever the armour says: with
// Enc=b64 certsrv writes BEGIN CERTIFICATE around it.
func parsePKCS7(b []byte) (certs []*x509.Certificate, err error) {
	defer func() {
		if r := recover(); r != nil { // the bytes come from the network
			certs, err = nil, fmt.Errorf("the PKCS#7 cannot be read: %v", r)
		}
	}()
	if block, _ := pem.Decode(b); block != nil {
		b = block.Bytes
	}
	if len(b) > maxPKCS7 {
		return nil, fmt.Errorf("%d bytes are more than a chain has", len(b))
	}
	p, err := pkcs7.Parse(b)
	if err != nil {
		return nil, fmt.Errorf("no PKCS#7: %w; it begins %q", err, snippet(b[:min(len(b), 40)]))
	}
	switch n := len(p.Certificates); {
	case n == 0:
		return nil, errors.New("the PKCS#7 holds no certificate")
	case n > maxChain:
		return nil, fmt.Errorf("the PKCS#7 holds %d certificates, which is more than a chain has", n)
	}
	return p.Certificates, nil
}

// sortChain finds the chain among certs: the newest certificate that has
// issued none of the others, its issuer, and so on up to a root. certsrv
// guarantees no order, and may send what does not belong to the chain.
func sortChain(certs []*x509.Certificate) ([]*x509.Certificate, error) {
	var leaf *x509.Certificate
	for _, c := range certs {
		if isParent(c, certs) || leaf != nil && !c.NotBefore.After(leaf.NotBefore) {
			continue
		}
		leaf = c
	}
	if leaf == nil {
		return nil, errors.New("among the certificates none is the last of a chain")
	}
	out := []*x509.Certificate{leaf}
	for !isSelfSigned(out[len(out)-1]) {
		last := out[len(out)-1]
		next := issuerOf(last, certs, out)
		if next == nil {
			return nil, fmt.Errorf("the chain ends at %q, whose issuer %q is not in it", last.Subject, last.Issuer)
		}
		out = append(out, next)
	}
	return out, nil
}

// isParent says whether c has issued one of certs other than itself.
func isParent(c *x509.Certificate, certs []*x509.Certificate) bool {
	for _, other := range certs {
		if !other.Equal(c) && !isSelfSigned(other) && issued1(c, other) {
			return true
		}
	}
	return false
}

// issuerOf returns the newest of certs that has issued c and is not in out.
func issuerOf(c *x509.Certificate, certs, out []*x509.Certificate) *x509.Certificate {
	var best *x509.Certificate
	for _, p := range certs {
		if !issued1(p, c) || contains(out, p) || best != nil && !p.NotBefore.After(best.NotBefore) {
			continue
		}
		best = p
	}
	return best
}

func contains(certs []*x509.Certificate, c *x509.Certificate) bool {
	for _, other := range certs {
		if other.Equal(c) {
			return true
		}
	}
	return false
}

// issued1 says whether parent has issued child: names, key identifiers if both
// are there, and the signature, unless its algorithm is one (SHA-1) that Go no
// longer verifies.
func issued1(parent, child *x509.Certificate) bool {
	if !bytes.Equal(parent.RawSubject, child.RawIssuer) {
		return false
	}
	if len(child.AuthorityKeyId) > 0 && len(parent.SubjectKeyId) > 0 && !bytes.Equal(child.AuthorityKeyId, parent.SubjectKeyId) {
		return false
	}
	err := parent.CheckSignature(child.SignatureAlgorithm, child.RawTBSCertificate, child.Signature)
	var insecure x509.InsecureAlgorithmError
	return err == nil || errors.As(err, &insecure)
}
