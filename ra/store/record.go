package store

import (
	"crypto/sha256"
	"crypto/x509"
	"database/sql"
	"encoding/binary"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/onlineca/onlineca/ra"
)

// State is what is known of a request.
type State string

// A request goes from Submitting to one of the others. Submitting whose lease
// has lapsed, because its process died, becomes Unknown. Unknown is settled:
// it becomes Pending or Issued if the certificate authority has the request,
// Failed if it has not.
const (
	// Submitting: it is being submitted, by the process that holds the lease.
	Submitting State = "submitting"
	// Unknown: it was submitted, and what became of it is not known.
	Unknown State = "unknown"
	// Pending: the certificate authority has it under ReqID, and the
	// certificate is not here yet.
	Pending State = "pending"
	// Issued: the certificate is here.
	Issued State = "issued"
	// Denied: the certificate authority refused it.
	Denied State = "denied"
	// Failed: it has not reached the certificate authority.
	Failed State = "failed"
	// Expired: it was pending for too long, or the certificate authority does
	// not know it any more, and it is no longer asked for.
	Expired State = "expired"
)

// States are all of them, in the order of a request's life.
func States() []State {
	return []State{Submitting, Unknown, Pending, Issued, Denied, Failed, Expired}
}

// open tells whether somebody still has to do something about the request. In SQL
// it is state >= 'pending', and a new state must fit that.
func (s State) open() bool { return s == Submitting || s == Unknown || s == Pending }

// Refused tells whether the certificate authority has been asked, and there will
// be no certificate.
func (r Record) Refused() bool { return r.State == Denied || r.State == Expired }

// Record is one request and what became of it.
type Record struct {
	ID string `json:"id"`
	// Authority is the certificate authority that the request numbers belong
	// to, as configured.
	Authority string `json:"authority,omitempty"`
	// Key is equal for requests that are one and the same. See [KeyOf].
	Key string `json:"-"`
	// Current is false for a record that a later one of the same Key follows.
	Current bool `json:"current"`

	CSR       []byte       `json:"csr"`      // DER
	CSRHash   string       `json:"csr_hash"` // SHA-256 of the DER, hexadecimal
	Subject   string       `json:"subject"`
	Operation ra.Operation `json:"operation"`
	Label     string       `json:"label,omitempty"`
	Template  string       `json:"template,omitempty"`

	ClientName   string `json:"client,omitempty"`
	ClientMethod string `json:"client_method,omitempty"`
	ClientAddr   string `json:"client_addr,omitempty"`

	State State `json:"state"`
	// Attempts is how often it was submitted, or tried to be.
	Attempts int `json:"attempts"`
	// ReqID is the number at the certificate authority, 0 if it is not known.
	ReqID int `json:"req_id,omitempty"`
	// AfterReqID is the highest number that was known when the request was
	// submitted: its own, if it has one, is higher. 0 if none was known.
	AfterReqID int `json:"after_req_id,omitempty"`

	Certificate []byte    `json:"certificate,omitempty"` // DER
	Serial      string    `json:"serial,omitempty"`      // hexadecimal
	NotAfter    time.Time `json:"not_after,omitzero"`

	// Code names the fault that the last try ended with, and Message says it in
	// one line.
	Code    string `json:"code,omitempty"`
	Message string `json:"message,omitempty"`

	Created time.Time `json:"created"`
	// Submitted is when it was to be submitted; where the answer was lost, the
	// last moment at which it can have been sent.
	Submitted time.Time `json:"submitted"`
	Updated   time.Time `json:"updated"`
	// Next is when the certificate authority is asked again, Tries how often it
	// was asked since the submission. Of a refusal that was found out in the
	// background Next is until when its client is told.
	Next  time.Time `json:"next,omitzero"`
	Tries int       `json:"tries,omitempty"`

	// LeaseOwner is the process that works on the request until LeaseUntil.
	LeaseOwner string    `json:"lease_owner,omitempty"`
	LeaseUntil time.Time `json:"lease_until,omitzero"`

	// Audited says that the audit log has a line for the certificate.
	Audited bool `json:"-"`

	row int64 // where SQLite has just put it, 0 if that is not known
}

// KeyOf says which requests are the same one: the same content from the same
// client, by the same way in, to the same authority. The signature of the
// request does not count, since ECDSA signs differently each time; neither does
// a challengePassword, which proves possession to one TLS connection (RFC 7030
// section 3.5) and so changes with every try. It is 128 bits of a SHA-256,
// hexadecimal: whoever finds two requests of the same client with one key gets the
// same certificate for both.
func KeyOf(r ra.Request, authority string) (string, error) {
	if r.CSR == nil {
		return "", errors.New("the request has no CSR")
	}
	_, bound, err := ra.ChallengePassword(r.CSR)
	if err != nil {
		return "", err
	}
	text := make([]byte, 0, 1024)
	for _, p := range []string{authority, string(r.Operation), r.Label, r.Template, r.Client.Name, r.Client.Method} {
		text = append(binary.BigEndian.AppendUint64(text, uint64(len(p))), p...)
	}
	add := func(p []byte) { text = append(binary.BigEndian.AppendUint64(text, uint64(len(p))), p...) }
	if bound {
		add(r.CSR.RawSubject)
		add(r.CSR.RawSubjectPublicKeyInfo)
		for _, e := range r.CSR.Extensions {
			add([]byte(fmt.Sprint(e.Id, e.Critical)))
			add(e.Value)
		}
	} else {
		add(r.CSR.RawTBSCertificateRequest)
	}
	return hashOf(text)[:keyLength], nil
}

// keyLength is that of keys, in hexadecimal digits.
const keyLength = 32

// newRecord is the record of a request that is about to be submitted, but for the
// CSR's hash, which nobody asks of it.
func newRecord(r ra.Request, authority string) (Record, error) {
	key, err := KeyOf(r, authority)
	if err != nil {
		return Record{}, err
	}
	return Record{
		Authority: authority, Key: key, Current: true,
		CSR: r.CSR.Raw, Subject: clean(r.CSR.Subject.String()),
		Operation: r.Operation, Label: clean(r.Label), Template: clean(r.Template),
		ClientName: clean(r.Client.Name), ClientMethod: clean(r.Client.Method), ClientAddr: clean(r.Client.Addr),
		State: Submitting,
	}, nil
}

// hashOf is the SHA-256 of bytes, hexadecimal.
func hashOf(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

// clean makes a text one that every database takes: PostgreSQL refuses NULs and
// bytes that are not UTF-8.
func clean(s string) string {
	return strings.ReplaceAll(strings.ToValidUTF8(s, "\uFFFD"), "\x00", "\uFFFD")
}

// Request is what the record was made of, so that it can be asked for again.
func (r Record) Request() (*x509.CertificateRequest, error) {
	return x509.ParseCertificateRequest(r.CSR)
}

// orphaned says that the process that was submitting the request died between
// writing that and learning the outcome. Until its lease ended it may have lived,
// waited for its turn, and sent the request.
func (r *Record) orphaned(now time.Time) {
	r.State, r.Submitted, r.Updated, r.Tries = Unknown, r.LeaseUntil, now, 0
}

// issue puts the certificate into the record.
func (r *Record) issue(reqID int, cert *x509.Certificate) {
	r.State, r.Code, r.Message = Issued, "", ""
	if reqID != 0 {
		r.ReqID = reqID
	}
	r.Certificate, r.NotAfter = cert.Raw, cert.NotAfter
	r.Serial = hex.EncodeToString(cert.SerialNumber.Bytes())
}

// columns are those of the table, in the order of [Store.values] and [scan].
var columns = []string{
	"id", "authority", "short_key", "is_current", "csr", "subject", "operation", "label", "template",
	"client_name", "client_method", "client_addr", "state", "attempts", "req_id", "after_req_id",
	"certificate", "serial", "not_after", "code", "message",
	"created_at", "submitted_at", "updated_at", "next_at", "tries", "lease_owner", "lease_until", "audited",
}

// The statements are made of the names above and of nothing else.
var (
	selectRecord = "SELECT " + strings.Join(columns, ", ") + " FROM requests "
	insertRecord = "INSERT INTO requests (" + strings.Join(columns, ", ") + ") VALUES (?" + strings.Repeat(", ?", len(columns)-1) + ") ON CONFLICT DO NOTHING"
	updateRecord = "UPDATE requests SET " + strings.Join(columns[1:], " = ?, ") + " = ? WHERE id = ?"
	// saveOutcome leaves alone what a request was when it came.
	saveOutcome = "UPDATE requests SET " + strings.Join(outcomeColumns, " = ?, ") + " = ? " +
		"WHERE id = ? AND (lease_owner = ? OR (state <> 'issued' AND ? = 'issued'))"
	selectCurrent = selectRecord + "WHERE short_key = ? AND is_current = 1"
	selectHighest = "SELECT COALESCE(MAX(req_id), 0) FROM requests WHERE authority = ? AND req_id > 0"
)

// outcomeColumns are those that [Store.Save] writes, in the order of
// [Store.outcome].
var outcomeColumns = []string{
	"state", "req_id", "after_req_id", "certificate", "serial", "not_after", "code", "message",
	"submitted_at", "updated_at", "next_at", "tries", "lease_owner", "lease_until", "audited",
}

func (s *Store) outcome(r *Record) []any {
	return []any{
		string(r.State), r.ReqID, r.AfterReqID, s.stored(certBlock, r.Certificate), r.Serial, stamp(r.NotAfter), r.Code, clean(r.Message),
		stamp(r.Submitted), stamp(r.Updated), stamp(r.Next), r.Tries, "", int64(0), truth(r.Audited),
	}
}

const csrBlock, certBlock = "CERTIFICATE REQUEST", "CERTIFICATE"

func (s *Store) values(r Record) []any {
	return []any{
		r.ID, r.Authority, r.Key, truth(r.Current), s.stored(csrBlock, r.CSR), r.Subject, string(r.Operation), r.Label, r.Template,
		r.ClientName, r.ClientMethod, r.ClientAddr, string(r.State), r.Attempts, r.ReqID, r.AfterReqID,
		s.stored(certBlock, r.Certificate), r.Serial, stamp(r.NotAfter), r.Code, clean(r.Message),
		stamp(r.Created), stamp(r.Submitted), stamp(r.Updated), stamp(r.Next), r.Tries, r.LeaseOwner, stamp(r.LeaseUntil), truth(r.Audited),
	}
}

// stored is a request or certificate as the database holds it: PostgreSQL in PEM,
// SQLite, which takes any bytes in any column and whose pages this process
// writes itself, as it is. What SQLite has in PEM is of an older version.
func (s *Store) stored(kind string, der []byte) any {
	switch {
	case len(der) == 0:
		return ""
	case s.postgres:
		return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
	default:
		return der
	}
}

// insertFirst writes down a request that nobody has sent before: what such a
// record has in any case stands in the statement, for binding a value costs
// SQLite about as much as storing it.
var insertFirst = "INSERT INTO requests (" + strings.Join(freshColumns, ", ") + `,
	is_current, state, attempts, req_id, certificate, serial, not_after, code, message, next_at, tries, audited)
	VALUES (?` + strings.Repeat(", ?", len(freshColumns)-1) + `,
	1, 'submitting', 1, 0, '', '', 0, '', '', 0, 0, 0) ON CONFLICT DO NOTHING`

// freshColumns are those that differ, in the order of [Store.fresh], which appends
// their values to a list.
var freshColumns = []string{
	"id", "authority", "short_key", "csr", "subject", "operation", "label", "template",
	"client_name", "client_method", "client_addr", "after_req_id",
	"created_at", "submitted_at", "updated_at", "lease_owner", "lease_until",
}

func (s *Store) fresh(to []any, r *Record) []any {
	return append(to,
		r.ID, r.Authority, r.Key, s.stored(csrBlock, r.CSR), r.Subject, string(r.Operation), r.Label, r.Template,
		r.ClientName, r.ClientMethod, r.ClientAddr, r.AfterReqID,
		stamp(r.Created), stamp(r.Submitted), stamp(r.Updated), r.LeaseOwner, stamp(r.LeaseUntil),
	)
}

// saveIssued is saveOutcome for what [Record.plain] says.
const saveIssued = `UPDATE requests SET state = 'issued', code = '', message = '', next_at = 0, lease_owner = '', lease_until = 0,
	req_id = ?, after_req_id = ?, certificate = ?, serial = ?, not_after = ?, submitted_at = ?, updated_at = ?, tries = ?, audited = ?
	WHERE id = ? AND (lease_owner = ? OR state <> 'issued')`

// saveIssuedRow finds the record by its row, and makes sure that it is the one.
const saveIssuedRow = saveIssued + " AND rowid = ?"

// plain tells whether the outcome of a request is a certificate and no more.
func (r *Record) plain() bool {
	return r.State == Issued && r.Code == "" && r.Message == "" && r.Next.IsZero()
}

func (s *Store) issued(to []any, r *Record, owner string) []any {
	return append(to,
		r.ReqID, r.AfterReqID, s.stored(certBlock, r.Certificate), r.Serial, stamp(r.NotAfter),
		stamp(r.Submitted), stamp(r.Updated), r.Tries, truth(r.Audited), r.ID, owner,
	)
}

// scan reads a record from a row of [columns].
func scan(row interface{ Scan(dest ...any) error }) (r Record, err error) {
	var current int
	var csr, cert []byte
	var operation, state string
	var notAfter, created, submitted, updated, next, lease int64
	err = row.Scan(
		&r.ID, &r.Authority, &r.Key, &current, &csr, &r.Subject, &operation, &r.Label, &r.Template,
		&r.ClientName, &r.ClientMethod, &r.ClientAddr, &state, &r.Attempts, &r.ReqID, &r.AfterReqID,
		&cert, &r.Serial, &notAfter, &r.Code, &r.Message,
		&created, &submitted, &updated, &next, &r.Tries, &r.LeaseOwner, &lease, &r.Audited,
	)
	if err != nil {
		return Record{}, err
	}
	if !slices.Contains(States(), State(state)) {
		return Record{}, fmt.Errorf("record %s has the state %q, which this version does not know", r.ID, state)
	}
	r.Current, r.CSR, r.Certificate = current == 1, der(csr), der(cert)
	r.CSRHash = hashOf(r.CSR)
	r.Operation, r.State = ra.Operation(operation), State(state)
	r.NotAfter, r.Created, r.Submitted = at(notAfter), at(created), at(submitted)
	r.Updated, r.Next, r.LeaseUntil = at(updated), at(next), at(lease)
	return r, nil
}

// scanAll reads all rows.
func scanAll(rows *sql.Rows) (all []Record, err error) {
	defer func() { _ = rows.Close() }() // what fails shows in rows.Err
	for rows.Next() {
		r, err := scan(rows)
		if err != nil {
			return nil, err
		}
		all = append(all, r)
	}
	return all, rows.Err()
}

func truth(b bool) int {
	if b {
		return 1
	}
	return 0
}

// der takes a stored request or certificate out of its armour, if it has one.
// DER begins with 0x30, which is no dash.
func der(stored []byte) []byte {
	if len(stored) == 0 {
		return nil
	}
	if stored[0] != '-' {
		return stored
	}
	block, _ := pem.Decode(stored)
	if block == nil {
		return nil
	}
	return block.Bytes
}

// stamp is a time as it is stored: microseconds since 1970, 0 for none.
func stamp(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMicro()
}

func at(micros int64) time.Time {
	if micros == 0 {
		return time.Time{}
	}
	return time.UnixMicro(micros).UTC()
}
