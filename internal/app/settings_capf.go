package app

import (
	"fmt"
	"path/filepath"
	"time"

	"github.com/onlineca/onlineca/capf"
	"github.com/onlineca/onlineca/capf/wire"
)

// CAPFSettings is CAPF towards phones. Without a listening address there is
// none.
type CAPFSettings struct {
	// Listen is the address that phones connect to; the product's port is 3804.
	Listen string `yaml:"listen,omitempty"`
	// Devices is the device table, an SQLite file. Default: devices.db in the
	// state directory.
	Devices string `yaml:"devices,omitempty"`
	// Certificate is CAPF's own certificate with its key, one PEM file, which is
	// made if it is not there. Default: capf.pem in the state directory.
	Certificate string `yaml:"certificate,omitempty"`
	// LegacyTLS lets phones of the 7900 series in: TLS 1.0, RSA key exchange.
	LegacyTLS bool `yaml:"legacy_tls,omitempty"`

	// Issuer issues for devices that name none: online (default), local (CAPF
	// itself) or offline.
	Issuer string `yaml:"issuer,omitempty"`
	// LocalFallback has CAPF itself issue for devices that cannot sign a
	// request. They are refused otherwise.
	LocalFallback bool `yaml:"local_fallback,omitempty"`
	// ValidityDays is how long what CAPF itself issues is valid. Default 365.
	ValidityDays int `yaml:"validity_days,omitempty"`

	// LSCTrust and MICTrust name PEM files with the CAs whose certificates
	// phones may authenticate with.
	LSCTrust []string `yaml:"lsc_trust,omitempty"`
	MICTrust []string `yaml:"mic_trust,omitempty"`

	// Encrypt is the form of the exchange by which a phone signs a request. That
	// the product has one is known, its form is not: the settings are there so
	// that whoever has hardware can find it out. See docs/capf.md.
	Encrypt EncryptSettings `yaml:"encrypt,omitempty"`
	// AnnounceAuthType adds AUTH_TYPE to CAPF's first message, which some
	// clients want and the product does not send.
	AnnounceAuthType bool `yaml:"announce_auth_type,omitempty"`
	// RetryDelay is when a phone is told to come back. Default 30s.
	RetryDelay time.Duration `yaml:"retry_delay,omitempty"`
	// EndInsteadOfRetry tells it so by END_SESSION instead of RETRY_LATER.
	EndInsteadOfRetry bool `yaml:"end_instead_of_retry,omitempty"`

	// OneAttempt ends an operation at the first session that fails, as the
	// product does.
	OneAttempt bool `yaml:"one_attempt,omitempty"`
	// MaxConnections bounds how many phones are connected at once. Default 4096.
	MaxConnections int `yaml:"max_connections,omitempty"`
	// MaxPerAddress is the same for one address, -1 for no bound. Default 64.
	MaxPerAddress int `yaml:"max_per_address,omitempty"`
	// KeygenTimeout is how long a phone may take for its key. Default 30m.
	KeygenTimeout time.Duration `yaml:"keygen_timeout,omitempty"`
	// Label, Username and PasswordFile are for CAPF's own EST client, where the
	// paths without a label, or certsrv's account, are not what it should use.
	Label        string `yaml:"label,omitempty"`
	Username     string `yaml:"username,omitempty"`
	PasswordFile string `yaml:"password_file,omitempty"`
	// ESTTimeout is CAPF's patience with the registration authority. Default
	// 10s, as in the product.
	ESTTimeout time.Duration `yaml:"est_timeout,omitempty"`
}

// EncryptSettings is the form of the ENCRYPT exchange.
type EncryptSettings struct {
	Request int  `yaml:"request,omitempty"` // command of the request: 6 (default), 5 or 22
	Element int  `yaml:"element,omitempty"` // element that carries the data: 6 (default), 14 or 15
	Bare    bool `yaml:"bare,omitempty"`    // the hash alone: the phone puts the DigestInfo around it
}

func (e EncryptSettings) style() wire.EncryptStyle {
	return wire.EncryptStyle{Request: wire.Command(e.Request), Element: wire.Tag(e.Element), Bare: e.Bare}
}

// check returns an error unless the exchange has a form that is known here.
func (e EncryptSettings) check() error {
	if e.Request > 255 || e.Request < 0 || e.Element > 255 || e.Element < 0 {
		return fmt.Errorf("request %d and element %d: commands and elements have numbers up to 255", e.Request, e.Element)
	}
	return e.style().Check()
}

func (c *CAPFSettings) defaults(state string) {
	orString(&c.Issuer, string(capf.IssuerOnline))
	orString(&c.Devices, filepath.Join(state, "devices.db"))
	orString(&c.Certificate, filepath.Join(state, "capf.pem"))
	orDuration(&c.KeygenTimeout, 30*time.Minute)
	orDuration(&c.ESTTimeout, capf.DefaultESTTimeout)
	orDuration(&c.RetryDelay, 30*time.Second)
	if c.Encrypt.Request == 0 {
		c.Encrypt.Request = int(wire.EncryptStyle{}.RequestCommand())
	}
	if c.Encrypt.Element == 0 {
		c.Encrypt.Element = int(wire.TagSignedData)
	}
	if c.ValidityDays == 0 {
		c.ValidityDays = 365
	}
}

func (c *CAPFSettings) validate(v *mistakes) {
	if c.Listen != "" {
		v.address("capf.listen", c.Listen)
	}
	if (c.Username == "") != (c.PasswordFile == "") {
		v.add("capf", "username and password_file go together: give both or neither")
	}
	v.oneOf("capf.issuer", c.Issuer, string(capf.IssuerOnline), string(capf.IssuerLocal), string(capf.IssuerOffline))
	if err := c.Encrypt.check(); err != nil {
		v.add("capf.encrypt", "%v", err)
	}
	v.between("capf.validity_days", c.ValidityDays, 1, 1825)
	v.between("capf.max_connections", c.MaxConnections, 0, 1<<20)
	v.between("capf.max_per_address", c.MaxPerAddress, -1, 1<<20)
	for key, d := range map[string]time.Duration{"capf.keygen_timeout": c.KeygenTimeout, "capf.est_timeout": c.ESTTimeout, "capf.retry_delay": c.RetryDelay} {
		if d < time.Millisecond {
			v.add(key, "%v is too short; write a duration with its unit, for example 10s", d)
		}
	}
}
