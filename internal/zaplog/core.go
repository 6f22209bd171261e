// Package zaplog is the only place where zap meets the dialects of the logs.
//
// Each constructor returns a zapcore.Core that finds the typed event in an
// entry (package event) and writes it in one dialect: the CAPF trace of CUCM,
// the printout of CiscoRA's start, nginx's error.log with libEST's lines, the
// W3C log of IIS, or our own JSON. Join them with zapcore.NewTee, or take the
// whole tree with [Tree].
//
// All lines of one event are one Write, so that sessions that run side by side
// do not tear each other's lines. An entry that a dialect has no words for is
// left out of it; JSON keeps everything. A log that cannot be written to never
// stops the work: the first error of each log is reported through zap's error
// output, and what follows is written again as soon as that is possible.
package zaplog

import (
	"sync"
	"time"

	"go.uber.org/zap/zapcore"

	"github.com/onlineca/onlineca/internal/logfmt/cucm"
	"github.com/onlineca/onlineca/internal/logfmt/iis"
	"github.com/onlineca/onlineca/internal/logfmt/libest"
	"github.com/onlineca/onlineca/internal/logfmt/nginx"
	"github.com/onlineca/onlineca/ra/event"
)

// CAPF writes a CAPF trace to w, in the time zone loc (nil: the machine's).
func CAPF(w zapcore.WriteSyncer, loc *time.Location) zapcore.Core {
	loc = zone(loc)
	var clock onward
	return newCore(w, func(dst []byte, t time.Time, e event.Event, _ event.Conn) []byte {
		dst, _ = cucm.Encode(dst, clock.next(t).In(loc), e)
		return dst
	})
}

// CESStdout writes to w what CiscoRA prints at its start, lines of libEST
// among them. What happens in the service of a connection is not part of it.
func CESStdout(w zapcore.WriteSyncer) zapcore.Core {
	return newCore(w, func(dst []byte, t time.Time, e event.Event, c event.Conn) []byte {
		if c != (event.Conn{}) {
			return dst
		}
		dst, ok := nginx.EncodeStart(dst, e)
		if !ok && libest.IsStart(e) {
			dst, _ = libest.Encode(dst, t, e)
		}
		return dst
	})
}

// ErrorLog writes nginx's error.log with libEST's lines to w, as the process
// pid in the time zone loc (nil: the machine's).
func ErrorLog(w zapcore.WriteSyncer, pid int, loc *time.Location) zapcore.Core {
	loc = zone(loc)
	var clock onward
	return newCore(w, func(dst []byte, t time.Time, e event.Event, c event.Conn) []byte {
		t = clock.next(t).In(loc)
		dst, ok := nginx.Encode(dst, t, e, c, pid)
		if !ok && !libest.IsStart(e) {
			dst, _ = libest.Encode(dst, t, e)
		}
		return dst
	})
}

// IIS writes the W3C log of IIS to w. The block of directives comes before the
// first request, unless an event.WebLogHeader has brought another.
func IIS(w zapcore.WriteSyncer) zapcore.Core {
	head := false
	return newCore(w, func(dst []byte, t time.Time, e event.Event, _ event.Conn) []byte {
		switch e := e.(type) {
		case event.WebLogHeader:
			head = true
		case event.WebRequest:
			if !head {
				head = true
				dst = appendHeader(dst, e, t)
			}
		}
		dst, _ = iis.Encode(dst, t, e)
		return dst
	})
}

func appendHeader(dst []byte, e event.WebRequest, t time.Time) []byte {
	h := iis.Header()
	if h.Date = e.Time; h.Date.IsZero() {
		h.Date = t
	}
	dst, _ = iis.Encode(dst, t, h)
	return dst
}

// JSON writes every entry to w as one object a line: ts (RFC 3339 with
// nanoseconds), level, kind (the event's name, or the message), id (the
// correlation id), conn, and the event's own fields under event.
func JSON(w zapcore.WriteSyncer) zapcore.Core {
	return zapcore.NewCore(zapcore.NewJSONEncoder(zapcore.EncoderConfig{
		TimeKey:        "ts",
		LevelKey:       "level",
		NameKey:        "logger",
		MessageKey:     "kind",
		LineEnding:     zapcore.DefaultLineEnding,
		EncodeTime:     zapcore.RFC3339NanoTimeEncoder,
		EncodeLevel:    zapcore.LowercaseLevelEncoder,
		EncodeDuration: zapcore.NanosDurationEncoder,
	}), &output{w: w}, zapcore.DebugLevel)
}

// onward is the clock of a log that one loop writes, as CAPF and nginx do: it
// does not step back. Entries of sessions that run side by side do, by the time
// between the making of an entry and its turn to be written. A clock that has
// been set back, by a second or more, is followed.
type onward struct{ last time.Time }

func (o *onward) next(t time.Time) time.Time {
	if back := o.last.Sub(t); back > 0 && back < time.Second {
		return o.last
	}
	o.last = t
	return t
}

func zone(loc *time.Location) *time.Location {
	if loc == nil {
		return time.Local
	}
	return loc
}

// encoder appends the lines of one event, or nothing.
type encoder func(dst []byte, t time.Time, e event.Event, c event.Conn) []byte

// core is a zapcore.Core of one dialect.
type core struct {
	*dialect
	// conn and event are those that With has brought.
	event event.Event
	conn  event.Conn
}

// dialect is what a core and its descendants share.
type dialect struct {
	mu     sync.Mutex // guards encode and buf
	encode encoder
	buf    []byte
	out    output
}

func newCore(w zapcore.WriteSyncer, encode encoder) zapcore.Core {
	return &core{dialect: &dialect{encode: encode, out: output{w: w}}}
}

// Enabled reports true: a dialect has no levels of its own.
func (c *core) Enabled(zapcore.Level) bool { return true }

// With keeps the event and the connection among the fields, if any.
func (c *core) With(fields []zapcore.Field) zapcore.Core {
	d := *c
	d.event, d.conn = c.find(fields)
	return &d
}

// Check adds the core to every entry: only Write sees the fields.
func (c *core) Check(entry zapcore.Entry, ce *zapcore.CheckedEntry) *zapcore.CheckedEntry {
	return ce.AddCore(entry, c)
}

// Write writes the lines of the entry's event.
func (c *core) Write(entry zapcore.Entry, fields []zapcore.Field) error {
	e, conn := c.find(fields)
	if e == nil {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.buf = c.encode(c.buf[:0], entry.Time, e, conn)
	if len(c.buf) == 0 {
		return nil
	}
	_, err := c.out.Write(c.buf)
	return err
}

// Sync flushes the log.
func (c *core) Sync() error { return c.out.Sync() }

func (c *core) find(fields []zapcore.Field) (event.Event, event.Conn) {
	e, conn, _ := event.Of(fields)
	if e == nil {
		e = c.event
	}
	if conn == (event.Conn{}) {
		conn = c.conn
	}
	return e, conn
}
