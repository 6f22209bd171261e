package estserver

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"

	"github.com/onlineca/onlineca/ra"
	"github.com/onlineca/onlineca/ra/fault"
)

// generate serves /serverkeygen (RFC 7030 section 4.4): it makes a key of the
// kind and size that the client's request has, signs a request of the same
// names with it, enrols that, and delivers certificate and key (PKCS#8) once.
// The key is in this answer or nowhere.
func (x *exchange) generate(ctx context.Context, asked *x509.CertificateRequest) (*x509.Certificate, []byte, error) {
	x.csr = asked
	if err := x.checkPoP(asked); err != nil {
		return nil, nil, err
	}
	// The policy is asked before a key is made: keys cost processor time.
	req := ra.Request{
		Operation: ra.Enroll, CSR: asked, Template: x.label.Template, Label: x.labelName, Client: x.client,
	}
	if err := x.label.Policy.Check(req); err != nil {
		return nil, nil, err
	}
	key, err := generateLike(asked.PublicKey)
	if err != nil {
		return nil, nil, fault.New(fault.Internal, "make a key", err)
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{
		RawSubject: asked.RawSubject, ExtraExtensions: asked.Extensions,
	}, key)
	if err != nil {
		return nil, nil, fault.New(fault.Internal, "sign a request with the new key", err)
	}
	if req.CSR, err = ra.ParseCSR(der); err != nil {
		return nil, nil, err
	}
	cert, err := x.submit(ctx, req)
	if f := fault.Of(err); f != nil && f.Code.Row().HTTP == 202 {
		// The client would come back for a key that nobody has any more.
		return nil, nil, &fault.Fault{
			Code: fault.RequestRefused, Op: "enrol a key made here", ReqID: f.ReqID, Err: err,
			Message: "the certificate is not issued at once, and a key made here cannot wait for it",
		}
	}
	if err != nil {
		return nil, nil, err
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, nil, fault.New(fault.Internal, "encode the key", err)
	}
	return cert, pkcs8, nil
}

// generateLike makes a private key of the same kind and size as pub.
func generateLike(pub crypto.PublicKey) (crypto.Signer, error) {
	switch p := pub.(type) {
	case *ecdsa.PublicKey:
		return ecdsa.GenerateKey(p.Curve, rand.Reader)
	case ed25519.PublicKey:
		_, key, err := ed25519.GenerateKey(rand.Reader)
		return key, err
	case *rsa.PublicKey:
		return rsa.GenerateKey(rand.Reader, p.N.BitLen())
	default:
		return nil, x509.ErrUnsupportedAlgorithm
	}
}
