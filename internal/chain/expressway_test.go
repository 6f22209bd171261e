package chain

import (
	"encoding/base64"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const (
	wantNotPEM       = "Invalid certificate: The file provided is not a valid X.509 PEM certificate file."
	wantUnrecognized = "Invalid certificate: Unrecognized CA. This certificate is not currently trusted by the Expressway. This is because the CA certificate is not in the trust store."
	wantNegotiation  = "TLS negotiation error"
	wantNoTunnels    = "No SSH tunnels have been established"
)

// edge is a PKI with one intermediate, and the two Expressways.
type edge struct{ root, inter, c, e *authority }

func newEdge(tb testing.TB) edge {
	root := issue(tb, nil, "Root-CA", asCA)
	inter := issue(tb, root, "Inter-CA", asCA)
	return edge{root, inter,
		issue(tb, inter, "expc1.example.com", asServer("expc1.example.com", "expc.example.com")),
		issue(tb, inter, "expe1.example.com", asServer("expe1.example.com", "expe.example.com", "example.com"))}
}

func TestExpresswayRows(t *testing.T) {
	x := newEdge(t)
	both := inputs(input(t, "trust.pem", x.root, x.inter))
	late := issue(t, x.inter, "expc1.example.com", asServer("expc1.example.com"), expired)
	late2 := issue(t, x.inter, "expc1.example.com", asServer("expc1.example.com"), early)
	noCA := issue(t, x.root, "No-CA")
	under := issue(t, noCA, "expc1.example.com", asServer("expc1.example.com"))
	for _, c := range []struct {
		name         string
		file         *Input
		trust        []*Input
		verify       string
		rule, text   string
		detail, fix  string
		errorOrWarns Level
	}{
		{"DER", inputBytes(t, "c.pem", x.c.cert.Raw), both, "", "format", wantNotPEM, "this is DER; Expressway wants PEM", "openssl x509 -inform DER -in 'c.pem' -out chain.pem", Error},
		{"PKCS#7", inputBytes(t, "c.cer", degenerate(t, x.c, x.inter)), both, "", "format", wantNotPEM, "this is PKCS#7 (DER)", "openssl pkcs7 -inform DER", Error},
		{"Base64 without lines", inputBytes(t, "c.b64", []byte(base64.StdEncoding.EncodeToString(x.c.cert.Raw))), both, "", "format", wantNotPEM, "Base64 without PEM lines", "--for expressway --fix", Error},
		{"no intermediate trusted", input(t, "c.pem", x.c, x.inter), inputs(input(t, "trust.pem", x.root)), "", "trusted-ca", wantUnrecognized, `the CA "Inter-CA" is not in the trust store`, `"Inter-CA" under Maintenance > Security > Trusted CA certificate`, Error},
		{"no root trusted", input(t, "c.pem", x.c), inputs(input(t, "trust.pem", x.inter)), "", "trusted-ca", wantUnrecognized, `the certificate of "Root-CA", which issued "Inter-CA", is missing`, `"Root-CA" under`, Error},
		{"nothing trusted", input(t, "c.pem", x.c), inputs(input(t, "trust.pem", issue(t, nil, "Other", asCA))), "", "trusted-ca", wantUnrecognized, `"Inter-CA", which issued`, `"Inter-CA" under`, Error},
		{"name", input(t, "c.pem", x.c), both, "expc2.example.com", "names", "", `not for "expc2.example.com"`, "alternative names", Error},
		{"expired", input(t, "c.pem", late), both, "", "validity", "", "has expired on 2026-02-01", "Renew", Error},
		{"not yet valid", input(t, "c.pem", late2), both, "", "validity", "", "not valid before 2026-04-01", "clock", Error},
		{"issuer that is no CA", input(t, "c.pem", under), inputs(input(t, "trust.pem", x.root, noCA)), "", "chain", "", `"No-CA" is not a CA certificate`, "CA that may issue", Error},
		{"no common name", input(t, "c.pem", issue(t, x.inter, "", asServer("expc1.example.com"))), both, "expc1.example.com", "common-name", "", "no common name", "FQDN", Warning},
	} {
		t.Run(c.name, func(t *testing.T) {
			v := check(t, Options{Profile: Expressway, Files: inputs(c.file), Trust: c.trust, VerifyName: c.verify})
			f := only(t, v)
			if f.Rule != c.rule || f.Text != c.text || f.Level != c.errorOrWarns {
				t.Errorf("%s %s: %q, want %s: %q", f.Level, f.Rule, f.Text, c.rule, c.text)
			}
			if !strings.Contains(f.Detail, c.detail) || !strings.Contains(f.Fix+" "+f.Command, c.fix) {
				t.Errorf("detail %q\nfix %q", f.Detail, f.Fix)
			}
		})
	}
	accepted(t, check(t, Options{Profile: Expressway, Files: inputs(input(t, "c.pem", x.c)), Trust: both, VerifyName: "EXPC1.example.com."}))
}

func TestExpresswayUnreadableFile(t *testing.T) {
	x := newEdge(t)
	// A file that cannot be read at all has the first text, and nothing else.
	v := check(t, Options{Profile: Expressway, Files: inputs(inputBytes(t, "c", []byte("junk"))), Trust: inputs(input(t, "t", x.root))})
	if f := only(t, v); f.Text != wantNotPEM {
		t.Error(f.Text)
	}
}

// zone is a working traversal zone, which tests then break.
func (x edge) zone(tb testing.TB) Options {
	store := inputs(input(tb, "trust.pem", x.root, x.inter))
	return Options{Profile: ExpresswayTraversal,
		Files: inputs(input(tb, "c.pem", x.c, x.inter)), Peer: inputs(input(tb, "e.pem", x.e, x.inter)),
		Trust: store, PeerTrust: store, PeerAddress: []string{"expe.example.com"}, VerifyName: "expc.example.com"}
}

func states(v *Verdict) [2]string { return [2]string{v.States[0].Value, v.States[1].Value} }

func TestTraversalRows(t *testing.T) {
	x := newEdge(t)
	v := check(t, x.zone(t))
	accepted(t, v)
	if states(v) != [2]string{"active", "active"} {
		t.Error(v.States)
	}
	rootOnly := inputs(input(t, "trust.pem", x.root))
	for _, c := range []struct {
		name   string
		change func(*Options)
		rule   string
		text   string
		detail string
		zone   string
	}{
		{"peer address", func(o *Options) { o.PeerAddress = []string{"10.0.0.1"} }, "peer-address", wantNegotiation, `"10.0.0.1" of the Expressway-C's zone`, "down (TLS negotiation error)"},
		{"verify name", func(o *Options) { o.VerifyName = "cluster.example.com" }, "verify-name", wantNegotiation, `"cluster.example.com" of the Expressway-E's zone`, "down (TLS negotiation error)"},
		{"C trusts another CA", func(o *Options) { o.Trust = inputs(input(t, "t", issue(t, nil, "Other", asCA))) }, "trust-c", wantNegotiation, "the Expressway-C does not trust", "down (TLS negotiation error)"},
		{"E trusts another CA", func(o *Options) { o.PeerTrust = inputs(input(t, "t", issue(t, nil, "Other", asCA))) }, "trust-e", wantNegotiation, "the Expressway-E does not trust", "down (TLS negotiation error)"},
		{"C lacks the intermediate", func(o *Options) { o.Trust = rootOnly }, "ssh-tunnels", wantNoTunnels, `the intermediate "Inter-CA" is not in the trust store of the Expressway-C`, "active"},
		{"E lacks the intermediate", func(o *Options) { o.PeerTrust = rootOnly }, "ssh-tunnels", wantNoTunnels, `trust store of the Expressway-E`, "active"},
		{"E has expired", func(o *Options) {
			o.Peer = inputs(input(t, "e.pem", issue(t, x.inter, "expe.example.com", asServer("expe.example.com"), expired), x.inter))
		}, "validity", wantNegotiation, "has expired", "down (TLS negotiation error)"},
	} {
		t.Run(c.name, func(t *testing.T) {
			o := x.zone(t)
			c.change(&o)
			v := check(t, o)
			f := only(t, v)
			if f.Rule != c.rule || f.Text != c.text || !strings.Contains(f.Detail, c.detail) {
				t.Errorf("%s: %s: %s", f.Rule, f.Text, f.Detail)
			}
			if got := states(v); got[0] != c.zone || got[1] == "active" {
				t.Errorf("states %v", got)
			}
		})
	}
}

func TestTraversalTwoAtOnce(t *testing.T) {
	x := newEdge(t)
	o := x.zone(t)
	o.PeerAddress = []string{"10.0.0.1"}
	o.VerifyName = "cluster.example.com"
	if got := brokenRules(check(t, o)); !cmp.Equal(got, []string{"peer-address", "verify-name"}) {
		t.Error(got)
	}
	o = x.zone(t)
	o.PeerAddress = []string{"10.0.0.1"}
	o.PeerTrust = inputs(input(t, "trust.pem", x.root))
	v := check(t, o)
	if got := brokenRules(v); !cmp.Equal(got, []string{"peer-address", "ssh-tunnels"}) {
		t.Error(got)
	}
	if states(v) != [2]string{"down (TLS negotiation error)", "down (No SSH tunnels have been established)"} {
		t.Error(v.States)
	}
}

// In a cluster, the verify name must be in the certificate of every node.
func TestTraversalCluster(t *testing.T) {
	x := newEdge(t)
	second := issue(t, x.inter, "expc2.example.com", asServer("expc2.example.com", "expc.example.com"))
	o := x.zone(t)
	o.Files = inputs(input(t, "c1.pem", x.c, x.inter), input(t, "c2.pem", second))
	accepted(t, check(t, o))
	o.VerifyName = "expc1.example.com"
	f := only(t, check(t, o))
	if f.Rule != "verify-name" || !strings.Contains(f.Certificate.Subject, "expc2") || f.Certificate.Position != 3 {
		t.Errorf("%s: %+v", f.Rule, f.Certificate)
	}
}

func TestMRA(t *testing.T) {
	x := newEdge(t)
	both := inputs(input(t, "both.pem", x.root, x.inter))
	root := inputs(input(t, "root.pem", x.root))
	o := Options{Profile: ExpresswayMRA, Files: inputs(input(t, "c.pem", x.c)), Trust: both}
	accepted(t, check(t, o))
	o.PeerTrust = root
	if f := only(t, check(t, o)); f.Rule != "callmanager-trust" || !strings.Contains(f.Fix, `"Inter-CA" to Unified CM as callmanager-trust`) {
		t.Errorf("%s: %s", f.Rule, f.Fix)
	}
	o.Trust, o.PeerTrust = root, both
	if f := only(t, check(t, o)); f.Rule != "tomcat-trust" || !strings.Contains(f.Fix, `"Inter-CA" to Unified CM as tomcat-trust`) {
		t.Errorf("%s: %s", f.Rule, f.Fix)
	}
	o.Trust, o.PeerTrust = root, root
	if got := brokenRules(check(t, o)); !cmp.Equal(got, []string{"tomcat-trust", "callmanager-trust"}) {
		t.Error(got)
	}
}

func TestJabber(t *testing.T) {
	x := newEdge(t)
	file := func(names ...string) []*Input {
		return inputs(input(t, "e.pem", issue(t, x.inter, "example.com", asServer(names...)), x.inter, x.root))
	}
	for _, names := range [][]string{{"example.com"}, {"expe.example.com", "collab-edge.example.com"}} {
		accepted(t, check(t, Options{Profile: Jabber, Files: file(names...), VerifyName: "example.com"}))
		accepted(t, check(t, Options{Profile: Jabber, Files: file(names...), VerifyName: "example.com", Trust: inputs(input(t, "t", x.root))}))
	}
	// The common name does not count.
	f := only(t, check(t, Options{Profile: Jabber, Files: file("expe.example.com"), VerifyName: "example.com"}))
	if f.Rule != "domain" || !strings.Contains(f.Detail, `"collab-edge.example.com"`) || f.Basis != Documented {
		t.Errorf("%s: %s", f.Rule, f.Detail)
	}
	other := inputs(input(t, "t", issue(t, nil, "Other", asCA)))
	v := check(t, Options{Profile: Jabber, Files: file("expe.example.com"), VerifyName: "example.com", Trust: other})
	if got := brokenRules(v); !cmp.Equal(got, []string{"domain", "trusted-ca"}) {
		t.Error(got)
	}
}
