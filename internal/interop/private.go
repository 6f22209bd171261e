package interop

import (
	"os"
	"runtime"
	"testing"
)

// Private fails the test unless the file at path is there and only its owner
// can read and write it. On Windows, where access lists say that and file modes
// do not, it looks only whether the file is there.
func Private(tb testing.TB, path string) {
	tb.Helper()
	info, err := os.Stat(path)
	if err != nil {
		tb.Error(err)
		return
	}
	if mode := info.Mode().Perm(); mode != 0o600 && runtime.GOOS != "windows" {
		tb.Errorf("%s has mode %v, want 0600", path, mode)
	}
}
