package testenv

import (
	"net"
	"slices"
	"sync"
	"time"

	"github.com/onlineca/onlineca/ra/event"
)

// Request is one HTTP request that the mock was sent, and what became of it.
type Request struct {
	Time time.Time `json:"time"`
	// Conn numbers the TCP connections from 1.
	Conn      int    `json:"conn"`
	Method    string `json:"method"`
	Path      string `json:"path"`
	Query     string `json:"query,omitempty"`
	UserAgent string `json:"user_agent,omitempty"`
	Referer   string `json:"referer,omitempty"`
	// User is who asked, DOMAIN\user; empty for a leg of a login.
	User string `json:"user,omitempty"`
	// Step is the request's place in an enrolment.
	Step Step `json:"step"`
	// Status, Substatus and Win32 are what the IIS log shows.
	Status    int    `json:"status"`
	Substatus int    `json:"substatus"`
	Win32     uint32 `json:"win32"`
	// Login says that this request completed an NTLM login. Bound and MIC say
	// that the login was bound to the TLS channel, and carried an integrity
	// code; both were verified.
	Login bool `json:"login,omitempty"`
	Bound bool `json:"bound,omitempty"`
	MIC   bool `json:"mic,omitempty"`
	// BodyLength is how many bytes of body came with the request.
	BodyLength int `json:"body_length,omitempty"`
	// ReqID is the number of the certificate request that it was about.
	ReqID int `json:"req_id,omitempty"`
	// Fault is the name of the fault that was in its way.
	Fault string `json:"fault,omitempty"`
}

// requestLog keeps what was asked; the oldest half goes when it is full.
type requestLog struct {
	mu    sync.Mutex
	list  []Request
	begun map[Step]int
}

// maxRequests bounds the memory of a mock that runs for long.
const maxRequests = 200_000

func (l *requestLog) add(r Request) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.list) >= maxRequests {
		l.list = slices.Delete(l.list, 0, maxRequests/2)
	}
	l.list = append(l.list, r)
}

func (l *requestLog) begin(step Step) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.begun == nil {
		l.begun = map[Step]int{}
	}
	l.begun[step]++
}

// Begun is how many requests have arrived at a step, those included that have
// no answer yet and are not among [Certsrv.Requests].
func (s *Certsrv) Begun(step Step) int {
	s.log.mu.Lock()
	defer s.log.mu.Unlock()
	return s.log.begun[step]
}

// Requests lists what was asked so far, in the order in which it was answered.
func (s *Certsrv) Requests() []Request {
	s.log.mu.Lock()
	defer s.log.mu.Unlock()
	return slices.Clone(s.log.list)
}

// ResetRequests forgets what was asked so far; [Certsrv.Begun] counts on.
func (s *Certsrv) ResetRequests() {
	s.log.mu.Lock()
	defer s.log.mu.Unlock()
	s.log.list = nil
}

// record notes the end of an exchange, in the list and in the log.
func (s *Certsrv) record(x *exchange, a answer) {
	now := s.conf.Clock()
	r := Request{
		Time: now, Conn: x.conn.id, Method: x.r.Method, Path: x.r.URL.Path, Query: x.r.URL.RawQuery,
		UserAgent: x.r.UserAgent(), Referer: x.r.Referer(), User: x.user, Step: x.step,
		Status: a.status, Substatus: a.substatus, Win32: a.win32,
		Login: x.loggedIn, Bound: x.bound, MIC: x.mic, BodyLength: len(x.body), ReqID: x.reqID,
	}
	if x.fault != nil {
		r.Fault = x.fault.Name
	}
	s.log.add(r)
	e := event.WebRequest{
		Time: now.UTC(), Method: r.Method, Stem: r.Path, Query: r.Query, User: r.User,
		UserAgent: r.UserAgent, Referer: r.Referer, Status: r.Status, Substatus: r.Substatus,
		Win32: r.Win32, TimeTaken: now.Sub(x.start),
	}
	e.ServerIP, e.Port = split(x.conn.net.LocalAddr())
	e.ClientIP, _ = split(x.conn.net.RemoteAddr())
	event.Emit(x.r.Context(), s.conf.Log, e)
}

func split(a net.Addr) (ip string, port int) {
	if t, ok := a.(*net.TCPAddr); ok {
		return t.IP.String(), t.Port
	}
	return a.String(), 0
}
