package lab

import (
	"fmt"

	"github.com/onlineca/onlineca/capf/wire"
	"github.com/onlineca/onlineca/internal/app"
	"github.com/onlineca/onlineca/testenv"
)

// Keys lists the key types that [Config].Key takes.
func Keys() []string {
	var all []string
	for _, k := range wire.AllKeySpecs() {
		all = append(all, k.String())
	}
	return all
}

// shortKey is the size of RSA keys that neither the registration authority nor
// the template lets pass unless they are told to; longKey is the largest
// minimum that a template can have.
const shortKey, longKey = 1024, 16384

// key is what kind of key the phones make.
func (c Config) key() (wire.KeySpec, error) {
	if c.Key == "" {
		return wire.KeySpec{Type: wire.RSA, Bits: 2048}, nil
	}
	return wire.ParseKeySpec(c.Key)
}

// Check says what is wrong with the numbers and words.
func (c Config) Check() error {
	if _, err := c.key(); err != nil {
		return fmt.Errorf("--key: %w", err)
	}
	return nil
}

// short tells whether the phones make keys that are taken only where somebody
// has lowered the minimum.
func (c Config) short() bool {
	key, err := c.key()
	return err == nil && key.Type == wire.RSA && key.Bits <= shortKey
}

// shortTemplates lowers the templates' minimum, as a CA's administrator does in
// the template's properties, for phones that make short keys.
func (c Config) shortTemplates(m *testenv.Config) {
	if !c.short() {
		return
	}
	m.Templates = testenv.DefaultTemplates()
	setMinKeySize(m.Templates, shortKey)
}

// shortKeys is the same in the registration authority's policy.
func (c Config) shortKeys(s *app.Settings) {
	if c.short() {
		s.EST.Policy.Keys = []string{fmt.Sprintf("rsa%d-8192", shortKey), "p256", "p384", "p521", "ed25519"}
	}
}

// setMinKeySize sets the smallest RSA key that templates take; 0 is the default.
func setMinKeySize(all []testenv.Template, bits int) {
	for i := range all {
		all[i].MinKeySize = bits
	}
}

// deviceName is the name of the n-th phone: SEP and a MAC address from the
// range that documentation uses.
func deviceName(n int) string { return fmt.Sprintf("SEP00112233%04X", 0x4455+n) }
