package diagnose

import (
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/onlineca/onlineca/ra/event"
	"github.com/onlineca/onlineca/ra/fault"
)

// pattern is the text of libcurl's by which a fault shows, out of the table.
type pattern struct {
	code fault.Code
	curl int
	re   *regexp.Regexp
}

var patterns = func() []pattern {
	var all []pattern
	for _, c := range fault.Codes() {
		r := c.Row()
		if r.Curl == 0 {
			continue
		}
		text := regexp.QuoteMeta(r.CurlText)
		for _, hole := range []string{"host", "subject", "ms"} {
			text = strings.ReplaceAll(text, `\{`+hole+`\}`, `.*`)
		}
		all = append(all, pattern{c, r.Curl, regexp.MustCompile(`^` + text + `$`)})
	}
	return all
}()

// stepFault is the fault of an exchange that timed out. libcurl's text is the
// same for all of them.
var stepFault = map[event.UpstreamStep]fault.Code{
	event.StepLogin:  fault.LoginTimeout,
	event.StepPage:   fault.PageTimeout,
	event.StepChain:  fault.ChainTimeout,
	event.StepSubmit: fault.EnrollTimeout,
	event.StepFetch:  fault.FetchTimeout,
}

// curlTexts are texts of other releases of libcurl and OpenSSL that the table
// does not have.
var curlTexts = []struct {
	part  string
	codes []fault.Code
}{
	{"Could not resolve", []fault.Code{fault.DNS}},
	{"unable to get local issuer certificate", []fault.Code{fault.UntrustedChain, fault.SelfSigned}},
	{"unable to get issuer certificate", []fault.Code{fault.UntrustedChain}},
	{"signed certificate in certificate chain", []fault.Code{fault.UntrustedChain}},
	{"self signed certificate", []fault.Code{fault.SelfSigned}},
	{"self-signed certificate", []fault.Code{fault.SelfSigned}},
	{"certificate is not yet valid", []fault.Code{fault.NotYetValid}},
	{"certificate has expired", []fault.Code{fault.Expired}},
	{"does not match target host name", []fault.Code{fault.NameMismatch}},
	{"no alternative certificate subject name matches", []fault.Code{fault.NameMismatch}},
	{"Connection refused", []fault.Code{fault.ConnectionRefused}},
	{"Connection timed out after", []fault.Code{fault.ConnectTimeout}},
	{"returned error: 401", []fault.Code{fault.BadCredentials}},
}

// curlNumbers are the codes of libcurl that leave no doubt, whatever the text.
var curlNumbers = map[int][]fault.Code{
	6: {fault.DNS}, 7: {fault.ConnectionRefused}, 35: {fault.TLSHandshake}, 51: {fault.NameMismatch},
	52: {fault.ConnectionLost}, 56: {fault.ConnectionLost}, 55: {fault.ConnectionLost},
	60: {fault.UntrustedChain, fault.SelfSigned, fault.NotYetValid, fault.Expired},
}

// ofFailure says which faults a failed exchange can be, nil if its lines do
// not say.
func ofFailure(f failure) []fault.Code {
	if c, ok := fault.Lookup(f.code); ok && c != fault.Unknown {
		return []fault.Code{c}
	}
	if f.curl == 0 {
		return nil
	}
	var codes []fault.Code
	for _, p := range patterns {
		if p.curl == f.curl && p.re.MatchString(f.text) {
			codes = append(codes, p.code)
		}
	}
	if c, ok := stepFault[f.step]; ok && slices.Contains(codes, c) {
		return []fault.Code{c}
	}
	if len(codes) > 0 {
		return codes
	}
	for _, t := range curlTexts {
		if strings.Contains(f.text, t.part) {
			return t.codes
		}
	}
	if f.curl == 28 {
		if c, ok := stepFault[f.step]; ok {
			return []fault.Code{c}
		}
	}
	return curlNumbers[f.curl]
}

var hresult = regexp.MustCompile(`\b0x[0-9a-fA-F]{8}\b`)

// codesInText says which faults a text of a log names by a Windows status.
func codesInText(text string) []fault.Code {
	if strings.Contains(text, "CSR signature check failed") {
		return []fault.Code{fault.BadCSRSignature}
	}
	if !strings.Contains(text, "0x") {
		return nil
	}
	for _, m := range hresult.FindAllString(text, 4) {
		if n, err := strconv.ParseUint(m[2:], 16, 32); err == nil {
			if c, ok := fault.ByHRESULT(uint32(n)); ok {
				return []fault.Code{c}
			}
		}
	}
	return nil
}

// ofRV says which faults the number of CAPF's EST client can be, by the lines
// of the table.
func ofRV(rv int) []fault.Code {
	prefix := "Enrollment rv = " + strconv.Itoa(rv) + " "
	var codes []fault.Code
	for _, c := range fault.Codes() {
		if c.Row().EST == rv && shows(c, logCAPF, prefix) {
			codes = append(codes, c)
		}
	}
	return codes
}

// shows reports whether a fault shows in a log by a line that contains text.
func shows(c fault.Code, log fault.Log, text string) bool {
	return slices.ContainsFunc(c.Row().Shows, func(s fault.Sighting) bool {
		return s.Log == log && strings.Contains(s.Line, text)
	})
}

// showing lists the faults that show in a log by a line that contains text.
func showing(log fault.Log, text string) []fault.Code {
	return slices.DeleteFunc(fault.Codes(), func(c fault.Code) bool { return !shows(c, log, text) })
}

// wayFaults are the faults on the way to certsrv: it never hears of the
// request.
var wayFaults = []fault.Code{
	fault.DNS, fault.ConnectionRefused, fault.ConnectTimeout, fault.TLSHandshake, fault.UntrustedChain,
	fault.SelfSigned, fault.NameMismatch, fault.NotYetValid, fault.Expired,
}

// The statuses of Windows that IIS notes for a login.
const (
	winNoCredentials = 2148074254 // 0x8009030E: the first leg of a login
	winLogonDenied   = 2148074252 // 0x8009030C
	winBadBindings   = 2148074310 // 0x80090346
	winInvalidToken  = 2148074248 // 0x80090308
	winLogonFailure  = 1326
	winWrongPassword = 3221225581 // 0xC000006D
)

// ofLogins says what the logins in the log of IIS came to.
func ofLogins(web []*exchange) (codes []fault.Code, x *exchange) {
	challenged := false
	for _, x := range web {
		if x.web == webLogin && x.status < 400 && x.win32 == 0 && !x.user {
			return []fault.Code{fault.NotChallenged}, x
		}
		if x.status != 401 {
			continue
		}
		switch x.win32 {
		case winLogonDenied, winLogonFailure, winWrongPassword:
			return []fault.Code{fault.BadCredentials}, x
		case winBadBindings:
			return []fault.Code{fault.EPARequired}, x
		case winNoCredentials:
			challenged = true
		}
	}
	for i, x := range web {
		if x.user || x.status < 400 {
			return nil, nil
		}
		if x.status == 401 && i == len(web)-1 && !challenged {
			return []fault.Code{fault.NTLMDisabled}, x
		}
	}
	return nil, nil
}
