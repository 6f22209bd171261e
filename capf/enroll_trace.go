package capf

import (
	"context"

	"go.uber.org/zap"

	"github.com/onlineca/onlineca/ra/event"
	"github.com/onlineca/onlineca/ra/fault"
)

// Service is what CAPF notes of its configuration when it starts.
type Service struct {
	// Host, Port and Template are the Online CA's: certsrv's host name and
	// port, and the certificate template.
	Host     string
	Port     int
	Template string
	// CACertLength is the length in bytes of the PEM file with the trust
	// anchors for the EST server.
	CACertLength int
}

// Start writes the trace of CAPF's start with an Online CA, from the service
// parameters to the EST client that is ready.
func (e *Enroller) Start(ctx context.Context, s Service) {
	t := enrollTrace{ctx: ctx, log: e.log}
	t.emit(event.CAPFCertificateGeneration{Method: "OnlineCA", Number: 4})
	t.steps(event.StepTAMPassword)
	t.emit(
		event.CAPFOnlineCAHost{Host: s.Host},
		event.CAPFOnlineCAPort{Port: s.Port},
		event.CAPFOnlineCATemplate{Template: s.Template},
	)
	t.steps(event.StepNginxConf, event.StepParametersRead, event.StepOnlineCAReady,
		event.StepRAStart, event.StepESTSetup, event.StepESTClientInside)
	t.emit(event.CAPFCACertRead{Length: s.CACertLength})
	t.steps(event.StepESTContext, event.StepCACredentials, event.StepESTAuthSet, event.StepESTServerSet)
}

// enrollTrace writes the trace of one enrolment. The order of its lines is that
// of the traces in the vendor's troubleshooting document.
type enrollTrace struct {
	ctx     context.Context // carries the correlation id, for no longer than the enrolment lasts
	log     *zap.Logger
	session event.Session
}

func (t enrollTrace) emit(events ...event.Event) {
	for _, e := range events {
		event.Emit(t.ctx, t.log, e)
	}
}

func (t enrollTrace) steps(steps ...event.Step) {
	for _, s := range steps {
		t.emit(event.CAPFStep{Session: t.session, Step: s})
	}
}

// begin is the start of an enrolment up to reading the request.
func (t enrollTrace) begin(csrPath string) {
	t.steps(event.StepOnlineCAMode)
	t.emit(event.CAPFEnrollCalled{Session: t.session, CSRFile: csrPath})
	t.steps(event.StepReadCSR)
}

// answered is a PKCS#7 that came back.
func (t enrollTrace) answered(length int) {
	t.emit(event.CAPFEnrolled{Session: t.session, Name: fault.ESTName(fault.ESTNone), PKCS7Length: length})
	t.steps(event.StepCertWritten, event.StepWriteBinary, event.StepWriteBinaryDone, event.StepConvert)
}

// signed is the return from the enrolment to the session that waits for it.
func (t enrollTrace) signed(socket int) {
	t.emit(event.CAPFEnrollReturned{Session: t.session})
	t.steps(event.StepSigned)
	t.emit(
		event.CAPFDeviceFound{Device: t.session.Device},
		event.CAPFReadset{Socket: socket},
		// This line names no session.
		event.CAPFStep{Step: event.StepReceivedEvent},
	)
	t.steps(event.StepCertReady)
}

// stored is the session's part: it loads the certificate and is done with the
// request.
func (t enrollTrace) stored(csrPath, certPath string) {
	t.emit(event.CAPFCoreEvent{Session: t.session, Event: "CAPF_EV_CA_CERT_REP", State: "CAPF_STATE_AWAIT_CA_CERT_RESP"})
	t.steps(event.StepGotCertificate)
	t.emit(event.CAPFLoadFile{Path: certPath}, event.CAPFLoadFile{Path: certPath, Loaded: true})
	t.steps(event.StepCertRead)
	t.emit(event.CAPFLSCVerified{CSRFile: csrPath})
}

// refused ends an enrolment for which no PKCS#7 came back. It returns err.
func (t enrollTrace) refused(err error, socket int) error {
	rv := ESTNumber(err)
	t.emit(event.CAPFEnrolled{Session: t.session, RV: rv, Name: fault.ESTName(rv)})
	t.steps(event.StepEnrollFailed)
	return t.failed(err, socket)
}

// failed ends an enrolment that has no certificate. It returns err. The product
// does not say why; that goes to the log in our own words, outside the trace.
func (t enrollTrace) failed(err error, socket int) error {
	t.emit(event.CAPFEnrollReturned{Session: t.session, RV: ESTNumber(err)})
	t.steps(event.StepNotSigned)
	t.emit(event.CAPFReadset{Socket: socket})
	fields := []zap.Field{
		zap.String("device", t.session.Device),
		zap.Stringer("code", fault.Of(err).Code),
		zap.Error(err),
	}
	if id := event.ID(t.ctx); id != "" {
		fields = append(fields, zap.String("id", id))
	}
	t.log.Warn("enrolment failed", fields...)
	return err
}
