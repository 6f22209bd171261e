package ntlm

import (
	"bytes"
	"crypto/hmac"
	"crypto/md5"
	"crypto/rand"
	"crypto/rc4"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"time"

	"golang.org/x/crypto/md4" //nolint:staticcheck // NTLM's password hash is MD4 (MS-NLMP 3.3.2).
)

// Binding says what a server makes of channel bindings: IIS's tokenChecking.
type Binding int

// IIS's None, Allow and Require.
const (
	BindingOff Binding = iota
	BindingAccept
	BindingRequire
)

// The reasons for which an answer to a challenge is refused.
var (
	// ErrDenied: no such account, a wrong password, or a response that is not
	// NTLMv2. Servers do not say which.
	ErrDenied = errors.New("logon denied")
	// ErrBinding: the channel binding is missing, wrong or all zero.
	ErrBinding = errors.New("bad channel binding")
	// ErrToken: the message is malformed, or no challenge was waiting for it.
	ErrToken = errors.New("invalid token")
)

// maxClockSkew is MaxLifetime of MS-NLMP 3.1.1.1.
const maxClockSkew = 36 * time.Hour

// Server holds what a server knows.
type Server struct {
	// The names a challenge carries: NetBIOS domain and computer, DNS domain
	// and computer.
	Domain, Computer       string
	DNSDomain, DNSComputer string

	// Binding is the policy for channel bindings.
	Binding Binding
	// RequireMIC refuses an answer without a message integrity code.
	RequireMIC bool

	// Password finds an account by the names the client sent. account is the
	// name that the account is known by, DOMAIN\user.
	Password func(domain, user string) (account, password string, ok bool)
	// Now is the server's clock.
	Now func() time.Time
}

// Pending is a challenge that waits for its answer.
type Pending struct {
	negotiate, challenge []byte
	nonce                [8]byte
	info                 pairs
}

// Identity is who answered a challenge, and how well.
type Identity struct {
	// Account is the account's name, DOMAIN\user.
	Account string
	// MIC says that the message carried an integrity code; it was verified.
	MIC bool
	// Bound says that the channel binding was there and right.
	Bound bool
	// SessionKey is the exported session key; the SPNEGO layer signs with it.
	SessionKey []byte
	// Flags are the negotiated flags.
	Flags uint32
}

// Challenge answers a NEGOTIATE message with a CHALLENGE (MS-NLMP 3.2.5.1.1).
func (s *Server) Challenge(negotiate []byte) (challenge []byte, p *Pending, err error) {
	if !IsNegotiate(negotiate) || len(negotiate) < 16 {
		return nil, nil, fmt.Errorf("%w: not a NEGOTIATE message", ErrToken)
	}
	asked := binary.LittleEndian.Uint32(negotiate[12:])
	if asked&(flagUnicode|flagOEM) == 0 || asked&flagNTLM == 0 {
		return nil, nil, fmt.Errorf("%w: NEGOTIATE flags %#08x offer neither a character set nor NTLM", ErrToken, asked)
	}
	p = &Pending{negotiate: bytes.Clone(negotiate)}
	if _, err := rand.Read(p.nonce[:]); err != nil {
		return nil, nil, err
	}
	flags := s.answerFlags(asked)
	var target []byte
	if flags&flagTargetDomain != 0 {
		target = []byte(s.Domain)
		if flags&flagUnicode != 0 {
			target = utf16le(s.Domain)
		}
	}
	var info []byte
	if flags&flagTargetInfo != 0 {
		p.info = s.targetInfo()
		info = p.info.bytes()
	}
	p.challenge = marshalChallenge(flags, p.nonce, target, info)
	return bytes.Clone(p.challenge), p, nil
}

// answerFlags chooses from what the client offered.
func (s *Server) answerFlags(asked uint32) uint32 {
	const echoed = flagSign | flagSeal | flagNTLM | flagAlwaysSign |
		flagExtendedSession | flag128 | flagKeyExchange | flag56 | flagVersion
	flags := asked&echoed | flagNTLM
	if asked&flagUnicode != 0 {
		flags |= flagUnicode
	} else {
		flags |= flagOEM
	}
	if asked&flagRequestTarget != 0 {
		flags |= flagRequestTarget | flagTargetDomain
	}
	if asked&(flagRequestTarget|flagTargetInfo) != 0 {
		flags |= flagTargetInfo
	}
	return flags
}

func (s *Server) targetInfo() pairs {
	stamp := make([]byte, 8)
	binary.LittleEndian.PutUint64(stamp, fileTime(s.Now()))
	return pairs{
		{avNbDomain, utf16le(s.Domain)},
		{avNbComputer, utf16le(s.Computer)},
		{avDNSDomain, utf16le(s.DNSDomain)},
		{avDNSComputer, utf16le(s.DNSComputer)},
		{avDNSTree, utf16le(s.DNSDomain)},
		{avTimestamp, stamp},
	}
}

// marshalChallenge lays out a CHALLENGE message (MS-NLMP 2.2.1.2).
//
//	 0 8 "NTLMSSP\0"   8 4 type 2       12 8 TargetName   20 4 NegotiateFlags
//	24 8 nonce        32 8 reserved     40 8 TargetInfo   48 8 Version
func marshalChallenge(flags uint32, nonce [8]byte, target, info []byte) []byte {
	const header = 56
	b := make([]byte, header, header+len(target)+len(info))
	copy(b, signature)
	binary.LittleEndian.PutUint32(b[8:], 2)
	putField(b[12:], len(target), header)
	binary.LittleEndian.PutUint32(b[20:], flags)
	copy(b[24:], nonce[:])
	putField(b[40:], len(info), header+len(target))
	if flags&flagVersion != 0 {
		// 10.0, build 20348 (Windows Server 2022), NTLMSSP_REVISION_W2K3.
		copy(b[48:], []byte{10, 0, 0x7c, 0x4f, 0, 0, 0, 15})
	}
	return append(append(b, target...), info...)
}

func putField(b []byte, n, offset int) {
	binary.LittleEndian.PutUint16(b, uint16(n))
	binary.LittleEndian.PutUint16(b[2:], uint16(n))
	binary.LittleEndian.PutUint32(b[4:], uint32(offset))
}

// Verify checks the answer to the challenge p (MS-NLMP 3.2.5.1.2). The caller
// must have forgotten p before: a challenge is good for one answer. cbt is the
// MD5 of the connection's channel binding, nil on a connection without TLS.
func (s *Server) Verify(p *Pending, msg, cbt []byte) (Identity, error) {
	if p == nil {
		return Identity{}, fmt.Errorf("%w: no challenge is waiting on this connection", ErrToken)
	}
	a, err := parseAuthenticate(msg)
	if err != nil {
		return Identity{}, fmt.Errorf("%w: %w", ErrToken, err)
	}
	if a.flags&flagAnonymous != 0 || a.user == "" {
		return Identity{}, fmt.Errorf("%w: anonymous", ErrDenied)
	}
	// An NTLMv1 response has 24 bytes, an NTLMv2 one 16 of proof and at least
	// 28 of blob (MS-NLMP 2.2.2.8).
	if len(a.nt) < 44 {
		return Identity{}, fmt.Errorf("%w: an NT response of %d bytes is not NTLMv2", ErrDenied, len(a.nt))
	}
	account, password, ok := s.Password(a.domain, a.user)
	if !ok {
		return Identity{}, fmt.Errorf("%w: no account %s\\%s", ErrDenied, a.domain, a.user)
	}
	key := hashV2(password, a.user, a.domain)
	proof, blob := a.nt[:16], a.nt[16:]
	if !hmac.Equal(proof, mac(key, p.nonce[:], blob)) {
		return Identity{}, fmt.Errorf("%w: wrong password for %s, or the answer to another challenge", ErrDenied, account)
	}
	av, err := s.checkBlob(p, blob)
	if err != nil {
		return Identity{}, err
	}
	id := Identity{Account: account, Flags: a.flags}
	if id.SessionKey, err = sessionKey(mac(key, proof), a); err != nil {
		return Identity{}, err
	}
	if id.MIC, err = s.checkMIC(p, a, av, msg, id.SessionKey); err != nil {
		return Identity{}, err
	}
	if id.Bound, err = s.checkBinding(av, cbt); err != nil {
		return Identity{}, err
	}
	return id, nil
}

// checkBlob looks at what the proof covers: the client's clock and the AV
// pairs, which must hold every pair of the challenge unchanged.
//
//	0 1 RespType 1   1 1 HiRespType 1   2 6 reserved   8 8 TimeStamp
//	16 8 ChallengeFromClient   24 4 reserved   28 AV pairs
func (s *Server) checkBlob(p *Pending, blob []byte) (pairs, error) {
	if blob[0] != 1 || blob[1] != 1 {
		return nil, fmt.Errorf("%w: response version %d.%d", ErrDenied, blob[0], blob[1])
	}
	sent := timeOf(binary.LittleEndian.Uint64(blob[8:]))
	if skew := s.Now().Sub(sent); skew > maxClockSkew || skew < -maxClockSkew {
		return nil, fmt.Errorf("%w: the client's clock is %v away", ErrDenied, skew)
	}
	if p.info == nil {
		return nil, nil
	}
	av, err := parsePairs(blob[28:])
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrToken, err)
	}
	for _, want := range p.info {
		if got, ok := av.get(want.id); !ok || !bytes.Equal(got, want.value) {
			return nil, fmt.Errorf("%w: AV pair %d of the challenge did not come back", ErrDenied, want.id)
		}
	}
	return av, nil
}

// sessionKey is the exported session key: the session base key, or a random
// key that the client sent wrapped in it (MS-NLMP 3.1.5.1.2, KXKEY for NTLMv2).
func sessionKey(base []byte, a *authenticate) ([]byte, error) {
	if a.flags&flagKeyExchange == 0 || a.flags&(flagSign|flagSeal|flagAlwaysSign) == 0 {
		return base, nil
	}
	if len(a.sessionKey) != 16 {
		return nil, fmt.Errorf("%w: a wrapped session key of %d bytes", ErrToken, len(a.sessionKey))
	}
	c, err := rc4.NewCipher(base)
	if err != nil {
		return nil, err
	}
	key := make([]byte, 16)
	c.XORKeyStream(key, a.sessionKey)
	return key, nil
}

// checkMIC verifies the integrity code over all three messages if the client
// flagged one (MS-NLMP 3.2.5.1.2).
func (s *Server) checkMIC(p *Pending, a *authenticate, av pairs, msg, key []byte) (bool, error) {
	flags, ok := av.get(avFlags)
	if !ok || len(flags) != 4 || binary.LittleEndian.Uint32(flags)&avFlagMIC == 0 {
		if s.RequireMIC {
			return false, fmt.Errorf("%w: no message integrity code", ErrDenied)
		}
		return false, nil
	}
	if a.payload < 88 {
		return false, fmt.Errorf("%w: a MIC is flagged, and the payload begins at byte %d", ErrToken, a.payload)
	}
	zeroed := bytes.Clone(msg)
	clear(zeroed[72:88])
	if !hmac.Equal(msg[72:88], mac(key, p.negotiate, p.challenge, zeroed)) {
		return false, fmt.Errorf("%w: wrong message integrity code", ErrDenied)
	}
	return true, nil
}

// checkBinding applies the policy. An all-zero binding is a binding that is
// wrong, as it is for IIS.
func (s *Server) checkBinding(av pairs, cbt []byte) (bool, error) {
	got, ok := av.get(avChannelBindings)
	switch {
	case s.Binding == BindingOff || cbt == nil:
		return false, nil
	case !ok && s.Binding == BindingRequire:
		return false, fmt.Errorf("%w: there is none, and one is required", ErrBinding)
	case !ok:
		return false, nil
	case !hmac.Equal(got, cbt):
		return false, fmt.Errorf("%w: %x is not this connection's", ErrBinding, got)
	}
	return true, nil
}

// hashV2 is NTOWFv2 (MS-NLMP 3.3.2).
func hashV2(password, user, domain string) []byte {
	h := md4.New()
	h.Write(utf16le(password))
	return mac(h.Sum(nil), utf16le(strings.ToUpper(user)+domain))
}

func mac(key []byte, data ...[]byte) []byte {
	h := hmac.New(md5.New, key)
	for _, d := range data {
		h.Write(d)
	}
	return h.Sum(nil)
}

// epoch1601 is the number of 100 ns units from 1601 to 1970.
const epoch1601 = 116444736000000000

func fileTime(t time.Time) uint64 { return uint64(t.UnixNano()/100 + epoch1601) }

func timeOf(ft uint64) time.Time {
	// A clock far from 1970 overflows nanoseconds, not seconds.
	ticks := int64(ft>>1) - epoch1601>>1
	return time.Unix(ticks/5e6, ticks%5e6*200)
}
