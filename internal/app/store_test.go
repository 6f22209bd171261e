package app

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/onlineca/onlineca/ra/store"
	"github.com/onlineca/onlineca/testenv"
)

// What was enrolled is on record, and in the audit log, when the process ends.
func TestEverythingIsOnRecord(t *testing.T) {
	dir := t.TempDir()
	m := testenv.New(t, testenv.Config{})
	s := hostSettings(m)
	s.Store = filepath.Join(dir, "requests.db")
	s.Requests.Audit = filepath.Join(dir, "audit.jsonl")
	t.Run("serve", func(t *testing.T) {
		x := startSite(t, s, hostParts(t, m))
		for range 3 {
			if status, _, body := x.enroll(t, "simpleenroll"); status != 200 {
				t.Fatalf("status %d: %s", status, body)
			}
		}
	})
	audit, err := os.ReadFile(s.Requests.Audit)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range m.Issued() {
		if serial := c.Certificate.SerialNumber.Text(16); strings.Count(string(audit), serial) != 1 {
			t.Errorf("serial number %s is not once in the audit log:\n%s", serial, audit)
		}
	}
	if n := strings.Count(string(audit), "\n"); n != 3 {
		t.Errorf("the audit log has %d lines, want 3", n)
	}
}

// A denial is the CA's last word, whatever its reason: its client is told so and
// not asked for another password, nobody asks after the request any more, and
// when the client comes again, the request is a new one.
func TestDenialsAreFinal(t *testing.T) {
	for hresult, want := range map[string]int{
		"0x80094800": http.StatusBadRequest, // which is a 401 where the template is looked for at the login
		"0x80094012": http.StatusBadRequest,
		"0x80092013": http.StatusBadGateway,
		"0x8009ffff": http.StatusBadRequest,
	} {
		t.Run(hresult, func(t *testing.T) {
			m := testenv.New(t, testenv.Config{})
			s := remembering(t, m)
			x := startSite(t, s, hostParts(t, m))
			f, how, err := testenv.ParseFault("deny:" + hresult + "@submit")
			if err != nil {
				t.Fatal(err)
			}
			m.Inject(f, how...)
			der, err := newRequest()
			if err != nil {
				t.Fatal(err)
			}
			status, _, body, err := x.post("simpleenroll", der, nil)
			if err != nil || status != want || !strings.Contains(body, "(request 1)") {
				t.Errorf("status %d, want %d: %s %v", status, want, body, err)
			}
			all, err := x.records.store.List(t.Context(), store.Filter{})
			if err != nil || len(all) != 1 || all[0].State != store.Denied || all[0].ReqID != 1 {
				t.Errorf("%+v, %v", all, err)
			}
			if status, _, body, err := x.post("simpleenroll", der, nil); status != http.StatusOK || m.Submissions() != 2 {
				t.Errorf("again: status %d: %s %v, %s", status, body, err, fmt.Sprint(m.Submissions(), " submissions"))
			}
		})
	}
}
