package zaplog_test

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/onlineca/onlineca/internal/zaplog"
	"github.com/onlineca/onlineca/ra/event"
)

func TestTreePutsEveryEventIntoItsLogs(t *testing.T) {
	dir := t.TempDir()
	log, closeLogs, err := zaplog.Tree(dir, 3187, time.UTC)
	if err != nil {
		t.Fatal(err)
	}
	ctx := event.WithID(context.Background(), "id-1")
	conn := event.WithConn(ctx, event.Conn{Number: 2, Client: "14.48.31.128", Server: "0.0.0.0:8084"})
	web := func(day int) event.WebRequest {
		return event.WebRequest{Time: time.Date(2026, 1, day, 23, 59, 59, 0, time.UTC), ServerIP: "10.0.0.5", Method: "GET", Stem: "/certsrv", Port: 443, ClientIP: "10.0.0.9", UserAgent: "a b", Status: 200}
	}
	failed := event.UpstreamFailed{Step: event.StepLogin, URL: "https://ca:443/certsrv", Curl: 6, Text: "Could not resolve: ca (Domain name not found)"}
	event.Emit(ctx, log, event.RAPoPDisabled{})
	event.Emit(ctx, log, failed)
	event.Emit(conn, log, failed)
	event.Emit(ctx, log, event.ESTNoSRP{})
	event.Emit(conn, log, event.ESTNoPeerCertificate{})
	event.Emit(ctx, log, event.CAPFReadset{Socket: 6})
	event.Emit(ctx, log, web(15))
	event.Emit(ctx, log, web(15))
	event.Emit(ctx, log, web(16))
	log.Warn("plain words")
	if err := closeLogs(); err != nil {
		t.Fatal(err)
	}
	event.Emit(ctx, log, event.ESTNoSRP{}) // a closed tree is silent

	atStart := []string{"login_to_certsrv_ca: Curl call", "login_to_certsrv_ca: URL used", "retrieve_cacerts: Unable"}
	want := map[string][]string{
		zaplog.CAPFFile:                   {"|-->debug", "|   debug addded 6 to readset", "|<--debug"},
		zaplog.StdoutFile:                 {"pop_enabled", atStart[0], atStart[1], atStart[2], "TLS SRP"},
		zaplog.ErrorFile:                  {atStart[0], atStart[1], atStart[2], "*2 " + atStart[0], "*2 " + atStart[1], "*2 " + atStart[2], "no peer"},
		zaplog.IISDir + "/u_ex260115.log": {"#Software", "#Version", "#Date: 2026-01-15 23:59:59", "#Fields", "a+b", "a+b"},
		zaplog.IISDir + "/u_ex260116.log": {"#Software", "#Version", "#Date: 2026-01-16 23:59:59", "#Fields", "a+b"},
		zaplog.JSONFile: {
			`"kind":"ra-pop-disabled"`, `"curl":6`, `"conn":{"number":2,"client":"14.48.31.128","server":"0.0.0.0:8084"}`,
			"est-no-srp", `"id":"id-1"`, `"event":{"socket":6}`, "web-request", "web-request", "web-request", `"kind":"plain words"`,
		},
	}
	for name, parts := range want {
		data, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Error(err)
			continue
		}
		lines := strings.Split(strings.TrimSuffix(string(data), "\n"), "\n")
		if len(lines) != len(parts) {
			t.Errorf("%s: %d lines, want %d:\n%s", name, len(lines), len(parts), data)
			continue
		}
		for i, part := range parts {
			if !strings.Contains(lines[i], part) {
				t.Errorf("%s:%d: %q lacks %q", name, i+1, lines[i], part)
			}
		}
	}
}
