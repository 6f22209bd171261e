package capf

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/google/renameio/v2"

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
	pending *renameio.PendingFile
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
	pending, err := renameio.NewPendingFile(path,
		renameio.WithTempDir(filepath.Dir(path)), renameio.WithStaticPermissions(0o644))
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
	if err := f.write(der); err != nil {
		f.discard()
		return diskFault("write "+f.path, err)
	}
	return nil
}

func (f *lscFile) write(der []byte) error {
	if _, err := f.pending.Seek(0, io.SeekStart); err != nil {
		return err
	}
	if _, err := f.pending.Write(der); err != nil {
		return err
	}
	if err := f.pending.Truncate(int64(len(der))); err != nil {
		return err
	}
	return f.pending.CloseAtomicallyReplace()
}

// discard leaves nothing behind. After commit it does nothing.
func (f *lscFile) discard() {
	// The one thing that can fail is removing a file that is to be forgotten.
	_ = f.pending.Cleanup()
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
