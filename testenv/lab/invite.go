package lab

import (
	"crypto/rand"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/onlineca/onlineca/internal/zaplog"
)

// newPassword makes the password of the lab's account for this one run.
func newPassword() (string, error) { return "Lab-" + rand.Text(), nil }

// describe says what the lab left, and where.
func (s *servers) describe(c Config) {
	fmt.Fprintf(c.Result, "\nIn %s:\n", c.Out)
	rows := [][2]string{
		{chainFile, "the lab CA's chain"},
		{lscDir + "/", "the phones' certificates, DER"},
		{zaplog.CAPFFile, "CAPF trace"},
		{zaplog.StdoutFile, "CiscoRA stdout"},
		{zaplog.ErrorFile, "nginx error.log with libEST lines"},
		{zaplog.IISDir + "/", "IIS W3C log"},
		{zaplog.JSONFile, "everything, one JSON object a line"},
	}
	for _, r := range rows {
		fmt.Fprintf(c.Result, "  %-32s %s\n", r[0], r[1])
	}
}

// invite writes curl's configuration, so that no password stands on a command
// line, and prints the addresses and a line for each that works as printed.
func (s *servers) invite(c Config) error {
	dir := filepath.Join(c.Out, curlDir)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("lab: %w", err)
	}
	chain := filepath.Join(c.Out, chainFile)
	abs, err := filepath.Abs(chain)
	if err != nil {
		return fmt.Errorf("lab: %w", err)
	}
	account := quote(labDomain + `\` + labUser + ":" + s.password)
	for name, text := range map[string]string{
		"est":     fmt.Sprintf("user = %s\ncacert = %s\n", account, quote(abs)),
		"certsrv": fmt.Sprintf("ntlm\nuser = %s\ncacert = %s\n", account, quote(abs)),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			return fmt.Errorf("lab: %w", err)
		}
	}
	fmt.Fprintf(c.Result, `
The servers stay up until Ctrl-C. The account is %s\%s, its password is in
%s (it is good for this run only).

EST      %s/.well-known/est/
  curl --cacert %s %s/.well-known/est/cacerts
certsrv  %s/certsrv/
  curl --config %s %s/certsrv/certrqxt.asp
`, labDomain, labUser, filepath.Join(dir, "certsrv"),
		s.estURL(), shellWord(chain), s.estURL(),
		s.certsrv.URL, shellWord(filepath.Join(dir, "certsrv")), s.certsrv.URL)
	return nil
}

// shellWord writes a path so that a shell takes it for one word.
func shellWord(s string) string {
	plain := func(r rune) bool {
		return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("_./-", r)
	}
	if strings.IndexFunc(s, func(r rune) bool { return !plain(r) }) < 0 {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}

// quote writes a string as curl's configuration files want it.
func quote(s string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(s) + `"`
}
