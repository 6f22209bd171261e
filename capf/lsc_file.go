package capf

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/onlineca/onlineca/ra/fault"
)

// lscRoom is the room on the disk, in bytes, that is taken before a
// certificate is asked for. Few LSCs have half of it.
const lscRoom = 4 << 10

// lscFile is a certificate file in the making. It takes its room on the disk
// before the certificate is asked for, so that a full disk costs a message and
// not a certificate that was issued for nothing. Under its own name the file
// appears whole or not at all.
type lscFile struct {
	path    string
	pending *os.File // beside path; nil when committed or discarded
}

// diskFault names what a file could not be written for.
func diskFault(op string, err error) error {
	var p *os.PathError
	if errors.As(err, &p) {
		err = fmt.Errorf("%s: %w", p.Op, p.Err) // the path is in op already
	}
	return fault.New(fault.DiskFull, op, err)
}

// reserveLSC takes the room for the certificate at path.
func reserveLSC(path string) (*lscFile, error) {
	op := "write " + path
	if info, err := os.Lstat(path); err == nil && info.IsDir() {
		return nil, fault.Newf(fault.DiskFull, op, "it is a directory")
	}
	pending, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+"-*")
	if err != nil {
		return nil, diskFault(op, err)
	}
	f := &lscFile{path: path, pending: pending}
	if _, err := pending.Write(make([]byte, lscRoom)); err != nil {
		f.discard()
		return nil, diskFault(op, err)
	}
	return f, nil
}

// commit writes der and gives the file its name.
func (f *lscFile) commit(der []byte) error {
	defer f.discard()
	if err := f.write(der); err != nil {
		return diskFault("write "+f.path, err)
	}
	return nil
}

func (f *lscFile) write(der []byte) error {
	if _, err := f.pending.WriteAt(der, 0); err != nil {
		return err
	}
	if err := f.pending.Truncate(int64(len(der))); err != nil {
		return err
	}
	if err := f.pending.Chmod(0o644); err != nil {
		return err
	}
	if err := f.pending.Sync(); err != nil {
		return err
	}
	// Closed before it is renamed, because Windows renames no open file.
	if err := f.pending.Close(); err != nil {
		return err
	}
	if err := os.Rename(f.pending.Name(), f.path); err != nil {
		return err
	}
	f.pending = nil
	return nil
}

// discard leaves nothing behind. After commit it does nothing.
func (f *lscFile) discard() {
	if f.pending == nil {
		return
	}
	// Closed already or not, it goes; what can fail is removing a file that
	// is to be forgotten.
	_ = f.pending.Close()
	_ = os.Remove(f.pending.Name())
	f.pending = nil
}

// WriteLSC writes a certificate in DER to path, whole or not at all, readable
// by everybody. The error is a fault.DiskFull.
func WriteLSC(path string, der []byte) error {
	f, err := reserveLSC(path)
	if err != nil {
		return err
	}
	return f.commit(der)
}
