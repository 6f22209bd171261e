package ra

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/gofrs/flock"
	"github.com/moby/sys/atomicwriter"

	"github.com/onlineca/onlineca/ra/fault"
)

// TokenFile keeps one-time passwords in a file, as hashes. Several processes
// may use the same file at once: one creates passwords, another serves clients.
//
// A password is good for one device, until it expires, and for one key: the one
// that it was first used with. So a client whose answer was lost, or who was
// told to wait, can ask again.
type TokenFile struct {
	path string

	mu    sync.Mutex
	stamp os.FileInfo // of what tokens was read from
	kept  []Token
}

// Token is what is known of a one-time password. The password itself is not.
type Token struct {
	Device  string    `json:"device"`
	Hash    string    `json:"hash"` // SHA-256 of the password, hexadecimal
	Created time.Time `json:"created"`
	Expires time.Time `json:"expires"`
	// Key is the SHA-256 of the public key that the password was used for,
	// hexadecimal, and Used when. Empty while it has not been used.
	Key  string     `json:"key,omitempty"`
	Used *time.Time `json:"used,omitempty"`
}

const (
	maxTokenFile = 64 << 20
	keepExpired  = 30 * 24 * time.Hour // so that a list can tell what became of a token
)

var devicePattern = regexp.MustCompile(`^[A-Za-z0-9._-]{1,128}$`)

// OpenTokenFile reads the file at path, which need not exist yet.
func OpenTokenFile(path string) (*TokenFile, error) {
	f := &TokenFile{path: path}
	_, err := f.tokens()
	return f, err
}

// Create makes a password for a device, good for ttl, and returns it. It is
// shown this once.
func (f *TokenFile) Create(device string, ttl time.Duration) (password string, err error) {
	if !devicePattern.MatchString(device) {
		return "", fmt.Errorf("token file: %q is no device name: 1 to 128 letters, digits, '.', '_' and '-'", device)
	}
	if ttl <= 0 {
		return "", fmt.Errorf("token file: a lifetime of %v is none", ttl)
	}
	password = rand.Text() // 128 bits or more: no need for a slow hash
	now := time.Now().UTC().Truncate(time.Second)
	err = f.change(func(all []Token) ([]Token, error) {
		all = slices.DeleteFunc(all, func(t Token) bool { return now.Sub(t.Expires) > keepExpired })
		return append(all, Token{Device: device, Hash: hashToken(password), Created: now, Expires: now.Add(ttl)}), nil
	})
	return password, err
}

// List returns all tokens, oldest first.
func (f *TokenFile) List() ([]Token, error) {
	all, err := f.tokens()
	return slices.Clone(all), err
}

// Revoke removes every token of a device and returns how many there were.
func (f *TokenFile) Revoke(device string) (n int, err error) {
	err = f.change(func(all []Token) ([]Token, error) {
		rest := slices.DeleteFunc(all, func(t Token) bool { return strings.EqualFold(t.Device, device) })
		n = len(all) - len(rest)
		return rest, nil
	})
	return n, err
}

// Authenticate says whether the password is one of the device's and has not
// expired. One that has been used is good still: [TokenFile.Spend] decides.
func (f *TokenFile) Authenticate(_ context.Context, c Credentials) error {
	all, err := f.tokens()
	if err != nil {
		return fault.New(fault.Internal, "verify the one-time password of "+c.Username, err)
	}
	_, err = find(all, c)
	return err
}

// Spend binds the password to a public key, given by the SHA-256 of its
// SubjectPublicKeyInfo. It fails if the password is bound to another.
func (f *TokenFile) Spend(c Credentials, key [32]byte) error {
	want := hex.EncodeToString(key[:])
	err := f.change(func(all []Token) ([]Token, error) {
		i, err := find(all, c)
		if err != nil {
			return nil, err
		}
		switch all[i].Key {
		case want:
			return nil, errUnchanged
		case "":
			now := time.Now().UTC().Truncate(time.Second)
			all[i].Key, all[i].Used = want, &now
			return all, nil
		default:
			return nil, badToken(c, "it has been used for another key")
		}
	})
	var known *fault.Fault
	if err != nil && !errors.As(err, &known) {
		return fault.New(fault.DiskFull, "use the one-time password of "+c.Username, err)
	}
	return err
}

func badToken(c Credentials, why string) error {
	return &fault.Fault{Code: fault.BadCredentials, Op: "verify the one-time password of " + c.Username, Message: why}
}

// find returns the index of the token that c is.
func find(all []Token, c Credentials) (int, error) {
	hash := []byte(hashToken(c.Password))
	for i, t := range all {
		if !strings.EqualFold(t.Device, c.Username) || subtle.ConstantTimeCompare(hash, []byte(t.Hash)) != 1 {
			continue
		}
		if !time.Now().Before(t.Expires) {
			return 0, badToken(c, "it expired at "+t.Expires.Format(time.RFC3339))
		}
		return i, nil
	}
	return 0, badToken(c, "")
}

// hashToken hashes a password as a person may have typed it: without regard to
// case, blanks and dashes.
func hashToken(password string) string {
	password = strings.ToUpper(strings.NewReplacer(" ", "", "-", "").Replace(password))
	sum := sha256.Sum256([]byte(password))
	return hex.EncodeToString(sum[:])
}

var errUnchanged = errors.New("nothing to write")

// change reads the file, has edit alter the tokens, and writes the file anew,
// while no other process does.
func (f *TokenFile) change(edit func([]Token) ([]Token, error)) error {
	lock := flock.New(f.path+".lock", flock.SetPermissions(0o600))
	if err := lock.Lock(); err != nil {
		return fmt.Errorf("token file: lock %s: %w", lock.Path(), err)
	}
	defer func() { _ = lock.Unlock() }() // the end of the process does it too
	all, err := f.tokens()
	if err != nil {
		return err
	}
	all, err = edit(slices.Clone(all))
	if errors.Is(err, errUnchanged) {
		return nil
	}
	if err != nil {
		return err
	}
	text, err := json.MarshalIndent(all, "", "\t")
	if err != nil {
		return fmt.Errorf("token file: %w", err)
	}
	f.mu.Lock() // Windows replaces no file that is being read
	defer f.mu.Unlock()
	if err := atomicwriter.WriteFile(f.path, append(text, '\n'), 0o600); err != nil {
		return fmt.Errorf("token file: %w", err)
	}
	return nil
}

// tokens returns what the file holds; it is read again only when it is another
// one than last time. Every writer replaces it whole.
func (f *TokenFile) tokens() ([]Token, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	file, err := os.Open(f.path)
	if errors.Is(err, fs.ErrNotExist) {
		f.stamp, f.kept = nil, nil
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("token file: %w", err)
	}
	defer file.Close()
	stamp, err := file.Stat()
	if err != nil {
		return nil, fmt.Errorf("token file: %w", err)
	}
	if f.stamp != nil && os.SameFile(stamp, f.stamp) && stamp.ModTime().Equal(f.stamp.ModTime()) && stamp.Size() == f.stamp.Size() {
		return f.kept, nil
	}
	text, err := io.ReadAll(io.LimitReader(file, maxTokenFile+1))
	if err != nil {
		return nil, fmt.Errorf("token file %s: %w", f.path, err)
	}
	if len(text) > maxTokenFile {
		return nil, fmt.Errorf("token file %s: longer than %d bytes", f.path, maxTokenFile)
	}
	var all []Token
	if err := json.Unmarshal(text, &all); err != nil {
		return nil, fmt.Errorf("token file %s: it is not one that this program wrote: %w", f.path, err)
	}
	f.stamp, f.kept = stamp, all
	return all, nil
}
