package ra

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"sync"
	"time"

	"github.com/onlineca/onlineca/ra/fault"
)

// Remember is an [Authenticator] that spares the one behind it what it has
// verified a moment ago.
//
// What it keeps of credentials is a hash under a key that is drawn when it is
// made and never leaves the process; a password is not kept, and the hashes are
// worth nothing elsewhere. Refusals are not remembered. Equal credentials that
// arrive while they are being verified wait for that one answer.
type Remember struct {
	next Authenticator
	cfg  RememberConfig
	key  [32]byte

	mu       sync.Mutex
	verified map[credentialHash]time.Time // until when
	flights  map[credentialHash]*flight
	forgets  int // how often Forget was called
}

// RememberConfig says what is remembered. The zero value is useful.
type RememberConfig struct {
	// For is how long credentials are taken for good after they were verified.
	// 0 means five minutes.
	For time.Duration
	// Max is how many are remembered at once. 0 means 10000. When it is
	// reached, those that expire soonest make room.
	Max int
}

// credentialHash stands for a user name and password.
type credentialHash [sha256.Size]byte

// flight is a verification under way and those who wait for it.
type flight struct {
	done    chan struct{}
	err     error
	waiting int
	forgets int // as it was at the start
	cancel  context.CancelFunc
}

// NewRemember returns next with a memory.
func NewRemember(next Authenticator, cfg RememberConfig) *Remember {
	if cfg.For <= 0 {
		cfg.For = 5 * time.Minute
	}
	if cfg.Max <= 0 {
		cfg.Max = 10000
	}
	r := &Remember{
		next: next, cfg: cfg,
		verified: map[credentialHash]time.Time{},
		flights:  map[credentialHash]*flight{},
	}
	randomKey(r.key[:])
	return r
}

// Authenticate accepts what it remembers and asks the next Authenticator about
// everything else.
func (r *Remember) Authenticate(ctx context.Context, c Credentials) error {
	h := hashCredentials(r.key[:], c)
	r.mu.Lock()
	if until, ok := r.verified[h]; ok {
		if time.Now().Before(until) {
			r.mu.Unlock()
			return nil
		}
		delete(r.verified, h)
	}
	f := r.flights[h]
	if f == nil {
		f = r.takeOff(ctx, h, c)
	}
	f.waiting++
	r.mu.Unlock()

	select {
	case <-f.done:
		return f.err
	case <-ctx.Done():
		r.mu.Lock()
		defer r.mu.Unlock()
		if f.waiting--; f.waiting == 0 {
			// Nobody wants the answer any more. The next to ask starts anew.
			f.cancel()
			if r.flights[h] == f {
				delete(r.flights, h)
			}
		}
		return fault.New(fault.Canceled, "verify the credentials of "+c.Username, ctx.Err())
	}
}

// takeOff starts a verification. It outlives the context of whoever came first,
// since others may have joined, and ends when all of them are gone.
func (r *Remember) takeOff(ctx context.Context, h credentialHash, c Credentials) *flight {
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	f := &flight{done: make(chan struct{}), forgets: r.forgets, cancel: cancel}
	r.flights[h] = f
	go func() {
		defer cancel()
		defer r.land(h, f)
		f.err = fault.Newf(fault.Internal, "verify the credentials of "+c.Username, "panic")
		f.err = r.next.Authenticate(ctx, c)
	}()
	return f
}

// land remembers a verification that succeeded and tells those who wait. A
// panic of the next Authenticator is its fault.Internal.
func (r *Remember) land(h credentialHash, f *flight) {
	_ = recover()
	r.mu.Lock()
	defer r.mu.Unlock()
	if f.err == nil && f.forgets == r.forgets {
		r.makeRoom()
		r.verified[h] = time.Now().Add(r.cfg.For)
	}
	if r.flights[h] == f {
		delete(r.flights, h)
	}
	close(f.done)
}

// makeRoom drops what has expired, and if that is nothing, what expires first.
func (r *Remember) makeRoom() {
	if len(r.verified) < r.cfg.Max {
		return
	}
	now := time.Now()
	var first credentialHash
	var soonest time.Time
	for h, until := range r.verified {
		if !now.Before(until) {
			delete(r.verified, h)
		} else if soonest.IsZero() || until.Before(soonest) {
			first, soonest = h, until
		}
	}
	if len(r.verified) >= r.cfg.Max {
		delete(r.verified, first)
	}
}

// Forget drops everything that is remembered, for when passwords have changed.
func (r *Remember) Forget() {
	r.mu.Lock()
	defer r.mu.Unlock()
	clear(r.verified)
	r.forgets++
}

// hashCredentials is injective in what it hashes: the name's length comes first.
func hashCredentials(key []byte, c Credentials) credentialHash {
	text := append(make([]byte, 0, 256), key...)
	text = binary.BigEndian.AppendUint64(text, uint64(len(c.Username)))
	text = append(append(text, c.Username...), c.Password...)
	defer clear(text)
	return sha256.Sum256(text)
}

// randomKey fills key. crypto/rand ends the process rather than fail.
func randomKey(key []byte) { _, _ = rand.Read(key) }
