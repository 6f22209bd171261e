//go:build unix

package winauth

import (
	"errors"
	"net"
	"syscall"
)

// alive says whether nothing has come in on an idle connection, neither its
// end nor anything else. It peeks at the socket without waiting: net/http's
// own reader may not have been scheduled since the server closed, and a POST
// written to a closed connection leaves open what became of it.
func alive(c net.Conn) bool {
	sc, ok := c.(syscall.Conn)
	if !ok {
		return true
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return false
	}
	quiet := false
	err = raw.Control(func(fd uintptr) {
		var b [1]byte
		_, _, err := syscall.Recvfrom(int(fd), b[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
		quiet = errors.Is(err, syscall.EAGAIN)
	})
	return err == nil && quiet
}
