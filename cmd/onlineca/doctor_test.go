package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// startCertsrv runs a mock and writes settings for it.
func startCertsrv(t *testing.T, args ...string) (config, password string) {
	t.Helper()
	dir := t.TempDir()
	lines := server(t, "Ctrl-C", append([]string{
		"certsrv", "--listen", "127.0.0.1:0", "--root-file", filepath.Join(dir, "root.pem"),
	}, args...)...)
	password = find(t, lines, `password (.*)$`)
	write(t, filepath.Join(dir, "password"), password+"\n")
	config = filepath.Join(dir, "onlineca.yaml")
	write(t, config, settings(find(t, lines, `certsrv +(https://.*)/certsrv/`)))
	return config, password
}

func TestDoctor(t *testing.T) {
	config, password := startCertsrv(t)
	r := onlineca(t, "doctor", "--config", config)
	r.want(t, 0, "ok    login", "CiscoRA is offered", "no failed logon", "A phone would succeed, as far as can be seen without --enroll.")
	if strings.Contains(r.stdout+r.stderr, password) || strings.Contains(r.stdout, "\x1b") {
		t.Errorf("a password, or colour where there is no terminal:\n%s", r.stdout)
	}
	onlineca(t, "doctor", "--config", config, "--enroll").want(t, 0, "A phone would succeed.\n", "certutil -revoke ")

	r = onlineca(t, "doctor", "--config", config, "--json")
	r.want(t, 0)
	var report struct {
		Schema string
		OK     bool
		Steps  []struct{ Step, Status string }
	}
	if err := json.Unmarshal([]byte(r.stdout), &report); err != nil || report.Schema != "onlineca-doctor/1" || !report.OK || len(report.Steps) != 15 {
		t.Errorf("%v: %+v", err, report)
	}
}

func TestDoctorFails(t *testing.T) {
	config, password := startCertsrv(t, "--fault", "deny:0x80094012@submit")
	onlineca(t, "doctor", "--config", config, "--enroll").want(t, 1, "FAIL  enrolment", "FAIL  enrolment: template-denied", "CERTSRV_E_TEMPLATE_DENIED:", "A phone would fail: 1 step failed.")

	write(t, filepath.Join(filepath.Dir(config), "password"), "not "+password)
	r := onlineca(t, "doctor", "--config", config)
	r.want(t, 1, "FAIL  login: bad-credentials", "2 failed logons")
	if strings.Contains(r.stdout+r.stderr, password) {
		t.Error("the password is shown")
	}
	onlineca(t, "doctor", "--config", filepath.Join(filepath.Dir(config), "gone.yaml")).want(t, 1, "FAIL  settings", "gone.yaml")
	onlineca(t, "doctor").want(t, 1, "FAIL  settings", "onlineca.yaml")
	onlineca(t, "doctor", "--config", config, "more").want(t, 2, "hint: see onlineca doctor --help")
}

// Colour is for terminals alone.
func TestDoctorColor(t *testing.T) {
	f, err := os.Create(filepath.Join(t.TempDir(), "out"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if colored(f) || colored(new(strings.Builder)) {
		t.Error("a file is written to in colour")
	}
}
