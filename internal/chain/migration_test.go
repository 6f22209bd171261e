package chain

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const mutual1 = "Unable to mutually authenticate and connect to the remote appliance."
const mutual2 = "Please check the source and target appliances has valid certificate chain uploaded which are signed by the same CA."

// migration is a source and a target under one root.
type migration struct {
	root, inter1, inter2 *authority
}

func newMigration(tb testing.TB) migration {
	root := issue(tb, nil, "Root-CA", asCA)
	return migration{root, issue(tb, root, "Inter-CA1", asCA), issue(tb, root, "Inter-CA2", asCA)}
}

func (m migration) options(tb testing.TB, source, target []*authority) Options {
	return Options{Profile: OMEMigration, Files: inputs(input(tb, "source.pem", source...)), Peer: inputs(input(tb, "target.pem", target...))}
}

func TestMigrationTables(t *testing.T) {
	m := newMigration(t)
	source := issue(t, m.inter1, "OMENT-310", asServer())
	target := issue(t, m.inter1, "OMENT-400", asServer())
	other := issue(t, m.inter2, "OMENT-400", asServer())

	v := check(t, m.options(t, certsAs(source, m.inter1, m.root), certsAs(target, m.inter1, m.root)))
	accepted(t, v)
	want := []Pair{
		{"OMENT-310", "Inter-CA1", "OMENT-400", "Inter-CA1", true},
		{"Inter-CA1", "Root-CA", "Inter-CA1", "Root-CA", true},
		{"Root-CA", "Root-CA", "Root-CA", "Root-CA", true},
	}
	if diff := cmp.Diff(want, v.Comparison); diff != "" {
		t.Error(diff)
	}

	v = check(t, m.options(t, certsAs(source, m.inter1, m.root), certsAs(other, m.inter2, m.root)))
	want = []Pair{
		{"OMENT-310", "Inter-CA1", "OMENT-400", "Inter-CA2", false},
		{"Inter-CA1", "Root-CA", "Inter-CA2", "Root-CA", false},
		{"Root-CA", "Root-CA", "Root-CA", "Root-CA", true},
	}
	if diff := cmp.Diff(want, v.Comparison); diff != "" {
		t.Error(diff)
	}
	f := only(t, v)
	if f.Rule != "issued-to-issued-by" || f.Text != mutual1+" "+mutual2 || f.Basis != Documented {
		t.Errorf("%s: %s", f.Rule, f.Text)
	}
	var b strings.Builder
	if err := v.WriteText(&b); err != nil {
		t.Fatal(err)
	}
	for _, line := range []string{
		"OMENT-310 (source)  Inter-CA1  X    OMENT-400 (target)  Inter-CA2",
		"Inter-CA1           Root-CA    X    Inter-CA2           Root-CA",
		"Root-CA             Root-CA    <->  Root-CA             Root-CA",
	} {
		if !strings.Contains(b.String(), line) {
			t.Errorf("the report lacks %q:\n%s", line, b.String())
		}
	}
}

func certsAs(as ...*authority) []*authority { return as }

// migrationDefect breaks one rule of the connection's validation.
type migrationDefect struct {
	name, rule, says string
	basis            Basis
	build            func(tb testing.TB, m migration) (source, target []*authority)
}

func deepChain(tb testing.TB, root *authority, n int) []*authority {
	as := []*authority{root}
	for i := range n {
		as = append([]*authority{issue(tb, as[0], fmt.Sprintf("CA-%d", i+1), asCA)}, as...)
	}
	return as
}

func migrationDefects() []migrationDefect {
	leaf := func(tb testing.TB, ca *authority, name string) *authority { return issue(tb, ca, name, asServer()) }
	return []migrationDefect{
		{"another root", "issued-to-issued-by", `issued by "Root-CA", the target's "OMENT-400" by "Foreign"`, Documented, func(tb testing.TB, m migration) (s, t []*authority) {
			foreign := issue(tb, nil, "Foreign", asCA)
			return certsAs(leaf(tb, m.root, "OMENT-310"), m.root), certsAs(leaf(tb, foreign, "OMENT-400"), foreign)
		}},
		{"one more intermediate", "issued-to-issued-by", `issued by "Root-CA"`, Documented, func(tb testing.TB, m migration) (s, t []*authority) {
			return certsAs(leaf(tb, m.root, "OMENT-310"), m.root), certsAs(leaf(tb, m.inter1, "OMENT-400"), m.inter1, m.root)
		}},
		{"roots of one name", "trust", "their keys differ", Inferred, func(tb testing.TB, m migration) (s, t []*authority) {
			twin := issue(tb, nil, "Root-CA", asCA)
			return certsAs(leaf(tb, m.root, "OMENT-310"), m.root), certsAs(leaf(tb, twin, "OMENT-400"), twin)
		}},
		{"target without its root", "trust", `target: the certificate of "Root-CA"`, Inferred, func(tb testing.TB, m migration) (s, t []*authority) {
			return certsAs(leaf(tb, m.inter1, "OMENT-310"), m.inter1, m.root), certsAs(leaf(tb, m.inter1, "OMENT-400"), m.inter1)
		}},
		{"source expired", "validity", "has expired on 2026-02-01", Documented, func(tb testing.TB, m migration) (s, t []*authority) {
			return certsAs(issue(tb, m.inter1, "OMENT-310", asServer(), expired), m.inter1, m.root), certsAs(leaf(tb, m.inter1, "OMENT-400"), m.inter1, m.root)
		}},
		{"target not yet valid", "validity", "is not valid before 2026-04-01", Documented, func(tb testing.TB, m migration) (s, t []*authority) {
			return certsAs(leaf(tb, m.inter1, "OMENT-310"), m.inter1, m.root), certsAs(issue(tb, m.inter1, "OMENT-400", asServer(), early), m.inter1, m.root)
		}},
		{"common intermediate expired", "validity", `"Old-CA" has expired`, Documented, func(tb testing.TB, m migration) (s, t []*authority) {
			old := issue(tb, m.root, "Old-CA", asCA, expired)
			return certsAs(leaf(tb, old, "OMENT-310"), old, m.root), certsAs(leaf(tb, old, "OMENT-400"), old, m.root)
		}},
	}
}

func TestMigrationEachRuleAlone(t *testing.T) {
	for _, d := range migrationDefects() {
		t.Run(d.name, func(t *testing.T) {
			m := newMigration(t)
			source, target := d.build(t, m)
			f := only(t, check(t, m.options(t, source, target)))
			if f.Rule != d.rule || f.Text != mutual1+" "+mutual2 || f.Basis != d.basis || !strings.Contains(f.Detail, d.says) {
				t.Errorf("%s (%s): %s: %s", f.Rule, f.Basis, f.Text, f.Detail)
			}
		})
	}
}

func TestMigrationDepthAndTwoRulesAtOnce(t *testing.T) {
	m := newMigration(t)
	cas := deepChain(t, m.root, 9) // with the leaf 11
	source := append(certsAs(issue(t, cas[0], "OMENT-310", asServer())), cas...)
	target := append(certsAs(issue(t, cas[0], "OMENT-400", asServer())), cas...)
	v := check(t, m.options(t, source, target))
	if got := brokenRules(v); !cmp.Equal(got, []string{"depth"}) || len(v.Findings()) != 2 {
		t.Errorf("%v, %d findings", got, len(v.Findings()))
	}
	shorter := cas[1:]
	accepted(t, check(t, m.options(t,
		append(certsAs(issue(t, shorter[0], "OMENT-310", asServer())), shorter...),
		append(certsAs(issue(t, shorter[0], "OMENT-400", asServer())), shorter...))))

	// All three at once, in the order of the article.
	late := append(certsAs(issue(t, cas[0], "OMENT-310", asServer(), expired)), cas...)
	v = check(t, m.options(t, late, certsAs(issue(t, m.inter1, "OMENT-400", asServer()), m.inter1, m.root)))
	if got := brokenRules(v); !cmp.Equal(got, []string{"issued-to-issued-by", "validity", "depth"}) {
		t.Error(got)
	}
	// Two at once.
	v = check(t, m.options(t, certsAs(late[0]), certsAs(issue(t, cas[0], "OMENT-400", asServer()))))
	if got := brokenRules(v); !cmp.Equal(got, []string{"trust", "validity"}) {
		t.Error(got)
	}
}

func TestMigrationTime(t *testing.T) {
	m := newMigration(t)
	o := m.options(t, certsAs(issue(t, m.inter1, "OMENT-310", asServer()), m.inter1, m.root), certsAs(issue(t, m.inter1, "OMENT-400", asServer()), m.inter1, m.root))
	o.At = now.AddDate(2, 0, 0)
	if got := brokenRules(check(t, o)); !cmp.Equal(got, []string{"validity"}) {
		t.Errorf("an appliance whose clock is two years fast: %v", got)
	}
}
