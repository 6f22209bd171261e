package estserver

import (
	"context"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"fmt"
	"os"
	"strings"

	"go.uber.org/zap"

	"github.com/onlineca/onlineca/ra/event"
)

// The product's own versions, which stand in its log at every start.
const (
	productVersion = "libest 2.2.0 (API level 4)"
	productSSL     = "CiscoSSL 1.0.2n.6.2.194-fips"
	nidP256        = 415 // OpenSSL's number of prime256v1
)

// LogStarting reports what the product says before it fetches the CA's chain.
func LogStarting(ctx context.Context, log *zap.Logger) {
	event.Emit(ctx, log, event.RAValueMissing{What: "CA Chain"})
	event.Emit(ctx, log, event.RAValueMissing{What: "CA Cert response"})
}

// LogStarted reports what the product says once it has the chain: the trust
// anchors of both of its stores, the EST library's version and settings, and
// that it is ready. anchors are the certificates that clients and certsrv are
// verified with.
func (s *Server) LogStarted(ctx context.Context, anchors []*x509.Certificate) {
	cfg := s.current.Load().cfg
	log := cfg.Logger
	announce := func(store event.Store) {
		for _, c := range anchors {
			event.Emit(ctx, log, event.RATrustAnchor{Store: store, Subject: oneLine(c)})
		}
	}
	announce(event.StoreNginx)
	event.Emit(ctx, log, event.ESTVersion{Version: productVersion, Compiled: productSSL, Linked: productSSL})
	announce(event.StoreEST)
	if cfg.Default.PoP == PoPOff {
		event.Emit(ctx, log, event.RAPoPDisabled{})
	}
	event.Emit(ctx, log, event.ESTCurve{NID: nidP256})
	event.Emit(ctx, log, event.ESTNoSRP{})
	event.Emit(ctx, log, event.RAStarted{PID: os.Getpid()})
}

// attributeNames are OpenSSL's short names of the attributes in subjects.
var attributeNames = map[string]string{
	"2.5.4.3": "CN", "2.5.4.4": "SN", "2.5.4.5": "serialNumber", "2.5.4.6": "C",
	"2.5.4.7": "L", "2.5.4.8": "ST", "2.5.4.9": "street", "2.5.4.10": "O",
	"2.5.4.11": "OU", "2.5.4.12": "title", "2.5.4.17": "postalCode", "2.5.4.42": "GN",
	"1.2.840.113549.1.9.1":       "emailAddress",
	"0.9.2342.19200300.100.1.1":  "UID",
	"0.9.2342.19200300.100.1.25": "DC",
}

// oneLine writes a certificate's subject in OpenSSL's one-line form, in the
// order of its encoding: /DC=com/DC=example/CN=Example CA.
func oneLine(c *x509.Certificate) string {
	var rdns pkix.RDNSequence
	if _, err := asn1.Unmarshal(c.RawSubject, &rdns); err != nil {
		return "/" + c.Subject.String()
	}
	var b strings.Builder
	for _, rdn := range rdns {
		for _, a := range rdn {
			oid := a.Type.String()
			name, known := attributeNames[oid]
			if !known {
				name = oid
			}
			fmt.Fprintf(&b, "/%s=%v", name, a.Value)
		}
	}
	return b.String()
}
