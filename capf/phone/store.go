package phone

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// Identity is a certificate with its private key.
type Identity struct {
	Certificate []byte // DER
	Key         crypto.Signer
}

// LoadIdentity reads a certificate and its private key from one PEM file, in
// any order, as other clients of CAPF keep them. The key may be PKCS#8, PKCS#1
// or SEC 1, but not encrypted.
func LoadIdentity(path string) (*Identity, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	id, err := ParseIdentity(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return id, nil
}

// ParseIdentity reads the text of such a file.
func ParseIdentity(text []byte) (*Identity, error) {
	id := new(Identity)
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		switch block.Type {
		case "CERTIFICATE":
			if id.Certificate == nil {
				id.Certificate = block.Bytes
			}
		case "PRIVATE KEY", "RSA PRIVATE KEY", "EC PRIVATE KEY":
			if id.Key != nil {
				return nil, errors.New("it holds two private keys")
			}
			key, err := parseKey(block)
			if err != nil {
				return nil, err
			}
			id.Key = key
		case "ENCRYPTED PRIVATE KEY":
			return nil, errors.New("its private key is encrypted: decrypt it with openssl pkey first")
		}
	}
	switch {
	case id.Key == nil:
		return nil, errors.New("it holds no private key in PEM")
	case id.Certificate == nil:
		return nil, errors.New("it holds no certificate in PEM")
	}
	cert, err := x509.ParseCertificate(id.Certificate)
	if err != nil {
		return nil, fmt.Errorf("its certificate: %w", err)
	}
	if !samePublic(cert.PublicKey, id.Key.Public()) {
		return nil, errors.New("its certificate and its private key do not belong together")
	}
	return id, nil
}

func parseKey(block *pem.Block) (crypto.Signer, error) {
	var key any
	var err error
	switch block.Type {
	case "RSA PRIVATE KEY":
		key, err = x509.ParsePKCS1PrivateKey(block.Bytes)
	case "EC PRIVATE KEY":
		key, err = x509.ParseECPrivateKey(block.Bytes)
	default:
		key, err = x509.ParsePKCS8PrivateKey(block.Bytes)
	}
	if err != nil {
		return nil, fmt.Errorf("its private key: %w", err)
	}
	signer, ok := key.(crypto.Signer)
	if !ok {
		return nil, fmt.Errorf("its private key (%T) cannot sign", key)
	}
	return signer, nil
}

func samePublic(a, b crypto.PublicKey) bool {
	k, ok := a.(interface{ Equal(crypto.PublicKey) bool })
	return ok && k.Equal(b)
}

// PEM is the text of such a file: the key as PKCS#8, then the certificate.
func (id *Identity) PEM() ([]byte, error) {
	text, err := keyPEM(id.Key)
	if err != nil {
		return nil, err
	}
	return append(text, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: id.Certificate})...), nil
}

func keyPEM(key crypto.Signer) ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), nil
}

func (p *Phone) path(suffix string) string {
	return filepath.Join(p.cfg.Dir, filepath.Base(p.cfg.Device)+suffix)
}

const (
	currentSuffix = ".pem"
	pendingSuffix = ".pending.pem"
)

// load reads what the phone holds.
func (p *Phone) load() error {
	if p.cfg.Dir == "" {
		return nil
	}
	id, err := LoadIdentity(p.path(currentSuffix))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("phone %s: read its certificate: %w", p.cfg.Device, err)
	}
	p.current = id
	text, err := os.ReadFile(p.path(pendingSuffix))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("phone %s: read its key: %w", p.cfg.Device, err)
	}
	block, _ := pem.Decode(text)
	if block == nil {
		return fmt.Errorf("phone %s: %s holds no key: remove it", p.cfg.Device, p.path(pendingSuffix))
	}
	p.pending, err = parseKey(block)
	if err != nil {
		return fmt.Errorf("phone %s: %s: %w", p.cfg.Device, p.path(pendingSuffix), err)
	}
	return nil
}

// setPending keeps a key until its certificate comes.
func (p *Phone) setPending(key crypto.Signer) error {
	p.pending = key
	if p.cfg.Dir == "" {
		return nil
	}
	text, err := keyPEM(key)
	if err != nil {
		return err
	}
	return writeFile(p.path(pendingSuffix), text)
}

// install makes certificate and the key that waited for it the phone's own.
func (p *Phone) install(der []byte) error {
	id := &Identity{Certificate: der, Key: p.pending}
	if p.cfg.Dir != "" {
		text, err := id.PEM()
		if err != nil {
			return err
		}
		if err := writeFile(p.path(currentSuffix), text); err != nil {
			return err
		}
	}
	p.current, p.pending = id, nil
	return p.removeFile(pendingSuffix)
}

// uninstall removes the phone's certificate and its key.
func (p *Phone) uninstall() error {
	p.current = nil
	return p.removeFile(currentSuffix)
}

func (p *Phone) removeFile(suffix string) error {
	if p.cfg.Dir == "" {
		return nil
	}
	if err := os.Remove(p.path(suffix)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// writeFile writes a file that only its owner can read: whole or not at all.
func writeFile(path string, text []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+"-*") // made with mode 0600
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) //nolint:errcheck // It is gone when all went well.
	_, err = io.Copy(f, bytes.NewReader(text))
	if err == nil {
		err = f.Sync()
	}
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}
