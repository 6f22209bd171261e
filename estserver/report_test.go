package estserver_test

import (
	"context"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"math/big"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/onlineca/onlineca/estserver"
	"github.com/onlineca/onlineca/ra"
	"github.com/onlineca/onlineca/ra/event"
	"github.com/onlineca/onlineca/ra/fault"
)

// authenticators as the product has them: they ask certsrv on the way.
type asking struct {
	log *zap.Logger
	err error
}

func (a asking) Authenticate(ctx context.Context, _ ra.Credentials) error {
	event.Emit(ctx, a.log, event.UpstreamData{Length: 163})
	return a.err
}

// watched starts a server whose events are kept.
func watched(t *testing.T, err error) (*bench, *observer.ObservedLogs) {
	t.Helper()
	core, logs := observer.New(zap.InfoLevel)
	log := zap.New(core)
	b := start(t, func(c *estserver.Config) {
		c.Logger = log
		c.Default.Auth.Basic = asking{log, err}
	})
	return b, logs
}

// eventually returns the events reported, once the last of them is there: a
// request is reported after its answer went out.
func eventually(t *testing.T, logs *observer.ObservedLogs, last string) []event.Event {
	t.Helper()
	deadline := time.After(10 * time.Second)
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for {
		var got []event.Event
		for _, e := range logs.All() {
			if ev, _, ok := event.Of(e.Context); ok {
				got = append(got, ev)
			}
		}
		if n := len(got); n > 0 && got[n-1].Kind() == last {
			return got
		}
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("%s was not reported; what was: %v", last, got)
		}
	}
}

var ignoreTimes = cmp.Options{
	cmpopts.IgnoreFields(event.ESTAccess{}, "Time"),
	cmpopts.IgnoreFields(event.ESTRequest{}, "Duration", "Error"),
}

// A template that is not offered: the lines and their order are those of the
// vendor's document.
func TestRefusalIsReportedAsLibESTDoes(t *testing.T) {
	b, logs := watched(t, fault.New(fault.Template, "certsrv: look for template CiscoRa", nil))
	raw := b.raw(t, rawPost(enrollPath, basicHeader, b64(simpleCSR(t))))
	if !strings.Contains(raw, "401 Unauthorized") || !strings.Contains(raw, "template is not offered") {
		t.Fatal(raw)
	}
	want := []event.Event{
		event.ESTNoPeerCertificate{},
		event.RATrustAnchor{Store: event.StoreNginx, Subject: "/O=Not To Be Trusted/CN=EST Test Root"},
		event.UpstreamData{Length: 163},
		event.ESTAuthFailed{AuthType: 1},
		event.ESTEnrollFailed{RC: 22, Name: "EST_ERR_AUTH_FAIL"},
		event.ESTHTTPError{Status: 401, Body: "Error 401: Unauthorized\nThe server was unable to authorize the request.\n"},
		event.ESTResponse{RC: 22, Name: "EST_ERR_AUTH_FAIL"},
		event.ESTRequestFailed{RV: 22, Name: "EST_ERR_AUTH_FAIL"},
		event.ESTAccess{Client: "127.0.0.1", Method: "POST", Path: enrollPath, Proto: "HTTP/1.1", Status: 401},
		event.ESTReferer{Referer: "-"},
		event.ESTUserAgent{UserAgent: "Cisco EST client 1.0"},
		event.ESTShutdownFailed{},
		event.ESTRequest{Operation: "simpleenroll", Client: "127.0.0.1", Status: 401, Code: "template"},
	}
	if diff := cmp.Diff(want, eventually(t, logs, "est-request"), ignoreTimes); diff != "" {
		t.Error(diff)
	}
	for _, e := range logs.All() {
		_, conn, _ := event.Of(e.Context)
		if (conn != event.Conn{Number: 1, Client: "127.0.0.1", Server: b.addr}) {
			t.Errorf("%s: connection %+v", e.Message, conn)
		}
	}
}

// A success says less. The challenge before it is no failure.
func TestSuccessIsReportedAsLibESTDoes(t *testing.T) {
	b, logs := watched(t, nil)
	text := b64(simpleCSR(t))
	b.raw(t, rawPost(enrollPath, "", text))
	eventually(t, logs, "est-user-agent")
	b.raw(t, rawPost(enrollPath, basicHeader, text))
	want := []event.Event{
		event.ESTNoPeerCertificate{},
		event.ESTAccess{Client: "127.0.0.1", Method: "POST", Path: enrollPath, Proto: "HTTP/1.1", Status: 401},
		event.ESTReferer{Referer: "-"},
		event.ESTUserAgent{UserAgent: "Cisco EST client 1.0"},
		event.ESTNoPeerCertificate{},
		event.RATrustAnchor{Store: event.StoreNginx, Subject: "/O=Not To Be Trusted/CN=EST Test Root"},
		event.UpstreamData{Length: 163},
		event.ESTAccess{Client: "127.0.0.1", Method: "POST", Path: enrollPath, Proto: "HTTP/1.1", Status: -1},
		event.ESTReferer{Referer: "-"},
		event.ESTUserAgent{UserAgent: "Cisco EST client 1.0"},
		event.ESTRequest{Operation: "simpleenroll", Client: "127.0.0.1", User: "ciscora", Subject: "CN=SEP001122334455", Status: 200, ReqID: 102, Serial: "66"},
	}
	got := eventually(t, logs, "est-request")
	if diff := cmp.Diff(want, got, ignoreTimes); diff != "" {
		t.Error(diff)
	}
	if n := logs.FilterLevelExact(zap.WarnLevel).Len(); n != 0 {
		t.Errorf("%d warnings", n)
	}
	for _, e := range logs.All() {
		if strings.Contains(e.Message, "S3cret") {
			t.Error("the password is in the log")
		}
	}
}

// The lines of a start, in the order of the vendor's document.
func TestStart(t *testing.T) {
	core, logs := observer.New(zap.DebugLevel)
	log := zap.New(core)
	ca := newAuthority(t, "x")
	s, err := estserver.New(estserver.Config{Enroller: ca, Chain: ca, Logger: log, Default: estserver.Label{Auth: estserver.Auth{Basic: testUsers}}})
	if err != nil {
		t.Fatal(err)
	}
	key := newKey(t)
	name := func(pairs ...string) *x509.Certificate {
		var rdns pkix.RDNSequence
		oids := map[string]asn1.ObjectIdentifier{
			"DC": {0, 9, 2342, 19200300, 100, 1, 25}, "CN": {2, 5, 4, 3}, "C": {2, 5, 4, 6}, "O": {2, 5, 4, 10},
			"OU": {2, 5, 4, 11}, "ST": {2, 5, 4, 8}, "L": {2, 5, 4, 7}, "?": {1, 2, 3, 4},
		}
		for i := 0; i < len(pairs); i += 2 {
			rdns = append(rdns, []pkix.AttributeTypeAndValue{{Type: oids[pairs[i]], Value: pairs[i+1]}})
		}
		raw, err := asn1.Marshal(rdns)
		if err != nil {
			t.Fatal(err)
		}
		tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), RawSubject: raw}
		return makeCert(t, tmpl, tmpl, &key.PublicKey, key)
	}
	estserver.LogStarting(t.Context(), log)
	s.LogStarted(t.Context(), []*x509.Certificate{
		name("C", "US", "O", "cisco", "OU", "tac", "CN", "CAPF-eb606ac0", "ST", "nc", "L", "rtp"),
		name("DC", "com", "DC", "michamen", "CN", "lab-ca.michamen.com", "?", "x"),
	})
	anchors := []string{"/C=US/O=cisco/OU=tac/CN=CAPF-eb606ac0/ST=nc/L=rtp", "/DC=com/DC=michamen/CN=lab-ca.michamen.com/1.2.3.4=x"}
	want := []event.Event{
		event.RAValueMissing{What: "CA Chain"}, event.RAValueMissing{What: "CA Cert response"},
		event.RATrustAnchor{Store: event.StoreNginx, Subject: anchors[0]}, event.RATrustAnchor{Store: event.StoreNginx, Subject: anchors[1]},
		event.ESTVersion{Version: "libest 2.2.0 (API level 4)", Compiled: "CiscoSSL 1.0.2n.6.2.194-fips", Linked: "CiscoSSL 1.0.2n.6.2.194-fips"},
		event.RATrustAnchor{Store: event.StoreEST, Subject: anchors[0]}, event.RATrustAnchor{Store: event.StoreEST, Subject: anchors[1]},
		event.RAPoPDisabled{}, event.ESTCurve{NID: 415}, event.ESTNoSRP{}, event.RAStarted{},
	}
	if diff := cmp.Diff(want, eventually(t, logs, "ra-started"), cmpopts.IgnoreFields(event.RAStarted{}, "PID")); diff != "" {
		t.Error(diff)
	}
}
