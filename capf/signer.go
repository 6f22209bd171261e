package capf

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"fmt"
	"io"

	"github.com/onlineca/onlineca/ra/fault"
)

// phoneSigner is a private key that the phone holds: a signature is a round
// trip to it.
type phoneSigner struct {
	ctx context.Context //nolint:containedctx // crypto.Signer has no room for it; the signer lives for one signature.
	p   *session
	pub crypto.PublicKey
	// failed is the failure of the round trip, which x509 would hide in text.
	failed error
}

// Public returns the key that the phone generated.
func (k *phoneSigner) Public() crypto.PublicKey { return k.pub }

// Sign asks the phone to sign digest.
func (k *phoneSigner) Sign(_ io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	sig, err := k.sign(digest, opts)
	k.failed = err
	return sig, err
}

func (k *phoneSigner) sign(digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	style := k.p.srv.cfg.Encrypt
	m, err := style.NewRequest(k.p.number, k.pub, digest, opts.HashFunc())
	if err != nil {
		return nil, err
	}
	k.p.say(k.ctx, false, "Sending %v msg", m.Command)
	if err := k.p.send(m); err != nil {
		return nil, err
	}
	answer, err := k.p.await(k.ctx, StateAwaitEncryptMsg)
	if err != nil {
		return nil, err
	}
	sig, err := style.Signature(&answer)
	if err != nil {
		return nil, k.p.fail(OpPhoneComm, err)
	}
	return sig, nil
}

// sign makes a PKCS#10 request for the phone's key pub, signed by the phone. A
// wrong signature is noticed here and goes no further.
func (p *session) sign(ctx context.Context, pub crypto.PublicKey) ([]byte, error) {
	usage, err := keyUsageExtension()
	if err != nil {
		return nil, p.fail(OpFailed, err)
	}
	signer := &phoneSigner{ctx: ctx, p: p, pub: pub}
	csr, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{
		Subject:            p.subject(),
		SignatureAlgorithm: requestAlgorithm(pub),
		ExtraExtensions:    []pkix.Extension{usage},
	}, signer)
	switch {
	case signer.failed != nil:
		return nil, signer.failed
	case err != nil:
		return nil, p.fail(OpFailed, fault.New(fault.BadCSRSignature, fmt.Sprintf("capf: %s: have the phone sign its request", p.name), err))
	}
	return csr, nil
}

// subject is that of a device: CN=MODEL-NAME, or CN=NAME without a model, and
// the organization of CAPF's own certificate.
func (p *session) subject() pkix.Name {
	cn := p.name
	if p.device.Model != "" {
		cn = p.device.Model + "-" + p.name
	}
	return deviceSubject(cn, p.srv.cfg.Certificate.Leaf.Subject)
}

func deviceSubject(cn string, from pkix.Name) pkix.Name {
	return pkix.Name{
		CommonName: cn, Organization: from.Organization, OrganizationalUnit: from.OrganizationalUnit,
		Locality: from.Locality, Province: from.Province, Country: from.Country,
	}
}

// requestAlgorithm is the signature algorithm of a request: of the hashes that
// DIGEST_TYPE can name, the one that fits the key.
func requestAlgorithm(pub crypto.PublicKey) x509.SignatureAlgorithm {
	key, ok := pub.(*ecdsa.PublicKey)
	switch {
	case !ok:
		return x509.SHA256WithRSA
	case key.Curve == elliptic.P256():
		return x509.ECDSAWithSHA256
	default:
		return x509.ECDSAWithSHA512
	}
}

// keyUsageExtension is the critical key usage digitalSignature and
// keyEncipherment (RFC 5280 section 4.2.1.3), which a phone needs of its LSC.
func keyUsageExtension() (pkix.Extension, error) {
	value, err := asn1.Marshal(asn1.BitString{Bytes: []byte{0xa0}, BitLength: 3})
	if err != nil {
		return pkix.Extension{}, fmt.Errorf("encode the key usage: %w", err)
	}
	return pkix.Extension{Id: asn1.ObjectIdentifier{2, 5, 29, 15}, Critical: true, Value: value}, nil
}
