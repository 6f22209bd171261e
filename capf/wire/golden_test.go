package wire_test

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/onlineca/onlineca/capf/wire"
)

// unhex reads hex with blanks and bars between groups; "name" in quotes stands
// for its own bytes.
func unhex(t *testing.T, s string) []byte {
	t.Helper()
	var out []byte
	for _, f := range strings.Fields(strings.ReplaceAll(s, "|", " ")) {
		if strings.HasPrefix(f, `"`) {
			out = append(out, strings.Trim(f, `"`)...)
			continue
		}
		b, err := hex.DecodeString(f)
		if err != nil {
			t.Fatalf("golden bytes: %q: %v", f, err)
		}
		out = append(out, b...)
	}
	return out
}

// fill returns n bytes that begin like DER and are otherwise a pattern.
func fill(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i)
	}
	copy(b, []byte{0x30, 0x82})
	binary.BigEndian.PutUint16(b[2:], uint16(n-4))
	return b
}

const sep = "SEP001122334455"

// The layouts that have been seen between two independent programs, and those
// of published captures of real products. Lengths are those of the captures.
func TestGolden(t *testing.T) {
	u8 := wire.Uint8[uint8]
	reason := func(r wire.Reason) wire.Element { return wire.Uint8(wire.TagReason, r) }
	der739, der856, der857, der979, der294 := fill(739), fill(856), fill(857), fill(979), fill(294)
	sig256 := bytes.Repeat([]byte{0xab}, 256)

	tests := []struct {
		name string
		hex  string
		tail []byte // bytes after hex
		size int
		msg  wire.Message
	}{
		{name: "auth request of an independent server", size: 16,
			hex: `55 01 00000001 0008 | 07 0001 03 | 08 0001 00`,
			msg: wire.Message{Command: wire.AuthRequest, Session: 1, Elements: []wire.Element{u8(wire.TagVersion, 3), wire.Uint8(wire.TagAuthType, wire.AuthNone)}}},
		{name: "auth request of the product", size: 12,
			hex: `55 01 00000001 0004 | 07 0001 03`,
			msg: wire.Message{Command: wire.AuthRequest, Session: 1, Elements: []wire.Element{u8(wire.TagVersion, 3)}}},
		{name: "auth response, password", size: 45,
			hex: `55 02 00000001 0025 | 01 0001 01 | 07 0001 03 | 0b 0007 313233343536 00 | 0d 0010 "SEP001122334455" 00`,
			msg: wire.Message{Command: wire.AuthResponse, Session: 1, Elements: []wire.Element{
				reason(1), u8(wire.TagVersion, 3), wire.Text(wire.TagPassword, "123456"), wire.Text(wire.TagDeviceName, sep)}}},
		{name: "auth response, no password", size: 39,
			hex: `55 02 00000001 001f | 01 0001 01 | 07 0001 03 | 0b 0001 00 | 0d 0010 "SEP001122334455" 00`,
			msg: wire.Message{Command: wire.AuthResponse, Session: 1, Elements: []wire.Element{
				reason(1), u8(wire.TagVersion, 3), wire.Text(wire.TagPassword, ""), wire.Text(wire.TagDeviceName, sep)}}},
		{name: "auth response of a Jabber", size: 35,
			hex: `55 02 0000002a 001b | 07 0001 02 | 0d 0010 "SEP001122334455" 00 | 01 0001 01`,
			msg: wire.Message{Command: wire.AuthResponse, Session: 42, Elements: []wire.Element{
				u8(wire.TagVersion, 2), wire.Text(wire.TagDeviceName, sep), reason(1)}}},
		{name: "key request, RSA, version 3", size: 17,
			hex: `55 03 00000001 0009 | 0a 0002 0800 | 11 0001 00`,
			msg: wire.Message{Command: wire.KeyGenerateRequest, Session: 1, Elements: wire.KeySpec{Bits: 2048}.Elements(3)}},
		{name: "key request, EC P-384", size: 16,
			hex: `55 03 00000001 0008 | 11 0001 01 | 12 0001 01`,
			msg: wire.Message{Command: wire.KeyGenerateRequest, Session: 1, Elements: wire.KeySpec{Type: wire.EC, Curve: wire.P384}.Elements(3)}},
		{name: "key request of the product", size: 13,
			hex: `55 03 00000001 0005 | 0a 0002 0800`,
			msg: wire.Message{Command: wire.KeyGenerateRequest, Session: 1, Elements: wire.KeySpec{Bits: 2048}.Elements(2)}},
		{name: "request in progress", size: 8,
			hex: `55 11 00000001 0000`,
			msg: wire.Message{Command: wire.RequestInProgress, Session: 1}},
		{name: "key response", size: 305,
			hex: `55 04 00000001 0129 | 09 0126`, tail: der294,
			msg: wire.Message{Command: wire.KeyGenerateResponse, Session: 1, Elements: []wire.Element{{Tag: wire.TagPublicKey, Value: der294}}}},
		{name: "store request", size: 877,
			hex: `55 09 00000001 0365 | 03 0001 01 | 04 035e 01 035b 00 01`, tail: der857,
			msg: wire.Message{Command: wire.StoreCertificateRequest, Session: 1, Elements: []wire.Element{wire.Uint8(wire.TagCertificateType, wire.TypeLSC), wire.CertificateValue(der857)}}},
		{name: "store request of the product", size: 999,
			hex: `55 09 00000001 03df | 03 0001 01 | 04 03d8 01 03d5 0001`, tail: der979,
			msg: wire.Message{Command: wire.StoreCertificateRequest, Session: 1, Elements: []wire.Element{wire.Uint8(wire.TagCertificateType, wire.TypeLSC), wire.CertificateValue(der979)}}},
		{name: "store response", size: 12,
			hex: `55 0a 00000001 0004 | 01 0001 01`,
			msg: wire.Message{Command: wire.StoreCertificateResponse, Session: 1, Elements: []wire.Element{reason(1)}}},
		{name: "fetch request", size: 8, hex: `55 0b 00000001 0000`,
			msg: wire.Message{Command: wire.FetchCertificateRequest, Session: 1}},
		{name: "fetch response", size: 876,
			hex: `55 0c 00000001 0364 | 01 0001 01 | 04 035d 01 035a 0001`, tail: der856,
			msg: wire.Message{Command: wire.FetchCertificateResponse, Session: 1, Elements: []wire.Element{reason(1), wire.CertificateValue(der856)}}},
		{name: "delete request", size: 8, hex: `55 0d 00000001 0000`,
			msg: wire.Message{Command: wire.DeleteCertRequest, Session: 1}},
		{name: "delete response", size: 12, hex: `55 0e 00000001 0004 | 01 0001 01`,
			msg: wire.Message{Command: wire.DeleteCertResponse, Session: 1, Elements: []wire.Element{reason(1)}}},
		{name: "end, done", size: 12, hex: `55 0f 00000001 0004 | 01 0001 01`,
			msg: wire.Message{Command: wire.EndSession, Session: 1, Elements: []wire.Element{reason(wire.ReasonOK)}}},
		{name: "end, no action", size: 12, hex: `55 0f 00000001 0004 | 01 0001 00`,
			msg: wire.Message{Command: wire.EndSession, Session: 1, Elements: []wire.Element{reason(wire.ReasonNoAction)}}},
		{name: "end, refused", size: 12, hex: `55 0f 00000001 0004 | 01 0001 07`,
			msg: wire.Message{Command: wire.EndSession, Session: 1, Elements: []wire.Element{reason(wire.ReasonInvalid)}}},
		{name: "end, unknown device", size: 12, hex: `55 0f 00000001 0004 | 01 0001 09`,
			msg: wire.Message{Command: wire.EndSession, Session: 1, Elements: []wire.Element{reason(wire.ReasonUnknownDevice)}}},
		{name: "auth response, RSA certificate with SUDI", size: 2570,
			hex: `55 02 00000001 0a02`, tail: nil, // built below
			msg: wire.Message{Command: wire.AuthResponse, Session: 1, Elements: []wire.Element{
				reason(1), wire.CertificateValue(der739), {Tag: wire.TagSignedData, Value: sig256},
				u8(wire.TagVersion, 3), wire.Text(wire.TagPassword, ""), wire.Text(wire.TagDeviceName, sep),
				wire.SUDI{Certificate: der739, SHA1: sig256, SHA512: sig256}.Element(), wire.SHA2SignedValue(sig256)}}},
	}
	last := &tests[len(tests)-1]
	last.tail = bytes.Join([][]byte{
		unhex(t, `01 0001 01 | 04 02e8 01 02e5 0001`), der739,
		unhex(t, `06 0100`), sig256,
		unhex(t, `07 0001 03 | 0b 0001 00 | 0d 0010 "SEP001122334455" 00`),
		unhex(t, `10 04ec | 00 02e3`), der739, unhex(t, `01 0100`), sig256, unhex(t, `03 0100`), sig256,
		unhex(t, `14 0103 | 03 0100`), sig256,
	}, nil)

	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			want := append(unhex(t, tt.hex), tt.tail...)
			if len(want) != tt.size {
				t.Fatalf("the golden message has %d bytes, the capture %d", len(want), tt.size)
			}
			got, err := tt.msg.Encode()
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(got, want) {
				t.Errorf("Encode\n got %x\nwant %x", got, want)
			}
			back, err := wire.Decode(want)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.msg, back); diff != "" {
				t.Errorf("Decode (-want +got)\n%s", diff)
			}
		})
	}
}
