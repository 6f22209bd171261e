// Package event says what happened on the road of a certificate request, as
// typed values: one struct per fact.
//
// The rooms report facts with [Emit] on an ordinary zap logger. Which dialect a
// fact is written in (the CAPF trace of CUCM, nginx's error.log, libEST's
// lines, IIS's W3C log, our own JSON) is decided by the logger's core and by
// nobody else. Decoders of foreign logs yield the same values, so that what
// reads our logs can read a real cluster's.
//
// A fact holds what the dialects need and what a person would look for; never
// a password, a private key or an Authorization header.
package event

import (
	"context"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// Event is one fact.
type Event interface {
	// Kind names the fact, kebab-case; it is the message of our JSON log.
	Kind() string
}

// leveler is an event that is more, or less, than information.
type leveler interface{ Level() zapcore.Level }

// Field is the key under which [Emit] puts the event itself into an entry.
const Field = "event"

// Conn is the EST connection in whose service something happens, as nginx
// numbers it. The zero Conn stands for the start of the service.
type Conn struct {
	Number int    `json:"number"`
	Client string `json:"client"` // client address without port
	Server string `json:"server"` // listening address with port
}

// Record is one event as a decoder of a log found it.
type Record struct {
	// Time is when the event happened, as far as its line says so. It is zero
	// for lines that bear no time (CiscoRA stdout, libEST), and on the first
	// of January of year 1 for lines that bear no date (CAPF) unless the
	// decoder was told the day.
	Time  time.Time
	Event Event
	// Conn is the EST connection that the line names. Number is 0 if it names
	// none.
	Conn Conn
	// First and Last number the lines that the event was read from, counted
	// from 1 in the order in which the decoder was given them.
	First, Last int
}

// UnknownLine is a line that does not fit the grammar of its log at all: the
// torn first or last line of a rotated file, or somebody else's words.
type UnknownLine struct {
	Text string `json:"text"`
}

// Kind returns "unknown-line".
func (UnknownLine) Kind() string { return "unknown-line" }

type (
	idKey   struct{}
	connKey struct{}
)

// WithID returns a context whose events carry the correlation id, which
// follows one request through CAPF, EST and certsrv.
func WithID(ctx context.Context, id string) context.Context {
	return context.WithValue(ctx, idKey{}, id)
}

// ID returns the correlation id of ctx, or "".
func ID(ctx context.Context) string {
	id, _ := ctx.Value(idKey{}).(string)
	return id
}

// WithConn returns a context whose events belong to the EST connection c.
func WithConn(ctx context.Context, c Conn) context.Context {
	return context.WithValue(ctx, connKey{}, c)
}

// ConnOf returns the EST connection of ctx, or the zero Conn.
func ConnOf(ctx context.Context) Conn {
	c, _ := ctx.Value(connKey{}).(Conn)
	return c
}

// Emit reports e on log, with the correlation id (field "id") and the EST
// connection (field "conn") of ctx. A nil log is a silent one.
func Emit(ctx context.Context, log *zap.Logger, e Event) {
	if log == nil {
		return
	}
	level := zapcore.InfoLevel
	if l, ok := e.(leveler); ok {
		level = l.Level()
	}
	entry := log.Check(level, e.Kind())
	if entry == nil {
		return
	}
	fields := make([]zap.Field, 1, 3)
	fields[0] = zap.Reflect(Field, e)
	if id := ID(ctx); id != "" {
		fields = append(fields, zap.String("id", id))
	}
	if c := ConnOf(ctx); c != (Conn{}) {
		fields = append(fields, zap.Reflect("conn", c))
	}
	entry.Write(fields...)
}

// Of finds the event and its connection among the fields of a log entry.
func Of(fields []zap.Field) (e Event, c Conn, ok bool) {
	for i := range fields {
		switch v := fields[i].Interface.(type) {
		case Event:
			e, ok = v, true
		case Conn:
			c = v
		}
	}
	return e, c, ok
}
