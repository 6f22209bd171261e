package iis_test

import (
	"bytes"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/onlineca/onlineca/internal/logfmt/iis"
	"github.com/onlineca/onlineca/ra/event"
)

var extracts = []string{"iis-start.log", "iis-install.log"}

func lines(tb testing.TB, name string) [][]byte {
	tb.Helper()
	data, err := os.ReadFile("testdata/" + name)
	if err != nil {
		tb.Fatal(err)
	}
	return bytes.Split(bytes.TrimSuffix(data, []byte("\n")), []byte("\n"))
}

func decode(in [][]byte) []event.Record {
	var d iis.Decoder
	var got []event.Record
	keep := func(r event.Record) { got = append(got, r) }
	for _, l := range in {
		d.Line(l, keep)
	}
	d.Flush(keep)
	return got
}

// The extracts of the vendor's document hold 10 lines, shown without their
// carriage returns. The lines and what is encoded from their events differ by
// those only.
func TestExtractsSurviveTheirLinesAndTheirEvents(t *testing.T) {
	n := 0
	for _, name := range extracts {
		in := lines(t, name)
		for i, l := range in {
			n++
			p, ok := iis.ParseLine(l)
			if out := p.Append(nil); !ok || !bytes.Equal(out, l) {
				t.Errorf("%s:%d:\n got %q\nwant %q", name, i+1, out, l)
			}
		}
		var out []byte
		for _, r := range decode(in) {
			e, ok := r.Event.(event.WebRequest)
			if !ok {
				t.Errorf("%s:%d: %#v", name, r.First, r.Event)
			}
			out, _ = iis.Encode(out, time.Time{}, e)
		}
		want := string(bytes.Join(in, []byte("\r\n"))) + "\r\n"
		if diff := cmp.Diff(want, string(out)); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
	if n != 10 {
		t.Errorf("%d lines", n)
	}
}

// Fields may change in mid-file, and a file of an older IIS has others.
func TestFieldsMayChange(t *testing.T) {
	in := "#Software: Microsoft Internet Information Services 10.0\r\n#Version: 1.0\r\n#Date: 2026-01-15 08:00:01\r\n" +
		"#Fields: date time c-ip cs-method cs-uri-stem sc-status cs-host\r\n" +
		"2026-01-15 08:00:01 10.0.0.9 GET /certsrv 401 ca\r\n" +
		"2026-01-15 08:00:01 10.0.0.9 GET /certsrv 401\r\n" + // a value too few
		"#Date: 2026-01-16 00:00:00\r\n#Fields: time time-taken sc-status\n" +
		"08:00:02 10031 200\n" +
		"#Remark: moved\r\n"
	var got []event.Event
	for _, r := range decode(bytes.Split([]byte(strings.TrimSuffix(in, "\n")), []byte("\n"))) {
		got = append(got, r.Event)
	}
	want := []event.Event{
		event.WebLogHeader{
			Software: "Microsoft Internet Information Services 10.0", Version: "1.0", Date: time.Date(2026, 1, 15, 8, 0, 1, 0, time.UTC),
			Fields: []string{"date", "time", "c-ip", "cs-method", "cs-uri-stem", "sc-status", "cs-host"},
		},
		event.WebRequest{Time: time.Date(2026, 1, 15, 8, 0, 1, 0, time.UTC), ClientIP: "10.0.0.9", Method: "GET", Stem: "/certsrv", Status: 401},
		event.UnknownLine{Text: "2026-01-15 08:00:01 10.0.0.9 GET /certsrv 401\r"},
		event.WebLogHeader{Date: time.Date(2026, 1, 16, 0, 0, 0, 0, time.UTC), Fields: []string{"time", "time-taken", "sc-status"}},
		event.WebRequest{Time: time.Date(2026, 1, 16, 8, 0, 2, 0, time.UTC), Status: 200, TimeTaken: 10031 * time.Millisecond},
		event.UnknownLine{Text: "#Remark: moved\r"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func samples(s string, n int) []event.Event {
	at := time.Unix(int64(n), 0).UTC()
	return []event.Event{
		event.WebRequest{
			Time: at, ServerIP: s, Method: s, Stem: "/" + s, Query: s, Port: n, User: s, ClientIP: s, UserAgent: s + " " + s,
			Referer: s, Status: n, Substatus: n, Win32: 2148074254, TimeTaken: time.Duration(n) * time.Millisecond,
		},
		event.WebRequest{Time: at, Status: n},
		event.WebLogHeader{Software: s, Version: s, Date: at, Fields: iis.DefaultFields},
		event.WebLogHeader{Fields: []string{"date", s}},
		event.WebLogHeader{Software: s},
	}
}

func allRoundTrips(t *testing.T, s string, n int) {
	t.Helper()
	for _, e := range samples(s, n) {
		out, ok := iis.Encode(nil, time.Time{}, e)
		in := bytes.Split(bytes.TrimSuffix(out, []byte("\n")), []byte("\n"))
		got := decode(in)
		if !ok || len(got) != 1 {
			t.Errorf("%#v: %d events from\n%s", e, len(got), out)
			continue
		}
		if diff := cmp.Diff(e, got[0].Event); diff != "" {
			t.Errorf("%T: %s\nfrom\n%s", e, diff, out)
		}
		if got[0].First != 1 || got[0].Last != len(in) {
			t.Errorf("%T: lines %d to %d of %d", e, got[0].First, got[0].Last, len(in))
		}
	}
}

func TestEveryEventSurvivesItsLines(t *testing.T) { allRoundTrips(t, `MICHAMEN\ciscora`, 401) }

func TestEventsOfOtherLogsHaveNoLines(t *testing.T) {
	if out, ok := iis.Encode([]byte("kept"), time.Time{}, event.ESTNoSRP{}); ok || string(out) != "kept" {
		t.Errorf("%q, %v", out, ok)
	}
}

// Blanks become plus signs, an unset time is that of the entry, and nothing
// that a client sends can begin a value or a line.
func TestValuesStayInTheirPlace(t *testing.T) {
	at := time.Date(2026, 1, 15, 3, 0, 1, 0, time.FixedZone("", -5*3600))
	out, _ := iis.Encode(nil, at, event.WebRequest{UserAgent: "Mozilla/5.0 (ra)", User: "a b\nc", Query: "x\r\n#Fields: y"})
	want := "2026-01-15 08:00:01 - - - x++#Fields:+y 0 a+b+c - Mozilla/5.0+(ra) - 0 0 0 0\r\n"
	if string(out) != want {
		t.Errorf("got %q, want %q", out, want)
	}
	out, _ = iis.Encode(nil, at, event.WebLogHeader{Software: "x\r\n#Fields: y"})
	if want := "#Software: x  #Fields: y\r\n"; string(out) != want {
		t.Errorf("got %q, want %q", out, want)
	}
}

func FuzzLine(f *testing.F) {
	for _, name := range extracts {
		for _, l := range lines(f, name) {
			f.Add(l)
		}
	}
	f.Add([]byte("#Fields:date\r"))
	f.Fuzz(func(t *testing.T, in []byte) {
		l, ok := iis.ParseLine(in)
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
	f.Add([]byte("#Software: a\n#Software: b\n\n#Fields: date time\n2026-01-15 00:00:00"))
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
	f.Add(`MICHAMEN\ciscora`, 401)
	f.Fuzz(func(t *testing.T, s string, n int) {
		if n < 0 || n > 99999999 || len(s) < 2 || len(s) > 40 || strings.Trim(s, `abcdefghijklmnopqrstuvwxyz\/.-=&`) != "" {
			t.Skip()
		}
		allRoundTrips(t, s, n)
	})
}

func BenchmarkDecode(b *testing.B) {
	in := lines(b, "iis-install.log")
	size := 0
	for _, l := range in {
		size += len(l) + 1
	}
	b.SetBytes(int64(size))
	b.ReportAllocs()
	for b.Loop() {
		var d iis.Decoder
		for _, l := range in {
			d.Line(l, func(event.Record) {})
		}
	}
}

func BenchmarkEncode(b *testing.B) {
	e := samples("14.48.31.152", 401)[0]
	var buf []byte
	b.ReportAllocs()
	for b.Loop() {
		buf, _ = iis.Encode(buf[:0], time.Time{}, e)
	}
	b.SetBytes(int64(len(buf)))
}
