package app

import (
	"net/http"
	"net/url"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/onlineca/onlineca/ra/event"
	"github.com/onlineca/onlineca/ra/fault"
)

// metrics counts what the rooms report. It listens to the same events that the
// logs are written from, so that nothing is told twice; what has a state is
// asked when it is scraped (see gauges). No label value comes from a client.
type metrics struct {
	registry *prometheus.Registry
	labels   atomic.Pointer[map[string]bool] // EST labels there are

	requests, enrollments, failures, failovers, transitions *prometheus.CounterVec
	chainFailures, panics, unfit                            prometheus.Counter
	requestSeconds, enrollmentSeconds, exchangeSeconds      *prometheus.HistogramVec
}

// The buckets reach from an answer out of memory to the longest that the
// product's clients and certsrv's timeouts have: 10 s, and beyond it.
var seconds = []float64{.005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 20, 60}

func newMetrics() *metrics {
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels)
	}
	histogram := func(name, help string, labels ...string) *prometheus.HistogramVec {
		return prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: name, Help: help, Buckets: seconds}, labels)
	}
	m := &metrics{
		registry: prometheus.NewRegistry(),
		requests: counter("onlineca_est_requests_total",
			"EST requests answered, challenges not counted. The outcome is ok, a fault's code, or the class of the HTTP status.", "operation", "label", "outcome"),
		requestSeconds: histogram("onlineca_est_request_seconds", "Time to answer an EST request.", "operation"),
		enrollments: counter("onlineca_enrollments_total",
			"Requests for a certificate that passed authentication and policy. The outcome is issued, pending or a fault's code.", "label", "outcome"),
		enrollmentSeconds: histogram("onlineca_enrollment_seconds", "Time that such a request took.", "state"),
		exchangeSeconds: histogram("onlineca_certsrv_exchange_seconds",
			"Time of one exchange with certsrv: login, page, chain, submit or fetch. The result is ok or error.", "target", "step", "result"),
		failures:    counter("onlineca_certsrv_failures_total", "Exchanges with certsrv that failed, by the fault's code.", "target", "step", "code"),
		failovers:   counter("onlineca_failovers_total", "Requests that went on to the next certsrv.", "from", "to"),
		transitions: counter("onlineca_breaker_transitions_total", "Changes of a breaker's state.", "target", "to"),
		chainFailures: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "onlineca_chain_refresh_failures_total", Help: "Refreshes of the CA's chain that failed; the old one stays in use."}),
		panics: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "onlineca_panics_total", Help: "Faults of this program that were caught."}),
		unfit: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "onlineca_unfit_certificates_total", Help: "Certificates issued that no phone would accept."}),
	}
	m.registry.MustRegister(
		m.requests, m.requestSeconds, m.enrollments, m.enrollmentSeconds, m.exchangeSeconds, m.failures,
		m.failovers, m.transitions, m.chainFailures, m.panics, m.unfit,
		collectors.NewGoCollector(), collectors.NewBuildInfoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
	)
	return m
}

// knowLabels says which EST labels may stand as label values.
func (m *metrics) knowLabels(s Settings) {
	known := map[string]bool{}
	for name := range s.EST.all() {
		known[name] = true
	}
	m.labels.Store(&known)
}

// watch returns log with the metrics as one more listener. Its level does not
// concern them. A nil log is still a silent one.
func (m *metrics) watch(log *zap.Logger) *zap.Logger {
	if log == nil {
		log = zap.NewNop()
	}
	return log.WithOptions(zap.WrapCore(func(c zapcore.Core) zapcore.Core {
		return zapcore.NewTee(c, listener{zapcore.InfoLevel, m})
	}))
}

// listener is a core that counts events and writes nothing.
type listener struct {
	zapcore.LevelEnabler
	m *metrics
}

func (l listener) With([]zapcore.Field) zapcore.Core { return l }
func (l listener) Sync() error                       { return nil }

func (l listener) Check(e zapcore.Entry, ce *zapcore.CheckedEntry) *zapcore.CheckedEntry {
	if !l.Enabled(e.Level) {
		return ce
	}
	return ce.AddCore(e, l)
}

func (l listener) Write(_ zapcore.Entry, fields []zapcore.Field) error {
	if e, _, ok := event.Of(fields); ok {
		l.m.observe(e)
	}
	return nil
}

func (m *metrics) observe(e event.Event) {
	switch e := e.(type) {
	case event.ESTRequest:
		op := operationName(e.Operation)
		m.requests.WithLabelValues(op, m.label(e.Label), requestOutcome(e)).Inc()
		m.requestSeconds.WithLabelValues(op).Observe(e.Duration.Seconds())
	case event.Enrollment:
		outcome, state := e.State, e.State
		if e.Code != "" {
			outcome, state = codeName(e.Code), "failed"
		}
		m.enrollments.WithLabelValues(m.label(e.Label), outcome).Inc()
		m.enrollmentSeconds.WithLabelValues(state).Observe(e.Duration.Seconds())
	case event.UpstreamDone:
		m.exchangeSeconds.WithLabelValues(targetOf(e.URL), string(e.Step), "ok").Observe(e.Duration.Seconds())
	case event.UpstreamFailed:
		m.exchangeSeconds.WithLabelValues(targetOf(e.URL), string(e.Step), "error").Observe(e.Duration.Seconds())
		m.failures.WithLabelValues(targetOf(e.URL), string(e.Step), codeName(e.Code)).Inc()
	case event.FailedOver:
		m.failovers.WithLabelValues(e.From, e.To).Inc()
	case event.BreakerChanged:
		m.transitions.WithLabelValues(e.Target, e.To).Inc()
	case event.ChainStale:
		m.chainFailures.Inc()
	case event.Panic:
		m.panics.Inc()
	case event.CertificateUnfit:
		m.unfit.Inc()
	}
}

// label is an EST label that there is: clients may write anything into a path.
func (m *metrics) label(name string) string {
	if known := m.labels.Load(); known != nil && (*known)[name] {
		return name
	}
	return "other"
}

// operations are those of EST (RFC 7030 section 3.2.2).
var operations = map[string]bool{
	"cacerts": true, "csrattrs": true, "simpleenroll": true, "simplereenroll": true, "serverkeygen": true, "fullcmc": true,
}

func operationName(name string) string {
	if operations[name] {
		return name
	}
	return "other"
}

func requestOutcome(e event.ESTRequest) string {
	switch {
	case e.Code != "":
		return codeName(e.Code)
	case e.Status >= http.StatusInternalServerError:
		return "http-5xx"
	case e.Status >= http.StatusBadRequest:
		return "http-4xx"
	case e.Status == http.StatusAccepted:
		return "pending"
	default:
		return "ok"
	}
}

func codeName(code string) string {
	if _, ok := fault.Lookup(code); ok {
		return code
	}
	return fault.Unknown.String()
}

// targetOf is the name of the host of an address that a client of ours asked.
func targetOf(address string) string {
	u, err := url.Parse(address)
	if err != nil || u.Host == "" {
		return "other"
	}
	return hostPort(u)
}
