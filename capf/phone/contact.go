package phone

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"time"

	"github.com/onlineca/onlineca/capf/wire"
)

// contact is one connection to CAPF.
func (p *Phone) contact(ctx context.Context) (Result, error) {
	raw, err := p.cfg.Dial(ctx)
	if err != nil {
		return Result{}, p.wrap(ctx, FailConnect, "connect", err)
	}
	defer raw.Close()
	stop := context.AfterFunc(ctx, func() { _ = raw.Close() })
	defer stop()
	conn := tls.Client(raw, p.tlsConfig())
	_ = raw.SetDeadline(time.Now().Add(p.cfg.Patience))
	if err := conn.HandshakeContext(ctx); err != nil {
		return Result{}, p.wrap(ctx, tlsFailure(err), "TLS handshake", err)
	}
	c := &contact{p: p, conn: conn, state: "wait for AUTH_REQUEST"}
	return c.run(ctx)
}

// tlsFailure tells a certificate that the phone refuses from a connection that
// went away.
func tlsFailure(err error) Failure {
	var n net.Error
	switch {
	case errors.Is(err, io.EOF), errors.As(err, &n) && !errors.Is(err, os.ErrDeadlineExceeded) && isOpError(err):
		return FailLost
	case errors.Is(err, os.ErrDeadlineExceeded):
		return FailTimeout
	default:
		return FailTLS
	}
}

func isOpError(err error) bool {
	var op *net.OpError
	return errors.As(err, &op) && op.Op != "remote error"
}

// wrap makes an *Error. What a later attempt can mend is tried again.
func (p *Phone) wrap(ctx context.Context, f Failure, state string, err error) *Error {
	if ctx.Err() != nil {
		f, err = FailCancelled, context.Cause(ctx)
	}
	retry := f == FailConnect || f == FailLost || f == FailTimeout
	return &Error{Failure: f, State: state, Err: err, retry: retry}
}

// tlsConfig verifies CAPF's chain and not its name.
func (p *Phone) tlsConfig() *tls.Config {
	c := &tls.Config{
		MinVersion: tls.VersionTLS12,
		// The chain is verified below. crypto/tls cannot leave out the name only.
		InsecureSkipVerify: true, //nolint:gosec // See VerifyConnection.
		VerifyConnection:   p.verify,
		// One message, one TLS record: Go would cut the first ones short.
		DynamicRecordSizingDisabled: true,
	}
	if p.cfg.LegacyTLS {
		c.MinVersion, c.MaxVersion = tls.VersionTLS10, tls.VersionTLS10
		c.CipherSuites = []uint16{tls.TLS_RSA_WITH_AES_256_CBC_SHA, tls.TLS_RSA_WITH_AES_128_CBC_SHA}
	}
	if p.cfg.TLS != nil {
		p.cfg.TLS(c)
	}
	return c
}

func (p *Phone) verify(s tls.ConnectionState) error {
	leaf := s.PeerCertificates[0]
	between := x509.NewCertPool()
	for _, c := range s.PeerCertificates[1:] {
		between.AddCert(c)
	}
	if _, err := leaf.Verify(x509.VerifyOptions{
		Roots: p.cfg.Roots, Intermediates: between, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny},
	}); err != nil {
		return fmt.Errorf("certificate %q of CAPF: %w", leaf.Subject, err)
	}
	const need = x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign
	good := leaf.BasicConstraintsValid && leaf.IsCA && leaf.MaxPathLenZero && leaf.KeyUsage&need == need
	if !good && !p.cfg.AnyExtensions {
		return fmt.Errorf("certificate %q of CAPF: phones want CA:TRUE with path length 0, and the key usages digitalSignature and keyCertSign", leaf.Subject)
	}
	return nil
}

// contact is one session with CAPF.
type contact struct {
	p       *Phone
	conn    *tls.Conn
	session uint32
	state   string
	result  Result
}

// run obeys CAPF until it ends the session.
func (c *contact) run(ctx context.Context) (Result, error) {
	c.result.Operation = None
	m, err := c.receive(ctx)
	if err != nil {
		return c.result, err
	}
	if m.Command != wire.AuthRequest {
		return c.result, c.unexpected(m)
	}
	c.session, c.result.Session = m.Session, m.Session
	answer, err := c.p.response(m.Session)
	if err != nil {
		return c.result, c.local("sign AUTH_RESPONSE", err)
	}
	if err := c.send(ctx, answer); err != nil {
		return c.result, err
	}
	for {
		c.state = "wait for CAPF"
		m, err := c.receive(ctx)
		if err != nil {
			return c.result, err
		}
		if m.Session != c.session {
			return c.result, c.fault(FailProtocol, fmt.Errorf("%v has the session id %d, this is session %d", m.Command, m.Session, c.session))
		}
		c.state = m.Command.String()
		over, err := c.obey(ctx, m)
		if over || err != nil {
			return c.result, err
		}
	}
}

// obey does what one message asks for; over says that it was the last.
func (c *contact) obey(ctx context.Context, m wire.Message) (over bool, err error) {
	switch m.Command {
	case wire.EndSession:
		return true, c.ended(m)
	case wire.RetryLater:
		seconds, _ := m.RetryDelay()
		return true, &Error{Failure: FailLater, State: c.state, After: time.Duration(seconds) * time.Second,
			Err: errors.New("CAPF has nothing for the phone yet"), retry: true}
	case wire.RequestInProgress:
		return false, nil
	case wire.KeyGenerateRequest:
		c.result.Operation = Install
		return false, c.generate(ctx, m)
	case wire.StoreCertificateRequest:
		c.result.Operation = Install
		return false, c.store(ctx, m)
	case wire.FetchCertificateRequest:
		c.result.Operation = Troubleshoot
		return false, c.show(ctx)
	case wire.DeleteCertRequest:
		c.result.Operation = Delete
		return false, c.remove(ctx)
	case c.p.cfg.Encrypt.RequestCommand():
		return false, c.encrypt(ctx, m)
	default:
		return false, c.unexpected(m)
	}
}

// ended is CAPF's END_SESSION.
func (c *contact) ended(m wire.Message) error {
	reason, err := m.Reason()
	if err != nil {
		return c.fault(FailProtocol, err)
	}
	c.result.Reason = reason
	switch reason {
	case wire.ReasonNoAction, wire.ReasonOK:
		return nil
	case wire.ReasonUnknownDevice:
		return &Error{Failure: FailUnknown, State: c.state, Reason: reason, Err: fmt.Errorf("reason %v", reason)}
	default:
		return &Error{Failure: FailDeclined, State: c.state, Reason: reason, Err: fmt.Errorf("reason %v", reason)}
	}
}

// generate makes the key that CAPF asks for.
func (c *contact) generate(ctx context.Context, m wire.Message) error {
	spec, err := m.KeySpec()
	if err != nil {
		return c.fault(FailProtocol, err)
	}
	if want := c.p.cfg.Key; want != (wire.KeySpec{}) && want != spec {
		return c.fault(FailCannot, fmt.Errorf("CAPF asks for %v, this phone makes %v", spec, want))
	}
	for range max(c.p.cfg.InProgress, 0) {
		if err := c.send(ctx, wire.Message{Command: wire.RequestInProgress}); err != nil {
			return err
		}
	}
	key, err := c.p.cfg.Keys(ctx, spec)
	if err != nil {
		return c.local("generate "+spec.String(), err)
	}
	if err := c.p.setPending(key); err != nil {
		return c.local("keep the key", err)
	}
	der, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		return c.local("encode the key", err)
	}
	return c.send(ctx, wire.Message{Command: wire.KeyGenerateResponse, Elements: []wire.Element{{Tag: wire.TagPublicKey, Value: der}}})
}

// encrypt signs a certificate request that CAPF has made.
func (c *contact) encrypt(ctx context.Context, m wire.Message) error {
	if c.p.cfg.NoEncrypt {
		return c.fault(FailCannot, fmt.Errorf("unexpected command: %v", m.Command))
	}
	if c.p.pending == nil {
		return c.fault(FailProtocol, errors.New("CAPF asks for a signature, and there is no new key"))
	}
	answer, err := c.p.cfg.Encrypt.Answer(c.p.pending, &m)
	if err != nil {
		return c.fault(FailProtocol, err)
	}
	return c.send(ctx, answer)
}

// store keeps the new certificate if it is for the new key.
func (c *contact) store(ctx context.Context, m wire.Message) error {
	der, err := m.Certificate()
	if err != nil {
		return c.fault(FailProtocol, err)
	}
	if c.p.current != nil && bytes.Equal(c.p.current.Certificate, der) {
		// Stored already; the answer to the last STORE was lost.
		c.result.Certificate = der
		return c.answer(ctx, wire.StoreCertificateResponse, wire.ReasonOK)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil || c.p.pending == nil || !samePublic(cert.PublicKey, c.p.pending.Public()) {
		return c.answer(ctx, wire.StoreCertificateResponse, wire.ReasonInvalid)
	}
	if err := c.p.install(der); err != nil {
		return c.local("store the certificate", err)
	}
	c.result.Certificate = der
	return c.answer(ctx, wire.StoreCertificateResponse, wire.ReasonOK)
}

// show sends the phone's certificate.
func (c *contact) show(ctx context.Context) error {
	if c.p.current == nil {
		return c.answer(ctx, wire.FetchCertificateResponse, wire.ReasonInvalid)
	}
	c.result.Certificate = c.p.current.Certificate
	return c.answer(ctx, wire.FetchCertificateResponse, wire.ReasonOK, wire.CertificateValue(c.p.current.Certificate))
}

// remove deletes the phone's certificate.
func (c *contact) remove(ctx context.Context) error {
	if c.p.current == nil {
		return c.answer(ctx, wire.DeleteCertResponse, wire.ReasonInvalid)
	}
	if err := c.p.uninstall(); err != nil {
		return c.local("delete the certificate", err)
	}
	return c.answer(ctx, wire.DeleteCertResponse, wire.ReasonOK)
}

func (c *contact) answer(ctx context.Context, command wire.Command, r wire.Reason, more ...wire.Element) error {
	return c.send(ctx, wire.Message{Command: command, Elements: append([]wire.Element{wire.Uint8(wire.TagReason, r)}, more...)})
}

func (c *contact) send(ctx context.Context, m wire.Message) error {
	m.Session = c.session
	if c.p.cfg.Observe != nil {
		c.p.cfg.Observe(true, m)
	}
	_ = c.conn.SetDeadline(time.Now().Add(c.p.cfg.Patience))
	if err := wire.Write(c.conn, m); err != nil {
		if errors.Is(err, wire.ErrTooLong) {
			return c.local("send "+m.Command.String(), err)
		}
		return c.p.wrap(ctx, ioFailure(err), "send "+m.Command.String(), err)
	}
	return nil
}

func (c *contact) receive(ctx context.Context) (wire.Message, error) {
	_ = c.conn.SetDeadline(time.Now().Add(c.p.cfg.Patience))
	m, err := wire.Read(c.conn)
	switch {
	case errors.Is(err, wire.ErrFormat):
		return m, c.fault(FailProtocol, err)
	case err != nil:
		return m, c.p.wrap(ctx, ioFailure(err), c.state, err)
	}
	if c.p.cfg.Observe != nil {
		c.p.cfg.Observe(false, m)
	}
	return m, nil
}

func ioFailure(err error) Failure {
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return FailTimeout
	}
	return FailLost
}

func (c *contact) fault(f Failure, err error) *Error {
	return &Error{Failure: f, State: c.state, Err: err}
}

func (c *contact) local(what string, err error) *Error {
	return &Error{Failure: FailLocal, State: what, Err: err}
}

func (c *contact) unexpected(m wire.Message) *Error {
	return c.fault(FailProtocol, fmt.Errorf("unexpected command: %v", m.Command))
}
