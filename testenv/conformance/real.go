package conformance

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
)

// The environment variables that name a real AD CS.
//
//	ONLINECA_CERTSRV_URL            https://host[:port]; without it, nothing real is tried
//	ONLINECA_CERTSRV_USER           DOMAIN\user
//	ONLINECA_CERTSRV_PASSWORD_FILE  a file with the password on its first line
//	ONLINECA_CERTSRV_CA             a PEM file with what the server's certificate leads to
//	ONLINECA_CERTSRV_TEMPLATE       the CN of a template that issues at once
//
// One certificate is issued, and one request is denied. No wrong password is
// ever sent: it would count towards locking the account.
const (
	EnvURL          = "ONLINECA_CERTSRV_URL"
	EnvUser         = "ONLINECA_CERTSRV_USER"
	EnvPasswordFile = "ONLINECA_CERTSRV_PASSWORD_FILE" //nolint:gosec // the name of a variable
	EnvCA           = "ONLINECA_CERTSRV_CA"
	EnvTemplate     = "ONLINECA_CERTSRV_TEMPLATE"
)

// RealTarget reads the environment. ok is false if it names no AD CS.
func RealTarget() (t Target, ok bool, err error) {
	t = Target{URL: strings.TrimSuffix(os.Getenv(EnvURL), "/"), User: os.Getenv(EnvUser), Template: os.Getenv(EnvTemplate), Timeout: 2 * timeout}
	if t.URL == "" {
		return Target{}, false, nil
	}
	if t.User == "" || t.Template == "" {
		return t, true, fmt.Errorf("%s is set: set %s and %s too", EnvURL, EnvUser, EnvTemplate)
	}
	password, err := os.ReadFile(os.Getenv(EnvPasswordFile)) //nolint:gosec // whoever runs the test says which file
	if err != nil {
		return t, true, fmt.Errorf("%s: %w", EnvPasswordFile, err)
	}
	t.Password, _, _ = strings.Cut(string(password), "\n")
	t.Password = strings.TrimSuffix(t.Password, "\r")
	ca, err := os.ReadFile(os.Getenv(EnvCA)) //nolint:gosec // as above
	if err != nil {
		return t, true, fmt.Errorf("%s: %w", EnvCA, err)
	}
	t.Roots = x509.NewCertPool()
	if !t.Roots.AppendCertsFromPEM(ca) {
		return t, true, fmt.Errorf("%s: no certificate in %s", EnvCA, os.Getenv(EnvCA))
	}
	return t, true, nil
}

// runReal does what can be done to a certificate authority that is in use.
func runReal(t *testing.T, newClient func(Target) Client) {
	target, ok, err := RealTarget()
	if err != nil {
		t.Fatal(err)
	}
	if !ok {
		t.Skipf("no real AD CS: %s is not set", EnvURL)
	}
	if err := CheckReal(t.Context(), newClient(target), target); err != nil {
		t.Error(err)
	}
}

// CheckReal runs the part of the suite that a real AD CS can take, and closes
// the client.
func CheckReal(ctx context.Context, c Client, target Target) error {
	defer c.Close() //nolint:errcheck // what it did is what counts
	if err := c.Login(ctx); err != nil {
		return fmt.Errorf("calling Login: %w", err)
	}
	names, err := c.Templates(ctx)
	if err != nil {
		return fmt.Errorf("calling Templates: %w", err)
	}
	if !slices.Contains(names, target.Template) {
		return fmt.Errorf("templates %q, without %q", names, target.Template)
	}
	chain, err := c.Chain(ctx)
	if err != nil {
		return fmt.Errorf("calling Chain: %w", err)
	}
	if len(chain) == 0 {
		return errors.New("the chain has no certificate")
	}
	r, err := newRequest("onlineca-conformance")
	if err != nil {
		return err
	}
	o, err := c.Submit(ctx, r.der, target.Template)
	if err != nil {
		return fmt.Errorf("calling Submit: %w", err)
	}
	if err := r.has(o); err != nil {
		return err
	}
	if err := o.Certificate.CheckSignatureFrom(chain[0]); err != nil {
		return fmt.Errorf("the certificate is not signed by the chain's first: %w", err)
	}
	again, err := c.Fetch(ctx, o.ReqID, r.der)
	if err != nil {
		return fmt.Errorf("calling Fetch: %w", err)
	}
	if again.Certificate == nil || !again.Certificate.Equal(o.Certificate) {
		return fmt.Errorf("fetched again, in state %q, it is another certificate", again.State)
	}
	o, err = c.Submit(ctx, r.der, "onlineca-no-such-template")
	if err != nil {
		return fmt.Errorf("calling Submit with a template that there is not: %w", err)
	}
	return is(o, Denied, o.ReqID, 0x80094800)
}
