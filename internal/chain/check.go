package chain

import (
	"bytes"
	"crypto/x509"
	"fmt"
	"slices"
	"time"
)

// Options is what a check is about.
type Options struct {
	Profile Profile
	// Files are what the appliance is given; several make up one chain.
	Files []*Input
	// CSR is the appliance's own certificate request, nil when not at hand.
	CSR *x509.CertificateRequest
	// Trust is the appliance's trust store, or that of the Expressway-C.
	Trust []*Input
	// Peer is the chain of the other side: the target, or the Expressway-E.
	Peer []*Input
	// PeerTrust is the trust store of the other side; nil means Trust.
	PeerTrust []*Input
	// PeerAddress holds the addresses by which this side calls the other.
	PeerAddress []string
	// VerifyName is a name that the certificate must bear: a host name, a TLS
	// verify subject name, a domain, or a device.
	VerifyName string
	// EKU lists the extended key usages that an LSC must have.
	EKU []x509.ExtKeyUsage
	// At is the appliance's time. Zero means now.
	At time.Time
}

// UsageError says that a check cannot be made with what was given.
type UsageError struct{ Message string }

func (e *UsageError) Error() string { return "check: " + e.Message }

// rule is one thing that an appliance looks at. check returns what is broken,
// or why the rule could not be applied.
type rule struct {
	id, says string
	check    func(*subject) (broken []Finding, skipped string)
}

// place is where a certificate was found.
type place struct {
	position int
	source   string
}

// side is what one party presents.
type side struct {
	inputs []*Input
	pool   *pool
	// leaves are the certificates that are no CA's; leaf is the first of them.
	leaf   *x509.Certificate
	leaves []*x509.Certificate
	path   *path
	// ways are those of verifiers with OpenSSL.
	ways []way
}

// subject is everything that rules look at.
type subject struct {
	*Options
	files, peer      side
	trust, peerTrust *pool
	where            map[string]place
	proofs           *proofs
}

// Check applies the profile's rules. It returns an error ([UsageError]) when
// something is missing without which there is no verdict, and the reading error
// of a file about which the appliance has no verdict of its own.
func Check(o Options) (*Verdict, error) {
	p, err := o.Profile.lookup()
	if err != nil {
		return nil, &UsageError{err.Error()[len("check: "):]}
	}
	if o.At.IsZero() {
		o.At = time.Now()
	}
	if err := o.complete(p); err != nil {
		return nil, err
	}
	s := newSubject(&o, p)
	if n := max(len(s.files.leaves), len(s.peer.leaves)); n > maxNodes && (p.name == ExpresswayTraversal || p.name == Jabber) {
		return nil, &UsageError{fmt.Sprintf("there are %d certificates that are no CA's, and a cluster has no more than %d nodes", n, maxNodes)}
	}
	v := &Verdict{
		Schema: Schema, Profile: p.name, Title: p.title, At: o.At.UTC().Truncate(time.Millisecond), Accepted: true,
		Inputs:     s.inputInfo(),
		Chain:      s.describePath(s.files.path),
		Peer:       s.describePath(s.peer.path),
		Checks:     []CheckResult{},
		Comparison: []Pair{}, States: []State{},
		NotChecked: []string{"revocation (CRL, OCSP)"},
	}
	for _, r := range p.rules() {
		result := s.apply(r)
		if result.Result == Fail {
			v.Accepted = false
		}
		v.Checks = append(v.Checks, result)
	}
	switch p.name {
	case OMEMigration:
		v.Comparison = compare(s.files.path, s.peer.path)
	case ExpresswayTraversal:
		v.States = zoneStates(v)
	}
	return v, nil
}

// complete says what is missing.
func (o *Options) complete(p profile) error {
	if len(o.Files) == 0 {
		return &UsageError{fmt.Sprintf("nothing to check: give a file or --connect with %s", p.wants)}
	}
	missing := map[string]bool{"--trust": len(o.Trust) == 0, "--peer": len(o.Peer) == 0, "--verify-name": o.VerifyName == ""}
	for _, need := range p.needs {
		if missing[need] {
			return &UsageError{fmt.Sprintf("%s needs %s: it is given %s", p.name, need, p.wants)}
		}
	}
	for _, in := range slices.Concat(o.Trust, o.Peer, o.PeerTrust) {
		if in.Err != nil {
			return fmt.Errorf("check: read %s: %w", in.Name, in.Err)
		}
	}
	for _, in := range o.Files {
		if in.Err != nil && !p.coversFormat {
			return fmt.Errorf("check: read %s: %w", in.Name, in.Err)
		}
	}
	return nil
}

func newSubject(o *Options, p profile) *subject {
	s := &subject{Options: o, where: map[string]place{}, proofs: newProofs()}
	s.trust = s.gather(o.Trust, 0)
	s.peerTrust = s.trust
	if len(o.PeerTrust) > 0 {
		s.peerTrust = s.gather(o.PeerTrust, 0)
	}
	s.peer = s.side(o.Peer)
	s.files = s.side(o.Files)
	if o.CSR != nil {
		s.files.preferKey(o.CSR.RawSubjectPublicKeyInfo)
	}
	s.findPaths(p)
	return s
}

// gather pools the certificates of inputs and remembers where they were. Trust
// stores have no positions, and are told of only if a certificate is in no file.
func (s *subject) gather(inputs []*Input, from int) *pool {
	var all []*x509.Certificate
	for _, in := range inputs {
		for _, c := range in.Certs {
			all = append(all, c)
			position := 0
			if from > 0 {
				position = from
				from++
			}
			if old, known := s.where[string(c.Raw)]; !known || old.position == 0 && position > 0 {
				s.where[string(c.Raw)] = place{position, in.Name}
			}
		}
	}
	return s.proofs.pool(all)
}

// side gathers what a party presents. The party's own certificate is the first
// that is no CA's or, where all are CAs', the first that has issued no other.
func (s *subject) side(inputs []*Input) side {
	d := side{inputs: inputs, pool: s.gather(inputs, 1)}
	issuer := map[string]bool{}
	for _, c := range d.pool.certs {
		if !selfIssued(c) {
			issuer[canonical(c.RawIssuer)] = true
		}
	}
	for _, c := range d.pool.certs {
		if (!c.BasicConstraintsValid || !c.IsCA) && !issuer[canonical(c.RawSubject)] {
			d.leaves = append(d.leaves, c)
		}
	}
	if len(d.leaves) == 0 {
		for _, c := range d.pool.certs {
			if !issuer[canonical(c.RawSubject)] {
				d.leaves = append(d.leaves, c)
				break
			}
		}
	}
	if len(d.leaves) == 0 && len(d.pool.certs) > 0 {
		d.leaves = d.pool.certs[:1]
	}
	if len(d.leaves) > 0 {
		d.leaf = d.leaves[0]
	}
	return d
}

// preferKey makes the certificate with a public key the party's own.
func (d *side) preferKey(spki []byte) {
	for _, c := range d.pool.certs {
		if bytes.Equal(c.RawSubjectPublicKeyInfo, spki) {
			d.leaf = c
			return
		}
	}
}

// findPaths finds each side's path by the profile's idea of trust.
func (s *subject) findPaths(p profile) {
	if p.name == ExpresswayTraversal {
		s.zoneWays()
		return
	}
	for _, d := range []*side{&s.files, &s.peer} {
		switch {
		case d.leaf == nil:
		case p.openssl != "":
			store, require := s.opensslStore(p, d)
			d.ways = []way{s.wayOf(p.openssl, d.leaf, given(d.inputs), store, require, p.purpose)}
			d.path = d.ways[0].best
		default:
			d.path = s.pathOf(p.name, d.leaf, d.pool)
		}
	}
}

// opensslStore returns what a party's certificate is verified with, and where
// every CA of its path must be. An LSC without a trust store is verified with
// the CAs that come with it, which is what is uploaded as CAPF-trust.
func (s *subject) opensslStore(p profile, d *side) (store *pool, require bool) {
	switch {
	case p.name != CAPFLSC:
		return s.trust, true
	case len(s.trust.certs) > 0:
		return s.trust, false
	}
	return s.proofs.pool(slices.DeleteFunc(slices.Clone(d.pool.certs), func(c *x509.Certificate) bool { return c == d.leaf })), false
}

func (s *subject) pathOf(p Profile, leaf *x509.Certificate, given *pool) *path {
	switch {
	case p == ExpresswayMRA:
		return s.proofs.findPath(leaf, s.proofs.pool(given.certs, s.trust.certs, s.peerTrust.certs), s.trust.anchors(leaf), s.trust, s.At)
	case p == Jabber && len(s.trust.certs) > 0:
		return s.proofs.findPath(leaf, s.proofs.pool(given.certs, s.trust.certs), s.trust.anchors(leaf), nil, s.At)
	}
	return s.proofs.findPath(leaf, given, given.roots(), nil, s.At)
}

// anchors returns what a store lets a path end at: its roots and, where it is
// in the store, the certificate itself.
func (p *pool) anchors(leaf *x509.Certificate) *pool {
	if p.has(leaf) && selfIssued(leaf) {
		return newPool(p.roots().certs, []*x509.Certificate{leaf})
	}
	return p.roots()
}

// apply runs one rule.
func (s *subject) apply(r rule) CheckResult {
	out := CheckResult{Rule: r.id, Says: r.says, Result: Pass, Findings: []Finding{}}
	found, skipped := r.check(s)
	if skipped != "" {
		out.Result, out.Reason = Skipped, skipped
		return out
	}
	for _, f := range found {
		f.Rule = r.id
		out.Findings = append(out.Findings, f)
		switch {
		case f.Level == Error:
			out.Result = Fail
		case out.Result == Pass:
			out.Result = Warned
		}
	}
	return out
}

// info describes a certificate with its place.
func (s *subject) info(c *x509.Certificate) *CertInfo {
	if c == nil {
		return nil
	}
	at := s.where[string(c.Raw)]
	d := Describe(c)
	d.Position, d.Source = at.position, Printable(at.source)
	return &d
}

func (s *subject) describePath(p *path) []CertInfo {
	out := []CertInfo{}
	if p != nil {
		for _, c := range p.certs {
			out = append(out, *s.info(c))
		}
	}
	return out
}

func (s *subject) inputInfo() []InputInfo {
	out := []InputInfo{}
	add := func(role string, inputs []*Input) {
		for _, in := range inputs {
			i := InputInfo{Name: Printable(in.Name), Role: role, Format: in.Format, Certificates: len(in.Certs), Notes: append([]string{}, in.Notes...)}
			if in.Err != nil {
				i.Error = Printable(in.Err.Error())
			}
			out = append(out, i)
		}
	}
	add("file", s.Files)
	if n := len(s.files.leaves); n > 1 && (s.Profile == Expressway || s.Profile == ExpresswayMRA || s.Profile == CAPFLSC || s.Profile == CUCMIIS) {
		out[0].Notes = append(out[0].Notes, fmt.Sprintf("only %q is checked, not the other certificates that are no CA's (%d)", IssuedTo(s.files.leaf), n-1))
	}
	add("peer", s.Peer)
	add("trust", s.Trust)
	add("peer-trust", s.PeerTrust)
	return out
}

// maxNodes is the largest number of servers of a cluster that are checked.
const maxNodes = 6

// noCertificate is why a rule on the certificate cannot be applied.
const noCertificate = "no certificate could be read"
