package capf

import (
	"net"
	"net/http"
	"testing"

	"github.com/onlineca/onlineca/ra/fault"
)

// Which of the transport's two goroutines tells of a failed write is a matter of
// luck.
func TestFailedWriteAsItsReaderTellsIt(t *testing.T) {
	for _, err := range []error{
		&net.OpError{Op: "write", Net: "tcp", Err: net.ErrClosed},
		&net.OpError{Op: "read", Net: "tcp", Err: net.ErrClosed},
	} {
		if code, rv := estReadFault(http.MethodPost, err); code != fault.ESTHTTPWriteFault || rv != fault.ESTHTTPWrite {
			t.Errorf("%v: %v, %d", err, code, rv)
		}
	}
}
