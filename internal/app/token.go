package app

import (
	"fmt"

	"github.com/onlineca/onlineca/ra"
)

// Tokens opens the one-time passwords of a label, "" for none, of a settings
// file.
func Tokens(config, label string) (*ra.TokenFile, error) {
	s, err := ReadSettings(config)
	if err != nil {
		return nil, err
	}
	l := s.EST.all()[label]
	switch {
	case l == nil:
		return nil, fmt.Errorf("%s: there is no label %q", config, label)
	case l.Auth.Tokens == "":
		return nil, fmt.Errorf("%s: %s.auth.tokens names no file for one-time passwords", config, labelKey(label))
	}
	return ra.OpenTokenFile(l.Auth.Tokens)
}
