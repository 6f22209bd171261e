package storetest

import (
	"os"
	"os/user"
	"strconv"
	"syscall"
	"testing"

	"github.com/onlineca/onlineca/internal/interop"
)

// ownerOf makes dir the home of a server that ends when the test does, however
// that ends, and runs as a user that PostgreSQL accepts.
func ownerOf(tb testing.TB, dir string) *syscall.SysProcAttr {
	tb.Helper()
	attr := &syscall.SysProcAttr{Pdeathsig: syscall.SIGQUIT}
	if os.Getuid() == 0 {
		attr.Credential = unprivileged(tb)
		if err := os.Chown(dir, int(attr.Credential.Uid), int(attr.Credential.Gid)); err != nil {
			tb.Fatal(err)
		}
	}
	return attr
}

// unprivileged is a user that PostgreSQL may run as.
func unprivileged(tb testing.TB) *syscall.Credential {
	tb.Helper()
	for _, name := range []string{"postgres", "nobody"} {
		u, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, err1 := strconv.ParseUint(u.Uid, 10, 32)
		gid, err2 := strconv.ParseUint(u.Gid, 10, 32)
		if err1 == nil && err2 == nil {
			return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
		}
	}
	interop.Missing(tb, "a user postgres or nobody (PostgreSQL does not run as root)")
	return nil
}
