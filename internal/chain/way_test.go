package chain

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

// crossed is a PKI of which an intermediate has two certificates: one by the
// root that is trusted, and one by a root that is not.
type crossed struct {
	root, other, inter, cross, leaf, peer *authority
}

func newCrossed(tb testing.TB) crossed {
	root, other := issue(tb, nil, "Root-CA", asCA), issue(tb, nil, "Other-Root", asCA)
	inter := issue(tb, root, "Inter-CA", asCA)
	return crossed{root, other, inter, issueKey(tb, other, inter.key, "Inter-CA", asCA),
		issue(tb, inter, device, asServer("example.com", device)), issue(tb, inter, "peer", asServer("peer.example.com"))}
}

// run checks a profile with a file and a trust store.
func (x crossed) run(tb testing.TB, p Profile, file, trust []*authority) *Verdict {
	tb.Helper()
	o := Options{Profile: p, Files: inputs(input(tb, "file.pem", file...))}
	if len(trust) > 0 {
		o.Trust = inputs(input(tb, "trust.pem", trust...))
	}
	switch p {
	case OMEMigration:
		o.Peer = inputs(input(tb, "peer.pem", x.peer, x.inter, x.root))
	case ExpresswayTraversal:
		o.Peer = inputs(input(tb, "peer.pem", x.peer, x.inter))
	case Jabber:
		o.VerifyName = "example.com"
	case CUCMIIS:
		o.VerifyName = device
	}
	return check(tb, o)
}

func findingsOf(v *Verdict, rule string) (f []Finding) {
	for _, x := range v.Findings() {
		if x.Rule == rule {
			f = append(f, x)
		}
	}
	return f
}

// TestMissedPath: what OpenSSL misses is an error, and says what is in its way;
// once that is done, there is nothing left to say.
func TestMissedPath(t *testing.T) {
	x := newCrossed(t)
	away := func(from string) string {
		return fmt.Sprintf(`Take away the certificate of "Inter-CA" by "Other-Root", serial number %x, valid 2025-09-01 to 2026-09-01, from %s.`, x.cross.cert.SerialNumber, from)
	}
	for _, p := range []Profile{Expressway, ExpresswayTraversal, ExpresswayMRA, CAPFLSC, CUCMIIS} {
		v := x.run(t, p, certsAs(x.leaf, x.inter), certsAs(x.cross, x.root, x.inter))
		found := findingsOf(v, "path")
		if v.Accepted || len(found) == 0 {
			t.Errorf("%s: accepted %v, %d findings", p, v.Accepted, len(found))
			continue
		}
		for _, f := range found {
			if f.Level != Error || f.Basis != Inferred || f.Fix != away("trust.pem") || f.Certificate.IssuedBy != "Other-Root" ||
				!strings.Contains(f.Detail, `"Inter-CA", "Root-CA"), but `) || !strings.Contains(f.Detail, `does not come back: the certificate of "Other-Root"`) {
				t.Errorf("%s: %s %s\n%s", p, f.Level, f.Detail, f.Fix)
			}
		}
		accepted(t, x.run(t, p, certsAs(x.leaf, x.inter), certsAs(x.root, x.inter)))
	}
	// What was sent is not looked at after the store; the good path goes that way.
	low := issue(t, x.inter, "Low-CA", asCA)
	leaf := issue(t, low, device, asServer("example.com"))
	v := x.run(t, CAPFLSC, certsAs(leaf, low, x.inter), certsAs(low, x.root))
	f := only(t, v)
	if f.Rule != "path" || !strings.Contains(f.Detail, "what was sent is not looked at any more") || !strings.Contains(f.Fix, `Put the certificate of "Inter-CA" by "Root-CA"`) {
		t.Errorf("%s: %s\n%s", f.Rule, f.Detail, f.Fix)
	}
	accepted(t, x.run(t, CAPFLSC, certsAs(leaf, low, x.inter), certsAs(low, x.root, x.inter)))
}

// TestSecondWay: where all is well, but would not be for a verifier that takes
// the other way, every verdict that has a path warns.
func TestSecondWay(t *testing.T) {
	x := newCrossed(t)
	const says = `second way up the chain, and it is broken: the certificate of "Other-Root"`
	for _, c := range []struct {
		p           Profile
		rule        string
		file, trust []*authority
		others      []string // rules that are broken beside it
	}{
		{Expressway, "path", certsAs(x.leaf), certsAs(x.root, x.inter, x.cross), nil},
		{ExpresswayTraversal, "path", certsAs(x.leaf, x.inter), certsAs(x.root, x.inter, x.cross), nil},
		{ExpresswayTraversal, "path", certsAs(x.leaf, x.inter, x.cross), certsAs(x.root), []string{"ssh-tunnels"}},
		{ExpresswayMRA, "path", certsAs(x.leaf), certsAs(x.root, x.inter, x.cross), nil},
		{CAPFLSC, "path", certsAs(x.leaf, x.inter, x.cross, x.root), nil, nil},
		{CAPFLSC, "path", certsAs(x.leaf, x.inter, x.cross), certsAs(x.root), nil},
		{CUCMIIS, "path", certsAs(x.leaf, x.inter), certsAs(x.root, x.inter, x.cross), nil},
		{Jabber, "chain", certsAs(x.leaf, x.inter, x.cross), certsAs(x.root), nil},
		{OMEMigration, "trust", certsAs(x.leaf, x.inter, x.root, x.cross), nil, nil},
		{OMEUpload, "chain-links", certsAs(x.leaf, x.inter, x.root, x.cross), nil, []string{"chain-links"}},
	} {
		v := x.run(t, c.p, c.file, c.trust)
		if got := brokenRules(v); !slices.Equal(got, c.others) {
			t.Errorf("%s: %v", c.p, got)
		}
		if !slices.ContainsFunc(findingsOf(v, c.rule), func(f Finding) bool { return f.Level == Warning && strings.Contains(f.Detail, says) }) {
			t.Errorf("%s: no warning: %+v", c.p, findingsOf(v, c.rule))
		}
	}
	// One way that has expired is none that OpenSSL could take, in any order.
	late := issueKey(t, x.other, x.inter.key, "Inter-CA", asCA, expired)
	accepted(t, x.run(t, CUCMIIS, certsAs(x.leaf, x.inter), certsAs(x.root, x.inter, late)))
	accepted(t, x.run(t, CUCMIIS, certsAs(x.leaf, x.cross), certsAs(x.root, x.inter)))
}
