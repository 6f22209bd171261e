package chain

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"strings"
	"time"
)

// Request is a check as a command line states it: by the names of files.
type Request struct {
	Profile Profile
	// Files are what the appliance would be given; "-" is standard input.
	Files []string
	// CSR is a file with the appliance's certificate request.
	CSR string
	// Trust, Peer and PeerTrust are files, as in [Options].
	Trust, Peer, PeerTrust []string
	PeerAddress            []string
	VerifyName             string
	EKU                    []string
	// At is a time in the form of [ParseTime]; empty means now.
	At string
	// PasswordFile holds the password of PKCS#12 files.
	PasswordFile string
	// Connect is the HOST:PORT of a TLS server. With no files, its chain is
	// what is checked; with files, it is where a repair may find certificates.
	Connect string
	// Fix is the file that a repaired chain is written to, empty for none.
	Fix string
	// Stdin is what "-" reads, nil for the process's own.
	Stdin io.Reader
}

// Run reads what the request names, makes the check, and writes the repaired
// chain if one is asked for. When the repair fails there is a verdict, too.
func (r Request) Run(ctx context.Context) (*Verdict, error) {
	o, extra, err := r.read(ctx)
	if err != nil {
		return nil, err
	}
	v, err := Check(o)
	if err != nil || r.Fix == "" {
		return v, err
	}
	data, repaired, err := Repair(o, extra...)
	if err != nil {
		return v, err
	}
	if err := WriteRepaired(r.Fix, data, repaired); err != nil {
		return v, err
	}
	v.Repair = repaired
	return v, nil
}

// read turns names into what they name.
func (r Request) read(ctx context.Context) (o Options, extra []*Input, err error) {
	o = Options{Profile: r.Profile, PeerAddress: r.PeerAddress, VerifyName: r.VerifyName}
	if _, err = r.Profile.lookup(); err != nil {
		return o, nil, err
	}
	if err = errors.Join(r.superfluous(), r.streams()); err != nil {
		return o, nil, err
	}
	if o.At, err = ParseTime(r.At, time.Now()); err != nil {
		return o, nil, err
	}
	if o.EKU, err = parseEKUs(r.EKU); err != nil {
		return o, nil, err
	}
	password, err := r.password()
	if err != nil {
		return o, nil, err
	}
	for _, set := range []struct {
		names []string
		into  *[]*Input
	}{{r.Files, &o.Files}, {r.Trust, &o.Trust}, {r.Peer, &o.Peer}, {r.PeerTrust, &o.PeerTrust}} {
		for _, name := range set.names {
			in, err := r.open(name, password)
			if err != nil {
				return o, nil, err
			}
			*set.into = append(*set.into, in)
		}
	}
	if r.CSR != "" {
		if o.CSR, err = r.request(); err != nil {
			return o, nil, err
		}
	}
	extra, err = r.connect(ctx, &o)
	return o, extra, err
}

// superfluous says which option has no meaning for the profile: whoever gives
// one expects it to be looked at. A repair takes certificates from everywhere.
func (r Request) superfluous() error {
	for _, o := range []struct {
		name  string
		given bool
		by    []Profile
	}{
		{"--csr", r.CSR != "", []Profile{OMEUpload, OMEServer}},
		{"--eku", len(r.EKU) > 0, []Profile{CAPFLSC}},
		{"--peer-address", len(r.PeerAddress) > 0, []Profile{ExpresswayTraversal, Expressway}},
		{"--peer", len(r.Peer) > 0 && r.Fix == "", []Profile{OMEMigration, ExpresswayTraversal}},
		{"--peer-trust", len(r.PeerTrust) > 0 && r.Fix == "", []Profile{ExpresswayTraversal, ExpresswayMRA}},
		{"--verify-name", r.VerifyName != "", []Profile{Expressway, ExpresswayTraversal, Jabber, CAPFLSC, CUCMIIS}},
	} {
		if o.given && !slices.Contains(o.by, r.Profile) {
			return &UsageError{fmt.Sprintf("%s has no meaning for %s", o.name, r.Profile)}
		}
	}
	return nil
}

// streams says what cannot be read or written as the request has it: a second
// reader of standard input finds the first one's end, and the report is on
// standard output.
func (r Request) streams() error {
	n := 0
	for _, name := range slices.Concat(r.Files, r.Trust, r.Peer, r.PeerTrust, []string{r.CSR}) {
		if name == "-" {
			n++
		}
	}
	switch {
	case n > 1:
		return &UsageError{"standard input (-) can be read once only; give files"}
	case r.Fix == "-":
		return &UsageError{"--fix needs the name of a file: the report is on standard output"}
	case strings.Contains(r.Connect, "/"):
		return &UsageError{fmt.Sprintf("%q is a URL; write HOST:PORT after --connect", r.Connect)}
	}
	return r.overwritten()
}

// overwritten says if the repair would replace a file that is read. Such a file
// may hold what the repaired chain has not: a private key, or other CAs.
func (r Request) overwritten() error {
	for _, name := range slices.Concat(r.Files, r.Trust, r.Peer, r.PeerTrust, []string{r.CSR, r.PasswordFile}) {
		if sameFile(r.Fix, name) {
			return &UsageError{fmt.Sprintf("--fix would overwrite %s, which is read; what else is in it, such as a private key, would be lost: give another name", Printable(r.Fix))}
		}
	}
	return nil
}

// sameFile says whether two names are of one file. A file that is not there is
// none; other troubles show when it is opened.
func sameFile(a, b string) bool {
	ia, errA := os.Stat(a)
	ib, errB := os.Stat(b)
	return errA == nil && errB == nil && os.SameFile(ia, ib)
}

func (r Request) open(name string, password *string) (*Input, error) {
	if name == "-" && r.Stdin != nil {
		return Read(r.Stdin, "standard input", password)
	}
	return ReadFile(name, password)
}

func (r Request) request() (*x509.CertificateRequest, error) {
	in, err := r.open(r.CSR, nil)
	if err != nil {
		return nil, err
	}
	return in.ReadRequest()
}

// connect fetches a server's chain. The name that a server is called by is the
// name that its certificate must bear, if no other is given.
func (r Request) connect(ctx context.Context, o *Options) ([]*Input, error) {
	if r.Connect == "" {
		return nil, nil
	}
	in, err := Fetch(ctx, r.Connect)
	if err != nil {
		return nil, err
	}
	if len(o.Files) > 0 {
		return []*Input{in}, nil
	}
	o.Files = []*Input{in}
	if o.VerifyName == "" && (r.Profile == CUCMIIS || r.Profile == Expressway) {
		if host, _, err := net.SplitHostPort(in.Name); err == nil {
			o.VerifyName = host
		}
	}
	return nil, nil
}

// password reads the password file: its first line, without the line's end.
func (r Request) password() (*string, error) {
	if r.PasswordFile == "" {
		return nil, nil
	}
	f, err := os.Open(r.PasswordFile)
	if err != nil {
		return nil, fmt.Errorf("read the password: %w", err)
	}
	defer f.Close()
	const limit = 4096
	data, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, fmt.Errorf("read the password: %w", err)
	}
	line, _, _ := strings.Cut(string(data), "\n")
	line = strings.TrimSuffix(line, "\r")
	if len(line) > limit {
		return nil, fmt.Errorf("read the password: the first line of %s is longer than %d bytes", r.PasswordFile, limit)
	}
	return &line, nil
}

func parseEKUs(names []string) ([]x509.ExtKeyUsage, error) {
	var out []x509.ExtKeyUsage
	for _, n := range names {
		u, err := ParseEKU(strings.TrimSpace(n))
		if err != nil {
			return nil, err
		}
		out = append(out, u)
	}
	return out, nil
}

// ParseTime reads "2026-01-31", "2026-01-31 12:00:00" (both UTC) or RFC 3339.
// Empty text is now.
func ParseTime(s string, now time.Time) (time.Time, error) {
	if s == "" {
		return now, nil
	}
	for _, layout := range []string{time.RFC3339, time.DateTime, time.DateOnly} {
		if t, err := time.Parse(layout, s); err == nil {
			return t, nil
		}
	}
	return time.Time{}, &UsageError{fmt.Sprintf("%q is no time; write 2026-01-31, \"2026-01-31 12:00:00\" (UTC) or 2026-01-31T12:00:00Z", s)}
}
