// Package storetest is the conformance suite of package store, which every
// database it supports has to pass, and a PostgreSQL server to run it on.
package storetest

import (
	"bytes"
	"context"
	"database/sql"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	_ "github.com/jackc/pgx/v5/stdlib" // the driver "pgx"
)

// Postgres starts a PostgreSQL server for the duration of a test, in a
// directory of its own and on a Unix socket only, and returns a function that
// makes a new, empty database in it and returns its address. The programs
// initdb and postgres must be in PATH. PostgreSQL refuses to run as root, so if
// the test does, the server runs as the user "postgres" or "nobody".
func Postgres(tb testing.TB) (newDatabase func(tb testing.TB) string) {
	tb.Helper()
	// Not tb.TempDir: no other user may go through that one.
	dir, err := os.MkdirTemp("", "onlineca-pg-")
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = os.RemoveAll(dir) })
	attr := ownerOf(tb, dir)
	data := filepath.Join(dir, "data")
	command := func(ctx context.Context, name string, args ...string) (*exec.Cmd, *bytes.Buffer) {
		cmd := exec.CommandContext(ctx, name, args...)
		out := new(bytes.Buffer)
		cmd.Dir, cmd.Stdout, cmd.Stderr, cmd.SysProcAttr = dir, out, out, attr
		cmd.Env = append(os.Environ(), "LC_ALL=C", "TZ=UTC", "HOME="+dir)
		return cmd, out
	}
	if cmd, out := command(tb.Context(), "initdb", "-D", data, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--no-sync"); cmd.Run() != nil {
		tb.Fatalf("initdb: %s", out)
	}
	// Not the test's context: that ends before the clean-up, and with SIGKILL.
	server, out := command(context.Background(), "postgres", "-D", data, "-k", dir, "-c", "listen_addresses=", "-c", "fsync=off", "-c", "max_connections=60")
	if err := server.Start(); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		_ = server.Process.Signal(syscall.SIGINT) // fast shutdown
		if err := server.Wait(); err != nil {
			tb.Errorf("postgres: %v\n%s", err, out)
		}
	})
	address := func(database string) string {
		return "postgres://postgres@/" + database + "?" + url.Values{"host": {dir}, "sslmode": {"disable"}}.Encode()
	}
	admin := connect(tb, address("postgres"))
	tb.Cleanup(func() { _ = admin.Close() })
	var n atomic.Int32
	return func(tb testing.TB) string {
		tb.Helper()
		name := fmt.Sprintf("test%d", n.Add(1))
		if _, err := admin.ExecContext(tb.Context(), "CREATE DATABASE "+name); err != nil {
			tb.Fatal(err)
		}
		return address(name)
	}
}

// connect waits until the server answers.
func connect(tb testing.TB, address string) *sql.DB {
	tb.Helper()
	db, err := sql.Open("pgx", address)
	if err != nil {
		tb.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(tb.Context(), time.Minute)
	defer cancel()
	retry := time.NewTicker(50 * time.Millisecond)
	defer retry.Stop()
	for {
		err := db.PingContext(ctx)
		if err == nil {
			return db
		}
		select {
		case <-retry.C:
		case <-ctx.Done():
			tb.Fatalf("postgres does not answer: %v", err)
		}
	}
}
