package chain

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// omeCase is a chain for OpenManage Enterprise, and what is to be wrong with it.
type omeCase struct {
	single                     bool
	leaf                       []func(*x509.Certificate)
	inter                      []func(*x509.Certificate)
	requestName                string
	foreignKey, der            bool
	noRoot, noInter, backwards bool
	stranger, deep             bool
}

// options builds the chain: leaf, intermediates, root.
func (o omeCase) options(tb testing.TB) Options {
	tb.Helper()
	root := issue(tb, nil, "Root-CA", asCA)
	count := 1
	if o.deep {
		count = 12
	}
	as := []*authority{root}
	for i := range count {
		as = append([]*authority{issue(tb, as[0], fmt.Sprintf("Inter-CA%d", i+1), append([]func(*x509.Certificate){asCA}, o.inter...)...)}, as...)
	}
	key := newKey(tb)
	leaf := issueKey(tb, as[0], key, "OMENT", append([]func(*x509.Certificate){asServer("oment.example.com")}, o.leaf...)...)
	as = append([]*authority{leaf}, as...)
	if o.noInter {
		as = slices.Delete(as, len(as)-2, len(as)-1)
	}
	if o.noRoot {
		as = as[:len(as)-1]
	}
	if o.backwards {
		slices.Reverse(as)
	}
	if o.stranger {
		as = append(as, issue(tb, root, "another"))
	}
	profile := OMEUpload
	if o.single {
		profile, as = OMEServer, []*authority{leaf}
	}
	in := input(tb, "chain.pem", as...)
	if o.der {
		var der []byte
		for _, a := range as {
			der = append(der, a.cert.Raw...)
		}
		in = inputBytes(tb, "chain.cer", der)
	}
	signer := key
	if o.foreignKey {
		signer = newKey(tb)
	}
	name := "OMENT"
	if o.requestName != "" {
		name = o.requestName
	}
	return Options{Profile: profile, Files: inputs(in), CSR: request(tb, signer, name)}
}

func usage(u x509.KeyUsage) func(*x509.Certificate) {
	return func(c *x509.Certificate) { c.KeyUsage = u }
}

func extended(u ...x509.ExtKeyUsage) func(*x509.Certificate) {
	return func(c *x509.Certificate) { c.ExtKeyUsage = u }
}

func noCommonName(c *x509.Certificate) { c.Subject = pkix.Name{Organization: []string{"Example"}} }
func wildcard(c *x509.Certificate)     { c.Subject.CommonName = "*.example.com" }

// omeDefect is a row of the article.
type omeDefect struct {
	name  string
	rule  string
	code  string
	text  string
	args  []string // nil: the article does not show them
	log   string   // file in testdata/ome
	basis Basis
	apply func(*omeCase)
}

var omeUploadDefects = []omeDefect{
	{"wildcard in the request", "csr-dn", "CGEN6002", "Unable to complete the request because the input value for DistinguishedName is missing or an invalid value is entered.", nil, "", Documented, func(o *omeCase) { o.requestName = "*.example.com" }},
	{"another key", "csr-key", "CGEN1008", cgen1008Text, []string{"Invalid CSR key."}, "csr-key", Documented, func(o *omeCase) { o.foreignKey = true }},
	{"DER", "encoding", "CSEC9002", "Unable to upload the certificate because the certificate file provided is invalid.", []string{}, "csec9002", Documented, func(o *omeCase) { o.der = true }},
	{"no common name", "common-name", "CGEN1008", cgen1008Text, nil, "", Documented, func(o *omeCase) { o.leaf = append(o.leaf, noCommonName) }},
	{"wildcard", "common-name", "CGEN1008", cgen1008Text, nil, "", Documented, func(o *omeCase) { o.leaf = append(o.leaf, wildcard) }},
	{"no clientAuth", "eku", "CGEN1008", cgen1008Text, []string{"No Client/Server authentication EKU present in leaf certificate."}, "eku", Documented, func(o *omeCase) { o.leaf = append(o.leaf, extended(x509.ExtKeyUsageServerAuth)) }},
	{"no serverAuth", "eku", "CGEN1008", cgen1008Text, []string{"No Client/Server authentication EKU present in leaf certificate."}, "eku", Documented, func(o *omeCase) { o.leaf = append(o.leaf, extended(x509.ExtKeyUsageClientAuth)) }},
	{"no EKU", "eku", "CGEN1008", cgen1008Text, []string{"No Client/Server authentication EKU present in leaf certificate."}, "eku", Documented, func(o *omeCase) { o.leaf = append(o.leaf, extended()) }},
	{"no keyEncipherment", "key-encipherment", "CGEN1008", cgen1008Text, []string{"User Certificate is not a web server certificate."}, "key-encipherment", Documented, func(o *omeCase) { o.leaf = append(o.leaf, usage(x509.KeyUsageDigitalSignature)) }},
	{"no root", "chain-complete", "CGEN1008", cgen1008Text, []string{"Invalid certificate chain provided."}, "chain", Documented, func(o *omeCase) { o.noRoot = true }},
	{"no intermediate", "chain-complete", "CGEN1008", cgen1008Text, []string{"Invalid certificate chain provided."}, "chain", Documented, func(o *omeCase) { o.noInter = true }},
	{"backwards", "chain-links", "CGEN1008", cgen1008Text, []string{"Invalid certificate chain provided."}, "chain", Inferred, func(o *omeCase) { o.backwards = true }},
	{"a stranger", "chain-links", "CGEN1008", cgen1008Text, []string{"Invalid certificate chain provided."}, "chain", Inferred, func(o *omeCase) { o.stranger = true }},
	{"too deep", "depth", "CGEN1008", cgen1008Text, []string{"Invalid certificate chain provided."}, "chain", Inferred, func(o *omeCase) { o.deep = true }},
}

var omeServerDefects = []omeDefect{
	{"wildcard in the request", "csr-dn", "CGEN6002", cgen6002Text, nil, "", Documented, func(o *omeCase) { o.requestName = "*.example.com" }},
	{"another key", "csr-key", "CGEN1008", cgen1008Text, []string{"Invalid CSR key."}, "csr-key", Inferred, func(o *omeCase) { o.foreignKey = true }},
	{"DER", "encoding", "CSEC9002", csec9002Text, []string{}, "csec9002", Documented, func(o *omeCase) { o.der = true }},
	{"no common name", "common-name", "CGEN1008", cgen1008Text, nil, "", Documented, func(o *omeCase) { o.leaf = append(o.leaf, noCommonName) }},
	{"no serverAuth", "eku", "CGEN1008", cgen1008Text, []string{argEKU}, "eku", Inferred, func(o *omeCase) { o.leaf = append(o.leaf, extended(x509.ExtKeyUsageClientAuth)) }},
	{"no keyEncipherment", "key-encipherment", "CSEC9002", csec9002Text, []string{}, "csec9002", Documented, func(o *omeCase) { o.leaf = append(o.leaf, usage(x509.KeyUsageDigitalSignature)) }},
}

var stampAndThread = regexp.MustCompile(`^\[ERROR\] \d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3} \[ajp-nio-0:0:0:0:0:0:0:1-8009-exec-\d+\] `)

// articleLog is a log entry as the article prints it, with the line breaks that
// it puts into the JSON taken out, and without what differs between requests.
func articleLog(tb testing.TB, name string) string {
	tb.Helper()
	data, err := os.ReadFile("testdata/ome/" + name + ".log")
	if err != nil {
		tb.Fatal(err)
	}
	const chainUpload = "uploadNewCertificateChain():\n Error"
	s := strings.Replace(strings.TrimSpace(string(data)), chainUpload, "\x00", 1)
	s = strings.Replace(strings.ReplaceAll(s, "\n", ""), "\x00", chainUpload, 1)
	if !stampAndThread.MatchString(s) {
		tb.Fatalf("%s does not begin as expected", name)
	}
	return stampAndThread.ReplaceAllString(s, "")
}

// matches compares a finding with its row.
func (d omeDefect) matches(tb testing.TB, f Finding) {
	tb.Helper()
	if f.Rule != d.rule || f.Code != d.code || f.Text != d.text || f.Level != Error || f.Basis != d.basis {
		tb.Errorf("%s: got %s %s %q (%s), want %s %s %q (%s)", d.name, f.Rule, f.Code, f.Text, f.Basis, d.rule, d.code, d.text, d.basis)
	}
	if diff := cmp.Diff(d.args, f.MessageArgs); diff != "" {
		tb.Errorf("%s: MessageArgs (-want +got):\n%s", d.name, diff)
	}
	if d.log == "" {
		if f.Log != "" {
			tb.Errorf("%s: a log line that no document shows: %s", d.name, f.Log)
		}
		return
	}
	if !stampAndThread.MatchString(f.Log) || !strings.HasPrefix(f.Log, "[ERROR] 2026-03-01 12:00:00.000 ") || f.LogFile != "./tomcat/application.log" {
		tb.Errorf("%s: %s: %s", d.name, f.LogFile, f.Log)
	}
	if diff := cmp.Diff(articleLog(tb, d.log), stampAndThread.ReplaceAllString(f.Log, "")); diff != "" {
		tb.Errorf("%s: log (-article +got):\n%s", d.name, diff)
	}
}

func TestOMEAcceptsAGoodChain(t *testing.T) {
	accepted(t, check(t, omeCase{}.options(t)))
	accepted(t, check(t, omeCase{single: true}.options(t)))
	// serverAuth alone is enough for the single certificate.
	accepted(t, check(t, omeCase{single: true, leaf: []func(*x509.Certificate){extended(x509.ExtKeyUsageServerAuth)}}.options(t)))
}

func TestOMEEachRowAlone(t *testing.T) {
	for profile, rows := range map[Profile][]omeDefect{OMEUpload: omeUploadDefects, OMEServer: omeServerDefects} {
		for _, d := range rows {
			t.Run(string(profile)+"/"+d.name, func(t *testing.T) {
				o := omeCase{single: profile == OMEServer}
				d.apply(&o)
				v := check(t, o.options(t))
				d.matches(t, only(t, v))
				if v.Accepted {
					t.Error("accepted")
				}
			})
		}
	}
}

// TestOMETwoRowsAtOnce breaks every two rules together: both are reported, in
// the appliance's order, with nothing else.
func TestOMETwoRowsAtOnce(t *testing.T) {
	for profile, rows := range map[Profile][]omeDefect{OMEUpload: omeUploadDefects, OMEServer: omeServerDefects} {
		pairs := 0
		for i, a := range rows {
			for _, b := range rows[i+1:] {
				if a.rule == b.rule {
					continue
				}
				pairs++
				o := omeCase{single: profile == OMEServer}
				a.apply(&o)
				b.apply(&o)
				v := check(t, o.options(t))
				if got := v.Findings(); len(got) != 2 {
					t.Errorf("%s and %s: %d findings: %v", a.name, b.name, len(got), brokenRules(v))
					continue
				}
				a.matches(t, v.Findings()[0])
				b.matches(t, v.Findings()[1])
				if first := v.First(); first.Rule != a.rule {
					t.Errorf("%s and %s: shows %s", a.name, b.name, first.Rule)
				}
			}
		}
		t.Logf("%s: %d pairs", profile, pairs)
	}
}

func TestOMEUnreadableFileHasAVerdict(t *testing.T) {
	for _, junk := range []string{"", "hello", "\x30\x03junk", "-----BEGIN CERTIFICATE-----\n!!!\n-----END CERTIFICATE-----\n"} {
		v := check(t, Options{Profile: OMEUpload, Files: inputs(inputBytes(t, "junk", []byte(junk)))})
		if f := v.First(); f == nil || f.Code != "CSEC9002" {
			t.Errorf("%q: %v", junk, f)
		}
	}
}

func TestOMEBrokenLinks(t *testing.T) {
	pathLen0 := func(c *x509.Certificate) { c.MaxPathLen, c.MaxPathLenZero = 0, true }
	root := issue(t, nil, "Root-CA", asCA)
	impostor := issue(t, nil, "Root-CA", asCA)
	inter := issue(t, root, "Inter-CA1", asCA)
	low := issue(t, inter, "Low-CA", asCA)
	flat := issue(t, root, "Flat-CA", asCA, pathLen0)
	underFlat := issue(t, flat, "Under-Flat-CA", asCA)
	notCA := issue(t, root, "No-CA")
	noSign := issue(t, root, "No-Sign-CA", asCA, usage(x509.KeyUsageCRLSign))
	self := issue(t, nil, "OMENT", asServer())
	for _, c := range []struct {
		name, says string
		chain      []*authority
	}{
		{"root of the same name", "has not signed it", []*authority{issue(t, inter, "OMENT", asServer()), inter, impostor}},
		{"intermediate that is no CA", "is not a CA certificate", []*authority{issue(t, notCA, "OMENT", asServer()), notCA, root}},
		{"intermediate without keyCertSign", "lacks keyCertSign", []*authority{issue(t, noSign, "OMENT", asServer()), noSign, root}},
		{"path length", "path length", []*authority{issue(t, underFlat, "OMENT", asServer()), underFlat, flat, root}},
		{"self-signed", "no CA has issued it", []*authority{self}},
		{"two in the wrong order", "not in order", []*authority{issue(t, low, "OMENT", asServer()), inter, low, root}},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := only(t, check(t, Options{Profile: OMEUpload, Files: inputs(input(t, "chain.pem", c.chain...))}))
			if f.Rule != "chain-links" || !strings.Contains(f.Detail, c.says) || f.MessageArgs[0] != argChain {
				t.Errorf("%s: %s", f.Rule, f.Detail)
			}
		})
	}
}

func TestOMEWarnsButAccepts(t *testing.T) {
	root := issue(t, nil, "Root-CA", asCA)
	leaf := issue(t, root, "OMENT", asServer())
	old := issue(t, root, "OMENT", asServer(), expired)
	for name, files := range map[string][]*Input{
		"repeated":    inputs(input(t, "chain.pem", leaf, root, root)),
		"two files":   inputs(input(t, "leaf.pem", leaf), input(t, "root.pem", root)),
		"out of date": inputs(input(t, "chain.pem", old, root)),
		"PKCS#7":      inputs(inputBytes(t, "chain.p7b", pem.EncodeToMemory(&pem.Block{Type: "PKCS7", Bytes: degenerate(t, root, leaf)}))),
	} {
		v := check(t, Options{Profile: OMEUpload, Files: files})
		if f := only(t, v); f.Level != Warning || !v.Accepted {
			t.Errorf("%s: %v %s", name, v.Accepted, f.Detail)
		}
	}
}
