package chain

import (
	"crypto"
	"crypto/x509"
	"fmt"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// scene is what an appliance is given, in parts that can be broken one by one.
// The keys of its CAs stay the same, so that a repaired twin differs from a
// broken scene by what was broken and nothing else.
type scene struct {
	profile Profile
	keys    map[string]crypto.Signer

	root, inter, leaf, peer []func(*x509.Certificate)
	cn, peerCN, interCN     string
	names, peerNames        []string
	selfSigned              bool
	// What the file and the other side's file have of the chain.
	fileRoot, fileInter, backwards, stranger, der bool
	peerRoot, otherInter, twinRoot                bool
	deep                                          int // CAs above the issuing one
	// The stores hold root, inter, cross and other: cross is inter's certificate
	// by other, which is a root of its own.
	trust, peerTrust []string

	requestName             string // "" for no request
	foreignKey              bool
	verifyName, peerAddress string
	eku                     []x509.ExtKeyUsage
}

func (s *scene) key(tb testing.TB, name string) crypto.Signer {
	if s.keys[name] == nil {
		s.keys[name] = newKey(tb)
	}
	return s.keys[name]
}

// ca is a CA of the scene.
func (s *scene) ca(tb testing.TB, issuer *authority, name, cn string, change ...func(*x509.Certificate)) *authority {
	return issueKey(tb, issuer, s.key(tb, name), cn, append([]func(*x509.Certificate){asCA}, change...)...)
}

// above are the CAs from the issuing one up to the root.
func (s *scene) above(tb testing.TB, root *authority, key string, change ...func(*x509.Certificate)) []*authority {
	cas := []*authority{root}
	for i := range s.deep {
		cas = append([]*authority{s.ca(tb, cas[0], fmt.Sprint(key, i), fmt.Sprintf("CA-%d", i))}, cas...)
	}
	cn := s.interCN
	if key != "inter" {
		cn = "Inter-CA2"
	}
	return append([]*authority{s.ca(tb, cas[0], key, cn, change...)}, cas...)
}

func (s *scene) options(tb testing.TB) Options {
	tb.Helper()
	root := s.ca(tb, nil, "root", "Root-CA", s.root...)
	cas := s.above(tb, root, "inter", s.inter...)
	other := s.ca(tb, nil, "other", "Other-Root")
	certs := map[string]*authority{"root": root, "inter": cas[0], "other": other, "cross": s.ca(tb, other, "inter", s.interCN)}
	store := func(names []string) []*Input {
		if names == nil {
			return nil
		}
		var as []*authority
		for _, n := range names {
			as = append(as, certs[n])
		}
		return inputs(input(tb, "trust.pem", as...))
	}
	issuer := cas[0]
	if s.selfSigned {
		issuer = nil
	}
	leaf := issueKey(tb, issuer, s.key(tb, "leaf"), s.cn, append([]func(*x509.Certificate){asServer(s.names...)}, s.leaf...)...)
	o := Options{Profile: s.profile, Trust: store(s.trust), PeerTrust: store(s.peerTrust), VerifyName: s.verifyName, EKU: s.eku, At: now}
	o.Files = inputs(s.file(tb, leaf, cas))
	if s.peerAddress != "" {
		o.PeerAddress = []string{s.peerAddress}
	}
	if s.requestName != "" {
		name := "leaf"
		if s.foreignKey {
			name = "foreign"
		}
		o.CSR = request(tb, s.key(tb, name), s.requestName)
	}
	if s.peerCN != "" {
		o.Peer = inputs(s.peerFile(tb, root, cas))
	}
	return o
}

// file is the appliance's.
func (s *scene) file(tb testing.TB, leaf *authority, cas []*authority) *Input {
	as := certsAs(leaf)
	below := len(cas) - 1
	if !s.fileInter {
		below-- // the one that the root has issued
	}
	as = append(as, cas[:below]...)
	if s.fileRoot {
		as = append(as, cas[len(cas)-1])
	}
	if s.backwards {
		slices.Reverse(as)
	}
	if s.stranger {
		as = append(as, issue(tb, cas[len(cas)-1], "another"))
	}
	if !s.der {
		return input(tb, "chain.pem", as...)
	}
	var der []byte
	for _, a := range as {
		der = append(der, a.cert.Raw...)
	}
	return inputBytes(tb, "chain.cer", der)
}

// peerFile is that of the other side: under the same CAs, or not quite.
func (s *scene) peerFile(tb testing.TB, root *authority, cas []*authority) *Input {
	if s.twinRoot {
		root = s.ca(tb, nil, "twin", "Root-CA")
		cas = s.above(tb, root, "inter", s.inter...)
	}
	if s.otherInter {
		cas = s.above(tb, root, "inter2", s.inter...)
	}
	leaf := issueKey(tb, cas[0], s.key(tb, "peer"), s.peerCN, append([]func(*x509.Certificate){asServer(s.peerNames...)}, s.peer...)...)
	if !s.peerRoot {
		cas = cas[:len(cas)-1]
	}
	return input(tb, "peer.pem", append(certsAs(leaf), cas...)...)
}

// row breaks one rule, and says what the appliance then shows.
type row struct {
	name, rule string
	level      Level // Error, if it is not said
	code, text string
	args       []string // nil: no document shows them
	log        string   // a file in testdata, of what the vendor's document shows
	basis      Basis
	breaks     func(*scene)
}

// never is a pair of rows that cannot both be reported, and why.
type never struct{ a, b, why string }

// kind is everything about one profile.
type kind struct {
	profile Profile
	good    func(*scene)
	rows    []row
	never   []never
}

func (k kind) scene() *scene {
	s := &scene{profile: k.profile, keys: map[string]crypto.Signer{}, interCN: "Inter-CA1", fileInter: true}
	k.good(s)
	return s
}

// matches compares a finding with its row.
func (r row) matches(tb testing.TB, f Finding) {
	tb.Helper()
	level := r.level
	if level == "" {
		level = Error
	}
	if f.Rule != r.rule || f.Level != level || f.Code != r.code || f.Text != r.text || f.Basis != r.basis {
		tb.Errorf("%s: got %s %s %s %q (%s), want %s %s %s %q (%s)", r.name, f.Level, f.Rule, f.Code, f.Text, f.Basis, level, r.rule, r.code, r.text, r.basis)
	}
	if f.Detail == "" || f.Fix == "" {
		tb.Errorf("%s: no detail or no fix: %+v", r.name, f)
	}
	if diff := cmp.Diff(r.args, f.MessageArgs); diff != "" {
		tb.Errorf("%s: MessageArgs (-want +got):\n%s", r.name, diff)
	}
	r.matchesLog(tb, f)
}

// shows fails the test unless a verdict has findings of these rows, in their
// order, and no others.
func shows(tb testing.TB, v *Verdict, rows ...row) {
	tb.Helper()
	found := v.Findings()
	for _, r := range rows {
		n := 0
		for n < len(found) && found[n].Rule == r.rule {
			r.matches(tb, found[n])
			n++
		}
		if n == 0 {
			tb.Errorf("%s is not reported, or not in its place: %v", r.name, brokenRules(v))
		}
		found = found[n:]
	}
	for _, f := range found {
		tb.Errorf("reported as well: %s: %s", f.Rule, f.Detail)
	}
}

// TestEveryRule goes through every rule of every profile, as the code has them,
// each alone and every two together. The repaired twin passes.
func TestEveryRule(t *testing.T) {
	kinds := allKinds()
	for _, p := range profiles() {
		i := slices.IndexFunc(kinds, func(k kind) bool { return k.profile == p.name })
		if i < 0 {
			t.Errorf("no rows for %s", p.name)
			continue
		}
		k := kinds[i]
		t.Run(string(p.name), func(t *testing.T) {
			k.covers(t, p.rules())
			s := k.scene()
			accepted(t, check(t, s.options(t)))
			for _, r := range k.rows {
				k.alone(t, r)
			}
			k.pairs(t)
		})
	}
}

// covers fails the test if a rule has no row, or a row no rule.
func (k kind) covers(t *testing.T, rules []rule) {
	order := map[string]int{}
	for i, r := range rules {
		order[r.id] = i + 1
		if !slices.ContainsFunc(k.rows, func(row row) bool { return row.rule == r.id }) {
			t.Errorf("no row breaks the rule %s", r.id)
		}
	}
	last := 0
	names := map[string]bool{}
	for _, r := range k.rows {
		if order[r.rule] < last || names[r.name] {
			t.Errorf("the row %q (%s) is not in the order of the rules, or twice", r.name, r.rule)
		}
		last, names[r.name] = order[r.rule], true
	}
	for _, n := range k.never {
		if !names[n.a] || !names[n.b] || n.why == "" {
			t.Errorf("no such pair: %+v", n)
		}
	}
}

// alone breaks one rule, and repairs it.
func (k kind) alone(t *testing.T, r row) {
	t.Run(r.name, func(t *testing.T) {
		s := k.scene()
		good := *s
		r.breaks(s)
		v := check(t, s.options(t))
		shows(t, v, r)
		if v.Accepted != (r.level == Warning) {
			t.Errorf("accepted: %v", v.Accepted)
		}
		accepted(t, check(t, good.options(t)))
	})
}

// pairs breaks every two rules together.
func (k kind) pairs(t *testing.T) {
	n := 0
	for i, a := range k.rows {
		for _, b := range k.rows[i+1:] {
			if a.rule == b.rule {
				continue
			}
			n++
			t.Run(a.name+" and "+b.name, func(t *testing.T) {
				s := k.scene()
				a.breaks(s)
				b.breaks(s)
				v := check(t, s.options(t))
				impossible := slices.ContainsFunc(k.never, func(n never) bool { return n.a == a.name && n.b == b.name })
				if !impossible {
					shows(t, v, a, b)
					return
				}
				seen := func(r row) bool {
					return slices.ContainsFunc(v.Findings(), func(f Finding) bool { return f.Rule == r.rule })
				}
				if seen(a) == seen(b) || v.Accepted {
					t.Errorf("%v and %v: one and one only can be reported", seen(a), seen(b))
				}
			})
		}
	}
	t.Logf("%d rows, %d pairs", len(k.rows), n)
}
