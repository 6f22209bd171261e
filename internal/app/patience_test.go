package app

import (
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/onlineca/onlineca/testenv"
)

// remembering are settings with an SQLite store.
func remembering(t *testing.T, mocks ...*testenv.Certsrv) Settings {
	t.Helper()
	s := hostSettings(mocks...)
	dir := t.TempDir()
	s.Store = filepath.Join(dir, "requests.db")
	s.Requests.Audit = filepath.Join(dir, "audit.jsonl")
	return s
}

// certsrv is slower than the client's patience: the client is told to come
// back, the work goes on, and the next try collects what one submission has
// brought.
func TestCertsrvSlowerThanTheClientsPatience(t *testing.T) {
	if d := DefaultSettings().Requests.Patience; d != 8*time.Second {
		t.Errorf("the default patience is %v; libEST's client has 10 seconds", d)
	}
	patience, slow := 200*time.Millisecond, 2*time.Second
	if os.Getenv("ONLINECA_LONG") != "" {
		patience, slow = 8*time.Second, 9500*time.Millisecond
	}
	for name, at := range map[string]testenv.Step{"submission": testenv.StepSubmit, "certificate": testenv.StepFetch} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := testenv.New(t, testenv.Config{})
			s := remembering(t, m)
			s.Requests.Patience, s.Requests.RetryAfter = patience, 3*time.Second
			x := startSite(t, s, hostParts(t, m))
			m.Inject(testenv.Slow.For(slow), testenv.On(at))
			der, err := newRequest()
			if err != nil {
				t.Fatal(err)
			}
			post := func() (status int, retry, text string) {
				status, retry, text, err := x.post("simpleenroll", der, nil)
				if err != nil {
					t.Fatal(err)
				}
				return status, retry, text
			}
			for i := range 2 { // the second joins
				status, retry, text := post()
				if status == http.StatusOK && i == 1 {
					break // it came when all was done
				}
				if status != http.StatusAccepted || retry != "3" {
					t.Fatalf("%d, Retry-After %q: %s", status, retry, text)
				}
			}
			records := func() map[string]int {
				n, err := x.records.counts(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				return n
			}
			until(t, "the work goes on without a client", func() bool { return records()["issued"] == 1 })
			if status, _, text := post(); status != http.StatusOK {
				t.Errorf("the next try: %d %s", status, text)
			}
			if n, tries := m.Submissions(), m.Begun(testenv.StepSubmit); n != 1 || tries != 1 {
				t.Errorf("%d submissions, %d POSTs", n, tries)
			}
		})
	}
}
