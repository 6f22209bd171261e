package chain

import (
	"bytes"
	"crypto/x509"
	"encoding/asn1"
	"encoding/base64"
	"fmt"
	"strings"
)

// pemBlock is one block between a BEGIN and an END line (RFC 7468).
type pemBlock struct {
	label string
	line  int
	body  []byte
}

// pem reads every block of a text, whatever stands around them. It passes over
// the text once: the time is proportional to its length.
func (in *Input) pem(text []byte) error {
	var block *pemBlock
	var firstErr error
	keep := func(err error) {
		if firstErr == nil {
			firstErr = err
		}
	}
	around := false
	number, blocks := 0, 0
	for line := range bytes.Lines(text) {
		number++
		s := bytes.TrimSpace(line)
		label, begins := boundary(s, "-----BEGIN ")
		end, ends := boundary(s, "-----END ")
		switch {
		case !begins && startOfLabel(s) != "":
			// What stands there may be a private key, and is not shown.
			if strings.HasSuffix(startOfLabel(s), "PRIVATE KEY") {
				in.note(privateKeyNote, number)
			}
			keep(fmt.Errorf("line %d: a BEGIN line stands alone, and this one goes on after its dashes: the line breaks are lost", number))
			block = nil
		case begins:
			if blocks++; blocks > maxBlocks {
				return &TooLargeError{in.Name, fmt.Sprintf("it has more than %d blocks; give the certificates of one chain", maxBlocks)}
			}
			if block != nil {
				keep(fmt.Errorf("line %d: the %s that begins here has no END line", block.line, block.label))
			}
			block = &pemBlock{label: label, line: number}
		case block != nil && ends:
			if end != block.label {
				keep(fmt.Errorf("line %d: the %s that begins in line %d ends as %s", number, block.label, block.line, end))
			} else if err := in.block(block); err != nil {
				if isTooLarge(err) {
					return err
				}
				keep(fmt.Errorf("line %d: %w", block.line, err))
			}
			block = nil
		case block != nil:
			if !bytes.Contains(s, []byte(":")) { // RFC 1421 header lines
				block.body = append(block.body, s...)
			}
		case len(s) > 0:
			around = true
		}
	}
	if block != nil {
		keep(fmt.Errorf("line %d: the %s that begins here has no END line", block.line, block.label))
	}
	if around {
		in.note("there is text around the certificates, which is ignored")
	}
	return firstErr
}

// maxLabel is the length of the longest label that is taken for one, in bytes.
const maxLabel = 64

// boundary returns the label of a BEGIN or END line. A label has no two hyphens
// in a row (RFC 7468 section 3): what has is a whole block in one line.
func boundary(line []byte, prefix string) (label string, ok bool) {
	rest, ok := bytes.CutPrefix(line, []byte(prefix))
	if !ok {
		return "", false
	}
	rest, ok = bytes.CutSuffix(rest, []byte("-----"))
	if !ok || len(rest) > maxLabel || bytes.Contains(rest, []byte("--")) {
		return "", false
	}
	return Printable(string(rest)), true
}

// startOfLabel returns the label of a line that begins like a BEGIN line and
// goes on after it, and "" for any other.
func startOfLabel(line []byte) string {
	rest, ok := bytes.CutPrefix(line, []byte("-----BEGIN "))
	if !ok {
		return ""
	}
	label, _, ok := bytes.Cut(rest[:min(len(rest), maxLabel)], []byte("--"))
	if !ok {
		return ""
	}
	return string(label)
}

const privateKeyNote = "line %d: there is a private key in this file: do not hand it out, and upload it nowhere"

// block reads one block.
func (in *Input) block(b *pemBlock) error {
	if strings.HasSuffix(b.label, "PRIVATE KEY") {
		in.note(privateKeyNote, b.line)
		return nil
	}
	der, err := base64.StdEncoding.DecodeString(string(b.body))
	if err != nil {
		return fmt.Errorf("the %s is damaged: %w", b.label, err)
	}
	switch b.label {
	case "CERTIFICATE", "X509 CERTIFICATE", "TRUSTED CERTIFICATE":
		if isPKCS7(der) {
			// Web Enrollment labels a chain like this (certnew.p7b, Enc=b64).
			in.Format = FormatPKCS7PEM
			return in.pkcs7(der)
		}
		if b.label == "TRUSTED CERTIFICATE" {
			der = firstElement(der)
		}
		c, err := x509.ParseCertificate(der)
		if err != nil {
			return fmt.Errorf("the %s cannot be read: %w", b.label, err)
		}
		return in.add(c)
	case "PKCS7", "PKCS #7 SIGNED DATA", "CMS":
		in.Format = FormatPKCS7PEM
		return in.pkcs7(der)
	case "CERTIFICATE REQUEST", "NEW CERTIFICATE REQUEST":
		r, err := x509.ParseCertificateRequest(der)
		if err != nil {
			return fmt.Errorf("the %s cannot be read: %w", b.label, err)
		}
		in.Requests = append(in.Requests, r)
	default:
		in.note("line %d: a block called %q is ignored", b.line, b.label)
	}
	return nil
}

// firstElement cuts off what OpenSSL appends to a trusted certificate.
func firstElement(der []byte) []byte {
	var v asn1.RawValue
	if _, err := asn1.Unmarshal(der, &v); err != nil {
		return der
	}
	return v.FullBytes
}
