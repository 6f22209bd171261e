package app

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/onlineca/onlineca/ra/store"
)

// The records of a registration authority, for those who compose commands from
// them.
type (
	// RequestRecord is one request and what became of it.
	RequestRecord = store.Record
	// RequestFilter chooses records.
	RequestFilter = store.Filter
	// RequestStore is the store itself.
	RequestStore = store.Store
)

// OpenRequests opens the store of a settings file.
func OpenRequests(ctx context.Context, config string) (*RequestStore, error) {
	s, err := ReadSettings(config)
	if err != nil {
		return nil, err
	}
	if s.Store == noStore {
		return nil, fmt.Errorf("%s: store is %q: requests are not remembered", config, noStore)
	}
	if !store.IsPostgres(s.Store) {
		// Looking must not make an empty store where there is none.
		if err := exists(s.Store); err != nil {
			return nil, err
		}
	}
	return store.Open(ctx, s.Store)
}

// ParseSerial reads a certificate's serial number, hexadecimal.
func ParseSerial(text string) (string, error) { return store.ParseSerial(text) }

// RequestStates reads the names of states.
func RequestStates(names []string) ([]store.State, error) {
	var all []store.State
	for _, n := range names {
		if !slices.Contains(store.States(), store.State(n)) {
			var known []string
			for _, s := range store.States() {
				known = append(known, string(s))
			}
			return nil, fmt.Errorf("%q is no state of a request: use %s", n, strings.Join(known, ", "))
		}
		all = append(all, store.State(n))
	}
	return all, nil
}
