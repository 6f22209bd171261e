package testenv

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"
)

// MaxRenewals is how many times a mock's CA may have been renewed.
const MaxRenewals = 3

// PKIConfig says what a throw-away PKI is made of. Its zero value is usable.
type PKIConfig struct {
	// CAName is the common name of the issuing CA. Default "LAB-ISSUING-CA".
	CAName string
	// RootName is the common name of the root. Whatever it is, " - mock, not to
	// be trusted" is appended. Default "LAB-ROOT-CA".
	RootName string
	// DNSDomain is the domain of the names' DC parts. Default "lab.example".
	DNSDomain string
	// RSABits is the size of the keys. 0 means ECDSA P-256, which costs
	// nothing; a lab for phones wants 2048, since phones know RSA alone.
	RSABits int
	// Renewals is how many times the issuing CA has been renewed, each time
	// with a new key: 0 to [MaxRenewals].
	Renewals int
	// Now is the time at which the PKI is made. Default time.Now().
	Now time.Time
}

// PKI is a throw-away hierarchy: a root and an issuing CA. Its keys live in
// memory and nowhere else, unless [PKI.WriteKeys] is called.
type PKI struct {
	// Root is the root's certificate. Its subject says that it is not to be
	// trusted.
	Root *x509.Certificate
	// Issuing holds the issuing CA's certificates, oldest first: one, and one
	// more for every renewal. The last is the current one.
	Issuing []*x509.Certificate

	rootKey     crypto.Signer
	issuingKeys []crypto.Signer
	conf        PKIConfig
}

// Object identifiers of AD CS (Microsoft, "Object IDs associated with
// Microsoft cryptography").
var (
	oidCAVersion      = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 311, 21, 1}
	oidPreviousCAHash = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 311, 21, 2}
	oidDC             = asn1.ObjectIdentifier{0, 9, 2342, 19200300, 100, 1, 25}
	oidCN             = asn1.ObjectIdentifier{2, 5, 4, 3}
)

// NewPKI makes a hierarchy of its own.
func NewPKI(c PKIConfig) (*PKI, error) {
	if c.Renewals < 0 || c.Renewals > MaxRenewals {
		return nil, fmt.Errorf("testenv: %d renewals; a CA of the mock has 0 to %d", c.Renewals, MaxRenewals)
	}
	if c.RSABits != 0 && c.RSABits < 1024 {
		return nil, fmt.Errorf("testenv: an RSA key of %d bits cannot sign; use 2048", c.RSABits)
	}
	c.CAName = or(c.CAName, "LAB-ISSUING-CA")
	c.RootName = or(c.RootName, "LAB-ROOT-CA")
	c.DNSDomain = or(c.DNSDomain, "lab.example")
	if c.Now.IsZero() {
		c.Now = time.Now()
	}
	p := &PKI{conf: c}
	if err := p.makeRoot(); err != nil {
		return nil, fmt.Errorf("testenv: root CA: %w", err)
	}
	for range c.Renewals + 1 {
		if err := p.renew(c.Now); err != nil {
			return nil, fmt.Errorf("testenv: issuing CA: %w", err)
		}
	}
	return p, nil
}

// defaultPKI is shared by the mocks of a process that bring none of their own,
// one for each number of renewals.
var defaultPKI [MaxRenewals + 1]struct {
	once sync.Once
	pki  *PKI
	err  error
}

func sharedPKI(renewals int) (*PKI, error) {
	if renewals < 0 || renewals > MaxRenewals {
		return nil, fmt.Errorf("testenv: %d renewals; a CA of the mock has 0 to %d", renewals, MaxRenewals)
	}
	d := &defaultPKI[renewals]
	d.once.Do(func() { d.pki, d.err = NewPKI(PKIConfig{Renewals: renewals}) })
	return d.pki, d.err
}

// or returns s, or what stands in for an empty one.
func or(s, otherwise string) string {
	if s == "" {
		return otherwise
	}
	return s
}

func (p *PKI) newKey() (crypto.Signer, error) {
	if p.conf.RSABits == 0 {
		return ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	}
	return rsa.GenerateKey(rand.Reader, p.conf.RSABits)
}

// name is a distinguished name as AD writes it: DC parts from the top, then CN.
func (p *PKI) name(cn ...string) pkix.RDNSequence {
	return directoryName(p.conf.DNSDomain, cn...)
}

func directoryName(domain string, cn ...string) pkix.RDNSequence {
	var seq pkix.RDNSequence
	labels := strings.Split(domain, ".")
	for i := len(labels) - 1; i >= 0; i-- {
		// A DC is an IA5String (RFC 4519 section 2.4).
		seq = append(seq, pkix.RelativeDistinguishedNameSET{{Type: oidDC, Value: asn1.RawValue{
			Class: asn1.ClassUniversal, Tag: asn1.TagIA5String, Bytes: []byte(labels[i]),
		}}})
	}
	for _, v := range cn {
		seq = append(seq, pkix.RelativeDistinguishedNameSET{{Type: oidCN, Value: v}})
	}
	return seq
}

// caTemplate is what root and issuing CA have in common. generation is the
// number of renewals before it.
func caTemplate(subject pkix.RDNSequence, key crypto.Signer, generation int, from, to time.Time) (*x509.Certificate, error) {
	raw, err := asn1.Marshal(subject)
	if err != nil {
		return nil, err
	}
	ski, err := keyID(key.Public())
	if err != nil {
		return nil, err
	}
	// The CA version counts certificates in its low and keys in its high half.
	version, err := asn1.Marshal(generation<<16 | generation)
	if err != nil {
		return nil, err
	}
	return &x509.Certificate{
		RawSubject:            raw,
		SerialNumber:          randomSerial(),
		NotBefore:             from.UTC().Truncate(time.Second),
		NotAfter:              to.UTC().Truncate(time.Second),
		KeyUsage:              x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
		BasicConstraintsValid: true,
		IsCA:                  true,
		SubjectKeyId:          ski,
		ExtraExtensions:       []pkix.Extension{{Id: oidCAVersion, Value: version}},
	}, nil
}

func (p *PKI) makeRoot() (err error) {
	if p.rootKey, err = p.newKey(); err != nil {
		return err
	}
	t, err := caTemplate(p.name(p.conf.RootName+" - mock, not to be trusted"), p.rootKey, 0,
		p.conf.Now.AddDate(0, 0, -30), p.conf.Now.AddDate(10, 0, 0))
	if err != nil {
		return err
	}
	p.Root, err = sign(t, t, p.rootKey.Public(), p.rootKey)
	return err
}

// renew makes the issuing CA's next certificate, with a key of its own.
func (p *PKI) renew(now time.Time) error {
	key, err := p.newKey()
	if err != nil {
		return err
	}
	n := len(p.Issuing)
	t, err := caTemplate(p.name(p.conf.CAName), key, n, now.AddDate(0, 0, -10+n), now.AddDate(5, 0, n))
	if err != nil {
		return err
	}
	if n > 0 {
		hash := sha1.Sum(p.Issuing[n-1].Raw)
		v, err := asn1.Marshal(hash[:])
		if err != nil {
			return err
		}
		t.ExtraExtensions = append(t.ExtraExtensions, pkix.Extension{Id: oidPreviousCAHash, Value: v})
	}
	cert, err := sign(t, p.Root, key.Public(), p.rootKey)
	if err != nil {
		return err
	}
	p.Issuing = append(p.Issuing, cert)
	p.issuingKeys = append(p.issuingKeys, key)
	return nil
}

// renewed is p with one more certificate of the issuing CA; p stays as it is.
func (p *PKI) renewed(now time.Time) (*PKI, error) {
	if len(p.Issuing) > MaxRenewals {
		return nil, fmt.Errorf("the CA has been renewed %d times; a CA of the mock has no more", MaxRenewals)
	}
	q := *p
	q.Issuing, q.issuingKeys = slices.Clone(p.Issuing), slices.Clone(p.issuingKeys)
	return &q, q.renew(now)
}

// chainOf is the chain that leaf has been signed by, nil if p has not.
func (p *PKI) chainOf(leaf *x509.Certificate) []*x509.Certificate {
	for i, ca := range p.Issuing {
		if bytes.Equal(ca.SubjectKeyId, leaf.AuthorityKeyId) {
			return p.Chain(i)
		}
	}
	return nil
}

// renewals is how often the issuing CA has been renewed.
func (p *PKI) renewals() int { return len(p.Issuing) - 1 }

// sign makes the certificate and reads it back.
func sign(t, parent *x509.Certificate, pub crypto.PublicKey, by crypto.Signer) (*x509.Certificate, error) {
	der, err := x509.CreateCertificate(rand.Reader, t, parent, pub, by)
	if err != nil {
		return nil, err
	}
	return x509.ParseCertificate(der)
}

// keyID is the SHA-1 of the public key's bits (RFC 5280 section 4.2.1.2,
// method 1), as AD CS makes it.
func keyID(pub crypto.PublicKey) ([]byte, error) {
	der, err := x509.MarshalPKIXPublicKey(pub)
	if err != nil {
		return nil, err
	}
	var spki struct {
		Algorithm pkix.AlgorithmIdentifier
		Key       asn1.BitString
	}
	if _, err := asn1.Unmarshal(der, &spki); err != nil {
		return nil, err
	}
	sum := sha1.Sum(spki.Key.Bytes)
	return sum[:], nil
}

// randomSerial is a serial number of 128 bits, as a CA certificate of AD CS has.
func randomSerial() *big.Int {
	b := make([]byte, 16)
	_, _ = rand.Read(b) // never fails, says crypto/rand
	b[0] = b[0]&0x7f | 0x10
	return new(big.Int).SetBytes(b)
}

// Current is the issuing CA's newest certificate.
func (p *PKI) Current() *x509.Certificate { return p.Issuing[len(p.Issuing)-1] }

// Chain returns the certificates that lead from the issuing CA's generation
// renewal to the root. It is nil for a renewal that has not happened.
func (p *PKI) Chain(renewal int) []*x509.Certificate {
	if renewal < 0 || renewal >= len(p.Issuing) {
		return nil
	}
	return []*x509.Certificate{p.Issuing[renewal], p.Root}
}

// ChainPEM is the whole hierarchy in PEM: the issuing CA's certificates from
// the newest to the oldest, then the root.
func (p *PKI) ChainPEM() []byte {
	var b bytes.Buffer
	for i := len(p.Issuing) - 1; i >= 0; i-- {
		b.Write(certPEM(p.Issuing[i]))
	}
	b.Write(certPEM(p.Root))
	return b.Bytes()
}

func certPEM(c *x509.Certificate) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})
}

// WriteKeys writes the certificates and the private keys into dir, which is
// made if need be: root.pem, root.key, issuing0.pem, issuing0.key and so on.
// Whoever has them can issue what this PKI's root is trusted for: use it in a
// directory that is thrown away.
func (p *PKI) WriteKeys(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("testenv: %w", err)
	}
	certs := append([]*x509.Certificate{p.Root}, p.Issuing...)
	keys := append([]crypto.Signer{p.rootKey}, p.issuingKeys...)
	for i, cert := range certs {
		name := "root"
		if i > 0 {
			name = fmt.Sprintf("issuing%d", i-1)
		}
		der, err := x509.MarshalPKCS8PrivateKey(keys[i])
		if err != nil {
			return fmt.Errorf("testenv: %s: %w", name, err)
		}
		key := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
		if err := os.WriteFile(filepath.Join(dir, name+".pem"), certPEM(cert), 0o600); err != nil {
			return fmt.Errorf("testenv: %w", err)
		}
		if err := os.WriteFile(filepath.Join(dir, name+".key"), key, 0o600); err != nil {
			return fmt.Errorf("testenv: %w", err)
		}
	}
	return nil
}

// ServerOptions says what the certificate of a web server is like. The zero
// value is a good certificate for localhost.
type ServerOptions struct {
	// Names are host names and addresses; the first is the common name.
	// Default: localhost, 127.0.0.1, ::1.
	Names []string
	// NoSAN leaves the subject alternative names out, as certificates for old
	// servers do: curl accepts the common name, Go does not.
	NoSAN bool
	// NotBefore and NotAfter default to a day ago and two years from now.
	NotBefore, NotAfter time.Time
	// SelfSigned makes a certificate that nobody but itself has signed.
	SelfSigned bool
	// OmitIntermediate leaves the issuing CA's certificate out of the handshake.
	OmitIntermediate bool
	// Hash is that of the signature: crypto.SHA256 (the default), SHA384 or
	// SHA512.
	Hash crypto.Hash
}

// ServerCertificate issues a certificate for a web server, with what TLS has to
// send along.
func (p *PKI) ServerCertificate(o ServerOptions) (tls.Certificate, error) {
	cert, err := p.serverCertificate(o)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("testenv: server certificate: %w", err)
	}
	return cert, nil
}

func (p *PKI) serverCertificate(o ServerOptions) (tls.Certificate, error) {
	if len(o.Names) == 0 {
		o.Names = []string{"localhost", "127.0.0.1", "::1"}
	}
	now := p.conf.Now
	if o.NotBefore.IsZero() {
		o.NotBefore = now.AddDate(0, 0, -1)
	}
	if o.NotAfter.IsZero() {
		o.NotAfter = now.AddDate(2, 0, 0)
	}
	key, err := p.newKey()
	if err != nil {
		return tls.Certificate{}, err
	}
	parent, by := p.Current(), p.issuingKeys[len(p.issuingKeys)-1]
	t := &x509.Certificate{
		Subject:               pkix.Name{CommonName: o.Names[0]},
		SerialNumber:          randomSerial(),
		NotBefore:             o.NotBefore.UTC(),
		NotAfter:              o.NotAfter.UTC(),
		KeyUsage:              x509.KeyUsageDigitalSignature | x509.KeyUsageKeyEncipherment,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		BasicConstraintsValid: true,
	}
	if o.SelfSigned {
		parent, by = t, key
	}
	if t.SignatureAlgorithm, err = signatureAlgorithm(by, o.Hash); err != nil {
		return tls.Certificate{}, err
	}
	if !o.NoSAN {
		t.DNSNames, t.IPAddresses = splitNames(o.Names)
	}
	leaf, err := sign(t, parent, key.Public(), by)
	if err != nil {
		return tls.Certificate{}, err
	}
	out := tls.Certificate{Certificate: [][]byte{leaf.Raw}, PrivateKey: key, Leaf: leaf}
	if !o.SelfSigned && !o.OmitIntermediate {
		out.Certificate = append(out.Certificate, parent.Raw)
	}
	return out, nil
}

func splitNames(names []string) (dns []string, ips []net.IP) {
	for _, n := range names {
		if ip := net.ParseIP(n); ip != nil {
			ips = append(ips, ip)
		} else {
			dns = append(dns, n)
		}
	}
	return dns, ips
}

func signatureAlgorithm(by crypto.Signer, h crypto.Hash) (x509.SignatureAlgorithm, error) {
	algs := map[crypto.Hash][2]x509.SignatureAlgorithm{
		0:             {x509.ECDSAWithSHA256, x509.SHA256WithRSA},
		crypto.SHA256: {x509.ECDSAWithSHA256, x509.SHA256WithRSA},
		crypto.SHA384: {x509.ECDSAWithSHA384, x509.SHA384WithRSA},
		crypto.SHA512: {x509.ECDSAWithSHA512, x509.SHA512WithRSA},
	}
	pair, ok := algs[h]
	if !ok {
		return 0, errors.New("the hash of a signature is SHA-256, SHA-384 or SHA-512")
	}
	if _, isRSA := by.(*rsa.PrivateKey); isRSA {
		return pair[1], nil
	}
	return pair[0], nil
}
