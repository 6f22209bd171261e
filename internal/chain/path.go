package chain

import (
	"bytes"
	"cmp"
	"crypto/rsa"
	"crypto/x509"
	"errors"
	"fmt"
	"math/bits"
	"slices"
	"time"
)

// trouble is a kind of defect of a path (RFC 5280 section 6).
type trouble string

const (
	troubleExpired      trouble = "expired"
	troubleNotYet       trouble = "not-yet-valid"
	troubleNotCA        trouble = "not-a-ca"
	troubleKeyUsage     trouble = "no-cert-sign"
	troublePathLength   trouble = "path-length"
	troubleName         trouble = "name-constraint"
	troubleCritical     trouble = "critical-extension"
	troublePurpose      trouble = "purpose"
	troubleNoIssuer     trouble = "issuer-missing"
	troubleSignature    trouble = "bad-signature"
	troubleUntrusted    trouble = "root-untrusted"
	troubleNotInStore   trouble = "not-in-store"
	troubleLoop         trouble = "loop"
	troubleGaveUp       trouble = "gave-up"
	troubleWeakUnproven trouble = "unverifiable"
)

// problem is one defect of a path.
type problem struct {
	kind   trouble
	cert   *x509.Certificate
	detail string
}

// path is the best way that was found from a certificate to a trust anchor.
type path struct {
	// certs begins with the certificate itself. The last one is the anchor when
	// the path is complete.
	certs    []*x509.Certificate
	complete bool
	problems []problem
	// rival is what is wrong with another way that a valid path could have
	// taken. A verifier that does not try again, as OpenSSL's does not, may
	// take that one.
	rival *problem
	// steps is how many certificates were looked at.
	steps int
}

// judge is by what a path is judged: a time, the anchors where paths end, and
// where a store is given, the store that is asked first.
type judge struct {
	anchors *pool
	store   *pool // or nil
	// require says that the store must hold every CA.
	require bool
	at      time.Time
	proofs  *proofs
	// openssl judges as OpenSSL does where that departs from RFC 5280.
	openssl bool
	// purpose is what the certificate is to be used for in TLS, serverAuth or
	// clientAuth; the zero value asks for none. OpenSSL's rules only.
	purpose x509.ExtKeyUsage
}

// valid says whether the path leads to an anchor and has no defect.
func (p *path) valid() bool { return p.complete && len(p.problems) == 0 }

// find returns the first problem of one of the kinds.
func (p *path) find(kinds ...trouble) *problem {
	for i := range p.problems {
		if slices.Contains(kinds, p.problems[i].kind) {
			return &p.problems[i]
		}
	}
	return nil
}

// pool is a set of certificates, each once, found by subject.
type pool struct {
	certs     []*x509.Certificate
	bySubject map[string][]*x509.Certificate // by canonical name
	byRaw     map[string]*x509.Certificate
	canonical func(name []byte) string
	// selfSigned holds the roots once they have been looked for, and openssl
	// what OpenSSL takes for them.
	selfSigned, openssl *pool
}

// newPool gathers certificates in the order given.
func newPool(sets ...[]*x509.Certificate) *pool { return gatherPool(canonical, sets) }

func gatherPool(canonical func([]byte) string, sets [][]*x509.Certificate) *pool {
	p := &pool{bySubject: map[string][]*x509.Certificate{}, byRaw: map[string]*x509.Certificate{}, canonical: canonical}
	for _, set := range sets {
		for _, c := range set {
			if p.byRaw[string(c.Raw)] != nil {
				continue
			}
			p.byRaw[string(c.Raw)] = c
			p.certs = append(p.certs, c)
			name := p.canonical(c.RawSubject)
			p.bySubject[name] = append(p.bySubject[name], c)
		}
	}
	return p
}

func (p *pool) has(c *x509.Certificate) bool { return p.byRaw[string(c.Raw)] != nil }

// named returns the certificates of a subject, in the order given.
func (p *pool) named(subject []byte) []*x509.Certificate { return p.bySubject[p.canonical(subject)] }

// roots returns the self-signed certificates. As in OpenSSL, key identifiers
// decide where there are any; a self-issued certificate without them is one
// only if its own key has signed it. The signatures verified are limited.
func (p *pool) roots() *pool {
	if p.selfSigned != nil {
		return p.selfSigned
	}
	var out []*x509.Certificate
	verified := 0
	for _, c := range p.certs {
		switch {
		case !selfIssued(c):
		case len(c.AuthorityKeyId) > 0 && len(c.SubjectKeyId) > 0:
			if bytes.Equal(c.AuthorityKeyId, c.SubjectKeyId) {
				out = append(out, c)
			}
		case verified < maxVerifies:
			verified += effort(c)
			if verifySignature(c, c) == nil {
				out = append(out, c)
			}
		}
	}
	p.selfSigned = newPool(out)
	return p.selfSigned
}

// opensslRoots returns what OpenSSL takes for self-signed.
func (p *pool) opensslRoots() *pool {
	if p.openssl == nil {
		p.openssl = newPool(slices.DeleteFunc(slices.Clone(p.certs), func(c *x509.Certificate) bool { return !selfSigned(c) }))
	}
	return p.openssl
}

func selfIssued(c *x509.Certificate) bool { return sameDN(c.RawIssuer, c.RawSubject) }

var errKeyTooLarge = fmt.Errorf("the RSA key has more than %d bits and is not used", maxRSABits)

// verifySignature says whether parent's key signed child. SHA-1 is accepted:
// the manufacturing CAs that phones and CUCM trust still use it.
func verifySignature(child, parent *x509.Certificate) error {
	if k, ok := parent.PublicKey.(*rsa.PublicKey); ok && k.N.BitLen() > maxRSABits {
		return errKeyTooLarge
	}
	return parent.CheckSignature(child.SignatureAlgorithm, child.RawTBSCertificate, child.Signature)
}

// effort is what it takes to verify a signature by a certificate's key, in units
// of one by an ordinary key, RSA of 4096 bits with the exponent 65537 at most. It
// grows with the square of the modulus's length, and with the exponent's length.
func effort(parent *x509.Certificate) int {
	k, ok := parent.PublicKey.(*rsa.PublicKey)
	if !ok || k.N.BitLen() > maxRSABits { // which is not verified
		return 1
	}
	long, exponent := (k.N.BitLen()+4095)/4096, (bits.Len(uint(k.E))+16)/17
	return max(1, long*long*exponent)
}

// search looks for a path, depth first, within a budget. Issuers that issue
// each other, and thousands of CAs of one name, end it and not the program.
type search struct {
	judge
	pool *pool

	steps int
	best  *path
	rival *problem
}

// proofs remembers which certificate has signed which, and how much work all
// searches of one check have been.
type proofs struct {
	memo        map[[2]*x509.Certificate]error
	verifies    int // signatures
	effort      int // of these
	comparisons int
	// names holds the canonical forms of names, which take time to find out.
	names map[string]string
}

func newProofs() *proofs {
	return &proofs{memo: map[[2]*x509.Certificate]error{}, names: map[string]string{}}
}

// canonical is [canonical], each name once.
func (p *proofs) canonical(name []byte) string {
	known, ok := p.names[string(name)]
	if !ok {
		known = canonical(name)
		p.names[string(name)] = known
	}
	return known
}

// exhausted says that no more signatures are to be verified in this check.
func (p *proofs) exhausted() bool { return p.effort >= maxVerifies }

// pool is newPool, with names that may be known already.
func (p *proofs) pool(sets ...[]*x509.Certificate) *pool { return gatherPool(p.canonical, sets) }

// findPath finds the best path from leaf by way of certs to one of anchors, at a
// time. With a store, each CA of the path must be in it.
func (p *proofs) findPath(leaf *x509.Certificate, certs, anchors *pool, store *pool, at time.Time) *path {
	return judge{anchors: anchors, store: store, require: store != nil, at: at, proofs: p}.findPath(leaf, certs)
}

// findPath finds the best path from leaf by way of certs, of all that there are.
func (j judge) findPath(leaf *x509.Certificate, certs *pool) *path {
	s := &search{pool: certs, judge: j}
	s.extend([]*x509.Certificate{leaf})
	s.best.steps, s.best.rival = s.steps, s.rival
	if s.exhausted() && !s.best.valid() && s.best.find(troubleGaveUp) == nil {
		s.best.problems = append(s.best.problems, s.givenUp(leaf))
	}
	return s.best
}

func (s *search) exhausted() bool { return s.steps >= maxSteps || s.proofs.exhausted() }

// givenUp says that the budget is used up.
func (s *search) givenUp(c *x509.Certificate) problem {
	return problem{troubleGaveUp, c, fmt.Sprintf("the search for a path was given up after %d certificates and %d signatures: too many CAs share a name, or issue each other", s.steps, s.proofs.verifies)}
}

// tooLong is a path that verifiers do not follow any further.
func tooLong(c *x509.Certificate) problem {
	return problem{troubleGaveUp, c, fmt.Sprintf("the path is longer than %d certificates", maxPath)}
}

// extend follows every issuer of the last certificate.
func (s *search) extend(certs []*x509.Certificate) {
	s.steps++
	tip := certs[len(certs)-1]
	if s.anchors.has(tip) {
		s.consider(certs, true, nil)
		return
	}
	var end *problem
	followed := false
	for _, parent := range s.issuers(tip) {
		if s.exhausted() {
			end = new(s.givenUp(tip))
			break
		}
		if len(certs) >= maxPath {
			end = new(tooLong(tip))
			break
		}
		if s.inPath(certs, parent) {
			if !selfIssued(tip) {
				end = &problem{troubleLoop, tip, fmt.Sprintf("%q is issued by a CA that it has itself issued, directly or not", IssuedTo(tip))}
			}
			continue
		}
		if err := s.proofs.verify(tip, parent); err != nil {
			end = badLink(tip, parent, err)
			continue
		}
		followed = true
		s.extend(append(slices.Clip(certs), parent))
		if s.best != nil && s.best.valid() && (s.anchors.has(parent) || s.store != nil && s.store.has(parent)) {
			return // OpenSSL, too, asks the trust store first
		}
	}
	if !followed {
		s.consider(certs, false, s.deadEnd(tip, end))
	}
}

// issuers returns the certificates that bear the issuer's name: trusted ones
// first, then those that are valid at the time.
func (s *search) issuers(c *x509.Certificate) []*x509.Certificate {
	rank := func(p *x509.Certificate) int {
		switch {
		case s.anchors.has(p):
			return 0
		case s.store != nil && s.store.has(p):
			return 1
		case s.outside(p) == "":
			return 2
		}
		return 3
	}
	all := slices.Concat(s.anchors.named(c.RawIssuer), s.pool.named(c.RawIssuer))
	seen := map[string]bool{}
	all = slices.DeleteFunc(all, func(p *x509.Certificate) bool {
		dup := seen[string(p.Raw)]
		seen[string(p.Raw)] = true
		return dup
	})
	slices.SortStableFunc(all, func(a, b *x509.Certificate) int { return cmp.Compare(rank(a), rank(b)) })
	return all
}

// verify says whether parent's key signed child; each pair costs one signature.
func (p *proofs) verify(child, parent *x509.Certificate) error {
	key := [2]*x509.Certificate{child, parent}
	if err, known := p.memo[key]; known {
		return err
	}
	p.verifies++
	p.effort += effort(parent)
	err := verifySignature(child, parent)
	p.memo[key] = err
	return err
}

// inPath says whether the path has the certificate already, or another one of
// the same name and key.
func (s *search) inPath(certs []*x509.Certificate, c *x509.Certificate) bool {
	return slices.ContainsFunc(certs, func(p *x509.Certificate) bool {
		return bytes.Equal(p.Raw, c.Raw) ||
			bytes.Equal(p.RawSubjectPublicKeyInfo, c.RawSubjectPublicKeyInfo) && s.proofs.canonical(p.RawSubject) == s.proofs.canonical(c.RawSubject)
	})
}

func badLink(child, parent *x509.Certificate, err error) *problem {
	if errors.Is(err, x509.ErrUnsupportedAlgorithm) || errors.Is(err, errKeyTooLarge) || errors.As(err, new(x509.InsecureAlgorithmError)) {
		return &problem{troubleWeakUnproven, child, fmt.Sprintf("the signature of %q cannot be verified: %v", IssuedTo(child), err)}
	}
	return &problem{troubleSignature, child, fmt.Sprintf("%q names %q as its issuer, but the key of that certificate (%s) has not signed it: it is another CA of the same name, or an earlier key of that CA", IssuedTo(child), IssuedTo(parent), validity(parent))}
}

// deadEnd says why a path ends at c.
func (s *search) deadEnd(c *x509.Certificate, met *problem) *problem {
	switch {
	case met != nil:
		return met
	case selfIssued(c) && (s.exhausted() || s.proofs.verify(c, c) == nil):
		return &problem{troubleUntrusted, c, fmt.Sprintf("%q is self-signed and not in the trust store", IssuedTo(c))}
	default:
		return &problem{troubleNoIssuer, c, fmt.Sprintf("the certificate of %q, which issued %q, is missing", IssuedBy(c), IssuedTo(c))}
	}
}

// consider compares a path that has ended with the best so far.
func (s *search) consider(certs []*x509.Certificate, complete bool, end *problem) {
	p := &path{certs: slices.Clone(certs), complete: complete}
	if end != nil {
		p.problems = append(p.problems, *end)
	}
	p.problems = append(p.problems, s.defects(p.certs)...)
	if s.best == nil || better(p, s.best) {
		s.best = p
	}
	if !p.valid() && s.rival == nil && len(p.problems) > 0 && !s.exhausted() {
		s.rival = &p.problems[0]
	}
}

func better(a, b *path) bool {
	if a.complete != b.complete {
		return a.complete
	}
	if ra, rb := a.find(troubleUntrusted) != nil, b.find(troubleUntrusted) != nil; ra != rb {
		return ra
	}
	if len(a.problems) != len(b.problems) {
		return len(a.problems) < len(b.problems)
	}
	return len(a.certs) > len(b.certs)
}

// outside returns the trouble if t is not within c's validity, or "".
func outside(c *x509.Certificate, t time.Time) trouble {
	switch {
	case t.Before(c.NotBefore):
		return troubleNotYet
	case t.After(c.NotAfter):
		return troubleExpired
	}
	return ""
}
