package storetest

import (
	"testing"
	"time"

	"github.com/onlineca/onlineca/ra"
	"github.com/onlineca/onlineca/ra/store"
)

// Run is the conformance suite. location makes a new, empty database and
// returns what store.Open is to be called with.
func Run(t *testing.T, location func(tb testing.TB) string) {
	for name, test := range map[string]func(*suite, *testing.T){
		"a request is begun once":                      (*suite).once,
		"however many come at the same moment":         (*suite).race,
		"one that fails does not spoil others":         (*suite).spoilt,
		"nor does one whose client goes away":          (*suite).cancelled,
		"an issued request answers":                    (*suite).issued,
		"a dead process's request is unknown":          (*suite).dead,
		"what failed is tried again, what ended anew":  (*suite).again,
		"a lost claim saves nothing but a certificate": (*suite).lostClaim,
		"one at a time asks after a request":           (*suite).claims,
		"requests are due in time":                     (*suite).due,
		"numbers":                                      (*suite).numbers,
		"everything is read back":                      (*suite).roundTrip,
		"list":                                         (*suite).list,
		"show":                                         (*suite).show,
		"operators decide":                             (*suite).decide,
		"several processes open it at once":            (*suite).openings,
		"two processes submit once":                    (*suite).processes,
		"what a dead owner has left is due at once":    (*suite).owners,
		"a closed database is a fault":                 (*suite).closed,
		"attempts are one count for all":               (*suite).attempts,
		"attempts come and go":                         (*suite).attemptsSettle,
		"attempts at the same moment":                  (*suite).attemptsRace,
		"an authority by another name":                 (*suite).adopt,
		"an authority that begins again":               (*suite).rewind,
		"it is well while it can be written to":        (*suite).ping,
	} {
		t.Run(name, func(t *testing.T) {
			at := location(t)
			s := &suite{
				location: at, postgres: store.IsPostgres(at), store: openStore(t, at),
				now:   time.Date(2026, 11, 21, 20, 0, 0, 123000, time.UTC),
				claim: store.Claim{Owner: "process-1", Lease: time.Minute, Authority: "ca", Keep: time.Hour},
				ca:    NewAuthority(t, 7),
			}
			test(s, t)
		})
	}
}

// suite is one test of the suite, with a database of its own.
type suite struct {
	location string
	postgres bool
	store    *store.Store
	now      time.Time
	claim    store.Claim
	ca       *Authority
}

func openStore(tb testing.TB, location string) *store.Store {
	tb.Helper()
	s, err := store.Open(tb.Context(), location)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := s.Close(); err != nil {
			tb.Error(err)
		}
	})
	return s
}

func (s *suite) begin(t *testing.T, r ra.Request, now time.Time) (store.Record, bool) {
	t.Helper()
	rec, mine, err := s.store.Begin(t.Context(), r, s.claim, now)
	if err != nil {
		t.Fatal(err)
	}
	return rec, mine
}

func (s *suite) save(t *testing.T, rec store.Record, owner string) bool {
	t.Helper()
	saved, err := s.store.Save(t.Context(), rec, owner)
	if err != nil {
		t.Fatal(err)
	}
	return saved
}

// certificate fills in what an issued record has.
func (s *suite) certificate(t *testing.T, rec store.Record, r ra.Request) store.Record {
	t.Helper()
	res, err := s.ca.Enroll(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	rec.State, rec.ReqID, rec.Certificate = store.Issued, res.ReqID, res.Certificate.Raw
	rec.Serial, rec.NotAfter = res.Certificate.SerialNumber.Text(16), s.now.Add(365*24*time.Hour)
	return rec
}
