package main

import (
	"io"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
)

// The admin address as an operator meets it: named at the start, asked by
// healthcheck, silent about passwords.
func TestAdminAddress(t *testing.T) {
	c := startRoad(t, "admin: {listen: '127.0.0.1:0'}\n")
	config := filepath.Join(c.dir, "onlineca.yaml")
	lines := another(t, "admin  ", config)
	address := find(t, lines, `admin +(http://[^/]*)/readyz`)
	for path, want := range map[string]string{
		"/healthz": "alive", "/readyz": "ready\n", "/readyz?format=json": `"ready": true`, "/metrics": "onlineca_certsrv_handshakes_total",
	} {
		text := fetch(t, address+path)
		if !strings.Contains(text, want) {
			t.Errorf("%s does not say %q:\n%s", path, want, text)
		}
		if strings.Contains(text, c.password) {
			t.Errorf("%s shows the password", path)
		}
	}
	write(t, config, strings.Replace(read(t, config), "127.0.0.1:0'}", strings.TrimPrefix(address, "http://")+"'}", 1))
	onlineca(t, "healthcheck", "--config", config).want(t, 0, "the registration authority answers")
}

func fetch(t *testing.T, url string) string {
	t.Helper()
	resp, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
