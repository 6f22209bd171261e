package store_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/onlineca/onlineca/internal/interop"
	"github.com/onlineca/onlineca/ra/fault"
	"github.com/onlineca/onlineca/ra/store"
	"github.com/onlineca/onlineca/ra/store/storetest"
)

func sqliteFile(tb testing.TB) string { return filepath.Join(tb.TempDir(), "requests.db") }

func TestSQLite(t *testing.T) { storetest.Run(t, sqliteFile) }

func TestPostgreSQL(t *testing.T) {
	interop.Need(t, "postgres", "initdb")
	storetest.Run(t, storetest.Postgres(t))
}

func TestSQLiteFilesAreTheOwnersAlone(t *testing.T) {
	path := sqliteFile(t)
	s, err := store.Open(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	files, err := filepath.Glob(path + "*")
	if err != nil || len(files) < 2 {
		t.Fatalf("%v, %v: it is not in write-ahead mode", files, err)
	}
	for _, f := range files {
		interop.Private(t, f)
	}
}

func TestOpenNamesWhatIsWrong(t *testing.T) {
	dir := t.TempDir()
	garbage := filepath.Join(dir, "garbage.db")
	if err := os.WriteFile(garbage, []byte(strings.Repeat("this is no database ", 100)), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, at := range []string{filepath.Join(dir, "none", "x.db"), garbage, dir, "postgres://u:hunter2@127.0.0.1:1/db?connect_timeout=1"} {
		s, err := store.Open(t.Context(), at)
		if err == nil {
			s.Close()
		}
		if !errors.Is(err, fault.DiskFull) || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: %v", at, err)
		}
	}
	if _, err := store.Open(t.Context(), "postgres://u:hunter2@h:70%zz/db"); err == nil || strings.Contains(err.Error(), "hunter2") {
		t.Error(err)
	}
}
