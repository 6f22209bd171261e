package capf

import (
	"context"
	"crypto/x509"
	"fmt"
	"testing"
	"time"

	"github.com/smallstep/pkcs7"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/onlineca/onlineca/capf/phone"
	"github.com/onlineca/onlineca/capf/wire"
	"github.com/onlineca/onlineca/ra/event"
)

// estStub is an EST client whose server is the fake CA.
type estStub struct{ ca *fakeCA }

func (s estStub) Enroll(ctx context.Context, csr []byte) (*Answer, error) {
	lsc, err := s.ca.EnrollCSR(ctx, "", 0, csr)
	if err != nil {
		return nil, err
	}
	p7, err := pkcs7.DegenerateCertificate(lsc.DER)
	return &Answer{Raw: p7}, err
}

// The trace of a whole installation through the Online CA has the lines of the
// vendor's document, in its order, with the session in front where the document
// has it.
func TestTraceOfInstallation(t *testing.T) {
	core, logs := observer.New(zapcore.DebugLevel)
	ca := newFakeCA(t)
	enroller, err := NewEnroller(EnrollerConfig{
		Client: estStub{ca}, Anchors: AnchorsOf([]*x509.Certificate{ca.issuer.Certificate()}), Logger: zap.New(core),
	})
	if err != nil {
		t.Fatal(err)
	}
	d := pendingDevice(testDevice)
	d.KeyOrder, d.FinishBy = RSAOnly, time.Now().Add(time.Hour)
	b := newBench(t, func(c *ServerConfig) { c.Online, c.Logger = enroller, zap.New(core) }, NewDevice("SEPOTHER"), d)
	mustRun(t, b.phoneConfig("SEPOTHER")) // so that the session under test is number 2, as in the document
	keys := &phone.Pool{Size: 1}
	cfg := b.phoneConfig(testDevice)
	cfg.Keys = keys.Key
	mustRun(t, cfg)
	b.stop()
	b.logs = logs

	p := event.Session{Number: 2, Device: testDevice}
	step := func(s event.Step) event.Event { return event.CAPFStep{Session: p, Step: s} }
	row := func(op, status string) event.Event {
		return event.CAPFDeviceRow{
			Device: testDevice, DefaultAuthMode: "AUTH_BY_STR:1", KeySize: "KEY_SIZE_2048:3", ECKeySize: "EC_KEY_SIZE_256:256",
			KeyOrder: "KEYORDER_RSA_ONLY:1", Operation: op, OperationStatus: status, AuthMode: "AUTH_BY_NULL_STR:2",
			FinishBy: FormatFinishBy(d.FinishBy),
		}
	}
	const csr, cert = "/tmp/capf/csr/" + testDevice + ".csr", "/tmp/capf/cert/" + testDevice + ".der"
	want := []event.Event{
		row("OPERATION_UPGRADE:2", "CERT_STATUS_OPERATION_PENDING:2"),
		step(event.StepOnlineCAMode), event.CAPFEnrollCalled{Session: p, CSRFile: csr},
		step(event.StepReadCSR), step(event.StepReadCSRDone),
		event.CAPFEnrolled{Session: p, Name: "EST_ERR_NONE"},
		step(event.StepCertWritten), step(event.StepWriteBinary), step(event.StepWriteBinaryDone), step(event.StepConvert),
		event.CAPFEnrollReturned{Session: p}, step(event.StepSigned),
		event.CAPFDeviceFound{Device: testDevice}, event.CAPFReadset{Socket: 6}, event.CAPFStep{Step: event.StepReceivedEvent},
		step(event.StepCertReady),
		event.CAPFCoreEvent{Session: p, Event: "CAPF_EV_CA_CERT_REP", State: "CAPF_STATE_AWAIT_CA_CERT_RESP"},
		step(event.StepGotCertificate), event.CAPFLoadFile{Path: cert}, event.CAPFLoadFile{Path: cert, Loaded: true},
		step(event.StepCertRead), event.CAPFLSCVerified{CSRFile: csr}, step(event.StepStoreCert),
		event.CAPFOperationStatus{Device: testDevice, Operation: "OPERATION_UPGRADE", Text: "Success:CAPF_OP_SUCCESS",
			DBStatus: "CERT_STATUS_UPGRADE_SUCCESS", DBNumber: 3},
		step(event.StepSetPublicKey), event.CAPFPublicKeyLength{Session: p, Length: 270},
		row("OPERATION_NONE:1", "CERT_STATUS_UPGRADE_SUCCESS:3"),
		event.CAPFMessage{Type: "CAPF_MSG_END_SESSION"},
	}
	got := b.events()
	for _, e := range got {
		if len(want) > 0 && sameEvent(e, want[0]) {
			want = want[1:]
		}
	}
	if len(want) > 0 {
		t.Errorf("the trace lacks, at its place, %#v", want[0])
		for _, e := range got {
			t.Logf("%#v", e)
		}
	}
	checkCorrelation(t, logs)
}

// sameEvent compares all but times, and lengths that differ with each key.
func sameEvent(a, b event.Event) bool {
	switch e := a.(type) {
	case event.CAPFEnrolled:
		if e.PKCS7Length > 0 {
			e.PKCS7Length = 0
		}
		a = e
	case event.CAPFDeviceRow:
		e.Duration = 0
		a = e
	case event.CAPFOperationStatus:
		e.Duration = 0
		a = e
	}
	return fmt.Sprintf("%#v", a) == fmt.Sprintf("%#v", b)
}

// Every event of one session has the same id, and other sessions have others.
func checkCorrelation(t *testing.T, logs *observer.ObservedLogs) {
	t.Helper()
	ids := make(map[string]map[string]bool)
	for _, e := range logs.All() {
		id, _ := e.ContextMap()["id"].(string)
		if step, _, ok := event.Of(e.Context); ok {
			if row, ok := step.(event.CAPFDeviceRow); ok {
				if ids[row.Device] == nil {
					ids[row.Device] = make(map[string]bool)
				}
				ids[row.Device][id] = true
			}
			if id == "" {
				t.Errorf("%s without an id", step.Kind())
			}
		}
	}
	if len(ids[testDevice]) != 1 || len(ids["SEPOTHER"]) != 1 || fmt.Sprint(ids[testDevice]) == fmt.Sprint(ids["SEPOTHER"]) {
		t.Errorf("ids %v", ids)
	}
}

// A failure is in the trace with the operation's code and the reason.
func TestTraceOfFailure(t *testing.T) {
	b := newBench(t, nil, pendingDevice(testDevice))
	defer b.stop()
	p := b.raw("p")
	p.hello()
	p.auth(3, testDevice)
	p.expect(wire.KeyGenerateRequest)
	p.send(wire.KeyGenerateResponse)
	p.expectEnd(wire.ReasonInvalid)
	want := event.CAPFOperationStatus{Device: testDevice, Operation: "OPERATION_UPGRADE", Text: "Fail:CAPF_OP_FAIL_OP_TIMED_OUT",
		Code: 8, DBStatus: "CERT_STATUS_UPGRADE_FAILED_KEY_GEN_FAILED", DBNumber: 14}
	found := false
	for _, e := range b.events() {
		found = found || sameEvent(e, want)
	}
	if !found || !b.traced("PUBLIC_KEY: element is missing") {
		t.Errorf("not in the trace: %#v", b.events())
	}
}

// Elements without a name are skipped and said so.
func TestTraceOfUnknownElement(t *testing.T) {
	b := newBench(t, nil, NewDevice(testDevice))
	defer b.stop()
	p := b.raw("p")
	p.hello()
	p.bytes([]byte{0x55, 2, 0, 0, 0, 1, 0, 27, 15, 0, 2, 0xca, 0xfe, 7, 0, 1, 2, 13, 0, 15})
	p.bytes([]byte(testDevice))
	p.expectEnd(wire.ReasonNoAction)
	if !b.traced("Unknown element 15 of 2 bytes in AUTH_RESPONSE skipped") {
		t.Error("the element is not in the trace")
	}
}
