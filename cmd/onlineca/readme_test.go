package main

import (
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/onlineca/onlineca/internal/interop"
)

// The README's curl lines work as they are printed there. Only the ports are
// others here, and the password, for which curl asks, is on the line.
func TestREADMEsCurlLines(t *testing.T) {
	interop.Need(t, "curl")
	dir := t.TempDir()
	lines := server(t, "Ctrl-C", "certsrv", "--listen", "127.0.0.1:0", "--control", "127.0.0.1:0",
		"--root-file", filepath.Join(dir, "root.pem"))
	here := strings.NewReplacer(
		"https://localhost:8443", find(t, lines, `certsrv +(https://.*)/certsrv/`),
		"http://127.0.0.1:8444", find(t, lines, `control +(http://.*)/control/`),
		`'LAB\ciscora'`, `'LAB\ciscora:`+find(t, lines, `password (.*)$`)+`'`,
	)
	found := 0
	for line := range strings.Lines(read(t, "../../README.md")) {
		if !strings.HasPrefix(line, "curl ") {
			continue
		}
		found++
		cmd := exec.CommandContext(t.Context(), "sh", "-c", strings.Replace(here.Replace(line), "curl", "curl --fail --silent --show-error", 1))
		cmd.Dir = dir
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("%s%v\n%s", line, err, out)
		}
	}
	if found < 2 {
		t.Errorf("%d lines of curl in the README", found)
	}
}

// So do the lines that have a phone enrol, here with the files of the test.
func TestREADMEsPhone(t *testing.T) {
	c := startRoad(t, "")
	config := filepath.Join(c.dir, "onlineca.yaml")
	write(t, config, settings(c.certsrv)+"capf: {listen: 127.0.0.1:0}\n")
	write(t, filepath.Join(c.dir, "pin"), "123456\n")
	lines := another(t, "Ctrl-C", config)
	here := map[string]string{
		"onlineca-state/capf-certificate.pem": "state/capf-certificate.pem",
		"localhost:3804":                      find(t, lines, `CAPF +(\S+),`),
	}
	readme := read(t, "../../README.md")
	t.Chdir(c.dir) // where onlineca.yaml is
	found := 0
	for line := range strings.Lines(readme) {
		if !strings.HasPrefix(line, "onlineca device add ") && !strings.HasPrefix(line, "onlineca phone ") {
			continue
		}
		found++
		args := strings.Fields(line)[1:]
		for i, a := range args {
			if file, ok := here[a]; ok {
				args[i] = file
			}
		}
		onlineca(t, args...).want(t, 0)
	}
	if found != 2 {
		t.Errorf("%d lines of phones in the README, not 2", found)
	}
	onlineca(t, "device", "list", "--config", config).want(t, 0, "Upgrade Success")
}
