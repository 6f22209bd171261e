package lab

import (
	"archive/tar"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/onlineca/onlineca/internal/zaplog"
)

// Where the product keeps its logs: what `file get activelog` brings, the log of
// the web server in CES, and that of IIS. The way to nginx's error.log is in no
// public document.
const (
	bundleCAPF  = "activelog/cm/trace/capf/sdi/"
	bundleNginx = "nginx/"
	bundleIIS   = "inetpub/logs/LogFiles/W3SVC1/"
)

// bundlePath is the path in the product of a file of the tree, "" for one that
// the product does not have.
func bundlePath(name string) string {
	base := path.Base(name)
	switch {
	case name == zaplog.CAPFFile, name == zaplog.StdoutFile:
		return bundleCAPF + base
	case name == zaplog.ErrorFile:
		return bundleNginx + base
	case strings.HasPrefix(name, zaplog.IISDir+"/"):
		return bundleIIS + base
	default:
		return ""
	}
}

// writeBundle packs the logs of the tree below dir as a support engineer would
// get them: with the product's paths, and without what only this program has.
// It returns the archive's path.
func writeBundle(dir, name string) (_ string, err error) {
	out := filepath.Join(dir, bundleFile)
	f, err := os.Create(out)
	if err != nil {
		return "", fmt.Errorf("lab: write the bundle: %w", err)
	}
	z := gzip.NewWriter(f)
	t := tar.NewWriter(z)
	err = packLogs(t, dir, name)
	if err = errors.Join(err, t.Close(), z.Close(), f.Close()); err != nil {
		return "", fmt.Errorf("lab: write the bundle: %w", err)
	}
	return out, nil
}

func packLogs(t *tar.Writer, dir, name string) error {
	root := filepath.Join(dir, logsDir)
	return filepath.WalkDir(root, func(file string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		rel, err := filepath.Rel(dir, file)
		if err != nil {
			return err
		}
		to := bundlePath(filepath.ToSlash(rel))
		if to == "" {
			return nil
		}
		return pack(t, file, name+"/"+to)
	})
}

// pack adds one file.
func pack(t *tar.Writer, file, name string) error {
	in, err := os.Open(file)
	if err != nil {
		return err
	}
	defer in.Close()
	info, err := in.Stat()
	if err != nil {
		return err
	}
	head := &tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644, Size: info.Size(), ModTime: info.ModTime()}
	if err := t.WriteHeader(head); err != nil {
		return err
	}
	_, err = io.Copy(t, io.LimitReader(in, info.Size()))
	return err
}
