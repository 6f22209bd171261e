package app

import (
	"context"
	"errors"
	"net"
	"net/http"
	"os"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/onlineca/onlineca/ra/event"
	"github.com/onlineca/onlineca/ra/fault"
	"github.com/onlineca/onlineca/testenv"
)

// scrape reads /metrics as Prometheus does.
func (x *site) scrape(t *testing.T) map[string]*dto.MetricFamily {
	t.Helper()
	status, _, body := x.get(t, "/metrics", "")
	if status != http.StatusOK {
		t.Fatalf("%d %s", status, body)
	}
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	return families
}

// value is that of the one metric with these labels, given as name=value; of a
// histogram it is the number of observations. None is -1.
func value(families map[string]*dto.MetricFamily, name string, labels ...string) float64 {
	for _, m := range families[name].GetMetric() {
		got := map[string]bool{}
		for _, l := range m.GetLabel() {
			got[l.GetName()+"="+l.GetValue()] = true
		}
		all := true
		for _, l := range labels {
			all = all && got[l]
		}
		if !all {
			continue
		}
		switch {
		case m.Counter != nil:
			return m.GetCounter().GetValue()
		case m.Gauge != nil:
			return m.GetGauge().GetValue()
		case m.Histogram != nil:
			return float64(m.GetHistogram().GetSampleCount())
		}
	}
	return -1
}

func TestMetrics(t *testing.T) {
	m := testenv.New(t, testenv.Config{})
	s := hostSettings(m)
	s.EST.Labels = map[string]*LabelSettings{"routers": {}}
	s.EST.Labels["routers"].defaults("CiscoRA")
	s.EST.Labels["routers"].Auth = AuthSettings{Anonymous: true, Require: "any"}
	x := startSite(t, s, hostParts(t, m))
	x.count = func(context.Context) (map[string]int, error) { return map[string]int{"pending": 3}, nil }
	for range 2 {
		x.enroll(t, "simpleenroll")
	}
	x.enroll(t, "routers/simpleenroll")
	x.enroll(t, "made-up-by-a-client/simpleenroll")
	x.enroll(t, "no-operation")
	m.Inject(testenv.Deny.With(0x80094001), testenv.On(testenv.StepSubmit))
	x.enroll(t, "simpleenroll")
	m.Inject(testenv.Status500, testenv.On(testenv.StepSubmit))
	x.enroll(t, "simpleenroll")
	until(t, "every request is reported", func() bool {
		n := 0.0
		for _, r := range x.scrape(t)["onlineca_est_requests_total"].GetMetric() {
			n += r.GetCounter().GetValue()
		}
		return n == 7
	})

	target := "target=" + strings.TrimPrefix(m.URL, "https://")
	got := x.scrape(t)
	for _, w := range []struct {
		name   string
		labels []string
		want   float64
	}{
		{"onlineca_est_requests_total", []string{"operation=simpleenroll", "outcome=ok", "label="}, 2},
		{"onlineca_est_requests_total", []string{"operation=simpleenroll", "outcome=ok", "label=routers"}, 1},
		{"onlineca_est_requests_total", []string{"operation=simpleenroll", "outcome=denied-by-policy"}, 1},
		{"onlineca_est_requests_total", []string{"operation=simpleenroll", "outcome=server-error"}, 1},
		{"onlineca_est_requests_total", []string{"operation=other", "outcome=http-4xx"}, 2},
		{"onlineca_est_request_seconds", []string{"operation=simpleenroll"}, 5},
		{"onlineca_enrollments_total", []string{"outcome=issued", "label=routers"}, 1},
		{"onlineca_enrollments_total", []string{"outcome=denied-by-policy"}, 1},
		{"onlineca_enrollment_seconds", []string{"state=issued"}, 3},
		{"onlineca_enrollment_seconds", []string{"state=failed"}, 2},
		{"onlineca_certsrv_exchange_seconds", []string{target, "step=login", "result=ok"}, 1},
		{"onlineca_certsrv_exchange_seconds", []string{target, "step=submit", "result=ok"}, 3},
		{"onlineca_certsrv_exchange_seconds", []string{target, "step=submit", "result=error"}, 2},
		{"onlineca_certsrv_exchange_seconds", []string{target, "step=fetch", "result=ok"}, 3},
		{"onlineca_certsrv_failures_total", []string{target, "step=submit", "code=server-error"}, 1},
		{"onlineca_certsrv_handshakes_total", []string{target}, float64(m.Handshakes())},
		{"onlineca_certsrv_logins_refused_total", []string{target}, 0},
		{"onlineca_certsrv_sessions", []string{target, "state=busy"}, 0},
		{"onlineca_breaker_state", []string{target, "state=closed"}, 1},
		{"onlineca_breaker_state", []string{target, "state=open"}, 0},
		{"onlineca_breaker_state", []string{target, "state=half-open"}, 0},
		{"onlineca_queue_running", nil, 0},
		{"onlineca_queue_waiting", nil, 0},
		{"onlineca_queue_capacity", nil, 1000},
		{"onlineca_queue_refused_total", nil, 0},
		{"onlineca_requests", []string{"state=pending"}, 3},
		{"onlineca_certificate_not_after_seconds", []string{"certificate=ca-issuing"}, float64(m.PKI.Current().NotAfter.Unix())},
		{"onlineca_certificate_not_after_seconds", []string{"certificate=ca-root"}, float64(m.Root.NotAfter.Unix())},
		{"onlineca_certificate_not_after_seconds", []string{"certificate=est-server"}, float64(x.certificate.Load().NotAfter.Unix())},
		{"onlineca_ready", nil, 1},
	} {
		if v := value(got, w.name, w.labels...); v != w.want {
			t.Errorf("%s%v is %v, want %v", w.name, w.labels, v, w.want)
		}
	}
	if _, _, body := x.get(t, "/metrics", ""); strings.Contains(body, "made-up") {
		t.Error("a client's own words are a label value")
	}
	x.lint(t)
	x.count = func(context.Context) (map[string]int, error) { return nil, errors.New("the disk is full") }
	if v := value(x.scrape(t), "onlineca_requests"); v != -1 {
		t.Errorf("a store that does not answer counts %v", v)
	}
}

// The document names every metric that there is, with its labels, and no other.
func TestMetricsAreDocumented(t *testing.T) {
	text, err := os.ReadFile("../../docs/operations.md")
	if err != nil {
		t.Fatal(err)
	}
	documented := map[string]string{}
	for _, row := range regexp.MustCompile("(?m)^\\| `(onlineca_[a-z_]+)` \\| [a-z]+ \\| ([a-z, ]*) ?\\|").FindAllStringSubmatch(string(text), -1) {
		documented[row[1]] = strings.TrimSpace(row[2])
	}
	all := make(chan *prometheus.Desc, 100)
	m := newMetrics()
	for _, c := range []prometheus.Collector{
		gauges{}, m.requests, m.requestSeconds, m.enrollments, m.enrollmentSeconds, m.exchangeSeconds, m.failures,
		m.failovers, m.transitions, m.chainFailures, m.panics, m.unfit,
	} {
		c.Describe(all)
	}
	close(all)
	is := regexp.MustCompile(`fqName: "([^"]*)".*variableLabels: \{([^}]*)\}`)
	for d := range all {
		got := is.FindStringSubmatch(d.String())
		if got == nil {
			t.Fatalf("a description of another form: %s", d)
		}
		labels, there := documented[got[1]]
		if want := strings.ReplaceAll(got[2], ",", ", "); !there || labels != want {
			t.Errorf("docs/operations.md has the labels %q for %s, want %q", labels, got[1], want)
		}
		delete(documented, got[1])
	}
	for name := range documented {
		t.Errorf("docs/operations.md names %s, which there is not", name)
	}
}

// After a reload the labels are the new ones, and the events are still heard.
func TestMetricsAfterReload(t *testing.T) {
	m := testenv.New(t, testenv.Config{})
	s, p := hostSettings(m), hostParts(t, m)
	x := startSite(t, s, p)
	s.EST.Labels = map[string]*LabelSettings{"routers": {}}
	s.EST.Labels["routers"].defaults("CiscoRA")
	s.EST.Labels["routers"].Auth = AuthSettings{Anonymous: true, Require: "any"}
	s.EST.MaxRequests = 7
	if _, err := x.Reload(s, p); err != nil {
		t.Fatal(err)
	}
	if status, _, body := x.enroll(t, "routers/simpleenroll"); status != http.StatusOK {
		t.Fatalf("%d %s", status, body)
	}
	until(t, "the request is counted", func() bool {
		return value(x.scrape(t), "onlineca_est_requests_total", "label=routers", "outcome=ok") == 1
	})
	if v := value(x.scrape(t), "onlineca_queue_capacity"); v != 7 {
		t.Errorf("the queue takes %v, want 7", v)
	}
}

// lint holds our metrics to Prometheus's conventions.
func (x *site) lint(t *testing.T) {
	t.Helper()
	var names []string
	for name := range x.scrape(t) {
		if strings.HasPrefix(name, "onlineca_") {
			names = append(names, name)
		}
	}
	if len(names) < 18 {
		t.Errorf("%d metrics: %v", len(names), names)
	}
	problems, err := testutil.GatherAndLint(x.metrics.registry, names...)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
}

func TestMetricsOfFailOver(t *testing.T) {
	a, b := testenv.New(t, testenv.Config{}), testenv.New(t, testenv.Config{})
	s := hostSettings(a, b)
	s.Certsrv.Breaker.Failures = 2
	p := hostParts(t, a)
	var dials atomic.Int64
	p.Dial = func(ctx context.Context, network, address string) (net.Conn, error) {
		if "https://"+address == a.URL {
			dials.Add(1)
		}
		return new(net.Dialer).DialContext(ctx, network, address)
	}
	x := startSite(t, s, p)
	first, second := strings.TrimPrefix(a.URL, "https://"), strings.TrimPrefix(b.URL, "https://")
	a.Close()
	dials.Store(0)
	for range 5 {
		x.enroll(t, "simpleenroll")
	}
	if n := dials.Load(); n != 2 {
		t.Errorf("the host that is down was called %d times, want 2: with another host there is no waiting for it", n)
	}
	got := x.scrape(t)
	for _, w := range []struct {
		name   string
		labels []string
		want   float64
	}{
		{"onlineca_failovers_total", []string{"from=" + first, "to=" + second}, 5},
		{"onlineca_breaker_transitions_total", []string{"target=" + first, "to=open"}, 1},
		{"onlineca_breaker_state", []string{"target=" + first, "state=open"}, 1},
		{"onlineca_breaker_state", []string{"target=" + second, "state=closed"}, 1},
		{"onlineca_certsrv_failures_total", []string{"target=" + first, "code=connection-refused"}, 2},
		{"onlineca_certsrv_exchange_seconds", []string{"target=" + second, "step=submit", "result=ok"}, 5},
	} {
		if v := value(got, w.name, w.labels...); v != w.want {
			t.Errorf("%s%v is %v, want %v", w.name, w.labels, v, w.want)
		}
	}
}

// What a client, or certsrv, can write into an event is no label value; what
// the log does not show is counted all the same.
func TestLabelValuesAreBounded(t *testing.T) {
	m := newMetrics()
	m.knowLabels(DefaultSettings())
	core, written := observer.New(zapcore.InfoLevel)
	log := m.watch(zap.New(core, zap.IncreaseLevel(zapcore.ErrorLevel)))
	for range 3 {
		event.Emit(t.Context(), log, event.ESTRequest{Operation: "../../etc", Label: "x\n", Status: 404})
		event.Emit(t.Context(), log, event.ESTRequest{Operation: "simpleenroll", Code: "not-a-code", Status: 500})
		event.Emit(t.Context(), log, event.UpstreamFailed{Step: event.StepPage, URL: "::", Code: "nor-this"})
		event.Emit(t.Context(), log, event.Enrollment{Label: "y", State: "issued"})
		event.Emit(t.Context(), log, event.Panic{})
		event.Emit(t.Context(), log, event.ChainStale{})
		event.Emit(t.Context(), log, event.CertificateUnfit{Code: fault.LSCKeyUsage.String()})
	}
	log.Info("no event")
	if n := written.Len(); n != 3 {
		t.Errorf("the log has %d lines, want the three of level error", n)
	}
	want := `
# HELP onlineca_est_requests_total EST requests answered, challenges not counted. The outcome is ok, a fault's code, or the class of the HTTP status.
# TYPE onlineca_est_requests_total counter
onlineca_est_requests_total{label="other",operation="other",outcome="http-4xx"} 3
onlineca_est_requests_total{label="",operation="simpleenroll",outcome="unknown"} 3
# HELP onlineca_certsrv_failures_total Exchanges with certsrv that failed, by the fault's code.
# TYPE onlineca_certsrv_failures_total counter
onlineca_certsrv_failures_total{code="unknown",step="page",target="other"} 3
# HELP onlineca_enrollments_total Requests for a certificate that passed authentication and policy. The outcome is issued, pending or a fault's code.
# TYPE onlineca_enrollments_total counter
onlineca_enrollments_total{label="other",outcome="issued"} 3
# HELP onlineca_panics_total Faults of this program that were caught.
# TYPE onlineca_panics_total counter
onlineca_panics_total 3
# HELP onlineca_chain_refresh_failures_total Refreshes of the CA's chain that failed; the old one stays in use.
# TYPE onlineca_chain_refresh_failures_total counter
onlineca_chain_refresh_failures_total 3
# HELP onlineca_unfit_certificates_total Certificates issued that no phone would accept.
# TYPE onlineca_unfit_certificates_total counter
onlineca_unfit_certificates_total 3
`
	if err := testutil.GatherAndCompare(m.registry, strings.NewReader(want), "onlineca_est_requests_total", "onlineca_certsrv_failures_total",
		"onlineca_enrollments_total", "onlineca_panics_total", "onlineca_chain_refresh_failures_total", "onlineca_unfit_certificates_total"); err != nil {
		t.Error(err)
	}
}
