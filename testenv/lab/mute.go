package lab

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"sync"
)

// serveMute accepts connections and TLS on l until ctx ends, reads what comes
// and never answers: what the port of a registration authority does whose
// start is stuck at a CA that cannot be had. CAPF's client then waits out its
// time and reports EST_ERR_SSL_READ.
func serveMute(ctx context.Context, l net.Listener, cert tls.Certificate) error {
	defer context.AfterFunc(ctx, func() { _ = l.Close() })()
	conf := &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{cert}}
	var conns sync.WaitGroup
	defer conns.Wait()
	for {
		c, err := l.Accept()
		if ctx.Err() != nil {
			if err == nil {
				_ = c.Close()
			}
			return nil
		}
		if err != nil {
			_ = l.Close()
			return fmt.Errorf("lab: the EST port: %w", err)
		}
		conns.Go(func() {
			defer c.Close()
			defer context.AfterFunc(ctx, func() { _ = c.Close() })()
			_, _ = io.Copy(io.Discard, tls.Server(c, conf)) // ends when either side has enough
		})
	}
}
