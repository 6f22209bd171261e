package chain

import (
	"crypto/x509"
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/onlineca/onlineca/ra/fault"
)

const device = "SEP001122334455"

func asLSC(c *x509.Certificate) {
	c.KeyUsage = x509.KeyUsageDigitalSignature | x509.KeyUsageKeyEncipherment
	c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth}
}

func TestLSCRows(t *testing.T) {
	root := issue(t, nil, "Root-CA", asCA)
	inter := issue(t, root, "Phones-CA", asCA)
	capf := issue(t, root, "CAPF-eb606ac0", asCA)
	late := issue(t, root, "Old-CA", asCA, expired)
	both := []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth}
	full := LSCOptions{Device: device, EKU: both, At: now}
	good := issue(t, inter, "CP-8865-"+device, asLSC)
	if got := CheckLSC(good.cert, certsOf(inter, root), full); len(got) != 0 {
		t.Errorf("a good LSC: %+v", got)
	}
	if got := CheckLSC(good.cert, nil, LSCOptions{}); len(got) != 0 {
		t.Errorf("a good LSC without its chain: %+v", got)
	}
	for _, c := range []struct {
		name   string
		leaf   *authority
		chain  []*authority
		opts   LSCOptions
		rule   string
		code   fault.Code
		text   string
		detail string
	}{
		{"no digitalSignature", issue(t, inter, device, asLSC, usage(x509.KeyUsageKeyEncipherment)), certsAs(inter, root), full, "key-usage", fault.LSCKeyUsage, "", "lacks digitalSignature; it is: keyEncipherment"},
		{"no keyEncipherment", issue(t, inter, device, asLSC, usage(x509.KeyUsageDigitalSignature)), certsAs(inter, root), full, "key-usage", fault.LSCKeyUsage, "", "lacks keyEncipherment"},
		{"no key usage", issue(t, inter, device, asLSC, usage(0)), certsAs(inter, root), full, "key-usage", fault.LSCKeyUsage, "", "lacks digitalSignature and keyEncipherment; it is: none"},
		{"no serverAuth", issue(t, inter, device, asLSC, extended(x509.ExtKeyUsageClientAuth)), certsAs(inter, root), full, "eku", fault.LSCKeyUsage, "", "lacks serverAuth; it is: clientAuth"},
		{"another device", issue(t, inter, "SEPAABBCCDDEEFF", asLSC), certsAs(inter, root), full, "device", fault.InvalidLSC, "CAPF_OP_FAIL_INVALID_LSC", `"SEPAABBCCDDEEFF" and does not contain`},
		{"issuer called CAPF-", issue(t, capf, device, asLSC), certsAs(capf, root), full, "issuer-name", fault.CACNCAPF, "", `called "CAPF-eb606ac0"`},
		{"no root", issue(t, inter, device, asLSC), certsAs(inter), full, "chain-complete", fault.CAPFTrustMissing, "CAPF_OP_FAIL_INVALID_LSC", `"Root-CA", which issued "Phones-CA", is missing`},
		{"CA not in the trust store", issue(t, inter, device, asLSC), certsAs(inter, root), LSCOptions{At: now, Trust: certsOf(capf)}, "chain-complete", fault.CAPFTrustMissing, "CAPF_OP_FAIL_INVALID_LSC", `"Root-CA" is self-signed and not in the trust store`},
		{"expired", issue(t, inter, device, asLSC, expired), certsAs(inter, root), full, "validity", fault.InvalidLSC, "CAPF_OP_FAIL_INVALID_LSC", "has expired"},
		{"CA expired", issue(t, late, device, asLSC), certsAs(late, root), full, "validity", fault.InvalidLSC, "CAPF_OP_FAIL_INVALID_LSC", `"Old-CA" has expired`},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := CheckLSC(c.leaf.cert, certsOf(c.chain...), c.opts)
			if len(got) != 1 {
				t.Fatalf("%d findings: %+v", len(got), got)
			}
			f := got[0]
			if f.Rule != c.rule || f.Fault != c.code || f.Code != c.code.String() || f.Text != c.text || f.Level != Error || !strings.Contains(f.Detail, c.detail) {
				t.Errorf("%s %s %q: %s", f.Rule, f.Code, f.Text, f.Detail)
			}
			if err := f.Err(); !errors.Is(err, c.code) || !strings.Contains(err.Error(), f.Detail) {
				t.Errorf("Err() = %v", err)
			}
			// The command says the same.
			o := Options{Profile: CAPFLSC, Files: inputs(input(t, "lsc.pem", append(certsAs(c.leaf), c.chain...)...)), VerifyName: c.opts.Device, EKU: c.opts.EKU}
			if c.opts.Trust != nil {
				o.Trust = inputs(input(t, "trust.pem", capf))
			}
			if diff := cmp.Diff([]string{c.rule}, brokenRules(check(t, o))); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestLSCTwoAtOnceAndWarning(t *testing.T) {
	capf := issue(t, nil, "CAPF-eb606ac0", asCA)
	bad := issue(t, capf, device, usage(x509.KeyUsageDigitalSignature))
	var codes []string
	for _, f := range CheckLSC(bad.cert, certsOf(capf), LSCOptions{Device: device}) {
		codes = append(codes, f.Code)
	}
	if diff := cmp.Diff([]string{"lsc-key-usage", "ca-cn-capf"}, codes); diff != "" {
		t.Error(diff)
	}
	// Nobody asked for clientAuth, but what is there does not let a phone connect.
	server := issue(t, nil, device, asLSC, extended(x509.ExtKeyUsageServerAuth))
	got := CheckLSC(server.cert, nil, LSCOptions{})
	if len(got) != 1 || got[0].Level != Warning {
		t.Errorf("%+v", got)
	}
}

// iis is a certificate for the CAPF Online CA's web server.
func iis(tb testing.TB, ca *authority, change ...func(*x509.Certificate)) *authority {
	return issue(tb, ca, "lab-dc.michamen.com", append([]func(*x509.Certificate){asServer()}, change...)...)
}

// documented are the lines of the vendor's document for a failure.
func documented(tb testing.TB, name string) string {
	tb.Helper()
	data, err := os.ReadFile("testdata/ces/" + name)
	if err != nil {
		tb.Fatal(err)
	}
	return strings.TrimSpace(string(data))
}

func TestCUCMRows(t *testing.T) {
	root := issue(t, nil, "lab-ca.michamen.com", asCA)
	inter := issue(t, root, "Inter-CA", asCA)
	host := "lab-dc.michamen.com"
	both := inputs(input(t, "capf-trust.pem", root, inter))
	accepted(t, check(t, Options{Profile: CUCMIIS, Files: inputs(input(t, "iis.pem", iis(t, inter), inter)), Trust: both, VerifyName: host}))
	accepted(t, check(t, Options{Profile: CUCMIIS, Files: inputs(input(t, "iis.pem", iis(t, inter, asServer("*.michamen.com")), inter)), Trust: both, VerifyName: host}))

	self := iis(t, nil)
	for _, c := range []struct {
		name  string
		leaf  *authority
		trust []*Input
		host  string
		rule  string
		code  fault.Code
		log   string
	}{
		{"root not trusted", iis(t, inter), inputs(input(t, "t", inter)), host, "capf-trust", fault.UntrustedChain, "untrusted-chain"},
		{"intermediate not trusted", iis(t, inter), inputs(input(t, "t", root)), host, "capf-trust", fault.UntrustedChain, "untrusted-chain"},
		{"self-signed", self, both, host, "self-signed", fault.SelfSigned, "self-signed"},
		{"self-signed and trusted", self, inputs(input(t, "t", self)), host, "self-signed", fault.SelfSigned, "self-signed"},
		{"name", issue(t, inter, "lab-dc", asServer()), both, host, "hostname", fault.NameMismatch, "name-mismatch"},
		{"not yet valid", issue(t, inter, "lab-dc-iis.michamen.com", asServer(), early), both, "lab-dc-iis.michamen.com", "validity", fault.NotYetValid, "not-yet-valid"},
		{"expired", iis(t, inter, expired), both, host, "validity", fault.Expired, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := only(t, check(t, Options{Profile: CUCMIIS, Files: inputs(input(t, "iis.pem", c.leaf, inter)), Trust: c.trust, VerifyName: c.host}))
			if f.Rule != c.rule || f.Fault != c.code || f.Code != c.code.String() {
				t.Errorf("%s %s", f.Rule, f.Code)
			}
			if c.log == "" {
				return
			}
			if diff := cmp.Diff(documented(t, c.log), f.Log); diff != "" {
				t.Errorf("log (-document +got):\n%s", diff)
			}
		})
	}
	// Two at once, in the order in which libcurl finds out.
	v := check(t, Options{Profile: CUCMIIS, Files: inputs(input(t, "iis.pem", issue(t, inter, "lab-dc", asServer(), expired), inter)), Trust: inputs(input(t, "t", root)), VerifyName: host})
	if got := brokenRules(v); !cmp.Equal(got, []string{"capf-trust", "validity", "hostname"}) {
		t.Error(got)
	}
}

func TestCUCMHostname(t *testing.T) {
	root := issue(t, nil, "Root-CA", asCA)
	run := func(cn, host string, names ...string) *Verdict {
		return check(t, Options{Profile: CUCMIIS, Files: inputs(input(t, "iis.pem", issue(t, root, cn, asServer(names...)))), Trust: inputs(input(t, "t", root)), VerifyName: host, At: now.Add(time.Hour)})
	}
	// Alternative names win over the common name.
	f := only(t, run("lab-dc.michamen.com", "lab-dc.michamen.com", "other.michamen.com"))
	if f.Text != "SSL: no alternative certificate subject name matches target host name 'lab-dc.michamen.com'" {
		t.Error(f.Text)
	}
	if f := only(t, run("lab-dc", "lab-dc.michamen.com", "lab-dc.michamen.com")); f.Level != Warning {
		t.Errorf("%+v", f)
	}
	accepted(t, run("10.0.0.1", "10.0.0.1", "10.0.0.1"))
	// One label, and no more.
	if only(t, run("*.michamen.com", "a.b.michamen.com")).Level != Error {
		t.Error("a wildcard stands for two labels")
	}
}
