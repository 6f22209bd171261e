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
		want := fault.DiskFull
		if store.IsPostgres(at) {
			want = fault.Database
		}
		if !errors.Is(err, want) || strings.Contains(err.Error(), "hunter2") || strings.ContainsAny(err.Error(), "\n\t") {
			t.Errorf("%s: %q", at, err)
		}
	}
	for _, at := range []string{"postgres://u:hunter2@h:70%zz/db", "postgres://:::bad", "postgres://u:hunter2@h:99999/db", "postgres://u:hunter2@h/db?sslmode=often", "postgres://u:hunter2@h/db?sslrootcert=/none.pem"} {
		err := store.Check(at)
		if _, openErr := store.Open(t.Context(), at); err == nil || openErr == nil || strings.Contains(err.Error()+openErr.Error(), "hunter2") {
			t.Errorf("%s: %v", at, err)
		}
	}
	for _, at := range []string{"requests.db", "postgres:///db?host=/run/postgresql", "postgres://ra:secret@db.example.com/ra?sslmode=verify-full"} {
		if err := store.Check(at); err != nil {
			t.Errorf("%s: %v", at, err)
		}
	}
}

func TestParseSerial(t *testing.T) {
	for text, want := range map[string]string{
		"5e000000a1": "5e000000a1", "5E:00:00:00:A1": "5e000000a1", "0x5e000000a1": "5e000000a1", "5e 00 00 00 a1": "5e000000a1",
		"00a1": "a1", "0abc": "0abc", "abc": "0abc", "0": "", "": "", "zz": "", "5e0g": "", "0x": "", "%": "",
	} {
		got, err := store.ParseSerial(text)
		if got != want || (err == nil) != (want != "") {
			t.Errorf("%q: %q, %v, want %q", text, got, err, want)
		}
	}
}
