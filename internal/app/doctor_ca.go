package app

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/onlineca/onlineca/certsrv"
	"github.com/onlineca/onlineca/internal/chain"
	"github.com/onlineca/onlineca/ra"
	"github.com/onlineca/onlineca/ra/fault"
)

// checkTemplate compares the templates of the settings with what certsrv
// offers to the account.
func (c *checkup) checkTemplate(ctx context.Context, st *DoctorStep) {
	if why := c.mayLogIn(); why != "" {
		st.skip("%s", why)
		return
	}
	offered, err := c.client.Templates(ctx)
	if err != nil {
		st.failErr(err)
		return
	}
	if len(offered) == 0 {
		c.explainNoTemplates(st)
		return
	}
	var found []string
	for _, name := range c.templates() {
		t, ok := find(offered, name)
		if !ok {
			c.explainTemplate(st, offered, name)
			continue
		}
		found = append(found, name)
		judgeTemplate(st, t)
	}
	if st.Summary == "" || st.Status == DoctorOK {
		st.say("%s is offered", strings.Join(found, ", "))
	}
	if st.Status == DoctorFail {
		for _, t := range offered[:min(len(offered), maxShown)] {
			st.note("offered: %s (%s)", t.Name, t.DisplayName)
		}
	}
}

// templates are the names in the settings, each once, certsrv's own first.
func (c *checkup) templates() []string {
	names := []string{c.settings.Certsrv.Template}
	all := c.settings.EST.all()
	for _, label := range slices.Sorted(maps.Keys(all)) {
		if n := all[label].Template; !slices.Contains(names, n) {
			names = append(names, n)
		}
	}
	return names
}

func find(offered []certsrv.Template, name string) (certsrv.Template, bool) {
	i := slices.IndexFunc(offered, func(t certsrv.Template) bool { return strings.EqualFold(t.Name, name) })
	if i < 0 {
		return certsrv.Template{}, false
	}
	return offered[i], true
}

// explainNoTemplates is about a list that is empty. The pages of a stand-alone
// CA, which has no templates, look the same.
func (c *checkup) explainNoTemplates(st *DoctorStep) {
	st.say("no template is offered")
	level := DoctorWarn
	if c.settings.Certsrv.MissingTemplate == "refuse" {
		level = DoctorFail
	}
	p := st.problem(level, fault.Template, fmt.Sprintf("certsrv offers no template at all to %s", c.config.Username))
	p.Cause = "The account may enrol for none, Active Directory could not be asked, or the CA is a stand-alone one, which has no templates."
	p.Fix = "Give the account Read and Enroll on the template, and publish the template on the CA. For a stand-alone CA, set certsrv.missing_template: warn."
}

// explainTemplate is about a template that is not offered.
func (c *checkup) explainTemplate(st *DoctorStep, offered []certsrv.Template, name string) {
	what := fmt.Sprintf("%q is not offered to %s", name, c.config.Username)
	st.say("%s is not offered", name)
	i := slices.IndexFunc(offered, func(t certsrv.Template) bool { return strings.EqualFold(t.DisplayName, name) })
	near := nearest(offered, name)
	switch {
	case i >= 0:
		what = fmt.Sprintf("%q is the display name of the template %q: the name is what counts", name, offered[i].Name)
	case near != "":
		what += fmt.Sprintf("; did you mean %q?", near)
	}
	// The list leaves templates for computers out, so that an absent one is
	// only certain to fail where the registration authority insists on it.
	if name == c.settings.Certsrv.Template && c.settings.Certsrv.MissingTemplate == "refuse" {
		st.fail(fault.Template, "%s", what)
		return
	}
	p := st.warn(fault.Template, "%s", what)
	p.Fix += " A template for computers is never listed and may work all the same: --enroll tries it."
}

// judgeTemplate looks at what the list says of a template.
func judgeTemplate(st *DoctorStep, t certsrv.Template) {
	const pendAll = 0x02 // CT_FLAG_PEND_ALL_REQUESTS (MS-CRTD 2.26)
	if t.FromDirectory {
		p := st.fail(fault.InvalidLSC, "the template %q builds the subject from Active Directory", t.Name)
		p.Cause = "A phone's certificate must bear the phone's name, which is in the request. This template puts the name of the account there instead."
		p.Fix = "In the template's properties, Subject Name, choose Supply in the request."
		st.say("%s is offered, with a subject from Active Directory", t.Name)
	}
	if t.Signatures > 0 {
		p := st.warn(fault.DeniedByPolicy, "the template %q wants %d authorised signatures", t.Name, t.Signatures)
		p.Cause = "Requests must be signed by an enrolment agent, which phones cannot do."
		p.Fix = "In the template's properties, Issuance Requirements, set the number of authorised signatures to none."
	}
	if t.EnrollFlags&pendAll != 0 {
		st.warn(fault.Pending, "the template %q wants a CA manager's approval", t.Name)
	}
}

// nearest returns the name among those offered that takes the fewest changes,
// if they are few.
func nearest(offered []certsrv.Template, name string) string {
	best, least := "", len([]rune(name))/2+1
	for _, t := range offered {
		if d := distance(strings.ToLower(t.Name), strings.ToLower(name)); d < least {
			best, least = t.Name, d
		}
	}
	return best
}

// distance is how many letters must be inserted, left out, replaced, or
// swapped with their neighbour to make b of a.
func distance(a, b string) int {
	x, y := []rune(a), []rune(b)
	x, y = x[:min(len(x), 128)], y[:min(len(y), 128)]
	d := make([][]int, len(x)+1)
	for i := range d {
		d[i] = make([]int, len(y)+1)
		d[i][0] = i
	}
	for j := range d[0] {
		d[0][j] = j
	}
	for i := 1; i <= len(x); i++ {
		for j := 1; j <= len(y); j++ {
			cost := 1
			if x[i-1] == y[j-1] {
				cost = 0
			}
			d[i][j] = min(d[i-1][j]+1, d[i][j-1]+1, d[i-1][j-1]+cost)
			if i > 1 && j > 1 && x[i-1] == y[j-2] && x[i-2] == y[j-1] {
				d[i][j] = min(d[i][j], d[i-2][j-2]+1)
			}
		}
	}
	return d[len(x)][len(y)]
}

// checkCAChain fetches the CA's certificates, which phones are given as their
// issuers.
func (c *checkup) checkCAChain(ctx context.Context, st *DoctorStep) {
	if why := c.mayLogIn(); why != "" {
		st.skip("%s", why)
		return
	}
	certs, err := c.client.CACerts(ctx)
	if err != nil {
		st.failErr(err)
		return
	}
	c.caChain = certs
	now := time.Now()
	st.say("%s, %s until %s", certificates(len(certs)), chain.IssuedTo(certs[0]), day(certs[0].NotAfter))
	for i, cert := range certs {
		st.Certificates = append(st.Certificates, describeCertificate(i+1, cert))
		judgeCA(st, cert, now)
	}
}

// judgeCA looks at one certificate of the CA's chain.
func judgeCA(st *DoctorStep, cert *x509.Certificate, now time.Time) {
	if strings.Contains(cert.Subject.CommonName, "CAPF-") {
		st.fail(fault.CACNCAPF, "the common name is %q", cert.Subject.CommonName)
	}
	switch {
	case now.After(cert.NotAfter):
		p := st.fail(fault.Expired, "the CA certificate of %q expired on %s", chain.IssuedTo(cert), stamp(cert.NotAfter))
		p.Cause, p.Fix = "A CA whose certificate has expired issues nothing that anybody accepts.", "Renew the CA's certificate."
	case now.Before(cert.NotBefore):
		p := st.fail(fault.NotYetValid, "the CA certificate of %q is not valid before %s", chain.IssuedTo(cert), stamp(cert.NotBefore))
		p.Cause, p.Fix = "By the clock of this machine the CA's validity has not begun.", "Correct the clock here or on the CA."
	case cert.NotAfter.Sub(now) < soonCA:
		p := st.warn(fault.Unknown, "the CA certificate of %q expires on %s", chain.IssuedTo(cert), stamp(cert.NotAfter))
		p.Cause, p.Fix = "No certificate outlives its CA: those of phones get shorter from now on.", "Renew the CA's certificate, and plan to give the phones new ones."
	}
}

// checkEnrolment has one certificate issued, as for a phone. The key stays in
// memory and is forgotten.
func (c *checkup) checkEnrolment(ctx context.Context, st *DoctorStep) {
	if !c.o.Enroll {
		st.skip("because --enroll was not given")
		return
	}
	if why := c.mayLogIn(); why != "" {
		st.skip("%s", why)
		return
	}
	csr, err := throwAwayRequest()
	if err != nil {
		st.failErr(err)
		return
	}
	template := c.settings.EST.Template
	res, err := c.client.Enroll(ctx, ra.Request{Operation: ra.Enroll, CSR: csr, Template: template})
	d := &DoctorEnrollment{Template: template, State: string(res.State), ReqID: res.ReqID}
	switch {
	case err != nil:
		c.explainDenial(st, d, csr, err)
		return
	case res.State == ra.Pending:
		st.fail(fault.Pending, "request %d for %s waits for a CA manager", res.ReqID, csr.Subject.CommonName)
		d.Revoke = fmt.Sprintf("certutil -deny %d", res.ReqID)
	default:
		c.enrolled = res.Certificate
		cert := describeCertificate(1, res.Certificate)
		d.Certificate, d.Revoke = &cert, "certutil -revoke "+cert.Serial+" 5"
		st.Certificates = []DoctorCertificate{cert}
		st.say("request %d issued by template %s", res.ReqID, template)
		st.note("serial number %s", cert.Serial)
	}
	c.report.Issued = d
}

// explainDenial is about a request that did not lead to a certificate. One
// whose fate is not known is named, for somebody to look it up.
func (c *checkup) explainDenial(st *DoctorStep, d *DoctorEnrollment, csr *x509.CertificateRequest, err error) {
	st.failErr(err)
	f := fault.Of(err)
	if !errors.Is(err, fault.OutcomeUnknown) && !f.Code.Row().Unsettled {
		return
	}
	st.note("a certificate for %s may have been issued: look for it on the CA, and revoke it", csr.Subject.CommonName)
	d.State, d.ReqID = "unknown", f.ReqID
	c.report.Issued = d
}

// throwAwayRequest is a request as a phone makes it, by a name that no phone
// has.
func throwAwayRequest() (*x509.CertificateRequest, error) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return nil, err
	}
	id := make([]byte, 4)
	_, _ = rand.Read(id) // never fails, says crypto/rand
	name := "onlineca-doctor-" + time.Now().UTC().Format("20060102") + "-" + hex.EncodeToString(id)
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: pkix.Name{CommonName: name}}, key)
	if err != nil {
		return nil, err
	}
	return ra.ParseCSR(der)
}

// checkKeyUsage judges the certificate by the rules for phones.
func (c *checkup) checkKeyUsage(_ context.Context, st *DoctorStep) {
	switch {
	case !c.o.Enroll:
		st.skip("because only a certificate shows it: --enroll has one issued")
		return
	case c.enrolled == nil:
		st.skip("because there is no certificate")
		return
	}
	cert := c.enrolled
	findings := chain.CheckLSC(cert, c.caChain, chain.LSCOptions{Device: "onlineca-doctor-", At: time.Now()})
	st.say("%s; valid to %s", strings.Join(chain.Usages(cert), ", "), day(cert.NotAfter))
	for _, f := range findings {
		level := DoctorWarn
		if f.Level == chain.Error {
			level = DoctorFail
		}
		p := st.problem(level, f.Fault, f.Detail)
		if f.Fix != "" {
			p.Fix = f.Fix
		}
		if level == DoctorFail && f.Fault != fault.Unknown {
			st.Summary = f.Fault.Row().Symptom
		}
	}
	if c.caChain == nil {
		st.note("whether its chain is complete was not looked at: ca-chain failed")
	}
}
