package diagnose

import (
	"cmp"
	"slices"
	"time"

	"github.com/onlineca/onlineca/ra/event"
	"github.com/onlineca/onlineca/ra/fault"
)

// facts is what is kept of the logs: enough to judge every enrolment, little
// enough to hold a hundred thousand of them.
type facts struct {
	streams   []*stream // what is healthy, packed
	sessions  []*session
	requests  []*request
	exchanges []*exchange
	owns      []*own
	starts    []*start
	devices   map[string]string // correlation id to device
	clocks    []*clock
}

// ref points to a line of a file. The zero ref points nowhere.
type ref struct {
	file int32
	line int32
}

// point is a moment by the clock of its log, in Unix milliseconds, and where
// it is noted.
type point struct {
	at  int64
	ref ref
}

func (p point) set() bool { return p.ref.line != 0 }

// clock is what dates the lines of one log.
type clock struct {
	log    fault.Log
	name   string // the folder
	offset int64  // what to add for UTC, in milliseconds
	dated  bool   // whether its lines have a date, or one was found
	placed bool   // whether offset was found or is known
	how    string
	// zone is the difference to UTC that the log itself names, if any.
	zone    time.Duration
	hasZone bool
	matches int
}

func (c *clock) utc(at int64) int64 { return at + c.offset }

// session is one device's session in a CAPF trace.
type session struct {
	clock  *clock
	device string
	number int
	id     string // correlation id, from our own log

	begin, called, answered, returned, last point

	rv     int // EST_ERR, -1 while there is none
	pkcs7  int
	signed bool
	// notSigned is the line "Online Cert Signing Failed".
	notSigned point

	status   *event.CAPFOperationStatus
	statusAt point
	marks    []mark
	reason   *mark // what our own log says of it, in UTC
}

// mark is a line that names a fault by itself.
type mark struct {
	codes []fault.Code
	point
	text string
}

// request is one EST request in error.log.
type request struct {
	clock  *clock
	conn   int
	client string
	first  point
	last   point

	login, page, chain point // exchanges that succeeded
	failures           []failure
	authFailed         point
	rc                 int
	rcAt               point
	status             int // HTTP, -1 for libEST's success, 0 for none seen
	statusAt           point
	body               string
	path               string
	notes              []mark
	finished           bool // its access line has come
	mixed              bool // what libEST says of it could be said of another
	claim              bool // belongs to an enrolment
}

// failure is a failed exchange with certsrv.
type failure struct {
	step event.UpstreamStep
	curl int
	text string
	url  string
	code string // ours
	err  string
	point
	to ref // the last of its lines
}

// web says which page of certsrv a request was for.
type web uint8

const (
	webOther  web = iota
	webLogin      // /certsrv
	webPage       // certrqxt.asp
	webSubmit     // POST certfnsh.asp
	webFetch      // certnew.cer
	webChain      // certnew.p7b, certcarc.asp
)

// exchange is one request to certsrv in the log of IIS.
type exchange struct {
	clock  *clock
	end    point
	took   int32 // milliseconds
	reqID  int32
	win32  uint32
	status uint16
	sub    uint16
	web    web
	user   bool
	claim  bool // belongs to an enrolment
}

func (x *exchange) start() int64 { return x.end.at - int64(x.took) }

// own is an EST request in our own log.
type own struct {
	clock    *clock
	id       string
	subject  string
	client   string
	first    point
	end      point
	took     time.Duration
	status   int
	code     string
	err      string
	reqID    int
	done     bool
	failures []failure
	steps    []ownStep
	marks    []mark
	claim    bool
}

// ownStep is an exchange with certsrv that succeeded.
type ownStep struct {
	step event.UpstreamStep
	took time.Duration
	point
}

// start is one start of the service.
type start struct {
	clock    *clock
	log      fault.Log
	first    point
	last     point
	failures []failure
	noChain  point
	chain    bool
	login    point // exchanges that succeeded
	chainAt  point
	pid      int
	began    bool // its printout has begun
	ended    bool // the chain has come, or has not
	notes    []mark
}

func merge(parts []*collector) *facts {
	f := &facts{devices: map[string]string{}}
	for _, c := range parts {
		c.finish()
		f.sessions = append(f.sessions, c.capf.sessions...)
		f.sessions = append(f.sessions, c.ownCAPF.sessions...)
		f.requests = append(f.requests, c.est.requests...)
		for _, s := range c.streams {
			f.streams = append(f.streams, s)
		}
		f.owns = append(f.owns, c.own.list...)
		f.starts = append(f.starts, c.starts.list...)
		f.starts = append(f.starts, c.own.starts.list...)
		for id, d := range c.own.devices {
			f.devices[id] = d
		}
		for _, k := range c.clocks {
			f.clocks = append(f.clocks, k)
		}
	}
	slices.SortFunc(f.clocks, func(x, y *clock) int { return cmp.Or(cmp.Compare(x.log, y.log), cmp.Compare(x.name, y.name)) })
	slices.SortFunc(f.streams, func(x, y *stream) int {
		return cmp.Or(cmp.Compare(x.clock.log, y.clock.log), cmp.Compare(x.clock.name, y.clock.name))
	})
	return f
}
