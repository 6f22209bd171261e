// Package store keeps the registration authority's requests where a crash
// cannot reach them, in SQLite or PostgreSQL, and makes of any [ra.Enroller]
// one that loses nothing and submits nothing twice.
//
// AD CS Web Enrollment has no idempotency token: a POST whose answer is lost
// has still issued a certificate. [Durable] therefore writes before it submits,
// never repeats a submission by itself, and finds out what became of one whose
// answer it has not seen before anything is tried again.
package store

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	_ "github.com/jackc/pgx/v5/stdlib" // the driver "pgx"
	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/lock"
	"modernc.org/sqlite"

	"github.com/onlineca/onlineca/ra/fault"
)

//go:embed migrations/*.sql
var migrations embed.FS

// busyTimeout is how long SQLite waits for another process.
const busyTimeout = 10 * time.Second

// sqliteConnections is how many connections there are at most: readers do not
// wait for the writer.
const sqliteConnections = 3

// checkpoint is how many pages SQLite's log may have before they are copied into
// the file, 16 MB: each page is copied once, however often it was written.
const checkpoint = 4000

// postgresConnections bounds the pool of one process.
const postgresConnections = 8

// migrationLock is the number of the advisory lock that a process holds while
// it migrates: several registration authorities may start at once.
const migrationLock = 0x6f6e6c696e656361 // "onlineca"

// Store is an open database of requests. It may be used by any number of
// goroutines, and with PostgreSQL by any number of processes.
type Store struct {
	db       *sql.DB
	postgres bool
	name     string // the file, or the server and database, for errors
	// prepared holds the statements that every enrolment needs.
	prepared map[string]*sql.Stmt
	group    *group // of SQLite
	pinged   pinged
	prunes   sync.Mutex
	pruned   map[string]time.Time // attempts, by scope
}

// Open opens the database at location and brings its tables up to date.
// "postgres://…" is a PostgreSQL server; anything else is the path of an SQLite
// file, which is made, readable by its owner alone, if it is not there.
func Open(ctx context.Context, location string) (*Store, error) {
	s, err := open(location)
	if err == nil {
		if err = s.migrate(ctx); err == nil {
			err = s.prepare(ctx)
		}
		if err != nil {
			_ = s.db.Close() // the first error says what is wrong
		}
	}
	if err != nil {
		return nil, err
	}
	return s, nil
}

// IsPostgres tells whether location means a PostgreSQL server.
func IsPostgres(location string) bool {
	return strings.HasPrefix(location, "postgres://") || strings.HasPrefix(location, "postgresql://")
}

func open(location string) (*Store, error) {
	if IsPostgres(location) {
		return openPostgres(location)
	}
	return openSQLite(location)
}

// Check says what is wrong with a location as far as that can be seen without
// asking anybody. The address of a PostgreSQL server may name files, which must
// be there.
func Check(location string) error {
	if !IsPostgres(location) {
		return nil
	}
	u, err := url.Parse(location)
	if err != nil {
		// The parser's own error quotes the address, password and all.
		return errors.New("the address cannot be parsed; it has the form postgres://USER:PASSWORD@HOST/DATABASE, and special characters of a password are written as %XX")
	}
	if _, err := pgx.ParseConfig(location); err != nil {
		if inner := errors.Unwrap(err); inner != nil {
			err = inner // what stands around it quotes the address again
		}
		return fmt.Errorf("the address %s is not good: %w", u.Redacted(), oneLine(err))
	}
	return nil
}

func openPostgres(location string) (*Store, error) {
	if err := Check(location); err != nil {
		return nil, fmt.Errorf("store: %w", err)
	}
	u, err := url.Parse(location)
	if err != nil {
		return nil, errors.New("store: the address cannot be parsed")
	}
	db, err := sql.Open("pgx", location)
	if err != nil {
		return nil, fmt.Errorf("store: the address of %s is not good: %w", u.Redacted(), err)
	}
	db.SetMaxOpenConns(postgresConnections + 1) // one holds the owner's lock
	db.SetMaxIdleConns(postgresConnections)
	db.SetConnMaxIdleTime(5 * time.Minute)
	return &Store{db: db, postgres: true, name: u.Host + u.Path}, nil
}

func openSQLite(path string) (*Store, error) {
	// SQLite makes its other files with the permissions of this one.
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fault.New(fault.DiskFull, "store: open the database", err)
	}
	_ = f.Close() // nothing was written
	abs, err := filepath.Abs(path)
	if err != nil {
		return nil, fault.New(fault.DiskFull, "store: open the database", err)
	}
	// FULL: what is written before a submission must outlive a power failure,
	// not only the process.
	query := url.Values{"_txlock": {"immediate"}, "_pragma": {
		fmt.Sprintf("busy_timeout(%d)", busyTimeout.Milliseconds()), "journal_mode(WAL)", "synchronous(FULL)",
		fmt.Sprintf("wal_autocheckpoint(%d)", checkpoint),
	}}
	db, err := sql.Open("sqlite", sqliteAddress(abs, query))
	if err != nil {
		return nil, fault.New(fault.DiskFull, "store: open "+path, err)
	}
	// One of them is the writer's.
	db.SetMaxOpenConns(sqliteConnections)
	db.SetMaxIdleConns(sqliteConnections)
	return &Store{db: db, name: path}, nil
}

// sqliteAddress is how SQLite is told to open an absolute path; on Windows that
// is file:///C:/dir/file (https://sqlite.org/uri.html).
func sqliteAddress(path string, settings url.Values) string {
	slashed := "/" + strings.TrimPrefix(filepath.ToSlash(path), "/")
	return (&url.URL{Scheme: "file", Path: slashed, RawQuery: settings.Encode()}).String()
}

func (s *Store) migrate(ctx context.Context) error {
	dir, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return s.fault("migrate", err)
	}
	dialect, options := goose.DialectSQLite3, []goose.ProviderOption(nil)
	if s.postgres {
		locker, err := lock.NewPostgresSessionLocker(lock.WithLockID(migrationLock), lock.WithLockTimeout(1, 60))
		if err != nil {
			return s.fault("migrate", err)
		}
		dialect, options = goose.DialectPostgres, append(options, goose.WithSessionLocker(locker))
	}
	p, err := goose.NewProvider(dialect, s.db, dir, options...)
	if err != nil {
		return s.fault("migrate", err)
	}
	if _, err := p.Up(ctx); err != nil {
		return s.fault("migrate", err)
	}
	return nil
}

// prepare prepares the statements that every enrolment needs.
func (s *Store) prepare(ctx context.Context) error {
	s.prepared = map[string]*sql.Stmt{}
	for _, query := range []string{selectCurrent, selectHighest, insertRecord, updateRecord, saveOutcome} {
		text := s.bind(query)
		if s.postgres && query == selectCurrent {
			text += " FOR UPDATE"
		}
		stmt, err := s.db.PrepareContext(ctx, text)
		if err != nil {
			return s.fault("prepare", err)
		}
		s.prepared[query] = stmt
	}
	if !s.postgres {
		var err error
		if s.group, err = newGroup(ctx, s.db); err != nil {
			return s.fault("open", err)
		}
	}
	return nil
}

// in is a prepared statement within a transaction.
func (s *Store) in(ctx context.Context, tx *sql.Tx, query string) *sql.Stmt {
	return tx.StmtContext(ctx, s.prepared[query])
}

// Close closes the database.
func (s *Store) Close() error {
	var err error
	if s.group != nil {
		err = s.group.close()
	}
	if err = errors.Join(err, s.db.Close()); err != nil {
		return s.fault("close", err)
	}
	return nil
}

// fault names a database that fails. Nothing was submitted without having been
// written. A file that cannot be written stays so until somebody makes room; a
// server that cannot be reached, and a lock that another process holds, are over
// when they are over.
func (s *Store) fault(doing string, err error) error {
	code := fault.DiskFull
	switch e, ok := errors.AsType[*sqlite.Error](err); {
	case errors.Is(err, context.Canceled):
		code = fault.Canceled
	case s.postgres, errors.Is(err, context.DeadlineExceeded), ok && e.Code()&0xff == sqliteBusy:
		code = fault.Database
	}
	return fault.New(code, "store: "+doing+" "+s.name, oneLine(err))
}

// lineError is an error in one line: those of pgx have several.
type lineError struct{ err error }

func oneLine(err error) error {
	if !strings.ContainsAny(err.Error(), "\r\n\t") {
		return err
	}
	return lineError{err}
}

// Error is the text with all white space as single blanks.
func (e lineError) Error() string { return strings.Join(strings.Fields(e.err.Error()), " ") }

// Unwrap returns the error as it was.
func (e lineError) Unwrap() error { return e.err }

// bind writes the placeholders of a statement as the database wants them: "?"
// for SQLite, "$1" and on for PostgreSQL. No statement has a "?" in a string.
func (s *Store) bind(query string) string {
	if !s.postgres {
		return query
	}
	var b strings.Builder
	for n := 1; ; n++ {
		before, after, found := strings.Cut(query, "?")
		b.WriteString(before)
		if !found {
			return b.String()
		}
		b.WriteString("$" + strconv.Itoa(n))
		query = after
	}
}

// transact runs f in a transaction, maybe twice. What f has found out counts
// only when transact returns nil.
func (s *Store) transact(ctx context.Context, doing string, f func(tx *sql.Tx) error) error {
	var err error
	if s.postgres {
		err = transact(ctx, s.db, f)
	} else {
		err = s.group.do(&change{ctx: ctx, f: f})
	}
	if err != nil {
		return s.fault(doing, err)
	}
	return nil
}

// failed is the error of a change, nil for none.
func (s *Store) failed(err error) error {
	if err == nil {
		return nil
	}
	return s.fault("write to", err)
}

// change executes one statement and says how many rows it changed.
func (s *Store) change(ctx context.Context, query string, args ...any) (n int64, err error) {
	err = s.transact(ctx, "write to", func(tx *sql.Tx) error {
		done, err := tx.ExecContext(ctx, s.bind(query), args...)
		if err != nil {
			return err
		}
		n, err = done.RowsAffected()
		return err
	})
	return n, err
}
