package app

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"strings"
)

// maxFile bounds what is read as a certificate, key or password file.
const maxFile = 8 << 20

// readFile reads a whole file that a setting names; what says what it is for.
func readFile(what, path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", what, err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", what, err)
	}
	if len(data) > maxFile {
		return nil, fmt.Errorf("%s: %s is larger than %d bytes", what, path, maxFile)
	}
	return data, nil
}

// ReadPassword reads a password file: one line, its line break left out. What
// says what the password is for; the error never holds it.
func ReadPassword(what, path string) (string, error) {
	data, err := readFile(what, path)
	if err != nil {
		return "", err
	}
	text := strings.TrimSuffix(strings.TrimSuffix(string(data), "\n"), "\r")
	switch {
	case text == "":
		return "", fmt.Errorf("%s: %s is empty", what, path)
	case strings.ContainsAny(text, "\r\n\x00"):
		return "", fmt.Errorf("%s: %s has more than one line: it must hold the password and nothing else", what, path)
	case len(text) > 1024:
		return "", fmt.Errorf("%s: %s holds %d bytes: not a password", what, path, len(text))
	}
	return text, nil
}

// ReadCertificates reads every certificate of PEM files.
func ReadCertificates(what string, paths ...string) ([]*x509.Certificate, error) {
	var all []*x509.Certificate
	for _, path := range paths {
		data, err := readFile(what, path)
		if err != nil {
			return nil, err
		}
		found, err := parsePEM(data)
		if err != nil {
			return nil, fmt.Errorf("%s: %s: %w", what, path, err)
		}
		all = append(all, found...)
	}
	return all, nil
}

func parsePEM(data []byte) ([]*x509.Certificate, error) {
	var all []*x509.Certificate
	for block, rest := pem.Decode(data); block != nil; block, rest = pem.Decode(rest) {
		if block.Type != "CERTIFICATE" {
			continue
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("certificate %d: %w", len(all)+1, err)
		}
		all = append(all, cert)
	}
	if len(all) == 0 {
		if _, err := x509.ParseCertificate(data); err == nil {
			return nil, errors.New("this is DER; a PEM file is needed (openssl x509 -inform DER -in FILE -out FILE.pem)")
		}
		return nil, errors.New("no certificate in it: a PEM file with BEGIN CERTIFICATE is needed")
	}
	return all, nil
}

// pool makes a pool of certificates.
func pool(certs []*x509.Certificate) *x509.CertPool {
	p := x509.NewCertPool()
	for _, c := range certs {
		p.AddCert(c)
	}
	return p
}

// readKeyPair reads a server certificate and its key.
func readKeyPair(what, certPath, keyPath string) (tls.Certificate, error) {
	certPEM, err := readFile(what, certPath)
	if err != nil {
		return tls.Certificate{}, err
	}
	keyPEM, err := readFile(what, keyPath)
	if err != nil {
		return tls.Certificate{}, err
	}
	pair, err := tls.X509KeyPair(certPEM, keyPEM)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("%s: %s with %s: %w", what, certPath, keyPath, err)
	}
	return pair, nil
}

// openToAll says whether path can be read by others than its owner and group.
// Windows keeps that in access lists, which os.FileMode knows nothing of.
func openToAll(path string) bool {
	if runtime.GOOS == "windows" {
		return false
	}
	info, err := os.Stat(path)
	return err == nil && info.Mode().Perm()&0o004 != 0
}

// exists returns an error unless there is a file at path.
func exists(path string) error {
	if _, err := os.Stat(path); err != nil {
		return fmt.Errorf("store: %w (it is made when the server first starts)", err)
	}
	return nil
}
