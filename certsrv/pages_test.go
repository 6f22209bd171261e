package certsrv

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/smallstep/pkcs7"

	"github.com/onlineca/onlineca/ra"
	"github.com/onlineca/onlineca/ra/fault"
)

// crlf writes a page as IIS sends it.
func crlf(s string) []byte { return []byte(strings.ReplaceAll(s, "\n", "\r\n")) }

const (
	chrome = `<Title>Microsoft Active Directory Certificate Services</Title>
<TD><LocID ID=locMSCertSrv><Font Color=#FFFFFF><B><I>Microsoft</I></B> Active Directory Certificate Services &nbsp;--&nbsp; CONTOSO-CA01 &nbsp;</Font></LocID>
<A Href="/certsrv"><LocID ID=locHomeLink>Home</LocID></A>
`
	pageEnd = `<!-- End of standard text. Scripts follow  -->
`
	issuedMozilla = chrome + `<P ID=locPageTitle> <B> Certificate Issued </B>
<P ID=locInfo> The certificate you requested was issued to you.</P>
<Span ID=spnInstallCA><A Href="certnew.cer?ReqID=CACert&amp;Renewal=0&amp;Mode=inst&amp;Enc=b64">Install</A></Span>
` + pageEnd + `<Script> location="certnew.cer?ReqID=83&"+getEncoding(); </Script>`
	issuedUnknown = chrome + `<P ID=locPageTitle> <B> Certificate Issued </B>
<A Href="certnew.cer?ReqID=83&amp;Enc=bin">DER Encoded</A> or <A Href="certnew.cer?ReqID=83&amp;Enc=b64">Base 64 encoded</A>`
	pendingPage = chrome + `<P ID=locPageTitle> <B> Certificate Pending </B>
<P ID=locInfoNewReq> Your certificate request has been received. However, you must wait for an
administrator to issue the certificate you requested. </P>
<P ID=locInfoReqID>
Your Request Id is 89.
</P>
<P ID=locInstructions> Please return to this web site in a day or two to retrieve your certificate.</P>
<P ID=locTimeoutWarning><B>Note:</B> You must return with <B>this</B> web browser within 10 days to retrieve your
certificate</P>`
	pendingGerman = chrome + `<P ID=locPageTitle> <B> Zertifikat steht aus </B>
<P ID=locInfoReqID>
Die Anforderungskennung ist 89.
</P>
<P ID=locTimeoutWarning>innerhalb von 10 Tagen</P>`
	deniedPage = chrome + `<P ID=locPageTitle> <B> Certificate Request Denied </B>
<P ID=locDenied> Your certificate request was denied. </P>
<P ID=locInfoReqIDandReason>
Your Request Id is 85. The disposition message is "Denied by Policy Module  0x80094800, The request was for a certificate template that is not supported by the Active Directory Certificate Services policy: No-Such-Template-Probe.
".
</P>
<P ID=locContactAdmin>Contact your administrator for further information.
</P>`
	deniedTerse = chrome + `<P ID=locDenied> Your certificate request was denied. </P>
<P ID=locInfoReqIDandReason>
Your Request Id is 86. The disposition message is "Denied by Policy Module".
</P>`
	revokedPage = chrome + `<P ID=locIssRev> Your certificate was issued, and then revoked. </P>
<P ID=locInfoReqIDandReason>
Your Request Id is 87. The disposition message is "Revoked by CONTOSO\admin".
</P>`
)

// errorPage makes an error page with the given rows.
func errorPage(failed bool, disposition, message, result, status string) string {
	row := func(label, value string) string {
		return `	<DT><Font Face="Arial" Size=-1><B>` + label + `</B></Font></DT><DD>
		` + value + `
	</DD>
`
	}
	p := chrome + `<P ID=locPageTitle> <B> Error </B>
`
	if failed {
		p += `<P ID=locReqFailed> Your request failed. An error occurred while the server was
processing your request.</P>
`
	}
	return p + "<DL>\n" + row("Request Mode:", "newreq <LocID ID=locModeSpacer>-</LocID> New Request") +
		row("Disposition:", disposition) + row("Disposition message:", message) + row("Result:", result) +
		row("COM Error Info:", "CCertRequest::Submit: "+result) + row("LastStatus:", status) +
		row("Suggested Cause:", "No suggestions.") + "</DL>\n" +
		"<!-- <Pre>\ncertnew.cer?ReqID=77&Enc=b64\n</Pre> -->\n"
}

const success = "The operation completed successfully. 0x0 (WIN32: 0)"

var (
	pendingFetch = errorPage(false, `5 <LocID ID=locDispSpacer>-</LocID> <LocID ID=x>(unknown)</LocID>`, "Taken Under Submission", success, success)
	adminDenied  = errorPage(false, `2 <LocID ID=locDispSpacer>-</LocID> Denied`, `Denied by CONTOSO\admin`, success,
		"The request was denied by a certificate manager or CA administrator. 0x80094014 (-2146877420 CERTSRV_E_ADMIN_DENIED_REQUEST)")
	noSuchRequest = errorPage(true, "(never set)", "(none)", "The requested property value is empty. 0x80094004 (-2146877436 CERTSRV_E_PROPERTY_EMPTY)", success)
	rpcDown       = errorPage(true, "(never set)", "(none)", "The RPC server is unavailable. 0x800706ba (WIN32: 1722 RPC_S_SERVER_UNAVAILABLE)", "(none)")
	rpcDownFrench = strings.NewReplacer("Disposition", "Etat", "Result", "Résultat", "(never set)", "(jamais défini)", "(none)", "(aucun)",
		"The RPC server is unavailable.", "Le serveur RPC n’est pas disponible.").Replace(rpcDown)
	notStarted = chrome + `<P ID=locPageTitle> <B> Error </B>
<P>An unexpected error has occurred: The Certification Authority Service has not been started.`
)

func TestParseOutcome(t *testing.T) {
	const unsupported = "Denied by Policy Module 0x80094800, The request was for a certificate template that is not supported by the Active Directory Certificate Services policy: No-Such-Template-Probe."
	for _, tc := range []struct {
		name, page string
		want       outcome
		code       fault.Code
	}{
		{"issued", issuedMozilla, outcome{Kind: issued, ReqID: 83}, 0},
		{"issued, anchors", issuedUnknown, outcome{Kind: issued, ReqID: 83}, 0},
		{"pending", pendingPage, outcome{Kind: pending, ReqID: 89}, 0},
		{"pending, German", pendingGerman, outcome{Kind: pending, ReqID: 89}, 0},
		{"denied", deniedPage, outcome{Kind: denied, ReqID: 85, HRESULT: 0x80094800, Message: unsupported}, fault.Template},
		{"denied, quoted attributes", strings.ReplaceAll(deniedPage, "ID=locInfoReqIDandReason", `id="locInfoReqIDandReason"`), outcome{Kind: denied, ReqID: 85, HRESULT: 0x80094800, Message: unsupported}, fault.Template},
		{"denied, terse", deniedTerse, outcome{Kind: denied, ReqID: 86, Message: "Denied by Policy Module"}, fault.DeniedByPolicy},
		{"revoked", revokedPage, outcome{Kind: revoked, ReqID: 87, Message: `Revoked by CONTOSO\admin`}, fault.Revoked},
		{"pending, fetched", pendingFetch, outcome{Kind: pending, Disposition: 5, Message: "Taken Under Submission"}, 0},
		{"denied by a manager", adminDenied, outcome{Kind: denied, Disposition: 2, HRESULT: 0x80094014, Message: `Denied by CONTOSO\admin`}, fault.DeniedByAdmin},
		{"no such request", noSuchRequest, outcome{Kind: failed, HRESULT: 0x80094004, Message: "The requested property value is empty. 0x80094004 (-2146877436 CERTSRV_E_PROPERTY_EMPTY)"}, fault.NoSuchRequest},
		{"RPC", rpcDown, outcome{Kind: failed, HRESULT: 0x800706ba, Message: "The RPC server is unavailable. 0x800706ba (WIN32: 1722 RPC_S_SERVER_UNAVAILABLE)"}, fault.RPCUnavailable},
		{"RPC, French", rpcDownFrench, outcome{Kind: failed, HRESULT: 0x800706ba, Message: "Le serveur RPC n’est pas disponible. 0x800706ba (WIN32: 1722 RPC_S_SERVER_UNAVAILABLE)"}, fault.RPCUnavailable},
		{"ASN.1", strings.ReplaceAll(rpcDown, "0x800706ba", "0x8009310e"), outcome{Kind: failed, HRESULT: 0x8009310e, Message: "The RPC server is unavailable. 0x8009310e (WIN32: 1722 RPC_S_SERVER_UNAVAILABLE)"}, fault.MalformedCSR},
		{"no code", strings.ReplaceAll(rpcDown, "0x800706ba", ""), outcome{Kind: failed, Message: "The RPC server is unavailable. (WIN32: 1722 RPC_S_SERVER_UNAVAILABLE)"}, fault.ServerError},
		{"number too large", strings.ReplaceAll(pendingPage, "89", "99999999999"), outcome{Kind: unavailable}, fault.CAStopped},
		{"in a comment", "<!-- " + issuedUnknown, outcome{}, fault.PageUnreadable},
		{"empty", "", outcome{}, fault.PageUnreadable},
		{"something else", "<html><body>Please sign in to the <b>Guest</b> network", outcome{Message: "Please sign in to the Guest network"}, fault.PageUnreadable},
	} {
		got := parseOutcome(crlf(tc.page))
		if got.Kind == unavailable {
			got.Message = ""
		}
		if got != tc.want {
			t.Errorf("%s:\n got %+v\nwant %+v", tc.name, got, tc.want)
		}
		if got.Kind != issued && got.Kind != pending && got.code() != tc.code {
			t.Errorf("%s: %v, want %v", tc.name, got.code(), tc.code)
		}
	}
	if o := parseOutcome(crlf(notStarted)); o.Kind != unavailable || o.code() != fault.CAStopped || !strings.Contains(o.Message, "has not been started") {
		t.Errorf("not started: %+v", o)
	}
	if _, err := (call{}).submission(crlf(notStarted)); fault.Of(err).Code != fault.PageUnreadable {
		t.Errorf("not started, on submission: %v", err)
	}
}

const templatePage = chrome + `<Form Name=SubmittedData Action="certfnsh.asp" Method=Post>
<Textarea Name=taRequest ID=locTaRequest></Textarea>
<Select Name=lbCertTemplate ID=lbCertTemplateID>
<Option Value="E;User;1;1;41;16;-1509949440;0;Microsoft Enhanced Cryptographic Provider v1.0?Microsoft Base;1.3.6.1.4.1.311.21.8.1;3;1;;User">User
<option value="O;CiscoRA;1;1;0;16842768;1;0;CSP;1.3.6.1.4.1.311.21.8.2;100;4;;Cisco RA &amp; phones">Cisco RA &amp; phones</Option>
<Option Value="O;OnlyName">x
<Option Value="O;;1">no name
<Option Value="">none
</Select></Form>`

func TestParseTemplates(t *testing.T) {
	got, ok := parseTemplates(crlf(templatePage))
	want := []Template{
		{Name: "User", DisplayName: "User", FromDirectory: true, KeySpec: 1, EnrollFlags: 41, PrivateKeyFlags: 16, SubjectFlags: -1509949440, OID: "1.3.6.1.4.1.311.21.8.1", Major: 3, Minor: 1},
		{Name: "CiscoRA", DisplayName: "Cisco RA & phones", KeySpec: 1, PrivateKeyFlags: 16842768, SubjectFlags: 1, OID: "1.3.6.1.4.1.311.21.8.2", Major: 100, Minor: 4},
		{Name: "OnlyName"},
	}
	if !ok || len(got) != len(want) {
		t.Fatalf("%v %+v", ok, got)
	}
	for i := range want {
		if got[i] != want[i] {
			t.Errorf("got %+v\nwant %+v", got[i], want[i])
		}
	}
	if _, ok := parseTemplates(crlf(notStarted)); ok {
		t.Error("another page was taken for the form")
	}
}

func TestParseRenewals(t *testing.T) {
	for page, want := range map[string]int{
		"var nRenewals=0;": 0, "<script>\r\nvar nRenewals=3;\r\nvar rgCrlState=new Array(3);": 3, "nRenewals = 12 ;": 12,
		"": -1, "var nRenewals=;": -1, "var nRenewals=99999999999999999999;": -1, "var nRenewals=70000;": -1, "var xnRenewals=1;": -1,
	} {
		n, ok := parseRenewals([]byte(page))
		if !ok {
			n = -1
		}
		if n != want {
			t.Errorf("%q: %d, want %d", page, n, want)
		}
	}
}

// bounded runs a parser and reports if it allocates more than some 64 bytes for
// each that it is given.
func bounded(t *testing.T, body []byte, parse func()) {
	t.Helper()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	parse()
	runtime.ReadMemStats(&after)
	if n := after.TotalAlloc - before.TotalAlloc; n > 64*uint64(len(body))+1<<20 {
		t.Errorf("%d bytes of input (%.60q) cost %d bytes of memory", len(body), body, n)
	}
}

// Large answers, made of what a parser looks for.
func TestParsersAllocateInProportion(t *testing.T) {
	if raceDetector {
		t.Skip("with the race detector sync.Pool drops a part of what package regexp gives back to it")
	}
	for _, piece := range []string{
		"x", ";", "<", "<!--", "<!-- -->", "&amp;", "\xff", "\r\n", `<Option Value="`, `<Option Value="E;User;1;1">`, `<Option Value=";;;;;;;;;;;;;;;;;;;;">`,
		"<DD>\r\n\t\t0x80094800\r\n", "certnew.cer?ReqID=1", "ID=locInfoReqIDandReason 1 \"", "ID=locDenied ", "ID=locTitle>",
		"nRenewals=", "<Form ", "-----BEGIN CERTIFICATE-----\n", "-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n", "0\x80", "0\x84\x7f\xff\xff\xff",
	} {
		body := bytes.Repeat([]byte(piece), maxBody/8/len(piece))
		bounded(t, body, func() { parseOutcome(body) })
		bounded(t, body, func() { l, _ := parseTemplates(body); _ = offered(l, "CiscoRA") })
		bounded(t, body, func() { parseRenewals(body) })
		bounded(t, body, func() { _, _ = parseChain(body) })
		bounded(t, body[:maxPKCS7], func() { _, _ = parseChain(body[:maxPKCS7]) })
		bounded(t, body, func() { _, _ = parseCertificate(body) })
	}
	list := []byte(`<Form Action="certfnsh.asp">` + `<Option Value="` + strings.Repeat(";", maxBody) + `">`)
	bounded(t, list, func() { parseTemplates(list) })
}

func FuzzParseOutcome(f *testing.F) {
	for _, p := range []string{
		issuedMozilla, issuedUnknown, pendingPage, pendingGerman, deniedPage, deniedTerse, revokedPage,
		pendingFetch, adminDenied, noSuchRequest, rpcDown, rpcDownFrench, notStarted, "",
		"ID=locInfoReqIDandReason 1 \"", "<!--", "certnew.cer?ReqID=2147483648&", "ID=locInfoReqID>\xff7</P>",
	} {
		f.Add(crlf(p))
	}
	f.Fuzz(func(t *testing.T, page []byte) {
		var o outcome
		bounded(t, page, func() { o = parseOutcome(page) })
		if o.ReqID < 0 || (o.Kind == issued) && o.ReqID == 0 {
			t.Errorf("%+v", o)
		}
		if o.Kind != issued && o.Kind != pending {
			k := call{op: "submit", url: "u"}
			if err := k.refused(o); err.Error() == "" || len(err.Message) > 4*len(page)+16 {
				t.Errorf("%+v", err)
			}
		}
	})
}

func FuzzParseTemplates(f *testing.F) {
	f.Add(crlf(templatePage))
	f.Add([]byte(`<Option Value=";;;;;;;;;;;;;;;;">`))
	f.Fuzz(func(t *testing.T, page []byte) {
		var l []Template
		bounded(t, page, func() { l, _ = parseTemplates(page) })
		for _, x := range l {
			if x.Name == "" {
				t.Errorf("%+v", x)
			}
		}
		_ = offered(l, "CiscoRA")
	})
}

func FuzzParseRenewals(f *testing.F) {
	f.Add([]byte("var nRenewals=3;"))
	f.Fuzz(func(t *testing.T, page []byte) {
		var n int
		var ok bool
		bounded(t, page, func() { n, ok = parseRenewals(page) })
		if ok && (n < 0 || n > 1<<16) {
			t.Error(n)
		}
	})
}

// testChain makes a root, two generations of an issuing CA and a stranger.
func testChain(tb testing.TB) (root, old, current, stranger *x509.Certificate) {
	tb.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		tb.Fatal(err)
	}
	serial := int64(0)
	make1 := func(subject, issuer string, from time.Time, id byte) *x509.Certificate {
		serial++
		tmpl := &x509.Certificate{
			SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: subject},
			NotBefore: from, NotAfter: from.AddDate(9, 0, 0), IsCA: true, BasicConstraintsValid: true, SubjectKeyId: []byte{id},
		}
		parent := &x509.Certificate{Subject: pkix.Name{CommonName: issuer}, SubjectKeyId: []byte{1}}
		der, err := x509.CreateCertificate(rand.Reader, tmpl, parent, key.Public(), key)
		if err != nil {
			tb.Fatal(err)
		}
		c, err := x509.ParseCertificate(der)
		if err != nil {
			tb.Fatal(err)
		}
		return c
	}
	day := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	return make1("Root", "Root", day, 1), make1("Issuing", "Root", day.AddDate(0, 0, 1), 2),
		make1("Issuing", "Root", day.AddDate(0, 0, 2), 3), make1("Stranger", "Nobody", day.AddDate(0, 0, -1), 4)
}

func TestSortChain(t *testing.T) {
	root, old, current, stranger := testChain(t)
	for name, in := range map[string][]*x509.Certificate{
		"in order": {current, root}, "reversed": {root, current}, "older first": {old, current, root},
		"newer first": {current, old, root}, "with a stranger": {stranger, root, current}, "twice": {root, current, root, current},
	} {
		got, err := sortChain(in)
		if err != nil || len(got) != 2 || got[0] != current || !got[1].Equal(root) {
			t.Errorf("%s: %v %v", name, got, err)
		}
	}
	if got, err := sortChain([]*x509.Certificate{root}); err != nil || len(got) != 1 {
		t.Errorf("a root alone: %v %v", got, err)
	}
	if _, err := sortChain([]*x509.Certificate{current}); err == nil || !strings.Contains(err.Error(), `issuer "CN=Root" is not in it`) {
		t.Errorf("no root: %v", err)
	}
}

func TestParseChainArmour(t *testing.T) {
	root, _, current, _ := testChain(t)
	der, err := pkcs7.DegenerateCertificate(append(root.Raw, current.Raw...))
	if err != nil {
		t.Fatal(err)
	}
	for name, body := range map[string][]byte{
		"DER":               der,
		"BEGIN CERTIFICATE": pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
		"BEGIN PKCS7":       pem.EncodeToMemory(&pem.Block{Type: "PKCS7", Bytes: der}),
	} {
		if got, err := parseChain(body); err != nil || len(got) != 2 || !got[0].Equal(current) {
			t.Errorf("%s: %v %v", name, got, err)
		}
	}
	for name, body := range map[string][]byte{"empty": nil, "a page": crlf(notStarted), "one certificate": root.Raw, "cut off": der[:len(der)/2], "large": make([]byte, maxPKCS7+1)} {
		if got, err := parseChain(body); err == nil {
			t.Errorf("%s: %v", name, got)
		}
	}
}

func FuzzParseChain(f *testing.F) {
	root, _, current, _ := testChain(f)
	der, err := pkcs7.DegenerateCertificate(append(root.Raw, current.Raw...))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(der)
	f.Add(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	f.Add([]byte{0x30, 0x80, 0x06, 0x09})
	f.Fuzz(func(t *testing.T, b []byte) {
		var chain []*x509.Certificate
		var err error
		bounded(t, b, func() { chain, err = parseChain(b) })
		if err == nil && (len(chain) == 0 || len(chain) > maxChain || !isSelfSigned(chain[len(chain)-1])) {
			t.Errorf("%v", chain)
		}
	})
}

func FuzzParseCertificate(f *testing.F) {
	root, _, _, _ := testChain(f)
	f.Add(root.Raw)
	f.Add(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: root.Raw}))
	f.Add(crlf(pendingFetch))
	f.Fuzz(func(t *testing.T, b []byte) {
		var c *x509.Certificate
		var err error
		bounded(t, b, func() { c, err = parseCertificate(b) })
		if (c == nil) == (err == nil) {
			t.Errorf("%v %v", c, err)
		}
	})
}

// Every status that the table of faults knows has a name and a hint here.
func TestHRESULTs(t *testing.T) {
	for _, h := range []uint32{0x80094800, 0x80094801, 0x80094012, 0x80094811, 0x80094014, 0x80094004, 0x80092013, 0x800706ba, 0x8009310b, 0x80070005} {
		name, hint := HRESULT(h)
		if name == "" || hint == "" {
			t.Errorf("0x%08x has no name", h)
		}
		if _, ok := fault.ByHRESULT(h); !ok {
			t.Errorf("0x%08x %s is no known fault", h, name)
		}
	}
	if name, hint := HRESULT(1); name != "" || hint != "" {
		t.Error("an unknown status has a name")
	}
}

func TestAttributes(t *testing.T) {
	csr := &x509.CertificateRequest{Subject: pkix.Name{CommonName: "SEP001122334455"}, RawSubjectPublicKeyInfo: []byte("key")}
	c := &Client{template: "CiscoRA", cfg: Config{SAN: []string{"dns={cn}", "dns=phones.example.com"}, Marker: "lab"}}
	got, err := c.attributes(newRequest(csr, ""))
	want := "CertificateTemplate:CiscoRA\r\nSAN:dns=SEP001122334455&dns=phones.example.com\r\nOnlineCA:lab 2c70e12b7a0646f9\r\n"
	if err != nil || got != want {
		t.Errorf("%q %v", got, err)
	}
	if got, err := c.attributes(newRequest(csr, "Other")); err != nil || !strings.HasPrefix(got, "CertificateTemplate:Other\r\n") {
		t.Errorf("%q %v", got, err)
	}
	for _, cn := range []string{"a&dns=evil", "a\r\nExpirationDate:x", "a=b", "a\u2028b"} {
		evil := *csr
		evil.Subject.CommonName = cn
		if got, err := c.attributes(newRequest(&evil, "")); err == nil {
			t.Errorf("%q became %q", cn, got)
		}
	}
	if got, _ := (&Client{}).attributes(newRequest(csr, "")); got != "" {
		t.Errorf("a stand-alone CA: %q", got)
	}
}

func newRequest(csr *x509.CertificateRequest, template string) ra.Request {
	return ra.Request{Operation: ra.Enroll, CSR: csr, Template: template}
}
