package winauth

import (
	"bytes"
	"crypto/hmac"
	"crypto/md5"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"unicode/utf16"

	"github.com/Azure/go-ntlmssp"
	"golang.org/x/crypto/md4" //nolint:staticcheck // NTOWFv2 is made of MD4: the choice of MS-NLMP
)

// Layout of the NTLM messages (MS-NLMP 2.2.1). A field is a 2-byte length, a
// 2-byte maximum length and a 4-byte offset from the start of the message, all
// little-endian.
//
//	NEGOTIATE     12 flags(4)  16 domain  24 workstation  32 version(8)
//	CHALLENGE     12 target name  20 flags(4)  24 challenge(8)  32 zero(8)
//	              40 target info
//	AUTHENTICATE  12 LM response  20 NT response  28 domain  36 user
//	              44 workstation  52 session key  60 flags(4)
//	              64 version(8)  72 MIC(16), both only with a MIC
const (
	negotiateFlagsAt = 12
	targetInfoAt     = 40
	challengeHeader  = 48
	ntResponseAt     = 20
	authFieldsAt     = 12
	authFields       = 6
	authHeader       = 64
	micAt            = 72
	micRoom          = 24 // version and MIC

	requestTarget = 0x00000004 // NTLMSSP_REQUEST_TARGET
)

// The AV pairs that matter here (MS-NLMP 2.2.2.1).
const (
	avEOL             = 0x0000
	avFlags           = 0x0006
	avTimestamp       = 0x0007
	avTargetName      = 0x0009
	avChannelBindings = 0x000a

	avFlagMIC = 0x2 // the AUTHENTICATE message carries a MIC
)

const signature = "NTLMSSP\x00"

// negotiateMessage returns a NEGOTIATE message. NTLMSSP_REQUEST_TARGET, which
// MS-NLMP 3.1.5.1.1 wants and go-ntlmssp leaves out, is set: without it some
// servers send no target info, and there is nothing to put a binding into.
func negotiateMessage() (msg []byte, err error) {
	defer caught(&err)
	msg, err = ntlmssp.NewNegotiateMessage("", "")
	if err != nil {
		return nil, fmt.Errorf("make a NEGOTIATE message: %w", err)
	}
	if len(msg) < negotiateFlagsAt+4 {
		return nil, fmt.Errorf("a NEGOTIATE message of %d bytes has no flags", len(msg))
	}
	flags := binary.LittleEndian.Uint32(msg[negotiateFlagsAt:])
	binary.LittleEndian.PutUint32(msg[negotiateFlagsAt:], flags|requestTarget)
	return msg, nil
}

// extra is what an AUTHENTICATE message carries beyond the credentials.
type extra struct {
	binding []byte // MsvAvChannelBindings, nil for none
	spn     string // MsvAvTargetName, "" for none
	mic     bool   // a MIC, if the challenge has a timestamp
}

// authenticateMessage answers a challenge. mic says whether the answer carries
// a MIC. challenge comes from the network and may be anything.
func authenticateMessage(negotiate, challenge []byte, c Credential, x extra) (msg []byte, mic bool, err error) {
	defer caught(&err)
	rewritten, mic, err := rewriteChallenge(challenge, x)
	if err != nil {
		return nil, false, err
	}
	msg, err = ntlmssp.NewAuthenticateMessage(rewritten, c.Username, c.Password, nil)
	if err != nil {
		return nil, false, fmt.Errorf("answer the challenge: %w", err)
	}
	if mic {
		msg, err = addMIC(msg, negotiate, challenge, c)
	}
	return msg, mic, err
}

// caught turns a panic of the NTLM library into an error: a challenge comes
// from the network, and under GODEBUG=fips140=only HMAC-MD5 panics.
func caught(err *error) {
	if r := recover(); r != nil {
		*err = fmt.Errorf("the NTLM message could not be made: %v", r)
	}
}

// avPair is one attribute of a challenge's target info.
type avPair struct {
	id    uint16
	value []byte
}

// rewriteChallenge returns the challenge with x put into its target info,
// which the answer repeats and signs. The new target info stands at the end
// of the message; everything else keeps its place. mic says whether the answer
// must carry a MIC.
func rewriteChallenge(challenge []byte, x extra) (rewritten []byte, mic bool, err error) {
	pairs, err := targetInfo(challenge)
	if err != nil {
		return nil, false, err
	}
	var flags uint32
	kept := pairs[:0]
	for _, p := range pairs {
		switch p.id {
		case avFlags:
			if len(p.value) != 4 {
				return nil, false, fmt.Errorf("the challenge's MsvAvFlags has %d bytes, not 4", len(p.value))
			}
			flags = binary.LittleEndian.Uint32(p.value)
			continue
		case avTimestamp:
			if len(p.value) != 8 {
				return nil, false, fmt.Errorf("the challenge's MsvAvTimestamp has %d bytes, not 8", len(p.value))
			}
			mic = x.mic
		case avTargetName, avChannelBindings: // the client's to say
			continue
		}
		kept = append(kept, p)
	}
	if mic {
		flags |= avFlagMIC
	}
	if flags != 0 {
		kept = append(kept, avPair{avFlags, binary.LittleEndian.AppendUint32(nil, flags)})
	}
	if x.spn != "" {
		kept = append(kept, avPair{avTargetName, utf16LE(x.spn)})
	}
	if x.binding != nil {
		kept = append(kept, avPair{avChannelBindings, x.binding})
	}
	rewritten, err = withTargetInfo(challenge, kept)
	return rewritten, mic, err
}

// targetInfo reads a challenge's AV pairs. A challenge may have none.
func targetInfo(challenge []byte) ([]avPair, error) {
	if len(challenge) < challengeHeader {
		return nil, fmt.Errorf("a challenge of %d bytes is shorter than its header of %d", len(challenge), challengeHeader)
	}
	if !bytes.HasPrefix(challenge, []byte(signature)) || binary.LittleEndian.Uint32(challenge[8:]) != 2 {
		return nil, errors.New("what the server sent as its challenge is no NTLM CHALLENGE message")
	}
	info, err := fieldAt(challenge, targetInfoAt)
	if err != nil {
		return nil, fmt.Errorf("the challenge's target info: %w", err)
	}
	var pairs []avPair
	for len(info) > 0 {
		if len(info) < 4 {
			return nil, errors.New("the challenge's target info ends in the middle of an attribute")
		}
		id, n := binary.LittleEndian.Uint16(info), int(binary.LittleEndian.Uint16(info[2:]))
		if id == avEOL {
			return pairs, nil
		}
		if len(info) < 4+n {
			return nil, fmt.Errorf("attribute 0x%04x of the challenge's target info has %d bytes, but only %d follow", id, n, len(info)-4)
		}
		pairs = append(pairs, avPair{id, info[4 : 4+n]})
		info = info[4+n:]
	}
	return pairs, nil
}

// withTargetInfo appends pairs to the challenge and points its target info there.
func withTargetInfo(challenge []byte, pairs []avPair) ([]byte, error) {
	info := make([]byte, 0, 256)
	for _, p := range pairs {
		info = binary.LittleEndian.AppendUint16(info, p.id)
		info = binary.LittleEndian.AppendUint16(info, uint16(len(p.value)))
		info = append(info, p.value...)
	}
	info = append(info, 0, 0, 0, 0)
	if len(info) > 0xffff {
		return nil, fmt.Errorf("the challenge's target info has %d bytes: no room for a channel binding", len(info))
	}
	out := make([]byte, 0, len(challenge)+len(info))
	out = append(out, challenge...)
	binary.LittleEndian.PutUint16(out[targetInfoAt:], uint16(len(info)))
	binary.LittleEndian.PutUint16(out[targetInfoAt+2:], uint16(len(info)))
	binary.LittleEndian.PutUint32(out[targetInfoAt+4:], uint32(len(challenge)))
	return append(out, info...), nil
}

// fieldAt reads the field whose length and offset stand at position at.
func fieldAt(msg []byte, at int) ([]byte, error) {
	if len(msg) < at+8 {
		return nil, fmt.Errorf("the message of %d bytes ends before byte %d", len(msg), at+8)
	}
	n := uint64(binary.LittleEndian.Uint16(msg[at:]))
	off := uint64(binary.LittleEndian.Uint32(msg[at+4:]))
	if off+n > uint64(len(msg)) {
		return nil, fmt.Errorf("%d bytes at offset %d lie outside of the message of %d bytes", n, off, len(msg))
	}
	return msg[off : off+n], nil
}

// addMIC makes room for version and MIC behind the header of an AUTHENTICATE
// message and computes the MIC over all three messages, the challenge as it
// came (MS-NLMP 3.1.5.1.2).
func addMIC(auth, negotiate, challenge []byte, c Credential) ([]byte, error) {
	nt, err := fieldAt(auth, ntResponseAt)
	if err != nil {
		return nil, fmt.Errorf("the AUTHENTICATE message's NT response: %w", err)
	}
	if len(auth) < authHeader || len(nt) < md5.Size {
		return nil, fmt.Errorf("an AUTHENTICATE message of %d bytes with an NT response of %d is none", len(auth), len(nt))
	}
	key := hmacMD5(ntowfv2(c), nt[:md5.Size]) // the session key, without key exchange

	out := make([]byte, 0, len(auth)+micRoom)
	out = append(out, auth[:authHeader]...)
	out = append(out, make([]byte, micRoom)...)
	out = append(out, auth[authHeader:]...)
	for i := range authFields {
		at := authFieldsAt + 8*i + 4
		binary.LittleEndian.PutUint32(out[at:], binary.LittleEndian.Uint32(out[at:])+micRoom)
	}
	copy(out[micAt:], hmacMD5(key, negotiate, challenge, out))
	return out, nil
}

// ntowfv2 is the NTLMv2 one-way function of a credential (MS-NLMP 3.3.2).
func ntowfv2(c Credential) []byte {
	user, domain := c.split()
	h := md4.New()
	h.Write(utf16LE(c.Password))
	return hmacMD5(h.Sum(nil), utf16LE(strings.ToUpper(user)+domain))
}

func hmacMD5(key []byte, parts ...[]byte) []byte {
	m := hmac.New(md5.New, key)
	for _, p := range parts {
		m.Write(p)
	}
	return m.Sum(nil)
}

func utf16LE(s string) []byte {
	units := utf16.Encode([]rune(s))
	b := make([]byte, 0, 2*len(units))
	for _, u := range units {
		b = binary.LittleEndian.AppendUint16(b, u)
	}
	return b
}
