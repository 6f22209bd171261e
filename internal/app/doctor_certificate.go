package app

import (
	"bytes"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/onlineca/onlineca/internal/chain"
	"github.com/onlineca/onlineca/ra/fault"
)

// checkServerChain says where the certificate of IIS comes from, whatever the
// time: validity is another step.
func (c *checkup) checkServerChain(_ context.Context, st *DoctorStep) {
	if len(c.certs) == 0 {
		st.skip("because there is no TLS connection")
		return
	}
	for i, cert := range c.certs[:min(len(c.certs), maxShown)] {
		st.Certificates = append(st.Certificates, describeCertificate(i+1, cert))
	}
	if !c.trust {
		st.skip("because the trusted certificates (certsrv.tls.ca) could not be read")
		return
	}
	leaf := c.certs[0]
	err := c.verify(time.Now())
	if expired(err) != nil {
		err = c.verify(c.goodTime())
	}
	switch {
	case err == nil || expired(err) != nil:
		st.say("%s, %s", certificates(len(c.certs)), c.trustedBy())
	default:
		c.explainChain(st, err)
	}
	if err == nil && selfIssued(leaf) {
		p := st.warn(fault.SelfSigned, "the certificate of %q is self-signed, and trusted because certsrv.tls.ca names it", chain.IssuedTo(leaf))
		p.Cause = "This program accepts it. Unified CM does not, even when it is in CAPF-trust."
	}
	c.noteOrder(st)
	if leaf.KeyUsage != 0 && leaf.KeyUsage&x509.KeyUsageDigitalSignature == 0 {
		p := st.warn(fault.Unknown, "the key usage of %q lacks digitalSignature", chain.IssuedTo(leaf))
		p.Cause = "TLS 1.3, and TLS 1.2 with ECDHE, sign with the server's key; a strict client refuses this certificate."
		p.Fix = "Give IIS a certificate with digitalSignature and keyEncipherment, as the template Web Server makes."
	}
}

// verify is what the client does with the certificate but for the name.
func (c *checkup) verify(at time.Time) error {
	inter := x509.NewCertPool()
	for _, cert := range c.certs[1:] {
		inter.AddCert(cert)
	}
	o := x509.VerifyOptions{Intermediates: inter, CurrentTime: at}
	if c.files.roots != nil {
		o.Roots = pool(c.files.roots)
	}
	_, err := c.certs[0].Verify(o)
	return err
}

// expired returns the certificate whose validity err is about.
func expired(err error) *x509.Certificate {
	var ie x509.CertificateInvalidError
	if errors.As(err, &ie) && ie.Reason == x509.Expired {
		return ie.Cert
	}
	return nil
}

// goodTime is the time next to now at which everything that was sent is valid,
// or at least the server's own certificate.
func (c *checkup) goodTime() time.Time {
	from, to := c.certs[0].NotBefore, c.certs[0].NotAfter
	for _, cert := range c.certs[1:] {
		if cert.NotBefore.After(from) && cert.NotBefore.Before(to) {
			from = cert.NotBefore
		}
		if cert.NotAfter.Before(to) && cert.NotAfter.After(from) {
			to = cert.NotAfter
		}
	}
	switch now := time.Now(); {
	case now.Before(from):
		return from
	case now.After(to):
		return to
	default:
		return now
	}
}

func certificates(n int) string {
	if n == 1 {
		return "1 certificate"
	}
	return fmt.Sprintf("%d certificates", n)
}

func (c *checkup) trustedBy() string {
	if c.files.roots == nil {
		return "trusted by this system"
	}
	return "trusted by certsrv.tls.ca"
}

// explainChain says why the chain leads to nothing that is trusted.
func (c *checkup) explainChain(st *DoctorStep, err error) {
	leaf := c.certs[0]
	var ie x509.CertificateInvalidError
	switch {
	case selfIssued(leaf):
		st.fail(fault.SelfSigned, "subject and issuer are both %s", chain.Distinguished(leaf.RawSubject))
		return
	case errors.As(err, &ie) && ie.Reason == x509.IncompatibleUsage:
		p := st.fail(fault.UntrustedChain, "the certificate of %q is not for a web server; it is for: %s", chain.IssuedTo(leaf), strings.Join(chain.Usages(leaf), ", "))
		p.Cause = "Its extended key usage, or that of a CA above it, does not list serverAuth."
		p.Fix = "Give the HTTPS binding of IIS a certificate with serverAuth, as the template Web Server makes."
		return
	}
	top, at := c.top()
	switch {
	case selfIssued(top):
		st.fail(fault.UntrustedChain, "the chain leads to %s, which is not among the trusted certificates", chain.Distinguished(top.RawSubject))
	case c.namesake(top) != nil:
		st.fail(fault.UntrustedChain, "the trusted certificate of %q (until %s) has not signed number %d, %q: it is another CA of that name, or an earlier key of it",
			chain.IssuedBy(top), day(c.namesake(top).NotAfter), at, chain.IssuedTo(top))
	case errors.As(err, new(x509.UnknownAuthorityError)):
		p := st.fail(fault.UntrustedChain, "the certificate of %s is missing: it issued number %d, %q, and is neither sent by the server nor trusted",
			chain.Distinguished(top.RawIssuer), at, chain.IssuedTo(top))
		if len(top.IssuingCertificateURL) > 0 {
			p.Fix += " Number " + fmt.Sprint(at) + " says where it is to be had: " + strings.Join(top.IssuingCertificateURL, ", ")
		}
	default:
		p := st.fail(fault.UntrustedChain, "%s", err)
		p.Cause = "The chain is there, but a certificate in it may not be used so."
	}
	if c.files.roots == nil {
		st.Problems[0].Fix += " Without certsrv.tls.ca the roots of this system are trusted."
	}
}

// top follows the issuers among what was sent and returns the last certificate
// and its place, from 1.
func (c *checkup) top() (*x509.Certificate, int) {
	tip, at := c.certs[0], 1
	for range c.certs {
		next := slices.IndexFunc(c.certs, func(p *x509.Certificate) bool {
			return p != tip && bytes.Equal(p.RawSubject, tip.RawIssuer) && signed(p, tip)
		})
		if next < 0 || selfIssued(tip) {
			break
		}
		tip, at = c.certs[next], next+1
	}
	return tip, at
}

// namesake returns a trusted certificate that bears the issuer's name but has
// not issued cert.
func (c *checkup) namesake(cert *x509.Certificate) *x509.Certificate {
	for _, r := range c.files.roots {
		if bytes.Equal(r.RawSubject, cert.RawIssuer) && !signed(r, cert) {
			return r
		}
	}
	return nil
}

func signed(parent, child *x509.Certificate) bool {
	return parent.CheckSignature(child.SignatureAlgorithm, child.RawTBSCertificate, child.Signature) == nil
}

func selfIssued(c *x509.Certificate) bool { return bytes.Equal(c.RawSubject, c.RawIssuer) }

// noteOrder says what is odd about what was sent.
func (c *checkup) noteOrder(st *DoctorStep) {
	for i := 1; i < len(c.certs); i++ {
		if !bytes.Equal(c.certs[i].RawSubject, c.certs[i-1].RawIssuer) {
			st.note("number %d, %q, has not issued number %d: the order is wrong, or it does not belong here", i+1, chain.IssuedTo(c.certs[i]), i)
		}
	}
	top, at := c.top()
	if st.Status != DoctorFail && !selfIssued(top) && !c.trustsRootOf(top) {
		st.note("the server does not send %q, which issued number %d; it is trusted here all the same", chain.IssuedBy(top), at)
	}
}

// trustsRootOf says whether the issuer of cert is a root, which a server need
// not send. Of the system's roots that is not known, and taken for granted.
func (c *checkup) trustsRootOf(cert *x509.Certificate) bool {
	return c.files.roots == nil || slices.ContainsFunc(c.files.roots, func(r *x509.Certificate) bool {
		return selfIssued(r) && bytes.Equal(r.RawSubject, cert.RawIssuer)
	})
}

// checkHostName compares the certificate's names with the host's.
func (c *checkup) checkHostName(_ context.Context, st *DoctorStep) {
	if len(c.certs) == 0 {
		st.skip("because there is no TLS connection")
		return
	}
	leaf := c.certs[0]
	if leaf.VerifyHostname(c.host) == nil {
		st.say("%s is among the certificate's names", c.host)
		return
	}
	names := printableAll(chain.AltNames(leaf))
	hasSAN := len(names)+len(leaf.EmailAddresses)+len(leaf.URIs) > 0
	switch {
	case hasSAN:
		st.fail(fault.NameMismatch, "%s is not among %s", c.host, strings.Join(names, ", "))
	case !strings.EqualFold(leaf.Subject.CommonName, c.host):
		st.fail(fault.NameMismatch, "the certificate has no alternative names, and its common name is %q, not %s", leaf.Subject.CommonName, c.host)
	case c.settings.Certsrv.TLS.MatchCommonName:
		p := st.warn(fault.Unknown, "%s is the common name only; accepted because of certsrv.tls.match_common_name", c.host)
		p.Cause = "The certificate has no subject alternative names."
		p.Fix = "Give IIS a certificate with a DNS name when it is renewed."
	default:
		p := st.fail(fault.NameMismatch, "%s is the certificate's common name, but it has no subject alternative names", c.host)
		p.Cause = "curl, and so Unified CM, accepts a host's name as the common name alone; this program does so only when told to."
		p.Fix = "Give IIS a certificate with a DNS name; until then, set certsrv.tls.match_common_name: true."
	}
}

// How far clocks may be apart, and how near an expiry is worth a warning.
// Kerberos allows five minutes (RFC 4120 section 1.6), and Windows the same.
const (
	maxSkew    = 5 * time.Minute
	soonServer = 30 * 24 * time.Hour
	soonCA     = 180 * 24 * time.Hour
)

// checkClock compares this machine's clock with the certificates' validity and
// with the clock of the server.
func (c *checkup) checkClock(ctx context.Context, st *DoctorStep) {
	if len(c.certs) == 0 {
		st.skip("because there is no TLS connection")
		return
	}
	start := time.Now()
	g := c.greet(ctx)
	st.took, st.timed = max(0, time.Since(start)-g.took), true
	skew, known := g.skew()
	if known {
		st.say("the server's clock %s", skewWords(skew))
	}
	c.checkValidity(st, skew, known)
	switch {
	case !known:
		st.note("the server's clock is not known: %s", g.noDate())
	case skew.Abs() > maxSkew:
		p := st.warn(fault.Unknown, "the server's clock %s", skewWords(skew))
		p.Cause = "Kerberos refuses logins more than five minutes apart, NTLM those that are much more; certificates that have just been issued may not be valid yet."
		p.Fix = "Have both machines follow the same time source (NTP)."
	}
	if st.Summary == "" {
		st.say("within the validity of the certificates")
	}
}

// checkValidity says which certificate is out of its time.
func (c *checkup) checkValidity(st *DoctorStep, skew time.Duration, known bool) {
	now := time.Now()
	bad := append([]*x509.Certificate{}, c.certs...)
	if c.trust {
		if cert := expired(c.verify(now)); cert != nil && !slices.ContainsFunc(bad, cert.Equal) {
			bad = append(bad, cert) // a trusted one
		}
	}
	for i, cert := range bad {
		code, what := fault.Expired, "expired on "+stamp(cert.NotAfter)
		switch {
		case now.Before(cert.NotBefore):
			code, what = fault.NotYetValid, "is not valid before "+stamp(cert.NotBefore)
		case !now.After(cert.NotAfter):
			if i == 0 && cert.NotAfter.Sub(now) < soonServer {
				p := st.warn(fault.Unknown, "the certificate of %q expires in %d days, on %s", chain.IssuedTo(cert), int(cert.NotAfter.Sub(now).Hours()/24), stamp(cert.NotAfter))
				p.Cause, p.Fix = "After that day no phone can enrol.", "Renew the IIS certificate."
			}
			continue
		}
		if i > 0 && !c.needed(cert) {
			st.note("%q %s; it is not needed", chain.IssuedTo(cert), what)
			continue
		}
		p := st.fail(code, "the certificate of %q %s; here it is %s", chain.IssuedTo(cert), what, stamp(now))
		st.Summary = code.Row().Symptom
		if i > 0 {
			st.say("the chain of the IIS certificate is out of its validity")
			p.Cause = "A CA above the IIS certificate is, by the clock of this machine, out of its validity, and there is no other way to a trusted root."
			p.Fix = "Have the server send, or certsrv.tls.ca name, the CA's current certificate; if it has none, renew it and the IIS certificate. Or correct the clock of this machine."
		}
		if there := now.Add(skew); known && skew.Abs() > maxSkew && !there.Before(cert.NotBefore) && !there.After(cert.NotAfter) {
			p.Cause = "By the server's own clock the certificate is valid: the clock of this machine is wrong."
			p.Fix = "Correct the clock of this machine (NTP)."
		}
	}
}

// needed says whether the chain does not hold without cert, which is out of
// its time.
func (c *checkup) needed(cert *x509.Certificate) bool {
	if !c.trust {
		return true
	}
	stopped := expired(c.verify(time.Now()))
	return stopped != nil && stopped.Equal(cert)
}

// skew is how far the server's clock is ahead, to a second.
func (g *greeting) skew() (time.Duration, bool) {
	if g.err != nil {
		return 0, false
	}
	date, err := http.ParseTime(g.date)
	if err != nil {
		return 0, false
	}
	middle := g.at.Add(-g.took / 2)
	// The header has no fractions: on average it is half a second behind.
	return date.Add(time.Second / 2).Sub(middle).Round(time.Second), true
}

func (g *greeting) noDate() string {
	if g.err != nil {
		return g.err.Error()
	}
	return "its answer has no Date that can be read"
}

func skewWords(d time.Duration) string {
	switch s := int(d / time.Second); {
	case s > 1:
		return fmt.Sprintf("is %d s ahead of this machine's", s)
	case s < -1:
		return fmt.Sprintf("is %d s behind this machine's", -s)
	default:
		return "agrees with this machine's"
	}
}

func stamp(t time.Time) string { return t.UTC().Format("2006-01-02 15:04 UTC") }

func day(t time.Time) string { return t.UTC().Format("2006-01-02") }
