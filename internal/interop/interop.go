// Package interop helps tests that use programs this project did not write:
// Apache, curl, openssl, nginx, PostgreSQL, Chromium, tshark.
//
// Where such a program is missing, its test skips and says so. Where the
// environment variable ONLINECA_INTEROP is "required", as it is in continuous
// integration, a missing program is a failure instead.
package interop

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// Need skips the test unless every program is to be found, in PATH or where
// Debian keeps its servers. With ONLINECA_INTEROP=required it fails instead.
func Need(tb testing.TB, programs ...string) {
	tb.Helper()
	for _, p := range programs {
		if Look(p) != "" {
			continue
		}
		Missing(tb, p)
	}
}

// Missing skips the test for want of what is not installed. With
// ONLINECA_INTEROP=required it fails instead.
func Missing(tb testing.TB, what string) {
	tb.Helper()
	if os.Getenv("ONLINECA_INTEROP") == "required" {
		tb.Fatalf("%s is not installed, and ONLINECA_INTEROP=required", what)
	}
	tb.Skipf("%s is not installed: this test needs it", what)
}

// Look returns the path of a program, or "" where there is none.
func Look(program string) string {
	if path, err := exec.LookPath(program); err == nil {
		return path
	}
	for _, dir := range []string{"/usr/sbin", "/sbin", "/usr/local/sbin"} {
		if path, err := exec.LookPath(filepath.Join(dir, program)); err == nil {
			return path
		}
	}
	return ""
}
