package main

import (
	"path/filepath"
	"strings"
	"testing"
)

func TestReproduce(t *testing.T) {
	out := filepath.Join(t.TempDir(), "one")
	onlineca(t, "reproduce", "deadline-passed", "--phones", "2", "--bundle", "--out", out).want(t, 0, "deadline-passed", "as its row says")
	if text := read(t, filepath.Join(out, "report.md")); !strings.HasPrefix(text, "# deadline-passed: ") || !strings.Contains(text, "2 phones") {
		t.Errorf("the report begins %.80q", text)
	}
	for _, name := range []string{"diagram.svg", "bundle.tar.gz", "logs/onlineca.jsonl", "logs/capf/capf00000001.txt"} {
		read(t, filepath.Join(out, filepath.FromSlash(name)))
	}

	several := filepath.Join(t.TempDir(), "several")
	onlineca(t, "reproduce", "unknown-device", "template", "--out", several).want(t, 0, "unknown-device", "template")
	read(t, filepath.Join(several, "template", "report.md"))
	onlineca(t, "diagnose", filepath.Join(several, "template", "logs")).want(t, 1, "template")

	onlineca(t, "reproduce", "--list").want(t, 0, "login-timeout", "21 s", "Not produced:", "page-language")
	for _, bad := range [][]string{
		{"reproduce"},
		{"reproduce", "no-such"},
		{"reproduce", "internal"},
		{"reproduce", "--all", "template"},
		{"reproduce", "template", "--phones", "0"},
		{"reproduce", "template", "--out", ""},
	} {
		onlineca(t, bad...).want(t, 2, "hint: ")
	}
}
