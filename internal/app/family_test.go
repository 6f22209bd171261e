package app

import (
	"context"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/onlineca/onlineca/ra/store"
	"github.com/onlineca/onlineca/testenv"
)

// machine is a host name behind which there is one mock or another.
type machine struct {
	now atomic.Pointer[testenv.Certsrv]
}

func (m *machine) dial(ctx context.Context, network, _ string) (net.Conn, error) {
	return new(net.Dialer).DialContext(ctx, network, strings.TrimPrefix(m.now.Load().URL, "https://"))
}

// authorities lists who the records' request numbers are of.
func authorities(t *testing.T, s Settings) (names []string) {
	t.Helper()
	at, err := store.Open(t.Context(), s.Store)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = at.Close() }()
	all, err := at.List(t.Context(), store.Filter{})
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range all {
		names = append(names, r.Authority)
	}
	return names
}

// A CA that was renewed with a new key is the same one; one that was installed
// anew under the same name is another.
func TestRenewedCAIsTheSameAndReinstalledIsNot(t *testing.T) {
	a, m := testenv.New(t, testenv.Config{FirstReqID: 100}), new(machine)
	m.now.Store(a)
	s, p := hostSettings(a), hostParts(t, a)
	p.Dial = m.dial
	s.Store, s.Requests.Audit = filepath.Join(t.TempDir(), "requests.db"), filepath.Join(t.TempDir(), "audit.jsonl")
	serve := func(name string, during func(x *site)) {
		t.Helper()
		t.Run(name, func(t *testing.T) {
			x := startSite(t, s, p)
			if status, _, body := x.enroll(t, "simpleenroll"); status != http.StatusOK {
				t.Fatalf("status %d: %s", status, body)
			}
			if during != nil {
				during(x)
			}
		})
	}
	renew := func(x *site) {
		if _, err := a.RenewCA(); err != nil {
			t.Fatal(err)
		}
		if status, _, body := x.enroll(t, "simpleenroll"); status != http.StatusOK {
			t.Errorf("after the renewal: status %d: %s", status, body)
		}
	}
	serve("first", renew)
	serve("renewed", nil)
	names := authorities(t, s)
	if len(names) != 3 || names[0] != names[1] || names[0] != names[2] || !strings.HasPrefix(names[0], "LAB-ISSUING-CA (") {
		t.Fatalf("the renewed CA is another: %q", names)
	}
	pki, err := testenv.NewPKI(testenv.PKIConfig{})
	if err != nil {
		t.Fatal(err)
	}
	b := testenv.New(t, testenv.Config{PKI: pki})
	p.Roots = append(p.Roots, b.Root)
	var submissions int
	serve("reinstalled while it runs", func(x *site) {
		submissions = a.Submissions()
		m.now.Store(b)
		a.Close()
		if err := x.chain.Refresh(t.Context()); err == nil || !strings.Contains(err.Error(), "but is another one") || !strings.Contains(err.Error(), "restart onlineca") {
			t.Errorf("%v", err)
		}
		if status, _, body := x.enroll(t, "simpleenroll"); status != http.StatusBadGateway {
			t.Errorf("its CA is another: status %d: %s", status, body)
		}
	})
	if n := b.Begun(testenv.StepSubmit); n != 0 || submissions == 0 {
		t.Errorf("%d requests went to the other CA", n)
	}
	serve("reinstalled", nil)
	after := authorities(t, s)
	if last := after[len(after)-1]; last == names[0] || !strings.HasPrefix(last, "LAB-ISSUING-CA (") {
		t.Errorf("the CA that was installed anew is taken for the old one: %q", after)
	}
}

// Records of earlier versions, which knew a CA by its name, go on.
func TestRecordsOfEarlierVersionsAreAdopted(t *testing.T) {
	m := testenv.New(t, testenv.Config{})
	s := remembering(t, m)
	der, err := newRequest()
	if err != nil {
		t.Fatal(err)
	}
	enrol := func(t *testing.T) {
		t.Helper()
		if status, _, body, err := startSite(t, s, hostParts(t, m)).post("simpleenroll", der, nil); status != http.StatusOK {
			t.Errorf("status %d: %s %v", status, body, err)
		}
	}
	t.Run("now", enrol)
	at, err := store.Open(t.Context(), s.Store)
	if err != nil {
		t.Fatal(err)
	}
	is, was := authorityName(m.PKI.Issuing[0]), formerName(m.PKI.Current())
	if n, err := at.Adopt(t.Context(), is, was); n != 1 || err != nil {
		t.Fatal(n, err)
	}
	if err := at.Close(); err != nil {
		t.Fatal(err)
	}
	t.Run("after the upgrade", enrol)
	if names := authorities(t, s); m.Submissions() != 1 || len(names) != 1 || names[0] != is {
		t.Errorf("%d submissions; %q", m.Submissions(), names)
	}
}
