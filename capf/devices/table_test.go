package devices_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/onlineca/onlineca/capf"
	"github.com/onlineca/onlineca/capf/devices"
	"github.com/onlineca/onlineca/internal/interop"
	"github.com/onlineca/onlineca/ra/fault"
)

func open(t testing.TB) (*devices.Table, string) {
	t.Helper()
	name := "a strange %41 name?.db"
	if runtime.GOOS == "windows" {
		name = "a strange %41 name#.db" // no file can have a question mark there
	}
	path := filepath.Join(t.TempDir(), name)
	table, err := devices.Open(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { table.Close() })
	return table, path
}

// full is a device with something in every column.
func full(name string) capf.Device {
	at := func(d int) time.Time { return time.Date(2031, 2, 3, 4, d, 0, 0, time.UTC) }
	return capf.Device{
		Name: name, Model: "CP-8865", AuthMode: capf.AuthByString, AuthString: "0123456", KeyOrder: capf.ECPreferred,
		KeySize: capf.KeySize3072, ECKeySize: 521, Issuer: capf.IssuerOffline, Signing: capf.SigningEncrypt,
		Operation: capf.OperationUpgrade, FinishBy: at(1).Local(), Status: 13, Reason: "the reason, \"quoted\"", Code: "phone-unreachable",
		LastContact: at(2), LSC: []byte{1}, PublicKey: []byte{2}, LSCValidUntil: at(3), LSCIssuer: "CN=CA", LSCIssuerValidUntil: at(4),
		CSR: []byte{3}, CSRTime: at(5), Issued: []byte{4}, IssuedIssuerUntil: at(6),
	}
}

func TestEveryColumn(t *testing.T) {
	table, path := open(t)
	want := full("SEP001122334455")
	if err := table.Add(t.Context(), want); err != nil {
		t.Fatal(err)
	}
	table.Close()
	again, err := devices.Open(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	got, err := again.Device(t.Context(), "sep001122334455")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	for _, p := range []string{path, path + "-wal"} {
		interop.Private(t, p)
	}
}

func TestAddRemoveSchedule(t *testing.T) {
	ctx := t.Context()
	table, _ := open(t)
	a, b := capf.NewDevice("SEPA"), capf.NewDevice("SEPB")
	if err := table.Add(ctx, a, b); err != nil {
		t.Fatal(err)
	}
	if err := table.Add(ctx, capf.NewDevice("SEPC"), capf.NewDevice("sepa")); err == nil || !strings.Contains(err.Error(), "already") {
		t.Errorf("a device twice: %v", err)
	}
	if _, err := table.Device(ctx, "SEPC"); !errors.Is(err, capf.ErrNoDevice) {
		t.Errorf("half of a failed Add is there: %v", err)
	}
	by := time.Date(2031, 1, 2, 3, 4, 0, 0, time.Local)
	if err := table.Schedule(ctx, capf.OperationUpgrade, by, "SEPA", "sepb"); err != nil {
		t.Fatal(err)
	}
	d, err := table.Device(ctx, "SEPB")
	if err != nil || d.Operation != capf.OperationUpgrade || d.Status != capf.StatusOperationPending || !d.FinishBy.Equal(by) {
		t.Errorf("scheduled: %+v, %v", d, err)
	}
	if err := table.Schedule(ctx, capf.OperationDelete, by, "SEPA", "SEPZ"); !errors.Is(err, capf.ErrNoDevice) {
		t.Errorf("schedule a device that is not there: %v", err)
	}
	if d, _ := table.Device(ctx, "SEPA"); d.Operation != capf.OperationUpgrade {
		t.Error("half of a failed Schedule is there")
	}
	if _, err := table.Remove(ctx, "SEPA", "SEPZ"); !errors.Is(err, capf.ErrNoDevice) {
		t.Errorf("remove a device that is not there: %v", err)
	}
	if rows, err := table.Remove(ctx, "sepa"); err != nil || len(rows) != 1 || rows[0].Name != "SEPA" {
		t.Error(rows, err)
	}
	if _, err := table.Device(ctx, "SEPA"); !errors.Is(err, capf.ErrNoDevice) {
		t.Errorf("it is still there: %v", err)
	}
}

func TestCheck(t *testing.T) {
	table, _ := open(t)
	for what, change := range map[string]func(*capf.Device){
		"no device name":         func(d *capf.Device) { d.Name = "../x" },
		"4 to 15 digits":         func(d *capf.Device) { d.AuthString = "12a4" },
		"has none":               func(d *capf.Device) { d.AuthMode, d.Operation = capf.AuthByString, capf.OperationUpgrade },
		"512":                    func(d *capf.Device) { d.KeySize = capf.KeySize512 },
		"256, 384 or 521":        func(d *capf.Device) { d.ECKeySize = 255 },
		"no operation":           func(d *capf.Device) { d.Operation = 5 },
		"no certificate status":  func(d *capf.Device) { d.Status = 35 },
		"no issuer":              func(d *capf.Device) { d.Issuer = "acme" },
		"no way to sign":         func(d *capf.Device) { d.Signing = "maybe" },
		"no authentication mode": func(d *capf.Device) { d.AuthMode = 0 },
		"no key order":           func(d *capf.Device) { d.KeyOrder = 4 },
		"there is no key size":   func(d *capf.Device) { d.KeySize = 6 },
	} {
		d := capf.NewDevice("SEPA")
		change(&d)
		err := table.Add(t.Context(), d)
		if err == nil {
			t.Errorf("%s: it was added", what)
		} else if what != "no device name" && !strings.Contains(err.Error(), what) {
			t.Errorf("%q is not in %q", what, err)
		}
	}
}

func TestUpdateIsOneTransaction(t *testing.T) {
	ctx := t.Context()
	table, _ := open(t)
	if err := table.Add(ctx, capf.NewDevice("SEPA")); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			_, err := table.Update(ctx, "SEPA", func(d *capf.Device) error { d.Reason += "x"; return nil })
			if err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	boom := errors.New("boom")
	if _, err := table.Update(ctx, "SEPA", func(d *capf.Device) error { d.Reason = ""; return boom }); !errors.Is(err, boom) {
		t.Errorf("Update: %v", err)
	}
	if d, _ := table.Device(ctx, "SEPA"); len(d.Reason) != 20 {
		t.Errorf("%d of 20 changes are there", len(d.Reason))
	}
	if _, err := table.Update(ctx, "SEPZ", func(*capf.Device) error { return nil }); !errors.Is(err, capf.ErrNoDevice) {
		t.Errorf("a device that is not there: %v", err)
	}
}

func TestList(t *testing.T) {
	ctx := t.Context()
	table, _ := open(t)
	a, b, c := full("SEPA"), capf.NewDevice("SEPB"), capf.NewDevice("CSF[x]")
	c.Name = "CSFx"
	c.CSR = []byte{1}
	if err := table.Add(ctx, a, b, c); err != nil {
		t.Fatal(err)
	}
	for want, f := range map[string]devices.Filter{
		"CSFx SEPA SEPB": {},
		"SEPA SEPB":      {Name: "sep?"},
		"CSFx":           {Name: "CSF*"},
		"SEPA":           {Status: 13},
		"CSFx SEPB":      {Operation: capf.OperationNone},
		"SEPA ":          {Issuer: capf.IssuerOffline},
		"SEPA  ":         {LSCIssuer: "cn=ca"},
		"SEPA   ":        {ExpiresBefore: time.Date(2031, 2, 3, 4, 4, 0, 0, time.UTC)},
		"":               {ExpiresBefore: time.Date(2031, 2, 3, 4, 3, 0, 0, time.UTC)},
		"SEPA    ":       {Code: "phone-unreachable"},
		"CSFx ":          {Waiting: true},
		" ":              {Name: "sep", Status: 13},
	} {
		all, err := table.List(ctx, f)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, d := range all {
			got = append(got, d.Name)
		}
		if s := strings.Join(got, " "); s != strings.TrimRight(want, " ") {
			t.Errorf("%+v: %q, want %q", f, s, want)
		}
	}
}

func TestCSV(t *testing.T) {
	ctx := t.Context()
	table, _ := open(t)
	if err := table.Add(ctx, full("SEPA"), capf.NewDevice("SEPB")); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := table.Export(ctx, &out, devices.Filter{}); err != nil {
		t.Fatal(err)
	}
	other, _ := open(t)
	added, changed, err := other.ImportCSV(ctx, bytes.NewReader(out.Bytes()))
	if added != 2 || changed != 0 || err != nil {
		t.Fatalf("ImportCSV = %d, %d, %v\n%s", added, changed, err, out.String())
	}
	got, err := other.Device(ctx, "SEPA")
	if err != nil {
		t.Fatal(err)
	}
	want := full("SEPA")
	want.Status, want.Reason, want.Code, want.LastContact = capf.StatusOperationPending, "", "", time.Time{}
	want.LSC, want.PublicKey, want.LSCValidUntil, want.LSCIssuer, want.LSCIssuerValidUntil = nil, nil, time.Time{}, "", time.Time{}
	want.CSR, want.CSRTime, want.Issued, want.IssuedIssuerUntil = nil, time.Time{}, nil, time.Time{}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}

	in := "\ufeffName,Operation,auth_mode, auth_string\nSEPB,install,string,1234\nSEPNEW,none,,\n"
	if added, changed, err = table.ImportCSV(ctx, strings.NewReader(in)); added != 1 || changed != 1 || err != nil {
		t.Errorf("ImportCSV = %d, %d, %v", added, changed, err)
	}
	if d, _ := table.Device(ctx, "SEPB"); d.Operation != capf.OperationUpgrade || d.AuthString != "1234" || d.Status != capf.StatusOperationPending {
		t.Errorf("SEPB: %+v", d)
	}
	in = "name,auth_string\nSEPDIGITS,1234\n"
	if _, _, err = table.ImportCSV(ctx, strings.NewReader(in)); err != nil {
		t.Error(err)
	}
	if d, _ := table.Device(ctx, "SEPDIGITS"); d.AuthMode != capf.AuthByString {
		t.Errorf("a device with a string of its own authenticates by %v", d.AuthMode)
	}
	for what, in := range map[string]string{
		"the file is empty":   "",
		"column \"\\x00\\x00": strings.Repeat("\x00", 1<<20),
		"column \"colour\"":   "name,colour\nSEPX,red\n",
		"column \"name\"":     "operation\ninstall\n",
		"line 3":              "name,operation\nSEPX,install\nSEPY,dance\n",
		"wrong number":        "name,operation\nSEPX\n",
	} {
		_, _, err := table.ImportCSV(ctx, strings.NewReader(in))
		if err == nil || !strings.Contains(err.Error(), what) || len(err.Error()) > 1000 {
			t.Errorf("%.99q: %v, want %q", in, err, what)
		}
	}
	if _, err := table.Device(ctx, "SEPX"); !errors.Is(err, capf.ErrNoDevice) {
		t.Error("half of a failed import is there")
	}
}

func newCA(t testing.TB, cn string) *capf.LocalCA {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := capf.GenerateServerCertificate(pkix.Name{CommonName: cn}, key, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	return localCA(t, cert)
}

func localCA(t testing.TB, cert tls.Certificate) *capf.LocalCA {
	t.Helper()
	ca, err := capf.NewLocalCA(cert, 0, nil)
	if err != nil {
		t.Fatal(err)
	}
	return ca
}

func TestImportAndStale(t *testing.T) {
	ctx := t.Context()
	table, _ := open(t)
	ca, other := newCA(t, "Issuer"), newCA(t, "Issuer")
	key, _ := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	csr, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
	if err != nil {
		t.Fatal(err)
	}
	d := capf.NewDevice("SEPA")
	d.CSR, d.Reason = csr, "its request waits"
	if err := table.Add(ctx, d, capf.NewDevice("SEPB")); err != nil {
		t.Fatal(err)
	}
	der, err := ca.Issue("SEPA", key.Public())
	if err != nil {
		t.Fatal(err)
	}
	otherKey, _ := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	wrongKey, _ := ca.Issue("SEPA", otherKey.Public())
	if _, err := table.Import(ctx, "SEPA", wrongKey, nil); !errors.Is(err, fault.WrongKeyCertificate) {
		t.Errorf("another key: %v", err)
	}
	if _, err := table.Import(ctx, "", wrongKey, nil); err == nil {
		t.Error("a certificate that nobody waits for was imported")
	}
	if _, err := table.Import(ctx, "SEPB", der, nil); err == nil {
		t.Error("a device without a request took a certificate")
	}
	if _, err := table.Import(ctx, "SEPA", der, other.Certificate()); !errors.Is(err, fault.CAPFTrustMissing) {
		t.Errorf("another CA of the same name: %v", err)
	}
	got, err := table.Import(ctx, "", der, ca.Certificate())
	if err != nil || got.Name != "SEPA" || got.Reason != "" || !bytes.Equal(got.Issued, der) || !got.IssuedIssuerUntil.Equal(ca.Certificate().NotAfter) {
		t.Errorf("Import = %s, %v", got.Name, err)
	}

	if _, err := table.Update(ctx, "SEPA", func(d *capf.Device) error { d.LSC = der; return nil }); err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct {
		issuers []*x509.Certificate
		want    int
	}{
		"the issuer":             {[]*x509.Certificate{ca.Certificate()}, 0},
		"the same name, new key": {[]*x509.Certificate{other.Certificate()}, 1},
		"both":                   {[]*x509.Certificate{other.Certificate(), ca.Certificate()}, 0},
		"none":                   {nil, 1},
	} {
		if stale, err := table.Stale(ctx, tt.issuers...); len(stale) != tt.want || err != nil {
			t.Errorf("%s: %d stale, %v; want %d", name, len(stale), err, tt.want)
		}
	}
}

func BenchmarkUpdate(b *testing.B) {
	table, err := devices.Open(context.Background(), filepath.Join(b.TempDir(), "devices.db"))
	if err != nil {
		b.Fatal(err)
	}
	defer table.Close()
	if err := table.Add(context.Background(), capf.NewDevice("SEPA")); err != nil {
		b.Fatal(err)
	}
	for i := range b.N {
		_, err := table.Update(context.Background(), "SEPA", func(d *capf.Device) error { d.Reason = fmt.Sprint(i); return nil })
		if err != nil {
			b.Fatal(err)
		}
	}
}
