package capf

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"time"

	"github.com/onlineca/onlineca/capf/wire"
	"github.com/onlineca/onlineca/ra/event"
	"github.com/onlineca/onlineca/ra/fault"
)

// serverVersion is the version of the protocol that the server announces.
const serverVersion = 3

// recordTimeout limits the write to the device table that ends a session.
const recordTimeout = 30 * time.Second

// success is how a session ends well.
type success struct {
	code   OpCode
	end    wire.Reason
	change func(*Device) // what the row becomes, nil for nothing but its status
	idle   bool          // there was nothing to do: the row is left alone
}

// run is the session from its first message to its last.
func (p *session) run(ctx context.Context) {
	ok, err := p.talk(ctx)
	if err == nil {
		if !ok.idle {
			p.recordSuccess(ctx, ok)
		}
		p.end(ctx, wire.Message{Command: wire.EndSession, Elements: []wire.Element{wire.Uint8(wire.TagReason, ok.end)}})
		return
	}
	var f *failure
	if !errors.As(err, &f) {
		f = p.fail(OpFailed, err)
	}
	if !f.told {
		p.say(ctx, true, "%v", f.err)
	}
	if !f.unrecorded && p.device.Name != "" && (!p.claimed || p.srv.owns(p)) {
		p.recordFailure(ctx, f)
	}
	switch {
	case f.silent:
	case f.later > 0 && !p.srv.cfg.EndInsteadOfRetry:
		delay := wire.Uint16(wire.TagRetryDelay, uint16(min(f.later/time.Second, 65535)))
		p.end(ctx, wire.Message{Command: wire.RetryLater, Elements: []wire.Element{delay}})
	default:
		end := f.end
		if end == 0 {
			end = wire.ReasonInvalid
		}
		p.end(ctx, wire.Message{Command: wire.EndSession, Elements: []wire.Element{wire.Uint8(wire.TagReason, end)}})
	}
}

// end sends the last message and gives the phone a moment to read it and to
// close.
func (p *session) end(ctx context.Context, m wire.Message) {
	name := "CAPF_MSG_" + m.Command.String()
	p.srv.emit(ctx, event.CAPFMessage{Type: name})
	if err := p.send(m); err != nil {
		return
	}
	_ = p.conn.CloseWrite()
	timer := time.NewTimer(linger)
	defer timer.Stop()
	for {
		select {
		case f := <-p.frames:
			if f.err != nil {
				return
			}
		case <-timer.C:
			return
		case <-ctx.Done():
			return
		}
	}
}

// talk is the session up to its last message. An error is a *failure.
func (p *session) talk(ctx context.Context) (success, error) {
	m, err := p.greet(ctx)
	if err != nil {
		return success{}, err
	}
	if err := p.identify(ctx, &m); err != nil {
		return success{}, err
	}
	if p.device.Operation == OperationNone {
		p.say(ctx, false, "No operation is pending")
		p.noteStale(ctx)
		return success{end: wire.ReasonNoAction, idle: true}, nil
	}
	if by := p.device.FinishBy; !by.IsZero() && p.began.After(by) {
		return success{}, p.faulty(fault.DeadlinePassed, fmt.Errorf("it was to finish by %s", FormatFinishBy(by)))
	}
	if err := p.authenticate(ctx, &m); err != nil {
		return success{}, err
	}
	p.claimed = true
	p.srv.claim(p)
	// A former session of the phone may have changed the row until now.
	if p.device, err = p.srv.cfg.Devices.Device(ctx, p.name); err != nil {
		return success{}, p.table(err)
	}
	switch p.device.Operation {
	case OperationUpgrade:
		return p.install(ctx)
	case OperationDelete:
		return p.remove(ctx)
	case OperationTroubleshoot:
		return p.fetch(ctx)
	default:
		return success{end: wire.ReasonNoAction, idle: true}, nil
	}
}

// noteStale notes a phone that keeps an LSC of an earlier issuer: nothing is
// scheduled that would give it a new one.
func (p *session) noteStale(ctx context.Context) {
	if p.srv.cfg.LSCIssuers == nil || len(p.device.LSC) == 0 {
		return
	}
	today := p.srv.cfg.LSCIssuers()
	if len(today) == 0 || IssuedBy(p.device.LSC, append([]*x509.Certificate{p.srv.cfg.Certificate.Leaf}, today...)) {
		return
	}
	p.srv.emit(ctx, event.LSCStale{Session: p.trace(), Issuer: p.device.LSCIssuer, Code: fault.StaleLSC.String()})
}

// greet sends the first message and waits for the answer.
func (p *session) greet(ctx context.Context) (wire.Message, error) {
	hello := wire.Message{Command: wire.AuthRequest, Elements: []wire.Element{wire.Uint8[uint8](wire.TagVersion, serverVersion)}}
	if p.srv.cfg.AnnounceAuthType {
		hello.Elements = append(hello.Elements, wire.Uint8(wire.TagAuthType, wire.AuthNone))
	}
	if err := p.send(hello); err != nil {
		return wire.Message{}, err
	}
	return p.await(ctx, StateAwaitAuth)
}

// identify reads the phone's version and name and finds its row.
func (p *session) identify(ctx context.Context, m *wire.Message) error {
	version, err := m.Uint8(wire.TagVersion)
	switch {
	case errors.Is(err, wire.ErrMissing):
		version = 1
	case err != nil:
		return p.fail(OpPhoneComm, err)
	case version < 1 || version > serverVersion:
		return p.fail(OpPhoneComm, fmt.Errorf("the phone speaks version %d of CAPF, versions 1 to %d are known", version, serverVersion))
	}
	p.version = version
	name, err := m.Text(wire.TagDeviceName)
	if err == nil {
		err = CheckDeviceName(name)
	}
	if err != nil {
		return p.fail(OpPhoneComm, err)
	}
	p.setName(name)
	asked := time.Now()
	device, err := p.srv.cfg.Devices.Device(ctx, name)
	took := time.Since(asked)
	if errors.Is(err, ErrNoDevice) {
		f := p.faulty(fault.UnknownDevice, nil)
		f.end, f.unrecorded = wire.ReasonUnknownDevice, true
		return f
	}
	if err != nil {
		return p.table(err)
	}
	p.device = device
	p.setName(device.Name) // as the table spells it
	row := device.row()
	row.Duration = took
	p.srv.emit(ctx, row)
	return nil
}

func (p *session) setName(name string) {
	p.srv.mu.Lock()
	p.name = name
	p.srv.mu.Unlock()
}

// table is a device table that cannot be read or written; err says which. The
// operation stays as it is, so the phone is told to come back.
func (p *session) table(err error) *failure {
	return &failure{code: OpFailed, err: fmt.Errorf("capf: %s: %w", p.who(), err), later: p.srv.cfg.RetryDelay, unrecorded: true}
}

// remove has the phone delete its certificate.
func (p *session) remove(ctx context.Context) (success, error) {
	reason, _, err := p.ask(ctx, wire.DeleteCertRequest, StateAwaitDelete)
	if err != nil {
		return success{}, err
	}
	if reason != wire.ReasonOK {
		return success{}, p.fail(OpFailed, fmt.Errorf("the phone did not delete its certificate, reason %v: it may have none", reason))
	}
	return success{end: wire.ReasonOK, change: (*Device).removed}, nil
}

// fetch has the phone show its certificate.
func (p *session) fetch(ctx context.Context) (success, error) {
	reason, m, err := p.ask(ctx, wire.FetchCertificateRequest, StateAwaitFetch)
	if err != nil {
		return success{}, err
	}
	der, err := m.Certificate()
	if reason != wire.ReasonOK && reason != wire.ReasonNoAction || errors.Is(err, wire.ErrMissing) {
		p.say(ctx, false, "The phone has no certificate, reason %v", reason)
		return success{code: OpNoCertificate, end: wire.ReasonNoAction, change: (*Device).removed}, nil
	}
	if err != nil {
		return success{}, p.fail(OpPhoneComm, err)
	}
	cert, err := parseCertificate(der)
	if err != nil {
		return success{}, p.fail(OpFailed, fmt.Errorf("the certificate that the phone shows: %w", err))
	}
	return success{end: wire.ReasonNoAction, change: func(d *Device) {
		until := d.LSCIssuerValidUntil
		if d.LSCIssuer != distinguished(cert.RawIssuer) {
			until = time.Time{}
		}
		pending := *d
		d.installed(cert, until)
		// What is under way goes on.
		d.CSR, d.CSRTime, d.Issued, d.IssuedIssuerUntil = pending.CSR, pending.CSRTime, pending.Issued, pending.IssuedIssuerUntil
	}}, nil
}

// ask sends a command without elements and returns the REASON of the answer.
func (p *session) ask(ctx context.Context, c wire.Command, st State) (wire.Reason, *wire.Message, error) {
	if err := p.send(wire.Message{Command: c}); err != nil {
		return 0, nil, err
	}
	m, err := p.await(ctx, st)
	if err != nil {
		return 0, nil, err
	}
	reason, err := m.Reason()
	if err != nil {
		return 0, nil, p.fail(OpPhoneComm, err)
	}
	return reason, &m, nil
}

// recordSuccess ends the operation in the device table.
func (p *session) recordSuccess(ctx context.Context, ok success) {
	op := p.device.Operation
	p.update(ctx, op, ok.code, func(d *Device) {
		if d.Operation == op { // not rescheduled meanwhile
			d.Operation, d.Status, d.Reason, d.Code = OperationNone, StatusOf(op, ok.code), "", ""
		}
		if ok.change != nil {
			ok.change(d)
		}
	})
}

// recordFailure writes the status and the real reason beside it.
func (p *session) recordFailure(ctx context.Context, f *failure) {
	op := p.device.Operation
	p.update(ctx, op, f.code, func(d *Device) { f.apply(d, op, p.srv.cfg.OneAttempt) })
}

// apply writes the failure of the operation op into the row.
func (f *failure) apply(d *Device, op Operation, oneAttempt bool) {
	if d.Operation != op {
		return // rescheduled meanwhile
	}
	d.Status = f.status
	if d.Status == 0 {
		d.Status = StatusOf(op, f.code)
	}
	d.Reason, d.Code = f.err.Error(), ""
	if code := fault.Of(f.err).Code; code != fault.Unknown {
		d.Code = code.String()
	}
	if f.later > 0 { // still under way
		d.Status = StatusOperationPending
		return
	}
	if !f.keep || oneAttempt {
		d.Operation = OperationNone
	}
}

// update changes the row, even if the session's context has ended, and writes
// the lines that the product writes of it.
func (p *session) update(ctx context.Context, op Operation, code OpCode, change func(*Device)) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), recordTimeout)
	defer cancel()
	start := time.Now()
	row, err := p.srv.cfg.Devices.Update(ctx, p.name, func(d *Device) error {
		change(d)
		d.LastContact = p.srv.cfg.Now()
		return nil
	})
	if err != nil {
		p.say(ctx, true, "write the device table: %v", err)
		return
	}
	p.srv.statusLines(ctx, row, op, code, time.Since(start))
	if row.Operation != OperationNone {
		p.say(ctx, false, "The operation stays scheduled for the next contact: %s", row.Operation.trace())
	}
	if code == OpSuccess && op == OperationUpgrade {
		p.note(ctx, event.StepSetPublicKey)
		p.srv.emit(ctx, event.CAPFPublicKey{Session: p.trace(), DER: row.PublicKey})
		p.srv.emit(ctx, event.CAPFPublicKeyLength{Session: p.trace(), Length: len(row.PublicKey)})
	}
	p.srv.emit(ctx, row.row())
}

// statusLines is SetOperationStatus of the trace.
func (s *Server) statusLines(ctx context.Context, row Device, op Operation, code OpCode, took time.Duration) {
	s.emit(ctx, event.CAPFOperationStatus{
		Device: row.Name, Operation: op.traceName(), Text: code.trace(), Code: int(code),
		DBStatus: row.Status.traceName(), DBNumber: int(row.Status), Duration: took,
	})
}
