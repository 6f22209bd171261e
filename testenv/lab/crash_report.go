package lab

import (
	"bytes"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"time"

	"github.com/onlineca/onlineca/internal/app"
)

// CrashReport is what a crash test found.
type CrashReport struct {
	Seed      uint64
	For       time.Duration
	Processes int
	Clients   int
	Database  string // "SQLite" or "PostgreSQL"

	// Kills counts the processes killed with SIGKILL, KilledStarting those
	// among them that were killed while they started, Ended those that ended by
	// themselves, since certsrv failed while they started.
	Kills, KilledStarting, Ended int
	// Certificates is how many the clients have got, Tries how often they asked
	// for them, Longest how long one of them took.
	Certificates, Tries int
	Longest             time.Duration
	// Answers counts what clients got in place of a certificate, by fault.
	Answers map[string]int
	// Faults counts what happened to certsrv, AnswersLost those after which a
	// certificate had been issued and the answer was lost.
	Faults      map[string]int
	AnswersLost int

	// Submissions and Issued are the mock's: requests, and certificates.
	Submissions, Issued int
	// Records is how many requests the store has. Answered had their
	// certificate at the first try, Found were asked after by number or looked
	// for, Anew had never arrived and were submitted again.
	Records, Answered, Found, Anew int
	// Unsettled are those that are neither issued nor over.
	Unsettled  []app.RequestRecord
	AuditLines int

	// Violations are the promises that were not kept, one line each. None: all
	// is well.
	Violations []string
}

func newCrashReport(c CrashConfig) *CrashReport {
	r := &CrashReport{
		Seed: c.Seed, For: c.For, Processes: c.Processes, Clients: c.Clients,
		Database: "PostgreSQL", Answers: map[string]int{},
	}
	if c.Store == "sqlite" {
		r.Database = "SQLite"
	}
	return r
}

// settled counts a record.
func (r *CrashReport) settled(rec app.RequestRecord) {
	switch {
	case rec.State != "issued":
		r.Unsettled = append(r.Unsettled, rec)
	case rec.Attempts > 1:
		r.Anew++
	case rec.Tries > 0:
		r.Found++
	default:
		r.Answered++
	}
}

// Write writes the report for a person.
func (r *CrashReport) Write(w io.Writer) error {
	var b bytes.Buffer
	line := func(name, format string, args ...any) {
		fmt.Fprintf(&b, "%-14s "+format+"\n", append([]any{name}, args...)...)
	}
	line("test", "%v on %s, %d processes, %d clients, seed %d", r.For, r.Database, r.Processes, r.Clients, r.Seed)
	line("kills", "%d, of them %d while starting; %d more starts failed because certsrv did", r.Kills, r.KilledStarting, r.Ended)
	line("clients", "%d certificates in %d tries, the longest after %.1f s", r.Certificates, r.Tries, r.Longest.Seconds())
	line("told instead", "%s", counted(r.Answers))
	line("certsrv", "%d submissions, %d certificates; %d answers lost", r.Submissions, r.Issued, r.AnswersLost)
	line("faults", "%s", counted(r.Faults))
	line("store", "%d records: %d answered at once, %d found again by their number, %d had never arrived and were submitted anew, %d not settled",
		r.Records, r.Answered, r.Found, r.Anew, len(r.Unsettled))
	line("audit", "%d lines", r.AuditLines)
	for _, u := range r.Unsettled {
		line("not settled", "record %s: %s, %s, submitted %s after request %d, request %d, %d attempts, asked after %d times: %s %s", u.ID, u.Subject, u.State,
			u.Submitted.Format(time.RFC3339Nano), u.AfterReqID, u.ReqID, u.Attempts, u.Tries, u.Code, u.Message)
	}
	const most = 50
	for _, v := range r.Violations[:min(len(r.Violations), most)] {
		line("VIOLATED", "%s", v)
	}
	if n := len(r.Violations) - most; n > 0 {
		line("VIOLATED", "%d more times", n)
	}
	if len(r.Violations) == 0 {
		line("result", "nothing lost, nothing twice")
	}
	if _, err := w.Write(b.Bytes()); err != nil {
		return fmt.Errorf("crash: %w", err)
	}
	return nil
}

// counted lists counts, the largest first.
func counted(counts map[string]int) string {
	var b bytes.Buffer
	names := slices.SortedFunc(maps.Keys(counts), func(x, y string) int {
		if d := counts[y] - counts[x]; d != 0 {
			return d
		}
		return bytes.Compare([]byte(x), []byte(y))
	})
	for i, n := range names {
		if i > 0 {
			b.WriteString(", ")
		}
		fmt.Fprintf(&b, "%s %d", n, counts[n])
	}
	if b.Len() == 0 {
		return "-"
	}
	return b.String()
}

// save keeps the report.
func (r *CrashReport) save(path string) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("crash: %w", err)
	}
	err = r.Write(f)
	if closeErr := f.Close(); err == nil && closeErr != nil {
		err = fmt.Errorf("crash: %w", closeErr)
	}
	return err
}
