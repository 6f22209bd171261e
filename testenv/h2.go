package testenv

import (
	"crypto/tls"
	"io"
	"net/http"
	"time"

	"golang.org/x/net/http2"
)

// refuseHTTP2 does what http.sys does for a client that has negotiated HTTP/2
// where Windows authentication is needed: it resets each stream with
// HTTP_1_1_REQUIRED (RFC 9113 section 7).
func (s *Certsrv) refuseHTTP2(_ *http.Server, c *tls.Conn, _ http.Handler) {
	defer func() { _ = c.Close() }()
	if !s.enter() {
		return
	}
	defer s.running.Done()
	_ = c.SetDeadline(time.Now().Add(2 * time.Minute))
	preface := make([]byte, len(http2.ClientPreface))
	if _, err := io.ReadFull(c, preface); err != nil || string(preface) != http2.ClientPreface {
		return
	}
	f := http2.NewFramer(c, c)
	if f.WriteSettings() != nil {
		return
	}
	for {
		frame, err := f.ReadFrame()
		if err != nil {
			return
		}
		switch fr := frame.(type) {
		case *http2.SettingsFrame:
			if !fr.IsAck() {
				err = f.WriteSettingsAck()
			}
		case *http2.HeadersFrame:
			s.log.add(Request{Time: s.conf.Clock(), Method: "HTTP/2", Step: StepHandshake})
			err = f.WriteRSTStream(fr.StreamID, http2.ErrCodeHTTP11Required)
		case *http2.PingFrame:
			if !fr.IsAck() {
				err = f.WritePing(true, fr.Data)
			}
		}
		if err != nil {
			return
		}
	}
}
