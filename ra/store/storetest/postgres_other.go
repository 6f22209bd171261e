//go:build !linux

package storetest

import (
	"os"
	"syscall"
	"testing"
)

// ownerOf leaves dir to the user who runs the test. To become another one, and
// to end with the test however it ends, only Linux knows how.
func ownerOf(tb testing.TB, _ string) *syscall.SysProcAttr {
	tb.Helper()
	if os.Getuid() == 0 {
		tb.Skip("PostgreSQL refuses to run as root; run the test as another user")
	}
	return nil
}
