package estserver_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/globalsign/est"

	"github.com/onlineca/onlineca/estserver"
	"github.com/onlineca/onlineca/ra"
)

// ready is the library's certificate authority with a certificate ready.
type ready struct {
	est.CA
	cert *x509.Certificate
}

func (r ready) Enroll(context.Context, *x509.CertificateRequest, string, *http.Request) (*x509.Certificate, error) {
	return r.cert, nil
}

// post sends one enrolment to a handler.
func post(h http.Handler, body string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(http.MethodPost, "/.well-known/est/simpleenroll", strings.NewReader(body))
	r.Header.Set("Content-Type", "application/pkcs10")
	r.Header.Set("Content-Transfer-Encoding", "base64")
	r.TLS = new(tls.ConnectionState)
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

// An enrolment answers with the bytes that the bare library answers with, apart
// from the length of lines, and makes no more for the collector to remove.
func TestAnEnrolmentCostsNoMoreThanTheBareLibrary(t *testing.T) {
	a := newAuthority(t, "Test")
	key := newKey(t)
	cert := a.leaf(t, "SEP001122334455", key, nil)
	body := base64.StdEncoding.EncodeToString(simpleCSR(t))
	bare, err := est.NewRouter(&est.ServerConfig{CA: ready{cert: cert}})
	if err != nil {
		t.Fatal(err)
	}
	srv, err := estserver.New(estserver.Config{
		Enroller: ra.EnrollerFunc(func(context.Context, ra.Request) (ra.Result, error) {
			return ra.Result{State: ra.Issued, ReqID: 7, Certificate: cert}, nil
		}),
		Chain:   a,
		Default: estserver.Label{Template: "CiscoRA", Auth: estserver.Auth{Anonymous: true}},
	})
	if err != nil {
		t.Fatal(err)
	}
	answers, allocs := map[string][]byte{}, map[string]float64{}
	for name, h := range map[string]http.Handler{"bare": bare, "ours": srv.Handler()} {
		w := post(h, body)
		if w.Code != http.StatusOK {
			t.Fatalf("%s: %d %s", name, w.Code, w.Body)
		}
		answers[name] = bytes.Join(bytes.Fields(w.Body.Bytes()), nil)
		allocs[name] = testing.AllocsPerRun(100, func() { post(h, body) })
	}
	t.Log(allocs)
	if !bytes.Equal(answers["bare"], answers["ours"]) {
		t.Errorf("the library answers %s, ours %s", answers["bare"], answers["ours"])
	}
	if allocs["ours"] > allocs["bare"] {
		t.Errorf("%v allocations, the bare library makes %v", allocs["ours"], allocs["bare"])
	}
}
