package zaplog_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/onlineca/onlineca/internal/logfmt/cucm"
	"github.com/onlineca/onlineca/internal/zaplog"
	"github.com/onlineca/onlineca/ra/event"
)

// sink keeps each Write by itself, and fails as long as err is set, after it
// has taken room bytes.
type sink struct {
	mu     sync.Mutex
	writes [][]byte
	err    error
	room   int
}

func (s *sink) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := len(p)
	if s.err != nil {
		n = min(n, s.room)
	}
	s.writes = append(s.writes, bytes.Clone(p[:n]))
	return n, s.err
}

func (s *sink) Sync() error { return nil }

func (s *sink) String() string { return string(bytes.Join(s.writes, nil)) }

// Entries reach a log a little out of turn. A trace whose time steps back is
// none that CAPF has written; a clock that was set back shows, though.
func TestTimeDoesNotStepBack(t *testing.T) {
	var trace, errorLog sink
	capf, nginx := zaplog.CAPF(&trace, time.UTC), zaplog.ErrorLog(&errorLog, 7, time.UTC)
	at := time.Date(2026, 3, 5, 12, 0, 1, 0, time.UTC)
	for _, late := range []time.Duration{0, time.Millisecond, -time.Millisecond, time.Hour} {
		entry := zapcore.Entry{Time: at.Add(-late)}
		if err := errors.Join(
			capf.Write(entry, []zapcore.Field{zap.Reflect(event.Field, event.CAPFPublicKeyLength{Length: 270})}),
			nginx.Write(entry, []zapcore.Field{zap.Reflect(event.Field, event.ChainRetrieved{})}),
		); err != nil {
			t.Fatal(err)
		}
	}
	if got, want := clocks(trace.String(), "|   "), "12:00:01.000 12:00:01.000 12:00:01.001 11:00:01.000"; got != want {
		t.Errorf("the trace has %s, want %s", got, want)
	}
	if got, want := clocks(errorLog.String(), "[info]"), "12:00:01 12:00:01 12:00:01 11:00:01"; got != want {
		t.Errorf("error.log has %s, want %s", got, want)
	}
}

// clocks are the words in front of mark, one for each line that has it.
func clocks(log, mark string) string {
	var all []string
	for line := range strings.Lines(log) {
		if before, _, ok := strings.Cut(line, mark); ok {
			words := strings.Fields(before)
			all = append(all, words[len(words)-1])
		}
	}
	return strings.Join(all, " ")
}

func TestSessionsDoNotTearEachOther(t *testing.T) {
	var s sink
	log := zap.New(zaplog.CAPF(&s, time.UTC))
	var wg sync.WaitGroup
	for i := range 16 {
		wg.Go(func() {
			for range 50 {
				event.Emit(context.Background(), log, event.CAPFOperationStatus{Device: fmt.Sprint("SEP", i), Text: "Success:CAPF_OP_SUCCESS"})
			}
		})
	}
	wg.Wait()
	if len(s.writes) != 16*50 {
		t.Errorf("%d writes for %d events", len(s.writes), 16*50)
	}
	var d cucm.Decoder
	got := 0
	keep := func(event.Record) { got++ }
	for _, w := range s.writes {
		for l := range bytes.Lines(w) {
			d.Line(bytes.TrimSuffix(l, []byte("\n")), keep)
		}
		d.Flush(keep)
	}
	if got != 16*50 || d.Unknown != 0 {
		t.Errorf("%d events, %d unknown lines", got, d.Unknown)
	}
}

func TestDialectsIgnoreWhatIsNotTheirs(t *testing.T) {
	var capf, stdout, errorLog, web, own sink
	log := zap.New(zapcore.NewTee(
		zaplog.CAPF(&capf, nil), zaplog.CESStdout(&stdout), zaplog.ErrorLog(&errorLog, 1, nil), zaplog.IIS(&web), zaplog.JSON(&own),
	))
	log.Error("plain words", zap.String("x", "y"))
	event.Emit(context.Background(), log, event.ESTRequest{Operation: "simpleenroll", Status: 200})
	event.Emit(context.Background(), log, event.UpstreamDone{Step: event.StepSubmit, URL: "https://ca"})
	for name, s := range map[string]*sink{"capf": &capf, "stdout": &stdout, "error.log": &errorLog, "iis": &web} {
		if len(s.writes) != 0 {
			t.Errorf("%s: %s", name, s)
		}
	}
	if n := strings.Count(own.String(), "\n"); n != 3 {
		t.Errorf("JSON has %d lines", n)
	}
}

func TestStartLinesStayOutOfConnections(t *testing.T) {
	var stdout, errorLog sink
	log := zap.New(zapcore.NewTee(zaplog.CESStdout(&stdout), zaplog.ErrorLog(&errorLog, 31067, time.UTC)))
	conn := event.WithConn(context.Background(), event.Conn{Number: 2, Client: "14.48.31.128", Server: "0.0.0.0:8084"})
	// A field of the logger counts like one of the entry.
	with := log.With(zap.Reflect("conn", event.Conn{Number: 3, Client: "14.48.31.129", Server: "0.0.0.0:8084"}))
	event.Emit(context.Background(), log, event.ESTCurve{NID: 415})
	event.Emit(conn, log, event.ChainUnavailable{})
	event.Emit(context.Background(), with, event.ChainUnavailable{})
	if got, want := stdout.String(), "***EST [INFO][set_ssl_option:1378]--> Using non-default ECDHE curve (nid=415)\n"; got != want {
		t.Errorf("stdout: got %q, want %q", got, want)
	}
	const tail = "] 31067#0: *%d ra_certsrv_ca_plugin_postconf: Unable to retrieve CA Cert chain from CA while SSL EST handshaking, client: 14.48.31.12%d, server: 0.0.0.0:8084\n"
	for i, want := range []string{fmt.Sprintf(tail, 2, 8), fmt.Sprintf(tail, 3, 9)} {
		if got := string(errorLog.writes[i]); !strings.HasSuffix(got, want) {
			t.Errorf("error.log: got %q, want %q", got, want)
		}
	}
}

func TestIISHeaderComesOnceAndFirst(t *testing.T) {
	var s sink
	log := zap.New(zaplog.IIS(&s))
	at := time.Date(2026, 1, 15, 8, 0, 1, 0, time.UTC)
	event.Emit(context.Background(), log, event.WebRequest{Time: at, Status: 200})
	event.Emit(context.Background(), log, event.WebRequest{Time: at, Status: 401})
	want := "#Software: Microsoft Internet Information Services 10.0\r\n#Version: 1.0\r\n#Date: 2026-01-15 08:00:01\r\n" +
		"#Fields: date time s-ip cs-method cs-uri-stem cs-uri-query s-port cs-username c-ip cs(User-Agent) cs(Referer) sc-status sc-substatus sc-win32-status time-taken\r\n" +
		"2026-01-15 08:00:01 - - - - 0 - - - - 200 0 0 0\r\n2026-01-15 08:00:01 - - - - 0 - - - - 401 0 0 0\r\n"
	if got := s.String(); got != want {
		t.Errorf("got %q\nwant %q", got, want)
	}
	var own sink
	log = zap.New(zaplog.IIS(&own))
	event.Emit(context.Background(), log, event.WebLogHeader{Software: "own"})
	event.Emit(context.Background(), log, event.WebRequest{Time: at})
	if got := own.String(); strings.Count(got, "#Software") != 1 {
		t.Errorf("got %q", got)
	}
}

func TestFullDiskIsReportedOnceAndNeverStopsTheWork(t *testing.T) {
	full := errors.New("no space left on device")
	for name, open := range map[string]func(zapcore.WriteSyncer) zapcore.Core{
		"capf": func(w zapcore.WriteSyncer) zapcore.Core { return zaplog.CAPF(w, nil) },
		"json": zaplog.JSON,
	} {
		s := sink{err: full, room: 7}
		var reports bytes.Buffer
		log := zap.New(open(&s), zap.ErrorOutput(zapcore.AddSync(&reports)))
		for range 5 {
			event.Emit(context.Background(), log, event.CAPFReadset{Socket: 6})
		}
		if got := strings.Count(reports.String(), full.Error()); got != 1 {
			t.Errorf("%s: reported %d times: %s", name, got, &reports)
		}
		s.mu.Lock()
		s.err = nil
		s.mu.Unlock()
		event.Emit(context.Background(), log, event.CAPFReadset{Socket: 10})
		// Half a line stands there; the next one begins anew.
		last := s.writes[len(s.writes)-1]
		before := s.writes[len(s.writes)-2]
		if string(before) != "\n" || !bytes.Contains(last, []byte("10")) || !bytes.HasSuffix(last, []byte("\n")) {
			t.Errorf("%s: %q", name, s.writes)
		}
	}
}

func TestTreeSaysWhatItCannotOpen(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "logs"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	log, closeLogs, err := zaplog.Tree(dir, 1, nil)
	if err == nil || log != nil || closeLogs != nil || !strings.Contains(err.Error(), filepath.Join(dir, "logs")) {
		t.Errorf("%v, %v", log, err)
	}
}

func TestTreeAppends(t *testing.T) {
	dir := t.TempDir()
	for range 2 {
		log, closeLogs, err := zaplog.Tree(dir, 1, nil)
		if err != nil {
			t.Fatal(err)
		}
		event.Emit(context.Background(), log, event.CAPFReadset{Socket: 6})
		if err := errors.Join(closeLogs(), closeLogs()); err != nil {
			t.Error(err)
		}
	}
	data, err := os.ReadFile(filepath.Join(dir, zaplog.CAPFFile))
	if err != nil || bytes.Count(data, []byte("\n")) != 6 {
		t.Errorf("%v: %q", err, data)
	}
}

func TestJSONLine(t *testing.T) {
	var s sink
	log := zap.New(zaplog.JSON(&s))
	ctx := event.WithID(context.Background(), "7f")
	event.Emit(ctx, log, event.UpstreamFailed{Step: event.StepLogin, URL: "https://ca:443/certsrv", Code: "dns"})
	var got struct {
		TS    time.Time      `json:"ts"`
		Level string         `json:"level"`
		Kind  string         `json:"kind"`
		ID    string         `json:"id"`
		Event map[string]any `json:"event"`
	}
	if err := json.Unmarshal([]byte(s.String()), &got); err != nil {
		t.Fatalf("%v: %s", err, &s)
	}
	if got.TS.IsZero() || got.Level != "warn" || got.Kind != "upstream-failed" || got.ID != "7f" || got.Event["code"] != "dns" {
		t.Errorf("%+v from %s", got, &s)
	}
}

func BenchmarkEmit(b *testing.B) {
	ctx := event.WithConn(event.WithID(context.Background(), "7f"), event.Conn{Number: 2, Client: "14.48.31.128", Server: "0.0.0.0:8084"})
	discard := zapcore.AddSync(nowhere{})
	for name, c := range map[string]zapcore.Core{
		"capf": zaplog.CAPF(discard, time.UTC), "stdout": zaplog.CESStdout(discard), "error.log": zaplog.ErrorLog(discard, 1, time.UTC),
		"iis": zaplog.IIS(discard), "json": zaplog.JSON(discard),
	} {
		b.Run(name, func(b *testing.B) {
			log := zap.New(c)
			e := event.Event(event.UpstreamData{Length: 163})
			switch name {
			case "capf":
				e = event.CAPFReadset{Socket: 6}
			case "iis":
				e = event.WebRequest{Status: 200}
			}
			b.ReportAllocs()
			for b.Loop() {
				event.Emit(ctx, log, e)
			}
		})
	}
}

type nowhere struct{}

func (nowhere) Write(p []byte) (int, error) { return len(p), nil }
