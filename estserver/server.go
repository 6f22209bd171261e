package estserver

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"regexp"
	"sync"
	"sync/atomic"

	"github.com/globalsign/est"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/onlineca/onlineca/ra"
)

// Server is an EST server. It is an http.Handler, for those who bring their own
// http.Server, and has one itself.
type Server struct {
	current     atomic.Pointer[settings]
	connections atomic.Int64
	listenAddr  atomic.Pointer[string]
	tls         tlsCache
	reporting   sync.Mutex // held while the lines about one request are written
}

// settings are a Config ready for use. A request keeps those that it began with.
type settings struct {
	cfg    Config
	labels map[string]*label // "" is the default
	router http.Handler      // globalsign/est's
}

// label is a Label ready for use.
type label struct {
	Label
	enroller ra.Enroller
	attrs    est.CSRAttrs
	subject  *regexp.Regexp // whole subjects of client certificates
}

func (l *label) noAttrs() bool { return len(l.attrs.OIDs) == 0 && len(l.attrs.Attributes) == 0 }

// New checks cfg and returns a server. Nothing is listened on yet.
func New(cfg Config) (*Server, error) {
	s := &Server{}
	if err := s.Reload(cfg); err != nil {
		return nil, err
	}
	return s, nil
}

// Reload has new requests served by cfg. Requests under way end as they began.
// When cfg is refused, everything stays as it was. Plain, Limits.Headers and
// Timeouts of a server that is serving already do not change.
func (s *Server) Reload(cfg Config) error {
	ready, err := newSettings(cfg)
	if err != nil {
		return err
	}
	if old := s.current.Load(); old != nil && old.cfg.GetCertificate != nil && cfg.GetCertificate == nil {
		return errors.New("estserver: Config.GetCertificate is missing")
	}
	s.current.Store(ready)
	return nil
}

func newSettings(cfg Config) (*settings, error) {
	cfg.setDefaults()
	if err := cfg.check(); err != nil {
		return nil, err
	}
	s := &settings{cfg: cfg, labels: map[string]*label{}}
	all := map[string]Label{"": cfg.Default}
	for name, l := range cfg.Labels {
		all[name] = l
	}
	for name, l := range all {
		ready, err := s.prepare(l)
		if err != nil {
			if name == "" {
				return nil, fmt.Errorf("estserver: the default label: %w", err)
			}
			return nil, fmt.Errorf("estserver: label %s: %w", name, err)
		}
		s.labels[name] = ready
	}
	router, err := est.NewRouter(&est.ServerConfig{CA: library{}, Timeout: cfg.Timeouts.Write, Logger: libraryLog{s.cfg.Logger}})
	if err != nil {
		return nil, fmt.Errorf("estserver: %w", err)
	}
	s.router = router
	return s, nil
}

func (s *settings) prepare(l Label) (*label, error) {
	if err := l.Auth.check(); err != nil {
		return nil, err
	}
	if l.PoP < PoPOff || l.PoP > PoPRequired {
		return nil, fmt.Errorf("PoP %d is none", l.PoP)
	}
	next := s.cfg.Enroller
	if l.Auth.Tokens != nil {
		next = spendToken(next, l.Auth.Tokens)
	}
	enroller, err := ra.CheckPolicy(next, l.Policy)
	if err != nil {
		return nil, err
	}
	if l.Rate != nil {
		enroller = ra.LimitRate(enroller, *l.Rate)
	}
	ready := &label{Label: l, enroller: enroller, attrs: l.CSRAttrs}
	if l.PoP == PoPRequired {
		ready.attrs = withChallengePassword(l.CSRAttrs)
	}
	if _, err := ready.attrs.Marshal(); err != nil {
		return nil, fmt.Errorf("CSRAttrs: %w", err)
	}
	if c := l.Auth.Certificates; c != nil && c.Subject != nil {
		ready.subject = regexp.MustCompile(`^(?:` + c.Subject.String() + `)$`)
	}
	return ready, nil
}

// Handler returns the server as a handler of all requests to
// /.well-known/est/. It answers 404 to everything else.
func (s *Server) Handler() http.Handler { return s }

// Serve answers on l until ctx ends. Then it accepts nothing more, lets the
// requests under way finish (Timeouts.Shutdown), since what has been submitted
// will be issued, and returns nil. l is closed when Serve returns.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	name := listenName(l.Addr())
	s.listenAddr.Store(&name)
	srv := s.httpServer(ctx)
	cfg := s.current.Load().cfg
	if !cfg.Plain {
		if cfg.GetCertificate == nil {
			_ = l.Close()
			return errors.New("estserver: Config.GetCertificate is missing")
		}
		l = tls.NewListener(l, s.TLSConfig())
	}
	done := make(chan error, 1)
	stop := context.AfterFunc(ctx, func() { done <- s.shutdown(ctx, srv) })
	err := srv.Serve(l)
	if !errors.Is(err, http.ErrServerClosed) {
		if stop() {
			_ = srv.Close()
			return fmt.Errorf("estserver: serve on %s: %w", name, err)
		}
	}
	return <-done
}

// shutdown lets requests under way finish, and breaks off what takes too long.
func (s *Server) shutdown(ctx context.Context, srv *http.Server) error {
	patience := s.current.Load().cfg.Timeouts.Shutdown
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), patience)
	defer cancel()
	if err := srv.Shutdown(ctx); err != nil {
		_ = srv.Close()
		return fmt.Errorf("estserver: requests were still under way %v after the server was told to stop: %w", patience, err)
	}
	return nil
}

// httpServer is the server beneath. Requests outlive ctx: they are under way.
func (s *Server) httpServer(ctx context.Context) *http.Server {
	cfg := s.current.Load().cfg
	t := cfg.Timeouts
	srv := &http.Server{
		Handler:           s,
		ReadHeaderTimeout: t.ReadHeader,
		ReadTimeout:       t.Read,
		WriteTimeout:      t.Write,
		IdleTimeout:       t.Idle,
		// Beyond this net/http answers by itself, without a length.
		MaxHeaderBytes: 2 * cfg.Limits.Headers,
		BaseContext:    func(net.Listener) context.Context { return context.WithoutCancel(ctx) },
		ConnContext:    s.connContext,
		// HTTP/2 is never negotiated.
		TLSNextProto: map[string]func(*http.Server, *tls.Conn, http.Handler){},
	}
	log := cfg.Logger
	if log == nil {
		log = zap.NewNop()
	}
	if std, err := zap.NewStdLogAt(log.Named("http"), zapcore.InfoLevel); err == nil {
		srv.ErrorLog = std
	}
	return srv
}
