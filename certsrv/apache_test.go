package certsrv_test

import (
	"crypto/x509"
	"errors"
	"strings"
	"sync"
	"testing"

	"github.com/onlineca/onlineca/certsrv"
	"github.com/onlineca/onlineca/internal/interop"
	"github.com/onlineca/onlineca/ra/fault"
	"github.com/onlineca/onlineca/testenv"
)

// The whole client against an NTLM server that this project did not write,
// with the mock's pages behind it.
func TestEnrollThroughApache(t *testing.T) {
	s := testenv.New(t, testenv.Config{TrustFront: true})
	domain, name, _ := strings.Cut(testenv.DefaultUser, `\`)
	a := interop.Apache(t, s.URL, interop.User{Domain: domain, Name: name, Password: testenv.DefaultPassword})
	roots := x509.NewCertPool()
	roots.AddCert(a.Root)
	cfg := certsrv.Config{
		URL: a.URL + "/certsrv", Username: testenv.DefaultUser, Password: testenv.DefaultPassword,
		Template: "CiscoRA", Roots: roots,
	}
	c := newClient(t, cfg)
	if err := c.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	r := request(t, "SEP001122334455")
	var wg sync.WaitGroup
	for range 32 {
		wg.Go(func() {
			for range 10 {
				if _, err := c.Enroll(t.Context(), r); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	// One login a session, and one more where net/http gave a connection up: it
	// does so when a goroutine of its own does not run for 50 ms.
	if st := c.Stats(); st.Handshakes < 8 || st.Handshakes > 24 || st.Rejected != 0 || st.Requests != 642 {
		t.Errorf("%+v", st)
	}
	if n := s.Submissions(); n != 320 {
		t.Errorf("%d submissions", n)
	}
	cfg.Password = "wrong"
	if err := newClient(t, cfg).Start(t.Context()); !errors.Is(err, fault.BadCredentials) {
		t.Errorf("a wrong password: %v", err)
	}
}
