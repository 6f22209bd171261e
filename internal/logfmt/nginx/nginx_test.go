package nginx_test

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/onlineca/onlineca/internal/logfmt/nginx"
	"github.com/onlineca/onlineca/ra/event"
)

// lines returns the lines of an extract that are not libEST's.
func lines(tb testing.TB, path string) [][]byte {
	tb.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		tb.Fatal(err)
	}
	var own [][]byte
	for l := range bytes.Lines(data) {
		if !bytes.HasPrefix(l, []byte("***EST")) {
			own = append(own, bytes.TrimSuffix(l, []byte("\n")))
		}
	}
	return own
}

func extracts(tb testing.TB) []string {
	tb.Helper()
	all, err := filepath.Glob("testdata/ces-*")
	if err != nil || len(all) != 10 {
		tb.Fatalf("%d extracts, %v", len(all), err)
	}
	return all
}

func decode(in [][]byte) []event.Record {
	var d nginx.Decoder
	var got []event.Record
	keep := func(r event.Record) { got = append(got, r) }
	for _, l := range in {
		d.Line(l, keep)
	}
	d.Flush(keep)
	return got
}

// The extracts of the vendor's document hold 8 lines of error.log, 39 of the
// start's printout and one of the script that starts the service.
func TestEveryLineOfTheExtractsIsReproducedByteForByte(t *testing.T) {
	count := map[nginx.Form]int{}
	for _, name := range extracts(t) {
		for i, in := range lines(t, name) {
			l, ok := nginx.ParseLine(in)
			if !ok {
				t.Errorf("%s:%d: not a line: %q", name, i+1, in)
				continue
			}
			count[l.Form]++
			if out := l.Append(nil); !bytes.Equal(out, in) {
				t.Errorf("%s:%d:\n got %q\nwant %q", name, i+1, out, in)
			}
		}
	}
	want := map[nginx.Form]int{nginx.ErrorLog: 8, nginx.Start: 39, nginx.Shell: 1}
	if diff := cmp.Diff(want, count); diff != "" {
		t.Error(diff)
	}
}

// The extracts have no gaps of their own here: every line comes back, in its
// place, and none is unknown.
func TestExtractsSurviveTheirEvents(t *testing.T) {
	for _, name := range extracts(t) {
		in := lines(t, name)
		var out []byte
		for _, r := range decode(in) {
			switch r.Event.(type) {
			case event.UnknownLine, event.ProductText:
				t.Errorf("%s:%d: %#v", name, r.First, r.Event)
			}
			var ok bool
			if strings.HasSuffix(name, ".stdout") {
				out, ok = nginx.EncodeStart(out, r.Event)
			} else {
				pid := 31067
				if r.Conn.Number != 0 {
					pid = 3187
				}
				out, ok = nginx.Encode(out, r.Time, r.Event, r.Conn, pid)
			}
			if !ok {
				t.Errorf("%s: %#v has no lines", name, r.Event)
			}
		}
		if diff := cmp.Diff(string(bytes.Join(in, []byte("\n")))+"\n", string(out)); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
}

// After a name that does not match, the document's extract ends without the
// line that follows every other failure of the start.
func TestNothingFollowsANameMismatch(t *testing.T) {
	for curl, want := range map[int]bool{0: true, 6: true, 28: true, 51: false, 60: true} {
		if text, ok := nginx.EncodeStart(nil, event.ChainUnavailable{Curl: curl}); ok != want || (len(text) > 0) != want {
			t.Errorf("curl %d: %q, %v", curl, text, ok)
		}
	}
}

// samples has one event of every kind, with what the lines show of it.
func samples(s string, n int) (both, start, request []event.Event) {
	both = []event.Event{
		event.UpstreamFailed{Step: event.StepLogin, URL: s, Curl: n, Text: s + " (" + s + ")"},
		event.UpstreamFailed{Step: event.StepChain, URL: s, Curl: n, Text: s},
		event.UpstreamFailed{Step: event.StepPage, URL: s, Curl: n, Text: s},
		event.UpstreamFailed{Step: event.StepLogin},
		event.ChainUnavailable{},
	}
	start = []event.Event{
		event.RAValueMissing{What: "CA " + s},
		event.RATrustAnchor{Store: event.StoreNginx, Subject: "/CN=" + s + "(1)"},
		event.RAPoPDisabled{},
		event.RAStarted{PID: n},
		event.ProductText{Origin: "ra", Severity: "warn", Func: "f", Text: s},
		event.ProductText{Origin: "shell", Text: "!" + s},
	}
	request = []event.Event{
		event.UpstreamDone{Step: event.StepLogin, URL: s},
		event.UpstreamDone{Step: event.StepPage, URL: s},
		event.UpstreamDone{Step: event.StepChain, URL: s},
		event.UpstreamData{Length: n},
		event.ChainRetrieved{},
		event.RATrustAnchor{Store: event.StoreNginx, Subject: "/CN=" + s},
		event.ProductText{Origin: "nginx", Severity: "notice", Func: "f", Text: s},
	}
	return both, start, request
}

func roundTrip(t *testing.T, e event.Event, c event.Conn, out []byte, ok bool) {
	t.Helper()
	if !ok {
		t.Errorf("%#v has no lines", e)
		return
	}
	in := bytes.Split(bytes.TrimSuffix(out, []byte("\n")), []byte("\n"))
	got := decode(in)
	if len(got) != 1 {
		t.Errorf("%#v: %d events from\n%s", e, len(got), out)
		return
	}
	if diff := cmp.Diff(e, got[0].Event); diff != "" {
		t.Errorf("%T: %s\nfrom\n%s", e, diff, out)
	}
	if got[0].Conn != c || got[0].First != 1 || got[0].Last != len(in) {
		t.Errorf("%T: connection %v, lines %d to %d of %d", e, got[0].Conn, got[0].First, got[0].Last, len(in))
	}
}

func allRoundTrips(t *testing.T, s string, n int) {
	t.Helper()
	at := time.Date(2019, 3, 5, 12, 31, 21, 0, time.UTC)
	conn := event.Conn{Number: 2, Client: "14.48.31.128", Server: "0.0.0.0:8084"}
	both, start, request := samples(s, n)
	for _, e := range append(both, start...) {
		out, ok := nginx.EncodeStart(nil, e)
		roundTrip(t, e, event.Conn{}, out, ok)
	}
	for _, e := range append(both, request...) {
		out, ok := nginx.Encode(nil, at, e, conn, 3187)
		roundTrip(t, e, conn, out, ok)
	}
}

func TestEveryEventSurvivesItsLines(t *testing.T) { allRoundTrips(t, "https://ca:443/x", 28) }

// The document shows no line of the product's for these, so neither log has
// any.
func TestEventsWithoutText(t *testing.T) {
	conn := event.Conn{Number: 2, Client: "::1", Server: "[::]:8084"}
	for _, e := range []event.Event{
		event.UpstreamDone{Step: event.StepSubmit}, event.UpstreamDone{Step: event.StepFetch},
		event.UpstreamFailed{Step: event.StepSubmit, Curl: 28}, event.UpstreamFailed{Step: event.StepFetch, Curl: 28},
		event.UpstreamFailed{Step: event.StepPage}, event.UpstreamFailed{Step: event.StepChain},
		event.RATrustAnchor{Store: event.StoreEST}, event.ESTNoSRP{}, event.WebRequest{},
		event.ProductText{Origin: "est"},
	} {
		if out, ok := nginx.EncodeStart([]byte("kept"), e); ok || string(out) != "kept" {
			t.Errorf("start: %#v: %q", e, out)
		}
		if out, ok := nginx.Encode([]byte("kept"), time.Time{}, e, conn, 1); ok || string(out) != "kept" {
			t.Errorf("error.log: %#v: %q", e, out)
		}
	}
	for _, e := range []event.Event{event.RATrustAnchor{Store: event.StoreNginx}, event.UpstreamData{}} {
		if out, ok := nginx.Encode(nil, time.Time{}, e, event.Conn{}, 1); ok {
			t.Errorf("error.log at the start: %#v: %q", e, out)
		}
	}
}

// Two connections fail at once, and their lines stand between each other.
func TestInterleavedFailures(t *testing.T) {
	var all [2][][]byte
	var want []event.Event
	for i := range all {
		e := event.UpstreamFailed{Step: event.StepLogin, URL: "https://ca:443/" + string(rune('a'+i)), Curl: 28, Text: "timed out"}
		want = append(want, e)
		out, _ := nginx.Encode(nil, time.Time{}, e, event.Conn{Number: i + 1, Client: "::1", Server: "x:1"}, 1)
		all[i] = bytes.Split(bytes.TrimSuffix(out, []byte("\n")), []byte("\n"))
	}
	var mixed [][]byte
	for i := range all[0] {
		mixed = append(mixed, all[0][i], all[1][i])
	}
	var got []event.Event
	for _, r := range decode(mixed) {
		got = append(got, r.Event)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestTruncatedFailure(t *testing.T) {
	in := [][]byte{
		[]byte("nginx: [warn] login_to_certsrv_ca: Curl call for MS CA login failed with return code 28 (timed out)"),
		[]byte("nginx: [warn] pop_enabled off in nginx.conf. Disabling EST Proof of Possession"),
	}
	var got []event.Event
	for _, r := range decode(in) {
		got = append(got, r.Event)
	}
	want := []event.Event{event.UpstreamFailed{Step: event.StepLogin, Curl: 28, Text: "timed out"}, event.RAPoPDisabled{}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestZone(t *testing.T) {
	zone := time.FixedZone("", -5*3600)
	d := nginx.Decoder{Zone: zone}
	d.At(2)
	d.Line([]byte("2019/03/05 12:31:21 [notice] 1#0: signal process started"), func(r event.Record) {
		if r.Time.Unix() != time.Date(2019, 3, 5, 17, 31, 21, 0, time.UTC).Unix() || r.First != 2 {
			t.Errorf("%v, line %d", r.Time, r.First)
		}
	})
}

func TestWhatAClientSendsCannotBeginALine(t *testing.T) {
	both, start, request := samples("x\nnginx: [error] y\r\n", 1)
	for _, e := range append(append(both, start...), request...) {
		a, _ := nginx.EncodeStart(nil, e)
		b, _ := nginx.Encode(nil, time.Time{}, e, event.Conn{Number: 1, Client: "\n", Server: "\n"}, 1)
		for line := range bytes.Lines(append(a, b...)) {
			if bytes.HasPrefix(line, []byte("nginx: [error] y")) || bytes.Contains(line, []byte("\r")) || len(line) < 5 {
				t.Errorf("%T: %q", e, line)
			}
		}
	}
}

func FuzzLine(f *testing.F) {
	for _, name := range extracts(f) {
		for _, l := range lines(f, name) {
			f.Add(l)
		}
	}
	f.Add([]byte("2019/02/30 12:31:21 [info] 1#0: *1 x: y\r"))
	f.Fuzz(func(t *testing.T, in []byte) {
		l, ok := nginx.ParseLine(in)
		if !ok {
			return
		}
		if out := l.Append(nil); !bytes.Equal(out, in) {
			t.Errorf("got %q, want %q", out, in)
		}
	})
}

// Whatever lines come, each is within the lines of an event.
func FuzzDecoderKeepsEveryLine(f *testing.F) {
	for _, name := range extracts(f) {
		f.Add(bytes.Join(lines(f, name), []byte("\n")))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		in := bytes.Split(data, []byte("\n"))
		covered := make([]bool, len(in)+1)
		for _, r := range decode(in) {
			for i := r.First; i <= r.Last; i++ {
				covered[i] = true
			}
		}
		for i := range in {
			if !covered[i+1] {
				t.Errorf("line %d is lost: %q", i+1, in[i])
			}
		}
	})
}

func FuzzEvents(f *testing.F) {
	f.Add("https://ca:443/certsrv", 28)
	f.Fuzz(func(t *testing.T, s string, n int) {
		if n <= 0 || n > 99999999 || len(s) == 0 || len(s) > 40 || strings.Trim(s, "abcdefghijklmnopqrstuvwxyz0123456789_-./?=&,'") != "" {
			t.Skip()
		}
		allRoundTrips(t, s, n)
	})
}

func BenchmarkDecode(b *testing.B) {
	in := lines(b, "testdata/ces-template.error.log")
	size := 0
	for _, l := range in {
		size += len(l) + 1
	}
	b.SetBytes(int64(size))
	b.ReportAllocs()
	for b.Loop() {
		var d nginx.Decoder
		for _, l := range in {
			d.Line(l, func(event.Record) {})
		}
	}
}

func BenchmarkEncode(b *testing.B) {
	both, _, request := samples("https://ca.example.com:443/certsrv", 28)
	all := slices.Concat(both, request)
	c := event.Conn{Number: 2, Client: "14.48.31.128", Server: "0.0.0.0:8084"}
	var buf []byte
	b.ReportAllocs()
	for b.Loop() {
		buf = buf[:0]
		for _, e := range all {
			buf, _ = nginx.Encode(buf, time.Time{}, e, c, 1)
		}
	}
	b.SetBytes(int64(len(buf)))
}
