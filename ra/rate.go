package ra

import (
	"context"
	"fmt"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/onlineca/onlineca/ra/fault"
)

// Rate bounds how often one client may ask. The zero value is useful.
type Rate struct {
	// Every is the time that one request takes from a client's allowance.
	// 0 means one second.
	Every time.Duration
	// Burst is how many requests may come at once. 0 means 10.
	Burst int
	// Max is how many clients are watched at once. 0 means 10000; those
	// beyond share one allowance.
	Max int
}

// LimitRate returns an Enroller that refuses, with fault.Busy, the requests of a
// client that asks too often. A client is its name, or its address if it has
// none.
func LimitRate(next Enroller, r Rate) Enroller {
	if r.Every <= 0 {
		r.Every = time.Second
	}
	if r.Burst <= 0 {
		r.Burst = 10
	}
	if r.Max <= 0 {
		r.Max = 10000
	}
	l := &rates{cfg: r, clients: map[string]*rate.Limiter{}, rest: rate.NewLimiter(rate.Every(r.Every), r.Burst)}
	return EnrollerFunc(func(ctx context.Context, req Request) (Result, error) {
		who := "name " + req.Client.Name
		if req.Client.Name == "" {
			who = "address " + req.Client.Addr
		}
		wait, ok := l.take(who)
		if !ok {
			return Result{}, &fault.Fault{
				Code: fault.Busy, Op: "enrol", RetryAfter: wait,
				Err: fmt.Errorf("the client of %s asks more often than once in %v", who, r.Every),
			}
		}
		return next.Enroll(ctx, req)
	})
}

type rates struct {
	cfg     Rate
	mu      sync.Mutex
	clients map[string]*rate.Limiter
	rest    *rate.Limiter
}

// take uses up one request of the client's allowance; if there is none left, it
// returns how long until there is.
func (l *rates) take(who string) (wait time.Duration, ok bool) {
	now := time.Now()
	res := l.limiter(who, now).ReserveN(now, 1)
	if wait = res.DelayFrom(now); wait == 0 {
		return 0, true
	}
	res.CancelAt(now)
	return wait, false
}

func (l *rates) limiter(who string, now time.Time) *rate.Limiter {
	l.mu.Lock()
	defer l.mu.Unlock()
	if lim := l.clients[who]; lim != nil {
		return lim
	}
	if len(l.clients) >= l.cfg.Max {
		for k, lim := range l.clients {
			if lim.TokensAt(now) >= float64(l.cfg.Burst) {
				delete(l.clients, k) // as good as new
			}
		}
		if len(l.clients) >= l.cfg.Max {
			return l.rest
		}
	}
	lim := rate.NewLimiter(rate.Every(l.cfg.Every), l.cfg.Burst)
	l.clients[who] = lim
	return lim
}
