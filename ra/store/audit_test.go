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
		if l.Subject != "CN=SEP1" || l.Client != "ciscora" || l.ClientMethod != "basic" || l.ReqID != 8 || l.Template != "CiscoRA" || l.Time.IsZero() || l.Record != b.record("SEP1").ID {
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
