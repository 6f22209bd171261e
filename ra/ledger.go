package ra

import (
	"context"
	"strconv"
	"sync"
	"time"
)

// Ledger counts attempts to log in for [Attempts], where all that may guess at
// the same accounts can see them: in the memory of one process, or in a database
// that outlives it and that several share.
type Ledger interface {
	// Reserve counts what there is against a, and enters a, as one whose outcome
	// is not known, if may says so; counting and entering are one step for all
	// who use the ledger. id is "" if it was not entered.
	Reserve(ctx context.Context, a Attempt, now time.Time, may func(Tally) bool) (id string, t Tally, err error)
	// Settle says what became of the attempt that was entered under id.
	Settle(ctx context.Context, id string, a Attempt, o AttemptOutcome) error
}

// Attempt is one attempt to log in.
type Attempt struct {
	// Scope tells accounts of the same name in different places apart.
	Scope string
	// Account is the account's name, in one of its forms; Addr is where the
	// client is, "" if that is not known.
	Account, Addr string
	// Window is how long a refusal counts. Lease is after what time an attempt
	// of which nothing was heard counts as refused: its process has died, and
	// what the far side said is not known.
	Window, Lease time.Duration
	// Local says that nobody else judges the attempt: one of which nothing was
	// heard then counts as none.
	Local bool
}

// Tally is what a [Ledger] has against an attempt.
type Tally struct {
	// Refused is how many attempts at the account were refused, Open how many
	// are under way.
	Refused, Open int
	// FromAddr is how many attempts from the address were refused, at whatever
	// account of the scope.
	FromAddr int
	// All is how many attempts the scope has that were refused or are under way.
	All int
	// Oldest and OldestFromAddr are when the first of the refused ones began.
	Oldest, OldestFromAddr time.Time
}

// AttemptOutcome is what became of an attempt.
type AttemptOutcome int

const (
	// AttemptVoid was never judged: it is taken out.
	AttemptVoid AttemptOutcome = iota
	// AttemptGood was let in: what was refused to the account before, or counts
	// as refused, is forgotten, as Windows does. It still counts against the
	// addresses that it came from.
	AttemptGood
	// AttemptRefused was refused, or may have been.
	AttemptRefused
)

// memoryLedger is a [Ledger] of one process.
type memoryLedger struct {
	mu   sync.Mutex
	next uint64
	all  map[string]*memoryEntry
}

type memoryEntry struct {
	Attempt
	began   time.Time
	refused bool
}

func newMemoryLedger() *memoryLedger { return &memoryLedger{all: map[string]*memoryEntry{}} }

// Reserve looks at every entry: there are no more than [AttemptsConfig.Max].
func (l *memoryLedger) Reserve(_ context.Context, a Attempt, now time.Time, may func(Tally) bool) (string, Tally, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	var t Tally
	for id, e := range l.all {
		if !e.began.After(now.Add(-e.Window)) {
			delete(l.all, id)
			continue
		}
		dead := !e.refused && !e.began.After(now.Add(-e.Lease))
		if e.Scope == a.Scope && (!dead || !e.Local) {
			t.add(a, e.Account, e.Addr, e.began, e.refused || dead)
		}
	}
	if !may(t) {
		return "", t, nil
	}
	l.next++
	id := strconv.FormatUint(l.next, 10)
	l.all[id] = &memoryEntry{Attempt: a, began: now}
	return id, t, nil
}

// add counts one entry of the attempt's scope.
func (t *Tally) add(a Attempt, account, addr string, began time.Time, refused bool) {
	t.All++
	earlier := func(first *time.Time) {
		if first.IsZero() || began.Before(*first) {
			*first = began
		}
	}
	switch same := account == a.Account; {
	case same && refused:
		t.Refused++
		earlier(&t.Oldest)
	case same:
		t.Open++
	}
	if refused && addr != "" && addr == a.Addr {
		t.FromAddr++
		earlier(&t.OldestFromAddr)
	}
}

// Settle changes the entries in memory; it cannot fail.
func (l *memoryLedger) Settle(_ context.Context, id string, a Attempt, o AttemptOutcome) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	settled := l.all[id]
	switch {
	case o == AttemptRefused && settled != nil:
		settled.refused = true
	case o != AttemptRefused:
		delete(l.all, id)
	}
	if o != AttemptGood || settled == nil {
		return nil
	}
	for id, e := range l.all {
		judged := e.refused || !e.began.After(settled.began.Add(-a.Lease))
		switch {
		case e.Scope != a.Scope || e.Account != a.Account || !judged:
		case e.Addr == "":
			delete(l.all, id)
		default:
			e.Account = "\x00" // nobody's
		}
	}
	return nil
}
