package diagnose

import (
	"math/rand/v2"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// What is packed comes back as it was, in its order, over many chunks.
func TestPackedFactsComeBack(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	k := &clock{}
	s := &stream{clock: k}
	at := yearOne
	p := func(file int32) point {
		at += int64(r.IntN(5000)) - 500
		return point{at, ref{file, 1 + r.Int32N(1<<30)}}
	}
	var want []any
	for range 20000 {
		file := r.Int32N(3)
		switch r.IntN(3) {
		case 0:
			x := &session{clock: k, device: "SEP0123", number: r.IntN(1000), pkcs7: r.IntN(3000), signed: true, status: healthyStatus}
			x.called, x.answered, x.statusAt = p(file), p(file), p(file)
			x.begin, x.last = x.called, x.statusAt
			if !s.packSession(x) {
				t.Fatal("not packed")
			}
			want = append(want, x)
		case 1:
			x := &request{clock: k, conn: r.IntN(1000), status: r.IntN(500) - 1, first: p(file)}
			x.last = p(file)
			x.statusAt = point{x.last.at, p(file).ref}
			switch r.IntN(3) {
			case 0:
				x.login, x.page = p(file), p(file)
			case 1:
				x.login = x.first // the first line is the login
			}
			s.packRequest(x)
			want = append(want, x)
		default:
			x := &exchange{
				clock: k, end: p(file), took: r.Int32(), reqID: r.Int32(), win32: []uint32{0, winNoCredentials, winLogonDenied, 1<<32 - 1}[r.IntN(4)],
				status: uint16(r.IntN(600)), sub: uint16(r.IntN(20)), web: web(r.IntN(6)), user: r.IntN(2) == 0,
			}
			s.packExchange(x)
			want = append(want, x)
		}
	}
	c := cursor{s: s}
	for i, w := range want {
		if diff := cmp.Diff(w, c.next(), cmp.AllowUnexported(session{}, request{}, exchange{}, clock{}, point{}, ref{})); diff != "" {
			t.Fatalf("fact %d: %s", i, diff)
		}
	}
	if c.next() != nil || len(s.chunks) < 3 {
		t.Errorf("%d chunks, and more than was packed", len(s.chunks))
	}
}
