package estserver

import (
	"bytes"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"mime"
	"slices"

	"github.com/onlineca/onlineca/ra/fault"
)

const csrMediaType = "application/pkcs10"

// checkContentType accepts application/pkcs10 with any parameters, in any case
// (RFC 7030 section 4.2.1), and nothing that merely begins so.
func checkContentType(header string) error {
	media, _, err := mime.ParseMediaType(header)
	if media == csrMediaType && (err == nil || errors.Is(err, mime.ErrInvalidMediaParameter)) {
		return nil
	}
	if header == "" {
		return &httpError{status: 400, text: "The request has no Content-Type; " + csrMediaType + " is wanted."}
	}
	return &httpError{status: 400, text: "The Content-Type is not " + csrMediaType + "."}
}

// decodeBody turns the body of an enrolment request into DER. It accepts
// base64 (RFC 4648 section 4) with any white space or none, as RFC 8951
// section 3.1 asks of receivers, and PEM, which people send.
func decodeBody(body []byte) ([]byte, error) {
	const op = "read the body"
	trimmed := bytes.TrimSpace(body)
	switch {
	case len(trimmed) == 0:
		return nil, &fault.Fault{Code: fault.MalformedCSR, Op: op, Message: "it is empty"}
	case trimmed[0] == 0x30 && len(trimmed) > 1 && trimmed[1]&0x80 != 0:
		return nil, &fault.Fault{Code: fault.MalformedCSR, Op: op, Message: "it is DER; EST wants base64"}
	case bytes.HasPrefix(trimmed, []byte("-----BEGIN ")):
		block, rest := pem.Decode(trimmed)
		if block == nil || len(bytes.TrimSpace(rest)) != 0 ||
			block.Type != "CERTIFICATE REQUEST" && block.Type != "NEW CERTIFICATE REQUEST" {
			return nil, &fault.Fault{Code: fault.MalformedCSR, Op: op, Message: "it is PEM, but not one certificate request"}
		}
		return block.Bytes, nil
	}
	packed := stripSpace(trimmed)
	der := make([]byte, base64.StdEncoding.DecodedLen(len(packed)))
	n, err := base64.StdEncoding.Strict().Decode(der, packed)
	if err != nil {
		return nil, &fault.Fault{Code: fault.MalformedCSR, Op: op, Message: "it is not base64", Err: err}
	}
	return der[:n], nil
}

// stripSpace returns b without white space.
func stripSpace(b []byte) []byte {
	if !bytes.ContainsAny(b, " \t\r\n\v\f") {
		return b
	}
	out := make([]byte, 0, len(b))
	for _, c := range b {
		switch c {
		case ' ', '\t', '\r', '\n', '\v', '\f':
		default:
			out = append(out, c)
		}
	}
	return out
}

// lineLength is that of base64 lines in answers. libEST reads lines of up to
// 900 characters, but no body without a line break.
const lineLength = 64

// encodeLines is base64 in lines of 64 characters, each ended by LF.
func encodeLines(der []byte) []byte {
	n := base64.StdEncoding.EncodedLen(len(der))
	out := make([]byte, 0, n+n/lineLength+1)
	for part := range slices.Chunk(der, lineLength/4*3) {
		out = append(base64.StdEncoding.AppendEncode(out, part), '\n')
	}
	return out
}

// foldBase64 breaks base64, however it was broken before, into lines of 64
// characters, each ended by LF.
func foldBase64(b []byte) []byte {
	b = stripSpace(b)
	out := make([]byte, 0, len(b)+len(b)/lineLength+1)
	for len(b) > 0 {
		n := min(lineLength, len(b))
		out = append(out, b[:n]...)
		out = append(out, '\n')
		b = b[n:]
	}
	return out
}
