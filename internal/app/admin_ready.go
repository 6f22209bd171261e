package app

import (
	"context"
	"crypto/x509"
	"fmt"
	"strings"
	"time"

	"github.com/onlineca/onlineca/ra"
)

// Readiness says whether enrolments can succeed now, and what is wrong if not.
type Readiness struct {
	Ready  bool    `json:"ready"`
	Checks []Check `json:"checks"`
}

// Check is one thing that was looked at. One certsrv host of several may be out
// of order while the service as a whole is ready.
type Check struct {
	Name string `json:"name"`
	OK   bool   `json:"ok"`
	Text string `json:"text"`
}

// String is one line for each check, after one that says it all.
func (r Readiness) String() string {
	var b strings.Builder
	if r.Ready {
		b.WriteString("ready\n")
	} else {
		b.WriteString("not ready\n")
	}
	for _, c := range r.Checks {
		verdict := "ok    "
		if !c.OK {
			verdict = "FAILED"
		}
		fmt.Fprintf(&b, "%s  %s: %s\n", verdict, c.Name, c.Text)
	}
	return b.String()
}

// Readiness looks at what is known. Nobody is asked but the store.
func (r *RA) Readiness(now time.Time) Readiness {
	is := Readiness{Ready: true}
	need := func(c Check) {
		is.Checks = append(is.Checks, c)
		is.Ready = is.Ready && c.OK
	}
	if r.draining.Load() {
		need(Check{"shutdown", false, "the server is being shut down; what has been submitted is finished"})
	}
	chain, err := r.chain.CACerts(context.Background())
	need(checkChain(chain, err, now))
	if cert := r.certificate.Load(); cert != nil {
		need(checkCertificate("est-server", cert, now))
	}
	one := false
	for _, t := range r.upstreams.Targets() {
		c := checkTarget(t.Status(), r.loginPause, now)
		is.Checks = append(is.Checks, c)
		one = one || c.OK
	}
	is.Ready = is.Ready && one
	need(checkQueue(r.load.Status()))
	if r.records != nil {
		ctx, cancel := context.WithTimeout(context.Background(), storePatience)
		defer cancel()
		need(checkStore(r.records.store.Ping(ctx)))
	}
	return is
}

// storePatience bounds the question to the store.
const storePatience = 2 * time.Second

func checkStore(err error) Check {
	if err != nil {
		return Check{"store", false, err.Error()}
	}
	return Check{"store", true, "it can be written to"}
}

func checkChain(chain []*x509.Certificate, err error, now time.Time) Check {
	if err != nil || len(chain) == 0 {
		return Check{"chain", false, fmt.Sprintf("the CA's chain is not there: %v", err)}
	}
	first := chain[0]
	for _, cert := range chain[1:] {
		if cert.NotAfter.Before(first.NotAfter) {
			first = cert
		}
	}
	c := checkCertificate("chain", first, now)
	c.Text = fmt.Sprintf("%d certificates; %s", len(chain), c.Text)
	return c
}

func checkCertificate(name string, cert *x509.Certificate, now time.Time) Check {
	until := cert.NotAfter.UTC().Format(time.RFC3339)
	who := cert.Subject.CommonName
	if who == "" {
		who = cert.Subject.String()
	}
	switch {
	case now.After(cert.NotAfter):
		return Check{name, false, fmt.Sprintf("%s expired on %s", who, until)}
	case now.Before(cert.NotBefore):
		return Check{name, false, fmt.Sprintf("%s is valid from %s only; is the clock right?", who, cert.NotBefore.UTC().Format(time.RFC3339))}
	}
	return Check{name, true, fmt.Sprintf("%s expires on %s", who, until)}
}

// checkTarget judges a host by the requests so far. A refused login counts for
// as long as none is tried again; after that nobody knows better.
func checkTarget(s ra.TargetStatus, loginPause time.Duration, now time.Time) Check {
	c := Check{Name: "certsrv " + s.Name, OK: true}
	b := s.Breaker
	switch {
	case b.State == ra.BreakerOpen:
		c.OK = false
		c.Text = fmt.Sprintf("breaker open until %s after %d failures in a row; the last: %v", b.Until.UTC().Format(time.RFC3339), b.Failures, b.Cause)
	case s.Refused != nil && now.Before(s.Since.Add(loginPause)):
		c.OK = false
		c.Text = fmt.Sprintf("login refused at %s: %v", s.Since.UTC().Format(time.RFC3339), s.Refused)
	case b.State == ra.BreakerHalfOpen:
		c.Text = fmt.Sprintf("breaker half-open: the next request is a trial; the last failure: %v", b.Cause)
	case b.Cause != nil:
		c.Text = fmt.Sprintf("breaker closed, %d failures in a row; the last: %v", b.Failures, b.Cause)
	case s.Success.IsZero():
		c.Text = "breaker closed; not asked yet"
	default:
		c.Text = fmt.Sprintf("breaker closed; last login and answer good at %s", s.Success.UTC().Format(time.RFC3339))
	}
	return c
}

func checkQueue(l ra.LoadStatus) Check {
	return Check{
		Name: "queue", OK: l.Waiting < l.Capacity || l.Capacity == 0,
		Text: fmt.Sprintf("%d enrolments with certsrv, %d of at most %d wait", l.Running, l.Waiting, l.Capacity),
	}
}
