package lab

import (
	"io"
	"path/filepath"
	"slices"
	"testing"

	"github.com/onlineca/onlineca/internal/diagnose"
	"github.com/onlineca/onlineca/ra/fault"
)

// diagnosed are the faults that the reader finds in logs.
func diagnosed(t *testing.T, path string) []diagnose.Fault {
	t.Helper()
	r, err := diagnose.Run(t.Context(), diagnose.Options{Paths: []string{path}, Format: diagnose.JSON}, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	return r.Faults
}

// alike are the failures that the product's logs do not tell from another, and
// what is named in their place. Our own log tells every one.
var alike = map[fault.Code]fault.Code{
	// The product prints nothing of an exchange after the login, and a run
	// with short timeouts shows in IIS hardly slower than a good one.
	fault.FetchTimeout:  fault.ESTReadTimeout,
	fault.EnrollTimeout: fault.ESTReadTimeout,
	// Why a client is told to come back is in no log of the product.
	fault.InProgress: fault.Pending,
	fault.Busy:       fault.Pending,
	// Who denied is on the page, and in no log of the product.
	fault.DeniedByAdmin: fault.DeniedByPolicy,
	// What the page says is in no log of the product.
	fault.CAStopped: fault.ESTServerError,
	// The product knows no client certificates.
	fault.ClientCertificate: fault.BadCredentials,
}

// What is reproduced is recognised: from all logs with its one code, from those
// that the product has with its code among those that fit.
func TestReproducedThenDiagnosed(t *testing.T) {
	for _, c := range reproducible() {
		t.Run(c.String(), func(t *testing.T) {
			r := reproduced(t, c)
			if got := diagnosed(t, filepath.Join(r.Dir, logsDir)); !slices.ContainsFunc(got, func(f diagnose.Fault) bool {
				return slices.Equal(f.Codes, []string{c.String()})
			}) {
				t.Errorf("from all logs: %+v", got)
			}
			if !inProductsLogs(c) {
				return
			}
			if got := diagnosed(t, r.Bundle); !slices.ContainsFunc(got, func(f diagnose.Fault) bool {
				return names(f, c)
			}) {
				t.Errorf("from the product's logs: %+v", got)
			}
		})
	}
}

// names says whether a finding has the failure among its codes, or the one that
// it looks like.
func names(f diagnose.Fault, c fault.Code) bool {
	other, ok := alike[c]
	return slices.Contains(f.Codes, c.String()) || ok && slices.Contains(f.Codes, other.String())
}

// inProductsLogs says whether a failure shows in a log that the product has.
func inProductsLogs(c fault.Code) bool {
	return slices.ContainsFunc(c.Row().Shows, func(s fault.Sighting) bool { return s.Log != fault.LogOwn })
}
