package app_test

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/onlineca/onlineca/internal/app"
)

const example = "../../contrib/onlineca.yaml"

// The annotated example names every key there is, with its default.
func TestExampleIsCompleteAndTellsTheDefaults(t *testing.T) {
	text, err := os.ReadFile(example)
	if err != nil {
		t.Fatal(err)
	}
	s, err := app.ParseSettings(text)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Validate(); err != nil {
		t.Error(err)
	}
	for _, key := range keys(reflect.TypeFor[app.Settings]()) {
		if !strings.Contains(string(text), key+":") {
			t.Errorf("%s lacks the key %s", example, key)
		}
	}
	want, err := app.ParseSettings([]byte("certsrv: {url: " + s.Certsrv.URL + ", username: " + `CONTOSO\svc-ra` +
		", password_file: certsrv-password, template: CiscoRA}"))
	if err != nil {
		t.Fatal(err)
	}
	clean := func(s *app.Settings) {
		s.TLS.Names, s.Certsrv.TLS.CA, s.Certsrv.SAN = nil, nil, nil
		s.EST.Labels, s.EST.TrustedProxies, s.CAPF.LSCTrust, s.CAPF.MICTrust = nil, nil, nil, nil
		l := &s.EST.LabelSettings
		l.CSRAttrs, l.Auth.ClientCA, l.Policy.Keys, l.Policy.Hashes, l.Policy.SANTypes, l.Auth.KeyUsages = nil, nil, nil, nil, nil, nil
	}
	clean(&s)
	clean(&want)
	if !reflect.DeepEqual(s, want) {
		t.Errorf("the example's values are not the defaults:\n%+v\n%+v", s, want)
	}
}

// keys lists the YAML keys of a struct and of the structs in it.
func keys(t reflect.Type) []string {
	var all []string
	for i := range t.NumField() {
		f := t.Field(i)
		key, _, _ := strings.Cut(f.Tag.Get("yaml"), ",")
		if key != "" {
			all = append(all, key)
		}
		if f.Type.Kind() == reflect.Struct {
			all = append(all, keys(f.Type)...)
		}
	}
	return all
}

func TestSettingsMistakes(t *testing.T) {
	good := "certsrv: {url: https://ca.example.com/certsrv, username: u, password_file: p, template: t}\n"
	for name, c := range map[string]struct{ text, want string }{
		"empty":                {"", "the file is empty"},
		"not YAML":             {"\x00\x01", "onlineca.yaml"},
		"a list":               {"- a\n- b\n", "onlineca.yaml"},
		"unknown key":          {good + "lisen: 1\n", `unknown field "lisen"`},
		"nothing needed":       {"listen: 127.0.0.1:1\n", "certsrv.url: missing"},
		"url and urls":         {strings.Replace(good, "username", "urls: [https://b.example.com/certsrv], username", 1), "choose one"},
		"the same host twice":  {strings.Replace(good, "url: https://ca.example.com/certsrv", "urls: ['https://ca.example.com/certsrv', 'https://CA.example.com:443/certsrv']", 1), "ca.example.com:443 is named twice"},
		"one of several":       {strings.Replace(good, "url: https://ca.example.com/certsrv", "urls: [https://a.example.com/certsrv, http://b.example.com]", 1), "certsrv.urls"},
		"pprof nowhere":        {good + "admin: {pprof: true}\n", "admin.listen: missing"},
		"admin address":        {good + "admin: {listen: loopback}\n", "admin.listen:"},
		"plain HTTP":           {strings.Replace(good, "https", "http", 1), "certsrv.url"},
		"password in URL":      {strings.Replace(good, "https://", "https://u:secret@", 1), "must not hold a user name or password"},
		"no port":              {good + "listen: localhost\n", "listen:"},
		"duration":             {strings.Replace(good, "template: t", "template: t, login_pause: 10", 1), "login_pause"},
		"duration inside":      {strings.Replace(good, "template: t", "template: t, timeouts: {login: 10}", 1), "line 1, column 110: login: a time with its unit is wanted"},
		"no duration":          {strings.Replace(good, "template: t", "template: t, login_pause: secret", 1), "login_pause: a time"},
		"number":               {strings.Replace(good, "template: t", "template: t, sessions: [secret]", 1), "sessions: a whole number"},
		"large number":         {good + "est:\n  max_requests: 99999999999999999999\n", "line 3, column 17: max_requests: a whole number"},
		"yes and no":           {good + "est: {plain: secret}\n", "plain: true or false"},
		"no list":              {strings.Replace(good, "template: t", "template: t, tls: {ca: {secret: 1}}", 1), "ca: mapping was used"},
		"a list for a name":    {good + "state: [secret]\n", "state: a single value"},
		"no settings":          {good + "est: secret\n", "est: "},
		"password in it":       {strings.Replace(good, "template: t", "template: t, password: secret", 1), `unknown field "password"`},
		"password by itself":   {good + "password: \"secret\n", "line 2"},
		"key twice":            {good + "state: secret1\nstate: secret2\n", "line 3, column 1"},
		"half a key pair":      {good + "tls: {certificate: x}\n", "tls: certificate and key go together"},
		"EPA without file":     {strings.Replace(good, "template: t", "template: t, extended_protection: {channel_binding: certificate}", 1), "channel_binding"},
		"two Basics":           {good + "est: {auth: {certsrv: true, users: f}}\n", "choose one"},
		"regular expresion":    {good + "est: {policy: {subject: '('}}\n", "est.policy.subject"},
		"label":                {good + "est: {labels: {phones: {auth: {require: most}}}}\n", "est.labels.phones.auth.require"},
		"key usage":            {good + "est: {auth: {key_usages: [nonsense]}}\n", `est.auth.key_usages: "nonsense" is none of clientAuth, `},
		"proxy":                {good + "est: {proxy_certificate_header: X-Cert}\n", "est.trusted_proxies"},
		"proof behind a proxy": {good + "est: {plain: true, trusted_proxies: [127.0.0.1/32], labels: {phones: {proof_of_possession: required}}}\n", "est.labels.phones.proof_of_possession: required, but"},
		"line break":           {strings.Replace(good, "template: t", `template: t, marker: "a\nb"`, 1), "line break"},
		"csrattrs":             {good + "est: {csrattrs: [nonsense]}\n", "est.csrattrs"},
		"level":                {good + "logs: {level: loud}\n", "logs.level"},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "onlineca.yaml")
			if err := os.WriteFile(path, []byte(c.text), 0o600); err != nil {
				t.Fatal(err)
			}
			_, err := app.ReadSettings(path)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Fatalf("got %v, want something with %q", err, c.want)
			}
			if strings.Contains(err.Error(), "secret") {
				t.Errorf("the error shows a password: %v", err)
			}
		})
	}
}

func TestSettingsPathsAreRelativeToTheFile(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("CREDENTIALS_DIRECTORY", "/run/credentials/onlineca")
	path := filepath.Join(dir, "onlineca.yaml")
	text := `certsrv: {url: https://ca.example.com/certsrv, username: u, password_file: "${CREDENTIALS_DIRECTORY}/certsrv", template: t, tls: {ca: [ca.pem, /etc/ca.pem]}}
est: {labels: {phones: {auth: {client_ca: [phones.pem]}}}}
`
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	s, err := app.ReadSettings(path)
	if err != nil {
		t.Fatal(err)
	}
	for got, want := range map[string]string{
		s.Certsrv.PasswordFile:                  "/run/credentials/onlineca/certsrv",
		s.Certsrv.TLS.CA[0]:                     filepath.Join(dir, "ca.pem"),
		s.Certsrv.TLS.CA[1]:                     "/etc/ca.pem",
		s.EST.Labels["phones"].Auth.ClientCA[0]: filepath.Join(dir, "phones.pem"),
		s.State:                                 filepath.Join(dir, "onlineca-state"),
	} {
		if got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
	if got := s.EST.Labels["phones"].Template; got != "t" {
		t.Errorf("the label's template is %q, want that of certsrv", got)
	}
}

func TestSettingsOfSeveralHosts(t *testing.T) {
	path := filepath.Join(t.TempDir(), "onlineca.yaml")
	text := "certsrv: {urls: [https://a.example.com/certsrv, https://b.example.com/certsrv], username: u, password_file: p, template: t}\nadmin: {listen: ':8085'}\n"
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	s, err := app.ReadSettings(path)
	if err != nil {
		t.Fatal(err)
	}
	if s.Certsrv.URL != "https://a.example.com/certsrv" {
		t.Errorf("the preferred one is %q", s.Certsrv.URL)
	}
	if s.Admin.Listen != "127.0.0.1:8085" {
		t.Errorf("admin listens on %q: without a host it is this machine alone", s.Admin.Listen)
	}
}
