package main

import (
	"encoding/json"
	"path/filepath"
	"strings"
	"testing"
)

func TestDiagnose(t *testing.T) {
	lab := filepath.Join(t.TempDir(), "lab")
	onlineca(t, "lab", "--phones", "3", "--key", "p256", "--out", lab).want(t, 0)
	onlineca(t, "diagnose", filepath.Join(lab, "logs")).want(t, 0, "3 enrolments")

	dir := t.TempDir()
	stdout := filepath.Join(dir, "nginx00000001.txt")
	write(t, stdout, `nginx: [warn] login_to_certsrv_ca: Curl call for MS CA login failed with return code 6 (Could not resolve: lab-dcc.michamen.com (Domain name not found))
nginx: [warn] login_to_certsrv_ca: URL used: https://lab-dcc.michamen.com:443/certsrv
nginx: [error] retrieve_cacerts: Unable to execute login to certsrv with curl
nginx: [warn] ra_certsrv_ca_plugin_postconf: Unable to retrieve CA Cert chain from CA
`)
	page := filepath.Join(dir, "report.html")
	r := onlineca(t, "diagnose", stdout, "--json", "--html", page)
	r.want(t, 1)
	var report struct {
		Verdict string
		Faults  []struct{ Codes []string }
	}
	if err := json.Unmarshal([]byte(r.stdout), &report); err != nil {
		t.Fatal(err)
	}
	if len(report.Faults) != 1 || len(report.Faults[0].Codes) != 1 || report.Faults[0].Codes[0] != "dns" {
		t.Errorf("got %+v, want the fault dns", report)
	}
	if text := read(t, page); !strings.Contains(text, "<html") || !strings.Contains(text, "dns") {
		t.Error("the page is none, or does not name the fault")
	}

	for _, bad := range [][]string{
		{"diagnose"},
		{"diagnose", stdout, "--since", "yesterday"},
		{"diagnose", stdout, "--tz", "capf"},
		{"diagnose", stdout, "--day", "5th"},
		{"diagnose", stdout, "--html", "-"},
		{"diagnose", stdout, "--html", ""},
	} {
		onlineca(t, bad...).want(t, 2, "hint: ")
	}
	// Status 1 is kept for faults of the logs.
	onlineca(t, "diagnose", stdout, "--html", filepath.Join(dir, "absent", "report.html")).want(t, 3, "write the page")
	onlineca(t, "diagnose", filepath.Join(lab, "logs"), "--device", "SEP0000DEADBEEF").want(t, 3, "Could not tell. 0 enrolments of SEP0000DEADBEEF")
	onlineca(t, "diagnose", filepath.Join(dir, "absent")).want(t, 2, "absent")
	write(t, filepath.Join(dir, "poem.txt"), "Die Luft ist still\n")
	onlineca(t, "diagnose", filepath.Join(dir, "poem.txt")).want(t, 3)
}
