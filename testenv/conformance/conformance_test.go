package conformance_test

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/onlineca/onlineca/testenv"
	"github.com/onlineca/onlineca/testenv/conformance"
)

// TestPlainClient: the suite can be passed.
func TestPlainClient(t *testing.T) {
	conformance.Run(t, func(target conformance.Target) conformance.Client { return &plain{t: target} })
}

// TestBadClients: the suite cannot be passed by clients with the faults that
// real ones have had.
func TestBadClients(t *testing.T) {
	for name, tc := range map[string]struct {
		client *plain
		fails  []string
	}{
		"English only":      {&plain{englishOnly: true}, []string{"outcome/de/pending, approved", "outcome/fr/issued", "outcome/fr/unknown template"}},
		"an ID is pending":  {&plain{idIsPending: true}, []string{"outcome/en/unknown template", "outcome/de/no permission"}},
		"takes any key":     {&plain{anyKey: true}, []string{"fault/fetch/other-key"}},
		"submits again":     {&plain{resubmits: true}, []string{"fault/submit/answer-lost", "fault/submit/truncated", "fault/submit/close"}},
		"without binding":   {&plain{unbound: true}, []string{"login/extended protection require", "login/extended protection SHA-384"}},
		"stubborn":          {&plain{stubborn: true}, []string{"login/wrong password"}},
		"waits for ever":    {&plain{endlessWait: true}, []string{"fault/submit/hang", "fault/fetch/stalled"}},
		"oldest CA":         {&plain{oldestCA: true}, []string{"chain/1 renewals", "chain/3 renewals", "chain/renewed while running"}},
		"takes any answer":  {&plain{anyAnswer: true}, []string{"chain/garbage", "chain/HTML"}},
		"does all of these": {&plain{englishOnly: true, anyKey: true, resubmits: true, unbound: true}, []string{"outcome/de/pending, denied"}},
	} {
		for _, c := range conformance.Cases() {
			if !contains(tc.fails, c.Name) {
				continue
			}
			t.Run(name+"/"+strings.ReplaceAll(c.Name, "/", "-"), func(t *testing.T) {
				t.Parallel()
				// Longer than the suite's own timeouts.
				ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
				defer cancel()
				err := c.Check(ctx, func(target conformance.Target) conformance.Client {
					p := tc.client.copy()
					p.t = target
					return p
				})
				if err == nil {
					t.Error("the suite finds nothing wrong")
				}
			})
		}
		for _, name := range tc.fails {
			if !isCase(name) {
				t.Errorf("there is no case %q", name)
			}
		}
	}
}

func contains(list []string, s string) bool {
	for _, v := range list {
		if v == s {
			return true
		}
	}
	return false
}

func isCase(name string) bool {
	for _, c := range conformance.Cases() {
		if c.Name == name {
			return true
		}
	}
	return false
}

// copy makes a client with the same faults.
func (p *plain) copy() *plain {
	return &plain{
		englishOnly: p.englishOnly, idIsPending: p.idIsPending, anyKey: p.anyKey, resubmits: p.resubmits,
		unbound: p.unbound, stubborn: p.stubborn, endlessWait: p.endlessWait, oldestCA: p.oldestCA, anyAnswer: p.anyAnswer,
	}
}

// TestRealTarget points the part for a real AD CS at a mock, by way of the
// environment.
func TestRealTarget(t *testing.T) {
	if _, ok, err := conformance.RealTarget(); ok || err != nil {
		t.Skipf("the environment names a real AD CS: %v", err)
	}
	s := testenv.New(t, testenv.Config{EPA: testenv.EPARequire, Language: testenv.French, Renewals: 1})
	dir := t.TempDir()
	password, ca := filepath.Join(dir, "password"), filepath.Join(dir, "ca.pem")
	for path, text := range map[string]string{password: testenv.DefaultPassword + "\r\n", ca: string(s.RootPEM())} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv(conformance.EnvURL, s.URL+"/")
	if _, _, err := conformance.RealTarget(); err == nil {
		t.Error("a URL without a user is enough")
	}
	t.Setenv(conformance.EnvUser, testenv.DefaultUser)
	t.Setenv(conformance.EnvTemplate, "CiscoRA")
	t.Setenv(conformance.EnvPasswordFile, password)
	t.Setenv(conformance.EnvCA, password)
	if _, _, err := conformance.RealTarget(); err == nil {
		t.Error("a file without a certificate is enough")
	}
	t.Setenv(conformance.EnvCA, ca)
	target, ok, err := conformance.RealTarget()
	if err != nil || !ok {
		t.Fatal(ok, err)
	}
	if err := conformance.CheckReal(t.Context(), &plain{t: target}, target); err != nil {
		t.Error(err)
	}
	if s.FailedLogons() != 0 || s.Submissions() != 2 {
		t.Errorf("%d failed logons, %d submissions", s.FailedLogons(), s.Submissions())
	}
}

// TestEnvironmentIsDocumented: docs/certsrv.md names the variables.
func TestEnvironmentIsDocumented(t *testing.T) {
	doc, err := os.ReadFile("../../docs/certsrv.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{conformance.EnvURL, conformance.EnvUser, conformance.EnvPasswordFile, conformance.EnvCA, conformance.EnvTemplate} {
		if !strings.Contains(string(doc), "| `"+name+"` |") {
			t.Errorf("docs/certsrv.md lacks %s", name)
		}
	}
}
