//go:build unix

package capf_test

import (
	"errors"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/onlineca/onlineca/capf"
	"github.com/onlineca/onlineca/ra/fault"
)

func TestReadCSRFileRefusesAPipe(t *testing.T) {
	fifo := filepath.Join(t.TempDir(), "fifo.csr")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := capf.ReadCSRFile(fifo) // which would wait for a writer for ever
	if !errors.Is(err, fault.MalformedCSR) || !strings.Contains(err.Error(), "not a file") || strings.Count(err.Error(), fifo) != 1 {
		t.Error(err)
	}
}
