package chain

import (
	"bytes"
	"crypto/x509"
	"fmt"
	"slices"
	"strings"
)

// way is what an appliance that verifies with OpenSSL makes of a certificate:
// the path that it takes, and the best of all that there are.
type way struct {
	who         string // verifies, for example "the Expressway-C"
	judge       judge
	sent        []*x509.Certificate
	store       *pool
	taken, best *path
}

// wayOf finds out for what a party sends and what the verifier trusts. If it is
// required, the trust store must hold every CA of the best path. The purpose is
// serverAuth, clientAuth, or none.
func (s *subject) wayOf(who string, leaf *x509.Certificate, sent []*x509.Certificate, store *pool, require bool, purpose x509.ExtKeyUsage) way {
	j := judge{anchors: store.opensslRoots(), store: store, require: require, at: s.At, proofs: s.proofs, openssl: true, purpose: purpose}
	w := way{who: who, judge: j, sent: sent, store: store,
		taken: j.opensslPath(leaf, sent, store),
		best:  j.findPath(leaf, s.proofs.pool([]*x509.Certificate{leaf}, sent, store.certs))}
	switch {
	case w.missed():
		w.best.rival = nil // which is told more exactly
	case w.taken.valid():
		// Of several good paths the appliance's own is told.
		j.anchors = store
		p := &path{certs: w.taken.certs, complete: true, rival: w.best.rival, steps: w.best.steps}
		p.problems = j.defects(p.certs)
		if t := j.otherOrder(leaf, sent, store); t != nil {
			p.rival = t
		}
		w.best = p
	}
	return w
}

// otherOrder returns what OpenSSL would run into if certificates came in the
// reverse order. How an appliance orders its trust store is not known.
func (j judge) otherOrder(leaf *x509.Certificate, sent []*x509.Certificate, store *pool) *problem {
	backwards := slices.Clone(store.certs)
	slices.Reverse(backwards)
	last := slices.Clone(sent)
	slices.Reverse(last)
	if other := j.opensslPath(leaf, last, j.proofs.pool(backwards)); !other.valid() {
		return &other.problems[0]
	}
	return nil
}

// missed says whether OpenSSL takes a path that is worse than one that there is.
func (w way) missed() bool {
	count := func(p *path) (n int) {
		for _, t := range p.problems {
			if t.kind != troubleNotInStore {
				n++
			}
		}
		return n
	}
	return w.best.complete && (!w.taken.complete || count(w.taken) > count(w.best)) && len(w.taken.newProblems(w.best)) > 0
}

// noWay is why a rule on the path is not applied where there is none.
const noWay = "no path leads to a root of the trust store"

// pathRule says that OpenSSL misses a path that is there, and warns where it
// might. text makes the finding for the trouble that OpenSSL runs into.
func (s *subject) pathRule(ways []way, text func(t trouble) Finding) ([]Finding, string) {
	var out []Finding
	skipped := noWay
	seen := map[string]bool{}
	for _, w := range ways {
		if w.best.complete {
			skipped = ""
		}
		found := s.secondWay(w.best)
		if w.missed() {
			found = []Finding{s.missedWay(w, text)}
		}
		for _, f := range found {
			if key := f.Detail + f.Fix; !seen[key] {
				seen[key] = true
				out = append(out, f)
			}
		}
	}
	return out, skipped
}

// missedWay is the finding on a path that OpenSSL misses.
func (s *subject) missedWay(w way, text func(t trouble) Finding) Finding {
	t := w.taken.newProblems(w.best)[0]
	steps := w.judge.remedies(w.best, w.sent, w.store)
	f := text(t.kind)
	f.Level, f.Basis, f.Certificate = Error, Inferred, s.info(w.best.certs[0])
	f.Detail = fmt.Sprintf("a path exists (%s), but %s verifies with OpenSSL, which takes another one and does not come back: %s", pathNames(w.best), w.who, t.detail)
	f.Fix = s.advice(steps)
	if len(steps) > 0 {
		f.Certificate = s.info(steps[0].cert)
	}
	return f
}

// pathNames shows a path in one line.
func pathNames(p *path) string {
	var names []string
	for _, c := range p.certs {
		names = append(names, fmt.Sprintf("%q", IssuedTo(c)))
	}
	return strings.Join(names, ", ")
}

// advice puts remedies into words. CAs of one name are told apart by what else
// is in their certificates.
func (s *subject) advice(steps []remedy) string {
	var parts []string
	for _, step := range steps {
		c := step.cert
		id := fmt.Sprintf("the certificate of %q by %q, serial number %x, valid %s, from %s", IssuedTo(c), IssuedBy(c), c.SerialNumber, validity(c), Printable(s.where[string(c.Raw)].source))
		switch {
		case step.again:
			parts = append(parts, fmt.Sprintf("have %s issued again: the key identifier in it is not that of its issuer", id))
		case step.add:
			parts = append(parts, "put "+id+" into the trust store")
		default:
			parts = append(parts, "take away "+id)
		}
	}
	if len(parts) == 0 {
		return "Take every certificate out of the file and the trust store that is not on this path."
	}
	text := strings.Join(parts, "; then ")
	return strings.ToUpper(text[:1]) + text[1:] + "."
}

// remedy is one thing to do so that OpenSSL takes a path that is there.
type remedy struct {
	cert *x509.Certificate
	// add says that the certificate is to be put into the trust store. Otherwise
	// it is to be taken away, from wherever it is.
	add bool
	// again says that only a new certificate helps: the key identifier in this
	// one is not its issuer's.
	again bool
}

// remedies says what to do so that OpenSSL takes the path best, which must be a
// good one, and not another. Each step brings OpenSSL further along that path.
// The result is empty where it takes best already.
func (j judge) remedies(best *path, sent []*x509.Certificate, store *pool) []remedy {
	var out []remedy
	sent, trusted := slices.Clone(sent), slices.Clone(store.certs)
	for len(out) < maxRemedies {
		got := j.opensslPath(best.certs[0], sent, j.proofs.pool(trusted))
		if len(got.newProblems(best)) == 0 {
			break
		}
		i := 0
		for i < min(len(got.certs), len(best.certs)) && bytes.Equal(got.certs[i].Raw, best.certs[i].Raw) {
			i++
		}
		same := func(c *x509.Certificate) func(*x509.Certificate) bool {
			return func(o *x509.Certificate) bool { return bytes.Equal(o.Raw, c.Raw) }
		}
		switch {
		case i < len(got.certs):
			wrong := got.certs[i]
			if slices.ContainsFunc(best.certs, same(wrong)) {
				return append(out, remedy{cert: best.certs[i-1], again: true})
			}
			out = append(out, remedy{cert: wrong})
			sent, trusted = slices.DeleteFunc(sent, same(wrong)), slices.DeleteFunc(trusted, same(wrong))
		case i == len(best.certs) || !likelyIssued(best.certs[i], best.certs[i-1]) || slices.ContainsFunc(trusted, same(best.certs[i])):
			return append(out, remedy{cert: best.certs[i-1], again: true})
		default:
			out = append(out, remedy{cert: best.certs[i], add: true})
			trusted = append(trusted, best.certs[i])
		}
	}
	return out
}

// newProblems are the problems that a path has and another one has not.
func (p *path) newProblems(other *path) []problem {
	return slices.DeleteFunc(slices.Clone(p.problems), func(t problem) bool {
		return slices.ContainsFunc(other.problems, func(o problem) bool {
			return o.kind == t.kind && bytes.Equal(o.cert.Raw, t.cert.Raw)
		})
	})
}
