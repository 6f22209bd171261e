package diagnose

import (
	"slices"

	"github.com/onlineca/onlineca/ra/fault"
)

// howToCollect says how to come by a log that is not there.
var howToCollect = map[fault.Log]string{
	logCAPF:  "CUCM command line: file get activelog cm/trace/capf/sdi/capf* (trace level of CAPF on Detailed); in RTMT, CAPF can be missing from Collect Files (CSCvo28048)",
	logStart: "CUCM command line: file get activelog cm/trace/capf/sdi/nginx*",
	logError: "nginx's error.log of CiscoRA on the CUCM publisher, with a remote support account (root): no command collects it",
	logIIS:   `on the web server of the CA: C:\inetpub\logs\LogFiles\W3SVC1\u_exYYMMDD.log of the same day (UTC)`,
	logOwn:   "if the registration authority is onlineca, its own log, logs/onlineca.jsonl: it names the fault itself",
}

// allLogs is the order in which logs are named.
var allLogs = []fault.Log{logCAPF, logStart, logError, logIIS, logOwn}

// missing lists the logs that are not there and could make a verdict surer:
// those in which its codes differ.
func (a *analysis) missing(v *verdict) []fault.Log {
	if v.sure == Certain || printedAlike(v.codes) {
		return nil
	}
	var logs []fault.Log
	for _, log := range []fault.Log{logStart, logError, logIIS} {
		if !a.present[log] && (len(v.codes) != 1 || v.codes[0] == fault.ESTReadTimeout || v.codes[0] == fault.ESTServerError || a.tells(log, v.codes)) {
			logs = append(logs, log)
		}
	}
	if v.sure == Unsure && !a.present[logOwn] && (len(logs) == 0 || slices.ContainsFunc(v.codes, ownAlone)) {
		logs = append(logs, logOwn)
	}
	return logs
}

// ownAlone reports whether our own log is the only one that a fault shows in.
func ownAlone(c fault.Code) bool {
	shows := c.Row().Shows
	return len(shows) > 0 && !slices.ContainsFunc(shows, func(s fault.Sighting) bool { return s.Log != logOwn })
}

// printedAlike reports whether the codes are those for which every log of the
// product has the same text.
func printedAlike(codes []fault.Code) bool {
	return len(codes) == 2 && slices.Contains(codes, fault.SelfSigned) && slices.Contains(codes, fault.UntrustedChain)
}

// tells reports whether the codes show in a log.
func (a *analysis) tells(log fault.Log, codes []fault.Code) bool {
	return slices.ContainsFunc(codes, func(c fault.Code) bool {
		return slices.ContainsFunc(c.Row().Shows, func(s fault.Sighting) bool { return s.Log == log })
	})
}
