package chain

import (
	"bytes"
	"crypto/x509"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"unicode/utf16"
)

// Format is the form that certificates came in.
type Format string

// The forms.
const (
	FormatPEM        Format = "PEM"
	FormatDER        Format = "DER"
	FormatPKCS7PEM   Format = "PKCS#7 (Base64)"
	FormatPKCS7DER   Format = "PKCS#7 (DER)"
	FormatPKCS12     Format = "PKCS#12"
	FormatBase64     Format = "Base64 without PEM lines"
	FormatUTF16      Format = "PEM in UTF-16"
	FormatTLS        Format = "TLS"
	FormatUnreadable Format = "unreadable"
)

// Input is what was read from one place.
type Input struct {
	// Name is the file's name, or the address of the server.
	Name   string
	Format Format
	Certs  []*x509.Certificate
	// Requests holds certificate requests that stood among the certificates.
	Requests []*x509.CertificateRequest
	// Notes are remarks about what else was found.
	Notes []string
	// Err says why the input, or a part of it, cannot be read.
	Err error
	// legacy says that it is PKCS#12 with an encryption that OpenSSL 3 opens
	// with its option -legacy only.
	legacy bool
}

// ReadFile reads the certificates in a file; "-" is standard input. The
// password is used for PKCS#12 only; nil means that none was given.
//
// An error means that the file cannot be opened or goes beyond a limit
// ([TooLargeError]). A file that holds no certificate, or damaged ones, is not
// an error but has Input.Err set, because some appliances have a verdict on it.
func ReadFile(path string, password *string) (*Input, error) {
	if path == "-" {
		return Read(os.Stdin, "standard input", password)
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("read certificates: %w", err)
	}
	defer f.Close()
	return Read(f, path, password)
}

// Read is ReadFile for a reader; name is what it is called in messages.
func Read(r io.Reader, name string, password *string) (*Input, error) {
	data, err := io.ReadAll(io.LimitReader(r, MaxInput+1))
	if err != nil {
		return nil, fmt.Errorf("read certificates from %s: %w", name, err)
	}
	if len(data) > MaxInput {
		return nil, &TooLargeError{name, fmt.Sprintf("it is larger than %d MiB, and no chain is", MaxInput>>20)}
	}
	in := &Input{Name: name, Format: FormatUnreadable}
	in.Err = in.decode(data, password)
	var large *TooLargeError
	if errors.As(in.Err, &large) {
		return nil, large
	}
	if in.Err == nil && len(in.Certs) == 0 {
		in.Err = errors.New("it holds no certificate")
		if len(in.Requests) > 0 {
			in.Err = errors.New("it holds a certificate request, which is what a CA is given, and no certificate")
		}
	}
	return in, nil
}

// decode finds out what data is.
func (in *Input) decode(data []byte, password *string) error {
	text, wide := fromUTF16(data)
	if rest, ok := bytes.CutPrefix(text, []byte("\xef\xbb\xbf")); ok {
		text = rest
		in.note("the file begins with a byte order mark")
	}
	switch {
	case len(bytes.TrimSpace(text)) == 0:
		return errors.New("it is empty")
	case text[0] == 0x30 && isElement(text):
		return in.binary(text, password)
	case bytes.Contains(text, []byte("-----BEGIN ")):
		in.Format = FormatPEM
		err := in.pem(text)
		if wide {
			in.Format = FormatUTF16
			in.note("the text is in UTF-16; save it as ANSI or UTF-8")
		}
		return err
	}
	if der, ok := fromBase64(text); ok {
		if err := in.binary(der, password); err != nil {
			return err
		}
		in.note("the Base64 text lacks its BEGIN and END lines")
		in.Format = FormatBase64
		return nil
	}
	return errors.New("it is neither PEM, nor DER, nor PKCS#7, nor PKCS#12")
}

// note adds a remark; a hostile file could cause thousands.
func (in *Input) note(format string, args ...any) {
	if len(in.Notes) >= maxNotes {
		return
	}
	in.Notes = append(in.Notes, fmt.Sprintf(format, args...))
}

// add appends a certificate, up to the limit.
func (in *Input) add(c *x509.Certificate) error {
	if len(in.Certs) >= MaxCertificates {
		return &TooLargeError{in.Name, fmt.Sprintf("it holds more than %d certificates; give the ones of one chain", MaxCertificates)}
	}
	if len(c.Raw) > maxCertificate {
		return &TooLargeError{in.Name, fmt.Sprintf("certificate %d in it is larger than %d KiB; a few KiB are usual", len(in.Certs)+1, maxCertificate>>10)}
	}
	in.Certs = append(in.Certs, c)
	return nil
}

// fromUTF16 turns UTF-16 with a byte order mark into UTF-8.
func fromUTF16(data []byte) (text []byte, wide bool) {
	var order binary.ByteOrder
	switch {
	case bytes.HasPrefix(data, []byte{0xff, 0xfe}):
		order = binary.LittleEndian
	case bytes.HasPrefix(data, []byte{0xfe, 0xff}):
		order = binary.BigEndian
	default:
		return data, false
	}
	units := make([]uint16, 0, len(data)/2)
	for b := data[2:]; len(b) >= 2; b = b[2:] {
		units = append(units, order.Uint16(b))
	}
	return []byte(string(utf16.Decode(units))), true
}

// fromBase64 decodes text that is Base64 and nothing else, if what it holds is
// an ASN.1 SEQUENCE.
func fromBase64(text []byte) ([]byte, bool) {
	der, err := base64.StdEncoding.DecodeString(string(bytes.Join(bytes.Fields(text), nil)))
	return der, err == nil && len(der) > 0 && der[0] == 0x30 && isElement(der)
}

// isElement says whether b begins with an element that b can hold. Whatever
// holds a certificate has a length of more than one octet, so that its second
// octet is not ASCII: text may well begin with the tag of a SEQUENCE, "0".
func isElement(b []byte) bool {
	_, _, _, err := header(b)
	return err == nil && b[1] >= 0x80
}
