package app

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/onlineca/onlineca/internal/zaplog"
)

// logSet opens the log files of one process below a directory.
type logSet struct {
	dir    string
	cores  []zapcore.Core
	closes []func()
	err    error
}

// add opens one file below the directory and writes the dialect to it.
func (l *logSet) add(name string, dialect func(zapcore.WriteSyncer) zapcore.Core) {
	if l.err != nil {
		return
	}
	path := filepath.Join(l.dir, filepath.FromSlash(name))
	if l.err = os.MkdirAll(filepath.Dir(path), 0o750); l.err != nil {
		l.err = fmt.Errorf("logs: %w", l.err)
		return
	}
	w, closeFile, err := zap.Open(path)
	if err != nil {
		l.err = fmt.Errorf("logs: %w", err)
		return
	}
	l.cores = append(l.cores, dialect(w))
	l.closes = append(l.closes, closeFile)
}

// logger returns what writes to all of the files, and a function that closes
// them.
func (l *logSet) logger() (*zap.Logger, func(), error) {
	closeAll := func() {
		for _, f := range l.closes {
			f()
		}
	}
	if l.err != nil {
		closeAll()
		return nil, nil, l.err
	}
	return zap.New(zapcore.NewTee(l.cores...)), closeAll, nil
}

// capfLogs opens the logs of CAPF below dir: its trace, and ours.
func capfLogs(dir string) (*zap.Logger, func(), error) {
	set := logSet{dir: dir}
	set.add(zaplog.CAPFFile, func(w zapcore.WriteSyncer) zapcore.Core { return zaplog.CAPF(w, nil) })
	set.add(zaplog.JSONFile, zaplog.JSON)
	return set.logger()
}

// serverLogs opens the logs of the registration authority: JSON on stderr, or
// the tree in the directory of the settings.
func serverLogs(s LogSettings, stderr io.Writer) (*zap.Logger, func(), error) {
	level, err := zapcore.ParseLevel(s.Level)
	if err != nil {
		return nil, nil, fmt.Errorf("logs.level: %w", err)
	}
	set := logSet{dir: s.Directory}
	if s.Directory == "" {
		set.cores = append(set.cores, zaplog.JSON(zapcore.Lock(zapcore.AddSync(stderr))))
	} else {
		// The settings name the directory of the logs, not the one above it.
		in := func(name string) string { return strings.TrimPrefix(name, "logs/") }
		pid := os.Getpid()
		set.add(in(zaplog.StdoutFile), zaplog.CESStdout)
		set.add(in(zaplog.ErrorFile), func(w zapcore.WriteSyncer) zapcore.Core { return zaplog.ErrorLog(w, pid, nil) })
		set.add(in(zaplog.CAPFFile), func(w zapcore.WriteSyncer) zapcore.Core { return zaplog.CAPF(w, nil) })
		set.add(in(zaplog.JSONFile), zaplog.JSON)
	}
	log, closeLogs, err := set.logger()
	if err != nil {
		return nil, nil, err
	}
	return log.WithOptions(zap.IncreaseLevel(level)), closeLogs, nil
}
