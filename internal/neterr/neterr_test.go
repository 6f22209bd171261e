package neterr

import (
	"fmt"
	"io"
	"net"
	"os"
	"syscall"
	"testing"
)

func TestEachKindOnEachSystem(t *testing.T) {
	kinds := map[string]func(error) bool{"refused": Refused, "cut": Cut, "no route": NoRoute, "no network": NoNetwork}
	for number, want := range map[syscall.Errno]string{
		syscall.ECONNREFUSED: "refused", 10061: "refused",
		syscall.ECONNRESET: "cut", syscall.ECONNABORTED: "cut", syscall.EPIPE: "cut", 10053: "cut", 10054: "cut",
		syscall.EHOSTUNREACH: "no route", 10065: "no route",
		syscall.ENETUNREACH: "no network", 10051: "no network",
		syscall.EACCES: "", 10060: "",
	} {
		err := fmt.Errorf("wrapped: %w", &net.OpError{Op: "read", Net: "tcp", Err: os.NewSyscallError("wsarecv", number)})
		for kind, is := range kinds {
			if is(err) != (kind == want) {
				t.Errorf("%d: %s: %v", number, kind, is(err))
			}
		}
	}
	for kind, is := range kinds {
		if is(nil) || is(io.EOF) {
			t.Errorf("%s: nil or the end of a stream", kind)
		}
	}
}

func TestRefusedForReal(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	_, err = new(net.Dialer).DialContext(t.Context(), "tcp", addr)
	if !Refused(err) {
		t.Error(err)
	}
}
