package ra_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/onlineca/onlineca/internal/interop"
	"github.com/onlineca/onlineca/ra"
	"github.com/onlineca/onlineca/ra/fault"
)

func openTokens(t *testing.T, path string) *ra.TokenFile {
	t.Helper()
	f, err := ra.OpenTokenFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// One process creates the password, another serves the client; it is good for
// one device, one key and a day.
func TestTokenIsGoodForOneDeviceAndOneKey(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "tokens.json")
		server := openTokens(t, path)
		password, err := openTokens(t, path).Create("SEP001122334455", 24*time.Hour)
		if err != nil {
			t.Fatal(err)
		}
		if text, err := os.ReadFile(path); err != nil || strings.Contains(string(text), password) {
			t.Errorf("the file holds the password (%v)", err)
		}
		interop.Private(t, path)
		good := ra.Credentials{Username: "SEP001122334455", Password: password}
		auth := func(c ra.Credentials, want error) {
			t.Helper()
			if err := server.Authenticate(t.Context(), c); !errors.Is(err, want) {
				t.Errorf("%v: %v, want %v", c, err, want)
			}
		}
		auth(good, nil)
		auth(ra.Credentials{Username: "sep001122334455", Password: strings.ToLower(password[:5] + "-" + password[5:] + " ")}, nil)
		auth(ra.Credentials{Username: "SEP001122334456", Password: password}, fault.BadCredentials)
		auth(ra.Credentials{Username: "SEP001122334455", Password: password[1:]}, fault.BadCredentials)
		auth(ra.Credentials{Username: "SEP001122334455"}, fault.BadCredentials)

		for _, p := range []struct {
			key  [32]byte
			want error
		}{{[32]byte{1}, nil}, {[32]byte{1}, nil}, {[32]byte{2}, fault.BadCredentials}} {
			if err := server.Spend(good, p.key); !errors.Is(err, p.want) {
				t.Errorf("%x: %v, want %v", p.key[:1], err, p.want)
			}
		}
		auth(good, nil)
		list, err := openTokens(t, path).List()
		if err != nil || len(list) != 1 || list[0].Device != "SEP001122334455" || list[0].Used == nil || !strings.HasPrefix(list[0].Key, "01") {
			t.Errorf("%+v, %v", list, err)
		}
		time.Sleep(24 * time.Hour)
		auth(good, fault.BadCredentials)
		if err := server.Spend(good, [32]byte{1}); !errors.Is(err, fault.BadCredentials) || !strings.Contains(err.Error(), "expired") {
			t.Errorf("%v", err)
		}
		// Creating another clears away what expired long ago.
		time.Sleep(31 * 24 * time.Hour)
		if _, err := server.Create("SEP2", time.Hour); err != nil {
			t.Fatal(err)
		}
		if list, _ := server.List(); len(list) != 1 || list[0].Device != "SEP2" {
			t.Errorf("%+v", list)
		}
		if n, err := server.Revoke("sep2"); n != 1 || err != nil {
			t.Errorf("%d, %v", n, err)
		}
	})
}

// Of many that come with the same password and different keys, one wins.
func TestTokenIsSpentOnce(t *testing.T) {
	path := filepath.Join(t.TempDir(), "tokens.json")
	password, err := openTokens(t, path).Create("SEP1", time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	var won atomic.Int32
	var wg sync.WaitGroup
	for i := range 20 {
		f := openTokens(t, path) // as if each were a process
		wg.Go(func() {
			switch err := f.Spend(ra.Credentials{Username: "SEP1", Password: password}, [32]byte{byte(i)}); {
			case err == nil:
				won.Add(1)
			case !errors.Is(err, fault.BadCredentials):
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if won.Load() != 1 {
		t.Errorf("%d won", won.Load())
	}
}

func TestTokenFileRefuses(t *testing.T) {
	path := filepath.Join(t.TempDir(), "tokens.json")
	f := openTokens(t, path)
	for _, device := range []string{"", "a b", "../x", strings.Repeat("x", 129)} {
		if _, err := f.Create(device, time.Hour); err == nil {
			t.Errorf("%q was accepted", device)
		}
	}
	if _, err := f.Create("SEP1", 0); err == nil {
		t.Error("no lifetime was accepted")
	}
	if err := os.WriteFile(path, []byte("rubbish"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := ra.OpenTokenFile(path); err == nil || !strings.Contains(err.Error(), "not one that this program wrote") {
		t.Errorf("%v", err)
	}
	if err := f.Authenticate(t.Context(), ra.Credentials{Username: "SEP1"}); !errors.Is(err, fault.Internal) {
		t.Errorf("%v", err)
	}
	gone := openTokens(t, filepath.Join(t.TempDir(), "no", "such", "tokens.json"))
	if _, err := gone.Create("SEP1", time.Hour); err == nil {
		t.Error("a directory that is not there was written to")
	}
}
