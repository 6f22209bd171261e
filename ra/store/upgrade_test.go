package store_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/binary"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/pressly/goose/v3"

	"github.com/onlineca/onlineca/internal/interop"
	"github.com/onlineca/onlineca/ra"
	"github.com/onlineca/onlineca/ra/store"
	"github.com/onlineca/onlineca/ra/store/storetest"
)

// oldVersion is the last version of the tables that held requests and
// certificates in PEM, and their hashes.
const oldVersion = 2

// oldRequest is a row of that version.
type oldRequest struct {
	id    string
	state store.State
	r     ra.Request
	cert  []byte // PEM
	reqID int
	next  time.Time
	lease time.Time
}

func TestUpgrade(t *testing.T) {
	t.Run("SQLite", func(t *testing.T) { upgrade(t, sqliteFile(t)) })
	t.Run("PostgreSQL", func(t *testing.T) {
		interop.Need(t, "postgres", "initdb")
		upgrade(t, storetest.Postgres(t)(t))
	})
}

// upgrade makes a database of the old version with requests of every state, and
// looks what this version makes of it.
func upgrade(t *testing.T, location string) {
	now := time.Date(2026, 11, 21, 20, 0, 0, 0, time.UTC)
	ca := storetest.NewAuthority(t, 7)
	old := map[store.State]oldRequest{}
	for i, state := range store.States() {
		o := oldRequest{id: fmt.Sprintf("0190%04d-0000-7000-8000-000000000000", i), state: state, r: storetest.Request(t, fmt.Sprint("SEP", i), "ciscora")}
		switch state {
		case store.Submitting:
			o.lease = now.Add(-time.Second)
		case store.Unknown, store.Pending:
			o.next = now.Add(-time.Second)
		case store.Issued:
			res, err := ca.Enroll(t.Context(), o.r)
			if err != nil {
				t.Fatal(err)
			}
			o.cert, o.reqID = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: res.Certificate.Raw}), res.ReqID
		}
		old[state] = o
	}
	makeOld(t, location, old, now)

	s, err := store.Open(t.Context(), location)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	for state, o := range old {
		rec, err := s.Show(t.Context(), o.id)
		if err != nil || rec.State != state || !bytes.Equal(rec.CSR, o.r.CSR.Raw) || len(rec.CSRHash) != 64 || rec.ReqID != o.reqID {
			t.Errorf("%s: %+v, %v", state, rec, err)
		}
	}
	claim := store.Claim{Owner: "process-2", Lease: time.Minute, Authority: "ca", Keep: time.Hour}
	due, err := s.Due(t.Context(), "ca", now, 10)
	if err != nil || len(due) != 3 {
		t.Errorf("due are %v, %v", due, err)
	}
	if known, err := s.Numbers(t.Context(), "ca", 0); err != nil || !known[7] || len(known) != 1 {
		t.Errorf("the known numbers are %v, %v", known, err)
	}
	afterwards(t, s, claim, old, now)
}

// afterwards has the old requests come again.
func afterwards(t *testing.T, s *store.Store, claim store.Claim, old map[store.State]oldRequest, now time.Time) {
	for state, want := range map[store.State]struct {
		mine bool
		is   store.State
	}{
		store.Submitting: {false, store.Unknown}, store.Unknown: {false, store.Unknown}, store.Pending: {false, store.Pending},
		store.Issued: {false, store.Issued}, store.Denied: {true, store.Submitting},
		store.Failed: {true, store.Submitting}, store.Expired: {true, store.Submitting},
	} {
		rec, mine, err := s.Begin(t.Context(), old[state].r, claim, now)
		if err != nil || mine != want.mine || rec.State != want.is {
			t.Errorf("%s that comes again: %+v, %v, %v", state, rec, mine, err)
			continue
		}
		if mine {
			rec.State, rec.ReqID, rec.Certificate = store.Issued, 100, []byte{0x30, 0}
			if saved, err := s.Save(t.Context(), rec, claim.Owner); !saved || err != nil {
				t.Errorf("%s: %v, %v", state, saved, err)
			}
		}
		block, _ := pem.Decode(old[state].cert)
		if state == store.Issued && (block == nil || !bytes.Equal(rec.Certificate, block.Bytes)) {
			t.Error("the old certificate is another one")
		}
	}
	if _, mine, err := s.Begin(t.Context(), storetest.Request(t, "SEP-new", "ciscora"), claim, now); !mine || err != nil {
		t.Errorf("a new request: %v, %v", mine, err)
	}
}

// makeOld makes the tables of the old version, and the rows.
func makeOld(t *testing.T, location string, old map[store.State]oldRequest, now time.Time) {
	t.Helper()
	driver, dialect := "sqlite", goose.DialectSQLite3
	if store.IsPostgres(location) {
		driver, dialect = "pgx", goose.DialectPostgres
	}
	db, err := sql.Open(driver, location)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	p, err := goose.NewProvider(dialect, db, os.DirFS("migrations"))
	if err == nil {
		_, err = p.UpTo(t.Context(), oldVersion)
	}
	if err != nil {
		t.Fatal(err)
	}
	for _, o := range old {
		csr := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: o.r.CSR.Raw})
		micros := func(at time.Time) int64 { return max(0, at.UnixMicro()) }
		insertOld(t, db, driver, map[string]any{
			"id": o.id, "authority": "ca", "request_key": oldKey(o.r), "is_current": 1, "csr": string(csr), "csr_hash": "of the old version",
			"subject": o.r.CSR.Subject.String(), "operation": string(o.r.Operation), "label": o.r.Label, "template": o.r.Template,
			"client_name": o.r.Client.Name, "client_method": o.r.Client.Method, "client_addr": o.r.Client.Addr,
			"state": string(o.state), "attempts": 1, "req_id": o.reqID, "after_req_id": 0,
			"certificate": string(o.cert), "serial": "1007", "not_after": micros(now.Add(time.Hour)), "code": "", "message": "",
			"created_at": micros(now), "submitted_at": micros(now), "updated_at": micros(now), "next_at": micros(o.next), "tries": 0,
			"lease_owner": "process-1", "lease_until": micros(o.lease),
		})
	}
}

func insertOld(t *testing.T, db *sql.DB, driver string, row map[string]any) {
	t.Helper()
	var names, marks []string
	var args []any
	for name, value := range row {
		names, args = append(names, name), append(args, value)
		mark := "?"
		if driver == "pgx" {
			mark = fmt.Sprint("$", len(args))
		}
		marks = append(marks, mark)
	}
	query := "INSERT INTO requests (" + strings.Join(names, ", ") + ") VALUES (" + strings.Join(marks, ", ") + ")"
	if _, err := db.ExecContext(context.Background(), query, args...); err != nil {
		t.Fatal(err)
	}
}

// The key of a request must not change from one version to the next, or what is
// under way during an upgrade is submitted twice.
func TestTheKeyOfARequestStaysTheSame(t *testing.T) {
	r := storetest.Request(t, "SEP1", "ciscora")
	if key, err := store.KeyOf(r, "ca"); err != nil || key != oldKey(r)[:32] {
		t.Errorf("%s, %v", key, err)
	}
}

// oldKey is the key of that version, which was longer.
func oldKey(r ra.Request) string {
	h := sha256.New()
	for _, part := range []string{
		"ca", "simpleenroll", r.Label, r.Template, r.Client.Name, r.Client.Method, string(r.CSR.RawTBSCertificateRequest),
	} {
		_ = binary.Write(h, binary.BigEndian, uint64(len(part)))
		h.Write([]byte(part))
	}
	return hex.EncodeToString(h.Sum(nil))
}
