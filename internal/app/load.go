package app

import (
	"crypto/x509"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/onlineca/onlineca/ra"
	"github.com/onlineca/onlineca/ra/store"
)

// parts is what the files of the settings hold.
type parts struct {
	password  string
	roots     []*x509.Certificate // trusted for certsrv; nil means the system's
	epa       *x509.Certificate   // to bind logins to; nil means certsrv's own
	clientCAs map[string][]*x509.Certificate
	warnings  []string
}

// load reads every file that the settings name. All mistakes are reported.
func (s *Settings) load() (parts, error) {
	p := parts{clientCAs: map[string][]*x509.Certificate{}}
	var errs []error
	note := func(err error) {
		if err != nil {
			errs = append(errs, err)
		}
	}
	var err error
	p.password, err = ReadPassword("certsrv.password_file", s.Certsrv.PasswordFile)
	note(err)
	p.warnOpen("certsrv.password_file", s.Certsrv.PasswordFile)
	if len(s.Certsrv.TLS.CA) > 0 {
		p.roots, err = ReadCertificates("certsrv.tls.ca", s.Certsrv.TLS.CA...)
		note(err)
	}
	if path := s.Certsrv.ExtendedProtection.Certificate; path != "" {
		certs, err := ReadCertificates("certsrv.extended_protection.certificate", path)
		note(err)
		if err == nil {
			p.epa = certs[0]
		}
	}
	note(p.loadLabels(s.EST.all()))
	if s.TLS.Certificate != "" {
		_, err = readKeyPair("tls", s.TLS.Certificate, s.TLS.Key)
		note(err)
		p.warnOpen("tls.key", s.TLS.Key)
	}
	if err := store.Check(s.Store); err != nil {
		note(fmt.Errorf("store: %w", err))
	}
	note(p.loadCAPF(&s.CAPF))
	if s.Certsrv.TLS.MatchCommonName {
		p.warn("certsrv.tls.match_common_name: an IIS certificate without subject alternative names is accepted by its common name; better give IIS a certificate with a DNS name")
	}
	return p, errors.Join(errs...)
}

// loadLabels reads what the labels name, in their order. A file that several of
// them name is read, and found bad, once.
func (p *parts) loadLabels(labels map[string]*LabelSettings) error {
	var errs []error
	seen := map[string]bool{"": true} // no file
	once := func(key, path string, read func(string) error) {
		if seen[path] {
			return
		}
		seen[path] = true
		if err := read(path); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", key, err))
		}
	}
	for _, label := range slices.Sorted(maps.Keys(labels)) {
		key, a := labelKey(label)+".auth", &labels[label].Auth
		if len(a.ClientCA) > 0 {
			certs, err := ReadCertificates(key+".client_ca", a.ClientCA...)
			if err != nil {
				errs = append(errs, err)
			}
			p.clientCAs[label] = certs
		}
		once(key+".users", a.Users, func(path string) error { _, err := ra.LoadUserList(path); return err })
		once(key+".tokens", a.Tokens, func(path string) error { _, err := ra.OpenTokenFile(path); return err })
		if a.Anonymous {
			p.warn("%s.anonymous: everybody who reaches the port can have a certificate", key)
		}
	}
	return errors.Join(errs...)
}

func (p *parts) warn(format string, args ...any) {
	p.warnings = append(p.warnings, fmt.Sprintf(format, args...))
}

func (p *parts) warnOpen(key, path string) {
	if openToAll(path) {
		p.warn("%s: everybody on this machine can read %s (chmod 600 helps)", key, path)
	}
}
