package testenv_test

import (
	"net/http"
	"testing"

	"github.com/onlineca/onlineca/testenv"
	"github.com/onlineca/onlineca/testenv/internal/raw"
)

// BenchmarkEnrol is what the mock costs: one POST and one GET on a connection
// that is logged in.
func BenchmarkEnrol(b *testing.B) {
	s := testenv.New(b, testenv.Config{})
	c, err := raw.Dial(s.URL, s.Pool())
	if err != nil {
		b.Fatal(err)
	}
	defer c.Close()
	if a, err := c.Login(good); err != nil || a.StatusCode != http.StatusOK {
		b.Fatal(err)
	}
	csr, _ := newCSR(b, "SEP001122334455")
	body := form(csr, "CertificateTemplate:CiscoRA").Encode()
	for b.Loop() {
		page, err := c.Send(http.MethodPost, "/certsrv/certfnsh.asp", "", body)
		if err != nil {
			b.Fatal(err)
		}
		m := issuedID.FindStringSubmatch(page.Body)
		if m == nil {
			b.Fatal("no certificate was issued")
		}
		if _, err := c.Send(http.MethodGet, "/certsrv/certnew.cer?ReqID="+m[1]+"&Enc=b64", "", ""); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkLogin is a connection, its TLS handshake and both legs of NTLM.
func BenchmarkLogin(b *testing.B) {
	s := testenv.New(b, testenv.Config{})
	for b.Loop() {
		c, err := raw.Dial(s.URL, s.Pool())
		if err != nil {
			b.Fatal(err)
		}
		if a, err := c.Login(good); err != nil || a.StatusCode != http.StatusOK {
			b.Fatal(err)
		}
		c.Close()
	}
}
