package ntlm

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"slices"
	"testing"
	"time"
)

func unhex(t *testing.T, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// The values of MS-NLMP 4.2: user "User", domain "Domain", password "Password",
// server challenge 0123456789abcdef, client challenge aa (8 times), time 0.
var (
	msNonce = []byte{0x01, 0x23, 0x45, 0x67, 0x89, 0xab, 0xcd, 0xef}
	msBlob  = "0101000000000000" + "0000000000000000" + "aaaaaaaaaaaaaaaa" + "00000000" +
		"02000c0044006f006d00610069006e00" + "01000c00530065007200760065007200" + "00000000" + "00000000"
)

// TestPublishedValues checks the arithmetic against MS-NLMP 4.2.4.
func TestPublishedValues(t *testing.T) {
	key := hashV2("Password", "User", "Domain")
	if got, want := hex.EncodeToString(key), "0c868a403bfd7a93a3001ef22ef02e3f"; got != want {
		t.Errorf("NTOWFv2 %s, want %s", got, want)
	}
	proof := mac(key, msNonce, unhex(t, msBlob))
	if got, want := hex.EncodeToString(proof), "68cd0ab851e51c96aabc927bebef6a1c"; got != want {
		t.Errorf("NTProofStr %s, want %s", got, want)
	}
	base := mac(key, proof)
	if got, want := hex.EncodeToString(base), "8de40ccadbc14a82f15cb0ad0de95ca3"; got != want {
		t.Errorf("session base key %s, want %s", got, want)
	}
	// RandomSessionKey 55 (16 times), wrapped: 4.2.4.2.3.
	a := &authenticate{flags: flagKeyExchange | flagSign, sessionKey: unhex(t, "c5dad2544fc9799094ce1ce90bc9d03e")}
	got, err := sessionKey(base, a)
	if err != nil || !bytes.Equal(got, bytes.Repeat([]byte{0x55}, 16)) {
		t.Errorf("exported session key %x, %v", got, err)
	}
}

func TestFileTime(t *testing.T) {
	for _, want := range []time.Time{time.Unix(0, 0), time.Date(2026, 1, 15, 8, 0, 1, 200, time.UTC)} {
		if got := timeOf(fileTime(want)); !got.Equal(want) {
			t.Errorf("%v becomes %v", want, got)
		}
	}
	if got := timeOf(0).UTC(); got.Year() != 1601 || got.YearDay() != 1 {
		t.Errorf("0 is %v", got)
	}
	if got := timeOf(^uint64(0)).UTC(); got.Year() < 30_000 {
		t.Errorf("the last of all times is %v", got)
	}
}

// server knows one account.
func server(now time.Time) *Server {
	return &Server{
		Domain: "LAB", Computer: "LAB-IIS", DNSDomain: "lab.example", DNSComputer: "lab-iis.lab.example",
		Now: func() time.Time { return now },
		Password: func(domain, user string) (string, string, bool) {
			return `LAB\user`, "Password", domain == "LAB" && user == "user"
		},
	}
}

// message builds an AUTHENTICATE message from its fields in the order of the
// header: LM, NT, domain, user, workstation, session key.
func message(flags uint32, fields ...[]byte) []byte {
	b := make([]byte, 64)
	copy(b, signature)
	b[8] = 3
	for i, f := range fields {
		putField(b[12+8*i:], len(f), len(b))
		b = append(b, f...)
	}
	binary.LittleEndian.PutUint32(b[60:], flags)
	return b
}

// negotiate is a NEGOTIATE message of 16 bytes, as the shortest clients send.
func negotiate(flags uint32) []byte {
	b := make([]byte, 16)
	copy(b, signature)
	b[8] = 1
	binary.LittleEndian.PutUint32(b[12:], flags)
	return b
}

// answerTo makes an NTLMv2 response to p.
func answerTo(p *Pending, password string, blobTime time.Time, av pairs) []byte {
	blob := make([]byte, 28)
	blob[0], blob[1] = 1, 1
	binary.LittleEndian.PutUint64(blob[8:], fileTime(blobTime))
	blob = append(append(blob, av.bytes()...), 0, 0, 0, 0)
	return append(mac(hashV2(password, "user", "LAB"), p.nonce[:], blob), blob...)
}

func TestVerify(t *testing.T) {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	s := server(now)
	const flags = flagUnicode | flagNTLM | flagRequestTarget
	oem := flagNTLM | flagOEM | flagRequestTarget
	for name, tc := range map[string]struct {
		flags uint32
		make  func(p *Pending) []byte
		want  error
	}{
		"good": {flags, func(p *Pending) []byte {
			return message(flags, nil, answerTo(p, "Password", now, p.info), utf16le("LAB"), utf16le("user"), nil, nil)
		}, nil},
		"OEM": {uint32(oem), func(p *Pending) []byte {
			return message(uint32(oem), nil, answerTo(p, "Password", now, p.info), []byte("LAB"), []byte("user"), nil, nil)
		}, nil},
		"wrong password": {flags, func(p *Pending) []byte {
			return message(flags, nil, answerTo(p, "password", now, p.info), utf16le("LAB"), utf16le("user"), nil, nil)
		}, ErrDenied},
		"wrong domain": {flags, func(p *Pending) []byte {
			return message(flags, nil, answerTo(p, "Password", now, p.info), utf16le("OTHER"), utf16le("user"), nil, nil)
		}, ErrDenied},
		"NTLMv1": {flags, func(*Pending) []byte {
			return message(flags, make([]byte, 24), make([]byte, 24), utf16le("LAB"), utf16le("user"), nil, nil)
		}, ErrDenied},
		"anonymous": {flags, func(p *Pending) []byte {
			return message(flags|flagAnonymous, nil, answerTo(p, "Password", now, p.info), utf16le("LAB"), utf16le("user"), nil, nil)
		}, ErrDenied},
		"a pair missing": {flags, func(p *Pending) []byte {
			return message(flags, nil, answerTo(p, "Password", now, p.info[1:]), utf16le("LAB"), utf16le("user"), nil, nil)
		}, ErrDenied},
		"a pair changed": {flags, func(p *Pending) []byte {
			changed := append(pairs{{avNbDomain, utf16le("EVIL")}}, p.info[1:]...)
			return message(flags, nil, answerTo(p, "Password", now, changed), utf16le("LAB"), utf16le("user"), nil, nil)
		}, ErrDenied},
		"late by 37 hours": {flags, func(p *Pending) []byte {
			return message(flags, nil, answerTo(p, "Password", now.Add(-37*time.Hour), p.info), utf16le("LAB"), utf16le("user"), nil, nil)
		}, ErrDenied},
		"own clock": {flags, func(p *Pending) []byte {
			return message(flags, nil, answerTo(p, "Password", now.Add(time.Hour), p.info), utf16le("LAB"), utf16le("user"), nil, nil)
		}, nil},
		"session key of 15 bytes": {flags, func(p *Pending) []byte {
			return message(flags|flagKeyExchange|flagSign, nil, answerTo(p, "Password", now, p.info), utf16le("LAB"), utf16le("user"), nil, make([]byte, 15))
		}, ErrToken},
		"MIC flagged and not there": {flags, func(p *Pending) []byte {
			av := slices.Concat(p.info, pairs{{avFlags, []byte{2, 0, 0, 0}}})
			return message(flags, nil, answerTo(p, "Password", now, av), utf16le("LAB"), utf16le("user"), nil, nil)
		}, ErrToken},
		"odd UTF-16": {flags, func(p *Pending) []byte {
			return message(flags, nil, answerTo(p, "Password", now, p.info), []byte("LAB"), utf16le("user"), nil, nil)
		}, ErrToken},
		"short": {flags, func(*Pending) []byte { return message(flags)[:60] }, ErrToken},
	} {
		_, p, err := s.Challenge(negotiate(tc.flags))
		if err != nil {
			t.Fatal(err)
		}
		id, err := s.Verify(p, tc.make(p), nil)
		if !errors.Is(err, tc.want) || (err == nil) != (tc.want == nil) {
			t.Errorf("%s: %v, want %v", name, err, tc.want)
		}
		if err == nil && (id.Account != `LAB\user` || len(id.SessionKey) != 16) {
			t.Errorf("%s: %+v", name, id)
		}
	}
	if _, err := s.Verify(nil, message(flags), nil); !errors.Is(err, ErrToken) {
		t.Errorf("no challenge: %v", err)
	}
}

func TestNegotiateFlags(t *testing.T) {
	s := server(time.Now())
	for name, tc := range map[string]struct {
		msg    []byte
		target bool
		info   bool
		ok     bool
	}{
		"neither asked for":   {negotiate(flagUnicode | flagNTLM), false, false, true},
		"target":              {negotiate(flagUnicode | flagNTLM | flagRequestTarget), true, true, true},
		"info":                {negotiate(flagUnicode | flagNTLM | flagTargetInfo), false, true, true},
		"no character set":    {negotiate(flagNTLM), false, false, false},
		"no NTLM":             {negotiate(flagUnicode), false, false, false},
		"too short":           {negotiate(flagUnicode | flagNTLM)[:15], false, false, false},
		"an answer, no offer": {message(flagUnicode | flagNTLM), false, false, false},
	} {
		msg, p, err := s.Challenge(tc.msg)
		if (err == nil) != tc.ok {
			t.Errorf("%s: %v", name, err)
		}
		if err != nil {
			continue
		}
		target, _, err := challengeField(msg, 12)
		if err != nil || (len(target) > 0) != tc.target {
			t.Errorf("%s: target %q, %v", name, target, err)
		}
		info, _, err := challengeField(msg, 40)
		if err != nil || (len(info) > 0) != tc.info || (p.info != nil) != tc.info {
			t.Errorf("%s: info %x, %v", name, info, err)
		}
	}
}

// challengeField is field for a CHALLENGE, whose header has 56 bytes.
func challengeField(msg []byte, at int) ([]byte, int, error) {
	n, o := int(binary.LittleEndian.Uint16(msg[at:])), int(binary.LittleEndian.Uint32(msg[at+4:]))
	if o < 56 || o+n > len(msg) {
		return nil, 0, errMalformed
	}
	return msg[o : o+n], o, nil
}

// FuzzVerify: no message from a client makes the server panic, and none that is
// not made with the password gets in.
func FuzzVerify(f *testing.F) {
	s := server(time.Now())
	s.Binding, s.RequireMIC = BindingRequire, true
	f.Add(negotiate(flagUnicode|flagNTLM|flagRequestTarget), message(flagUnicode, nil, make([]byte, 80), utf16le("LAB"), utf16le("user"), nil, nil))
	f.Add(negotiate(flagOEM|flagNTLM), message(flagOEM|flagKeyExchange, nil, make([]byte, 80), []byte("LAB"), []byte("user"), nil, make([]byte, 16)))
	f.Add([]byte{}, []byte{})
	f.Fuzz(func(t *testing.T, offer, answer []byte) {
		_, p, err := s.Challenge(offer)
		if err != nil {
			p = nil
		}
		if _, err := s.Verify(p, answer, make([]byte, 16)); err == nil {
			t.Fatal("a message without the password gets in")
		}
		var w SPNEGO
		if msg, err := w.Unwrap(answer); err == nil && w.mechs != nil && !IsNegotiate(msg) {
			t.Fatalf("SPNEGO begins with %x", msg)
		}
	})
}

// FuzzBlob: what the proof covers is the client's too.
func FuzzBlob(f *testing.F) {
	s := server(time.Unix(0, 0))
	_, p, err := s.Challenge(negotiate(flagUnicode | flagNTLM | flagRequestTarget))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(append(make([]byte, 28), p.info.bytes()...))
	f.Add([]byte(msBlob))
	f.Fuzz(func(_ *testing.T, in []byte) {
		blob := bytes.Clone(in)
		if len(blob) < 28 { // Verify sees to that
			return
		}
		blob[0], blob[1] = 1, 1
		binary.LittleEndian.PutUint64(blob[8:], fileTime(time.Unix(0, 0)))
		if av, err := s.checkBlob(p, blob); err == nil {
			_, _ = s.checkBinding(av, make([]byte, 16))
		}
	})
}
