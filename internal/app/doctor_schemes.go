package app

import (
	"bufio"
	"context"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/onlineca/onlineca/certsrv"
	"github.com/onlineca/onlineca/ra/fault"
)

// greeting is certsrv's answer to a request that carries no credentials.
type greeting struct {
	status   int
	server   string
	location string
	date     string
	offer    []string // WWW-Authenticate
	at       time.Time
	took     time.Duration
	err      error
}

// maxAnswer limits such an answer, its header included.
const maxAnswer = 64 << 10

// greet asks certsrv's login page without credentials, once, on the connection
// that is there.
func (c *checkup) greet(ctx context.Context) *greeting {
	if c.first == nil {
		g := c.ask(ctx, "")
		c.first = &g
	}
	return c.first
}

// ask sends one request for the login page. Its connection is not one that was
// verified: authorization must tell nothing.
func (c *checkup) ask(ctx context.Context, authorization string) (g greeting) {
	start := time.Now()
	defer func() { g.at = time.Now(); g.took = g.at.Sub(start) }()
	ctx, cancel := c.within(ctx)
	defer cancel()
	defer context.AfterFunc(ctx, func() { _ = c.conn.SetDeadline(time.Unix(1, 0)) })()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, c.base, nil)
	if err != nil {
		return greeting{err: err}
	}
	agent := c.settings.Certsrv.UserAgent
	if agent == "" {
		agent = certsrv.DefaultUserAgent
	}
	req.Header.Set("User-Agent", agent)
	if authorization != "" {
		req.Header.Set("Authorization", authorization)
	}
	if err := req.Write(c.conn); err != nil {
		return greeting{err: answerError(ctx, err)}
	}
	resp, err := http.ReadResponse(bufio.NewReader(io.LimitReader(c.conn, maxAnswer)), req)
	if err != nil {
		return greeting{err: answerError(ctx, err)}
	}
	defer resp.Body.Close()
	g = greeting{
		status: resp.StatusCode, server: resp.Header.Get("Server"), location: resp.Header.Get("Location"),
		date: resp.Header.Get("Date"), offer: resp.Header.Values("WWW-Authenticate"),
	}
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		return greeting{err: answerError(ctx, err)}
	}
	return g
}

// answerError is an answer that did not come, in the terms of the fault table.
func answerError(ctx context.Context, err error) error {
	const op = "ask certsrv for its login page"
	var ne net.Error
	switch {
	case errors.Is(ctx.Err(), context.Canceled):
		return fault.New(fault.Canceled, op, ctx.Err())
	case ctx.Err() != nil, errors.As(err, &ne) && ne.Timeout():
		return fault.Newf(fault.LoginTimeout, op, "no answer in time")
	case strings.Contains(err.Error(), "malformed"): // net/http has no type for it
		return fault.New(fault.PageUnreadable, op, err)
	default:
		return fault.New(fault.ConnectionLost, op, err)
	}
}

// checkSchemes says by which schemes certsrv lets clients log in.
func (c *checkup) checkSchemes(ctx context.Context, st *DoctorStep) {
	if c.conn == nil {
		st.skip("because there is no TLS connection")
		return
	}
	g := c.greet(ctx)
	st.took, st.timed = g.took, true
	if g.err != nil {
		st.failErr(g.err)
		return
	}
	offered := schemes(g.offer)
	switch {
	case g.status != http.StatusUnauthorized:
		c.explainGreeting(st, g)
	case has(offered, "NTLM"):
		st.say("%s", strings.Join(offered, ", "))
	case has(offered, "Negotiate"):
		c.checkNegotiate(ctx, st, offered)
	case len(offered) == 0:
		st.fail(fault.NTLMDisabled, "certsrv answers 401 and offers nothing at all")
	default:
		st.fail(fault.NTLMDisabled, "certsrv offers only %s", strings.Join(offered, ", "))
	}
}

// explainGreeting is about an answer that asks for no login.
func (c *checkup) explainGreeting(st *DoctorStep, g *greeting) {
	from := ""
	if g.server != "" {
		from = " from " + g.server
	}
	switch {
	case g.status == http.StatusNotFound:
		p := st.fail(fault.ServerError, "%s answers 404%s", c.base, from)
		p.Cause = "Web Enrollment is not installed on this host, or not under this path."
		p.Fix = "Correct certsrv.url, or install the role service Certification Authority Web Enrollment."
	case g.status >= 400:
		st.fail(fault.ServerError, "%s answers %d %s%s", c.base, g.status, http.StatusText(g.status), from)
	case g.location != "" && !c.ownHost(g.location):
		st.fail(fault.WrongHost, "%s leads to %s", c.base, g.location)
	default:
		st.fail(fault.NotChallenged, "%s answers %d %s%s without asking for a login", c.base, g.status, http.StatusText(g.status), from)
	}
}

// ownHost says whether a Location stays on the configured host.
func (c *checkup) ownHost(location string) bool {
	u, err := url.Parse(location)
	return err == nil && (u.Host == "" || strings.EqualFold(u.Hostname(), c.host))
}

// checkNegotiate tells the two kinds of Negotiate apart: with the provider
// Negotiate, IIS takes NTLM under that name and answers an NTLM NEGOTIATE
// message by a challenge; with Negotiate:Kerberos it does not. The message
// names nobody, and no logon comes of it.
func (c *checkup) checkNegotiate(ctx context.Context, st *DoctorStep, offered []string) {
	g := c.ask(ctx, "Negotiate "+base64.StdEncoding.EncodeToString(negotiateMessage()))
	st.took += g.took
	list := strings.Join(offered, ", ")
	switch {
	case g.err != nil:
		st.say("%s; whether NTLM is among it will show", list)
	case slices.ContainsFunc(g.offer, challenge):
		st.say("%s, which takes NTLM", list)
	default:
		st.fail(fault.NTLMDisabled, "certsrv offers %s, but answers NTLM without a challenge: it takes Kerberos alone (provider Negotiate:Kerberos)", list)
	}
}

func challenge(header string) bool {
	name, token, _ := strings.Cut(strings.TrimSpace(header), " ")
	return strings.EqualFold(name, "Negotiate") && strings.TrimSpace(token) != ""
}

// negotiateMessage is an NTLM NEGOTIATE message (MS-NLMP 2.2.1.1) without
// names.
//
//	signature   8 bytes  "NTLMSSP\0"
//	type        4 bytes  1
//	flags       4 bytes  little-endian
//	domain      8 bytes  length, length, offset
//	workstation 8 bytes  length, length, offset
//	version     8 bytes  0
func negotiateMessage() []byte {
	const (
		unicodeStrings  = 0x00000001
		oemStrings      = 0x00000002
		requestTarget   = 0x00000004
		ntlm            = 0x00000200
		extendedSession = 0x00080000
		size            = 40
	)
	b := append(make([]byte, 0, size), "NTLMSSP\x00"...)
	b = binary.LittleEndian.AppendUint32(b, 1)
	b = binary.LittleEndian.AppendUint32(b, unicodeStrings|oemStrings|requestTarget|ntlm|extendedSession)
	for range 2 {
		b = binary.LittleEndian.AppendUint32(b, 0)
		b = binary.LittleEndian.AppendUint32(b, size)
	}
	return append(b, make([]byte, size-len(b))...)
}

// schemes lists the names of what is offered, each once. A header may hold
// several, separated by commas; what has a "=" before its first blank is a
// parameter of the one before.
func schemes(headers []string) []string {
	var names []string
	for _, h := range headers {
		for part := range strings.SplitSeq(h, ",") {
			name, _, _ := strings.Cut(strings.TrimSpace(part), " ")
			if name != "" && !strings.Contains(name, "=") && !has(names, name) {
				names = append(names, name)
			}
		}
	}
	return names
}

func has(names []string, name string) bool {
	return slices.ContainsFunc(names, func(n string) bool { return strings.EqualFold(n, name) })
}
