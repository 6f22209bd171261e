package diagnose_test

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/onlineca/onlineca/internal/logfmt/cucm"
	"github.com/onlineca/onlineca/internal/logfmt/iis"
	"github.com/onlineca/onlineca/internal/logfmt/libest"
	"github.com/onlineca/onlineca/internal/logfmt/nginx"
	"github.com/onlineca/onlineca/ra/event"
	"github.com/onlineca/onlineca/ra/fault"
)

// world writes the logs that the product's chain would write: one CAPF, one
// registration authority, one web server, each with a clock of its own.
type world struct {
	rand *rand.Rand
	// zone is that of CUCM's clocks, skew* how far each is ahead.
	zone                         time.Duration
	skewCAPF, skewError, skewIIS time.Duration
	lines                        []stamped
	conn, reqID, number          int
}

// stamped are the lines of one event in one log.
type stamped struct {
	at   time.Time
	log  string
	text []byte
}

const (
	capfLog  = "capf00000001.txt"
	errorLog = "error.log"
	iisLog   = "u_ex190116.log"
	stdLog   = "nginx00000001.txt"
)

func newWorld(seed uint64) *world {
	return &world{
		rand: rand.New(rand.NewPCG(seed, 1)), zone: -5 * time.Hour,
		skewCAPF: 2 * time.Second, skewError: 2 * time.Second, skewIIS: -4 * time.Second,
	}
}

func (w *world) local(t time.Time, skew time.Duration) time.Time {
	return t.Add(skew).In(time.FixedZone("", int(w.zone.Seconds())))
}

func (w *world) capf(t time.Time, events ...event.Event) {
	for _, e := range events {
		text, _ := cucm.Encode(nil, w.local(t, w.skewCAPF), e)
		w.lines = append(w.lines, stamped{t, capfLog, text})
	}
}

func (w *world) errorLog(t time.Time, c event.Conn, events ...event.Event) {
	at := w.local(t, w.skewError)
	for _, e := range events {
		text, ok := nginx.Encode(nil, at, e, c, 3187)
		if !ok {
			text, _ = libest.Encode(nil, at, e)
		}
		w.lines = append(w.lines, stamped{t, errorLog, text})
	}
}

func (w *world) web(t time.Time, e event.WebRequest) {
	e.Time = t.Add(w.skewIIS)
	e.ServerIP, e.Port, e.ClientIP, e.UserAgent = "14.48.31.152", 443, "14.48.31.125", "CiscoRA 1.0"
	e.Method = cmp.Or(e.Method, "GET")
	text, _ := iis.Encode(nil, t, e)
	w.lines = append(w.lines, stamped{t, iisLog, text})
}

func (w *world) start(events ...event.Event) {
	for _, e := range events {
		text, ok := nginx.EncodeStart(nil, e)
		if !ok {
			text, _ = libest.Encode(nil, time.Time{}, e)
		}
		w.lines = append(w.lines, stamped{time.Time{}, stdLog, text})
	}
}

const user = `MICHAMEN\ciscora`

// login is a login to certsrv as IIS sees it, at t.
func (w *world) login(t time.Time) {
	w.web(t, event.WebRequest{Stem: "/certsrv", Status: 401, Substatus: 1, Win32: 2148074254})
	w.web(t, event.WebRequest{Stem: "/certsrv", Status: 301, User: user})
}

// ending is how an enrolment ends. It has 10 seconds.
type ending struct {
	rv    int
	after time.Duration // until CAPF has its answer
	est   func(w *world, t time.Time, c event.Conn)
	web   func(w *world, t time.Time)
}

// enrol lets a phone enrol at t and returns its name.
func (w *world) enrol(t time.Time, end ending) string {
	w.number++
	device := fmt.Sprintf("SEP%012X", w.number)
	s := event.Session{Number: w.number, Device: device}
	csr := "/tmp/capf/csr/" + device + ".csr"
	w.capf(t, event.CAPFStep{Session: s, Step: event.StepOnlineCAMode}, event.CAPFEnrollCalled{Session: s, CSRFile: csr})
	w.conn++
	c := event.Conn{Number: w.conn, Client: "14.48.31.125", Server: "0.0.0.0:8084"}
	if end.est != nil {
		end.est(w, t.Add(20*time.Millisecond), c)
	}
	if end.web != nil {
		end.web(w, t.Add(30*time.Millisecond))
	}
	at := t.Add(end.after)
	w.capf(at, event.CAPFEnrolled{Session: s, RV: end.rv, Name: fault.ESTName(end.rv), PKCS7Length: 1963 * max(0, 1-end.rv)})
	if end.rv == 0 {
		w.capf(at, event.CAPFEnrollReturned{Session: s}, event.CAPFStep{Session: s, Step: event.StepSigned})
		w.capf(at.Add(50*time.Millisecond), event.CAPFOperationStatus{
			Device: device, Operation: "OPERATION_UPGRADE", Text: "Success:CAPF_OP_SUCCESS", DBStatus: "CERT_STATUS_UPGRADE_SUCCESS", DBNumber: 3,
		})
		return device
	}
	w.capf(at, event.CAPFStep{Session: s, Step: event.StepEnrollFailed}, event.CAPFEnrollReturned{Session: s, RV: end.rv}, event.CAPFStep{Session: s, Step: event.StepNotSigned})
	return device
}

// good is an enrolment as in the vendor's document: two logins, seven
// requests.
func (w *world) good() ending {
	took := time.Duration(300+w.rand.IntN(900)) * time.Millisecond
	return ending{
		after: took,
		est: func(w *world, t time.Time, c event.Conn) {
			w.authenticated(t, c)
			w.errorLog(t.Add(took), event.Conn{}, w.access(t, -1)...)
		},
		web: func(w *world, t time.Time) {
			w.login(t)
			w.web(t.Add(took/4), event.WebRequest{Stem: "/certsrv/certrqxt.asp", Status: 200, User: user, TimeTaken: took / 4})
			w.login(t.Add(took / 4))
			w.submit(t.Add(took*3/4), took/2)
			w.fetch(t.Add(took * 3 / 4))
		},
	}
}

func (w *world) submit(t time.Time, took time.Duration) {
	w.web(t, event.WebRequest{Method: "POST", Stem: "/certsrv/certfnsh.asp", Status: 200, User: user, TimeTaken: took})
}

func (w *world) fetch(t time.Time) {
	w.reqID++
	w.web(t, event.WebRequest{Stem: "/certsrv/certnew.cer", Query: fmt.Sprintf("ReqID=%d&ENC=b64", w.reqID), Status: 200, User: user})
}

const host = "https://lab-dc.michamen.com:443"

// authenticated is the login with the client's credentials, in error.log.
func (w *world) authenticated(t time.Time, c event.Conn) {
	w.errorLog(t, c, event.ESTNoPeerCertificate{}, event.UpstreamData{Length: 163},
		event.UpstreamDone{Step: event.StepLogin, URL: host + "/certsrv"}, event.UpstreamData{Length: 11771},
		event.UpstreamDone{Step: event.StepPage, URL: host + "/certsrv/certrqxt.asp"})
}

// access is what ends a request in error.log. Its time is the connection's
// birth.
func (w *world) access(born time.Time, status int) []event.Event {
	return []event.Event{
		event.ESTAccess{Client: "14.48.31.125", Time: born.Add(w.skewError), Method: "POST", Path: "/.well-known/est/simpleenroll", Proto: "HTTP/1.1", Status: status},
		event.ESTReferer{Referer: "-"}, event.ESTUserAgent{UserAgent: "Cisco EST client 1.0"},
	}
}

// refused is what libEST says of a client whose credentials it does not accept,
// if the status is 401, and of any other request that fails.
func (w *world) refused(born time.Time, after time.Duration, rc, status int) {
	if status == 401 {
		w.errorLog(born.Add(after), event.Conn{}, event.ESTAuthFailed{AuthType: 1})
	}
	w.failed(born, after, rc, status)
}

// failed is what libEST says of every request that it answers with an error.
func (w *world) failed(born time.Time, after time.Duration, rc, status int) {
	t := born.Add(after)
	name := fault.ESTName(rc)
	w.errorLog(t, event.Conn{}, event.ESTEnrollFailed{RC: rc, Name: name},
		event.ESTHTTPError{Status: status, Body: fmt.Sprintf("Error %d: x\nThe server said so.\n", status)},
		event.ESTResponse{RC: rc, Name: name}, event.ESTRequestFailed{RV: rc, Name: name})
	w.errorLog(t, event.Conn{}, w.access(born, status)...)
}

// upstream is an exchange with certsrv that failed for libcurl.
func (w *world) upstream(t time.Time, c event.Conn, step event.UpstreamStep, curl int, text string) {
	w.errorLog(t, c, event.UpstreamFailed{Step: step, URL: host + "/certsrv", Curl: curl, Text: text})
}

// sorted is the text of each log.
func (w *world) sorted() map[string][]byte {
	slices.SortStableFunc(w.lines, func(a, b stamped) int { return a.at.Compare(b.at) })
	logs := map[string][]byte{}
	for _, l := range w.lines {
		logs[l.log] = append(logs[l.log], l.text...)
	}
	return logs
}

// write writes the logs into a folder, without those named.
func (w *world) write(tb testing.TB, dir string, without ...string) {
	tb.Helper()
	for name, b := range w.sorted() {
		if slices.Contains(without, name) {
			continue
		}
		if err := os.WriteFile(filepath.Join(dir, name), b, 0o600); err != nil {
			tb.Fatal(err)
		}
	}
}

// endings are the ways in which an enrolment fails, by the fault that it is.
func endings() map[fault.Code]ending {
	const timeout = 10 * time.Second
	timedOut := "Operation timed out after 10000 milliseconds with 0 bytes received"
	noLogin := func(w *world, t time.Time, c event.Conn) { w.errorLog(t, c, event.ESTNoPeerCertificate{}) }
	way := func(curl int, text string) ending {
		return ending{rv: 35, after: timeout, est: func(w *world, t time.Time, c event.Conn) {
			noLogin(w, t, c)
			w.upstream(t.Add(time.Second), c, event.StepLogin, curl, text)
			w.refused(t, time.Second, 25, 502)
		}}
	}
	slow := func(web func(w *world, t time.Time)) ending {
		return ending{rv: 35, after: timeout + 38*time.Millisecond, web: web, est: func(w *world, t time.Time, c event.Conn) {
			w.authenticated(t, c)
			w.refused(t, timeout, 25, 504)
		}}
	}
	all := map[fault.Code]ending{
		fault.DNS:               way(6, "Could not resolve: lab-dcc.michamen.com (Domain name not found)"),
		fault.ConnectionRefused: way(7, "Failed to connect to lab-dc.michamen.com: Connection refused"),
		fault.NameMismatch:      way(51, "SSL: certificate subject name 'lab-dc' does not match target host name 'lab-dc.michamen.com'"),
		fault.NotYetValid:       way(60, "SSL certificate problem: certificate is not yet valid"),
		fault.Expired:           way(60, "SSL certificate problem: certificate has expired"),
		fault.EnrollTimeout: slow(func(w *world, t time.Time) {
			w.login(t)
			w.submit(t.Add(15*time.Second), 15*time.Second-100*time.Millisecond)
		}),
		fault.FetchTimeout: slow(func(w *world, t time.Time) {
			w.login(t)
			w.submit(t.Add(100*time.Millisecond), 100*time.Millisecond)
			w.reqID++
			w.web(t.Add(12*time.Second), event.WebRequest{
				Stem: "/certsrv/certnew.cer", Query: fmt.Sprintf("ReqID=%d&ENC=b64", w.reqID), Status: 200, User: user, TimeTaken: 11 * time.Second,
			})
		}),
	}
	all[fault.ESTReadTimeout] = ending{rv: 35, after: timeout + 38*time.Millisecond, web: func(w *world, t time.Time) {
		w.login(t)
		w.submit(t.Add(12*time.Second), 12*time.Second-100*time.Millisecond)
		w.fetch(t.Add(12 * time.Second))
	}, est: func(w *world, t time.Time, c event.Conn) {
		w.authenticated(t, c)
		w.errorLog(t.Add(12*time.Second), event.Conn{}, w.access(t, -1)...)
	}}
	all[fault.LoginTimeout] = ending{rv: 35, after: timeout, est: func(w *world, t time.Time, c event.Conn) {
		noLogin(w, t, c)
		w.upstream(t.Add(timeout), c, event.StepLogin, 28, timedOut)
		w.refused(t, timeout, 25, 504)
	}, web: func(w *world, t time.Time) {
		w.web(t, event.WebRequest{Stem: "/certsrv", Status: 401, Substatus: 1, Win32: 2148074254})
	}}
	all[fault.Template] = ending{rv: 22, after: 300 * time.Millisecond, est: func(w *world, t time.Time, c event.Conn) {
		w.authenticated(t, c)
		w.refused(t, 200*time.Millisecond, 22, 401)
	}, web: func(w *world, t time.Time) {
		w.login(t)
		w.web(t.Add(100*time.Millisecond), event.WebRequest{Stem: "/certsrv/certrqxt.asp", Status: 200, User: user})
	}}
	denied := func(win32 uint32) ending {
		return ending{rv: 22, after: 300 * time.Millisecond, est: func(w *world, t time.Time, c event.Conn) {
			noLogin(w, t, c)
			w.errorLog(t, c, event.UpstreamFailed{Step: event.StepLogin})
			w.refused(t, 200*time.Millisecond, 22, 401)
		}, web: func(w *world, t time.Time) {
			w.web(t, event.WebRequest{Stem: "/certsrv", Status: 401, Substatus: 1, Win32: 2148074254})
			w.web(t, event.WebRequest{Stem: "/certsrv", Status: 401, Substatus: 1, Win32: win32})
		}}
	}
	all[fault.BadCredentials] = denied(2148074252)
	all[fault.EPARequired] = denied(2148074310)
	all[fault.ESTUnreachable] = ending{rv: 43, after: time.Second}
	all[fault.ESTHTTPWriteFault] = ending{rv: 10, after: 9 * time.Second}
	return all
}

// openEndings are those that the product's logs, all of them, do not tell from
// another.
func openEndings() map[fault.Code]ending {
	waits := func(submitted, fetched time.Duration) ending {
		return ending{rv: 26, after: 4 * time.Second, est: func(w *world, t time.Time, c event.Conn) {
			w.authenticated(t, c)
			w.errorLog(t.Add(4*time.Second), event.Conn{}, w.access(t, 202)...)
		}, web: func(w *world, t time.Time) {
			w.login(t)
			if submitted > 0 {
				w.submit(t.Add(submitted), submitted-50*time.Millisecond)
			}
			if fetched > 0 {
				w.fetch(t.Add(fetched))
			}
		}}
	}
	return map[fault.Code]ending{
		fault.LoginSuspended: {rv: 22, after: 100 * time.Millisecond, est: func(w *world, t time.Time, _ event.Conn) {
			w.errorLog(t, event.Conn{}, event.ESTNoPeerCertificate{})
			w.refused(t, 20*time.Millisecond, 22, 401)
		}},
		fault.ClientCertificate: {rv: 22, after: 100 * time.Millisecond, est: func(w *world, t time.Time, _ event.Conn) {
			w.failed(t, 20*time.Millisecond, 22, 401)
		}},
		fault.Pending:    waits(200*time.Millisecond, 0),
		fault.InProgress: waits(6*time.Second, 6*time.Second),
		fault.Busy:       waits(0, 0),
	}
}
