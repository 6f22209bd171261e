package estserver

import (
	"net/http"
	"strings"
)

// operation is one of EST's (RFC 7030 section 3.2.2).
type operation struct {
	name    string
	methods []string
	enrols  bool // the client must be known, and sends a certificate request
}

var (
	getHead = []string{http.MethodGet, http.MethodHead}
	post    = []string{http.MethodPost}
)

const (
	opCACerts      = "cacerts"
	opCSRAttrs     = "csrattrs"
	opEnroll       = "simpleenroll"
	opReenroll     = "simplereenroll"
	opServerKeygen = "serverkeygen"
	opFullCMC      = "fullcmc"
)

var operations = map[string]operation{
	opCACerts:      {name: opCACerts, methods: getHead},
	opCSRAttrs:     {name: opCSRAttrs, methods: getHead},
	opEnroll:       {name: opEnroll, methods: post, enrols: true},
	opReenroll:     {name: opReenroll, methods: post, enrols: true},
	opServerKeygen: {name: opServerKeygen, methods: post, enrols: true},
	opFullCMC:      {name: opFullCMC, methods: post},
}

const prefix = "/.well-known/est/"

// parsePath splits the path of a request, as it stood on the wire, into label
// and operation. Escapes are not understood: neither needs any.
func parsePath(escaped string) (label string, op operation, ok bool) {
	rest, ok := strings.CutPrefix(escaped, prefix)
	if !ok {
		return "", operation{}, false
	}
	if before, after, labelled := strings.Cut(rest, "/"); labelled {
		label, rest = before, after
		if !labelPattern.MatchString(label) {
			return "", operation{}, false
		}
	}
	op, ok = operations[rest]
	return label, op, ok
}
