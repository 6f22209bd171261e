package devices

import (
	"context"
	"database/sql"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/onlineca/onlineca/capf"
)

// field is one column of a CSV file. A field without set is written only: it is
// what CAPF has found out, and an import does not change it.
type field struct {
	name string
	get  func(d *capf.Device) string
	set  func(d *capf.Device, s string) error
}

var fields = []field{
	{"name", func(d *capf.Device) string { return d.Name }, func(d *capf.Device, s string) error { d.Name = s; return nil }},
	{"model", func(d *capf.Device) string { return d.Model }, func(d *capf.Device, s string) error { d.Model = s; return nil }},
	{"auth_mode", func(d *capf.Device) string { return d.AuthMode.String() }, parsed(capf.ParseAuthMode, func(d *capf.Device) *capf.AuthMode { return &d.AuthMode })},
	{"auth_string", func(d *capf.Device) string { return d.AuthString }, func(d *capf.Device, s string) error { d.AuthString = s; return nil }},
	{"key_order", func(d *capf.Device) string { return d.KeyOrder.String() }, parsed(capf.ParseKeyOrder, func(d *capf.Device) *capf.KeyOrder { return &d.KeyOrder })},
	{"key_size", func(d *capf.Device) string { return d.KeySize.String() }, parsed(capf.ParseKeySize, func(d *capf.Device) *capf.KeySize { return &d.KeySize })},
	{"ec_key_size", func(d *capf.Device) string { return strconv.Itoa(d.ECKeySize) }, parsed(strconv.Atoi, func(d *capf.Device) *int { return &d.ECKeySize })},
	{"issuer", func(d *capf.Device) string { return string(d.Issuer) }, func(d *capf.Device, s string) error { d.Issuer = capf.IssuerKind(s); return nil }},
	{"signing", func(d *capf.Device) string { return string(d.Signing) }, func(d *capf.Device, s string) error { d.Signing = capf.Signing(s); return nil }},
	{"operation", func(d *capf.Device) string { return d.Operation.String() }, setOperation},
	{"finish_by", func(d *capf.Device) string { return capf.FormatFinishBy(d.FinishBy) }, parsed(capf.ParseFinishBy, func(d *capf.Device) *time.Time { return &d.FinishBy })},
	{"status", func(d *capf.Device) string { return d.Status.String() }, nil},
	{"reason", func(d *capf.Device) string { return d.Reason }, nil},
	{"code", func(d *capf.Device) string { return d.Code }, nil},
	{"last_contact", func(d *capf.Device) string { return stamp(d.LastContact) }, nil},
	{"lsc_valid_until", func(d *capf.Device) string { return stamp(d.LSCValidUntil) }, nil},
	{"lsc_issuer", func(d *capf.Device) string { return d.LSCIssuer }, nil},
	{"lsc_issuer_valid_until", func(d *capf.Device) string { return stamp(d.LSCIssuerValidUntil) }, nil},
}

// parsed is a setter that reads a value of some type into its place.
func parsed[T any](parse func(string) (T, error), place func(*capf.Device) *T) func(*capf.Device, string) error {
	return func(d *capf.Device, s string) error {
		v, err := parse(s)
		if err != nil {
			return err
		}
		*place(d) = v
		return nil
	}
}

// setOperation schedules, so that the status says so.
func setOperation(d *capf.Device, s string) error {
	op, err := capf.ParseOperation(s)
	if err == nil && op != d.Operation {
		d.Schedule(op, d.FinishBy)
	}
	return err
}

func stamp(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(time.RFC3339)
}

// Export writes the devices that f chooses as CSV with a header. The file holds
// authentication strings: keep it from other people's eyes.
func (t *Table) Export(ctx context.Context, w io.Writer, f Filter) error {
	all, err := t.List(ctx, f)
	if err != nil {
		return err
	}
	out := csv.NewWriter(w)
	record := make([]string, len(fields))
	for i, f := range fields {
		record[i] = f.name
	}
	err = out.Write(record)
	for n := range all {
		if err != nil {
			break
		}
		for i, f := range fields {
			record[i] = inert(f.get(&all[n]))
		}
		err = out.Write(record)
	}
	out.Flush()
	if err = errors.Join(err, out.Error()); err != nil {
		return fmt.Errorf("export devices: %w", err)
	}
	return nil
}

// inert keeps a spreadsheet from taking a phone's words for a formula.
func inert(s string) string {
	if s != "" && strings.ContainsRune("=+-@", rune(s[0])) {
		return "'" + s
	}
	return s
}

// ImportCSV adds the devices of a CSV file with a header, and changes those that
// are there already: all lines, or none if one is wrong. Only the column name
// must be there; a column that is absent, or an empty value, leaves a device
// that is there as it is and gives a new one the default. An authentication
// string without a mode makes the mode that of the string. What CAPF has found
// out (status, reason, code, last_contact, lsc_…) is not read. It returns how
// many devices were added and changed.
func (t *Table) ImportCSV(ctx context.Context, r io.Reader) (added, changed int, err error) {
	in := csv.NewReader(r)
	in.TrimLeadingSpace = true
	header, err := in.Read()
	if errors.Is(err, io.EOF) {
		return 0, 0, errors.New("import devices: the file is empty: its first line names the columns")
	}
	if err != nil {
		return 0, 0, fmt.Errorf("import devices: read the header: %w", err)
	}
	columns, err := columnsOf(header)
	if err != nil {
		return 0, 0, fmt.Errorf("import devices: %w", err)
	}
	err = t.change(ctx, func(tx *sql.Tx) error {
		for {
			record, err := in.Read()
			if errors.Is(err, io.EOF) {
				return nil
			}
			if err != nil {
				return err
			}
			isNew, err := importRecord(ctx, tx, columns, record)
			if err != nil {
				line, _ := in.FieldPos(0)
				return fmt.Errorf("line %d: %w", line, err)
			}
			if isNew {
				added++
			} else {
				changed++
			}
		}
	})
	if err != nil {
		return 0, 0, fmt.Errorf("import devices: nothing was changed: %w", err)
	}
	return added, changed, nil
}

func columnsOf(header []string) ([]*field, error) {
	columns := make([]*field, len(header))
	named := false
	for i, h := range header {
		h = strings.ToLower(strings.TrimSpace(strings.TrimPrefix(h, "\ufeff")))
		n := slices.IndexFunc(fields, func(f field) bool { return f.name == h })
		if n < 0 {
			known := make([]string, len(fields))
			for i, f := range fields {
				known[i] = f.name
			}
			return nil, fmt.Errorf("there is no column %.40q: use %s", h, strings.Join(known, ", "))
		}
		columns[i] = &fields[n]
		named = named || h == "name"
	}
	if !named {
		return nil, errors.New("the header has no column \"name\"")
	}
	return columns, nil
}

func importRecord(ctx context.Context, tx *sql.Tx, columns []*field, record []string) (isNew bool, err error) {
	name := ""
	for i, f := range columns {
		if f.name == "name" {
			name = strings.TrimSpace(record[i])
		}
	}
	d, err := find(ctx, tx, name)
	isNew = errors.Is(err, capf.ErrNoDevice)
	if err != nil && !isNew {
		return false, err
	}
	if isNew {
		d = capf.NewDevice(name)
	}
	stored := d.Name
	given := map[string]bool{}
	for i, f := range columns {
		value := strings.TrimSpace(record[i])
		if f.set == nil || value == "" {
			continue
		}
		given[f.name] = true
		if err := f.set(&d, value); err != nil {
			return false, fmt.Errorf("device %s: %s: %w", name, f.name, err)
		}
	}
	if given["auth_string"] && !given["auth_mode"] {
		d.AuthMode = capf.AuthByString // or nobody would ask for it
	}
	if err := d.Check(); err != nil {
		return false, err
	}
	if isNew {
		_, err = tx.ExecContext(ctx, insertDevice, values(&d)...)
	} else {
		_, err = tx.ExecContext(ctx, updateDevice, append(values(&d), stored)...)
	}
	return isNew, err
}
