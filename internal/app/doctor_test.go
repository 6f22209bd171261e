package app

import (
	"bytes"
	"context"
	"encoding/json"
	"encoding/pem"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/onlineca/onlineca/testenv"
)

// patient is a mock of certsrv and settings for it.
type patient struct {
	*testenv.Certsrv
	dir, config string
	password    string
}

// newPatient starts a mock and writes settings that are good for it. Each of
// edits is old and new text of the settings.
func newPatient(t *testing.T, c testenv.Config, edits ...[2]string) patient {
	t.Helper()
	m := testenv.New(t, c)
	p := patient{Certsrv: m, dir: t.TempDir(), password: testenv.DefaultPassword}
	writeFile(t, filepath.Join(p.dir, "password"), p.password+"\n")
	writeFile(t, filepath.Join(p.dir, "root.pem"), string(m.RootPEM()))
	p.config = writeSettings(t, p.dir, m.URL, edits...)
	return p
}

func writeSettings(t *testing.T, dir, url string, edits ...[2]string) string {
	t.Helper()
	text := `listen: 127.0.0.1:0
certsrv:
  url: ` + url + `/certsrv
  username: LAB\ciscora
  password_file: password
  template: CiscoRA
  timeouts: {login: 10s, page: 10s}
  tls: {ca: [root.pem]}
`
	for _, e := range edits {
		if !strings.Contains(text, e[0]) {
			t.Fatalf("the settings do not hold %q", e[0])
		}
		text = strings.Replace(text, e[0], e[1], 1)
	}
	path := filepath.Join(dir, "onlineca.yaml")
	writeFile(t, path, text)
	return path
}

func writeFile(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// examine runs the doctor and holds every report to what all must be.
func examine(t *testing.T, o DoctorOptions, secrets ...string) DoctorReport {
	t.Helper()
	var text bytes.Buffer
	w := DoctorText{W: &text}
	watch := o.Observe
	o.Observe = func(s DoctorStep) {
		w.Step(s)
		if watch != nil {
			watch(s)
		}
	}
	r := Doctor(t.Context(), o)
	w.End(&r)
	wellFormed(t, r, text.String(), secrets)
	t.Cleanup(func() {
		if t.Failed() {
			t.Log("\n" + text.String())
		}
	})
	return r
}

func wellFormed(t *testing.T, r DoctorReport, text string, secrets []string) {
	t.Helper()
	var names []string
	for _, s := range r.Steps {
		names = append(names, s.Step)
		fails := slices.ContainsFunc(s.Problems, func(p DoctorProblem) bool { return p.Level == DoctorFail })
		if fails && s.Status != DoctorFail || s.Summary == "" {
			t.Errorf("step %s: status %s, summary %q, problems %v", s.Step, s.Status, s.Summary, s.Problems)
		}
		for _, p := range s.Problems {
			if p.What == "" || p.Cause == "" || p.Level == DoctorFail && p.Fix == "" {
				t.Errorf("step %s: a problem that explains nothing: %+v", s.Step, p)
			}
		}
	}
	var want []string
	for _, s := range doctorSteps {
		want = append(want, s.name)
	}
	if !slices.Equal(names, want) {
		t.Errorf("steps %v, want %v", names, want)
	}
	if r.OK != (r.count(DoctorFail) == 0 && !r.Interrupted) {
		t.Errorf("ok is %v with %d failed steps", r.OK, r.count(DoctorFail))
	}
	if r.FailedLogons > mostFailedLogons {
		t.Errorf("%d failed logons", r.FailedLogons)
	}
	for line := range strings.Lines(text) {
		line = strings.TrimRight(line, "\n")
		// Words that are longer than a line are not broken: paths, numbers, addresses.
		long := strings.Contains(line, filepath.Dir(r.Config)) || strings.HasPrefix(line, "  certutil") || strings.Contains(line, "https://")
		if n := utf8.RuneCountInString(line); n > doctorWidth && !long {
			t.Errorf("a line of %d characters: %s", n, line)
		}
	}
	checkJSON(t, r, append(secrets, "PRIVATE"), text)
}

// checkJSON reads the JSON back, and looks for secrets in both forms.
func checkJSON(t *testing.T, r DoctorReport, secrets []string, text string) {
	t.Helper()
	var b bytes.Buffer
	if err := r.WriteJSON(&b); err != nil {
		t.Fatal(err)
	}
	var back DoctorReport
	dec := json.NewDecoder(bytes.NewReader(b.Bytes()))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&back); err != nil {
		t.Fatalf("%v\n%s", err, &b)
	}
	if back.Schema != DoctorSchema || back.OK != r.OK || len(back.Steps) != len(r.Steps) || back.FailedLogons != r.FailedLogons {
		t.Errorf("JSON says something else:\n%s", &b)
	}
	if strings.Contains(b.String(), `"notes": null`) || strings.Contains(b.String(), `"problems": null`) || strings.Contains(b.String(), `"names": null`) {
		t.Errorf("a list is null:\n%s", &b)
	}
	for _, s := range secrets {
		if strings.Contains(b.String()+text, s) {
			t.Errorf("a secret is shown: %s", s)
		}
	}
}

// outcomes is what a run must come to. Steps that are not named must be ok or,
// behind one that failed, skipped.
type outcomes struct {
	fails  map[string]string // step to fault code
	warns  []string
	skips  []string
	says   []string // anywhere in the report
	logons int
}

func (o outcomes) hold(t *testing.T, r DoctorReport) {
	t.Helper()
	if want := len(o.fails) == 0; r.OK != want {
		t.Errorf("ok is %v, want %v", r.OK, want)
	}
	for _, s := range r.Steps {
		want := DoctorOK
		code, fails := o.fails[s.Step]
		switch {
		case fails:
			want = DoctorFail
		case slices.Contains(o.warns, s.Step):
			want = DoctorWarn
		case slices.Contains(o.skips, s.Step):
			want = DoctorSkip
		}
		if s.Status != want {
			t.Errorf("step %s: %s, want %s: %s", s.Step, s.Status, want, s.Summary)
		}
		if fails && code != "" && !slices.ContainsFunc(s.Problems, func(p DoctorProblem) bool { return p.Code == code && p.Level == DoctorFail }) {
			t.Errorf("step %s: no problem with code %s among %+v", s.Step, code, s.Problems)
		}
	}
	if r.FailedLogons != o.logons {
		t.Errorf("%d failed logons, want %d", r.FailedLogons, o.logons)
	}
	text, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range o.says {
		quoted, _ := json.Marshal(s)
		if !bytes.Contains(text, quoted[1:len(quoted)-1]) {
			t.Errorf("nothing says %q", s)
		}
	}
}

// What is skipped where only the way to the login, or to a certificate, is open.
var (
	noEnroll    = []string{stepEnrolment, stepKeyUsage}
	afterLogin  = append([]string{stepBinding, stepLanguage, stepTemplate, stepCAChain}, noEnroll...)
	fromLogin   = append([]string{stepLogin}, afterLogin...)
	fromSchemes = append([]string{stepSchemes}, fromLogin...)
	fromTLS     = append([]string{stepChain, stepHostName, stepClock}, fromSchemes...)
	fromTCP     = append([]string{stepTLS}, fromTLS...)
)

func TestDoctorLogin(t *testing.T) {
	off := [2]string{"  tls:", "  extended_protection: {channel_binding: \"off\"}\n  tls:"}
	for name, c := range map[string]struct {
		mock  testenv.Config
		edits [][2]string
		want  outcomes
	}{
		"good": {want: outcomes{skips: noEnroll, says: []string{"English", "off: certsrv does not look at bindings", "TLS 1.3", "Negotiate, NTLM", "agrees"}}},
		"wrong password": {
			edits: [][2]string{{"password_file: password", "password_file: wrong"}},
			mock:  testenv.Config{LockoutThreshold: 3},
			want: outcomes{fails: map[string]string{stepLogin: "bad-credentials"}, skips: afterLogin, logons: 2,
				says: []string{"it is not NTLM switched off", "it is not a split handshake", "it is not Extended Protection"}},
		},
		"a name without a domain": {
			edits: [][2]string{{`LAB\ciscora`, "nobody"}},
			want:  outcomes{fails: map[string]string{stepLogin: "bad-credentials"}, skips: afterLogin, logons: 2, says: []string{"The name has no domain"}},
		},
		"EPA accepts": {mock: testenv.Config{EPA: testenv.EPAAccept}, want: outcomes{skips: noEnroll, logons: 1, says: []string{"accepted: a wrong binding is refused"}}},
		"EPA requires, binding on": {
			mock: testenv.Config{EPA: testenv.EPARequire},
			want: outcomes{skips: noEnroll, logons: 1, says: []string{"required", "meant to refuse"}},
		},
		"EPA requires, binding off": {
			mock: testenv.Config{EPA: testenv.EPARequire}, edits: [][2]string{off},
			want: outcomes{fails: map[string]string{stepLogin: "epa-required", stepBinding: ""}, skips: noEnroll, logons: 1,
				says: []string{"the password is good", "channel_binding: auto", "CiscoRA is offered"}},
		},
		"EPA accepts, bound to another certificate": {
			mock:  testenv.Config{EPA: testenv.EPAAccept},
			edits: [][2]string{{"  tls:", "  extended_protection: {channel_binding: certificate, certificate: root.pem}\n  tls:"}},
			want: outcomes{fails: map[string]string{stepLogin: "epa-required", stepBinding: ""}, skips: noEnroll, logons: 1,
				says: []string{"is not the one that IIS presents", "CiscoRA is offered"}},
		},
		"EPA requires, bound to another certificate": {
			// Refused either way: nobody can tell that from a wrong password.
			mock:  testenv.Config{EPA: testenv.EPARequire},
			edits: [][2]string{{"  tls:", "  extended_protection: {channel_binding: certificate, certificate: root.pem}\n  tls:"}},
			want:  outcomes{fails: map[string]string{stepLogin: "bad-credentials"}, skips: afterLogin, logons: 2, says: []string{"unless TLS ends at a device in between"}},
		},
		"Negotiate with NTLM": {mock: testenv.Config{Schemes: []testenv.Scheme{testenv.SchemeNegotiate}}, want: outcomes{skips: noEnroll, says: []string{"which takes NTLM"}}},
		"NTLM alone":          {mock: testenv.Config{Schemes: []testenv.Scheme{testenv.SchemeNTLM}}, want: outcomes{skips: noEnroll}},
		"Kerberos only": {
			mock: testenv.Config{Schemes: []testenv.Scheme{testenv.SchemeKerberos}},
			want: outcomes{fails: map[string]string{stepSchemes: "ntlm-disabled"}, skips: fromLogin, says: []string{"Kerberos alone"}},
		},
		"Basic only": {
			mock: testenv.Config{Schemes: []testenv.Scheme{testenv.SchemeBasic}},
			want: outcomes{fails: map[string]string{stepSchemes: "ntlm-disabled"}, skips: fromLogin, says: []string{"only Basic"}},
		},
		"everybody is let in": {
			mock: testenv.Config{AnonymousAllowed: true},
			want: outcomes{fails: map[string]string{stepSchemes: "not-challenged"}, skips: fromLogin},
		},
		"German pages": {mock: testenv.Config{Language: testenv.German}, want: outcomes{skips: noEnroll, says: []string{"German; this program reads any"}}},
		"French pages": {mock: testenv.Config{Language: testenv.French}, want: outcomes{skips: noEnroll, says: []string{"French; this program reads any"}}},
	} {
		t.Run(name, func(t *testing.T) {
			p := newPatient(t, c.mock, c.edits...)
			writeFile(t, filepath.Join(p.dir, "wrong"), "not-the-password\n")
			r := examine(t, DoctorOptions{Config: p.config}, p.password, "not-the-password")
			c.want.hold(t, r)
			if n := p.FailedLogons(); n != r.FailedLogons {
				t.Errorf("the mock counts %d failed logons, the report %d", n, r.FailedLogons)
			}
			if c.mock.LockoutThreshold > 0 {
				// The account is not locked: the right password still works.
				again := examine(t, DoctorOptions{Config: writeSettings(t, p.dir, p.URL)})
				outcomes{skips: noEnroll}.hold(t, again)
			}
		})
	}
}

// A load balancer has handed the second half of a login to another server. The
// report cannot know that, but it says that it may be so.
func TestDoctorSplitLogin(t *testing.T) {
	p := newPatient(t, testenv.Config{})
	// The first request carries no login, the second is the first half of one.
	p.Inject(testenv.LostChallenge, testenv.Times(2))
	r := examine(t, DoctorOptions{Config: p.config}, p.password)
	outcomes{
		fails: map[string]string{stepLogin: "epa-required", stepBinding: ""}, skips: noEnroll, logons: 1,
		says: []string{"a login can be refused by chance", "2148074248"},
	}.hold(t, r)
}

func TestDoctorClock(t *testing.T) {
	for name, c := range map[string]struct {
		ahead time.Duration
		want  outcomes
	}{
		"an hour ahead":   {time.Hour, outcomes{warns: []string{stepClock}, skips: noEnroll, says: []string{" s ahead of this machine's"}}},
		"an hour behind":  {-time.Hour, outcomes{warns: []string{stepClock}, skips: noEnroll, says: []string{" s behind this machine's"}}},
		"a minute behind": {-time.Minute, outcomes{skips: noEnroll, says: []string{" s behind this machine's"}}},
	} {
		t.Run(name, func(t *testing.T) {
			p := newPatient(t, testenv.Config{Clock: func() time.Time { return time.Now().Add(c.ahead) }})
			c.want.hold(t, examine(t, DoctorOptions{Config: p.config}, p.password))
		})
	}
}

func TestDoctorTemplatesAndCA(t *testing.T) {
	capf, err := testenv.NewPKI(testenv.PKIConfig{CAName: "CAPF-0a1b2c3d"})
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		mock  testenv.Config
		fault *testenv.Fault
		step  testenv.Step
		edits [][2]string
		want  outcomes
	}{
		"a typo": {
			edits: [][2]string{{"CiscoRA", "CsicoRA"}},
			want: outcomes{fails: map[string]string{stepTemplate: "template"}, skips: noEnroll,
				says: []string{`did you mean "CiscoRA"?`, "offered: WebServer (Web Server)"}},
		},
		"the display name": {
			edits: [][2]string{{"CiscoRA", "Web Server"}},
			want:  outcomes{fails: map[string]string{stepTemplate: "template"}, skips: noEnroll, says: []string{`display name of the template "WebServer"`}},
		},
		"hidden, and only warned about": {
			edits: [][2]string{{"CiscoRA", "Machine\n  missing_template: warn"}},
			want:  outcomes{warns: []string{stepTemplate}, skips: noEnroll},
		},
		"a label's template": {
			edits: [][2]string{{"listen: 127.0.0.1:0", "listen: 127.0.0.1:0\nest: {labels: {phones: {template: WebSrver}}}"}},
			want:  outcomes{warns: []string{stepTemplate}, skips: noEnroll, says: []string{`did you mean "WebServer"?`}},
		},
		"subject from the directory": {
			edits: [][2]string{{"CiscoRA", "User"}},
			want:  outcomes{fails: map[string]string{stepTemplate: "invalid-lsc"}, skips: noEnroll, says: []string{"Supply in the request"}},
		},
		"by hand": {edits: [][2]string{{"CiscoRA", "CiscoRAManual"}}, want: outcomes{warns: []string{stepTemplate}, skips: noEnroll}},
		"a stand-alone CA": {
			mock: testenv.Config{Standalone: true}, edits: [][2]string{{"CiscoRA", "CiscoRA\n  missing_template: warn"}},
			want: outcomes{warns: []string{stepTemplate}, skips: noEnroll, says: []string{"stand-alone"}},
		},
		"no template may be had": {fault: &testenv.NoTemplates, want: outcomes{fails: map[string]string{stepTemplate: "template"}, skips: noEnroll}},
		"a CA renewed twice":     {mock: testenv.Config{Renewals: 2}, want: outcomes{skips: noEnroll}},
		"a CA called CAPF-":      {mock: testenv.Config{PKI: capf}, want: outcomes{fails: map[string]string{stepCAChain: "ca-cn-capf"}, skips: noEnroll}},
		"the CA stopped": {
			fault: &testenv.CAStopped,
			want:  outcomes{fails: map[string]string{stepTemplate: "ca-stopped", stepCAChain: "ca-stopped"}, skips: noEnroll},
		},
		"a chain that is none": {fault: &testenv.BadChain, want: outcomes{fails: map[string]string{stepCAChain: "chain-unreadable"}, skips: noEnroll}},
		"web enrolment not installed": {
			fault: &testenv.Status404, step: testenv.StepPage,
			want: outcomes{fails: map[string]string{stepTemplate: "server-error"}, skips: noEnroll},
		},
	} {
		t.Run(name, func(t *testing.T) {
			p := newPatient(t, c.mock, c.edits...)
			if c.fault != nil {
				opts := []testenv.InjectOption{testenv.Times(testenv.Forever)}
				if c.step != "" {
					opts = append(opts, testenv.On(c.step))
				}
				p.Inject(*c.fault, opts...)
			}
			c.want.hold(t, examine(t, DoctorOptions{Config: p.config}, p.password))
			if n := p.Submissions(); n != 0 {
				t.Errorf("%d requests were submitted without --enroll", n)
			}
		})
	}
}

func TestDoctorEnroll(t *testing.T) {
	both := testenv.DefaultTemplates()
	bad := both[0]
	bad.KeyUsage = 1 // digitalSignature
	for name, c := range map[string]struct {
		mock   testenv.Config
		fault  *testenv.Fault
		edits  [][2]string
		want   outcomes
		state  string
		issued int
	}{
		"good": {want: outcomes{says: []string{"digitalSignature, keyEncipherment"}}, state: "issued", issued: 1},
		"denied": {
			fault: new(testenv.Deny.With(0x80094012)),
			want:  outcomes{fails: map[string]string{stepEnrolment: "template-denied"}, skips: []string{stepKeyUsage}, says: []string{"CERTSRV_E_TEMPLATE_DENIED"}},
		},
		"without key encipherment": {
			mock: testenv.Config{Templates: []testenv.Template{bad}}, state: "issued", issued: 1,
			want: outcomes{fails: map[string]string{stepKeyUsage: "lsc-key-usage"}, says: []string{"the key usage lacks keyEncipherment"}},
		},
		"pending": {
			edits: [][2]string{{"CiscoRA", "CiscoRAManual"}}, state: "pending",
			want: outcomes{fails: map[string]string{stepEnrolment: "pending"}, warns: []string{stepTemplate}, skips: []string{stepKeyUsage}, says: []string{"certutil -deny 1"}},
		},
		"the answer is lost": {
			fault: &testenv.AnswerLost, state: "unknown", issued: 1,
			want: outcomes{fails: map[string]string{stepEnrolment: "outcome-unknown"}, skips: []string{stepKeyUsage}, says: []string{"may have been issued: look for it on the CA"}},
		},
		"the wrong certificate": {
			fault: &testenv.OtherKey, issued: 1,
			want: outcomes{fails: map[string]string{stepEnrolment: "wrong-key-certificate"}, skips: []string{stepKeyUsage}},
		},
	} {
		t.Run(name, func(t *testing.T) {
			p := newPatient(t, c.mock, c.edits...)
			if c.fault != nil {
				p.Inject(*c.fault)
			}
			r := examine(t, DoctorOptions{Config: p.config, Enroll: true}, p.password)
			c.want.hold(t, r)
			if p.Submissions() != 1 || len(p.Issued()) != c.issued {
				t.Errorf("%d requests, %d certificates; want 1 and %d", p.Submissions(), len(p.Issued()), c.issued)
			}
			switch {
			case c.state == "" && r.Issued != nil, c.state != "" && (r.Issued == nil || r.Issued.State != c.state):
				t.Errorf("issued: %+v, want state %q", r.Issued, c.state)
			case c.state == "issued":
				got := p.Issued()[0]
				serial := r.Issued.Certificate.Serial
				if r.Issued.ReqID != got.ReqID || serial != hexSerial(got.Certificate.SerialNumber.Bytes()) || r.Issued.Revoke != "certutil -revoke "+serial+" 5" {
					t.Errorf("the report has %+v, the CA request %d with serial %x", r.Issued, got.ReqID, got.Certificate.SerialNumber)
				}
				if !strings.HasPrefix(got.CSR.Subject.CommonName, "onlineca-doctor-") {
					t.Errorf("the request is for %s", got.CSR.Subject)
				}
			}
		})
	}
}

func hexSerial(b []byte) string {
	const digits = "0123456789abcdef"
	var s []byte
	for _, c := range b {
		s = append(s, digits[c>>4], digits[c&15])
	}
	return string(s)
}

// A person presses Ctrl-C: what is left is skipped, and nobody is blamed.
func TestDoctorInterrupted(t *testing.T) {
	p := newPatient(t, testenv.Config{})
	p.Inject(testenv.Hang, testenv.On(testenv.StepLogin), testenv.Times(testenv.Forever))
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	r := Doctor(ctx, DoctorOptions{Config: p.config, Observe: func(s DoctorStep) {
		if s.Step == stepSchemes {
			go cancel()
		}
	}})
	if !r.Interrupted || r.OK || r.count(DoctorFail) != 0 || r.Step(stepLogin).Status != DoctorSkip {
		t.Errorf("%+v", r)
	}
}

func certPEM(der []byte) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
}

// listen returns a listener on loopback that ends with the test.
func listen(t *testing.T) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}
