package ra

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"strings"
	"sync/atomic"

	"golang.org/x/crypto/bcrypt"

	"github.com/onlineca/onlineca/ra/fault"
)

// UserList is an [Authenticator] with users of its own, in a file as
// htpasswd -B writes it: one "user:bcrypt-hash" a line.
type UserList struct {
	path  string
	users atomic.Pointer[userHashes]
}

type userHashes struct {
	byName map[string][]byte
	// nobody is compared with when the user is unknown, so that the time an
	// answer takes does not tell who exists.
	nobody []byte
}

// maxUserList is the longest user list that is read, in bytes.
const maxUserList = 16 << 20

// LoadUserList reads the file at path.
func LoadUserList(path string) (*UserList, error) {
	l := &UserList{path: path}
	if err := l.Reload(); err != nil {
		return nil, err
	}
	return l, nil
}

// ParseUserList reads a list that is no file; Reload does nothing for it.
func ParseUserList(text []byte) (*UserList, error) {
	users, err := parseUsers("user list", text)
	if err != nil {
		return nil, err
	}
	l := &UserList{}
	l.users.Store(users)
	return l, nil
}

// Reload reads the file again. When that fails, the users stay as they were.
func (l *UserList) Reload() error {
	if l.path == "" {
		return nil
	}
	f, err := os.Open(l.path)
	if err != nil {
		return fmt.Errorf("user list: %w", err)
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxUserList+1))
	if err != nil {
		return fmt.Errorf("user list %s: %w", l.path, err)
	}
	if len(text) > maxUserList {
		return fmt.Errorf("user list %s: longer than %d bytes", l.path, maxUserList)
	}
	users, err := parseUsers("user list "+l.path, text)
	if err != nil {
		return err
	}
	l.users.Store(users)
	return nil
}

// Len returns how many users there are.
func (l *UserList) Len() int { return len(l.users.Load().byName) }

func parseUsers(what string, text []byte) (*userHashes, error) {
	u := &userHashes{byName: map[string][]byte{}}
	cost := bcrypt.DefaultCost
	lines := bufio.NewScanner(bytes.NewReader(text))
	for n := 1; lines.Scan(); n++ {
		line := strings.TrimSpace(lines.Text())
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		// A user name cannot hold a colon (RFC 7617 section 2).
		name, hash, ok := strings.Cut(line, ":")
		if !ok || name == "" {
			return nil, fmt.Errorf("%s, line %d: it is not user:hash", what, n)
		}
		c, err := bcrypt.Cost([]byte(hash))
		if err != nil || len(hash) != 60 {
			return nil, fmt.Errorf("%s, line %d: the hash of %s is not bcrypt; htpasswd -B writes such", what, n, name)
		}
		if _, twice := u.byName[name]; twice {
			return nil, fmt.Errorf("%s, line %d: %s is listed twice", what, n, name)
		}
		u.byName[name] = []byte(hash)
		cost = c
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("%s: %w", what, err)
	}
	var err error
	if u.nobody, err = bcrypt.GenerateFromPassword([]byte("nobody"), cost); err != nil {
		return nil, fmt.Errorf("%s: %w", what, err)
	}
	return u, nil
}

// bcryptMax is how much of a password bcrypt looks at, in bytes. A longer one
// would be accepted with any ending.
const bcryptMax = 72

// Authenticate checks a password. The refusal does not say whether the user
// exists, and takes as long either way.
func (l *UserList) Authenticate(_ context.Context, c Credentials) error {
	users := l.users.Load()
	hash, known := users.byName[c.Username]
	if !known {
		hash = users.nobody
	}
	password := []byte(c.Password)
	tooLong := len(password) > bcryptMax
	if tooLong {
		password = password[:bcryptMax]
	}
	err := bcrypt.CompareHashAndPassword(hash, password)
	if err != nil || !known || tooLong {
		return fault.Newf(fault.BadCredentials, "verify the password of "+c.Username, "the user list does not have this user with this password")
	}
	return nil
}
