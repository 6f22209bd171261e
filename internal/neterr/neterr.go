// Package neterr tells the ways in which a network fails, on every system.
// Go's names for them (syscall.ECONNRESET) are made-up numbers on Windows; what
// the system returns there are Winsock's own
// (learn.microsoft.com/windows/win32/winsock/windows-sockets-error-codes-2).
package neterr

import (
	"errors"
	"slices"
	"syscall"
)

// Winsock's numbers. No other system has numbers as high.
const (
	wsaNetUnreach  = syscall.Errno(10051)
	wsaConnAborted = syscall.Errno(10053)
	wsaConnReset   = syscall.Errno(10054)
	wsaConnRefused = syscall.Errno(10061)
	wsaHostUnreach = syscall.Errno(10065)
)

// Refused says whether nothing listens at the port.
func Refused(err error) bool { return is(err, syscall.ECONNREFUSED, wsaConnRefused) }

// Cut says whether the other side, or something on the way, ended the
// connection without a word.
func Cut(err error) bool {
	return is(err, syscall.ECONNRESET, syscall.ECONNABORTED, syscall.EPIPE, wsaConnReset, wsaConnAborted)
}

// NoRoute says whether the host cannot be reached.
func NoRoute(err error) bool { return is(err, syscall.EHOSTUNREACH, wsaHostUnreach) }

// NoNetwork says whether the host's network cannot be reached.
func NoNetwork(err error) bool { return is(err, syscall.ENETUNREACH, wsaNetUnreach) }

func is(err error, numbers ...syscall.Errno) bool {
	var n syscall.Errno
	return errors.As(err, &n) && slices.Contains(numbers, n)
}
