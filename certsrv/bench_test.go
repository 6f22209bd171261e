package certsrv_test

import (
	"testing"

	"github.com/onlineca/onlineca/testenv"
)

// BenchmarkEnroll reports what an enrolment costs the server: two requests and
// no login.
func BenchmarkEnroll(b *testing.B) {
	s := testenv.New(b, testenv.Config{EPA: testenv.EPARequire})
	c := newClient(b, config(s))
	if err := c.Login(b.Context()); err != nil {
		b.Fatal(err)
	}
	s.ResetRequests()
	r := request(b, "SEP001122334455")
	for b.Loop() {
		if _, err := c.Enroll(b.Context(), r); err != nil {
			b.Fatal(err)
		}
	}
	n := count(s)
	b.ReportMetric(float64(len(s.Requests()))/float64(b.N), "certsrv-requests/op")
	b.ReportMetric(float64(n.logins)/float64(b.N), "ntlm-handshakes/op")
}
