package wire

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strings"
)

const (
	// Magic is the first byte of every frame. seen, product.
	Magic = 0x55
	// HeaderLen is the length of a frame in front of its body.
	HeaderLen = 8
	// MaxMessage is the longest message that every phone can read: some
	// clients take a message with a single read of 4096 bytes. seen.
	MaxMessage = 4095
	// MaxBody is the longest body that is read. The length field could say
	// 65535; the longest honest message seen has 2562.
	MaxBody = 16 << 10

	elementHeader = 3
)

// Errors of encoding and decoding.
var (
	// ErrFormat says that bytes are not a CAPF message.
	ErrFormat = errors.New("malformed CAPF message")
	// ErrTooLong says that a message is longer than the other side can read.
	ErrTooLong = errors.New("CAPF message is too long")
)

// Message is one frame with its elements.
type Message struct {
	Command Command
	// Session is the id that the server chose for the session, and that the
	// phone echoes.
	Session uint32
	// Elements are written in this order. After decoding they hold the
	// elements with a known tag.
	Elements []Element
	// Unknown holds the elements of a decoded message whose tag has no name.
	// They are not written.
	Unknown []Element
}

// String names the command, the session, and each element with its length.
// Values are left out: one of them may be a password.
func (m Message) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%v session %d", m.Command, m.Session)
	for _, e := range m.Elements {
		fmt.Fprintf(&b, " %v[%d]", e.Tag, len(e.Value))
	}
	for _, e := range m.Unknown {
		fmt.Fprintf(&b, " %v[%d]", e.Tag, len(e.Value))
	}
	return b.String()
}

// Encode returns the message's bytes. A message longer than [MaxMessage] is an
// error that wraps [ErrTooLong].
func (m Message) Encode() ([]byte, error) { return m.encode(MaxMessage) }

// EncodeLong is [Message.Encode] for a message that cannot be made shorter, a
// long certificate for example: it allows a body of up to [MaxBody] bytes.
// Phones that read a message at one go will not understand it.
func (m Message) EncodeLong() ([]byte, error) { return m.encode(HeaderLen + MaxBody) }

func (m Message) encode(limit int) ([]byte, error) {
	n := HeaderLen
	for _, e := range m.Elements {
		n += elementHeader + len(e.Value)
	}
	if n > limit {
		return nil, fmt.Errorf("%w: %v has %d bytes, at most %d can be sent", ErrTooLong, m.Command, n, limit)
	}
	b := make([]byte, 0, n)
	b = append(b, Magic, byte(m.Command))
	b = binary.BigEndian.AppendUint32(b, m.Session)
	b = binary.BigEndian.AppendUint16(b, uint16(n-HeaderLen))
	for _, e := range m.Elements {
		b = append(b, byte(e.Tag))
		b = binary.BigEndian.AppendUint16(b, uint16(len(e.Value)))
		b = append(b, e.Value...)
	}
	return b, nil
}

// Write encodes m and sends it with one call of w.Write: phones stall when a
// message is split between two TLS records (seen).
func Write(w io.Writer, m Message) error {
	b, err := m.Encode()
	if err != nil {
		return err
	}
	_, err = w.Write(b)
	return err
}

// header is a frame's first eight bytes.
type header struct {
	command Command
	session uint32
	length  int
}

func parseHeader(b *[HeaderLen]byte) (header, error) {
	if b[0] != Magic {
		return header{}, fmt.Errorf("%w: it begins with 0x%02x, not 0x%02x", ErrFormat, b[0], Magic)
	}
	h := header{Command(b[1]), binary.BigEndian.Uint32(b[2:6]), int(binary.BigEndian.Uint16(b[6:8]))}
	if h.length > MaxBody {
		return header{}, fmt.Errorf("%w: %v announces a body of %d bytes, at most %d are read", ErrFormat, h.command, h.length, MaxBody)
	}
	return h, nil
}

// Read reads one message. It allocates nothing for the body before the length
// has been checked, and then no more than has arrived, rounded up.
//
// The error is io.EOF if r ended between two messages,
// io.ErrUnexpectedEOF if it ended inside one, and wraps [ErrFormat] if the
// bytes are no message; any other error is r's own.
func Read(r io.Reader) (Message, error) {
	var b [HeaderLen]byte
	if _, err := io.ReadFull(r, b[:]); err != nil {
		return Message{}, err
	}
	h, err := parseHeader(&b)
	if err != nil {
		return Message{}, err
	}
	body, err := readBody(r, h.length)
	if err != nil {
		return Message{}, err
	}
	return decodeBody(h, body)
}

// readBody reads n bytes in steps, so that an announced length alone costs
// at most a kilobyte.
func readBody(r io.Reader, n int) ([]byte, error) {
	const step = 1 << 10
	body := make([]byte, 0, min(n, step))
	for len(body) < n {
		have := len(body)
		want := min(n-have, max(step, have))
		body = append(body, make([]byte, want)...)
		if _, err := io.ReadFull(r, body[have:]); err != nil {
			if errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF
			}
			return nil, err
		}
	}
	return body, nil
}

// Decode reads the one message that b holds. The message's values share b's
// memory. The error wraps [ErrFormat].
func Decode(b []byte) (Message, error) {
	if len(b) < HeaderLen {
		return Message{}, fmt.Errorf("%w: %d bytes are no frame", ErrFormat, len(b))
	}
	h, err := parseHeader((*[HeaderLen]byte)(b))
	if err != nil {
		return Message{}, err
	}
	if got := len(b) - HeaderLen; got != h.length {
		return Message{}, fmt.Errorf("%w: %v announces a body of %d bytes, %d follow", ErrFormat, h.command, h.length, got)
	}
	return decodeBody(h, b[HeaderLen:])
}

func decodeBody(h header, body []byte) (Message, error) {
	m := Message{Command: h.command, Session: h.session}
	var seen [256]bool
	for len(body) > 0 {
		if len(body) < elementHeader {
			return Message{}, fmt.Errorf("%w: %v ends inside an element's header", ErrFormat, h.command)
		}
		tag, n := Tag(body[0]), int(binary.BigEndian.Uint16(body[1:3]))
		body = body[elementHeader:]
		if n > len(body) {
			return Message{}, fmt.Errorf("%w: %v in %v announces %d bytes, %d are left", ErrFormat, tag, h.command, n, len(body))
		}
		e := Element{tag, body[:n:n]}
		body = body[n:]
		if !tag.Known() {
			m.Unknown = append(m.Unknown, e)
			continue
		}
		// Two names or two passwords would let two readers see two phones.
		if seen[tag] {
			return Message{}, fmt.Errorf("%w: %v stands twice in %v", ErrFormat, tag, h.command)
		}
		seen[tag] = true
		m.Elements = append(m.Elements, e)
	}
	return m, nil
}
