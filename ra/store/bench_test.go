package store_test

import (
	"context"
	"strconv"
	"sync/atomic"
	"testing"

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

// BenchmarkDurable is what the store adds to an enrolment, two transactions, with
// sixteen clients on two cores.
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
			d, err := store.NewDurable(store.Config{Store: s, Next: answering{ca, res, new(atomic.Int64)}, Fetch: ca})
			if err != nil {
				b.Fatal(err)
			}
			var n atomic.Int64
			b.SetParallelism(8) // clients per core
			b.RunParallel(func(p *testing.PB) {
				mine := r
				for p.Next() {
					mine.Client.Name = strconv.FormatInt(n.Add(1), 10) // another request each time
					if _, err := d.Enroll(b.Context(), mine); err != nil {
						b.Error(err)
					}
				}
			})
		})
	}
}
