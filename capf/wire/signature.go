package wire

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/rsa"
	_ "crypto/sha1" // SHA-1 signatures are the protocol's choice
	_ "crypto/sha256"
	_ "crypto/sha512"
	"encoding/asn1"
	"encoding/binary"
	"errors"
	"fmt"
)

// ErrSignature says that a signature is wrong.
var ErrSignature = errors.New("the signature is wrong")

// AuthInput is what a phone signs to prove that it holds the key of its LSC or
// MIC: DEVICE_NAME, a NUL, the certificate's DER. seen.
//
// Nothing in it is fresh: only TLS keeps such a proof from being replayed.
func AuthInput(device string, certificate []byte) []byte {
	b := make([]byte, 0, len(device)+1+len(certificate))
	b = append(b, device...)
	b = append(b, 0)
	return append(b, certificate...)
}

// SUDIInput is what a phone signs with the key of its SUDI: the session id,
// then the certificate's DER. The session id is little-endian here, unlike
// anywhere else in the protocol. seen.
func SUDIInput(session uint32, certificate []byte) []byte {
	b := make([]byte, 0, 4+len(certificate))
	b = binary.LittleEndian.AppendUint32(b, session)
	return append(b, certificate...)
}

// Sign signs input as CAPF does. RSA: PKCS#1 v1.5 padding of type 1 around the
// bare hash, without a DigestInfo. EC: ordinary ECDSA. seen.
func Sign(key crypto.Signer, input []byte, h crypto.Hash) ([]byte, error) {
	digest := sum(h, input)
	if _, ok := key.Public().(*rsa.PublicKey); ok {
		return key.Sign(rand.Reader, digest, crypto.Hash(0))
	}
	return key.Sign(rand.Reader, digest, h)
}

// Verify checks what [Sign] makes, padding included. The error wraps
// [ErrSignature].
func Verify(pub crypto.PublicKey, input, sig []byte, h crypto.Hash) error {
	digest := sum(h, input)
	switch p := pub.(type) {
	case *rsa.PublicKey:
		if err := rsa.VerifyPKCS1v15(p, crypto.Hash(0), digest, sig); err != nil {
			return fmt.Errorf("%w: RSA, %v: %w", ErrSignature, h, err)
		}
		return nil
	case *ecdsa.PublicKey:
		if !ecdsa.VerifyASN1(p, digest, sig) {
			return fmt.Errorf("%w: ECDSA, %v", ErrSignature, h)
		}
		return nil
	default:
		return fmt.Errorf("%w: a key of type %T signs nothing in CAPF", ErrSignature, pub)
	}
}

func sum(h crypto.Hash, b []byte) []byte {
	d := h.New()
	d.Write(b)
	return d.Sum(nil)
}

// Digest returns the number that stands for h in DIGEST_TYPE.
func Digest(h crypto.Hash) (DigestType, error) {
	switch h {
	case crypto.SHA1:
		return SHA1, nil
	case crypto.SHA256:
		return SHA256, nil
	case crypto.SHA512:
		return SHA512, nil
	default:
		return 0, fmt.Errorf("DIGEST_TYPE has no number for %v", h)
	}
}

// Hash is the inverse of [Digest].
func (d DigestType) Hash() (crypto.Hash, error) {
	switch d {
	case SHA1:
		return crypto.SHA1, nil
	case SHA256:
		return crypto.SHA256, nil
	case SHA512:
		return crypto.SHA512, nil
	default:
		return 0, fmt.Errorf("%w: DIGEST_TYPE %d names no hash", ErrFormat, d)
	}
}

// EncryptStyle is the form of the exchange by which CAPF has a phone's private
// key sign a certificate request. That the exchange exists is known from the
// product (the session state "AWAIT ENCRYPT MSG RESP": the phone has signed
// the received message with its private key). Its form is not: every field is
// a guess that can be changed, unverified against hardware. The zero
// EncryptStyle is the guess that this project makes:
//
//	S→C  55 06 …  DIGEST_TYPE, SIGNED_DATA = DigestInfo (RSA) or bare hash (EC)
//	C→S  55 05 …  REASON = 1, SIGNED_DATA = signature
type EncryptStyle struct {
	// Request is the server's command: 6 (the default), 5 or 22
	// (SIGN_CERTIFICATE_REQUEST). The answer is the other of the pair.
	Request Command
	// Element carries the data and the result: 6 (SIGNED_DATA, the default),
	// or one of the nameless 14 and 15.
	Element Tag
	// Bare sends an RSA phone the hash alone: the phone puts the DigestInfo
	// around it. Otherwise the phone pads what it is given.
	Bare bool
}

// Check returns an error that says what to change if the style is none that
// the fields allow.
func (s EncryptStyle) Check() error {
	switch s.RequestCommand() {
	case EncryptRequest, EncryptResponse, SignCertificateRequest:
	default:
		return fmt.Errorf("the request of the ENCRYPT exchange can be command 5, 6 or 22, not %d", s.Request)
	}
	switch s.element() {
	case TagSignedData, 14, 15:
		return nil
	default:
		return fmt.Errorf("the data of the ENCRYPT exchange can be in element 6, 14 or 15, not %d", s.Element)
	}
}

// RequestCommand is the command that carries the data to the phone.
func (s EncryptStyle) RequestCommand() Command {
	if s.Request == 0 {
		return EncryptRequest
	}
	return s.Request
}

// ResponseCommand is the command that carries the signature back.
func (s EncryptStyle) ResponseCommand() Command {
	switch s.RequestCommand() {
	case EncryptResponse:
		return EncryptRequest
	case SignCertificateRequest:
		return SignCertificateResponse
	default:
		return EncryptResponse
	}
}

func (s EncryptStyle) element() Tag {
	if s.Element == 0 {
		return TagSignedData
	}
	return s.Element
}

// NewRequest makes the message that asks the holder of pub's private key to
// sign digest, a hash made with h.
func (s EncryptStyle) NewRequest(session uint32, pub crypto.PublicKey, digest []byte, h crypto.Hash) (Message, error) {
	d, err := Digest(h)
	if err != nil {
		return Message{}, err
	}
	data := digest
	if _, ok := pub.(*rsa.PublicKey); ok && !s.Bare {
		if data, err = digestInfo(h, digest); err != nil {
			return Message{}, err
		}
	}
	return Message{Command: s.RequestCommand(), Session: session, Elements: []Element{
		Uint8(TagDigestType, d), {s.element(), data},
	}}, nil
}

// Answer is the phone's side: it signs what the request carries with key.
func (s EncryptStyle) Answer(key crypto.Signer, m *Message) (Message, error) {
	n, err := m.Uint8(TagDigestType)
	if err != nil {
		return Message{}, err
	}
	h, err := DigestType(n).Hash()
	if err != nil {
		return Message{}, err
	}
	data, ok := m.Find(s.element())
	if !ok {
		return Message{}, fmt.Errorf("%v: %v: %w", m.Command, s.element(), ErrMissing)
	}
	opts := h
	if _, isRSA := key.Public().(*rsa.PublicKey); isRSA && !s.Bare {
		opts = crypto.Hash(0)
	} else if len(data) != h.Size() {
		return Message{}, fmt.Errorf("%w: %v in %v has %d bytes, a hash by %v has %d", ErrFormat, s.element(), m.Command, len(data), h, h.Size())
	}
	sig, err := key.Sign(rand.Reader, data, opts)
	if err != nil {
		return Message{}, fmt.Errorf("sign the request of %v: %w", m.Command, err)
	}
	return Message{Command: s.ResponseCommand(), Session: m.Session, Elements: []Element{
		Uint8(TagReason, ReasonOK), {s.element(), sig},
	}}, nil
}

// Signature returns the signature that the phone's answer carries. A REASON
// other than 1 is an error; a missing one is not.
func (s EncryptStyle) Signature(m *Message) ([]byte, error) {
	if r, err := m.Reason(); err == nil && r != ReasonOK {
		return nil, fmt.Errorf("the phone declined to sign, reason %v", r)
	}
	sig, ok := m.Find(s.element())
	if !ok {
		return nil, fmt.Errorf("%v: %v: %w", m.Command, s.element(), ErrMissing)
	}
	return sig, nil
}

// Object identifiers of the hashes (RFC 8017 appendix B.1).
var hashOIDs = map[crypto.Hash]asn1.ObjectIdentifier{
	crypto.SHA1:   {1, 3, 14, 3, 2, 26},
	crypto.SHA256: {2, 16, 840, 1, 101, 3, 4, 2, 1},
	crypto.SHA512: {2, 16, 840, 1, 101, 3, 4, 2, 3},
}

// digestInfo puts the DigestInfo of RFC 8017 section 9.2 around a hash.
func digestInfo(h crypto.Hash, digest []byte) ([]byte, error) {
	type algorithm struct {
		OID  asn1.ObjectIdentifier
		Null asn1.RawValue
	}
	return asn1.Marshal(struct {
		Algorithm algorithm
		Digest    []byte
	}{algorithm{hashOIDs[h], asn1.NullRawValue}, digest})
}
