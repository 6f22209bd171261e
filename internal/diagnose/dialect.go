package diagnose

import (
	"bytes"

	"github.com/onlineca/onlineca/internal/logfmt/libest"
	"github.com/onlineca/onlineca/ra/fault"
)

// dialect is what a line looks like.
type dialect byte

const (
	other dialect = iota
	dialCAPF
	dialStart // CiscoRA's printout
	dialError // nginx's error.log
	dialEST   // libEST, in either of the two
	dialIIS
	dialOwn
	dialects
)

// The logs, by the names that the table of faults uses.
const (
	logCAPF  = fault.LogCAPF
	logStart = fault.LogStdout
	logError = fault.LogError
	logIIS   = fault.LogIIS
	logOwn   = fault.LogOwn
)

// logOf says to which log a line belongs. A line of libEST alone could be of
// either; it counts as error.log's unless the file is CiscoRA's printout.
var logOf = [dialects]fault.Log{
	other: "", dialCAPF: logCAPF, dialStart: logStart, dialError: logError, dialEST: logError, dialIIS: logIIS, dialOwn: logOwn,
}

// directives are those that a W3C log may have.
var directives = map[string]bool{
	"Software": true, "Version": true, "Date": true, "Fields": true, "Remark": true, "Start-Date": true, "End-Date": true,
}

// dialectOf tells by its first bytes what a line can only be. The decoders
// decide whether it is.
func dialectOf(b []byte) dialect {
	if len(b) < 8 {
		return other
	}
	switch c := b[0]; {
	case c == '{':
		return dialOwn
	case c == '#':
		if name, _, ok := bytes.Cut(b[1:], []byte(":")); ok && directives[string(name)] {
			return dialIIS
		}
	case c == '*' && libest.Is(b):
		return dialEST
	case c == 'n' && bytes.HasPrefix(b, []byte("nginx: [")), c == 'E' && bytes.HasPrefix(b, []byte("EnrollmentService.sh : ")):
		return dialStart
	case c >= '0' && c <= '9':
		switch {
		case b[2] == ':' && len(b) > 13 && b[13] == '|':
			return dialCAPF
		case b[4] == '/' && b[7] == '/':
			return dialError
		case b[4] == '-' && b[7] == '-', b[2] == ':':
			return dialIIS
		}
	}
	return other
}

// tally counts the lines of each dialect.
type tally [dialects]int

func (t *tally) count(d dialect) { t[d]++ }

// most says which log most lines are of, "" for none.
func (t *tally) most() fault.Log {
	best, n := fault.Log(""), 0
	sum := map[fault.Log]int{}
	for d := dialCAPF; d < dialects; d++ {
		l := logOf[d]
		if d == dialEST && t[dialStart] > 0 && t[dialError] == 0 {
			l = logStart
		}
		if sum[l] += t[d]; sum[l] > n {
			best, n = l, sum[l]
		}
	}
	return best
}
