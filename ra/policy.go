package ra

import (
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/x509"
	"encoding/asn1"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/onlineca/onlineca/ra/fault"
)

// Policy says which certificate requests are let through to the certificate
// authority. The zero value is the default policy, see each field.
type Policy struct {
	// Keys are the key types and sizes allowed: "rsa", "rsa2048" (an RSA key of
	// at least 2048 bits), "rsa2048-4096", "p256", "p384", "p521", "p224",
	// "ed25519". Empty means rsa2048-8192, p256, p384, p521 and ed25519.
	Keys []string
	// Hashes are the hash functions allowed in the request's own signature:
	// "sha1", "sha256", "sha384", "sha512". Empty means all but sha1. Ed25519
	// signatures are covered by Keys.
	Hashes []string
	// Subject must match the whole subject in the form of RFC 2253
	// ("CN=SEP001122334455,OU=Phones"). Nil allows any.
	Subject *regexp.Regexp
	// SANTypes are the kinds of subject alternative names allowed: "dns", "ip",
	// "email", "uri", "other" (otherName, which holds the UPN that Windows logs
	// a user in by), "dirname". Empty means dns, ip, email and uri;
	// ["none"] means that no alternative name is allowed.
	SANTypes []string
	// SANNames must match the whole of each alternative name. Nil allows any.
	// Other names and directory names have no text to match and are refused
	// when it is set.
	SANNames *regexp.Regexp
	// SubjectNamesClient demands that the subject's common name is the name
	// that the client authenticated as, without regard to case, and that every
	// alternative name is that name or a host of that name
	// (SEP001122334455.example.com) or matches SANNames.
	SubjectNamesClient bool
	// Extensions are the OIDs of extensions that a request may ask for besides
	// subject alternative name, key usage, extended key usage, basic
	// constraints and subject key identifier. AD CS honours some of its own
	// (the template, the security identifier of a user), by which a request
	// could ask for more than its template.
	Extensions []asn1.ObjectIdentifier
}

// CheckPolicy returns an Enroller that refuses requests which p does not allow.
// A refusal names the rule that was broken. It fails when p is not a policy.
func CheckPolicy(next Enroller, p Policy) (Enroller, error) {
	c, err := p.compile()
	if err != nil {
		return nil, err
	}
	return EnrollerFunc(func(ctx context.Context, r Request) (Result, error) {
		if err := c.check(r); err != nil {
			return Result{}, err
		}
		return next.Enroll(ctx, r)
	}), nil
}

// Check says whether p allows r. The error wraps fault.RequestRefused,
// fault.KeyTooShort or fault.NotAuthorized, and its message names the rule.
func (p Policy) Check(r Request) error {
	c, err := p.compile()
	if err != nil {
		return fault.New(fault.Internal, "check a request", err)
	}
	return c.check(r)
}

// policy is a Policy ready for use.
type policy struct {
	keys          []keyRule
	hashes        []string
	subject, sans *regexp.Regexp
	sanTypes      []string
	namesClient   bool
	extensions    []asn1.ObjectIdentifier
}

// keyRule allows one type of key. Sizes matter for RSA only.
type keyRule struct {
	kind     string
	min, max int
}

const sanNone = "none"

var (
	keyPattern  = regexp.MustCompile(`^(rsa|p224|p256|p384|p521|ed25519)(\d+)?(?:-(\d+))?$`)
	defaultKeys = []string{"rsa2048-8192", "p256", "p384", "p521", "ed25519"}
	allHashes   = []string{"sha1", "sha256", "sha384", "sha512"}
	allSANs     = []string{"other", "email", "dns", "dirname", "uri", "ip", sanNone}
)

func (p Policy) compile() (*policy, error) {
	c := &policy{
		hashes: p.Hashes, sanTypes: p.SANTypes, namesClient: p.SubjectNamesClient,
		subject: whole(p.Subject), sans: whole(p.SANNames),
	}
	if len(c.hashes) == 0 {
		c.hashes = allHashes[1:]
	}
	if len(c.sanTypes) == 0 {
		c.sanTypes = []string{"dns", "ip", "email", "uri"}
	}
	for _, h := range c.hashes {
		if !slices.Contains(allHashes, h) {
			return nil, fmt.Errorf("policy: %q is no hash function, known are %s", h, strings.Join(allHashes, ", "))
		}
	}
	for _, t := range c.sanTypes {
		if !slices.Contains(allSANs, t) {
			return nil, fmt.Errorf("policy: %q is no kind of alternative name, known are %s", t, strings.Join(allSANs, ", "))
		}
	}
	keys := p.Keys
	if len(keys) == 0 {
		keys = defaultKeys
	}
	for _, k := range keys {
		rule, err := parseKeyRule(k)
		if err != nil {
			return nil, err
		}
		c.keys = append(c.keys, rule)
	}
	c.extensions = append(slices.Clone(harmlessExtensions), p.Extensions...)
	return c, nil
}

func parseKeyRule(s string) (keyRule, error) {
	m := keyPattern.FindStringSubmatch(s)
	if m == nil || (m[1] != "rsa" && (m[2] != "" || m[3] != "")) {
		return keyRule{}, fmt.Errorf(`policy: %q is no key rule; examples: "rsa2048", "rsa2048-4096", "p256", "ed25519"`, s)
	}
	r := keyRule{kind: m[1], min: minRSABits, max: maxRSABits}
	if m[2] != "" {
		_, _ = fmt.Sscan(m[2], &r.min)
	}
	if m[3] != "" {
		_, _ = fmt.Sscan(m[3], &r.max)
	}
	if r.min < minRSABits || r.max < r.min {
		return keyRule{}, fmt.Errorf("policy: key rule %q allows no key: RSA keys below %d bits are never accepted", s, minRSABits)
	}
	return r, nil
}

// whole returns an expression that matches only all of a text.
func whole(re *regexp.Regexp) *regexp.Regexp {
	if re == nil {
		return nil
	}
	return regexp.MustCompile(`^(?:` + re.String() + `)$`)
}

// rules are asked in this order.
var rules = []func(*policy, Request) *fault.Fault{
	(*policy).checkNames, (*policy).checkKey, (*policy).checkHash, (*policy).checkSubject,
	(*policy).checkSANs, (*policy).checkClient, (*policy).checkExtensions,
}

func (c *policy) check(r Request) error {
	if r.CSR == nil {
		return fault.Newf(fault.MalformedCSR, "check a request", "there is none")
	}
	for _, rule := range rules {
		if f := rule(c, r); f != nil {
			f.Op = "certificate request for " + subjectOf(r.CSR)
			return f
		}
	}
	return nil
}

func refuse(code fault.Code, rule, format string, args ...any) *fault.Fault {
	return &fault.Fault{Code: code, Message: "rule " + rule + ": " + fmt.Sprintf(format, args...)}
}

// checkNames refuses a request for nobody.
func (c *policy) checkNames(r Request) *fault.Fault {
	if len(r.CSR.Subject.Names) == 0 && len(sanExtension(r.CSR)) == 0 {
		return refuse(fault.RequestRefused, "names", "the request has neither a subject nor an alternative name")
	}
	return nil
}

func (c *policy) checkKey(r Request) *fault.Fault {
	kind, bits := KeyType(r.CSR.PublicKey)
	allowed := false
	for _, k := range c.keys {
		switch {
		case k.kind != kind:
		case kind != "rsa" || bits >= k.min && bits <= k.max:
			return nil
		case bits < k.min:
			return refuse(fault.KeyTooShort, "keys", "an RSA key of %d bits, at least %d are wanted", bits, k.min)
		default:
			allowed = true
		}
	}
	if allowed {
		return refuse(fault.RequestRefused, "keys", "an RSA key of %d bits is too long", bits)
	}
	return refuse(fault.RequestRefused, "keys", "%s keys are not allowed", kind)
}

// KeyType names a public key, "rsa", "p256", "ed25519", and gives its size in
// bits; kind is "unknown" for a key of another type.
func KeyType(pub any) (kind string, bits int) {
	switch key := pub.(type) {
	case *rsa.PublicKey:
		return "rsa", key.N.BitLen()
	case *ecdsa.PublicKey:
		switch key.Curve {
		case elliptic.P224():
			return "p224", 224
		case elliptic.P256():
			return "p256", 256
		case elliptic.P384():
			return "p384", 384
		case elliptic.P521():
			return "p521", 521
		}
		return "unknown", key.Curve.Params().BitSize
	case ed25519.PublicKey:
		return "ed25519", 256
	}
	return "unknown", 0
}

func (c *policy) checkHash(r Request) *fault.Fault {
	hash := signatureHash(r.CSR.SignatureAlgorithm)
	if hash == "" || slices.Contains(c.hashes, hash) {
		return nil
	}
	return refuse(fault.RequestRefused, "hashes", "the request is signed with %s, which is not allowed", r.CSR.SignatureAlgorithm)
}

// signatureHash names the hash function of a signature algorithm; it is empty
// for Ed25519, whose hash nobody chooses.
func signatureHash(a x509.SignatureAlgorithm) string {
	switch a {
	case x509.PureEd25519:
		return ""
	case x509.SHA1WithRSA, x509.ECDSAWithSHA1:
		return "sha1"
	case x509.SHA256WithRSA, x509.SHA256WithRSAPSS, x509.ECDSAWithSHA256:
		return "sha256"
	case x509.SHA384WithRSA, x509.SHA384WithRSAPSS, x509.ECDSAWithSHA384:
		return "sha384"
	case x509.SHA512WithRSA, x509.SHA512WithRSAPSS, x509.ECDSAWithSHA512:
		return "sha512"
	}
	return "unknown"
}

func (c *policy) checkSubject(r Request) *fault.Fault {
	if c.subject == nil {
		return nil
	}
	if s := r.CSR.Subject.String(); !c.subject.MatchString(s) {
		return refuse(fault.RequestRefused, "subject", "%q does not match %s", s, c.subject)
	}
	return nil
}
