package chain

import (
	"crypto/x509"
	"encoding/pem"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const (
	wantCGEN1008 = "Unable to process the request because an error occurred."
	wantCSEC9002 = "Unable to upload the certificate because the certificate file provided is invalid."
)

var stampAndThread = regexp.MustCompile(`^\[ERROR\] \d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3} \[ajp-nio-0:0:0:0:0:0:0:1-8009-exec-\d+\] `)

// articleLog is a log entry as the article prints it, with the line breaks that
// it puts into the JSON taken out, and without what differs between requests.
func articleLog(tb testing.TB, name string) string {
	tb.Helper()
	data, err := os.ReadFile("testdata/ome/" + name)
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

// matchesLog compares a finding's log with the vendor's document, where that
// shows one. OpenManage Enterprise has none where it does not.
func (r row) matchesLog(tb testing.TB, f Finding) {
	tb.Helper()
	if name, ok := strings.CutPrefix(r.log, "ces/"); ok {
		if diff := cmp.Diff(documented(tb, name), f.Log); diff != "" {
			tb.Errorf("%s: log (-document +got):\n%s", r.name, diff)
		}
		return
	}
	name, ok := strings.CutPrefix(r.log, "ome/")
	if !ok {
		if strings.Contains(f.LogFile, "tomcat") || f.Log != "" && f.LogFile == "" {
			tb.Errorf("%s: a log line that no document shows: %s", r.name, f.Log)
		}
		return
	}
	if !stampAndThread.MatchString(f.Log) || !strings.HasPrefix(f.Log, "[ERROR] 2026-03-01 12:00:00.000 ") || f.LogFile != "./tomcat/application.log" {
		tb.Errorf("%s: %s: %s", r.name, f.LogFile, f.Log)
	}
	if diff := cmp.Diff(articleLog(tb, name), stampAndThread.ReplaceAllString(f.Log, "")); diff != "" {
		tb.Errorf("%s: log (-article +got):\n%s", r.name, diff)
	}
}

// serverAuth alone is enough for the single certificate.
func TestOMEServerAuthAlone(t *testing.T) {
	s := omeServerKind().scene()
	s.leaf = append(s.leaf, extended(x509.ExtKeyUsageServerAuth))
	accepted(t, check(t, s.options(t)))
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
