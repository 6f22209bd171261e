package capf

import (
	"bytes"
	"context"
	"crypto/x509"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/onlineca/onlineca/capf/phone"
	"github.com/onlineca/onlineca/capf/wire"
)

// Every kind of key, through every issuer that issues at once, to a phone of
// the version that can have it.
func TestInstall(t *testing.T) {
	rsaKeys := &phone.Pool{Size: 1}
	for _, spec := range wire.AllKeySpecs() {
		for _, issuer := range []IssuerKind{IssuerOnline, IssuerLocal} {
			for _, version := range []uint8{2, 3} {
				if spec.Type == wire.EC && version < 3 || spec.Bits > 2048 && testing.Short() {
					continue
				}
				t.Run(string(issuer)+"/"+spec.String()+"/v"+string('0'+rune(version)), func(t *testing.T) {
					d := pendingDevice(testDevice)
					d.Issuer, d.Model = issuer, "CP-8865"
					setKey(&d, spec)
					b := newBench(t, nil, d)
					defer b.stop()
					cfg := b.phoneConfig(testDevice)
					cfg.Version, cfg.Key, cfg.Keys, cfg.Dir = version, spec, rsaKeys.Key, t.TempDir()
					r := mustRun(t, cfg)
					if r.Operation != phone.Install || r.Reason != wire.ReasonOK {
						t.Errorf("result %+v", r)
					}
					checkInstalled(t, b, cfg, r, issuer)
				})
			}
		}
	}
}

func setKey(d *Device, spec wire.KeySpec) {
	if spec.Type == wire.EC {
		d.KeyOrder, d.ECKeySize = ECOnly, spec.Curve.Elliptic().Params().BitSize
		return
	}
	d.KeyOrder = RSAOnly
	for n, bits := range keySizes {
		if bits == spec.Bits {
			d.KeySize = KeySize(n)
		}
	}
}

func checkInstalled(t *testing.T, b *bench, cfg phone.Config, r phone.Result, issuer IssuerKind) {
	t.Helper()
	cert, err := x509.ParseCertificate(r.Certificate)
	if err != nil {
		t.Fatal(err)
	}
	wantCN, ca := "CP-8865-"+testDevice, b.ca.issuer
	if issuer == IssuerLocal {
		wantCN, ca = testDevice, b.local
	}
	if cert.Subject.CommonName != wantCN || cert.Subject.Organization[0] != "Example" {
		t.Errorf("subject %q, want common name %q", cert.Subject, wantCN)
	}
	if err := cert.CheckSignatureFrom(ca.Certificate()); err != nil {
		t.Errorf("issued by somebody else: %v", err)
	}
	d := b.wantRow(testDevice, OperationNone, StatusUpgradeSuccess, "")
	if !bytes.Equal(d.LSC, r.Certificate) || !d.LSCValidUntil.Equal(cert.NotAfter) || d.LSCIssuer != distinguished(cert.RawIssuer) || !d.LSCIssuerValidUntil.Equal(ca.Certificate().NotAfter) {
		t.Errorf("row: until %v, issuer %q until %v", d.LSCValidUntil, d.LSCIssuer, d.LSCIssuerValidUntil)
	}
	if len(d.CSR) != 0 || len(d.Issued) != 0 {
		t.Error("the row still has something under way")
	}
	id, err := phone.LoadIdentity(cfg.Dir + "/" + testDevice + ".pem")
	if err != nil || !bytes.Equal(id.Certificate, r.Certificate) {
		t.Errorf("the phone's file: %v", err)
	}
}

// The profile of certificates that CAPF itself issues.
func TestLocalProfile(t *testing.T) {
	b := newBench(t, nil)
	defer b.stop()
	key, _ := phone.Generate(t.Context(), wire.KeySpec{Type: wire.EC})
	der, err := b.local.Issue(testDevice, key.Public())
	if err != nil {
		t.Fatal(err)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	if c.IsCA || !c.BasicConstraintsValid || c.KeyUsage != x509.KeyUsageDigitalSignature|x509.KeyUsageKeyEncipherment {
		t.Errorf("CA %v, key usage %b", c.IsCA, c.KeyUsage)
	}
	usages := []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageIPSECEndSystem}
	if !slices.Equal(c.ExtKeyUsage, usages) {
		t.Errorf("extended key usages %v", c.ExtKeyUsage)
	}
	if len(c.URIs) != 1 || c.URIs[0].String() != testDevice {
		t.Errorf("URIs %v", c.URIs)
	}
	if days := c.NotAfter.Sub(c.NotBefore).Hours() / 24; days < 365 || days > 366 {
		t.Errorf("valid for %.1f days", days)
	}
	if _, err := NewLocalCA(b.srv.cfg.Certificate, 1826, nil); err == nil {
		t.Error("1826 days are taken")
	}
}

// What is scheduled while a session is under way is done at the next contact.
func TestScheduledMeanwhile(t *testing.T) {
	b := newBench(t, nil, pendingDevice(testDevice))
	defer b.stop()
	cfg := b.phoneConfig(testDevice)
	cfg.Observe = func(sent bool, m wire.Message) {
		if !sent && m.Command == wire.StoreCertificateRequest {
			_, _ = b.table.Update(t.Context(), testDevice, func(d *Device) error { d.Schedule(OperationDelete, time.Time{}); return nil })
		}
	}
	p, err := phone.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	if d := b.wantRow(testDevice, OperationDelete, StatusOperationPending, ""); d.LSC == nil || d.Issued != nil {
		t.Error("the certificate that the phone has stored is not in the table, or still waits")
	}
	if r, err := p.Run(t.Context()); err != nil || r.Operation != phone.Delete {
		t.Errorf("then it did %v, %v", r.Operation, err)
	}
	b.wantRow(testDevice, OperationNone, 4, "")
}

func TestDeleteFetchNone(t *testing.T) {
	b := newBench(t, nil, pendingDevice(testDevice))
	defer b.stop()
	cfg := b.phoneConfig(testDevice)
	p, err := phone.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	schedule := func(op Operation) {
		_, _ = b.table.Update(t.Context(), testDevice, func(d *Device) error { d.Schedule(op, time.Time{}); return nil })
	}
	run := func(op Operation, want phone.Operation, reason wire.Reason, status Status) phone.Result {
		t.Helper()
		if op != OperationNone {
			schedule(op)
		}
		r, err := p.Run(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if r.Operation != want || r.Reason != reason {
			t.Errorf("%v: phone did %v, reason %v", op, r.Operation, r.Reason)
		}
		b.wantRow(testDevice, OperationNone, status, "")
		return r
	}
	run(OperationUpgrade, phone.Install, wire.ReasonOK, 3)
	lsc := b.device(testDevice).LSC
	run(OperationNone, phone.None, wire.ReasonNoAction, 3)
	_, _ = b.table.Update(t.Context(), testDevice, func(d *Device) error { d.removed(); return nil })
	run(OperationTroubleshoot, phone.Troubleshoot, wire.ReasonNoAction, 5)
	if !bytes.Equal(b.device(testDevice).LSC, lsc) {
		t.Error("the certificate that was fetched is not in the table")
	}
	run(OperationDelete, phone.Delete, wire.ReasonOK, 4)
	if d := b.device(testDevice); d.LSC != nil || !d.LSCValidUntil.IsZero() {
		t.Error("the deleted certificate is still in the table")
	}
	run(OperationTroubleshoot, phone.Troubleshoot, wire.ReasonNoAction, 5) // success, but no certificate
	schedule(OperationDelete)
	if _, err := p.Run(t.Context()); err == nil {
		t.Error("a phone without a certificate deleted it")
	}
	b.wantRow(testDevice, OperationNone, 7, "did not delete")
}

func TestUnknownDevice(t *testing.T) {
	b := newBench(t, nil)
	defer b.stop()
	e := wantFailure(t, b.phoneConfig("SEPFFFFFFFFFFFF"), phone.FailUnknown)
	if e.Reason != wire.ReasonUnknownDevice {
		t.Errorf("reason %v", e.Reason)
	}
}

// A device that cannot sign is refused before it is asked for a key, with the
// reason in the trace, or served by CAPF itself; it is never sent ENCRYPT.
func TestCannotSign(t *testing.T) {
	for _, signing := range []Signing{SigningUnknown, SigningNone} {
		d := pendingDevice(testDevice)
		d.Signing = signing
		b := newBench(t, nil, d)
		p := b.raw("p")
		p.hello()
		p.auth(3, testDevice)
		p.expectEnd(wire.ReasonInvalid)
		b.stop()
		b.wantRow(testDevice, OperationNone, StatusUpgradeFailed, "cannot sign")
		if b.device(testDevice).Code != "device-cannot-sign" || !b.traced("device cannot sign CSR: no ENCRYPT support") {
			t.Error("the reason is not in the trace")
		}

		b = newBench(t, func(c *ServerConfig) { c.LocalFallback = true }, d)
		cfg := b.phoneConfig(testDevice)
		cfg.NoEncrypt = true
		mustRun(t, cfg)
		b.stop()
		if d := b.device(testDevice); d.LSCIssuer != b.local.Certificate().Subject.String() {
			t.Errorf("issued by %q", d.LSCIssuer)
		}
		if n, _ := b.ca.count(); n != 0 {
			t.Error("the online CA was asked")
		}
	}
}

// A phone that is marked able to sign and is not drops the session: nothing
// reaches the CA.
func TestMarkedButCannot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, nil, pendingDevice(testDevice))
		defer b.stop()
		cfg := b.phoneConfig(testDevice)
		cfg.NoEncrypt = true
		wantFailure(t, cfg, phone.FailCannot)
		synctest.Wait()
		b.wantRow(testDevice, OperationUpgrade, 13, "connection to the phone was lost")
		if n, _ := b.ca.count(); n != 0 {
			t.Error("the online CA was asked")
		}
	})
}

func TestEncryptSettings(t *testing.T) {
	rsaKeys := &phone.Pool{Size: 1}
	for _, style := range []wire.EncryptStyle{
		{}, {Bare: true}, {Request: wire.EncryptResponse}, {Request: wire.SignCertificateRequest}, {Element: 14}, {Element: 15, Bare: true},
	} {
		d := pendingDevice(testDevice)
		d.KeyOrder, d.KeySize = RSAOnly, KeySize2048
		b := newBench(t, func(c *ServerConfig) { c.Encrypt = style }, d)
		cfg := b.phoneConfig(testDevice)
		cfg.Encrypt, cfg.Keys, cfg.Version = style, rsaKeys.Key, 2
		mustRun(t, cfg)
		b.stop()
		b.wantRow(testDevice, OperationNone, StatusUpgradeSuccess, "")
	}
}

// Elements follow the phone's version, and the first message is as configured.
func TestElementsByVersion(t *testing.T) {
	for _, tt := range []struct {
		version  uint8
		order    KeyOrder
		announce bool
		want     []wire.Tag
	}{
		{1, RSAOnly, false, []wire.Tag{wire.TagKeySize}},
		{2, RSAOnly, true, []wire.Tag{wire.TagKeySize}},
		{2, ECPreferred, false, []wire.Tag{wire.TagKeySize}},
		{3, RSAOnly, false, []wire.Tag{wire.TagKeySize, wire.TagKeyType}},
		{3, ECPreferred, false, []wire.Tag{wire.TagKeyType, wire.TagCurve}},
		{3, ECOnly, false, []wire.Tag{wire.TagKeyType, wire.TagCurve}},
	} {
		d := pendingDevice(testDevice)
		d.KeyOrder = tt.order
		b := newBench(t, func(c *ServerConfig) { c.AnnounceAuthType = tt.announce }, d)
		p := b.raw("p")
		m := p.expect(wire.AuthRequest)
		p.session = m.Session
		if _, ok := m.Find(wire.TagAuthType); ok != tt.announce {
			t.Errorf("AUTH_TYPE announced: %v", ok)
		}
		p.auth(tt.version, testDevice)
		m = p.expect(wire.KeyGenerateRequest)
		var got []wire.Tag
		for _, e := range m.Elements {
			got = append(got, e.Tag)
		}
		if len(got) != len(tt.want) || got[0] != tt.want[0] || got[len(got)-1] != tt.want[len(tt.want)-1] {
			t.Errorf("version %d, %v: %v, want %v", tt.version, tt.order, got, tt.want)
		}
		p.conn.Close()
		b.stop()
	}
}

func TestECOnlyNeedsVersion3(t *testing.T) {
	d := pendingDevice(testDevice)
	d.KeyOrder = ECOnly
	b := newBench(t, nil, d)
	defer b.stop()
	cfg := b.phoneConfig(testDevice)
	cfg.Version = 2
	wantFailure(t, cfg, phone.FailDeclined)
	b.wantRow(testDevice, OperationNone, StatusNoEC, "does not support EC")
}

func TestDeadlinePassed(t *testing.T) {
	d := pendingDevice(testDevice)
	d.FinishBy = time.Now().Add(-time.Minute)
	b := newBench(t, nil, d)
	defer b.stop()
	wantFailure(t, b.phoneConfig(testDevice), phone.FailDeclined)
	b.wantRow(testDevice, OperationNone, 17, "deadline")
}

// What the phone does wrong, and how the session ends.
func TestProtocolErrors(t *testing.T) {
	keygen := func(p *rawPhone) { p.hello(); p.auth(3, testDevice); p.expect(wire.KeyGenerateRequest) }
	wrongKey := func(p *rawPhone) {
		keygen(p)
		key, _ := phone.Generate(context.Background(), wire.KeySpec{Type: wire.EC, Curve: wire.P384})
		der, _ := x509.MarshalPKIXPublicKey(key.Public())
		p.send(wire.KeyGenerateResponse, wire.Element{Tag: wire.TagPublicKey, Value: der})
	}
	tests := map[string]struct {
		act    func(p *rawPhone)
		status Status
		op     Operation
		reason string
	}{
		"wrong session id":        {func(p *rawPhone) { keygen(p); p.session++; p.send(wire.RequestInProgress) }, 13, 1, "session id"},
		"out of order":            {func(p *rawPhone) { keygen(p); p.send(wire.StoreCertificateResponse) }, 13, 1, "STORE_CERTIFICATE_RESPONSE in state"},
		"server's command":        {func(p *rawPhone) { keygen(p); p.send(wire.EndSession) }, 13, 1, "END_SESSION in state"},
		"no public key":           {func(p *rawPhone) { keygen(p); p.send(wire.KeyGenerateResponse) }, 14, 1, "PUBLIC_KEY"},
		"nonsense as key":         {func(p *rawPhone) { keygen(p); p.send(wire.KeyGenerateResponse, wire.Element{Tag: 9, Value: []byte{1}}) }, 14, 1, "PUBLIC_KEY"},
		"another key":             {wrongKey, 14, 1, "P-384"},
		"wrong magic":             {func(p *rawPhone) { keygen(p); p.bytes([]byte("GET / HTTP/1.1\r\n\r\n")) }, 13, 1, "malformed"},
		"length 65535":            {func(p *rawPhone) { keygen(p); p.bytes([]byte{0x55, 4, 0, 0, 0, 1, 0xff, 0xff}) }, 13, 1, "65535"},
		"element longer than all": {func(p *rawPhone) { keygen(p); p.bytes([]byte{0x55, 4, 0, 0, 0, 1, 0, 4, 9, 0xff, 0xff, 1}) }, 13, 1, "announces"},
		"progress before auth":    {func(p *rawPhone) { p.hello(); p.send(wire.RequestInProgress) }, 2, 2, ""},
		"no name":                 {func(p *rawPhone) { p.hello(); p.send(wire.AuthResponse, wire.Uint8[uint8](wire.TagVersion, 3)) }, 2, 2, ""},
		"strange name":            {func(p *rawPhone) { p.hello(); p.auth(3, "../../etc/passwd") }, 2, 2, ""},
		"version 4":               {func(p *rawPhone) { p.hello(); p.auth(4, testDevice) }, 2, 2, ""},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			b := newBench(t, nil, pendingDevice(testDevice))
			defer b.stop()
			p := b.raw("p")
			tt.act(p)
			p.expectEnd(wire.ReasonInvalid)
			b.wantRow(testDevice, tt.op, tt.status, tt.reason)
		})
	}
}

// A forged signature is noticed before anything reaches the CA.
func TestWrongSignature(t *testing.T) {
	b := newBench(t, nil, pendingDevice(testDevice))
	defer b.stop()
	p := b.raw("p")
	p.hello()
	p.auth(3, testDevice)
	p.expect(wire.KeyGenerateRequest)
	p.publicKey()
	m := p.expect(wire.EncryptRequest)
	other, _ := phone.Generate(t.Context(), wire.KeySpec{Type: wire.EC, Curve: wire.P256})
	answer, err := wire.EncryptStyle{}.Answer(other, &m)
	if err != nil {
		t.Fatal(err)
	}
	p.send(answer.Command, answer.Elements...)
	p.expectEnd(wire.ReasonInvalid)
	b.wantRow(testDevice, OperationNone, StatusUpgradeFailed, "signature")
	if n, _ := b.ca.count(); n != 0 {
		t.Error("the CA was asked")
	}
}

// A phone may ask for patience as often as it likes, in every state after AUTH.
func TestRequestInProgress(t *testing.T) {
	b := newBench(t, nil, pendingDevice(testDevice))
	defer b.stop()
	p := b.raw("p")
	p.hello()
	p.auth(3, testDevice)
	patience := func() {
		for range 5 {
			p.send(wire.RequestInProgress, wire.Uint16(wire.TagRetryDelay, 0))
		}
	}
	p.expect(wire.KeyGenerateRequest)
	patience()
	key := p.publicKey()
	m := p.expect(wire.EncryptRequest)
	patience()
	answer, err := wire.EncryptStyle{}.Answer(key, &m)
	if err != nil {
		t.Fatal(err)
	}
	p.send(answer.Command, answer.Elements...)
	p.expect(wire.StoreCertificateRequest)
	patience()
	p.send(wire.StoreCertificateResponse, wire.Uint8(wire.TagReason, wire.ReasonOK))
	p.expectEnd(wire.ReasonOK)
}

// Session ids begin at 1 and grow by one with each connection.
func TestSessionNumbers(t *testing.T) {
	b := newBench(t, nil, NewDevice(testDevice))
	defer b.stop()
	for want := uint32(1); want <= 3; want++ {
		if r := mustRun(t, b.phoneConfig(testDevice)); r.Session != want {
			t.Errorf("session %d, want %d", r.Session, want)
		}
	}
}

// The names of a table are compared without regard to case.
func TestNameInAnotherCase(t *testing.T) {
	d := pendingDevice("CSFJanE")
	b := newBench(t, nil, d)
	defer b.stop()
	mustRun(t, b.phoneConfig("csfjane"))
	b.wantRow("CSFJanE", OperationNone, StatusUpgradeSuccess, "")
}

func TestPhoneRefusesCertificate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, nil, pendingDevice(testDevice))
		defer b.stop()
		cfg := b.phoneConfig(testDevice)
		cfg.Roots = x509.NewCertPool()
		if e := wantFailure(t, cfg, phone.FailTLS); !strings.Contains(e.Error(), "unknown authority") {
			t.Errorf("%v", e)
		}
		synctest.Wait()
		if !b.traced("SSL handshake with") {
			t.Error("the handshake that failed is not in the trace")
		}
	})
}
