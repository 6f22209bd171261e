package store

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os"
	"time"

	"github.com/onlineca/onlineca/ra/fault"
)

// AuditFile is an audit log on the disk. It knows what the process before it
// wrote last.
type AuditFile struct {
	*os.File
	regular bool         // it can be synced and read
	flush   func() error // puts it on the disk
	last    map[auditKey]bool
}

// auditKey tells one certificate from another.
type auditKey struct{ record, serial string }

// auditTail is how much of an audit log is read when it is opened, in bytes:
// some thousand lines, more than a process can have under way when it dies.
const auditTail = 1 << 20

// OpenAudit opens an audit log for appending, readable by its owner alone. Half
// a line, which is what a machine leaves that lost its power, is ended.
func OpenAudit(path string) (*AuditFile, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fault.New(fault.DiskFull, "open the audit log", err)
	}
	a := &AuditFile{File: f, flush: f.Sync, last: map[auditKey]bool{}}
	if err := a.readTail(); err != nil {
		_ = f.Close() // err says what is wrong
		return nil, fault.New(fault.DiskFull, "open the audit log", err)
	}
	return a, nil
}

// readTail notes which certificates have the last lines, and sees to it that
// the file ends with a line break. Of what is no regular file nothing is read.
func (a *AuditFile) readTail() error {
	info, err := a.Stat()
	if err != nil {
		return err
	}
	a.regular = info.Mode().IsRegular()
	if !a.regular || info.Size() == 0 {
		return nil
	}
	tail := make([]byte, min(info.Size(), auditTail))
	if _, err := a.ReadAt(tail, info.Size()-int64(len(tail))); err != nil {
		return err
	}
	for text := range bytes.Lines(tail) {
		if l, ok := lineIn(text); ok { // the first and the last may be half a line
			a.last[auditKey{l.Record, l.Serial}] = true
		}
	}
	if tail[len(tail)-1] == '\n' {
		return nil
	}
	_, err = a.WriteString("\n")
	return err
}

// lineIn reads a line, if it is a whole one of ours.
func lineIn(text []byte) (l AuditLine, ok bool) {
	if json.Unmarshal(text, &l) != nil || l.Record == "" {
		return AuditLine{}, false
	}
	return l, true
}

// backwards reads the file from its last line to its first, as long as each says
// so. What is not a whole line of ours is left out: a machine that loses its power
// may leave anything at the end of a file.
func (a *AuditFile) backwards(each func(AuditLine) (more bool)) error {
	info, err := a.Stat()
	if err != nil {
		return err
	}
	var rest []byte // the end of a line whose beginning has not been read yet
	for end := info.Size(); end > 0; {
		start := max(0, end-auditTail)
		text := make([]byte, end-start, int(end-start)+len(rest))
		if _, err := a.ReadAt(text, start); err != nil {
			return err
		}
		text, end = append(text, rest...), start
		for len(text) > 0 {
			head := bytes.LastIndexByte(text[:len(text)-1], '\n') + 1
			if head == 0 && start > 0 {
				break
			}
			if l, ok := lineIn(text[head:]); ok && !each(l) {
				return nil
			}
			text = text[:head]
		}
		if len(text) > auditTail { // no line of ours
			text = nil
		}
		rest = text
	}
	return nil
}

// since is what the first line says, as far as one is near the beginning, zero if
// there is none.
func (a *AuditFile) since() (time.Time, error) {
	head := make([]byte, auditTail)
	n, err := a.ReadAt(head, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return time.Time{}, err
	}
	for text := range bytes.Lines(head[:n]) {
		l, _ := lineIn(text)
		if t, err := time.Parse(time.RFC3339Nano, l.Time); err == nil {
			return t, nil
		}
	}
	return time.Time{}, nil
}
