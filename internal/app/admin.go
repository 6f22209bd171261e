package app

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/pprof"
	"strings"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"
	"go.uber.org/zap"
)

// The times that whoever asks the admin address is given. A CPU profile takes
// 30 seconds unless told otherwise.
const (
	adminHeaderTime = 5 * time.Second
	adminWriteTime  = 75 * time.Second
)

// adminServer is the face towards whoever runs the service. A nil one is none.
type adminServer struct {
	listen  net.Listener
	server  *http.Server
	handler atomic.Pointer[http.Handler]
	done    chan struct{}
}

// startAdmin answers on the admin address until close: that the process lives
// and is starting, until it is told more by answerFor.
func startAdmin(ctx context.Context, s AdminSettings, log *zap.Logger) (*adminServer, error) {
	if s.Listen == "" {
		return nil, nil //nolint:nilnil // None is a value here.
	}
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", s.Listen)
	if err != nil {
		return nil, fmt.Errorf("admin.listen: %w", err)
	}
	if log == nil {
		log = zap.NewNop()
	}
	a := &adminServer{listen: l, done: make(chan struct{})}
	a.answer(starting())
	a.server = &http.Server{
		Handler:           http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { (*a.handler.Load()).ServeHTTP(w, r) }),
		ReadHeaderTimeout: adminHeaderTime, ReadTimeout: adminHeaderTime, WriteTimeout: adminWriteTime,
		IdleTimeout: time.Minute, MaxHeaderBytes: 16 << 10, ErrorLog: zap.NewStdLog(log.Named("admin")),
	}
	go func() {
		defer close(a.done)
		if err := a.server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			log.Error("the admin address is not served any more", zap.Error(err))
		}
	}()
	return a, nil
}

func (a *adminServer) answer(h http.Handler) { a.handler.Store(&h) }

// answerFor has the service itself answer.
func (a *adminServer) answerFor(r *RA, s AdminSettings) { a.answer(r.AdminHandler(s.PProf)) }

// close ends it, at once.
func (a *adminServer) close() {
	if a == nil {
		return
	}
	_ = a.server.Close()
	<-a.done
}

// starting answers while the service logs in to certsrv.
func starting() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", alive)
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, req *http.Request) {
		writeReadiness(w, req, Readiness{Checks: []Check{{"start", false, "the service is logging in to certsrv and fetching the CA's chain"}}})
	})
	return mux
}

func alive(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	fmt.Fprintln(w, "alive")
}

// AdminHandler answers GET /healthz, /readyz and, if admin.listen is set,
// /metrics; and with profiles, /debug/pprof/. It is for the machine itself and
// for monitoring: nobody is asked who they are.
func (r *RA) AdminHandler(profiles bool) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", alive)
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, req *http.Request) { writeReadiness(w, req, r.Readiness(time.Now())) })
	if r.metrics != nil {
		mux.Handle("GET /metrics", promhttp.HandlerFor(r.metrics.registry, promhttp.HandlerOpts{Registry: r.metrics.registry}))
	}
	if profiles {
		mux.HandleFunc("/debug/pprof/", pprof.Index)
		mux.HandleFunc("/debug/pprof/cmdline", pprof.Cmdline)
		mux.HandleFunc("/debug/pprof/profile", pprof.Profile)
		mux.HandleFunc("/debug/pprof/symbol", pprof.Symbol)
		mux.HandleFunc("/debug/pprof/trace", pprof.Trace)
	}
	return mux
}

// writeReadiness answers 200 or 503, and says why: in lines for a person, or in
// JSON for those who ask for it.
func writeReadiness(w http.ResponseWriter, req *http.Request, is Readiness) {
	var body []byte
	if req.URL.Query().Get("format") == "json" || strings.Contains(req.Header.Get("Accept"), "application/json") {
		w.Header().Set("Content-Type", "application/json")
		body, _ = json.MarshalIndent(is, "", "  ") // strings, booleans and times
		body = append(body, '\n')
	} else {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		body = []byte(is.String())
	}
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("Vary", "Accept")
	if !is.Ready {
		w.WriteHeader(http.StatusServiceUnavailable)
	}
	_, _ = w.Write(body) // whoever asked may be gone
}

// maxReady bounds what is read of an answer of /readyz.
const maxReady = 64 << 10

// askReady asks the admin address of a running server. What it says is wrong is
// the error.
func askReady(ctx context.Context, address string) error {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return fmt.Errorf("admin.listen: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, 4*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+net.JoinHostPort(reachable(host), port)+"/readyz", nil)
	if err != nil {
		return fmt.Errorf("healthcheck: %w", err)
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Do(req)
	if err != nil {
		return fmt.Errorf("healthcheck: %w", err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, maxReady))
	if err != nil {
		return fmt.Errorf("healthcheck: %w", err)
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("healthcheck: %s", failing(string(text)))
	}
	return nil
}

// failing is the answer of /readyz without the lines of what is well, which
// would read as errors among the errors.
func failing(ready string) string {
	var lines []string
	for line := range strings.Lines(strings.TrimSpace(ready)) {
		if !strings.HasPrefix(line, "ok ") {
			lines = append(lines, strings.TrimSpace(line))
		}
	}
	return strings.Join(lines, "\n")
}
