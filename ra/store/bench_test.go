//go:build unix

package store_test

import (
	"context"
	"path/filepath"
	"strconv"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/onlineca/onlineca/internal/interop"
	"github.com/onlineca/onlineca/ra"
	"github.com/onlineca/onlineca/ra/store"
	"github.com/onlineca/onlineca/ra/store/storetest"
)

// answering is an authority that costs nothing, so that what is measured is the
// store.
type answering struct {
	*storetest.Authority
	res  ra.Result
	last *atomic.Int64
}

func (a answering) Enroll(context.Context, ra.Request) (ra.Result, error) {
	a.res.ReqID = int(a.last.Add(1)) // numbers are handed out in order
	return a.res, nil
}

// BenchmarkDurable is what the store adds to an enrolment, with sixteen clients
// for each core: two changes, and a line in the audit log.
func BenchmarkDurable(b *testing.B) {
	for name, location := range map[string]func(b *testing.B) string{
		"SQLite":     func(b *testing.B) string { return sqliteFile(b) },
		"PostgreSQL": func(b *testing.B) string { interop.Need(b, "postgres", "initdb"); return storetest.Postgres(b)(b) },
	} {
		b.Run(name, func(b *testing.B) {
			s, err := store.Open(b.Context(), location(b))
			if err != nil {
				b.Fatal(err)
			}
			defer s.Close()
			ca := storetest.NewAuthority(b, 1)
			r := storetest.Request(b, "SEP1", "ciscora")
			res, err := ca.Enroll(b.Context(), r)
			if err != nil {
				b.Fatal(err)
			}
			d, err := store.NewDurable(store.Config{Store: s, Next: answering{ca, res, new(atomic.Int64)}, Fetch: ca, Audit: auditFile(b)})
			if err != nil {
				b.Fatal(err)
			}
			var n atomic.Int64
			b.SetParallelism(16) // clients per core
			b.ResetTimer()
			before := processorTime()
			b.RunParallel(func(p *testing.PB) {
				mine := r
				for p.Next() {
					mine.Client.Name = strconv.FormatInt(n.Add(1), 10) // another request each time
					if _, err := d.Enroll(b.Context(), mine); err != nil {
						b.Error(err)
					}
				}
			})
			b.ReportMetric(float64((processorTime()-before).Nanoseconds())/1000/float64(b.N), "cpu-us/op")
		})
	}
}

// auditFile is an audit log on the disk.
func auditFile(b *testing.B) *store.AuditFile {
	f, err := store.OpenAudit(filepath.Join(b.TempDir(), "audit.jsonl"))
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = f.Close() })
	return f
}

// processorTime is what this process has used so far.
func processorTime() time.Duration {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u) // cannot fail with these arguments
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
