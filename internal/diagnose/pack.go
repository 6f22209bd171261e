package diagnose

import (
	"encoding/binary"

	"github.com/onlineca/onlineca/ra/event"
)

// stream holds what is kept of the healthy part of one log, in the order in
// which it was read, in a few bytes each: most lines of most logs are of
// enrolments that went well, and those need to be counted and to be told from
// the others, no more. It is unpacked slice by slice when the logs are joined.
type stream struct {
	clock  *clock
	chunks [][]byte
	prev   int64 // time and line of the last fact
	line   int64
}

// chunkSize is how many bytes are allocated at once.
const chunkSize = 64 << 10

// maxPacked is how long a packed fact can be.
const maxPacked = 512

// The kinds of packed facts.
const (
	packedSession byte = iota
	packedRequest
	packedExchange
)

// packer appends one fact to a stream.
type packer struct{ b []byte }

func (p *packer) ints(all ...int64) {
	for _, n := range all {
		p.b = binary.AppendVarint(p.b, n)
	}
}

func (p *packer) text(s string) {
	p.b = binary.AppendUvarint(p.b, uint64(len(s)))
	p.b = append(p.b, s...)
}

// add begins a fact that happened at a time and is noted in a line.
func (s *stream) add(kind byte, at int64, where ref, put func(*packer)) {
	n := len(s.chunks)
	if n == 0 || cap(s.chunks[n-1])-len(s.chunks[n-1]) < maxPacked {
		s.chunks = append(s.chunks, make([]byte, 0, chunkSize))
		n++
		s.prev, s.line = 0, 0
	}
	p := packer{append(s.chunks[n-1], kind)}
	p.ints(at-s.prev, int64(where.file), int64(where.line)-s.line)
	put(&p)
	s.chunks[n-1], s.prev, s.line = p.b, at, int64(where.line)
}

// packSession packs a session that went well, and reports whether it could.
func (s *stream) packSession(t *session) bool {
	if len(t.device)+len(t.id) > 128 || t.answered.ref.file != t.called.ref.file || t.statusAt.ref.file != t.called.ref.file {
		return false
	}
	s.add(packedSession, t.called.at, t.called.ref, func(p *packer) {
		p.ints(t.answered.at-t.called.at, t.statusAt.at-t.called.at, int64(t.number), int64(t.pkcs7),
			int64(t.answered.ref.line-t.called.ref.line), int64(t.statusAt.ref.line-t.called.ref.line))
		p.text(t.device)
		p.text(t.id)
	})
	return true
}

// packRequest packs a request that went well.
func (s *stream) packRequest(q *request) {
	line := int64(q.first.ref.line)
	s.add(packedRequest, q.first.at, q.first.ref, func(p *packer) {
		p.ints(q.last.at-q.first.at, int64(q.conn), int64(q.status), int64(q.last.ref.line)-line,
			int64(q.statusAt.ref.line)-line)
		for _, done := range []point{q.login, q.page} {
			if done.set() {
				p.ints(1, int64(done.ref.line)-line, done.at-q.first.at)
			} else {
				p.ints(0)
			}
		}
	})
}

// packExchange packs any request to certsrv.
func (s *stream) packExchange(x *exchange) {
	user := int64(0)
	if x.user {
		user = 1
	}
	win32 := int64(x.win32)
	if x.win32 == winNoCredentials {
		win32 = -1 // the most frequent one by far
	}
	s.add(packedExchange, x.end.at, x.end.ref, func(p *packer) {
		p.ints(int64(x.took), int64(x.reqID), win32, int64(x.status)<<8|int64(x.sub&0xff), int64(x.web)<<1|user)
	})
}

// cursor reads a stream from its beginning.
type cursor struct {
	s     *stream
	chunk int
	b     []byte
	prev  int64
	line  int64
}

func (c *cursor) int() int64 {
	v, n := binary.Varint(c.b)
	c.b = c.b[n:]
	return v
}

func (c *cursor) text() string {
	n, k := binary.Uvarint(c.b)
	s := string(c.b[k : k+int(n)])
	c.b = c.b[k+int(n):]
	return s
}

// next returns the next fact, a *session, *request or *exchange, and nil after
// the last.
func (c *cursor) next() any {
	for len(c.b) == 0 {
		if c.chunk == len(c.s.chunks) {
			return nil
		}
		c.b, c.prev, c.line = c.s.chunks[c.chunk], 0, 0
		c.chunk++
	}
	kind := c.b[0]
	c.b = c.b[1:]
	at := c.prev + c.int()
	file := int32(c.int())
	c.line += c.int()
	c.prev = at
	p := point{at, ref{file, int32(c.line)}}
	switch kind {
	case packedSession:
		return c.session(p)
	case packedRequest:
		return c.request(p)
	default:
		return c.exchange(p)
	}
}

func (c *cursor) session(p point) *session {
	t := &session{clock: c.s.clock, signed: true, called: p}
	answered, status := p.at+c.int(), p.at+c.int()
	t.number, t.pkcs7 = int(c.int()), int(c.int())
	t.answered = point{answered, ref{p.ref.file, p.ref.line + int32(c.int())}}
	t.statusAt = point{status, ref{p.ref.file, p.ref.line + int32(c.int())}}
	t.begin, t.last = t.called, t.statusAt
	t.device, t.id = c.text(), c.text()
	t.status = healthyStatus
	return t
}

// healthyStatus is the status of every session that was packed.
var healthyStatus = &event.CAPFOperationStatus{Text: "Success:CAPF_OP_SUCCESS"}

func (c *cursor) request(p point) *request {
	q := &request{clock: c.s.clock, first: p}
	last := p.at + c.int()
	q.conn, q.status = int(c.int()), int(c.int())
	at := func(line int64) ref { return ref{p.ref.file, p.ref.line + int32(line)} }
	q.last = point{last, at(c.int())}
	q.statusAt = point{last, at(c.int())}
	for _, done := range []*point{&q.login, &q.page} {
		if c.int() == 1 {
			ref := at(c.int())
			*done = point{p.at + c.int(), ref}
		}
	}
	return q
}

func (c *cursor) exchange(p point) *exchange {
	x := &exchange{clock: c.s.clock, end: p}
	x.took, x.reqID = int32(c.int()), int32(c.int())
	if win32 := c.int(); win32 < 0 {
		x.win32 = winNoCredentials
	} else {
		x.win32 = uint32(win32)
	}
	status := c.int()
	x.status, x.sub = uint16(status>>8), uint16(status&0xff)
	flags := c.int()
	x.web, x.user = web(flags>>1), flags&1 == 1
	return x
}
