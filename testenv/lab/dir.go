package lab

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
)

// What a lab leaves in its directory. The first entry is how the next run
// knows that the directory is a lab's.
const (
	// A reproduction leaves these too.
	reportFile  = "report.md"
	diagramFile = "diagram.svg"
	bundleFile  = "bundle.tar.gz"

	markerFile = ".onlineca-lab"
	chainFile  = "ca-chain.pem"
	lscDir     = "lsc"
	logsDir    = "logs"
	curlDir    = "curl"
	stateDir   = "state"
)

var leavings = []string{markerFile, chainFile, lscDir, logsDir, curlDir, stateDir, reportFile, diagramFile, bundleFile}

// prepare makes dir, or clears what an earlier lab left in it: every run has a
// CA of its own, so the certificates and logs of the last one mean nothing
// now. What else is in a lab's directory stays; a directory that is not a
// lab's is left alone.
func prepare(dir string) error {
	entries, err := os.ReadDir(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		if err := os.MkdirAll(dir, 0o750); err != nil {
			return fmt.Errorf("lab: %w", err)
		}
	case err != nil:
		return fmt.Errorf("lab: %w", err)
	case len(entries) > 0:
		made := slices.ContainsFunc(entries, func(e fs.DirEntry) bool { return e.Name() == markerFile })
		if !made {
			return fmt.Errorf("lab: %s is not empty and was not made by a lab: choose another directory (--out)", dir)
		}
		for _, name := range leavings[1:] {
			if err := os.RemoveAll(filepath.Join(dir, name)); err != nil {
				return fmt.Errorf("lab: clear the last run: %w", err)
			}
		}
	}
	text := "Made by onlineca lab. The next run in this directory replaces what this one left.\n"
	if err := os.WriteFile(filepath.Join(dir, markerFile), []byte(text), 0o600); err != nil {
		return fmt.Errorf("lab: %w", err)
	}
	return nil
}
