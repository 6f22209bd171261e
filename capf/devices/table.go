// Package devices keeps CAPF's device table in one SQLite file. It is a room of
// its own so that the protocol (package capf) needs no database.
//
// The file survives the sudden death of the process: every change is one
// transaction in write-ahead mode. Several processes may use it at once.
package devices

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
	"strings"
	"time"

	"github.com/pressly/goose/v3"
	_ "modernc.org/sqlite" // the driver "sqlite"

	"github.com/onlineca/onlineca/capf"
	"github.com/onlineca/onlineca/ra/fault"
)

//go:embed migrations/*.sql
var migrations embed.FS

// busyTimeout is how long a change waits for that of another process.
const busyTimeout = 30 * time.Second

// readers is how many queries can run beside a change.
const readers = 4

// Table is an open device table. It may be used by any number of goroutines.
type Table struct {
	path  string
	write *sql.DB // one connection: changes queue here instead of meeting "database is locked"
	read  *sql.DB
}

var _ capf.DeviceTable = (*Table)(nil)

// Open opens the table in the file path, and makes it if it is not there,
// readable by its owner alone.
func Open(ctx context.Context, path string) (*Table, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fault.New(fault.DiskFull, "open the device table", err)
	}
	_ = f.Close()
	t := &Table{path: path}
	if t.write, err = open(path, 1); err == nil {
		t.read, err = open(path, readers)
	}
	if err == nil {
		err = t.migrate(ctx)
	}
	if err != nil {
		_ = t.Close()
		return nil, fmt.Errorf("open the device table %s: %w", path, err)
	}
	return t, nil
}

func open(path string, connections int) (*sql.DB, error) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	// SQLite reads file:///C:/dir/file on Windows (sqlite.org/uri.html).
	slashed := "/" + strings.TrimPrefix(filepath.ToSlash(abs), "/")
	query := url.Values{"_txlock": {"immediate"}, "_pragma": {
		fmt.Sprintf("busy_timeout(%d)", busyTimeout.Milliseconds()), "journal_mode(WAL)", "synchronous(NORMAL)",
	}}
	db, err := sql.Open("sqlite", (&url.URL{Scheme: "file", Path: slashed, RawQuery: query.Encode()}).String())
	if err != nil {
		return nil, err
	}
	db.SetMaxOpenConns(connections)
	db.SetMaxIdleConns(connections)
	return db, nil
}

func (t *Table) migrate(ctx context.Context) error {
	dir, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return err
	}
	p, err := goose.NewProvider(goose.DialectSQLite3, t.write, dir)
	if err != nil {
		return err
	}
	_, err = p.Up(ctx)
	return err
}

// Close closes the file.
func (t *Table) Close() error {
	var errs []error
	for _, db := range []*sql.DB{t.read, t.write} {
		if db != nil {
			errs = append(errs, db.Close())
		}
	}
	return errors.Join(errs...)
}

// columns are those of the table, in the order of [scan] and [values].
var columns = []string{
	"name", "model", "authenticationstring", "tkauthenticationmode", "keyorder", "tkkeysize", "eckeysize", "issuer", "signing",
	"tkcertificateoperation", "upgradefinishtime", "tkcertificatestatus", "reason", "code", "lastcontact",
	"lsc", "publickey", "lscvaliduntil", "lscissuername", "lscissuervaliduntil",
	"csr", "csrtime", "issued", "issuedissuervaliduntil",
}

// The statements are made of the names above and of nothing else.
var (
	selectDevice = "SELECT " + strings.Join(columns, ", ") + " FROM device"
	insertDevice = "INSERT INTO device (" + strings.Join(columns, ", ") + ") VALUES (?" + strings.Repeat(", ?", len(columns)-1) + ")" //nolint:gosec // See above.
	updateDevice = "UPDATE device SET " + strings.Join(columns, " = ?, ") + " = ? WHERE name = ?"                                     //nolint:gosec // See above.
)

func values(d *capf.Device) []any {
	return []any{
		d.Name, d.Model, d.AuthString, int(d.AuthMode), int(d.KeyOrder), int(d.KeySize), d.ECKeySize, string(d.Issuer), string(d.Signing),
		int(d.Operation), capf.FormatFinishBy(d.FinishBy), int(d.Status), d.Reason, d.Code, seconds(d.LastContact),
		d.LSC, d.PublicKey, seconds(d.LSCValidUntil), d.LSCIssuer, seconds(d.LSCIssuerValidUntil),
		d.CSR, seconds(d.CSRTime), d.Issued, seconds(d.IssuedIssuerUntil),
	}
}

// scanner is a *sql.Row or *sql.Rows.
type scanner interface{ Scan(dest ...any) error }

func scan(row scanner) (capf.Device, error) {
	var d capf.Device
	var finish string
	var contact, lscUntil, lscIssuerUntil, csrTime, issuedUntil int64
	err := row.Scan(
		&d.Name, &d.Model, &d.AuthString, &d.AuthMode, &d.KeyOrder, &d.KeySize, &d.ECKeySize, &d.Issuer, &d.Signing,
		&d.Operation, &finish, &d.Status, &d.Reason, &d.Code, &contact,
		&d.LSC, &d.PublicKey, &lscUntil, &d.LSCIssuer, &lscIssuerUntil,
		&d.CSR, &csrTime, &d.Issued, &issuedUntil,
	)
	if err != nil {
		return d, err
	}
	if d.FinishBy, err = capf.ParseFinishBy(finish); err != nil {
		return d, fmt.Errorf("device %s: %w", d.Name, err)
	}
	d.LastContact, d.LSCValidUntil, d.LSCIssuerValidUntil = moment(contact), moment(lscUntil), moment(lscIssuerUntil)
	d.CSRTime, d.IssuedIssuerUntil = moment(csrTime), moment(issuedUntil)
	return d, nil
}

func seconds(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.Unix()
}

func moment(s int64) time.Time {
	if s == 0 {
		return time.Time{}
	}
	return time.Unix(s, 0).UTC()
}

// Device returns the row of a device; case does not matter. The error wraps
// capf.ErrNoDevice if there is none.
func (t *Table) Device(ctx context.Context, name string) (capf.Device, error) {
	return find(ctx, t.read, name)
}

type querier interface {
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
}

func find(ctx context.Context, db querier, name string) (capf.Device, error) {
	d, err := scan(db.QueryRowContext(ctx, selectDevice+" WHERE name = ?", name))
	if errors.Is(err, sql.ErrNoRows) {
		return d, fmt.Errorf("%w: %s", capf.ErrNoDevice, name)
	}
	if err != nil {
		return d, fmt.Errorf("read device %s: %w", name, err)
	}
	return d, nil
}

// Update changes the row of a device in one transaction.
func (t *Table) Update(ctx context.Context, name string, change func(*capf.Device) error) (capf.Device, error) {
	var d capf.Device
	err := t.change(ctx, func(tx *sql.Tx) error {
		var err error
		if d, err = find(ctx, tx, name); err != nil {
			return err
		}
		stored := d.Name
		if err := change(&d); err != nil {
			return err
		}
		if _, err := tx.ExecContext(ctx, updateDevice, append(values(&d), stored)...); err != nil {
			return fmt.Errorf("write device %s: %w", name, err)
		}
		return nil
	})
	return d, err
}

// change runs f in a transaction, which is undone if f fails.
func (t *Table) change(ctx context.Context, f func(*sql.Tx) error) error {
	tx, err := t.write.BeginTx(ctx, nil)
	if err != nil {
		return fmt.Errorf("change the device table %s: %w", t.path, err)
	}
	defer tx.Rollback() //nolint:errcheck // It does nothing after a commit.
	if err := f(tx); err != nil {
		return err
	}
	if err := tx.Commit(); err != nil {
		return fmt.Errorf("change the device table %s: %w", t.path, err)
	}
	return nil
}

// Add adds devices: all of them, or none if one is there already or is not one
// that CAPF can work with.
func (t *Table) Add(ctx context.Context, all ...capf.Device) error {
	return t.change(ctx, func(tx *sql.Tx) error {
		for i := range all {
			d := &all[i]
			if err := d.Check(); err != nil {
				return err
			}
			switch _, err := find(ctx, tx, d.Name); {
			case err == nil:
				return fmt.Errorf("device %s is in the table already", d.Name)
			case !errors.Is(err, capf.ErrNoDevice):
				return err
			}
			if _, err := tx.ExecContext(ctx, insertDevice, values(d)...); err != nil {
				return fmt.Errorf("add device %s: %w", d.Name, err)
			}
		}
		return nil
	})
}

// Remove removes devices: all of them, or none if one is not there. It returns
// their rows: what is under way for them has nobody to go to any more.
func (t *Table) Remove(ctx context.Context, names ...string) (removed []capf.Device, err error) {
	err = t.change(ctx, func(tx *sql.Tx) error {
		for _, name := range names {
			d, err := find(ctx, tx, name)
			if err != nil {
				return err
			}
			if _, err := tx.ExecContext(ctx, "DELETE FROM device WHERE name = ?", d.Name); err != nil {
				return fmt.Errorf("remove device %s: %w", name, err)
			}
			removed = append(removed, d)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return removed, nil
}

// Schedule sets the operation for the next contact of each of the devices: all
// of them, or none if one is not there or cannot do it. A zero finishBy is no
// deadline.
func (t *Table) Schedule(ctx context.Context, op capf.Operation, finishBy time.Time, names ...string) error {
	return t.change(ctx, func(tx *sql.Tx) error {
		for _, name := range names {
			d, err := find(ctx, tx, name)
			if err != nil {
				return err
			}
			d.Schedule(op, finishBy)
			if err := d.Check(); err != nil {
				return err
			}
			if _, err := tx.ExecContext(ctx, updateDevice, append(values(&d), d.Name)...); err != nil {
				return fmt.Errorf("schedule device %s: %w", name, err)
			}
		}
		return nil
	})
}
