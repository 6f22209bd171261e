package chain

import (
	"bytes"
	"context"
	"crypto/x509"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/onlineca/onlineca/internal/interop"
)

var seed = flag.Uint64("seed", 0, "seed of the generated chains (0: a new one)")

// all are the certificates that there are, store those that are trusted.
func (c *generated) all() *pool   { return newPool(c.untrust, c.trusted) }
func (c *generated) store() *pool { return newPool(c.trusted) }

// ours is this package's answer by RFC 5280.
func (c *generated) ours() *path {
	return newProofs().findPath(c.leaf, c.all(), c.store().anchors(c.leaf), nil, now)
}

// best is the best path by OpenSSL's rules, of all that there are.
func (c *generated) best() *path {
	return judge{anchors: c.store().opensslRoots(), at: now, proofs: newProofs(), openssl: true}.findPath(c.leaf, c.all())
}

// taken is the path that OpenSSL takes, as this package has it.
func (c *generated) taken() *path {
	return c.takenFor(x509.ExtKeyUsageAny)
}

func (c *generated) takenFor(purpose x509.ExtKeyUsage) *path {
	return judge{at: now, proofs: newProofs(), purpose: purpose}.opensslPath(c.leaf, c.untrust, c.store())
}

// widened is the case as crypto/x509 of Go 1.26 reads it. RFC 5280 section
// 4.2.1.10 lets a mail constraint without a leading dot stand for one host; Go
// lets it stand for the hosts below as well. In the copies here, each such
// constraint is followed by the one that means those hosts.
func (c *generated) widened() *generated {
	widen := func(constraints []string) []string {
		out := slices.Clone(constraints)
		for _, host := range constraints {
			if !strings.Contains(host, "@") && !strings.HasPrefix(host, ".") {
				out = append(out, "."+host)
			}
		}
		return out
	}
	copies := func(certs []*x509.Certificate) (out []*x509.Certificate) {
		for _, cert := range certs {
			twin := *cert
			twin.PermittedEmailAddresses, twin.ExcludedEmailAddresses = widen(cert.PermittedEmailAddresses), widen(cert.ExcludedEmailAddresses)
			out = append(out, &twin)
		}
		return out
	}
	w := *c
	w.untrust, w.trusted = copies(c.untrust), copies(c.trusted)
	return &w
}

// goDeparts says whether a case has what [generated.widened] is about: a mail
// address at a host below one that is a constraint.
func (c *generated) goDeparts() bool {
	for _, ca := range c.all().certs {
		for _, host := range slices.Concat(ca.PermittedEmailAddresses, ca.ExcludedEmailAddresses) {
			for _, mail := range c.leaf.EmailAddresses {
				if !strings.ContainsAny(host, "@") && strings.HasSuffix(mail, "."+host) {
					return true
				}
			}
		}
	}
	return false
}

// opensslDeparts says whether a case has what OpenSSL judges otherwise than RFC
// 5280: certificates that end with the second of the check, names in the subject
// that are no alternative names, and wildcards under an excluded name.
func (c *generated) opensslDeparts() bool {
	lastSecond := slices.ContainsFunc(append(c.all().certs, c.leaf), func(cert *x509.Certificate) bool { return cert.NotAfter.Equal(now) })
	excluded := slices.ContainsFunc(c.all().certs, func(cert *x509.Certificate) bool { return len(cert.ExcludedDNSDomains) > 0 })
	wildcard := slices.ContainsFunc(c.leaf.DNSNames, func(n string) bool { return strings.HasPrefix(n, "*.") })
	return lastSecond || len(subjectMails(c.leaf)) > 0 || len(c.leaf.DNSNames) == 0 || wildcard && excluded
}

// alone is a path without anything beside it.
func (c *generated) alone(p []*x509.Certificate) *generated {
	return &generated{number: c.number, leaf: c.leaf, untrust: p[1:max(1, len(p)-1)], trusted: p[len(p)-1:], features: c.features}
}

// golang is that of crypto/x509, and its paths. What is no root is none to Go
// either, although it is in the trust store.
func (c *generated) golang() ([][]*x509.Certificate, error) {
	o := x509.VerifyOptions{Roots: x509.NewCertPool(), Intermediates: x509.NewCertPool(), CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}}
	roots := c.store().anchors(c.leaf)
	for _, t := range roots.certs {
		o.Roots.AddCert(t)
	}
	for _, u := range c.all().certs {
		if !roots.has(u) {
			o.Intermediates.AddCert(u)
		}
	}
	return c.leaf.Verify(o)
}

// openssl is that of openssl verify, for many cases in one process.
func openssl(tb testing.TB, cases []*generated, options ...string) (trusted map[int]bool, output string) {
	tb.Helper()
	dir := tb.TempDir()
	var ca, untrusted []*x509.Certificate
	args := append([]string{"verify"}, options...)
	args = append(args, "-attime", strconv.FormatInt(now.Unix(), 10), "-CAfile", "ca.pem")
	write := func(name string, certs ...*x509.Certificate) {
		if err := os.WriteFile(filepath.Join(dir, name), pemOf(certs...), 0o600); err != nil {
			tb.Fatal(err)
		}
	}
	for _, c := range cases {
		ca, untrusted = append(ca, c.trusted...), append(untrusted, c.untrust...)
		name := fmt.Sprintf("%d.pem", c.number)
		write(name, c.leaf)
		args = append(args, name)
	}
	write("ca.pem", ca...)
	if len(untrusted) > 0 { // an empty file is an error
		write("untrusted.pem", untrusted...)
		args = slices.Insert(args, 1, "-untrusted", "untrusted.pem")
	}
	ctx, cancel := context.WithTimeout(tb.Context(), 2*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, interop.Look("openssl"), args...)
	cmd.Dir = dir
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Run(); err != nil && cmd.ProcessState == nil {
		tb.Fatal(err)
	}
	trusted = map[int]bool{}
	for line := range strings.Lines(out.String()) {
		if name, ok := strings.CutSuffix(strings.TrimSpace(line), ".pem: OK"); ok {
			n, err := strconv.Atoi(name)
			if err != nil {
				tb.Fatalf("openssl: %q", line)
			}
			trusted[n] = true
		}
	}
	return trusted, out.String()
}

// comparison is the test's tally.
type comparison struct {
	t      *testing.T
	counts map[string]int
}

// TestAgreesWithGoAndOpenSSL compares verifiers on generated chains, 2000 of
// them where the environment has ONLINECA_LONG, as in CI. Nothing is excused:
//
//   - the path that we say OpenSSL takes is good exactly if openssl says so;
//   - we find a path exactly if Go does, with Go's reading of one kind of
//     constraint, which must be the only difference ([generated.widened]), and
//     OpenSSL is the witness that RFC 5280 is read as here;
//   - where there is a good path and OpenSSL does not take it, openssl accepts
//     that path alone, and accepts the whole after what we advise is done.
func TestAgreesWithGoAndOpenSSL(t *testing.T) {
	interop.Need(t, "openssl")
	n := 200
	if os.Getenv("ONLINECA_LONG") != "" {
		n = 2000
	}
	s := *seed
	if s == 0 {
		s = rand.Uint64()
	}
	version, err := exec.CommandContext(t.Context(), interop.Look("openssl"), "version").Output()
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d chains, -seed %d (keys are new in every run), %s", n, s, version)
	g := &generator{tb: t, r: rand.New(rand.NewPCG(s, s))}
	x := &comparison{t: t, counts: map[string]int{}}
	const batch = 100
	for range n / batch {
		var cases []*generated
		for range batch {
			cases = append(cases, g.next())
		}
		trusted, output := openssl(t, cases)
		x.withPurposes(cases)
		for _, c := range cases {
			for _, f := range c.features {
				x.counts[f]++
			}
			x.withGo(c)
			x.withOpenSSL(c, trusted[c.number], output)
		}
	}
	t.Logf("%v", x.counts)
	x.complete(n)
}

// complete fails the test if something that it is about did not occur.
func (x *comparison) complete(n int) {
	want := []string{"valid", "invalid", "pss", "cross-signed", "expired", "not yet valid", "not a CA", "no keyCertSign", "path length", "name constraints",
		"*rsa.PrivateKey", "*ecdsa.PrivateKey", "ed25519.PrivateKey", "intermediate in the store", "no key identifiers", "OpenSSL takes another path"}
	if n >= 2000 {
		want = append(want, "depth 1", "depth 12", "root not trusted", "one missing", "another CA of the name", "host only in the common name", "mail address in the subject",
			"mail at a host below", "good but for the purpose sslserver", "good but for the purpose sslclient", "taken away", "added to the store", "last second", "root renewed", "another root of the name", "wrong key identifier", "to be issued again",
			"critical extension", "signed by another key", "Go accepts what RFC 5280 does not", "Go refuses what RFC 5280 accepts", "OpenSSL is the witness")
	}
	for _, f := range want {
		if x.counts[f] == 0 {
			x.t.Errorf("no chain with %q among %d", f, n)
		}
	}
}

// withGo compares the search for any path with Go's.
func (x *comparison) withGo(c *generated) {
	ours, wide := c.ours(), c.widened().ours()
	chains, err := c.golang()
	x.counts[map[bool]string{true: "valid", false: "invalid"}[ours.valid()]]++
	if (err == nil) != wide.valid() {
		x.t.Errorf("case %d %v: ours %v %+v, Go %v", c.number, c.features, wide.valid(), wide.problems, err)
	}
	if ours.valid() == wide.valid() {
		return
	}
	if !c.goDeparts() {
		x.t.Errorf("case %d %v: Go departs from RFC 5280 where no mail address is at a host below a constraint", c.number, c.features)
	}
	witness, want, says := c.alone(c.best().certs), true, ": OK"
	if err == nil {
		x.counts["Go accepts what RFC 5280 does not"]++
		witness, want, says = c.alone(chains[0]), false, "subtree violation"
	} else {
		x.counts["Go refuses what RFC 5280 accepts"]++
	}
	if slices.Contains(c.features, "wrong key identifier") || c.opensslDeparts() {
		return // OpenSSL has something else to say of it
	}
	x.counts["OpenSSL is the witness"]++
	x.look(witness, want, says)
}

// withOpenSSL compares the path that OpenSSL takes with what it says of it.
func (x *comparison) withOpenSSL(c *generated, accepts bool, output string) {
	taken, best := c.taken(), c.best()
	if taken.valid() != accepts {
		x.t.Errorf("case %d %v: ours %v %+v, openssl %v\n%s", c.number, c.features, taken.valid(), taken.problems, accepts, about(output, c.number))
	}
	if taken.valid() && !best.valid() {
		x.t.Errorf("case %d %v: OpenSSL takes a good path, and we find none: %+v", c.number, c.features, best.problems)
	}
	if best.valid() != c.ours().valid() && !c.opensslDeparts() {
		x.t.Errorf("case %d %v: OpenSSL departs from RFC 5280: %+v, %+v", c.number, c.features, best.problems, c.ours().problems)
	}
	if taken.valid() || !best.valid() {
		return
	}
	x.counts["OpenSSL takes another path"]++
	x.advised(c, best)
}

// withPurposes compares the path that OpenSSL takes for a server and a client.
func (x *comparison) withPurposes(cases []*generated) {
	for name, purpose := range map[string]x509.ExtKeyUsage{"sslserver": x509.ExtKeyUsageServerAuth, "sslclient": x509.ExtKeyUsageClientAuth} {
		trusted, output := openssl(x.t, cases, "-purpose", name)
		for _, c := range cases {
			p := c.takenFor(purpose)
			if p.valid() != trusted[c.number] {
				x.t.Errorf("case %d %v, %s: ours %v %+v, openssl %v\n%s", c.number, c.features, name, p.valid(), p.problems, trusted[c.number], about(output, c.number))
			}
			if p.complete && p.find(troublePurpose) != nil && len(p.problems) == 1 {
				x.counts["good but for the purpose "+name]++
			}
		}
	}
}

// advised does what is advised.
func (x *comparison) advised(c *generated, best *path) {
	after := *c
	after.untrust, after.trusted = slices.Clone(c.untrust), slices.Clone(c.trusted)
	steps := judge{at: now, proofs: newProofs()}.remedies(best, c.untrust, c.store())
	if len(steps) == 0 {
		x.t.Errorf("case %d %v: no advice", c.number, c.features)
	}
	for _, step := range steps {
		same := func(o *x509.Certificate) bool { return bytes.Equal(o.Raw, step.cert.Raw) }
		switch {
		case step.again:
			x.counts["to be issued again"]++
			if !slices.Contains(c.features, "wrong key identifier") {
				x.t.Errorf("case %d %v: %q is to be issued again", c.number, c.features, IssuedTo(step.cert))
			}
			x.look(c.alone(best.certs), false, "unable to get")
			return
		case step.add:
			x.counts["added to the store"]++
			after.trusted = append(after.trusted, step.cert)
		default:
			x.counts["taken away"]++
			after.untrust, after.trusted = slices.DeleteFunc(after.untrust, same), slices.DeleteFunc(after.trusted, same)
		}
	}
	x.look(&after, true, ": OK")
	// Alone, the path is good if the key identifiers fit: OpenSSL wants them to.
	if slices.ContainsFunc(best.certs[1:], func(ca *x509.Certificate) bool { return !fitsKeyID(ca, best.certs[slices.Index(best.certs, ca)-1]) }) {
		x.look(c.alone(best.certs), false, "unable to get")
	} else {
		x.look(c.alone(best.certs), true, ": OK")
	}
}

// look asks OpenSSL about a case that has been made of another one.
func (x *comparison) look(c *generated, want bool, says string) {
	x.t.Helper()
	trusted, output := openssl(x.t, []*generated{c})
	if trusted[c.number] != want || !strings.Contains(output, says) {
		x.t.Errorf("case %d %v: openssl %v, want %v with %q\n%s", c.number, c.features, trusted[c.number], want, says, output)
	}
}

// about picks the lines on one case out of openssl's output.
func about(output string, number int) string {
	var out []string
	for line := range strings.Lines(output) {
		if strings.Contains(line, fmt.Sprintf(" %d\n", number)) || strings.HasSuffix(line, fmt.Sprintf(" %d.pem: verification failed\n", number)) {
			out = append(out, line)
		}
	}
	return strings.Join(out, "")
}
