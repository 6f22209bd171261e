package app

import (
	"crypto/x509"
	"net/http"
	"slices"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/onlineca/onlineca/testenv"
)

// With a store as without one, what is read again takes effect: the queue, the
// check of what is issued for phones, and the template, in requests and where
// passwords are passed through.
func TestReloadTakesEffectWithAStore(t *testing.T) {
	m := testenv.New(t, testenv.Config{Templates: append(testenv.DefaultTemplates(), testenv.Template{Name: "Second", DisplayName: "Second", KeyUsage: x509.KeyUsageDigitalSignature})})
	s, p := remembering(t, m), hostParts(t, m)
	core, logs := observer.New(zapcore.WarnLevel)
	p.Log = zap.New(core)
	s.EST.Certificates = "any"
	x := startSite(t, s, p)
	unfit := func() int { return logs.FilterMessage("certificate-unfit").Len() }
	template := func() string { all := m.Issued(); return all[len(all)-1].Template }
	if status, _, body := x.enroll(t, "simpleenroll"); status != http.StatusOK || unfit() != 0 || template() != "CiscoRA" {
		t.Fatalf("%d %s; %d unfit, template %s", status, body, unfit(), template())
	}
	s.EST.Certificates, s.EST.MaxRequests = "lsc", 7
	s.Certsrv.Template, s.EST.Template = "Second", "Second"
	s.EST.Auth = AuthSettings{Certsrv: true, Require: "any"}
	if ignored, err := x.Reload(s, p); err != nil || len(ignored) != 0 {
		t.Fatal(ignored, err)
	}
	m.Inject(testenv.NoTemplates, testenv.On(testenv.StepPage)) // to see that they are looked at
	login := func(r *http.Request) { r.SetBasicAuth(testenv.DefaultUser, testenv.DefaultPassword) }
	if status, _, body, err := x.tryEnroll("simpleenroll", login); status != http.StatusUnauthorized {
		t.Errorf("%d %s %v", status, body, err)
	}
	if status, _, body, err := x.tryEnroll("simpleenroll", login); status != http.StatusOK || template() != "Second" {
		t.Errorf("%d %s %v, template %s", status, body, err, template())
	}
	if unfit() == 0 { // the template lacks key encipherment
		t.Errorf("nothing is said of a certificate that no phone takes: %v", logs.All())
	}
	if l := x.load.Status(); l.Capacity != 7 {
		t.Errorf("the queue takes %d, want 7", l.Capacity)
	}
}

// What takes a restart is named.
func TestReloadNamesWhatTakesARestart(t *testing.T) {
	m := testenv.New(t, testenv.Config{})
	s, p := remembering(t, m), hostParts(t, m)
	x := startSite(t, s, p)
	s.Listen, s.Store, s.Requests.Keep, s.Certsrv.Breaker.Failures, s.Certsrv.Timeouts.Login = "127.0.0.1:1", "other.db", time.Hour, 9, time.Hour
	s.EST.Plain, s.EST.Realm, s.EST.Certificates, s.Admin.PProf = true, "other", "any", true
	s.EST.TrustedProxies = []string{"127.0.0.1"}
	s.EST.Labels = map[string]*LabelSettings{"routers": {}}
	s.EST.Labels["routers"].defaults("CiscoRA")
	p.Password = "other"
	ignored, err := x.Reload(s, p)
	want := []string{
		"listen", "store", "requests.keep", "certsrv.breaker.failures", "certsrv.timeouts.login", "est.plain", "admin.pprof",
		"the password in certsrv.password_file",
	}
	if err != nil || !slices.Equal(ignored, want) {
		t.Errorf("%q, %v, want %q", ignored, err, want)
	}
	s.EST.Certificates = "lsc"
	if again, err := x.Reload(s, p); err != nil || !slices.Equal(again, want) {
		t.Errorf("the second time: %q, %v", again, err)
	}
}
