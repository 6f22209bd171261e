package lab

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"time"

	"github.com/onlineca/onlineca/internal/app"
	"github.com/onlineca/onlineca/testenv"
)

// verify compares what the clients, the store and the mock CA have.
func (t *crashTest) verify(ctx context.Context) error {
	records, err := t.records(ctx)
	if err != nil {
		return err
	}
	known := map[string]app.RequestRecord{}
	for _, r := range records {
		t.report.settled(r)
		if r.Serial != "" {
			known[r.Serial] = r
		}
	}
	t.report.Records = len(records)
	database := t.certsrv.Database()
	t.report.Submissions = len(database)
	issued, times := map[string]bool{}, map[keyHash][]testenv.CARequest{}
	for _, r := range database {
		if r.CSR == nil {
			t.violated("request %d at the CA could not be read", r.ReqID)
			continue
		}
		key := keyHashOf(r.CSR.RawSubjectPublicKeyInfo)
		times[key] = append(times[key], r)
		if r.Certificate == nil {
			continue
		}
		t.report.Issued++
		serial := serialText(r)
		issued[serial] = true
		if _, ok := known[serial]; !ok {
			t.violated("the CA has issued request %d, serial number %s, for %s, and the store does not know it", r.ReqID, serial, r.CSR.Subject)
		}
	}
	for key, all := range times {
		if len(all) > 1 {
			t.violated("%s was submitted %d times: %s", all[0].CSR.Subject, len(all), t.history(key, all))
		}
	}
	t.compare(known, issued)
	return nil
}

func serialText(r testenv.CARequest) string {
	return fmt.Sprintf("%x", r.Certificate.SerialNumber.Bytes())
}

// history is all that is known of a request that was submitted several times.
// Every certificate of the mock can be fetched by its number at any time, so
// none of them was irretrievable.
func (t *crashTest) history(key keyHash, all []testenv.CARequest) string {
	text := "key " + key.String()
	for _, r := range all {
		text += fmt.Sprintf("; request %d at %s, %s", r.ReqID, r.Submitted.UTC().Format("15:04:05.000"), granted(r))
	}
	return text
}

func granted(r testenv.CARequest) string {
	if r.Certificate == nil {
		return "no certificate"
	}
	return "serial number " + serialText(r)
}

// compare looks at what the clients and the store have.
func (t *crashTest) compare(known map[string]app.RequestRecord, issued map[string]bool) {
	for serial, r := range known {
		if !issued[serial] {
			t.violated("record %s has serial number %s, which the CA has not issued", r.ID, serial)
		}
	}
	for _, c := range t.has {
		if _, ok := known[c.serial]; !ok {
			t.violated("%s has the certificate with serial number %s, and the store does not know it", c.device, c.serial)
		}
	}
	lines := t.auditLines(true)
	for serial, r := range known {
		if lines[serial] == 0 {
			t.violated("the audit log has no line for serial number %s of %s (record %s)", serial, r.Subject, r.ID)
		}
	}
	for _, n := range lines {
		t.report.AuditLines += n
	}
}

// records are those of this run.
func (t *crashTest) records(ctx context.Context) ([]app.RequestRecord, error) {
	s, err := app.OpenRequests(ctx, t.ras[0].config)
	if err != nil {
		return nil, err
	}
	all, err := s.List(ctx, app.RequestFilter{})
	if err = errors.Join(err, s.Close()); err != nil {
		return nil, err
	}
	var ours []app.RequestRecord
	for _, r := range all {
		if strings.HasPrefix(r.Authority, t.certsrv.PKI.Current().Subject.CommonName+" ") {
			ours = append(ours, r)
		}
	}
	return ours, nil
}

// awaitAudit waits until the audit logs have a line for every certificate: the
// lines that a process owed when it was killed are made up for by the next.
func (t *crashTest) awaitAudit(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	r := t.random(partFaults)
	for ctx.Err() == nil {
		lines, missing := t.auditLines(false), false
		for _, c := range t.has {
			missing = missing || lines[c.serial] == 0
		}
		if !missing {
			return
		}
		pause(ctx, r, 200*time.Millisecond, 300*time.Millisecond)
	}
}

// auditLines counts the lines of each serial number. The last time, no log may
// have two for one.
func (t *crashTest) auditLines(last bool) map[string]int {
	lines := map[string]int{}
	for _, p := range t.ras {
		f, err := os.Open(p.audit)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			t.violated("%v", err)
			continue
		}
		here := map[string]int{}
		for scan := bufio.NewScanner(f); scan.Scan(); {
			var l struct {
				Serial string `json:"serial"`
			}
			if json.Unmarshal(scan.Bytes(), &l) == nil {
				lines[l.Serial]++
				here[l.Serial]++
			}
		}
		for serial, n := range here {
			if last && n > 1 {
				t.violated("%s has %d lines for serial number %s", p.audit, n, serial)
			}
		}
		_ = f.Close() // it was only read
	}
	return lines
}
