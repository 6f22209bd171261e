package store_test

import (
	"bufio"
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/asn1"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/onlineca/onlineca/ra"
	"github.com/onlineca/onlineca/ra/store"
	"github.com/onlineca/onlineca/ra/store/storetest"
)

func auditLines(t *testing.T, b *bench) map[string]store.AuditLine {
	t.Helper()
	lines := map[string]store.AuditLine{}
	for s := bufio.NewScanner(bytes.NewReader(b.audit.Bytes())); s.Scan(); {
		var l store.AuditLine
		if err := json.Unmarshal(s.Bytes(), &l); err != nil {
			t.Fatalf("%s: %v", s.Text(), err)
		}
		if _, twice := lines[l.Serial]; twice {
			t.Errorf("serial %s has two lines", l.Serial)
		}
		lines[l.Serial] = l
	}
	return lines
}

func TestEveryCertificateHasItsLineInTheAuditLog(t *testing.T) {
	durable(t, 7, nil, func(t *testing.T, b *bench) {
		for i := range 3 {
			r := storetest.Request(t, fmt.Sprint("SEP", i), "ciscora")
			b.enroll(r)
			b.enroll(r)
		}
		// One that a process got which died before it wrote the line.
		r := storetest.Request(t, "SEP3", "ciscora")
		dead := store.Claim{Owner: "dead", Lease: time.Minute, Authority: "ca"}
		rec, _, err := b.store.Begin(t.Context(), r, dead, time.Now())
		if err != nil {
			t.Fatal(err)
		}
		rec.State, rec.Serial = store.Issued, "abc"
		if _, err := b.store.Save(t.Context(), rec, "dead"); err != nil {
			t.Fatal(err)
		}
		b.sleep(2 * time.Minute)
		lines := auditLines(t, b)
		if len(lines) != 4 {
			t.Fatalf("%d lines:\n%s", len(lines), b.audit.String())
		}
		l := lines["1008"]
		if l.Subject != "CN=SEP1" || l.Client != "ciscora" || l.ClientMethod != "basic" || l.ReqID != 8 || l.Template != "CiscoRA" || l.Time != b.record("SEP1").Updated.Format(time.RFC3339Nano) || l.Record != b.record("SEP1").ID {
			t.Errorf("%+v", l)
		}
		b.sleep(time.Hour)
		if n := len(auditLines(t, b)); n != 4 {
			t.Errorf("%d lines an hour later", n)
		}
	})
}

func TestProofOfPossessionDoesNotMakeAnotherRequest(t *testing.T) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	with := func(password, device string) ra.Request {
		r := storetest.Request(t, device, "ciscora")
		tmpl := &x509.CertificateRequest{RawSubject: r.CSR.RawSubject, DNSNames: []string{"a.example"}}
		der, err := x509.CreateCertificateRequest(rand.Reader, tmpl, key)
		if err != nil {
			t.Fatal(err)
		}
		r.CSR = withChallenge(t, der, password, key)
		return r
	}
	keyOf := func(r ra.Request) string {
		k, err := store.KeyOf(r, "ca")
		if err != nil {
			t.Fatal(err)
		}
		return k
	}
	one, two := with("first", "SEP1"), with("second", "SEP1")
	if bytes.Equal(one.CSR.RawTBSCertificateRequest, two.CSR.RawTBSCertificateRequest) {
		t.Fatal("the requests are equal anyway")
	}
	if keyOf(one) != keyOf(two) {
		t.Error("another challengePassword makes another request")
	}
	if keyOf(one) == keyOf(with("first", "SEP2")) {
		t.Error("another subject does not make another request")
	}
	if _, err := store.KeyOf(ra.Request{}, "ca"); err == nil {
		t.Error("a request without a CSR has a key")
	}
}

func withChallenge(t *testing.T, der []byte, password string, key *ecdsa.PrivateKey) *x509.CertificateRequest {
	t.Helper()
	var req struct {
		Info struct {
			Version    int
			Subject    asn1.RawValue
			PublicKey  asn1.RawValue
			Attributes []asn1.RawValue `asn1:"tag:0"`
		}
		Algorithm asn1.RawValue
		Signature asn1.BitString
	}
	if _, err := asn1.Unmarshal(der, &req); err != nil {
		t.Fatal(err)
	}
	text, err := asn1.MarshalWithParams(password, "printable")
	if err != nil {
		t.Fatal(err)
	}
	attr, err := asn1.Marshal(struct {
		Type   asn1.ObjectIdentifier
		Values asn1.RawValue
	}{asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 7}, asn1.RawValue{Tag: asn1.TagSet, IsCompound: true, Bytes: text}})
	if err != nil {
		t.Fatal(err)
	}
	req.Info.Attributes = append(req.Info.Attributes, asn1.RawValue{FullBytes: attr})
	out, err := asn1.Marshal(req)
	if err != nil {
		t.Fatal(err)
	}
	csr, err := x509.ParseCertificateRequest(out) // the signature is not looked at
	if err != nil {
		t.Fatal(err)
	}
	return csr
}

// fullDisk takes half of the second line, nothing for a while, and then all.
type fullDisk struct {
	bytes.Buffer
	writes int
}

func (f *fullDisk) Write(p []byte) (int, error) {
	f.writes++
	switch {
	case f.writes == 2:
		n, _ := f.Buffer.Write(p[:len(p)/2])
		return n, syscall.ENOSPC
	case f.writes > 2 && f.writes < 5:
		return 0, syscall.ENOSPC
	}
	return f.Buffer.Write(p)
}

// A disk that is full in the middle of a line spoils no other line.
func TestAuditLinesAfterAFullDisk(t *testing.T) {
	disk := new(fullDisk)
	durable(t, 7, func(c *store.Config) { c.Audit = disk }, func(t *testing.T, b *bench) {
		for i := range 3 {
			b.enroll(storetest.Request(t, fmt.Sprint("SEP", i), "ciscora"))
			b.sleep(time.Minute)
		}
		whole, broken := map[string]bool{}, 0
		for s := bufio.NewScanner(bytes.NewReader(disk.Bytes())); s.Scan(); {
			var l store.AuditLine
			if json.Unmarshal(s.Bytes(), &l) != nil {
				broken++
				continue
			}
			whole[l.Serial] = true
		}
		if len(whole) != 3 || broken != 1 {
			t.Errorf("%d certificates and %d broken lines, want 3 and 1:\n%s", len(whole), broken, disk.String())
		}
	})
}

// Half a line that a machine left which lost its power is ended first.
func TestOpenAuditEndsHalfALine(t *testing.T) {
	path := filepath.Join(t.TempDir(), "audit.jsonl")
	for before, want := range map[string]string{"": "new\n", "whole\n": "whole\nnew\n", `{"time":"20`: "{\"time\":\"20\nnew\n"} {
		if err := os.WriteFile(path, []byte(before), 0o600); err != nil {
			t.Fatal(err)
		}
		f, err := store.OpenAudit(path)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.WriteString("new\n"); err != nil {
			t.Fatal(err)
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
		if got, err := os.ReadFile(path); string(got) != want || err != nil {
			t.Errorf("%q became %q, want %q; %v", before, got, want, err)
		}
	}
	if f, err := store.OpenAudit(os.DevNull); err != nil {
		t.Error(err)
	} else if err := f.Close(); err != nil {
		t.Error(err)
	}
}

// A process that died between the line and the database leaves the line to the
// next one, which does not write it again.
func TestLineOfAProcessThatDied(t *testing.T) {
	path := filepath.Join(t.TempDir(), "audit.jsonl")
	open := func(c *store.Config) {
		f, err := store.OpenAudit(path)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = f.Close() })
		c.Audit = f
	}
	durable(t, 7, open, func(t *testing.T, b *bench) {
		dead := store.Claim{Owner: "dead", Lease: time.Minute, Authority: "ca"}
		rec, _, err := b.store.Begin(t.Context(), storetest.Request(t, "SEP1", "ciscora"), dead, time.Now())
		if err != nil {
			t.Fatal(err)
		}
		line := fmt.Sprintf(`{"serial":"abc","record":%q}`+"\n", rec.ID)
		if err := os.WriteFile(path, []byte(line), 0o600); err != nil {
			t.Fatal(err)
		}
		rec.State, rec.Serial = store.Issued, "abc"
		if _, err := b.store.Save(t.Context(), rec, "dead"); err != nil {
			t.Fatal(err)
		}
		b.stop()
		b.start(open)
		b.sleep(2 * time.Minute)
		if !b.record("SEP1").Audited {
			t.Error("the line is still to be written")
		}
		if got, err := os.ReadFile(path); string(got) != line || err != nil {
			t.Errorf("%s%v", got, err)
		}
	})
}
