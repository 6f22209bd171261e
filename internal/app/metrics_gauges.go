package app

import (
	"context"
	"crypto/x509"
	"fmt"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/onlineca/onlineca/ra"
)

// gauges asks the running service for what has a state, at each scrape.
type gauges struct{ ra *RA }

func describe(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc(name, help, labels, nil)
}

var (
	sessionsDesc   = describe("onlineca_certsrv_sessions", "Authenticated connections to certsrv, idle or lent to a request.", "target", "state")
	handshakesDesc = describe("onlineca_certsrv_handshakes_total", "Logins to certsrv with the service's own account that succeeded.", "target")
	rejectedDesc   = describe("onlineca_certsrv_logins_refused_total", "Logins to certsrv with the service's own account that were refused.", "target")
	sentDesc       = describe("onlineca_certsrv_requests_total", "Requests sent to certsrv on sessions of the service's own account.", "target")
	breakerDesc    = describe("onlineca_breaker_state", "1 for the state that the target's breaker is in: closed, open or half-open.", "target", "state")
	runningDesc    = describe("onlineca_queue_running", "Enrolments that are with certsrv.")
	waitingDesc    = describe("onlineca_queue_waiting", "Enrolments that wait for their turn.")
	capacityDesc   = describe("onlineca_queue_capacity", "Enrolments that may wait; est.max_requests.")
	refusedDesc    = describe("onlineca_queue_refused_total", "Enrolments that found the queue full and were told to come back.")
	notAfterDesc   = describe("onlineca_certificate_not_after_seconds", "When a certificate expires, in seconds since 1970: est-server, ca-issuing, ca-intermediate-N, ca-root.", "certificate")
	recordsDesc    = describe("onlineca_requests", "Requests in the store by state.", "state")
	readyDesc      = describe("onlineca_ready", "Whether /readyz says yes.")
)

// Describe implements prometheus.Collector.
func (g gauges) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{
		sessionsDesc, handshakesDesc, rejectedDesc, sentDesc, breakerDesc, runningDesc, waitingDesc,
		capacityDesc, refusedDesc, notAfterDesc, recordsDesc, readyDesc,
	} {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (g gauges) Collect(ch chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	counter := func(d *prometheus.Desc, v int64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(v), labels...)
	}
	for i, t := range g.ra.upstreams.Targets() {
		s := g.ra.upstreams.clients[i].Stats()
		gauge(sessionsDesc, float64(s.Idle), t.Name(), "idle")
		gauge(sessionsDesc, float64(s.Open-s.Idle), t.Name(), "busy")
		counter(handshakesDesc, s.Handshakes, t.Name())
		counter(rejectedDesc, s.Rejected, t.Name())
		counter(sentDesc, s.Requests, t.Name())
		current := t.Status().Breaker.State
		for _, state := range ra.BreakerStates() {
			gauge(breakerDesc, truth(state == current), t.Name(), string(state))
		}
	}
	load := g.ra.load.Status()
	gauge(runningDesc, float64(load.Running))
	gauge(waitingDesc, float64(load.Waiting))
	gauge(capacityDesc, float64(load.Capacity))
	counter(refusedDesc, load.Refused)
	for name, cert := range g.ra.certificates() {
		gauge(notAfterDesc, float64(cert.NotAfter.Unix()), name)
	}
	g.records(func(state string, n int) { gauge(recordsDesc, float64(n), state) })
	gauge(readyDesc, truth(g.ra.Readiness(time.Now()).Ready))
}

// countTimeout bounds the question to the store.
const countTimeout = 5 * time.Second

// records counts the requests of the store, if there is one. A store that does
// not answer has no numbers: they are left out rather than guessed.
func (g gauges) records(note func(state string, n int)) {
	if g.ra.count == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), countTimeout)
	defer cancel()
	counts, err := g.ra.count(ctx)
	if err != nil {
		return
	}
	for state, n := range counts {
		note(state, n)
	}
}

func truth(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

// certificates are those whose expiry somebody should watch, by what they are.
func (r *RA) certificates() map[string]*x509.Certificate {
	all := map[string]*x509.Certificate{}
	if cert := r.certificate.Load(); cert != nil {
		all["est-server"] = cert
	}
	chain, err := r.chain.CACerts(context.Background())
	if err != nil {
		return all
	}
	for i, c := range chain {
		switch i {
		case 0:
			all["ca-issuing"] = c
		case len(chain) - 1:
			all["ca-root"] = c
		default:
			all[fmt.Sprintf("ca-intermediate-%d", i)] = c
		}
	}
	return all
}
