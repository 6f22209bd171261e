package app

import (
	"errors"
	"fmt"
	"reflect"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/lexer"
	"github.com/goccy/go-yaml/token"
)

// settingsError says in one line where a settings file is wrong, and how. Of
// the file it shows keys alone, and no line of it as the library does: a
// password may stand there, put there by mistake.
func settingsError(text []byte, err error) error {
	var e yaml.Error
	if !errors.As(err, &e) || e.GetToken() == nil || e.GetToken().Position == nil {
		if t := badDuration(text, err); t != nil {
			return atToken(t, wanted(reflect.TypeFor[time.Duration]()))
		}
		return errors.New(yaml.FormatError(err, false, false))
	}
	what := e.GetMessage()
	var (
		kind     *yaml.TypeError
		overflow *yaml.OverflowError
	)
	switch {
	case errors.As(err, &kind):
		what = wanted(kind.DstType)
	case errors.As(err, &overflow):
		what = wanted(overflow.DstType) + " that is not so large"
	}
	return atToken(e.GetToken(), what)
}

func atToken(t *token.Token, what string) error {
	if key := keyOf(t); key != "" {
		what = key + ": " + what
	}
	return fmt.Errorf("line %d, column %d: %s", t.Position.Line, t.Position.Column, what)
}

// badDuration is the value that err is of, if it is an error of
// time.ParseDuration: the library does not say where the value stands.
func badDuration(text []byte, err error) *token.Token {
	for _, t := range lexer.Tokenize(string(text)) {
		if keyOf(t) == "" {
			continue
		}
		if _, e := time.ParseDuration(t.Value); e != nil && e.Error() == err.Error() {
			return t
		}
	}
	return nil
}

// keyOf is the key whose value begins with t, or "".
func keyOf(t *token.Token) string {
	if t.Prev == nil || t.Prev.Type != token.MappingValueType || t.Prev.Prev == nil {
		return ""
	}
	return t.Prev.Prev.Value
}

// wanted says what stands in a settings file for a value of type t.
func wanted(t reflect.Type) string {
	if t == reflect.TypeFor[time.Duration]() {
		return "a time with its unit is wanted, such as 10s or 5m"
	}
	switch t.Kind() {
	case reflect.Bool:
		return "true or false is wanted"
	case reflect.Int, reflect.Int64:
		return "a whole number is wanted"
	case reflect.String:
		return "a single value is wanted"
	case reflect.Slice:
		return "a list is wanted, such as [a, b]"
	default:
		return "settings are wanted, such as {key: value}"
	}
}
