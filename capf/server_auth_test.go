package capf

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/onlineca/onlineca/capf/phone"
	"github.com/onlineca/onlineca/capf/wire"
	"github.com/onlineca/onlineca/ra/event"
	"github.com/onlineca/onlineca/ra/fault"
)

// certDevice is a device that authenticates by its certificate.
func certDevice(mode AuthMode) Device {
	d := pendingDevice(testDevice)
	d.AuthMode = mode
	return d
}

// identity makes a certificate of ca for cn with a key of the kind spec.
func identity(t testing.TB, ca *LocalCA, cn string, spec wire.KeySpec) *phone.Identity {
	t.Helper()
	key, err := phone.Generate(t.Context(), spec)
	if err != nil {
		t.Fatal(err)
	}
	der, err := ca.Issue(cn, key.Public())
	if err != nil {
		t.Fatal(err)
	}
	return &phone.Identity{Certificate: der, Key: key}
}

func manufacturer(t testing.TB) *LocalCA {
	t.Helper()
	ca, err := NewLocalCA(ecServerCertificate(t, "Manufacturing CA"), 0, nil)
	if err != nil {
		t.Fatal(err)
	}
	return ca
}

var (
	ecSpec  = wire.KeySpec{Type: wire.EC, Curve: wire.P256}
	rsaSpec = wire.KeySpec{Type: wire.RSA, Bits: 1024}
)

func TestAuthCertificate(t *testing.T) {
	mic := manufacturer(t)
	for name, tt := range map[string]struct {
		mode    AuthMode
		version uint8
		auth    func(b *bench) phone.Auth
		status  Status // 0 for success
		reason  string
	}{
		"LSC, EC": {AuthByLSC, 3, func(b *bench) phone.Auth {
			return phone.Auth{Certificate: identity(t, b.local, testDevice, ecSpec)}
		}, 0, ""},
		"LSC, RSA, version 2": {AuthByLSC, 2, func(b *bench) phone.Auth {
			return phone.Auth{Certificate: identity(t, b.local, testDevice, rsaSpec)}
		}, 0, ""},
		"LSC with SUDI": {AuthByLSC, 3, func(b *bench) phone.Auth {
			return phone.Auth{Certificate: identity(t, b.local, testDevice, ecSpec), SUDI: identity(t, mic, "CP-8865-"+testDevice, rsaSpec)}
		}, 0, ""},
		"MIC": {AuthByMIC, 3, func(*bench) phone.Auth {
			return phone.Auth{Certificate: identity(t, mic, "CP-8865-"+testDevice, rsaSpec)}
		}, 0, ""},
		"MIC where the LSC has precedence": {AuthByLSC, 3, func(*bench) phone.Auth {
			return phone.Auth{Certificate: identity(t, mic, "CP-8865-"+testDevice, rsaSpec)}
		}, 0, ""},
		"no certificate": {AuthByLSC, 3, func(*bench) phone.Auth { return phone.Auth{} }, 9, "CERTIFICATE"},
		"unknown CA": {AuthByLSC, 3, func(*bench) phone.Auth {
			return phone.Auth{Certificate: identity(t, manufacturer(t), testDevice, ecSpec)}
		}, 9, "none of the trusted CAs"},
		"a CA with a trusted name": {AuthByMIC, 3, func(*bench) phone.Auth {
			return phone.Auth{Certificate: identity(t, manufacturer(t), testDevice, ecSpec)}
		}, 11, "not signed by the trusted"},
		"unknown MIC CA": {AuthByMIC, 3, func(b *bench) phone.Auth {
			return phone.Auth{Certificate: identity(t, b.ca.issuer, testDevice, ecSpec)}
		}, 11, "none of the trusted CAs"},
		"another device's LSC": {AuthByLSC, 3, func(b *bench) phone.Auth {
			return phone.Auth{Certificate: identity(t, b.local, "SEPFFFFFFFFFFFF", ecSpec)}
		}, 9, "names \"SEPFFFFFFFFFFFF\""},
		"a name that only ends alike": {AuthByMIC, 3, func(*bench) phone.Auth {
			return phone.Auth{Certificate: identity(t, mic, "X"+testDevice, ecSpec)}
		}, 11, "names"},
		"another device's SUDI": {AuthByLSC, 3, func(b *bench) phone.Auth {
			return phone.Auth{Certificate: identity(t, b.local, testDevice, ecSpec), SUDI: identity(t, mic, "CP-8865-SEPFFFFFFFFFFFF", rsaSpec)}
		}, 9, "SUDI"},
		"a key that is not the certificate's": {AuthByLSC, 3, func(b *bench) phone.Auth {
			id := identity(t, b.local, testDevice, ecSpec)
			id.Key = identity(t, b.local, testDevice, ecSpec).Key
			return phone.Auth{Certificate: id}
		}, 9, "signature is wrong"},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t, func(c *ServerConfig) { c.MICTrust = []*x509.Certificate{mic.Certificate()} }, certDevice(tt.mode))
			defer b.stop()
			cfg := b.phoneConfig(testDevice)
			cfg.Version, cfg.Auth = tt.version, tt.auth(b)
			if tt.status == 0 {
				mustRun(t, cfg)
				b.wantRow(testDevice, OperationNone, StatusUpgradeSuccess, "")
				return
			}
			wantFailure(t, cfg, phone.FailDeclined)
			// Anybody can fail in a phone's name: the operation stays.
			b.wantRow(testDevice, OperationUpgrade, tt.status, tt.reason)
		})
	}
}

// The Online CA is renewed while the server runs: LSCs of the new one are good
// as soon as it is known, and those of the old one still are.
func TestAuthByLSCOfARenewedCA(t *testing.T) {
	old, renewed := manufacturer(t), manufacturer(t)
	var known atomic.Pointer[[]*x509.Certificate]
	known.Store(&[]*x509.Certificate{old.Certificate()})
	b := newBench(t, func(c *ServerConfig) {
		c.LSCTrust = *known.Load()
		c.LSCIssuers = func() []*x509.Certificate { return *known.Load() }
	}, certDevice(AuthByLSC))
	defer b.stop()
	cfg := b.phoneConfig(testDevice)
	cfg.Auth.Certificate = identity(t, renewed, testDevice, ecSpec)
	wantFailure(t, cfg, phone.FailDeclined)
	known.Store(&[]*x509.Certificate{renewed.Certificate()})
	mustRun(t, cfg)
	cfg.Auth.Certificate = identity(t, old, testDevice, ecSpec)
	mustRun(t, cfg)
}

// A certificate is good within its validity and not a second longer, and so is
// its issuer.
func TestAuthValidity(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, nil, certDevice(AuthByLSC))
		defer b.stop()
		cfg := b.phoneConfig(testDevice)
		cfg.Auth.Certificate = identity(t, b.local, testDevice, ecSpec)
		time.Sleep(365*24*time.Hour + time.Second) // of the bubble's clock
		wantFailure(t, cfg, phone.FailDeclined)
		b.wantRow(testDevice, OperationUpgrade, 9, "valid from")
	})
}

// Manufacturing CAs of older phones sign with SHA-1, which Go's own
// verification refuses.
func TestSHA1Certificate(t *testing.T) {
	caKey, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	ca, err := GenerateServerCertificate(pkix.Name{CommonName: "Old Manufacturing CA"}, caKey, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	key, _ := phone.Generate(t.Context(), ecSpec)
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: testDevice}, NotBefore: time.Now(), NotAfter: time.Now().Add(time.Hour)}
	cert := signSHA1(t, template, ca.Leaf, key.Public(), caKey)
	if err := cert.CheckSignatureFrom(ca.Leaf); err == nil {
		t.Fatal("Go takes SHA-1 by now: checkSignature can go")
	}
	if err := checkIssued(cert, []*x509.Certificate{ca.Leaf}, time.Now()); err != nil {
		t.Error(err)
	}
	cert.Signature[5] ^= 1
	if err := checkIssued(cert, []*x509.Certificate{ca.Leaf}, time.Now()); err == nil {
		t.Error("a changed SHA-1 signature passes")
	}
}

// signSHA1 makes a certificate signed with SHA-1, which x509 no longer makes:
// a certificate that says SHA1WithRSA from the start, signed by hand.
func signSHA1(t *testing.T, template, parent *x509.Certificate, pub crypto.PublicKey, key *rsa.PrivateKey) *x509.Certificate {
	t.Helper()
	der, err := x509.CreateCertificate(rand.Reader, template, parent, pub, key)
	if err != nil {
		t.Fatal(err)
	}
	// sha256WithRSAEncryption and sha1WithRSAEncryption differ in one byte.
	old := string([]byte{0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x0b})
	cert, err := x509.ParseCertificate([]byte(strings.ReplaceAll(string(der), old, old[:8]+"\x05")))
	if err != nil {
		t.Fatal(err)
	}
	h := crypto.SHA1.New()
	h.Write(cert.RawTBSCertificate)
	if cert.Signature, err = rsa.SignPKCS1v15(rand.Reader, key, crypto.SHA1, h.Sum(nil)); err != nil {
		t.Fatal(err)
	}
	return cert
}

func stringDevice() Device {
	d := pendingDevice(testDevice)
	d.AuthMode, d.AuthString = AuthByString, "123456"
	return d
}

func TestAuthString(t *testing.T) {
	for _, version := range []uint8{2, 3} {
		b := newBench(t, nil, stringDevice())
		cfg := b.phoneConfig(testDevice)
		cfg.Version = version
		for _, wrong := range []string{"", "654321", "12345", "1234567"} {
			cfg.Auth.String = wrong
			wantFailure(t, cfg, phone.FailDeclined)
			d := b.wantRow(testDevice, OperationUpgrade, 10, "authentication string")
			if strings.Contains(d.Reason, "123456") || wrong != "" && strings.Contains(d.Reason, wrong) {
				t.Errorf("the reason shows a string: %q", d.Reason)
			}
		}
		cfg.Auth.String = "123456"
		mustRun(t, cfg)
		b.stop()
		for _, e := range b.logs.All() {
			if s := e.Message; strings.Contains(s, "123456") || strings.Contains(s, "654321") {
				t.Errorf("a string is in the log: %s", s)
			}
		}
		if b.traced("123456") || b.traced("654321") {
			t.Error("a string is in the trace")
		}
	}
}

// Ten wrong strings lock the device for ten minutes, even for the right one;
// others are not concerned, and contacts without a string do not count.
func TestLockout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		other := stringDevice()
		other.Name = "SEP000000000001"
		b := newBench(t, nil, stringDevice(), other)
		defer b.stop()
		cfg := b.phoneConfig(testDevice)
		try := func(s string, ok bool) {
			t.Helper()
			cfg.Auth.String = s
			if ok {
				mustRun(t, cfg)
			} else {
				wantFailure(t, cfg, phone.FailDeclined)
			}
		}
		for range 15 {
			try("", false)
		}
		for range 9 {
			try("000000", false)
		}
		if code := b.device(testDevice).Code; code != "auth-string" {
			t.Errorf("after nine: %s", code)
		}
		try("000000", false)
		try("123456", false)
		if d := b.device(testDevice); d.Code != "auth-string-lockout" || d.Status != 10 || d.Operation != OperationUpgrade {
			t.Errorf("after ten: %s, status %d, operation %v", d.Code, d.Status, d.Operation)
		}
		otherCfg := b.phoneConfig(other.Name)
		otherCfg.Auth.String = "123456"
		mustRun(t, otherCfg)
		time.Sleep(10*time.Minute - time.Second) // of the bubble's clock
		try("123456", false)
		time.Sleep(time.Second)
		try("123456", true)
		b.wantRow(testDevice, OperationNone, StatusUpgradeSuccess, "")
	})
}

// The right string in between begins the count anew.
func TestLockoutCountsAnew(t *testing.T) {
	b := newBench(t, func(c *ServerConfig) { c.LockoutAfter = 2 }, stringDevice())
	defer b.stop()
	cfg := b.phoneConfig(testDevice)
	for range 3 {
		cfg.Auth.String = "000000"
		wantFailure(t, cfg, phone.FailDeclined)
		cfg.Auth.String = "123456"
		mustRun(t, cfg)
		_, _ = b.table.Update(t.Context(), testDevice, func(d *Device) error { d.Schedule(OperationUpgrade, time.Time{}); return nil })
	}
}

// The product's way: the first failure ends the operation.
func TestOneAttempt(t *testing.T) {
	b := newBench(t, func(c *ServerConfig) { c.OneAttempt = true }, stringDevice())
	defer b.stop()
	cfg := b.phoneConfig(testDevice)
	cfg.Auth.String = "000000"
	wantFailure(t, cfg, phone.FailDeclined)
	b.wantRow(testDevice, OperationNone, 10, "authentication string")
}

// A phone that keeps an LSC of a former issuer is noted when it comes and
// nothing is scheduled for it; one whose LSC is of today's is not, and nor is
// one that gets a new LSC now.
func TestStaleLSCIsNoted(t *testing.T) {
	former, today := manufacturer(t), manufacturer(t)
	for _, c := range []struct {
		by   *LocalCA
		op   Operation
		want bool
	}{{former, OperationNone, true}, {today, OperationNone, false}, {nil, OperationNone, false}, {former, OperationUpgrade, false}} {
		d := pendingDevice(testDevice)
		d.AuthMode, d.Operation = AuthByNullString, c.op
		if c.by != nil {
			d.LSC = identity(t, c.by, testDevice, ecSpec).Certificate
		}
		b := newBench(t, func(cfg *ServerConfig) {
			cfg.LSCIssuers = func() []*x509.Certificate { return []*x509.Certificate{today.Certificate()} }
		}, d)
		_, _ = phone.Run(t.Context(), b.phoneConfig(testDevice))
		b.stop()
		noted := slices.ContainsFunc(b.events(), func(e event.Event) bool {
			s, ok := e.(event.LSCStale)
			return ok && s.Device == testDevice && s.Code == fault.StaleLSC.String()
		})
		if noted != c.want {
			t.Errorf("by the former issuer %v, %v: noted %v", c.by == former, c.op, noted)
		}
	}
}
