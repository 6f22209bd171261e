package testenv

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"time"
)

// maxControlBody bounds what the control API reads.
const maxControlBody = 64 << 10

// ControlHandler drives the mock over HTTP, so that tests in any language can.
// Serve it on a port of its own, on loopback: whoever reaches it may have any
// certificate issued. Bodies are JSON objects with the content type
// application/json (which keeps web pages from calling it) of at most 64 KiB;
// an unknown member is an error. Errors are {"error": "…"} with status 4xx.
//
//	GET    /control/          this list, as text
//	POST   /control/approve   {"req_id": 7}                  issue a pending request
//	POST   /control/deny      {"req_id": 7}                  deny it
//	POST   /control/revoke    {"req_id": 7}                  revoke an issued certificate
//	POST   /control/faults    {"fault": "hang@submit*2"}     inject; the text form of InjectText
//	GET    /control/faults    {"known": [FaultDoc…], "waiting": ["hang@submit*2"…]}
//	DELETE /control/faults                                   forget what waits
//	POST   /control/restart   {"down": "500ms"}              break all connections
//	POST   /control/renew     {}                             renew the CA's certificate
//	POST   /control/unlock    {}                             unlock every account
//	GET    /control/requests  [Request…]
//	DELETE /control/requests                                 forget them
//	GET    /control/issued    [ControlCertificate…]
//	GET    /control/counts    {"handshakes": 8, "challenges": 8, "failed_logons": 0,
//	                           "submissions": 320, "connections": 8, "open_connections": 0}
//	GET    /control/root      the root's certificate, application/x-pem-file
//
// What returns nothing answers 204.
func (s *Certsrv) ControlHandler() http.Handler {
	mux := http.NewServeMux()
	list := "The control API of the mock. Send bodies as application/json (curl --json).\n\n"
	for _, c := range s.controls() {
		mux.HandleFunc(c.method+" /control/"+c.path, c.handler)
		list += fmt.Sprintf("%-6s /control/%-9s %-26s %s\n", c.method, c.path, c.body, c.effect)
	}
	mux.HandleFunc("GET /control/{$}", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		_, _ = io.WriteString(w, list)
	})
	return mux
}

// aControl is one thing that the control API does.
type aControl struct {
	method, path, body, effect string
	handler                    http.HandlerFunc
}

func (s *Certsrv) controls() []aControl {
	return []aControl{
		{"POST", "approve", `{"req_id": 7}`, "issue a pending request", s.onRequest(s.Approve)},
		{"POST", "deny", `{"req_id": 7}`, "deny a pending request", s.onRequest(s.Deny)},
		{"POST", "revoke", `{"req_id": 7}`, "revoke an issued certificate", s.onRequest(s.Revoke)},
		{"POST", "faults", `{"fault": "hang@submit*2"}`, "inject a fault", s.controlInject},
		{"GET", "faults", "", "faults that are known, and those that wait", s.controlFaults},
		{"DELETE", "faults", "", "forget those that wait", act(s.ClearFaults)},
		{"POST", "restart", `{"down": "500ms"}`, "break all connections", s.controlRestart},
		{"POST", "renew", "{}", "renew the CA's certificate", s.controlRenew},
		{"POST", "unlock", "{}", "unlock every account", s.controlUnlock},
		{"GET", "requests", "", "requests over HTTP", s.controlRequests},
		{"DELETE", "requests", "", "forget them", act(s.ResetRequests)},
		{"GET", "issued", "", "certificates issued", s.controlIssued},
		{"GET", "counts", "", "logins, submissions and connections", s.controlCounts},
		{"GET", "root", "", "the root's certificate", s.controlRoot},
	}
}

// ControlCertificate is an issued certificate as /control/issued lists it.
type ControlCertificate struct {
	ReqID     int       `json:"req_id"`
	Template  string    `json:"template"`
	Requester string    `json:"requester"`
	Subject   string    `json:"subject"`
	Serial    string    `json:"serial"` // hexadecimal
	NotAfter  time.Time `json:"not_after"`
	DER       []byte    `json:"der"` // base64
}

func (s *Certsrv) onRequest(do func(id int) error) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		var in struct {
			ReqID int `json:"req_id"`
		}
		if !readJSON(w, r, &in) {
			return
		}
		done(w, do(in.ReqID))
	}
}

func (s *Certsrv) controlInject(w http.ResponseWriter, r *http.Request) {
	var in struct {
		Fault string `json:"fault"`
	}
	if readJSON(w, r, &in) {
		done(w, s.InjectText(in.Fault))
	}
}

func (s *Certsrv) controlFaults(w http.ResponseWriter, _ *http.Request) {
	writeJSON(w, http.StatusOK, map[string]any{"known": Faults(), "waiting": s.Waiting()})
}

func (s *Certsrv) controlRestart(w http.ResponseWriter, r *http.Request) {
	var in struct {
		Down string `json:"down"`
	}
	if !readJSON(w, r, &in) {
		return
	}
	down, err := time.ParseDuration(or(in.Down, "0s"))
	if err == nil && (down < 0 || down > time.Hour) {
		err = fmt.Errorf("down is %v; give 0s to 1h", down)
	}
	if err == nil {
		s.Restart(down)
	}
	done(w, err)
}

func (s *Certsrv) controlUnlock(w http.ResponseWriter, r *http.Request) {
	if readJSON(w, r, &struct{}{}) {
		s.Unlock()
		done(w, nil)
	}
}

func (s *Certsrv) controlRenew(w http.ResponseWriter, r *http.Request) {
	if readJSON(w, r, &struct{}{}) {
		_, err := s.RenewCA()
		done(w, err)
	}
}

func (s *Certsrv) controlRequests(w http.ResponseWriter, _ *http.Request) {
	list := s.Requests()
	if list == nil {
		list = []Request{}
	}
	writeJSON(w, http.StatusOK, list)
}

func (s *Certsrv) controlIssued(w http.ResponseWriter, _ *http.Request) {
	out := []ControlCertificate{}
	for _, r := range s.Issued() {
		out = append(out, ControlCertificate{
			ReqID: r.ReqID, Template: r.Template, Requester: r.Requester, Subject: r.Certificate.Subject.String(),
			Serial: fmt.Sprintf("%x", r.Certificate.SerialNumber), NotAfter: r.Certificate.NotAfter, DER: r.Certificate.Raw,
		})
	}
	writeJSON(w, http.StatusOK, out)
}

func (s *Certsrv) controlCounts(w http.ResponseWriter, _ *http.Request) {
	total, open := s.Connections()
	writeJSON(w, http.StatusOK, map[string]int{
		"handshakes": s.Handshakes(), "challenges": s.Challenges(), "failed_logons": s.FailedLogons(),
		"submissions": s.Submissions(), "connections": total, "open_connections": open,
	})
}

func (s *Certsrv) controlRoot(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/x-pem-file")
	_, _ = w.Write(s.RootPEM())
}

// act is a handler without input or output.
func act(do func()) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		do()
		w.WriteHeader(http.StatusNoContent)
	}
}

// readJSON reads the one JSON object of a body. It answers for itself if there
// is none.
func readJSON(w http.ResponseWriter, r *http.Request, into any) bool {
	if t, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type")); t != "application/json" {
		writeError(w, http.StatusUnsupportedMediaType, fmt.Errorf("content type %q; send application/json", t))
		return false
	}
	b, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxControlBody))
	if err != nil {
		writeError(w, http.StatusRequestEntityTooLarge, err)
		return false
	}
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	switch err = d.Decode(into); {
	case errors.Is(err, io.EOF):
		err = errors.New("the body is empty; send a JSON object, such as {}")
	case err == nil && d.More():
		err = errors.New("more than one JSON value")
	}
	if err != nil {
		writeError(w, http.StatusBadRequest, err)
		return false
	}
	return true
}

// done answers for something that returns nothing.
func done(w http.ResponseWriter, err error) {
	switch {
	case errors.Is(err, errNoRequest):
		writeError(w, http.StatusNotFound, err)
	case err != nil:
		writeError(w, http.StatusUnprocessableEntity, err)
	default:
		w.WriteHeader(http.StatusNoContent)
	}
}

func writeError(w http.ResponseWriter, status int, err error) {
	writeJSON(w, status, map[string]string{"error": err.Error()})
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v) // the client may be gone
}
