package chain

import (
	"bytes"
	"crypto/x509"
	"slices"
	"time"
)

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
func (p *proofs) remedies(best *path, sent []*x509.Certificate, store *pool, at time.Time) []remedy {
	var out []remedy
	sent, trusted := slices.Clone(sent), slices.Clone(store.certs)
	for len(out) < maxRemedies {
		got := p.opensslPath(best.certs[0], sent, newPool(trusted), at)
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
