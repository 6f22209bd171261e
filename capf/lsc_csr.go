package capf

import (
	"bytes"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/onlineca/onlineca/ra/fault"
)

// csrLimit is the largest file that is read as a request, in bytes. A request
// with a 16384-bit RSA key has less than a tenth of that.
const csrLimit = 64 << 10

// minRSA is the shortest RSA key for which a request is sent at all. CAPF's
// own smallest key size is 512 bits, but no CA signs such a key today, and
// crypto/rsa refuses to use it; what a template wants beyond that is the CA's
// to say.
const minRSA = 1024

// ReadCSRFile reads a PKCS#10 request, PEM or DER, from a regular file of at
// most 64 KiB, and checks it as [ParseCSR] does.
func ReadCSRFile(path string) (*x509.CertificateRequest, error) {
	op := "read " + path
	info, err := os.Stat(path)
	if err != nil {
		return nil, csrUnreadable(op, err)
	}
	if !info.Mode().IsRegular() {
		return nil, fault.Newf(fault.MalformedCSR, op, "it is not a file")
	}
	if info.Size() > csrLimit {
		return nil, fault.Newf(fault.MalformedCSR, op, "the file has %d bytes, no request is longer than %d", info.Size(), csrLimit)
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, csrUnreadable(op, err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, csrLimit+1))
	if err != nil {
		return nil, csrUnreadable(op, err)
	}
	csr, err := ParseCSR(data)
	if err != nil {
		found := fault.Of(err)
		found.Op = op
		return nil, found
	}
	return csr, nil
}

// csrUnreadable reports a file that cannot be opened or read. There is no code
// for it: it is no failure of the road.
func csrUnreadable(op string, err error) error {
	var pathErr *os.PathError
	if errors.As(err, &pathErr) {
		err = pathErr.Err // the path is in op already
	}
	return fmt.Errorf("%s: %w", op, err)
}

// ParseCSR parses a PKCS#10 request, PEM or DER, and checks what needs no CA:
// that its signature is that of its own key (fault.BadCSRSignature), and that
// an RSA key has 1024 bits at least (fault.KeyTooShort). Whatever cannot be
// parsed is a fault.MalformedCSR.
func ParseCSR(data []byte) (*x509.CertificateRequest, error) {
	const op = "read the request"
	der, err := csrDER(data)
	if err != nil {
		return nil, fault.New(fault.MalformedCSR, op, err)
	}
	csr, err := x509.ParseCertificateRequest(der)
	if err != nil {
		return nil, fault.New(fault.MalformedCSR, op, err)
	}
	if err := CheckCSR(csr); err != nil {
		return nil, err
	}
	return csr, nil
}

// CheckCSR makes the checks of [ParseCSR] on a request that is parsed already.
func CheckCSR(csr *x509.CertificateRequest) error {
	op := fmt.Sprintf("check the request for %q", csr.Subject)
	if k, ok := csr.PublicKey.(*rsa.PublicKey); ok && k.N.BitLen() < minRSA {
		return fault.Newf(fault.KeyTooShort, op, "it has an RSA key of %d bits, the least is %d", k.N.BitLen(), minRSA)
	}
	if err := csr.CheckSignature(); err != nil {
		return fault.New(fault.BadCSRSignature, op, err)
	}
	return nil
}

// csrDER takes the request out of its PEM armour, if it has one.
func csrDER(data []byte) ([]byte, error) {
	trimmed := bytes.TrimSpace(data)
	switch {
	case len(trimmed) == 0:
		return nil, errors.New("it is empty")
	case trimmed[0] == 0x30: // a DER SEQUENCE
		return data, nil
	case len(bytes.Trim(data, "\x00")) == 0:
		return nil, errors.New("it holds nothing but zeros")
	}
	for rest := trimmed; ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			return nil, errors.New("it is neither DER nor PEM with a CERTIFICATE REQUEST")
		}
		if block.Type == "CERTIFICATE REQUEST" || block.Type == "NEW CERTIFICATE REQUEST" {
			return block.Bytes, nil
		}
	}
}
