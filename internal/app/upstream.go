package app

import (
	"context"
	"fmt"
	"net/url"

	"go.uber.org/zap"

	"github.com/onlineca/onlineca/certsrv"
	"github.com/onlineca/onlineca/ra"
	"github.com/onlineca/onlineca/ra/fault"
)

// upstreams are the certsrv hosts of the settings as one: each behind a
// breaker, in order of preference.
type upstreams struct {
	*ra.Failover
	clients []*certsrv.Client // in the order of Failover.Targets
}

// newUpstreams makes the clients. Nobody is asked yet.
func newUpstreams(s Settings, p Parts) (*upstreams, error) {
	u := new(upstreams)
	var targets []*ra.Target
	for _, address := range s.Certsrv.targets() {
		name, err := targetName(address)
		if err != nil {
			return nil, err
		}
		cfg := s.certsrvConfig(address, p)
		if len(s.Certsrv.URLs) > 1 {
			cfg.Reconnect = -1 // rather than waiting for a host, the next is asked
		}
		client, err := certsrv.New(cfg)
		if err != nil {
			u.Close()
			return nil, err
		}
		u.clients = append(u.clients, client)
		targets = append(targets, ra.NewTarget(name, client, s.breaker(p.Log)))
	}
	u.Failover = ra.NewFailover(p.Log, targets...)
	return u, nil
}

// targetName is what a host is called in logs, metrics and records: its name
// and port.
func targetName(address string) (string, error) {
	u, err := url.Parse(address)
	if err != nil {
		return "", fmt.Errorf("certsrv.url: %w", err)
	}
	return hostPort(u), nil
}

func (s *Settings) breaker(log *zap.Logger) ra.BreakerConfig {
	return ra.BreakerConfig{Failures: s.Certsrv.Breaker.Failures, Pause: s.Certsrv.Breaker.Pause, Log: log}
}

// Start logs in to the first host that can be asked and fetches the CA's chain.
// A refused login is final: it would be refused by the next host as well, and
// count twice.
func (u *upstreams) Start(ctx context.Context) error {
	var first error
	for _, c := range u.clients {
		err := c.Start(ctx)
		if err == nil {
			return nil
		}
		if first == nil {
			first = err
		}
		if fault.Of(err).Code.Row().Upstream < fault.Troubled {
			return err
		}
	}
	return first
}

// Close ends the sessions.
func (u *upstreams) Close() {
	for _, c := range u.clients {
		c.Close()
	}
}
