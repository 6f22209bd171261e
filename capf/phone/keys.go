package phone

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/rsa"
	"fmt"
	"sync"

	"github.com/onlineca/onlineca/capf/wire"
)

// KeySource makes a private key of the kind that CAPF asks for.
type KeySource func(ctx context.Context, spec wire.KeySpec) (crypto.Signer, error)

// Generate is the KeySource that generates a new key each time.
func Generate(_ context.Context, spec wire.KeySpec) (crypto.Signer, error) {
	if spec.Type == wire.EC {
		c := spec.Curve.Elliptic()
		if c == nil {
			return nil, fmt.Errorf("%v is no curve", spec)
		}
		return ecdsa.GenerateKey(c, rand.Reader)
	}
	return rsa.GenerateKey(rand.Reader, spec.Bits)
}

// Pool is a KeySource that makes a number of keys of each kind and then hands
// them out again and again. It is for load tests alone, where thousands of RSA
// keys would cost more than everything else: several phones share a key.
type Pool struct {
	// Size is how many different keys there are of each kind; 16 if 0.
	Size int

	mu   sync.Mutex
	keys map[wire.KeySpec][]crypto.Signer
	next map[wire.KeySpec]int
}

// Key is the pool's KeySource.
func (p *Pool) Key(ctx context.Context, spec wire.KeySpec) (crypto.Signer, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	size := p.Size
	if size <= 0 {
		size = 16
	}
	if p.keys == nil {
		p.keys, p.next = make(map[wire.KeySpec][]crypto.Signer), make(map[wire.KeySpec]int)
	}
	if len(p.keys[spec]) < size {
		key, err := Generate(ctx, spec)
		if err != nil {
			return nil, err
		}
		p.keys[spec] = append(p.keys[spec], key)
		return key, nil
	}
	n := p.next[spec]
	p.next[spec] = (n + 1) % size
	return p.keys[spec][n], nil
}
