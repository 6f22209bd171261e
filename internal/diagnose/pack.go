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
	prev   int64
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

// add begins a fact that happened at a time.
func (s *stream) add(kind byte, at int64, put func(*packer)) {
	n := len(s.chunks)
	if n == 0 || cap(s.chunks[n-1])-len(s.chunks[n-1]) < maxPacked {
		s.chunks = append(s.chunks, make([]byte, 0, chunkSize))
		n++
		s.prev = 0
	}
	p := packer{append(s.chunks[n-1], kind)}
	p.ints(at - s.prev)
	put(&p)
	s.chunks[n-1], s.prev = p.b, at
}

// packSession packs a session that went well, and reports whether it could.
func (s *stream) packSession(t *session) bool {
	if len(t.device)+len(t.id) > 128 || t.answered.ref.file != t.called.ref.file || t.statusAt.ref.file != t.called.ref.file {
		return false
	}
	s.add(packedSession, t.called.at, func(p *packer) {
		p.ints(t.answered.at-t.called.at, t.statusAt.at-t.called.at, int64(t.number), int64(t.pkcs7), int64(t.called.ref.file), int64(t.called.ref.line),
			int64(t.answered.ref.line-t.called.ref.line), int64(t.statusAt.ref.line-t.called.ref.line))
		p.text(t.device)
		p.text(t.id)
	})
	return true
}

// packRequest packs a request that went well.
func (s *stream) packRequest(q *request) {
	line := int64(q.first.ref.line)
	s.add(packedRequest, q.first.at, func(p *packer) {
		p.ints(q.last.at-q.first.at, int64(q.conn), int64(q.status), int64(q.first.ref.file), line, int64(q.last.ref.line)-line,
			int64(q.statusAt.ref.line), q.login.at, int64(q.login.ref.line), q.page.at, int64(q.page.ref.line))
	})
}

// packExchange packs any request to certsrv.
func (s *stream) packExchange(x *exchange) {
	user := int64(0)
	if x.user {
		user = 1
	}
	s.add(packedExchange, x.end.at, func(p *packer) {
		p.ints(int64(x.took), int64(x.reqID), int64(x.win32), int64(x.status)<<8|int64(x.sub&0xff), int64(x.web)<<1|user, int64(x.end.ref.file), int64(x.end.ref.line))
	})
}

// cursor reads a stream from its beginning.
type cursor struct {
	s     *stream
	chunk int
	b     []byte
	prev  int64
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
		c.b, c.prev = c.s.chunks[c.chunk], 0
		c.chunk++
	}
	kind := c.b[0]
	c.b = c.b[1:]
	at := c.prev + c.int()
	c.prev = at
	switch kind {
	case packedSession:
		return c.session(at)
	case packedRequest:
		return c.request(at)
	default:
		return c.exchange(at)
	}
}

func (c *cursor) session(at int64) *session {
	t := &session{clock: c.s.clock, signed: true}
	answered, status := at+c.int(), at+c.int()
	t.number, t.pkcs7 = int(c.int()), int(c.int())
	file, line := int32(c.int()), int32(c.int())
	t.called = point{at, ref{file, line}}
	t.answered = point{answered, ref{file, line + int32(c.int())}}
	t.statusAt = point{status, ref{file, line + int32(c.int())}}
	t.begin, t.last = t.called, t.statusAt
	t.device, t.id = c.text(), c.text()
	t.status = healthyStatus
	return t
}

// healthyStatus is the status of every session that was packed.
var healthyStatus = &event.CAPFOperationStatus{Text: "Success:CAPF_OP_SUCCESS"}

func (c *cursor) request(at int64) *request {
	q := &request{clock: c.s.clock}
	last := at + c.int()
	q.conn, q.status = int(c.int()), int(c.int())
	file, line := int32(c.int()), int32(c.int())
	q.first, q.last = point{at, ref{file, line}}, point{last, ref{file, line + int32(c.int())}}
	q.statusAt = point{last, ref{file, int32(c.int())}}
	q.login = point{c.int(), ref{file, int32(c.int())}}
	q.page = point{c.int(), ref{file, int32(c.int())}}
	return q
}

func (c *cursor) exchange(at int64) *exchange {
	x := &exchange{clock: c.s.clock}
	x.took, x.reqID, x.win32 = int32(c.int()), int32(c.int()), uint32(c.int())
	status := c.int()
	x.status, x.sub = uint16(status>>8), uint16(status&0xff)
	flags := c.int()
	x.web, x.user = web(flags>>1), flags&1 == 1
	x.end = point{at, ref{int32(c.int()), int32(c.int())}}
	return x
}
