package testenv

import (
	"crypto/rsa"
	"crypto/x509"
	"encoding/asn1"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"
)

// Disposition is what has become of a request, by AD CS's numbers (certcli.h,
// CR_DISP_*).
type Disposition int

// The dispositions of the mock.
const (
	DispositionDenied  Disposition = 2
	DispositionIssued  Disposition = 3
	DispositionPending Disposition = 5
	DispositionRevoked Disposition = 6
)

// CARequest is a row of the certificate authority's database.
type CARequest struct {
	ReqID       int
	Disposition Disposition
	// Requester is the account that submitted, DOMAIN\user.
	Requester string
	// Template is the name that was asked for, whether or not there is one.
	Template string
	// Attributes are the request's attributes, names in lower case.
	Attributes map[string]string
	Submitted  time.Time
	// CSR is nil for a request that could not be read.
	CSR *x509.CertificateRequest
	// Certificate is set once it has been issued.
	Certificate *x509.Certificate
	// Code is why a request was denied.
	Code HRESULT
	// DeniedBy is the account of the certificate manager that denied it.
	DeniedBy string

	// terse hides Code in the answer to the submission.
	terse bool
	// parse says that the request was not even one.
	parse bool
}

// ca is the certificate authority: templates, a policy, a database.
type ca struct {
	pki        *PKI
	templates  []Template
	standalone bool
	host       string
	sanAttr    bool
	now        func() time.Time

	mu       sync.Mutex
	requests map[int]*CARequest
	nextID   int
	crl      int64
}

func newCA(c *Config) *ca {
	a := &ca{
		pki: c.PKI, standalone: c.Standalone, host: c.Computer + "." + c.DNSDomain, sanAttr: c.SANAttribute, now: c.Clock,
		requests: map[int]*CARequest{}, nextID: c.FirstReqID,
	}
	for _, t := range c.Templates {
		a.templates = append(a.templates, t.withDefaults())
	}
	return a
}

// byHand is how a stand-alone CA issues: it knows no templates, and somebody
// approves each request.
var byHand = Template{MinKeySize: 1024, ManualApproval: true, noExtension: true}

// template finds a template by its name, which is a CN: case does not matter.
func (a *ca) template(name string) (Template, bool) {
	if a.standalone {
		return byHand.withDefaults(), true
	}
	for _, t := range a.templates {
		if strings.EqualFold(t.Name, name) {
			return t, true
		}
	}
	return Template{}, false
}

// offered lists what the web pages offer to account.
func (a *ca) offered(account string) []Template {
	var list []Template
	for _, t := range a.templates {
		if t.offeredTo(account) {
			list = append(list, t)
		}
	}
	return list
}

// submission is what certfnsh.asp hands to the certificate authority.
type submission struct {
	requester  string
	request    string // PKCS#10, PEM or bare base64
	attributes string // CertAttrib
	// What faults make of it.
	deny  HRESULT
	terse bool
	hold  bool
}

// submit decides a request and enters it into the database.
func (a *ca) submit(s submission) (CARequest, error) {
	attrs := parseAttributes(s.attributes)
	r := &CARequest{
		Requester: s.requester, Attributes: attrs,
		Template: attrs["certificatetemplate"], Submitted: a.now(), terse: s.terse,
	}
	t, code := a.decide(r, s)
	switch {
	case code != resultOK:
		r.Disposition, r.Code = DispositionDenied, code
	case t.ManualApproval || s.hold:
		r.Disposition = DispositionPending
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	r.ReqID = a.nextID
	a.nextID++
	a.requests[r.ReqID] = r
	if r.Disposition == 0 {
		if err := a.issue(r, t); err != nil {
			return CARequest{}, err
		}
	}
	return *r, nil
}

// decide is the policy module: it returns the template to issue by, or why not.
func (a *ca) decide(r *CARequest, s submission) (Template, HRESULT) {
	csr, code := parseRequest(s.request)
	if code != resultOK {
		r.parse = code != resultKeyLength
		return Template{}, code
	}
	r.CSR = csr
	if r.Template == "" {
		r.Template = a.templateOfCSR(csr)
	}
	if s.deny != resultOK {
		return Template{}, s.deny
	}
	if r.Template == "" && !a.standalone {
		return Template{}, resultNoTemplate
	}
	t, ok := a.template(r.Template)
	switch {
	case !ok:
		return t, resultUnsupported
	case !t.allows(r.Requester):
		return t, resultTemplateDenied
	case keyBits(csr) < t.MinKeySize:
		return t, resultKeyLength
	}
	return t, resultOK
}

// templateOfCSR is the template that the request itself names, by a version 1
// or version 2 template extension.
func (a *ca) templateOfCSR(csr *x509.CertificateRequest) string {
	for _, e := range csr.Extensions {
		switch {
		case e.Id.Equal(oidTemplateName):
			var raw asn1.RawValue
			if rest, err := asn1.Unmarshal(e.Value, &raw); err == nil && len(rest) == 0 {
				return decodeString(raw)
			}
		case e.Id.Equal(oidTemplateInfo):
			var info templateInfo
			if _, err := asn1.Unmarshal(e.Value, &info); err != nil {
				continue
			}
			for _, t := range a.templates {
				if t.OID.Equal(info.ID) {
					return t.Name
				}
			}
		}
	}
	return ""
}

// parseAttributes reads CertAttrib: name:value, separated by CR LF or LF.
func parseAttributes(s string) map[string]string {
	attrs := map[string]string{}
	for line := range strings.Lines(s) {
		name, value, ok := strings.Cut(strings.TrimSpace(line), ":")
		if ok {
			attrs[strings.ToLower(strings.TrimSpace(name))] = strings.TrimSpace(value)
		}
	}
	return attrs
}

// parseRequest reads a PKCS#10 request: PEM, or base64 with or without line
// breaks.
func parseRequest(s string) (*x509.CertificateRequest, HRESULT) {
	der, err := decodePEMOrBase64(s)
	if err != nil || len(der) == 0 {
		return nil, resultASN1BadTag
	}
	var whole asn1.RawValue
	if _, err := asn1.Unmarshal(der, &whole); err != nil {
		if len(der) > 2 && der[0] == 0x30 {
			return nil, resultASN1EOD
		}
		return nil, resultASN1BadTag
	}
	csr, err := x509.ParseCertificateRequest(der)
	if err != nil {
		return nil, resultASN1BadTag
	}
	// Go verifies no signature by an RSA key below 1024 bits; no template takes
	// such a key either.
	if keyBits(csr) < 1024 {
		return nil, resultKeyLength
	}
	if csr.CheckSignature() != nil {
		return nil, resultHashValue
	}
	return csr, resultOK
}

func decodePEMOrBase64(s string) ([]byte, error) {
	if block, _ := pem.Decode([]byte(strings.TrimSpace(s) + "\n")); block != nil {
		return block.Bytes, nil
	}
	s = strings.Map(func(r rune) rune {
		if r == '\r' || r == '\n' || r == ' ' || r == '\t' {
			return -1
		}
		return r
	}, s)
	return base64.StdEncoding.DecodeString(s)
}

// keyBits is the size of an RSA key; other keys are as good as any.
func keyBits(csr *x509.CertificateRequest) int {
	if k, ok := csr.PublicKey.(*rsa.PublicKey); ok {
		return k.N.BitLen()
	}
	return 1 << 20
}

// errNoRequest says that a ReqID is not in the database.
var errNoRequest = errors.New("no such request")

// find returns a copy of a row.
func (a *ca) find(id int) (CARequest, bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	r, ok := a.requests[id]
	if !ok {
		return CARequest{}, false
	}
	return *r, true
}

// list returns copies of all rows in the order of their numbers.
func (a *ca) list() []CARequest {
	a.mu.Lock()
	defer a.mu.Unlock()
	var out []CARequest
	for _, id := range slices.Sorted(maps.Keys(a.requests)) {
		out = append(out, *a.requests[id])
	}
	return out
}

func (a *ca) count() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return len(a.requests)
}

// hierarchy is the PKI as it is now. Nobody changes one: a renewal makes another.
func (a *ca) hierarchy() *PKI {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.pki
}

func (a *ca) renew() (*PKI, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	p, err := a.pki.renewed(a.now())
	if err != nil {
		return nil, err
	}
	a.pki = p
	return p, nil
}

// pending returns the row of a request that waits for a decision.
func (a *ca) pending(id int) (*CARequest, error) {
	r, ok := a.requests[id]
	switch {
	case !ok:
		return nil, fmt.Errorf("request %d: %w", id, errNoRequest)
	case r.Disposition != DispositionPending:
		return nil, fmt.Errorf("request %d has disposition %d and is not pending: %s", id, r.Disposition, resultBadStatus)
	}
	return r, nil
}

// approve issues a pending request.
func (a *ca) approve(id int) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	r, err := a.pending(id)
	if err != nil {
		return err
	}
	t, ok := a.template(r.Template)
	if !ok {
		return fmt.Errorf("request %d: template %q is gone", id, r.Template)
	}
	return a.issue(r, t)
}

// deny refuses a pending request in the name of a certificate manager.
func (a *ca) deny(id int, by string) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	r, err := a.pending(id)
	if err != nil {
		return err
	}
	r.Disposition, r.Code, r.DeniedBy = DispositionDenied, resultAdminDenied, by
	return nil
}

// revoke marks an issued certificate as revoked.
func (a *ca) revoke(id int) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	r, ok := a.requests[id]
	if !ok || r.Certificate == nil {
		return fmt.Errorf("request %d: %w that was issued", id, errNoRequest)
	}
	r.Disposition, r.Code = DispositionRevoked, resultRevoked
	return nil
}
