package ntlm

import (
	"crypto/hmac"
	"crypto/md5"
	"crypto/rc4"
	"encoding/asn1"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
)

// SPNEGO takes NTLM out of the tokens of RFC 4178 and puts it back. One value
// serves one login.
type SPNEGO struct {
	mechs []asn1.ObjectIdentifier // as the client offered them
	mic   []byte                  // the client's, over mechs
}

var (
	oidSPNEGO = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 2}
	oidNTLM   = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 311, 2, 2, 10}
)

// negTokenInit and negTokenResp are RFC 4178 section 4.2.
type negTokenInit struct {
	MechTypes   []asn1.ObjectIdentifier `asn1:"explicit,tag:0"`
	ReqFlags    asn1.BitString          `asn1:"explicit,optional,tag:1"`
	MechToken   []byte                  `asn1:"explicit,optional,tag:2"`
	MechListMIC []byte                  `asn1:"explicit,optional,tag:3"`
}

type negTokenResp struct {
	NegState      asn1.Enumerated       `asn1:"explicit,optional,tag:0,default:-1"`
	SupportedMech asn1.ObjectIdentifier `asn1:"explicit,optional,tag:1"`
	ResponseToken []byte                `asn1:"explicit,optional,tag:2"`
	MechListMIC   []byte                `asn1:"explicit,optional,tag:3"`
}

// The values of negState.
const (
	acceptCompleted  = 0
	acceptIncomplete = 1
)

// IsSPNEGO reports whether a token is one of SPNEGO's and not bare NTLM.
func IsSPNEGO(token []byte) bool {
	return len(token) > 0 && (token[0] == 0x60 || token[0] == 0xa1)
}

// Unwrap returns the NTLM message in a client's token.
func (s *SPNEGO) Unwrap(token []byte) ([]byte, error) {
	if len(token) > 0 && token[0] == 0xa1 {
		var resp negTokenResp
		if err := unmarshalAll(token, &resp, "explicit,tag:1"); err != nil {
			return nil, err
		}
		s.mic = resp.MechListMIC
		return resp.ResponseToken, nil
	}
	init, err := parseInit(token)
	if err != nil {
		return nil, err
	}
	if !slices.ContainsFunc(init.MechTypes, oidNTLM.Equal) || !IsNegotiate(init.MechToken) {
		return nil, errors.New("SPNEGO: the client does not begin with NTLM")
	}
	s.mechs = init.MechTypes
	return init.MechToken, nil
}

// parseInit reads the first token: an application tag around the mechanism's
// OID and a NegTokenInit (RFC 2743 section 3.1).
func parseInit(token []byte) (negTokenInit, error) {
	var outer asn1.RawValue
	var init negTokenInit
	if err := unmarshalAll(token, &outer, ""); err != nil {
		return init, err
	}
	var oid asn1.ObjectIdentifier
	rest, err := asn1.Unmarshal(outer.Bytes, &oid)
	if err != nil {
		return init, fmt.Errorf("SPNEGO: %w", err)
	}
	if !oid.Equal(oidSPNEGO) {
		return init, fmt.Errorf("SPNEGO: mechanism %v", oid)
	}
	return init, unmarshalAll(rest, &init, "explicit,tag:0")
}

func unmarshalAll(b []byte, v any, params string) error {
	rest, err := asn1.UnmarshalWithParams(b, v, params)
	if err != nil {
		return fmt.Errorf("SPNEGO: %w", err)
	}
	if len(rest) > 0 {
		return fmt.Errorf("SPNEGO: %d bytes too many", len(rest))
	}
	return nil
}

// Wrap puts a challenge into the server's token.
func (s *SPNEGO) Wrap(challenge []byte) []byte {
	return marshalResp(negTokenResp{NegState: acceptIncomplete, SupportedMech: oidNTLM, ResponseToken: challenge})
}

// Finish returns the server's last token. If the client signed its list of
// mechanisms, the signature is verified and returned in kind.
func (s *SPNEGO) Finish(id Identity) ([]byte, error) {
	resp := negTokenResp{NegState: acceptCompleted}
	if s.mic != nil {
		list, err := asn1.Marshal(s.mechs)
		if err != nil {
			return nil, fmt.Errorf("SPNEGO: %w", err)
		}
		if !hmac.Equal(s.mic, signMessage(id, "client-to-server", list)) {
			return nil, errors.New("SPNEGO: wrong signature of the list of mechanisms")
		}
		resp.MechListMIC = signMessage(id, "server-to-client", list)
	}
	return marshalResp(resp), nil
}

func marshalResp(r negTokenResp) []byte {
	b, err := asn1.MarshalWithParams(r, "explicit,tag:1")
	if err != nil {
		panic("SPNEGO: " + err.Error()) // every field is ours
	}
	return b
}

// signMessage is the first signature of a session (MS-NLMP 3.4.4.2), for
// extended session security.
func signMessage(id Identity, direction string, msg []byte) []byte {
	magic := "session key to " + direction + " %s key magic constant\x00"
	signKey := sum(id.SessionKey, fmt.Sprintf(magic, "signing"))
	strength := 5
	switch {
	case id.Flags&flag128 != 0:
		strength = 16
	case id.Flags&flag56 != 0:
		strength = 7
	}
	checksum := mac(signKey, make([]byte, 4), msg)[:8]
	if id.Flags&flagKeyExchange != 0 {
		c, err := rc4.NewCipher(sum(id.SessionKey[:strength], fmt.Sprintf(magic, "sealing")))
		if err != nil {
			panic(err) // an MD5 sum is a good key
		}
		c.XORKeyStream(checksum, checksum)
	}
	b := binary.LittleEndian.AppendUint32(nil, 1)
	return append(append(b, checksum...), 0, 0, 0, 0)
}

func sum(key []byte, s string) []byte {
	h := md5.Sum(append(append([]byte(nil), key...), s...))
	return h[:]
}

// Names returns the domain and user of an AUTHENTICATE message.
func Names(msg []byte) (domain, user string, ok bool) {
	a, err := parseAuthenticate(msg)
	if err != nil {
		return "", "", false
	}
	return a.domain, a.user, true
}
