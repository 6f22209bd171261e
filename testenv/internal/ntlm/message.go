// Package ntlm is the server's side of NTLMv2 (MS-NLMP), as strict as a Windows
// server that is well configured: NTLMv1 is refused, a challenge is good for one
// answer, the message integrity code is verified where the client says that it
// sent one, and the channel binding is compared with the TLS connection's.
//
// It is written from MS-NLMP and shares nothing with any client, so that a
// client and the server that judges it cannot have the same bug.
package ntlm

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"unicode/utf16"
)

// signature begins every message (MS-NLMP 2.2.1).
const signature = "NTLMSSP\x00"

// Flags of NegotiateFlags (MS-NLMP 2.2.2.5).
const (
	flagUnicode         = 0x00000001
	flagOEM             = 0x00000002
	flagRequestTarget   = 0x00000004
	flagSign            = 0x00000010
	flagSeal            = 0x00000020
	flagNTLM            = 0x00000200
	flagAnonymous       = 0x00000800
	flagAlwaysSign      = 0x00008000
	flagTargetDomain    = 0x00010000
	flagExtendedSession = 0x00080000
	flagTargetInfo      = 0x00800000
	flagVersion         = 0x02000000
	flag128             = 0x20000000
	flagKeyExchange     = 0x40000000
	flag56              = 0x80000000
)

// Identifiers of AV pairs (MS-NLMP 2.2.2.1).
const (
	avEOL             = 0x0000
	avNbComputer      = 0x0001
	avNbDomain        = 0x0002
	avDNSComputer     = 0x0003
	avDNSDomain       = 0x0004
	avDNSTree         = 0x0005
	avFlags           = 0x0006
	avTimestamp       = 0x0007
	avTargetName      = 0x0009
	avChannelBindings = 0x000A
)

// avFlagMIC in the value of MsvAvFlags says that the message carries a MIC.
const avFlagMIC = 0x00000002

// errMalformed is wrapped by every complaint about a message's layout.
var errMalformed = errors.New("malformed NTLM message")

// messageType returns the type of msg: 1, 2 or 3; 0 if it is no NTLM message.
func messageType(msg []byte) uint32 {
	if len(msg) < 12 || string(msg[:8]) != signature {
		return 0
	}
	return binary.LittleEndian.Uint32(msg[8:])
}

// IsNegotiate reports whether msg is a NEGOTIATE message (type 1).
func IsNegotiate(msg []byte) bool { return messageType(msg) == 1 }

// IsAuthenticate reports whether msg is an AUTHENTICATE message (type 3).
func IsAuthenticate(msg []byte) bool { return messageType(msg) == 3 }

// authenticate is an AUTHENTICATE message, taken apart (MS-NLMP 2.2.1.3).
//
//	 0  8 "NTLMSSP\0"       8 4 type 3
//	12  8 LmChallengeResponse   20 8 NtChallengeResponse
//	28  8 DomainName            36 8 UserName
//	44  8 Workstation           52 8 EncryptedRandomSessionKey
//	60  4 NegotiateFlags        64 8 Version     72 16 MIC
//
// Each of the six fields is length (2), maximum length (2), offset (4). Version
// and MIC may be missing; then the payload begins where they would be.
type authenticate struct {
	lm, nt             []byte
	domain, user, host string
	sessionKey         []byte
	flags              uint32
	payload            int // offset of the first byte of the payload
}

func parseAuthenticate(msg []byte) (*authenticate, error) {
	if !IsAuthenticate(msg) || len(msg) < 64 {
		return nil, fmt.Errorf("%w: %d bytes are no AUTHENTICATE message", errMalformed, len(msg))
	}
	a := &authenticate{flags: binary.LittleEndian.Uint32(msg[60:]), payload: len(msg)}
	var names [3][]byte
	for _, f := range []struct {
		name string
		at   int
		to   *[]byte
	}{
		{"LmChallengeResponse", 12, &a.lm},
		{"NtChallengeResponse", 20, &a.nt},
		{"DomainName", 28, &names[0]},
		{"UserName", 36, &names[1]},
		{"Workstation", 44, &names[2]},
		{"EncryptedRandomSessionKey", 52, &a.sessionKey},
	} {
		b, offset, err := field(msg, f.at)
		if err != nil {
			return nil, fmt.Errorf("%w: %s %w", errMalformed, f.name, err)
		}
		if len(b) > 0 {
			a.payload = min(a.payload, offset)
		}
		*f.to = b
	}
	for i, to := range []*string{&a.domain, &a.user, &a.host} {
		s, err := text(names[i], a.flags&flagUnicode != 0)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", errMalformed, err)
		}
		*to = s
	}
	return a, nil
}

// field returns the bytes that the descriptor at msg[at:] points to.
func field(msg []byte, at int) (b []byte, offset int, err error) {
	n := int(binary.LittleEndian.Uint16(msg[at:]))
	o := int64(binary.LittleEndian.Uint32(msg[at+4:]))
	if n == 0 {
		return nil, 0, nil
	}
	if o < 64 || o+int64(n) > int64(len(msg)) {
		return nil, 0, fmt.Errorf("points at bytes %d to %d of %d", o, o+int64(n), len(msg))
	}
	return msg[o : o+int64(n)], int(o), nil
}

// text decodes a name: UTF-16 little-endian, or the OEM code page, of which the
// part that all code pages share is taken as it is.
func text(b []byte, unicode bool) (string, error) {
	if !unicode {
		r := make([]rune, len(b))
		for i, c := range b {
			r[i] = rune(c)
		}
		return string(r), nil
	}
	if len(b)%2 != 0 {
		return "", fmt.Errorf("a UTF-16 name of %d bytes", len(b))
	}
	u := make([]uint16, len(b)/2)
	for i := range u {
		u[i] = binary.LittleEndian.Uint16(b[2*i:])
	}
	return string(utf16.Decode(u)), nil
}

// utf16le encodes s for the wire.
func utf16le(s string) []byte {
	u := utf16.Encode([]rune(s))
	b := make([]byte, 2*len(u))
	for i, c := range u {
		binary.LittleEndian.PutUint16(b[2*i:], c)
	}
	return b
}

// pair is one AV pair.
type pair struct {
	id    uint16
	value []byte
}

// pairs is a list of AV pairs without its end marker.
type pairs []pair

// bytes returns the list with its end marker.
func (p pairs) bytes() []byte {
	var b bytes.Buffer
	for _, av := range append(p[:len(p):len(p)], pair{id: avEOL}) {
		var head [4]byte
		binary.LittleEndian.PutUint16(head[:], av.id)
		binary.LittleEndian.PutUint16(head[2:], uint16(len(av.value)))
		b.Write(head[:])
		b.Write(av.value)
	}
	return b.Bytes()
}

// get returns the value of the first pair with that id.
func (p pairs) get(id uint16) ([]byte, bool) {
	for _, av := range p {
		if av.id == id {
			return av.value, true
		}
	}
	return nil, false
}

// parsePairs reads a list up to its end marker. What follows is padding.
func parsePairs(b []byte) (pairs, error) {
	var list pairs
	for {
		if len(b) < 4 {
			return nil, fmt.Errorf("%w: the list of AV pairs has no end", errMalformed)
		}
		id, n := binary.LittleEndian.Uint16(b), int(binary.LittleEndian.Uint16(b[2:]))
		if id == avEOL {
			return list, nil
		}
		if len(b) < 4+n {
			return nil, fmt.Errorf("%w: AV pair %d wants %d bytes of %d", errMalformed, id, n, len(b)-4)
		}
		list = append(list, pair{id, b[4 : 4+n]})
		b = b[4+n:]
	}
}
