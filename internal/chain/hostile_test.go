package chain

import (
	"bytes"
	"crypto/rsa"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"slices"
	"strings"
	"testing"
)

// repeat reads the same bytes over and over; it counts what was taken.
type repeat struct {
	b    []byte
	at   int
	left int
	read int
}

func (r *repeat) Read(p []byte) (int, error) {
	if r.left == 0 {
		return 0, io.EOF
	}
	n := 0
	for n < len(p) && r.left > 0 {
		k := copy(p[n:min(len(p), n+r.left)], r.b[r.at:])
		r.at = (r.at + k) % len(r.b)
		n += k
		r.left -= k
	}
	r.read += n
	return n, nil
}

func refused(t *testing.T, err error, says string) {
	t.Helper()
	var large *TooLargeError
	if !errors.As(err, &large) || !strings.Contains(err.Error(), says) {
		t.Errorf("got %v, want a refusal that says %q", err, says)
	}
}

func TestFiftyMegabytesAreNotRead(t *testing.T) {
	r := &repeat{b: pemOf(issue(t, nil, "root", asCA).cert), left: 50 << 20}
	_, err := Read(r, "big.pem", nil)
	refused(t, err, "larger than 16 MiB")
	if r.read > MaxInput+1 {
		t.Errorf("read %d bytes", r.read)
	}
}

func TestTenThousandCertificatesAreRefused(t *testing.T) {
	root := issue(t, nil, "root", asCA)
	for name, data := range map[string][]byte{
		"PEM":    bytes.Repeat(pemOf(root.cert), 10_000),
		"DER":    bytes.Repeat(root.cert.Raw, 10_000),
		"PKCS#7": degenerate(t, slices.Repeat([]*authority{root}, MaxCertificates+1)...),
	} {
		_, err := Read(bytes.NewReader(data), "many", nil)
		refused(t, err, "more than 2000 certificates")
		t.Log(name, len(data))
	}
	in := inputBytes(t, "many", bytes.Repeat(pemOf(root.cert), MaxCertificates))
	if len(in.Certs) != MaxCertificates {
		t.Errorf("%d certificates below the limit", len(in.Certs))
	}
	// All the same: one certificate, and one search.
	v := check(t, Options{Profile: OMEUpload, Files: inputs(in)})
	if len(v.Findings()) > 10 {
		t.Errorf("%d findings", len(v.Findings()))
	}
}

func TestManyBlocksAreRefused(t *testing.T) {
	for _, block := range []string{"-----BEGIN X-----\n-----END X-----\n", "-----BEGIN CERTIFICATE-----\n", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"} {
		_, err := Read(strings.NewReader(strings.Repeat(block, 100_000)), "blocks.pem", nil)
		refused(t, err, "more than 2100 blocks")
	}
	in := inputBytes(t, "notes.pem", []byte(strings.Repeat("-----BEGIN X-----\n-----END X-----\n", 2000)))
	if len(in.Notes) > maxNotes {
		t.Errorf("%d notes", len(in.Notes))
	}
}

func TestNestedPKCS7(t *testing.T) {
	signedData := func(content []byte) []byte {
		p7, err := asn1.Marshal(struct {
			Type    asn1.ObjectIdentifier
			Content asn1.RawValue
		}{asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 7, 2}, asn1.RawValue{Class: 2, Tag: 0, IsCompound: true, Bytes: content}})
		if err != nil {
			t.Fatal(err)
		}
		return p7
	}
	deep := []byte{5, 0}
	for range 200 {
		deep = signedData(deep)
	}
	_, err := Read(bytes.NewReader(deep), "deep.p7b", nil)
	refused(t, err, "nested deeper than 24 levels")

	// BER that only ever opens.
	opens := append(bytes.Clone(signedData([]byte{5, 0})[:15]), bytes.Repeat([]byte{0x30, 0x80}, 1<<20)...)
	opens[1] = 0x80
	if in, err := Read(bytes.NewReader(opens), "open.p7b", nil); err == nil && in.Err == nil {
		t.Error("accepted")
	}
	// Millions of small elements.
	wide := signedData(bytes.Repeat([]byte{5, 0}, 2_000_000))
	_, err = Read(bytes.NewReader(wide), "wide.p7b", nil)
	refused(t, err, "more than 500000 elements")
}

func TestIssuerLoops(t *testing.T) {
	// A signs B and B signs A.
	ka, kb := newKey(t), newKey(t)
	a := issueKey(t, nil, ka, "A", asCA)
	b := issueKey(t, nil, kb, "B", asCA)
	ab := issueKey(t, a, kb, "B", asCA)
	ba := issueKey(t, b, ka, "A", asCA)
	leaf := issue(t, ab, "leaf", asServer())
	v := check(t, Options{Profile: OMEUpload, Files: inputs(input(t, "loop.pem", leaf, ab, ba))})
	if f := only(t, v); !strings.Contains(f.Detail, "issued by a CA that it has itself issued") {
		t.Errorf("%s: %s", f.Rule, f.Detail)
	}
}

// TestManyCAsOfOneName gives the search hundreds of ways at each step. It must
// end, and within its budget.
func TestManyCAsOfOneName(t *testing.T) {
	key := newKey(t)
	mesh := &authority{key: key}
	var all []*authority
	const layers, each = 8, 60
	root := issueKey(t, nil, key, "Layer 0", asCA)
	mesh.cert = root.cert
	for layer := 1; layer < layers; layer++ {
		var last *authority
		for range each {
			last = issueKey(t, mesh, key, fmt.Sprintf("Layer %d", layer), asCA)
			all = append(all, last)
		}
		mesh = last
	}
	leaf := issue(t, mesh, "leaf", asServer())
	certs := newPool(certsOf(append(all, leaf)...))
	work := newProofs()
	p := work.findPath(leaf.cert, certs, newPool(), nil, now)
	if p.valid() || p.find(troubleGaveUp) == nil {
		t.Errorf("%d problems: %+v", len(p.problems), p.problems)
	}
	if work.verifies > maxVerifies || p.steps > maxSteps {
		t.Errorf("%d signatures, %d steps", work.verifies, p.steps)
	}
	// With the root at hand a path is found all the same.
	if p := newProofs().findPath(leaf.cert, certs, newPool(certsOf(root)), nil, now); !p.complete {
		t.Errorf("%+v", p.problems)
	}
	// Every search of a check draws on one budget.
	in := inputs(input(t, "mesh.pem", append(all, leaf)...))
	o := Options{Profile: ExpresswayTraversal, Files: in, Peer: in, Trust: inputs(input(t, "root.pem", issue(t, nil, "other", asCA))), At: now}
	s := newSubject(&o, profile{name: ExpresswayTraversal})
	for _, r := range traversalRules() {
		s.apply(r)
	}
	if s.proofs.verifies > maxVerifies+1 {
		t.Errorf("%d signatures in one check", s.proofs.verifies)
	}
}

func TestLongChainEnds(t *testing.T) {
	key := newKey(t)
	top := issueKey(t, nil, key, "CA 0", asCA)
	as := []*authority{top}
	for i := range 300 {
		as = append(as, issueKey(t, as[i], newKey(t), fmt.Sprintf("CA %d", i+1), asCA))
	}
	leaf := issue(t, as[len(as)-1], "leaf", asServer())
	p := newProofs().findPath(leaf.cert, newPool(certsOf(append(as, leaf)...)), newPool(certsOf(top)), nil, now)
	if p.valid() || len(p.certs) > maxPath {
		t.Errorf("valid %v, %d certificates", p.valid(), len(p.certs))
	}
	if len(p.problems) != 1 || p.problems[0].detail != "the path is longer than 100 certificates" {
		t.Errorf("no certificate is missing: %+v", p.problems)
	}
}

// TestLongChainIsNotCalledIncomplete: whatever the appliance, a chain that is
// all there must not have a certificate of it called missing. The work is that
// of one path of a hundred certificates, whatever the number of CAs.
func TestLongChainIsNotCalledIncomplete(t *testing.T) {
	top := issue(t, nil, "CA 0", asCA)
	as := []*authority{top}
	for i := range 1900 {
		as = append(as, issueKey(t, as[i], top.key, fmt.Sprintf("CA %d", i+1), asCA))
	}
	leaf := issue(t, as[len(as)-1], "SEP001122334455.example.com", asServer("SEP001122334455.example.com"))
	whole := inputs(input(t, "chain.pem", append(as, leaf)...))
	for _, p := range Profiles() {
		o := Options{Profile: p, Files: whole, Peer: whole, Trust: whole, At: now,
			VerifyName: "SEP001122334455.example.com", PeerAddress: []string{"SEP001122334455.example.com"}}
		known, err := p.lookup()
		if err != nil {
			t.Fatal(err)
		}
		s := newSubject(&o, known)
		told := false
		for _, r := range known.rules() {
			for _, f := range s.apply(r).Findings {
				told = told || strings.Contains(f.Detail, "longer than 100 certificates")
				if strings.Contains(f.Detail, "missing") || strings.Contains(f.Detail, "not in the trust store") {
					t.Errorf("%s, %s: %s", p, f.Rule, f.Detail)
				}
			}
		}
		if !told && p != OMEServer {
			t.Errorf("%s does not say that the path is too long", p)
		}
		if n := s.proofs.verifies; n > 2*maxPath+2 {
			t.Errorf("%s: %d signatures", p, n)
		}
	}
}

// A signature by the largest key takes some fifty times as long as an ordinary
// one, and the search must end as soon.
func TestLargeKeysCostMore(t *testing.T) {
	top := issue(t, nil, "Top", asCA)
	var cas []*x509.Certificate
	for range 100 {
		c := *issueKey(t, top, top.key, "Same", asCA).cert
		c.PublicKey = &rsa.PublicKey{N: new(big.Int).Lsh(big.NewInt(1), maxRSABits-1), E: 1<<31 - 1}
		cas = append(cas, &c)
	}
	leaf := issue(t, issueKey(t, top, newKey(t), "Same", asCA), "leaf", asServer())
	work := newProofs()
	p := work.findPath(leaf.cert, newPool(cas), newPool(), nil, now)
	if p.find(troubleGaveUp) == nil || work.verifies > 10 {
		t.Errorf("%d signatures: %+v", work.verifies, p.problems)
	}
	for want, k := range map[int]any{
		1:  &rsa.PublicKey{N: new(big.Int).Lsh(big.NewInt(1), 4095), E: 65537},
		2:  &rsa.PublicKey{N: new(big.Int).Lsh(big.NewInt(1), 2047), E: 1 << 17},
		16: &rsa.PublicKey{N: new(big.Int).Lsh(big.NewInt(1), 16383), E: 65537},
	} {
		if got := effort(&x509.Certificate{PublicKey: k}); got != want {
			t.Errorf("effort %d, want %d", got, want)
		}
	}
	if got := effort(top.cert); got != 1 {
		t.Errorf("ECDSA: effort %d", got)
	}
}

func TestLargeCertificateIsRefused(t *testing.T) {
	for size, says := range map[int]string{maxCertificate: "certificate 1 in it is larger than 256 KiB", maxCertificate / 4: ""} {
		root := issue(t, nil, strings.Repeat("n", size), asCA)
		for name, data := range map[string][]byte{"PEM": pemOf(root.cert), "DER": root.cert.Raw, "PKCS#7": degenerate(t, root)} {
			in, err := Read(bytes.NewReader(data), name, nil)
			switch {
			case says != "":
				refused(t, err, says)
			case err != nil || in.Err != nil:
				t.Error(name, err)
			}
		}
	}
}

func TestManyNameConstraints(t *testing.T) {
	var domains, names []string
	for i := range 1000 {
		domains = append(domains, fmt.Sprintf("d%d.example.org", i))
		names = append(names, fmt.Sprintf("h%d.example.com", i))
	}
	root := issue(t, nil, "root", asCA, func(c *x509.Certificate) { c.ExcludedDNSDomains = domains })
	leaf := issue(t, root, "leaf", asServer(names...))
	p := newProofs().findPath(leaf.cert, newPool(), newPool(certsOf(root)), nil, now)
	if bad := p.find(troubleName); bad == nil || !strings.Contains(bad.detail, "more name constraints than are checked (1000, for 1000 names)") {
		t.Errorf("%+v", p.problems)
	}
}

// Escape sequences in names must not reach a terminal.
func TestNamesCannotSpeakToTheTerminal(t *testing.T) {
	evil := "\x1b]0;owned\x07\x1b[31mACCEPTED\r\n\u202egnp"
	root := issue(t, nil, evil+" root", asCA)
	leaf := issue(t, root, evil, asServer("a\x1b[2J.example.com"), func(c *x509.Certificate) { c.IPAddresses = []net.IP{net.IPv4(127, 0, 0, 1)} })
	for _, p := range Profiles() {
		for _, cs := range [][]*authority{{leaf, root}, {leaf}} {
			in := inputs(input(t, "x\x1b[0m.pem", cs...))
			other := inputs(input(t, "t\x1b[0m", issue(t, nil, "other", asCA)))
			v, err := Check(Options{Profile: p, Files: in, Peer: in, Trust: other, VerifyName: "name", PeerAddress: []string{"peer"}, At: now, CSR: request(t, newKey(t), evil+"*")})
			if err != nil {
				t.Fatal(err)
			}
			var b strings.Builder
			if err := v.WriteText(&b); err != nil {
				t.Fatal(err)
			}
			if strings.ContainsAny(b.String(), "\x1b\x07\r\u202e") {
				t.Errorf("%s: a control character is in the report:\n%q", p, b.String())
			}
		}
	}
}
