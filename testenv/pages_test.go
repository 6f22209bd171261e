package testenv_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/smallstep/pkcs7"

	"github.com/onlineca/onlineca/testenv"
	"github.com/onlineca/onlineca/testenv/internal/raw"
)

// newCSR is a request of a P-256 key, in PEM.
func newCSR(t testing.TB, cn string) (string, *ecdsa.PrivateKey) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{
		Subject: pkix.Name{CommonName: cn}, DNSNames: []string{strings.ToLower(cn) + ".lab.example"},
	}, key)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der})), key
}

// visitor is somebody with a browser: logged in by Basic, which needs no
// connection of its own.
type visitor struct {
	t     *testing.T
	s     *testenv.Certsrv
	agent string
	// How long to wait for an answer, and how much to read; zero is no limit.
	patience time.Duration
	appetite int64
}

// visit runs a mock and a visitor of it.
func visit(t *testing.T, c testenv.Config) visitor {
	t.Helper()
	c.Schemes = []testenv.Scheme{testenv.SchemeNegotiate, testenv.SchemeNTLM, testenv.SchemeBasic}
	return visitor{t: t, s: testenv.New(t, c), agent: "Mozilla/5.0 (X11; Linux x86_64)"}
}

func (v visitor) do(method, path string, form url.Values) raw.Reply {
	v.t.Helper()
	a, err := v.try(method, path, form)
	if err != nil {
		v.t.Fatalf("%s %s: %v", method, path, err)
	}
	return a
}

func (v visitor) try(method, path string, form url.Values) (raw.Reply, error) {
	c := dialRaw(v.t, v.s.URL, v.s.Pool())
	defer c.Close()
	if v.patience > 0 {
		_ = c.SetReadDeadline(time.Now().Add(v.patience))
	}
	body := form.Encode()
	fmt.Fprintf(c.Conn, "%s %s HTTP/1.1\r\nHost: %s\r\nUser-Agent: %s\r\nAuthorization: Basic %s\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: %d\r\n\r\n%s",
		method, path, c.Host, v.agent, base64.StdEncoding.EncodeToString([]byte(account)), len(body), body)
	resp, err := http.ReadResponse(c.R, &http.Request{Method: method})
	if err != nil {
		return raw.Reply{}, err
	}
	// Closing the body would read it to its end, which it may not have.
	got, err := readAll(resp, v.appetite)
	return raw.Reply{Response: resp, Body: got}, err
}

func (v visitor) get(path string) raw.Reply { v.t.Helper(); return v.do(http.MethodGet, path, nil) }

func (v visitor) submit(csr, attributes string) raw.Reply {
	v.t.Helper()
	return v.do(http.MethodPost, "/certsrv/certfnsh.asp", form(csr, attributes))
}

func form(csr, attributes string) url.Values {
	return url.Values{"Mode": {"newreq"}, "CertRequest": {csr}, "CertAttrib": {attributes}, "SaveCert": {"yes"}, "TargetStoreFlags": {"0"}}
}

var issuedID = regexp.MustCompile(`certnew\.cer\?ReqID=(\d+)&`)

func issued(t *testing.T, a raw.Reply) int {
	t.Helper()
	m := issuedID.FindStringSubmatch(a.Body)
	if m == nil {
		t.Fatalf("no certificate was issued:\n%s", a.Body)
	}
	id, _ := strconv.Atoi(m[1])
	return id
}

// marks that a captured page of each kind has, whatever its language.
var marks = map[string][]string{
	"issued":  {`<P ID=locPageTitle> <B> `, "<P ID=locInfo> ", "ReqID=CACert&amp;Renewal=0&amp;Mode=inst&amp;Enc=b64"},
	"pending": {"<P ID=locInfoNewReq> ", "<P ID=locInfoReqID>\r\n", "<P ID=locInstructions> ", "<P ID=locTimeoutWarning>"},
	"denied":  {"<P ID=locDenied> ", "<P ID=locInfoReqIDandReason>\r\n", "  0x80094800, ", "<P ID=locContactAdmin>"},
	"every": {`<Meta HTTP-Equiv="X-UA-Compatible" Content="IE=7">`, "<LocID ID=locMSCertSrv>", "<B><I>Microsoft</I></B>",
		"&nbsp;--&nbsp; LAB-ISSUING-CA &nbsp;", `<A Href="/certsrv">`, "<!-- End of standard text. Scripts follow  -->"},
}

// TestOutcomes submits in every language to every class of client.
func TestOutcomes(t *testing.T) {
	titles := map[testenv.Language][3]string{
		testenv.English: {"Certificate Issued", "Certificate Pending", "Certificate Request Denied"},
		testenv.German:  {"Zertifikat wurde ausgestellt", "Zertifikat steht aus", "Zertifikatanforderung verweigert"},
		testenv.French:  {"Certificat émis", "Certificat en attente", "Demande de certificat refusée"},
	}
	for language, title := range titles {
		v := visit(t, testenv.Config{Language: language, FirstReqID: 83})
		csr, _ := newCSR(t, "SEP001122334455")
		for i, tc := range []struct{ kind, template string }{
			{"issued", "CiscoRA"}, {"pending", "CiscoRAManual"}, {"denied", "No-Such-Template-Probe"},
		} {
			a := v.submit(csr, "CertificateTemplate:"+tc.template+"\r\n")
			want := append([]string{"<P ID=locPageTitle> <B> " + title[i] + " </B>"}, marks[tc.kind]...)
			for _, m := range append(want, marks["every"]...) {
				if a.StatusCode != http.StatusOK || !strings.Contains(a.Body, m) {
					t.Errorf("%s, %s: %d, no %q:\n%s", language, tc.kind, a.StatusCode, m, a.Body)
				}
			}
			if strings.Count(a.Body, "\n") != strings.Count(a.Body, "\r\n") {
				t.Errorf("%s, %s: a line ends without CR", language, tc.kind)
			}
			if !strings.Contains(a.Body, strconv.Itoa(83+i)) {
				t.Errorf("%s, %s: the page does not name request %d", language, tc.kind, 83+i)
			}
			if got := a.Header.Get("Content-Type"); got != "text/html" {
				t.Errorf("content type %q", got)
			}
		}
	}
}

// TestEnglishTexts compares with captured sentences, line breaks included.
func TestEnglishTexts(t *testing.T) {
	v := visit(t, testenv.Config{FirstReqID: 85})
	csr, _ := newCSR(t, "SEP001122334455")
	denied := v.submit(csr, "CertificateTemplate:No-Such-Template-Probe\n")
	pending := v.submit(csr, "CertificateTemplate:CiscoRAManual")
	waiting := v.get("/certsrv/certnew.cer?ReqID=86&Enc=b64")
	failed := v.get("/certsrv/certnew.cer?ReqID=4711&Enc=b64")
	for _, tc := range []struct {
		page raw.Reply
		want string
	}{
		{denied, "<P ID=locInfoReqIDandReason>\r\nYour Request Id is 85. The disposition message is \"Denied by Policy Module  0x80094800, The request was for a certificate template that is not supported by the Active Directory Certificate Services policy: No-Such-Template-Probe.\r\n\".\r\n</P>"},
		{pending, "Your certificate request has been received. However, you must wait for an\r\nadministrator to issue the certificate you requested. </P>"},
		{pending, "<P ID=locInfoReqID>\r\nYour Request Id is 86.\r\n</P>"},
		{waiting, "<DD>\r\n\t\t5 <LocID ID=locDispSpacer>-</LocID> "},
		{waiting, "(unknown)"},
		{waiting, "\r\n\t\tTaken Under Submission\r\n"},
		{waiting, "\r\n\t\tThe operation completed successfully. 0x0 (WIN32: 0)\r\n"},
		{failed, "\r\n\t\tThe requested property value is empty. 0x80094004 (-2146877436 CERTSRV_E_PROPERTY_EMPTY)\r\n"},
		{failed, "(never set)"},
	} {
		if !strings.Contains(tc.page.Body, tc.want) {
			t.Errorf("no %q in\n%s", tc.want, tc.page.Body)
		}
	}
	if strings.Contains(waiting.Body, "locReqFailed") {
		t.Error("the page for a pending request says that the request failed")
	}
}

// TestRowsAsProgramsReadThem uses the regular expressions that shipping clients
// use on error pages.
func TestRowsAsProgramsReadThem(t *testing.T) {
	v := visit(t, testenv.Config{})
	csr, _ := newCSR(t, "SEP001122334455")
	v.submit(csr, "CertificateTemplate:CiscoRAManual")
	if err := v.s.Deny(1); err != nil {
		t.Fatal(err)
	}
	a := v.get("/certsrv/certnew.cer?ReqID=1")
	for label, want := range map[string]string{
		"Disposition message": `Denied by LAB\certmanager`,
		"LastStatus":          "The request was denied by a certificate manager or CA administrator. 0x80094014 (-2146877420 CERTSRV_E_ADMIN_DENIED_REQUEST)",
	} {
		m := regexp.MustCompile(label + `:[^\t]+\t\t([^\r\n]+)`).FindStringSubmatch(a.Body)
		if m == nil || m[1] != want {
			t.Errorf("%s: %q, want %q", label, m, want)
		}
	}
}

// TestUserAgentClasses: programs that the pages do not know get text/html and a
// page without scripts.
func TestUserAgentClasses(t *testing.T) {
	v := visit(t, testenv.Config{})
	csr, _ := newCSR(t, "SEP001122334455")
	for agent, known := range map[string]bool{
		"Mozilla/5.0": true, "Mozilla": true, "Mozilla/4.0 (compatible; MSIE 8.0)": true, "Go-http-client/1.1": false, "CiscoRA 1.0": false,
	} {
		v.agent = agent
		page := v.submit(csr, "CertificateTemplate:CiscoRA")
		id := issued(t, page)
		if got := strings.Contains(page.Body, `+getEncoding();`); got != known {
			t.Errorf("%s: a page with scripts: %v", agent, got)
		}
		if got := strings.Contains(page.Body, fmt.Sprintf(`<A Href="certnew.cer?ReqID=%d&amp;Enc=bin">`, id)); got == known {
			t.Errorf("%s: a page with plain links: %v", agent, got)
		}
		for file, want := range map[string]string{"certnew.cer": "application/pkix-cert", "certnew.p7b": "application/x-pkcs7-certificates"} {
			if !known {
				want = "text/html"
			}
			a := v.get(fmt.Sprintf("/certsrv/%s?ReqID=%d&Enc=b64", file, id))
			if got := a.Header.Get("Content-Type"); got != want {
				t.Errorf("%s: %s has content type %q, want %q", agent, file, got, want)
			}
		}
	}
}

// TestFiles fetches certificates and chains in each encoding.
func TestFiles(t *testing.T) {
	v := visit(t, testenv.Config{})
	csr, key := newCSR(t, "SEP001122334455")
	id := issued(t, v.submit(csr, "CertificateTemplate:CiscoRA"))
	for _, path := range []string{
		fmt.Sprintf("/certsrv/certnew.cer?ReqID=%d&Enc=b64", id),
		fmt.Sprintf("/CertSrv/CERTNEW.CER?reqid=%d", id),
		fmt.Sprintf("/certsrv/certnew.cer?REQID=%d&ENC=b64", id),
	} {
		body := v.get(path).Body
		block, rest := pem.Decode([]byte(body))
		if block == nil || block.Type != "CERTIFICATE" || len(rest) != 0 || strings.Count(body, "\r\n") != strings.Count(body, "\n") {
			t.Fatalf("%s:\n%q", path, body)
		}
		leaf, err := x509.ParseCertificate(block.Bytes)
		if err != nil || !key.PublicKey.Equal(leaf.PublicKey) {
			t.Errorf("%s: %v, another key", path, err)
		}
	}
	if der := v.get(fmt.Sprintf("/certsrv/certnew.cer?ReqID=%d&Enc=bin", id)).Body; der[0] != 0x30 {
		t.Errorf("Enc=bin: %q", der[:20])
	}
	for path, want := range map[string]int{
		"/certsrv/certnew.p7b?ReqID=CACert&Renewal=0&Enc=bin":          2,
		"/certsrv/certnew.p7b?ReqID=CACert&Renewal=0&Enc=b64":          2,
		fmt.Sprintf("/certsrv/certnew.p7b?ReqID=%d&Enc=bin", id):       3,
		"/certsrv/certnew.p7b?ReqID=CACert&Enc=bin&unknown=parameter&": 2,
	} {
		der := []byte(v.get(path).Body)
		if block, _ := pem.Decode(der); block != nil {
			if block.Type != "CERTIFICATE" {
				t.Errorf("%s: armour %q", path, block.Type)
			}
			der = block.Bytes
		}
		p, err := pkcs7.Parse(der)
		if err != nil || len(p.Certificates) != want {
			t.Errorf("%s: %v, want %d certificates", path, err, want)
		}
	}
}

// TestRenewals: certcarc.asp says how often the CA was renewed, and each
// generation can be fetched.
func TestRenewals(t *testing.T) {
	for n := range testenv.MaxRenewals + 1 {
		v := visit(t, testenv.Config{Renewals: n})
		a := v.get("/certsrv/certcarc.asp")
		if !strings.Contains(a.Body, fmt.Sprintf("var nRenewals=%d;\r\n", n)) || !strings.Contains(a.Body, "[LAB-ISSUING-CA") {
			t.Errorf("%d renewals:\n%s", n, a.Body)
		}
		for i := range n + 1 {
			block, _ := pem.Decode([]byte(v.get(fmt.Sprintf("/certsrv/certnew.cer?ReqID=CACert&Renewal=%d&Enc=b64", i)).Body))
			if block == nil || !v.s.PKI.Issuing[i].Equal(mustParse(t, block.Bytes)) {
				t.Errorf("%d renewals: generation %d is another certificate", n, i)
			}
		}
		if a := v.get(fmt.Sprintf("/certsrv/certnew.p7b?ReqID=CACert&Renewal=%d&Enc=bin", n+1)); !strings.Contains(a.Body, "<HTML>") {
			t.Errorf("%d renewals: there is a generation %d", n, n+1)
		}
		csr, _ := newCSR(t, "SEP001122334455")
		id := issued(t, v.submit(csr, "CertificateTemplate:CiscoRA"))
		leaf := v.s.Issued()[0].Certificate
		if err := leaf.CheckSignatureFrom(v.s.PKI.Issuing[n]); err != nil || v.s.Issued()[0].ReqID != id {
			t.Errorf("%d renewals: not signed by the newest: %v", n, err)
		}
	}
}

func decodePEM(t *testing.T, s string) []byte {
	t.Helper()
	block, _ := pem.Decode([]byte(s))
	if block == nil {
		t.Fatalf("no PEM:\n%s", s)
	}
	return block.Bytes
}

func mustParse(t *testing.T, der []byte) *x509.Certificate {
	t.Helper()
	c, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// TestRenewalWhileRunning: the CA gets a new certificate under the feet of its
// clients.
func TestRenewalWhileRunning(t *testing.T) {
	v := visit(t, testenv.Config{})
	csr, _ := newCSR(t, "SEP001122334455")
	before := issued(t, v.submit(csr, "CertificateTemplate:CiscoRA"))
	pki, err := v.s.RenewCA()
	if err != nil {
		t.Fatal(err)
	}
	after := issued(t, v.submit(csr, "CertificateTemplate:CiscoRA"))
	if a := v.get("/certsrv/certcarc.asp"); !strings.Contains(a.Body, "var nRenewals=1;") {
		t.Errorf("certcarc.asp:\n%s", a.Body)
	}
	for id, generation := range map[int]int{before: 0, after: 1} {
		p, err := pkcs7.Parse([]byte(v.get(fmt.Sprintf("/certsrv/certnew.p7b?ReqID=%d&Enc=bin", id)).Body))
		if err != nil {
			t.Fatal(err)
		}
		found := false
		for _, c := range p.Certificates {
			found = found || c.Equal(pki.Issuing[generation])
		}
		if !found {
			t.Errorf("request %d: its chain lacks the certificate that signed it", id)
		}
	}
	if len(v.s.PKI.Issuing) != 1 {
		t.Error("the hierarchy of other mocks was renewed too")
	}
	for range testenv.MaxRenewals - 1 {
		if _, err := v.s.RenewCA(); err != nil {
			t.Error(err)
		}
	}
	if _, err := v.s.RenewCA(); err == nil {
		t.Error("one renewal too many")
	}
}

// TestTemplateList parses the list as shipping clients do.
func TestTemplateList(t *testing.T) {
	options := func(v visitor) (names []string, fields [][]string) {
		a := v.get("/certsrv/certrqxt.asp")
		for _, m := range regexp.MustCompile(`(?i)<Option\s+Value="([^"]+)"`).FindAllStringSubmatch(a.Body, -1) {
			f := strings.Split(m[1], ";")
			names, fields = append(names, f[1]), append(fields, f)
		}
		return names, fields
	}
	v := visit(t, testenv.Config{})
	names, fields := options(v)
	if got := strings.Join(names, " "); got != "CiscoRA CiscoRAManual WebServer User" {
		t.Errorf("templates %q", got)
	}
	for _, f := range fields {
		want := "O"
		if f[1] == "User" {
			want = "E"
		}
		if f[0] != want || len(f) != 14 || f[13] == "" {
			t.Errorf("option %q", f)
		}
	}
	csr, _ := newCSR(t, "PC-1")
	issued(t, v.submit(csr, "CertificateTemplate:Machine")) // hidden, not refused

	denied := visit(t, testenv.Config{Templates: []testenv.Template{{Name: "CiscoRA", Enrol: []string{`LAB\else`}}}})
	if names, _ := options(denied); len(names) != 0 {
		t.Errorf("an account without permission is offered %q", names)
	}
	if a := denied.get("/certsrv/certrqxt.asp"); !strings.Contains(a.Body, "No certificate templates could be found.") {
		t.Errorf("no templates:\n%s", a.Body)
	}
	if a := denied.submit(csr, "CertificateTemplate:CiscoRA"); !strings.Contains(a.Body, "0x80094012") {
		t.Errorf("enrolling without permission:\n%s", a.Body)
	}
	alone := visit(t, testenv.Config{Standalone: true})
	if a := alone.get("/certsrv/certrqxt.asp"); strings.Contains(a.Body, "lbCertTemplate") && strings.Contains(a.Body, "<Select") {
		t.Errorf("a stand-alone CA shows templates:\n%s", a.Body)
	}
	if a := alone.submit(csr, ""); !strings.Contains(a.Body, "ID=locInfoReqID>") {
		t.Errorf("a stand-alone CA does not keep the request:\n%s", a.Body)
	}
	if err := alone.s.Approve(1); err != nil || len(alone.s.Issued()) != 1 {
		t.Errorf("approve: %v", err)
	}
}

// TestWayOfABrowser follows the links from the first page to the form.
func TestWayOfABrowser(t *testing.T) {
	v := visit(t, testenv.Config{})
	for path, link := range map[string]string{
		"/certsrv/":             "certrqus.asp",
		"/certsrv/certrqus.asp": "certrqad.asp",
		"/certsrv/certrqad.asp": "certrqxt.asp",
	} {
		a := v.get(path)
		if !strings.Contains(a.Body, `<A Href="`+link+`">`) {
			t.Errorf("%s does not link to %s:\n%s", path, link, a.Body)
		}
		for name, want := range map[string]string{"Cache-Control": "private", "Content-Type": "text/html", "Server": "Microsoft-IIS/10.0", "X-Powered-By": "ASP.NET"} {
			if got := a.Header.Get(name); got != want {
				t.Errorf("%s: %s is %q, want %q", path, name, got, want)
			}
		}
		if !regexp.MustCompile(`^ASPSESSIONID[A-Z]{8}=[A-Z]{24}; secure; path=/$`).MatchString(a.Header.Get("Set-Cookie")) {
			t.Errorf("%s: cookie %q", path, a.Header.Get("Set-Cookie"))
		}
	}
	if a := v.get("/certsrv/nosuch.asp"); a.StatusCode != http.StatusNotFound {
		t.Errorf("no such page: %d", a.StatusCode)
	}
}

func TestPendingIsCheckedByBrowser(t *testing.T) {
	v := visit(t, testenv.Config{})
	csr, _ := newCSR(t, "SEP001122334455")
	a := v.submit(csr, "CertificateTemplate:CiscoRAManual")
	cookies := strings.Join(a.Header.Values("Set-Cookie"), "\n")
	if !strings.Contains(cookies, "Requests=1") {
		t.Errorf("cookies:\n%s", cookies)
	}
	check := url.Values{"Mode": {"chkpnd"}, "ReqID": {"1"}}
	if a := v.do(http.MethodPost, "/certsrv/certfnsh.asp", check); !strings.Contains(a.Body, "ID=locInfoReqID>") {
		t.Errorf("before the approval:\n%s", a.Body)
	}
	if err := v.s.Approve(1); err != nil {
		t.Fatal(err)
	}
	if err := v.s.Approve(1); err == nil {
		t.Error("a request can be approved twice")
	}
	if err := v.s.Deny(2); err == nil {
		t.Error("a request that is not there can be denied")
	}
	if id := issued(t, v.do(http.MethodPost, "/certsrv/certfnsh.asp", check)); id != 1 {
		t.Errorf("after the approval: %d", id)
	}
	if v.s.Submissions() != 1 {
		t.Errorf("%d submissions", v.s.Submissions())
	}
}
