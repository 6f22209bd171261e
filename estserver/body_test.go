package estserver

import (
	"bytes"
	"encoding/base64"
	"errors"
	"strings"
	"testing"

	"github.com/onlineca/onlineca/ra/fault"
)

// Whatever comes in is DER or a fault, and what is base64 in any layout comes
// out as it went in.
func FuzzDecodeBody(f *testing.F) {
	f.Add([]byte("MIIB"), 64, "\r\n")
	f.Add([]byte{0x30, 0x82, 1, 2}, 1, " \t")
	f.Add([]byte("-----BEGIN CERTIFICATE REQUEST-----\nMAA=\n-----END CERTIFICATE REQUEST-----\n"), 76, "\n")
	f.Fuzz(func(t *testing.T, b []byte, width int, eol string) {
		der, err := decodeBody(b)
		if err != nil && !errors.Is(err, fault.MalformedCSR) {
			t.Errorf("%v", err)
		}
		if err == nil && len(der) > len(b) {
			t.Errorf("%d bytes became %d", len(b), len(der))
		}
		if len(b) == 0 || strings.Trim(eol, " \t\r\n\v\f") != "" || width < 1 {
			return
		}
		text := base64.StdEncoding.EncodeToString(b)
		var folded strings.Builder
		for rest := text; rest != ""; {
			n := min(width, len(rest))
			folded.WriteString(rest[:n] + eol)
			rest = rest[n:]
		}
		got, err := decodeBody([]byte(folded.String()))
		if err != nil || !bytes.Equal(got, b) {
			t.Errorf("%q: %x, %v", folded.String(), got, err)
		}
		// What goes out can be read again, in lines of 64.
		out := foldBase64([]byte(folded.String()))
		if back, err := decodeBody(out); err != nil || !bytes.Equal(back, b) || !bytes.HasSuffix(out, []byte("\n")) {
			t.Errorf("%q: %v", out, err)
		}
		if whole := encodeLines(b); !bytes.Equal(whole, out) {
			t.Errorf("%q and %q", whole, out)
		}
		for _, line := range strings.Split(strings.TrimSuffix(string(out), "\n"), "\n") {
			if len(line) > lineLength || line == "" {
				t.Errorf("line %q", line)
			}
		}
	})
}

func TestDecodeBodyIsStrict(t *testing.T) {
	for _, text := range []string{"MAB=", "MAA", "MAA==", "MAA=MAA=", "=MAA", "M A-_"} {
		if der, err := decodeBody([]byte(text)); err == nil {
			t.Errorf("%q became %x", text, der)
		}
	}
}

func FuzzParsePath(f *testing.F) {
	for _, p := range []string{"/.well-known/est/cacerts", "/.well-known/est/phones/simpleenroll", "/.well-known/est//cacerts", "/.well-known/est/cacerts/cacerts"} {
		f.Add(p)
	}
	f.Fuzz(func(t *testing.T, path string) {
		label, op, ok := parsePath(path)
		if !ok {
			return
		}
		want := prefix + op.name
		if label != "" {
			want = prefix + label + "/" + op.name
		}
		if path != want || strings.ContainsAny(label, "/%") || len(label) > 128 {
			t.Errorf("%q is label %q, operation %q", path, label, op.name)
		}
	})
}

func FuzzProxiedCertificates(f *testing.F) {
	f.Add("-----BEGIN%20CERTIFICATE-----%0AMAA=%0A-----END%20CERTIFICATE-----%0A")
	f.Add("%zz")
	f.Fuzz(func(t *testing.T, header string) {
		certs, err := proxiedCertificates(header)
		if err != nil && len(certs) > 0 {
			t.Errorf("%d certificates and %v", len(certs), err)
		}
		for _, c := range certs {
			if c == nil || len(c.Raw) == 0 {
				t.Error("a certificate of nothing")
			}
		}
	})
}
