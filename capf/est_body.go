package capf

import (
	"context"
	"encoding/base64"
	"fmt"
	"mime"
	"strconv"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/onlineca/onlineca/ra/fault"
)

// estColumns is the width of a line of base64: what OpenSSL writes, and what
// libEST's server needs to read a request.
const estColumns = 64

// encodeBase64 writes data in lines of 64 columns, each ended by a line feed:
// libEST's server does not find the end of a line without one.
func encodeBase64(data []byte) []byte {
	line := base64.StdEncoding.AppendEncode(nil, data)
	out := make([]byte, 0, len(line)+len(line)/estColumns+1)
	for len(line) > 0 {
		n := min(estColumns, len(line))
		out = append(append(out, line[:n]...), '\n')
		line = line[n:]
	}
	return out
}

// decodeBase64 reads base64 with any white space in it (RFC 8951 section 3.1)
// and with the NULs that libEST's server counts into its bodies.
func decodeBase64(body []byte) ([]byte, error) {
	kept := make([]byte, 0, len(body))
	for _, b := range body {
		switch b {
		case ' ', '\t', '\r', '\n', '\v', '\f', 0:
		default:
			kept = append(kept, b)
		}
	}
	if len(kept) == 0 {
		return nil, fmt.Errorf("the body is empty")
	}
	n, err := base64.StdEncoding.Decode(kept, kept)
	if err != nil {
		return nil, fmt.Errorf("the body is not base64: %w", err)
	}
	return kept[:n], nil
}

// decode checks the headers of a 200 as libEST's client does, and decodes its
// body. A want with a parameter stands for the whole of what libEST compares.
func (c *ESTClient) decode(op string, r *estReply, want string) ([]byte, error) {
	unreadable := func(err error) error {
		return estFault(fault.ESTAnswerUnreadable, op, &ESTError{RV: fault.ESTHTTPUnsupported, Status: r.status, Err: err})
	}
	kind := r.header.Get("Content-Type")
	if !strings.HasPrefix(kind, want) && (!c.cfg.Tolerant || !estTolerable(kind)) {
		return nil, unreadable(fmt.Errorf("its content type is %.100q, CAPF wants %q", kind, want))
	}
	if r.length < 0 && !c.cfg.Tolerant {
		return nil, unreadable(fmt.Errorf("it has no Content-Length, which CAPF wants"))
	}
	raw, err := decodeBase64(r.body)
	if err != nil {
		return nil, unreadable(err)
	}
	return raw, nil
}

// estTolerable is RFC 7030's own rule for the content type of certificates.
func estTolerable(kind string) bool {
	media, param, err := mime.ParseMediaType(kind)
	if err != nil || media != "application/pkcs7-mime" {
		return false
	}
	smime := param["smime-type"]
	return smime == "" || strings.EqualFold(smime, "certs-only")
}

// wait does what a 202 asks for, if there is time left for it, and returns the
// time left after that.
func (c *ESTClient) wait(ctx context.Context, op string, r *estReply, left time.Duration) (time.Duration, error) {
	pause, err := retryAfter(r.header.Get("Retry-After"))
	if err == nil && pause > left {
		err = fmt.Errorf("it says to come back in %v, and there are %v left to wait", pause, max(left, 0))
	}
	if err != nil {
		f := estFault(fault.InProgress, op, &ESTError{RV: fault.ESTCAEnrollRetry, Status: r.status, Err: err})
		f.Message, f.RetryAfter = estText(r), pause
		return 0, f
	}
	c.log.Info("est: the server says to come back", zap.String("server", c.base), zap.Duration("wait", pause))
	timer := time.NewTimer(pause)
	defer timer.Stop()
	select {
	case <-timer.C:
		return left - pause, nil
	case <-ctx.Done():
		return 0, estFault(fault.Canceled, op, &ESTError{RV: fault.ESTCAEnrollRetry, Status: r.status, Err: context.Cause(ctx)})
	}
}

// retryAfter reads Retry-After as libEST does: whole seconds, no date.
func retryAfter(value string) (time.Duration, error) {
	const longest = 1 << 31
	n, err := strconv.ParseInt(strings.TrimSpace(value), 10, 64)
	if err != nil || n < 0 || n > longest {
		return 0, fmt.Errorf("its Retry-After is %.40q, not a number of seconds", value)
	}
	// A server that says 0 is not asked again at once and for ever.
	return time.Duration(max(n, 1)) * time.Second, nil
}
