package cucm_test

import (
	"bytes"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/onlineca/onlineca/internal/logfmt/cucm"
	"github.com/onlineca/onlineca/ra/event"
)

func lines(tb testing.TB, name string) [][]byte {
	tb.Helper()
	data, err := os.ReadFile("testdata/" + name)
	if err != nil {
		tb.Fatal(err)
	}
	return bytes.Split(bytes.TrimSuffix(data, []byte("\n")), []byte("\n"))
}

func decode(d *cucm.Decoder, in [][]byte) []event.Record {
	var got []event.Record
	keep := func(r event.Record) { got = append(got, r) }
	for _, l := range in {
		d.Line(l, keep)
	}
	d.Flush(keep)
	return got
}

var extracts = []string{"capf-start.txt", "capf-install.txt", "capf-fail-ssl-read.txt"}

// The three extracts of the vendor's document hold 45 lines that enter a
// function, 42 that leave one, and 65 with text.
func TestEveryLineOfTheExtractsIsReproducedByteForByte(t *testing.T) {
	count := map[cucm.Mark]int{}
	for _, name := range extracts {
		for i, in := range lines(t, name) {
			l, ok := cucm.ParseLine(in)
			if !ok {
				t.Errorf("%s:%d: not a line: %q", name, i+1, in)
				continue
			}
			count[l.Mark]++
			if out := l.Append(nil); !bytes.Equal(out, in) {
				t.Errorf("%s:%d:\n got %q\nwant %q", name, i+1, out, in)
			}
		}
	}
	want := map[cucm.Mark]int{cucm.Enter: 45, cucm.Leave: 42, cucm.Body: 65}
	if diff := cmp.Diff(want, count); diff != "" {
		t.Error(diff)
	}
}

func TestNoLineOfTheExtractsIsUnknown(t *testing.T) {
	for _, name := range extracts {
		for _, r := range decode(&cucm.Decoder{}, lines(t, name)) {
			switch r.Event.(type) {
			case event.UnknownLine, event.CAPFTrace:
				t.Errorf("%s:%d: %#v", name, r.First, r.Event)
			}
		}
	}
}

// The document leaves lines out here and there, so that a block can lack the
// line that enters or leaves its function, and once a line that enters a
// function is a millisecond older than its text. The encoder writes whole
// blocks of one moment. Nothing else differs.
func TestExtractsSurviveTheirEvents(t *testing.T) {
	gaps := map[string][]string{
		"capf-start.txt": {
			"+12:32:09.231 |-->debug", // before "CA Type is Online CA"
			"+12:32:09.231 |<--debug", // after "Inside setUpESTClient"
			"+12:32:09.661 |<--debug", // after "EST set server details success!!"
		},
		"capf-install.txt": {
			"-14:05:05.419 |<--Select(SEP74A02FC0A675)", // of a Select that is not shown
			"+14:05:05.290 |<--debug",                   // after "Sending STORE_CERT_REQ msg"
			"+14:05:05.511 |<--Select(SEP74A02FC0A675)", // after "Operation Should Finish By"
			"+14:05:05.971 |<--debug",                   // after "MsgType"
		},
		"capf-fail-ssl-read.txt": {
			"-12:37:54.741 |-->debug", // the millisecond
			"+12:37:54.742 |-->debug",
		},
	}
	for _, name := range extracts {
		in := lines(t, name)
		var out []byte
		for _, r := range decode(&cucm.Decoder{}, in) {
			var ok bool
			if out, ok = cucm.Encode(out, r.Time, r.Event); !ok {
				t.Errorf("%s: %#v has no lines", name, r.Event)
			}
		}
		got := strings.Split(strings.TrimSuffix(string(out), "\n"), "\n")
		want := strings.Split(string(bytes.Join(in, []byte("\n"))), "\n")
		if diff := cmp.Diff(gaps[name], lineDiff(want, got)); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
}

// lineDiff lists the lines that only one side has, in their order, by the
// longest common subsequence.
func lineDiff(a, b []string) []string {
	n := make([][]int, len(a)+1)
	for i := range n {
		n[i] = make([]int, len(b)+1)
	}
	for i := len(a) - 1; i >= 0; i-- {
		for j := len(b) - 1; j >= 0; j-- {
			if a[i] == b[j] {
				n[i][j] = n[i+1][j+1] + 1
			} else {
				n[i][j] = max(n[i+1][j], n[i][j+1])
			}
		}
	}
	var diff []string
	i, j := 0, 0
	for i < len(a) || j < len(b) {
		switch {
		case i < len(a) && j < len(b) && a[i] == b[j]:
			i, j = i+1, j+1
		case i < len(a) && (j == len(b) || n[i+1][j] >= n[i][j+1]):
			diff = append(diff, "-"+a[i])
			i++
		default:
			diff = append(diff, "+"+b[j])
			j++
		}
	}
	return diff
}

var session = event.Session{Number: 2, Device: "SEP74A02FC0A675"}

// samples has one event of every kind that a trace shows.
func samples(s string, n int, sess event.Session) []event.Event {
	all := []event.Event{
		event.CAPFCertificateGeneration{Method: s, Number: n},
		event.CAPFOnlineCAHost{Host: s},
		event.CAPFOnlineCAPort{Port: n},
		event.CAPFOnlineCATemplate{Template: s},
		event.CAPFCACertRead{Length: n},
		event.CAPFEnrollCalled{Session: sess, CSRFile: s},
		event.CAPFEnrolled{Session: sess, RV: n, Name: s, PKCS7Length: n},
		event.CAPFEnrollReturned{Session: sess, RV: n},
		event.CAPFDeviceFound{Device: s},
		event.CAPFReadset{Socket: n},
		event.CAPFCoreEvent{Session: sess, Event: s, State: s},
		event.CAPFLoadFile{Path: s},
		event.CAPFLoadFile{Path: s, Loaded: true},
		event.CAPFLSCVerified{CSRFile: s},
		event.CAPFPublicKey{Session: sess, DER: []byte(s + "\x00\n\r\x1b\xff\\x41" + s)},
		event.CAPFPublicKeyLength{Session: sess, Length: n},
		event.CAPFMessage{Type: s},
		event.CAPFTrace{Session: sess, Text: "!" + s},
		event.CAPFTrace{Func: "f" + s, Text: s},
		event.CAPFOperationStatus{
			Device: s, Operation: "OPERATION_UPGRADE", Text: s, Code: n, DBStatus: s, DBNumber: n,
			Duration: time.Duration(n%86400000) * time.Millisecond,
		},
		event.CAPFDeviceRow{
			Device: s, DefaultAuthMode: s, KeySize: s, ECKeySize: s, KeyOrder: s, Operation: s, OperationStatus: s,
			AuthMode: s, FinishBy: s, Duration: time.Duration(n%86400000) * time.Millisecond,
		},
	}
	ofService := true
	for _, step := range allSteps {
		ofService = ofService && step != event.StepOnlineCAMode
		e := event.CAPFStep{Step: step}
		if !ofService {
			e.Session = sess
		}
		all = append(all, e)
	}
	return all
}

var allSteps = []event.Step{
	event.StepTAMPassword, event.StepNginxConf, event.StepParametersRead, event.StepOnlineCAReady, event.StepRAStart,
	event.StepESTSetup, event.StepESTClientInside, event.StepESTContext, event.StepCACredentials, event.StepESTAuthSet,
	event.StepESTServerSet, event.StepOnlineCAMode, event.StepReadCSR, event.StepReadCSRDone, event.StepCertWritten,
	event.StepWriteBinary, event.StepWriteBinaryDone, event.StepConvert, event.StepSigned, event.StepEnrollFailed,
	event.StepNotSigned, event.StepReceivedEvent, event.StepCertReady, event.StepGotCertificate, event.StepCertRead,
	event.StepStoreCert, event.StepSetPublicKey,
}

func roundTrip(t *testing.T, e event.Event) {
	t.Helper()
	at := time.Date(2019, 1, 16, 14, 5, 5, 289e6, time.UTC)
	out, ok := cucm.Encode([]byte("kept"), at, e)
	if !ok || !bytes.HasPrefix(out, []byte("kept")) {
		t.Fatalf("%#v: %v, %q", e, ok, out)
	}
	out = out[len("kept"):]
	d := cucm.Decoder{Day: at}
	in := bytes.Split(bytes.TrimSuffix(out, []byte("\n")), []byte("\n"))
	got := decode(&d, in)
	if len(got) != 1 || d.Unknown != 0 {
		t.Fatalf("%#v: %d events, %d unknown lines from\n%s", e, len(got), d.Unknown, out)
	}
	if diff := cmp.Diff(e, got[0].Event); diff != "" {
		t.Errorf("%T: %s\nfrom\n%s", e, diff, out)
	}
	if !got[0].Time.Equal(at) {
		t.Errorf("%T: time %v, want %v", e, got[0].Time, at)
	}
	if first, last := got[0].First, got[0].Last; first < 1 || last < first || last > len(in) {
		t.Errorf("%T: lines %d to %d of %d", e, first, last, len(in))
	}
}

func TestEveryEventSurvivesItsLines(t *testing.T) {
	for _, e := range samples("Some/Value_1.x", 35, session) {
		roundTrip(t, e)
	}
}

func TestEventsOfOtherLogsHaveNoLines(t *testing.T) {
	for _, e := range []event.Event{event.WebRequest{}, event.ESTNoSRP{}, event.UpstreamDone{}, event.CAPFStep{Step: "no such"}} {
		if out, ok := cucm.Encode([]byte("kept"), time.Time{}, e); ok || string(out) != "kept" {
			t.Errorf("%T: %q, %v", e, out, ok)
		}
	}
}

func TestWhatADeviceSendsCannotBeginALine(t *testing.T) {
	evil := "x\n14:05:05.289 |   debug 2:SEP000000000000:Online Cert Signing successful\r\n"
	for _, e := range samples(evil, 1, event.Session{Number: 1, Device: evil}) {
		out, _ := cucm.Encode(nil, time.Time{}, e)
		for line := range bytes.Lines(out) {
			if bytes.HasPrefix(line, []byte("14:05:05.289")) || bytes.Contains(line, []byte("\r")) {
				t.Errorf("%T: %q", e, line)
			}
		}
	}
}

func TestTolerance(t *testing.T) {
	type want struct {
		line string
		e    event.Event
	}
	added := event.CAPFReadset{Socket: 6}
	for _, w := range []want{
		{"14:05:05.289 | debug addded 6 to readset", added},
		{"14:05:05.289 | \t  debug addded 6 to readset\r", added},
		{"14:05:05.289 |   debug addded six to readset", event.CAPFTrace{Text: "addded six to readset"}},
		{"14:05:05.289 |   debug 2:CSFjdoe-1:Recd event", event.CAPFStep{Session: event.Session{Number: 2, Device: "CSFjdoe-1"}, Step: event.StepReceivedEvent}},
		{"14:05:05.289 |   debug 2:SEP1:pubKey: 0\x82\x01\"", event.CAPFPublicKey{Session: event.Session{Number: 2, Device: "SEP1"}, DER: []byte("0\x82\x01\"")}},
		{"14:05:05.289 |   CWhat::Ever() said so", event.CAPFTrace{Func: "CWhat::Ever()", Text: "said so"}},
		{"4:05:05.289 |   debug Recd event", event.UnknownLine{Text: "4:05:05.289 |   debug Recd event"}},
		{"24:05:05.289 |   debug Recd event", event.UnknownLine{Text: "24:05:05.289 |   debug Recd event"}},
		{"", event.UnknownLine{}},
	} {
		got := decode(&cucm.Decoder{}, [][]byte{[]byte(w.line)})
		if len(got) != 1 {
			t.Errorf("%q: %d events", w.line, len(got))
			continue
		}
		if diff := cmp.Diff(w.e, got[0].Event); diff != "" {
			t.Errorf("%q: %s", w.line, diff)
		}
	}
}

// A trace has no date: it goes on over midnight, and several threads may write
// their lines a little out of order.
func TestMidnight(t *testing.T) {
	var d cucm.Decoder
	d.Day = time.Date(2019, 1, 16, 0, 0, 0, 0, time.UTC)
	got := decode(&d, [][]byte{
		[]byte("23:59:59.999 |   debug Recd event"),
		[]byte("00:00:00.001 |   debug Recd event"),
		[]byte("00:00:00.000 |   debug Recd event"),
		[]byte("23:59:59.999 |   debug Recd event"),
		[]byte("20:00:00.000 |   debug Recd event"),
		[]byte("08:00:00.000 |   debug Recd event"),
	})
	for i, want := range []string{
		"2019-01-16T23:59:59.999Z", "2019-01-17T00:00:00.001Z", "2019-01-17T00:00:00Z", "2019-01-16T23:59:59.999Z",
		"2019-01-17T20:00:00Z", "2019-01-18T08:00:00Z",
	} {
		if s := got[i].Time.Format(time.RFC3339Nano); s != want {
			t.Errorf("line %d: %s, want %s", i+1, s, want)
		}
	}
}

// Two devices are read at once, and their lines stand between each other.
func TestInterleavedBlocks(t *testing.T) {
	a := event.CAPFDeviceRow{Device: "SEPA", KeySize: "KEY_SIZE_2048:3", FinishBy: "2019:01:20:12:00"}
	b := event.CAPFDeviceRow{Device: "SEPB", KeySize: "KEY_SIZE_1024:2", FinishBy: "2019:01:20:12:00"}
	one, _ := cucm.Encode(nil, time.Time{}, a)
	two, _ := cucm.Encode(nil, time.Time{}, b)
	la, lb := bytes.Split(one, []byte("\n")), bytes.Split(two, []byte("\n"))
	var mixed [][]byte
	for i := range len(la) - 1 {
		mixed = append(mixed, la[i], lb[i])
	}
	var got []event.Event
	for _, r := range decode(&cucm.Decoder{}, mixed) {
		got = append(got, r.Event)
	}
	if diff := cmp.Diff([]event.Event{a, b}, got); diff != "" {
		t.Error(diff)
	}
}

func FuzzLine(f *testing.F) {
	for _, name := range extracts {
		for _, l := range lines(f, name) {
			f.Add(l)
		}
	}
	f.Add([]byte("14:05:05.289 |   debug \r"))
	f.Fuzz(func(t *testing.T, in []byte) {
		l, ok := cucm.ParseLine(in)
		if !ok {
			return
		}
		if out := l.Append(nil); !bytes.Equal(out, in) {
			t.Errorf("got %q, want %q", out, in)
		}
	})
}

// Whatever lines come, none is lost: each is layout, or within the lines of an
// event.
func FuzzDecoderKeepsEveryLine(f *testing.F) {
	for _, name := range extracts {
		f.Add(bytes.Join(lines(f, name), []byte("\n")))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		in := bytes.Split(data, []byte("\n"))
		var d cucm.Decoder
		covered := make([]bool, len(in)+1)
		for _, r := range decode(&d, in) {
			if r.First < 1 || r.Last < r.First || r.Last > len(in) {
				t.Fatalf("lines %d to %d of %d", r.First, r.Last, len(in))
			}
			for i := r.First; i <= r.Last; i++ {
				covered[i] = true
			}
		}
		for i, l := range in {
			if p, ok := cucm.ParseLine(l); !covered[i+1] && (!ok || p.Mark == cucm.Body) {
				t.Errorf("line %d is lost: %q", i+1, l)
			}
		}
	})
}

func FuzzEvents(f *testing.F) {
	f.Add("SEP74A02FC0A675", 35)
	f.Add("a:b/c.d", 0)
	f.Fuzz(func(t *testing.T, s string, n int) {
		if n < 0 || n > 99999999 || !value(s) {
			t.Skip()
		}
		for _, e := range samples(s, n, event.Session{Number: n, Device: strings.NewReplacer(":", "-", "/", "-").Replace(s)}) {
			roundTrip(t, e)
		}
	})
}

// value tells the strings that stand in traces as values: names, numbers,
// paths. Only those can be told from the text around them.
func value(s string) bool {
	for _, c := range s {
		if !strings.ContainsRune("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-./:", c) {
			return false
		}
	}
	return len(s) > 0 && len(s) <= 20
}

func BenchmarkDecode(b *testing.B) {
	in := lines(b, "capf-install.txt")
	size := 0
	for _, l := range in {
		size += len(l) + 1
	}
	b.SetBytes(int64(size))
	b.ReportAllocs()
	for b.Loop() {
		var d cucm.Decoder
		for _, l := range in {
			d.Line(l, func(event.Record) {})
		}
	}
}

func BenchmarkEncode(b *testing.B) {
	all := samples("SEP74A02FC0A675", 35, session)
	var buf []byte
	b.ReportAllocs()
	for b.Loop() {
		buf = buf[:0]
		for _, e := range all {
			buf, _ = cucm.Encode(buf, time.Time{}, e)
		}
	}
	b.SetBytes(int64(len(buf)))
}
