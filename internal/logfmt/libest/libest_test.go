package libest_test

import (
	"bytes"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/onlineca/onlineca/internal/logfmt/libest"
	"github.com/onlineca/onlineca/ra/event"
)

var extracts = []string{"ces-start.stdout", "ces-template.error.log"}

// lines returns the lines of an extract that are libEST's.
func lines(tb testing.TB, name string) [][]byte {
	tb.Helper()
	data, err := os.ReadFile("testdata/" + name)
	if err != nil {
		tb.Fatal(err)
	}
	var own [][]byte
	for l := range bytes.Lines(data) {
		if libest.Is(l) {
			own = append(own, bytes.TrimSuffix(l, []byte("\n")))
		}
	}
	return own
}

func decode(in [][]byte) []event.Record {
	var d libest.Decoder
	var got []event.Record
	keep := func(r event.Record) { got = append(got, r) }
	for _, l := range in {
		d.Line(l, keep)
	}
	d.Flush(keep)
	return got
}

// The extracts of the vendor's document hold 23 lines of libEST.
func TestEveryLineOfTheExtractsIsReproducedByteForByte(t *testing.T) {
	n := 0
	for _, name := range extracts {
		for i, in := range lines(t, name) {
			l, ok := libest.ParseLine(in)
			if !ok {
				t.Errorf("%s:%d: not a line: %q", name, i+1, in)
				continue
			}
			n++
			if out := l.Append(nil); !bytes.Equal(out, in) {
				t.Errorf("%s:%d:\n got %q\nwant %q", name, i+1, out, in)
			}
		}
	}
	if n != 23 {
		t.Errorf("%d lines", n)
	}
}

// The document shows the text of the 401 on one line, and so it comes back;
// every line does, in its place, and none is unknown.
func TestExtractsSurviveTheirEvents(t *testing.T) {
	zone := time.Date(2019, 2, 27, 0, 0, 0, 0, time.FixedZone("", -5*3600))
	for _, name := range extracts {
		in := lines(t, name)
		var out []byte
		for _, r := range decode(in) {
			switch r.Event.(type) {
			case event.UnknownLine, event.ProductText:
				t.Errorf("%s:%d: %#v", name, r.First, r.Event)
			}
			var ok bool
			if out, ok = libest.Encode(out, zone, r.Event); !ok {
				t.Errorf("%s: %#v has no lines", name, r.Event)
			}
			if start := strings.HasSuffix(name, ".stdout"); libest.IsStart(r.Event) != start {
				t.Errorf("%s: IsStart(%T) = %v", name, r.Event, !start)
			}
		}
		if diff := cmp.Diff(string(bytes.Join(in, []byte("\n")))+"\n", string(out)); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
}

func samples(s string, n int) []event.Event {
	return []event.Event{
		event.ESTVersion{Version: "libest " + s, Compiled: s, Linked: s},
		event.RATrustAnchor{Store: event.StoreEST, Subject: "/CN=" + s + "(1)"},
		event.ESTCurve{NID: n},
		event.ESTNoSRP{},
		event.ESTNoPeerCertificate{},
		event.ESTAuthFailed{AuthType: n},
		event.ESTEnrollFailed{RC: n, Name: s},
		event.ESTHTTPError{Status: n, Body: "Error " + itoa(n) + ": " + s + "\nThe server was unable to authorize the request.\n"},
		event.ESTHTTPError{Body: s},
		event.ESTResponse{RC: n, Name: s},
		event.ESTRequestFailed{RV: n, Name: s},
		event.ESTAccess{Client: s, Time: time.Date(2019, 2, 27, 21, 53, 28, 0, time.UTC), Method: s, Path: s, Proto: s, Status: -1, Bytes: int64(n)},
		event.ESTUserAgent{UserAgent: s + " 1.0"},
		event.ESTReferer{Referer: s},
		event.ESTShutdownFailed{},
		event.ProductText{Origin: "est", Severity: "WARNING", Func: "f", Line: n, Text: s},
	}
}

func itoa(n int) string {
	var digits []byte
	for ; n > 0 || len(digits) == 0; n /= 10 {
		digits = append([]byte{byte('0' + n%10)}, digits...)
	}
	return string(digits)
}

func allRoundTrips(t *testing.T, s string, n int) {
	t.Helper()
	for _, e := range samples(s, n) {
		out, ok := libest.Encode([]byte("kept"), time.Time{}, e)
		if !ok || !bytes.HasPrefix(out, []byte("kept")) {
			t.Errorf("%#v has no lines", e)
			continue
		}
		out = out[len("kept"):]
		for _, eol := range []string{"\n", "\r\n"} {
			in := bytes.Split(bytes.TrimSuffix(bytes.ReplaceAll(out, []byte("\n"), []byte(eol)), []byte(eol)), []byte("\n"))
			got := decode(in)
			if len(got) != 1 {
				t.Errorf("%#v: %d events from\n%s", e, len(got), out)
				continue
			}
			if diff := cmp.Diff(e, got[0].Event); diff != "" && eol == "\n" {
				t.Errorf("%T: %s\nfrom\n%s", e, diff, out)
			}
			if got[0].First != 1 || got[0].Last != len(in) {
				t.Errorf("%T: lines %d to %d of %d", e, got[0].First, got[0].Last, len(in))
			}
		}
	}
}

func TestEveryEventSurvivesItsLines(t *testing.T) { allRoundTrips(t, "EST_ERR_AUTH_FAIL", 22) }

// Other releases of libEST number their lines otherwise; the order tells the
// Referer from the User-Agent.
func TestOtherReleases(t *testing.T) {
	in := strings.Split(`***EST [INFO][log_access:1310]--> 127.0.0.1 [21/Nov/2026:19:12:22 +0000] "POST /.well-known/est/simpleenroll HTTP/1.1" 202 0
***EST [INFO][log_header:1288]--> -
***EST [INFO][log_header:1290]--> "libest 3.2.0p"
***EST [TIMER][est_x:1]-->
***EST [WARNING][est_http_request:2947]--> Enrollment failed with rc=23 (EST_ERR_AUTH_FAIL_TLSUID)
***EST [INFO][mg_send_http_error:1]--> [Error 500: x
***EST [INFO][log_header:1278]--> -
not a line`, "\n")
	var raw [][]byte
	for _, l := range in {
		raw = append(raw, []byte(l))
	}
	var got []event.Event
	for _, r := range decode(raw) {
		got = append(got, r.Event)
	}
	want := []event.Event{
		event.ESTAccess{Client: "127.0.0.1", Time: time.Date(2026, 11, 21, 19, 12, 22, 0, time.UTC), Method: "POST", Path: "/.well-known/est/simpleenroll", Proto: "HTTP/1.1", Status: 202},
		event.ESTReferer{Referer: "-"},
		event.ESTUserAgent{UserAgent: "libest 3.2.0p"},
		event.ProductText{Origin: "est", Severity: "TIMER", Func: "est_x", Line: 1},
		event.ESTEnrollFailed{RC: 23, Name: "EST_ERR_AUTH_FAIL_TLSUID"},
		event.ESTHTTPError{Status: 500, Body: "Error 500: x\n"},
		event.ESTUserAgent{},
		event.UnknownLine{Text: "not a line"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// A text that never ends must not swallow the rest of the log.
func TestEndlessText(t *testing.T) {
	in := [][]byte{[]byte("***EST [INFO][mg_send_http_error:389]--> [Error 401: x")}
	for range 100 {
		in = append(in, bytes.Repeat([]byte("y"), 100))
	}
	if got := decode(in); len(got) < 80 {
		t.Errorf("%d events", len(got))
	}
}

func TestWhatAClientSendsCannotBeginALine(t *testing.T) {
	for _, e := range samples("x\n***EST [ERROR][f:1]--> y\r\n", 1) {
		if _, multi := e.(event.ESTHTTPError); multi {
			continue // its text is the server's own
		}
		out, _ := libest.Encode(nil, time.Time{}, e)
		for line := range bytes.Lines(out) {
			if bytes.HasPrefix(line, []byte("***EST [ERROR][f:1]")) || bytes.Contains(line, []byte("\r")) {
				t.Errorf("%T: %q", e, line)
			}
		}
	}
}

func FuzzLine(f *testing.F) {
	for _, name := range extracts {
		for _, l := range lines(f, name) {
			f.Add(l)
		}
	}
	f.Add([]byte("***EST [TIMER][f:0]-->\r"))
	f.Fuzz(func(t *testing.T, in []byte) {
		l, ok := libest.ParseLine(in)
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
	for _, name := range extracts {
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
	f.Add("EST_ERR_AUTH_FAIL", 22)
	f.Fuzz(func(t *testing.T, s string, n int) {
		if n < 0 || n > 99999999 || len(s) < 2 || len(s) > 40 || strings.Trim(s, "abcdefghijklmnopqrstuvwxyzEST_.:/") != "" {
			t.Skip()
		}
		allRoundTrips(t, s, n)
	})
}

func BenchmarkDecode(b *testing.B) {
	in := lines(b, "ces-template.error.log")
	size := 0
	for _, l := range in {
		size += len(l) + 1
	}
	b.SetBytes(int64(size))
	b.ReportAllocs()
	for b.Loop() {
		var d libest.Decoder
		for _, l := range in {
			d.Line(l, func(event.Record) {})
		}
	}
}

func BenchmarkEncode(b *testing.B) {
	all := samples("EST_ERR_AUTH_FAIL", 22)
	var buf []byte
	b.ReportAllocs()
	for b.Loop() {
		buf = buf[:0]
		for _, e := range all {
			buf, _ = libest.Encode(buf, time.Time{}, e)
		}
	}
	b.SetBytes(int64(len(buf)))
}
