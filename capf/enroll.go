package capf

import (
	"context"
	"crypto/x509"
	"errors"
	"path"
	"time"

	"go.uber.org/zap"

	"github.com/onlineca/onlineca/ra/event"
	"github.com/onlineca/onlineca/ra/fault"
)

// ESTEnroller is what an [Enroller] needs of an EST client: [ESTClient] has it.
type ESTEnroller interface {
	Enroll(ctx context.Context, csrDER []byte) (*Answer, error)
}

// EnrollerConfig says how CAPF gets certificates from the Online CA. Client is
// all that is needed.
type EnrollerConfig struct {
	// Client enrols.
	Client ESTEnroller
	// Anchors verify what comes back. Without roots, the certificates that the
	// EST server itself gives for its CA are trusted (RFC 7030 section 4.1),
	// asked for when they are first needed, and again when they do not verify a
	// certificate: the CA may have been renewed.
	Anchors Anchors
	// Dir is the directory that the trace shows for requests and certificates,
	// as the product's own: "/tmp/capf" if empty. Nothing is written there.
	Dir string
	// Socket is the number of the socket that the trace shows as waited on
	// after an enrolment; 6 if zero, as in the vendor's example of a success.
	Socket int
	// Logger gets the events of the trace. A nil logger is silent.
	Logger *zap.Logger
	// Now is the clock, time.Now if nil.
	Now func() time.Time
}

// Enroller is the Online CA's side of CAPF: it gives a device's request to the
// EST client, verifies what comes back, and writes the trace that CAPF writes
// of it. It may be used by any number of goroutines.
type Enroller struct {
	cfg EnrollerConfig
	log *zap.Logger

	turn    chan struct{} // held by whoever looks at anchors
	anchors Anchors
}

// NewEnroller returns an Enroller. Nothing is sent.
func NewEnroller(cfg EnrollerConfig) (*Enroller, error) {
	if cfg.Client == nil {
		return nil, errors.New("capf: an enroller needs an EST client")
	}
	if _, ok := cfg.Client.(caCerts); !ok && cfg.Anchors.Roots == nil {
		return nil, errNoAnchors
	}
	if cfg.Dir == "" {
		cfg.Dir = "/tmp/capf"
	}
	if cfg.Socket == 0 {
		cfg.Socket = 6
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	log := cfg.Logger
	if log == nil {
		log = zap.NewNop()
	}
	return &Enroller{cfg: cfg, log: log, turn: make(chan struct{}, 1), anchors: cfg.Anchors}, nil
}

// CSRPath is the path of a device's request as the trace shows it.
func (e *Enroller) CSRPath(device string) string { return path.Join(e.cfg.Dir, "csr", device+".csr") }

// CertPath is the path of a device's certificate as the trace shows it.
func (e *Enroller) CertPath(device string) string {
	return path.Join(e.cfg.Dir, "cert", device+".der")
}

// EnrollCSR gets the certificate for the request of a device, PEM or DER, in
// the session of the given number. The trace goes from "CA Mode is OnlineCA"
// to "LSC is verified", or to "Online Cert Signing Failed". The error wraps a
// *fault.Fault; [ESTNumber] gives its number in the trace.
func (e *Enroller) EnrollCSR(ctx context.Context, device string, session int, csr []byte) (*LSC, error) {
	return e.enroll(ctx, device, session, func() (*x509.CertificateRequest, error) { return ParseCSR(csr) }, "")
}

// EnrollFile is [Enroller.EnrollCSR] for a request in a file, whose certificate
// is written to certPath in DER: whole or not at all.
func (e *Enroller) EnrollFile(ctx context.Context, device string, session int, csrPath, certPath string) (*LSC, error) {
	return e.enroll(ctx, device, session, func() (*x509.CertificateRequest, error) { return ReadCSRFile(csrPath) }, certPath)
}

// enroll is one enrolment. If certPath is not empty the certificate is written
// there, and the room for it is taken before the request is sent.
func (e *Enroller) enroll(ctx context.Context, device string, session int, read func() (*x509.CertificateRequest, error), certPath string) (*LSC, error) {
	t := enrollTrace{ctx: ctx, log: e.log, session: event.Session{Number: session, Device: device}}
	t.begin(e.CSRPath(device))
	csr, err := read()
	t.steps(event.StepReadCSRDone)
	if err != nil {
		return nil, t.refused(err, e.cfg.Socket)
	}
	keep := func([]byte) error { return nil }
	if certPath != "" {
		f, err := reserveLSC(certPath)
		if err != nil {
			return nil, t.refused(err, e.cfg.Socket)
		}
		defer f.discard()
		keep = f.commit
	}
	answer, err := e.cfg.Client.Enroll(ctx, csr.Raw)
	if err != nil {
		return nil, t.refused(err, e.cfg.Socket)
	}
	t.answered(len(answer.Raw))
	lsc, err := e.convert(ctx, csr, answer)
	if err == nil {
		err = keep(lsc.DER)
	}
	if err != nil {
		return nil, t.failed(err, e.cfg.Socket)
	}
	t.signed(e.cfg.Socket)
	t.stored(e.CSRPath(device), e.CertPath(device))
	for _, w := range lsc.Warnings {
		e.log.Warn("certificate is of no use to a phone", zap.String("device", device), zap.Error(w))
	}
	return lsc, nil
}

// convert turns the answer into the certificate of the request's key.
func (e *Enroller) convert(ctx context.Context, csr *x509.CertificateRequest, answer *Answer) (*LSC, error) {
	certs, err := ParsePKCS7(answer.Raw)
	if err != nil {
		return nil, err
	}
	leaf, err := LeafFor(certs, csr.PublicKey)
	if err != nil {
		return nil, err
	}
	chain, err := e.verify(ctx, leaf, certs)
	if err != nil {
		return nil, err
	}
	return &LSC{
		DER: leaf.Raw, Certificate: leaf, Chain: chain,
		PKCS7Length: len(answer.Raw), Warnings: lscWarnings(leaf, chain),
	}, nil
}

// verify builds the chain of leaf. certs is what came with it.
func (e *Enroller) verify(ctx context.Context, leaf *x509.Certificate, certs []*x509.Certificate) ([]*x509.Certificate, error) {
	anchors, err := e.trust(ctx, nil)
	if err != nil {
		return nil, err
	}
	chain, err := verifyLSC(leaf, certs, anchors, e.cfg.Now())
	if !errors.Is(err, fault.CAPFTrustMissing) || e.cfg.Anchors.Roots != nil {
		return chain, err
	}
	newer, trustErr := e.trust(ctx, anchors.Roots)
	if trustErr != nil {
		return nil, err
	}
	return verifyLSC(leaf, certs, newer, e.cfg.Now())
}

// trust returns the anchors, asking the EST server if none are configured and
// it has not been asked, or has given those of old. A failure is not remembered.
func (e *Enroller) trust(ctx context.Context, old *x509.CertPool) (Anchors, error) {
	const op = "capf: verify the certificate"
	select {
	case e.turn <- struct{}{}:
		defer func() { <-e.turn }()
	case <-ctx.Done():
		return Anchors{}, fault.New(fault.Canceled, op, context.Cause(ctx))
	}
	if e.anchors.Roots != nil && e.anchors.Roots != old {
		return e.anchors, nil
	}
	source, ok := e.cfg.Client.(caCerts)
	if !ok {
		return Anchors{}, fault.New(fault.Internal, op, errNoAnchors)
	}
	certs, err := source.CACerts(ctx)
	if err != nil {
		return Anchors{}, err
	}
	e.anchors = AnchorsOf(certs)
	return e.anchors, nil
}

// Trust asks the EST server for its CA's certificates now, unless anchors are
// configured: before a batch, so that a server that cannot be reached is
// noticed once and early. The error wraps a *fault.Fault.
func (e *Enroller) Trust(ctx context.Context) error {
	_, err := e.trust(ctx, nil)
	return err
}

// reject writes the trace of a request that is not sent because it is not
// good. What is no request at all does not reach CAPF's trace.
func (e *Enroller) reject(ctx context.Context, job Job, session int) {
	if fault.Of(job.Err).Code == fault.Unknown {
		return
	}
	t := enrollTrace{ctx: ctx, log: e.log, session: event.Session{Number: session, Device: job.Device}}
	t.begin(e.CSRPath(job.Device))
	t.steps(event.StepReadCSRDone)
	// The error is the job's already.
	_ = t.refused(job.Err, e.cfg.Socket)
}
