package lab

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/onlineca/onlineca/internal/zaplog"
	"github.com/onlineca/onlineca/ra/fault"
)

// logs is what a run left, read back from its files: what is checked and shown
// is what a person will find there.
type logs struct {
	files   map[fault.Log]logFile
	entries []entry // our own log
}

// logFile is one log.
type logFile struct {
	path  string // below the run's directory
	lines []string
}

// logOrder is the order in which a report shows the logs.
var logOrder = []fault.Log{fault.LogCAPF, fault.LogStdout, fault.LogError, fault.LogIIS, fault.LogOwn}

// entry is a line of our own log.
type entry struct {
	At     time.Time `json:"ts"`
	Level  string    `json:"level"`
	Kind   string    `json:"kind"`
	Device string    `json:"device"`
	Code   string    `json:"code"`
	Status int       `json:"status"`
	Error  word      `json:"error"`
	Event  fields    `json:"event"`
	line   int       // in the log, from 0
}

// fields are those of the events that are of interest here.
type fields struct {
	Device   string `json:"device"`
	Code     word   `json:"code"`
	RV       *int   `json:"rv"`
	Name     string `json:"name"`
	Length   int    `json:"pkcs7_length"`
	Step     string `json:"step"`
	URL      string `json:"url"`
	Curl     int    `json:"curl"`
	CurlText string `json:"curl_text"`
	Error    word   `json:"error"`
	Text     string `json:"text"`
	DBStatus string `json:"db_status"`
	DBNumber int    `json:"db_number"`
	// A request in the log of IIS.
	Time      time.Time `json:"time"`
	Method    string    `json:"method"`
	Stem      string    `json:"stem"`
	Query     string    `json:"query"`
	User      string    `json:"user"`
	Status    int       `json:"status"`
	Substatus int       `json:"substatus"`
	Win32     uint32    `json:"win32"`
	Taken     int64     `json:"time_taken_ns"`
	Operation string    `json:"operation"`
}

// word is a text. Fields of the same name are numbers or truths in other
// events; those are of no interest here.
type word string

// UnmarshalJSON reads a text and passes over anything else.
func (w *word) UnmarshalJSON(b []byte) error {
	if len(b) == 0 || b[0] != '"' {
		return nil
	}
	return json.Unmarshal(b, (*string)(w))
}

// readLogs reads the tree below dir.
func readLogs(dir string) (*logs, error) {
	l := &logs{files: map[fault.Log]logFile{}}
	for log, name := range map[fault.Log]string{
		fault.LogCAPF: zaplog.CAPFFile, fault.LogStdout: zaplog.StdoutFile,
		fault.LogError: zaplog.ErrorFile, fault.LogOwn: zaplog.JSONFile,
	} {
		f, err := readLog(dir, name)
		if err != nil {
			return nil, err
		}
		l.files[log] = f
	}
	web, err := filepath.Glob(filepath.Join(dir, filepath.FromSlash(zaplog.IISDir), "*.log"))
	if err != nil {
		return nil, fmt.Errorf("lab: %w", err)
	}
	slices.Sort(web)
	all := logFile{path: zaplog.IISDir + "/"}
	for _, path := range web { // two, if midnight came between
		f, err := readLog(dir, zaplog.IISDir+"/"+filepath.Base(path))
		if err != nil {
			return nil, err
		}
		all.path = f.path
		all.lines = append(all.lines, f.lines...)
	}
	l.files[fault.LogIIS] = all
	return l, l.readEntries()
}

func readLog(dir, name string) (logFile, error) {
	text, err := os.ReadFile(filepath.Join(dir, filepath.FromSlash(name)))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return logFile{}, fmt.Errorf("lab: read back a log: %w", err)
	}
	f := logFile{path: name}
	for line := range bytes.Lines(text) {
		f.lines = append(f.lines, strings.ToValidUTF8(strings.TrimRight(string(line), "\r\n"), "?"))
	}
	return f, nil
}

func (l *logs) readEntries() error {
	for i, line := range l.files[fault.LogOwn].lines {
		e := entry{line: i}
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			return fmt.Errorf("lab: line %d of our own log: %w", i+1, err)
		}
		l.entries = append(l.entries, e)
	}
	slices.SortStableFunc(l.entries, func(a, b entry) int { return a.At.Compare(b.At) })
	return nil
}

// code is the failure that an entry names, "" if it names none.
func (e *entry) code() string {
	if e.Event.Code != "" {
		return string(e.Event.Code)
	}
	return e.Code
}
