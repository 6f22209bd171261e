package testenv_test

import (
	"crypto/x509"
	"encoding/base64"
	"net/http"
	"net/url"
	"testing"

	"github.com/onlineca/onlineca/internal/interop"
	"github.com/onlineca/onlineca/testenv"
	"github.com/onlineca/onlineca/testenv/internal/raw"
)

// judged is a server that logs people in: the mock, or one that this project
// did not write.
type judged struct {
	name, url string
	roots     *x509.CertPool
}

// TestSameAsApache has one table of clients pass on the mock and on Apache with
// gss-ntlmssp: whatever a client does, both come to the same verdict.
func TestSameAsApache(t *testing.T) {
	behind := testenv.New(t, testenv.Config{TrustFront: true})
	domain, name := "LAB", "ciscora"
	apache := interop.Apache(t, behind.URL, interop.User{Domain: domain, Name: name, Password: testenv.DefaultPassword})
	pool := x509.NewCertPool()
	pool.AddCert(apache.Root)
	mock := testenv.New(t, testenv.Config{})
	for _, server := range []judged{{"mock", mock.URL, mock.Pool()}, {"Apache", apache.URL, pool}} {
		t.Run(server.name, func(t *testing.T) {
			server.logins(t)
			server.connections(t)
			server.enrols(t)
		})
	}
	if n := behind.Submissions(); n != 1 {
		t.Errorf("%d submissions through Apache", n)
	}
	if r := behind.Issued(); len(r) != 1 || r[0].Requester == "" {
		t.Errorf("issued through Apache: %+v", r)
	}
}

// logins is the table of what is right or wrong in a single login.
func (j judged) logins(t *testing.T) {
	for name, tc := range map[string]struct {
		change func(*raw.Login)
		status int
	}{
		"good":             {func(*raw.Login) {}, 200},
		"Negotiate":        {func(l *raw.Login) { l.Scheme = "Negotiate" }, 200},
		"wrong password":   {func(l *raw.Login) { l.Password = "wrong" }, 401},
		"empty password":   {func(l *raw.Login) { l.Password = "" }, 401},
		"unknown user":     {func(l *raw.Login) { l.User = `LAB\nobody` }, 401},
		"other domain":     {func(l *raw.Login) { l.User = `OTHER\ciscora` }, 401},
		"user in capitals": {func(l *raw.Login) { l.User = `LAB\CISCORA` }, 200},
		"bound":            {func(l *raw.Login) { l.Binding = raw.Right }, 200},
		"MIC":              {func(l *raw.Login) { l.MIC = true }, 200},
		"bound and MIC":    {func(l *raw.Login) { l.Binding, l.MIC = raw.Right, true }, 200},
		"wrong MIC":        {func(l *raw.Login) { l.BreakMIC = true }, 401},
		"wrong MIC, bound": {func(l *raw.Login) { l.Binding, l.BreakMIC = raw.Right, true }, 401},
	} {
		l := good
		tc.change(&l)
		a := dialRaw(t, j.url, j.roots).login(l)
		if a.StatusCode != tc.status {
			t.Errorf("%s: status %d, want %d", name, a.StatusCode, tc.status)
		}
		if persistent := a.Header.Get("Persistent-Auth") == "true"; persistent != (tc.status == 200) {
			t.Errorf("%s: Persistent-Auth %v", name, persistent)
		}
	}
}

// connections is about who is on which connection.
func (j judged) connections(t *testing.T) {
	c := dialRaw(t, j.url, j.roots)
	if a := c.send(http.MethodGet, "/certsrv/", "", ""); a.StatusCode != http.StatusUnauthorized || len(a.Body) == 0 || len(a.Header.Values("WWW-Authenticate")) != 2 {
		t.Errorf("anonymous: %d, %d bytes, %q", a.StatusCode, len(a.Body), a.Header.Values("WWW-Authenticate"))
	}
	negotiate := negotiateMessage(t)
	first := c.send(http.MethodGet, "/certsrv/", "NTLM "+base64.StdEncoding.EncodeToString(negotiate), "")
	challenge, ok := raw.Token(first, "NTLM")
	if !ok || len(first.Header.Values("WWW-Authenticate")) != 1 {
		t.Fatalf("challenge: %q", first.Header.Values("WWW-Authenticate"))
	}
	answer := raw.Header("NTLM", answerTo(t, good, negotiate, challenge))
	if a := dialRaw(t, j.url, j.roots).send(http.MethodGet, "/certsrv/", answer, ""); a.StatusCode == http.StatusOK {
		t.Errorf("the answer on another connection: %d", a.StatusCode)
	}
	if a := c.send(http.MethodGet, "/certsrv/", answer, ""); a.StatusCode != http.StatusOK {
		t.Errorf("the answer on its own connection: %d", a.StatusCode)
	}
	if a := c.send(http.MethodGet, "/certsrv/certcarc.asp", "", ""); a.StatusCode != http.StatusOK {
		t.Errorf("the next request: %d", a.StatusCode)
	}
	if a := dialRaw(t, j.url, j.roots).send(http.MethodGet, "/certsrv/", "", ""); a.StatusCode != http.StatusUnauthorized {
		t.Errorf("another connection: %d", a.StatusCode)
	}
}

// enrols submits a request and fetches the certificate.
func (j judged) enrols(t *testing.T) {
	c := dialRaw(t, j.url, j.roots)
	if a := c.login(good); a.StatusCode != http.StatusOK {
		t.Fatalf("login: %d", a.StatusCode)
	}
	csr, key := newCSR(t, "SEP001122334455")
	page := c.send(http.MethodPost, "/certsrv/certfnsh.asp", "", form(csr, "CertificateTemplate:CiscoRA").Encode())
	id := issuedID.FindStringSubmatch(page.Body)
	if id == nil {
		t.Fatalf("no certificate:\n%s", page.Body)
	}
	query := url.Values{"ReqID": {id[1]}, "Enc": {"b64"}}
	a := c.send(http.MethodGet, "/certsrv/certnew.cer?"+query.Encode(), "", "")
	if leaf := mustParse(t, decodePEM(t, a.Body)); !key.PublicKey.Equal(leaf.PublicKey) {
		t.Error("the certificate has another key")
	}
}
