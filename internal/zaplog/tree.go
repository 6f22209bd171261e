package zaplog

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/onlineca/onlineca/internal/logfmt/iis"
	"github.com/onlineca/onlineca/ra/event"
)

// The files of a tree, below its directory.
const (
	CAPFFile   = "logs/capf/capf00000001.txt"
	StdoutFile = "logs/ces/nginx00000001.txt"
	ErrorFile  = "logs/ces/error.log"
	JSONFile   = "logs/onlineca.jsonl"
	IISDir     = "logs/iis"
)

// Tree opens the logs of the whole chain below dir and returns the logger that
// writes them: the CAPF trace, CiscoRA's printout, nginx's error.log, the IIS
// log (named u_exYYMMDD.log by the UTC date of the request, a file a day) and
// the JSON log. Logs that exist are appended to. pid stands in error.log; loc
// is the zone of the logs that are written in local time, nil for the
// machine's.
//
// The returned function closes the files; the logger is silent afterwards.
func Tree(dir string, pid int, loc *time.Location) (*zap.Logger, func() error, error) {
	var files files
	open := func(name string) zapcore.WriteSyncer {
		return files.open(filepath.Join(dir, filepath.FromSlash(name)))
	}
	web := &dailyIIS{dir: filepath.Join(dir, filepath.FromSlash(IISDir))}
	cores := zapcore.NewTee(
		CAPF(open(CAPFFile), loc),
		CESStdout(open(StdoutFile)),
		ErrorLog(open(ErrorFile), pid, loc),
		newCore(web, web.encode),
		JSON(open(JSONFile)),
	)
	if files.err == nil {
		files.err = makeDir(web.dir)
	}
	if files.err != nil {
		return nil, nil, errors.Join(files.err, files.close())
	}
	return zap.New(cores), func() error { return errors.Join(files.close(), web.close()) }, nil
}

// files opens files and remembers the first error.
type files struct {
	all []*file
	err error
}

func (s *files) open(path string) *file {
	f := &file{}
	if s.err == nil {
		if f, s.err = openFile(path); f != nil {
			s.all = append(s.all, f)
		}
	}
	return f
}

func (s *files) close() error {
	var errs []error
	for _, f := range s.all {
		errs = append(errs, f.close())
	}
	return errors.Join(errs...)
}

// file can be written to until it is closed, and swallows what comes after:
// late events of a connection that is being shut down. The nil file swallows
// everything.
type file struct {
	mu sync.Mutex
	f  *os.File
}

// openFile opens a log to append to, and makes its directory.
func openFile(path string) (*file, error) {
	if err := makeDir(filepath.Dir(path)); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o640) //nolint:gosec // Logs are read by the people of one group.
	if err != nil {
		return nil, fmt.Errorf("zaplog: open log: %w", err)
	}
	return &file{f: f}, nil
}

func makeDir(path string) error {
	if err := os.MkdirAll(path, 0o750); err != nil {
		return fmt.Errorf("zaplog: make the log directory: %w", err)
	}
	return nil
}

// Write writes p to the file.
func (f *file) Write(p []byte) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.f == nil {
		return len(p), nil
	}
	return f.f.Write(p)
}

// Sync does nothing: a log is not worth waiting for the disk.
func (f *file) Sync() error { return nil }

func (f *file) close() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.f == nil {
		return nil
	}
	err := f.f.Close()
	f.f = nil
	if err != nil {
		return fmt.Errorf("zaplog: close log: %w", err)
	}
	return nil
}

// dailyIIS writes the IIS log, a file for each day as IIS does. Its methods
// but close are called under the lock of one dialect.
type dailyIIS struct {
	dir  string
	want string // the day of what comes next
	day  string // the day of the open file

	mu     sync.Mutex // guards file and closed against close
	file   *file
	closed bool
}

// encode is the encoder of the dialect. It begins every new file with the
// block of directives.
func (d *dailyIIS) encode(dst []byte, t time.Time, e event.Event, _ event.Conn) []byte {
	switch e := e.(type) {
	case event.WebLogHeader:
		d.want = t.UTC().Format("060102")
		d.begin()
	case event.WebRequest:
		if !e.Time.IsZero() {
			t = e.Time
		}
		d.want = t.UTC().Format("060102")
		if d.begin() {
			dst = appendHeader(dst, e, t)
		}
	}
	dst, _ = iis.Encode(dst, t, e)
	return dst
}

// begin notes that a new day begins, if it does.
func (d *dailyIIS) begin() bool {
	if d.want == d.day {
		return false
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.file != nil {
		_ = d.file.close() // It was written without buffers: nothing is lost.
		d.file = nil
	}
	d.day = d.want
	return true
}

// Write writes p to the file of its day.
func (d *dailyIIS) Write(p []byte) (int, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return len(p), nil
	}
	if d.file == nil {
		f, err := openFile(filepath.Join(d.dir, "u_ex"+d.day+".log"))
		if err != nil {
			return 0, err
		}
		d.file = f
	}
	return d.file.Write(p)
}

// Sync does nothing, as for every log.
func (d *dailyIIS) Sync() error { return nil }

func (d *dailyIIS) close() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.closed = true
	if d.file == nil {
		return nil
	}
	return d.file.close()
}
