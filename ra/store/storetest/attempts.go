package storetest

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/onlineca/onlineca/ra"
	"github.com/onlineca/onlineca/ra/fault"
	"github.com/onlineca/onlineca/ra/store"
)

// domain is a Windows domain that counts refused passwords.
type domain struct{ refused, asked atomic.Int32 }

func (d *domain) Authenticate(_ context.Context, c ra.Credentials) error {
	d.asked.Add(1)
	if c.Password == "right" {
		return nil
	}
	d.refused.Add(1)
	return fault.New(fault.BadCredentials, "test", nil)
}

// process is the limit to guessing of one process.
func (s *suite) process(at *store.Store, next ra.Authenticator) *ra.Attempts {
	return ra.NewAttempts(next, ra.AttemptsConfig{Scope: "certsrv", Ledger: at.Ledger()})
}

// attempts: neither restarts nor further processes grant more wrong passwords.
func (s *suite) attempts(t *testing.T) {
	d := new(domain)
	guess := func(p *ra.Attempts, n int) error {
		return p.Authenticate(t.Context(), ra.Credentials{Username: `LAB\victim`, Password: fmt.Sprint("guess-", n)})
	}
	for n := range 20 { // each time a process that has just started
		_ = guess(s.process(openStore(t, s.location), d), n)
	}
	if n := d.refused.Load(); n != 2 {
		t.Errorf("20 processes one after the other: the domain saw %d wrong passwords, want 2", n)
	}
	err := guess(s.process(s.store, d), 99)
	if f := fault.Of(err); f == nil || f.Code != fault.LoginSuspended || f.RetryAfter < 29*time.Minute || f.RetryAfter > 30*time.Minute {
		t.Errorf("%v", err)
	}
	other := ra.Credentials{Username: "other", Password: "right"}
	if err := s.process(s.store, d).Authenticate(t.Context(), other); err != nil {
		t.Errorf("another account: %v", err)
	}
}

// attemptsRace: many processes at the same moment do not exceed the limit
// together, and the password that is right is let in by each of them.
func (s *suite) attemptsRace(t *testing.T) {
	d := new(domain)
	stores := []*store.Store{s.store, openStore(t, s.location), openStore(t, s.location)}
	var wg sync.WaitGroup
	for i := range 30 {
		p := s.process(stores[i%len(stores)], d)
		wg.Go(func() {
			_ = p.Authenticate(t.Context(), ra.Credentials{Username: "victim", Password: fmt.Sprint("guess-", i)})
		})
		wg.Go(func() {
			if err := p.Authenticate(t.Context(), ra.Credentials{Username: fmt.Sprint("owner-", i%2), Password: "right"}); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if n := d.refused.Load(); n != 2 {
		t.Errorf("the domain saw %d wrong passwords, want 2", n)
	}
}

// attemptsSettle: what each outcome does to the count.
func (s *suite) attemptsSettle(t *testing.T) {
	l := s.store.Ledger()
	attempt := func(account, addr string) ra.Attempt {
		return ra.Attempt{Scope: "certsrv", Account: account, Addr: addr, Window: 30 * time.Minute, Lease: time.Minute}
	}
	enter := func(a ra.Attempt, now time.Time) string {
		t.Helper()
		id, _, err := l.Reserve(t.Context(), a, now, func(ra.Tally) bool { return true })
		if err != nil || id == "" {
			t.Fatal(id, err)
		}
		return id
	}
	settle := func(id string, a ra.Attempt, o ra.AttemptOutcome) {
		t.Helper()
		if err := l.Settle(t.Context(), id, a, o); err != nil {
			t.Fatal(err)
		}
	}
	check := func(says string, a ra.Attempt, now time.Time, want ra.Tally) {
		t.Helper()
		id, got, err := l.Reserve(t.Context(), a, now, func(ra.Tally) bool { return false })
		if id != "" || err != nil || got != want {
			t.Errorf("%s: %q, %+v, %v; want %+v", says, id, got, err, want)
		}
	}
	a, strange := attempt("a", "192.0.2.1"), strings.Repeat("Ω\x00\xff", 5000)
	first := enter(a, s.now)
	check("under way", a, s.now, ra.Tally{Open: 1, All: 1})
	settle(first, a, ra.AttemptVoid)
	check("not judged", a, s.now, ra.Tally{})
	settle(enter(a, s.now), a, ra.AttemptRefused)
	settle(enter(attempt("b", "192.0.2.1"), s.now.Add(time.Second)), attempt("b", "192.0.2.1"), ra.AttemptRefused)
	check("refused", a, s.now.Add(time.Second), ra.Tally{Refused: 1, FromAddr: 2, All: 2, Oldest: s.now, OldestFromAddr: s.now})
	check("of another scope", ra.Attempt{Scope: "users", Account: "a", Addr: a.Addr, Window: a.Window, Lease: a.Lease}, s.now, ra.Tally{})
	enter(a, s.now.Add(2*time.Second)) // its process dies
	check("dying", a, s.now.Add(time.Minute), ra.Tally{Refused: 1, Open: 1, FromAddr: 2, All: 3, Oldest: s.now, OldestFromAddr: s.now})
	check("dead", a, s.now.Add(2*time.Minute), ra.Tally{Refused: 2, FromAddr: 3, All: 3, Oldest: s.now, OldestFromAddr: s.now})
	good := s.now.Add(2 * time.Minute)
	settle(enter(a, good), a, ra.AttemptGood)
	check("good", a, good, ra.Tally{FromAddr: 3, All: 3, OldestFromAddr: s.now})
	local := a // nobody but this program has seen it
	local.Scope, local.Local = "users", true
	enter(local, s.now)
	check("local, dying", local, s.now.Add(time.Second), ra.Tally{Open: 1, All: 1})
	check("local, dead", local, s.now.Add(time.Minute), ra.Tally{All: 1})
	settle(enter(attempt(strange, strange), good), attempt(strange, strange), ra.AttemptRefused)
	check("a strange name", attempt(strange, ""), good, ra.Tally{Refused: 1, All: 4, Oldest: good})
	check("later", a, good.Add(time.Hour), ra.Tally{})
	settle(enter(a, good), a, ra.AttemptRefused)
	if err := s.store.ForgetAttempts(t.Context(), good); err != nil {
		t.Fatal(err)
	}
	check("forgotten", a, good, ra.Tally{})
}

// ping: a database that can only be read is not well.
func (s *suite) ping(t *testing.T) {
	if err := s.store.Ping(t.Context()); err != nil {
		t.Fatal(err)
	}
	if !store.IsPostgres(s.location) {
		return // package store fills a disk
	}
	db := connect(t, s.location)
	defer func() { _ = db.Close() }()
	if _, err := db.ExecContext(t.Context(), "DO $$ BEGIN EXECUTE 'ALTER DATABASE ' || current_database() || ' SET default_transaction_read_only = on'; END $$"); err != nil {
		t.Fatal(err)
	}
	at, err := store.Open(t.Context(), s.location)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = at.Close() }()
	if err := at.Ping(t.Context()); err == nil || !strings.Contains(err.Error(), "read-only") {
		t.Errorf("%v", err)
	}
}
