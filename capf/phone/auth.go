package phone

import (
	"crypto"
	"crypto/rsa"
	"errors"

	"github.com/onlineca/onlineca/capf/wire"
)

// Auth is how a phone proves who it is.
type Auth struct {
	// String is the authentication string, digits that a user types.
	String string
	// Certificate is an LSC or a MIC with its key: the phone signs with it.
	Certificate *Identity
	// SUDI is a second certificate with an RSA key, which signs the session's
	// number. It goes with Certificate only.
	SUDI *Identity
	// Stored uses the LSC that the phone holds, if it holds one, instead of
	// Certificate.
	Stored bool
}

func (a Auth) check() error {
	if a.SUDI == nil {
		return nil
	}
	if a.Certificate == nil && !a.Stored {
		return errors.New("a SUDI goes with an LSC or a MIC")
	}
	if _, ok := a.SUDI.Key.Public().(*rsa.PublicKey); !ok {
		return errors.New("the key of a SUDI is RSA")
	}
	return nil
}

// response makes AUTH_RESPONSE, its elements in the order in which a client of
// the phone's version sends them.
func (p *Phone) response(session uint32) (wire.Message, error) {
	cfg := &p.cfg
	m := wire.Message{Command: wire.AuthResponse, Session: session}
	add := func(e ...wire.Element) { m.Elements = append(m.Elements, e...) }
	reason := wire.Uint8(wire.TagReason, wire.ReasonOK)
	version := wire.Uint8(wire.TagVersion, cfg.Version)
	name := wire.Text(wire.TagDeviceName, cfg.Device)

	id := cfg.Auth.Certificate
	if cfg.Auth.Stored && p.current != nil {
		id = p.current
	}
	if id == nil {
		if cfg.Version < 3 {
			add(version, name, reason)
			if cfg.Auth.String != "" {
				add(wire.Text(wire.TagPassword, cfg.Auth.String))
			}
			return m, nil
		}
		add(reason, version, wire.Text(wire.TagPassword, cfg.Auth.String), name)
		return m, nil
	}
	sha1, sha512, err := signTwice(id.Key, wire.AuthInput(cfg.Device, id.Certificate))
	if err != nil {
		return m, err
	}
	add(reason, wire.CertificateValue(id.Certificate), wire.Element{Tag: wire.TagSignedData, Value: sha1},
		version, wire.Text(wire.TagPassword, ""), name)
	if cfg.Version < 3 {
		return m, nil
	}
	if s := cfg.Auth.SUDI; s != nil {
		proof := wire.SUDI{Certificate: s.Certificate}
		if proof.SHA1, proof.SHA512, err = signTwice(s.Key, wire.SUDIInput(session, s.Certificate)); err != nil {
			return m, err
		}
		add(proof.Element())
	}
	add(wire.SHA2SignedValue(sha512))
	return m, nil
}

func signTwice(key crypto.Signer, input []byte) (sha1, sha512 []byte, err error) {
	if sha1, err = wire.Sign(key, input, crypto.SHA1); err != nil {
		return nil, nil, err
	}
	sha512, err = wire.Sign(key, input, crypto.SHA512)
	return sha1, sha512, err
}
