package estserver

import (
	"context"
	"crypto/x509"
	"encoding/asn1"
	"net/http"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"

	"github.com/onlineca/onlineca/ra"
	"github.com/onlineca/onlineca/ra/fault"
)

// certify serves simpleenroll and simplereenroll. The library is not asked: it
// would parse the request a second time and pass it through a dozen layers, which
// cost more than all that is added here, and its own notion of a renewal compares
// names byte by byte and needs a certificate that the TLS stack has verified.
func (x *exchange) certify(ctx context.Context) *answer {
	ctx, cancel := context.WithTimeout(ctx, x.s.cfg.Timeouts.Write)
	defer cancel()
	if err := ra.CheckCSRSignature(x.csr); err != nil {
		return x.failed(err)
	}
	cert, err := x.enroll(ctx, x.csr)
	if err != nil {
		return x.failed(err)
	}
	der, err := certsOnlyMessage(cert)
	if err != nil {
		return x.failed(fault.New(fault.Internal, "answer "+x.op.name, err))
	}
	return &answer{
		status: http.StatusOK,
		header: map[string]string{"Content-Type": certsOnly, "Content-Transfer-Encoding": "base64"},
		body:   encodeLines(der),
	}
}

var (
	oidData       = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 7, 1}
	oidSignedData = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 7, 2}
)

// certsOnlyMessage is a certificate in the form of RFC 5272 section 4.1: CMS
// SignedData (RFC 5652 section 5.1) that has no content and no signers, in the
// same bytes as the library writes it.
func certsOnlyMessage(cert *x509.Certificate) ([]byte, error) {
	context0 := cbasn1.Tag(0).ContextSpecific().Constructed()
	b := cryptobyte.NewBuilder(make([]byte, 0, len(cert.Raw)+64))
	b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1ObjectIdentifier(oidSignedData)
		b.AddASN1(context0, func(b *cryptobyte.Builder) {
			b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
				b.AddASN1Int64(1)                                   // version
				b.AddASN1(cbasn1.SET, func(*cryptobyte.Builder) {}) // digestAlgorithms
				b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) { b.AddASN1ObjectIdentifier(oidData) })
				b.AddASN1(context0, func(b *cryptobyte.Builder) { b.AddBytes(cert.Raw) })
				b.AddASN1(cbasn1.Tag(1).ContextSpecific().Constructed(), func(*cryptobyte.Builder) {}) // crls
				b.AddASN1(cbasn1.SET, func(*cryptobyte.Builder) {})                                    // signerInfos
			})
		})
	})
	return b.Bytes()
}

// enroll hands the request, whose signature has been verified, to the label's
// stack of enrollers.
func (x *exchange) enroll(ctx context.Context, csr *x509.CertificateRequest) (*x509.Certificate, error) {
	x.csr = csr
	if err := x.checkPoP(csr); err != nil {
		return nil, err
	}
	req := ra.Request{
		Operation: ra.Enroll, CSR: csr, Template: x.label.Template, Label: x.labelName, Client: x.client,
	}
	if x.op.name == opReenroll {
		req.Operation = ra.Reenroll
		if err := x.checkIdentity(csr); err != nil {
			return nil, err
		}
	}
	return x.submit(ctx, req)
}

func (x *exchange) submit(ctx context.Context, req ra.Request) (*x509.Certificate, error) {
	res, err := x.label.enroller.Enroll(context.WithValue(ctx, exchangeKey{}, x), req)
	if err != nil {
		return nil, err
	}
	x.result = res
	switch {
	case res.State == ra.Pending:
		return nil, &fault.Fault{
			Code: fault.Pending, Op: "enrol", ReqID: res.ReqID, RetryAfter: res.RetryAfter, Message: res.Message,
		}
	case res.State == ra.Issued && res.Certificate != nil:
		return res.Certificate, nil
	default:
		return nil, fault.Newf(fault.Internal, "enrol", "the enroller answered neither a certificate nor an error (state %q)", res.State)
	}
}
