package winauth

import (
	"fmt"
	"io"
	"strings"
)

// Credential is a Windows account. The user name is one of DOMAIN\user,
// user@domain, or user alone (an account that the server itself knows).
//
// A Credential never shows its password: not to fmt, whatever the verb, and
// not to encoders of text such as JSON or YAML.
type Credential struct {
	Username string
	Password string
}

// String names the account.
func (c Credential) String() string { return c.Username }

// GoString names the account.
func (c Credential) GoString() string {
	return fmt.Sprintf("winauth.Credential{Username:%q}", c.Username)
}

// Format names the account, whatever the verb: without it %d would print the
// struct field by field.
func (c Credential) Format(f fmt.State, verb rune) {
	switch {
	case verb == 'v' && f.Flag('#'):
		_, _ = io.WriteString(f, c.GoString())
	case verb == 'q':
		_, _ = fmt.Fprintf(f, "%q", c.Username)
	default:
		_, _ = io.WriteString(f, c.Username)
	}
}

// MarshalText yields the account's name.
func (c Credential) MarshalText() ([]byte, error) { return []byte(c.Username), nil }

// split returns the user and the domain as the AUTHENTICATE message carries
// them (MS-NLMP 2.2.1.3): user@domain stays whole and its domain is empty.
func (c Credential) split() (user, domain string) {
	if d, u, ok := strings.Cut(c.Username, `\`); ok {
		return u, d
	}
	return c.Username, ""
}
