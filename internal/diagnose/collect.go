package diagnose

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"io"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/onlineca/onlineca/internal/logfmt/cucm"
	"github.com/onlineca/onlineca/internal/logfmt/iis"
	"github.com/onlineca/onlineca/internal/logfmt/libest"
	"github.com/onlineca/onlineca/internal/logfmt/nginx"
	"github.com/onlineca/onlineca/ra/event"
	"github.com/onlineca/onlineca/ra/fault"
)

// collector reads files that continue each other and keeps the facts.
type collector struct {
	file   int32
	name   string // of the file
	folder string
	clocks map[string]*clock
	// current are those of the folder that is being read.
	current map[fault.Log]*clock

	trace  cucm.Decoder
	server nginx.Decoder
	lib    libest.Decoder
	iislog iis.Decoder

	capf    capfFacts
	ownCAPF capfFacts
	est     estFacts
	starts  startFacts
	own     ownFacts
	streams map[*clock]*stream

	exchanges int
	held      *exchange // the first leg of a login

	printout bool // the last line of nginx's was of the start's printout
	unknown  int
}

func newCollector() *collector {
	c := &collector{clocks: map[string]*clock{}, current: map[fault.Log]*clock{}, streams: map[*clock]*stream{}}
	c.own.devices = map[string]string{}
	return c
}

// clock returns the clock of a log in the current folder.
func (c *collector) clock(log fault.Log) *clock {
	if k := c.current[log]; k != nil {
		return k
	}
	key := string(log) + "\x00" + c.folder
	k := c.clocks[key]
	if k == nil {
		k = &clock{log: log, name: c.folder, dated: log != logCAPF && log != logStart}
		if log == logIIS || log == logOwn {
			k.placed, k.how = true, "its times are in UTC"
		}
		c.clocks[key] = k
	}
	c.current[log] = k
	return k
}

// hashSeed is that of the sums by which files with the same contents are known.
var hashSeed = maphash.MakeSeed()

// read is the visitor of the first pass.
func (c *collector) read(_ context.Context, f *File, r io.Reader, limits Limits) error {
	if f.SameAs != "" {
		return nil
	}
	c.begin(f)
	sum := maphash.Hash{}
	sum.SetSeed(hashSeed)
	defer func() { f.sum = sum.Sum64() }()
	lr := newLineReader(io.TeeReader(r, &sum), limits.Line)
	var t tally
	for {
		b, err := lr.next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			c.end(f, lr, &t)
			return fmt.Errorf("read: %w", err)
		}
		if f.Lines++; f.Lines == 1<<31-1 {
			c.end(f, lr, &t)
			return refuse("it has more than two thousand million lines")
		}
		if lr.cut {
			f.Cut++
		}
		c.line(f.Lines, b, &t)
		if f.Lines%sweepLines == 0 {
			c.sweep()
		}
	}
	c.end(f, lr, &t)
	c.sweep()
	return nil
}

// sweepLines is after how many lines what is done with is packed.
const sweepLines = 1 << 13

// sweep packs what went well and has ended.
func (c *collector) sweep() {
	for _, f := range []*capfFacts{&c.capf, &c.ownCAPF} {
		f.sessions = slices.DeleteFunc(f.sessions, func(s *session) bool {
			if !s.finished() || !c.stream(s.clock).packSession(s) {
				return false
			}
			if f.open[s.device] == s {
				delete(f.open, s.device)
			}
			return true
		})
	}
	c.est.requests = slices.DeleteFunc(c.est.requests, func(q *request) bool {
		if !q.finished || q.failed() || len(q.notes) > 0 {
			return false
		}
		if q.counts() {
			c.stream(q.clock).packRequest(q)
		}
		return true
	})
}

// stream returns the packed facts of a clock.
func (c *collector) stream(k *clock) *stream {
	s := c.streams[k]
	if s == nil {
		s = &stream{clock: k}
		c.streams[k] = s
	}
	return s
}

func (c *collector) begin(f *File) {
	c.file, c.name, c.unknown = f.index, f.Name, 0
	if folder := path.Dir(f.Name); folder != c.folder {
		c.trace, c.folder = cucm.Decoder{}, folder
		clear(c.current)
	}
	if day, ok := dayOf(f.Name); ok && c.trace.Day.IsZero() {
		c.trace.Day = day
	}
	c.printout = false
}

// end yields what waits for lines that this file does not have.
func (c *collector) end(f *File, lr *lineReader, t *tally) {
	c.trace.Flush(c.onCAPF)
	c.server.Flush(c.onServer)
	c.lib.Flush(c.onServer)
	c.iislog.Flush(c.onIIS)
	c.release()
	f.Bytes, f.Unknown = lr.n, c.unknown
	if f.Unknown == f.Lines {
		return // what looked like a line of a log was none
	}
	f.Log = string(t.most())
	for d, n := range t {
		if l := logOf[d]; l != "" && n > 0 && string(l) != f.Log && dialect(d) != dialEST {
			f.Also = append(f.Also, string(l))
		}
	}
}

// line gives a line to the decoder that it looks like.
func (c *collector) line(n int, b []byte, t *tally) {
	d := dialectOf(b)
	t.count(d)
	if c.lib.Open() && (d == other || d == dialIIS && b[0] != '#') {
		d = dialEST
	}
	switch d {
	case dialCAPF:
		c.trace.At(n)
		c.trace.Line(b, c.onCAPF)
	case dialStart, dialError:
		c.printout = d == dialStart
		c.server.At(n)
		c.server.Line(b, c.onServer)
	case dialEST:
		c.lib.At(n)
		c.lib.Line(b, c.onServer)
	case dialIIS:
		c.iislog.At(n)
		c.iislog.Line(b, c.onIIS)
	case dialOwn:
		c.onOwn(n, b)
	default:
		c.unknown++
	}
}

func (c *collector) at(r event.Record) point {
	return point{r.Time.UnixMilli(), ref{c.file, int32(r.First)}}
}

func (c *collector) onCAPF(r event.Record) {
	if _, bad := r.Event.(event.UnknownLine); bad {
		c.unknown++
		return
	}
	c.capf.on(c.clock(logCAPF), c.at(r), r.Event, "")
}

// onServer takes what nginx and libEST say, in error.log and at the start.
func (c *collector) onServer(r event.Record) {
	p := c.at(r)
	if r.Time.IsZero() {
		p.at = 0
	}
	switch e := r.Event.(type) {
	case event.UnknownLine:
		c.unknown++
		return
	case event.ESTVersion, event.ESTCurve, event.ESTNoSRP, event.RAValueMissing, event.RAPoPDisabled, event.RAStarted:
		c.starts.on(c.clock(logStart), p, c.last(r), e)
		return
	case event.RATrustAnchor:
		if r.Conn.Number == 0 {
			c.starts.on(c.clock(logStart), p, c.last(r), e)
			return
		}
	}
	switch {
	case c.printout:
		c.starts.on(c.clock(logStart), p, c.last(r), r.Event)
	case r.Conn.Number == 0 && !r.Time.IsZero():
		c.starts.on(c.clock(logError), p, c.last(r), r.Event)
	default:
		c.est.on(c.clock(logError), p, c.last(r), r)
	}
}

func (c *collector) last(r event.Record) ref { return ref{c.file, int32(r.Last)} }

func (c *collector) finish() {
	c.est.finish()
	c.own.finish()
}

// dayOf finds a date in the name of a file: capf_2019-01-16.txt, 20190116.
func dayOf(name string) (time.Time, bool) {
	for _, part := range []string{path.Base(name), path.Base(path.Dir(name))} {
		for i := range part {
			for _, layout := range [...]string{"2006-01-02", "2006_01_02", "20060102"} {
				if i+len(layout) > len(part) || i > 0 && isDigit(part[i-1]) {
					continue
				}
				if end := i + len(layout); end < len(part) && isDigit(part[end]) {
					continue
				}
				if day, err := time.Parse(layout, part[i:i+len(layout)]); err == nil && day.Year() > 1990 && day.Year() < 2100 {
					return day, true
				}
			}
		}
	}
	return time.Time{}, false
}

func isDigit(c byte) bool { return c >= '0' && c <= '9' }

// onIIS takes a request to certsrv.
func (c *collector) onIIS(r event.Record) {
	switch e := r.Event.(type) {
	case event.UnknownLine:
		c.unknown++
	case event.WebRequest:
		if x, ok := newExchange(e); ok {
			x.end = c.at(r)
			c.exchange(x)
		}
	}
}

// manyExchanges is after how many requests to certsrv a login that succeeds is
// no longer kept: of long logs the logins are the largest part, and say least.
const manyExchanges = 1 << 18

// exchange keeps a request to certsrv.
func (c *collector) exchange(x *exchange) {
	c.exchanges++
	if c.exchanges > manyExchanges && x.web == webLogin {
		switch {
		case x.win32 == winNoCredentials:
			c.release()
			c.held = x
			return
		case x.status < 400 && c.held != nil:
			c.held = nil
			return
		}
	}
	c.stream(c.clock(logIIS)).packExchange(x)
}

// release keeps a login that was begun and not finished right after.
func (c *collector) release() {
	if c.held != nil {
		c.stream(c.clock(logIIS)).packExchange(c.held)
		c.held = nil
	}
}

// newExchange keeps a request if it is one to certsrv.
func newExchange(e event.WebRequest) (*exchange, bool) {
	stem := strings.ToLower(e.Stem)
	if !strings.HasPrefix(stem, "/certsrv") {
		return nil, false
	}
	x := &exchange{
		took: int32(min(e.TimeTaken.Milliseconds(), 1<<30)), win32: e.Win32,
		status: uint16(e.Status), sub: uint16(e.Substatus), user: e.User != "",
	}
	switch page := strings.TrimPrefix(strings.TrimPrefix(stem, "/certsrv"), "/"); page {
	case "", "default.asp":
		x.web = webLogin
	case "certrqxt.asp":
		x.web = webPage
	case "certfnsh.asp":
		x.web = webSubmit
	case "certnew.cer":
		x.web, x.reqID = webFetch, reqIDOf(e.Query)
	case "certnew.p7b", "certcarc.asp":
		x.web = webChain
	}
	return x, true
}

// reqIDOf reads ReqID=10 out of a query, 0 for none.
func reqIDOf(query string) int32 {
	for part := range strings.SplitSeq(query, "&") {
		if k, v, ok := strings.Cut(part, "="); ok && strings.EqualFold(k, "ReqID") {
			n := int32(0)
			for i := range len(v) {
				if !isDigit(v[i]) || n > 1<<27 {
					return 0
				}
				n = n*10 + int32(v[i]-'0')
			}
			return n
		}
	}
	return 0
}
