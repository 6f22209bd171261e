package app

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/onlineca/onlineca/internal/chain"
	"github.com/onlineca/onlineca/internal/neterr"
	"github.com/onlineca/onlineca/ra/fault"
)

// checkSettings reads the settings and the files that they name. What can be
// told of them in spite of a mistake is used by the steps that follow.
func (c *checkup) checkSettings(_ context.Context, st *DoctorStep) {
	st.say("%s", c.o.Config)
	if err := c.readSettings(); err != nil {
		st.say("%s cannot be used as it is", c.o.Config)
		p := st.fail(fault.Unknown, "%s", err)
		p.Cause = "The settings file cannot be used as it is: the registration authority would not start."
		p.Fix = "Correct what the message names; \"onlineca config check FILE\" shows it again."
	}
	c.chooseURL(st)
	c.setURL()
	c.report.URL, c.report.Username = shownURL(c.settings.Certsrv.URL), c.settings.Certsrv.Username
	c.report.Template = c.settings.EST.Template
	if c.settings.Certsrv.URL == "" {
		return
	}
	c.readFiles(st)
	for _, w := range c.files.warnings {
		p := st.warn(fault.Unknown, "%s", w)
		p.Cause = "The setting works, but it is unwise."
	}
}

// chooseURL picks the certsrv to test. Credentials go to none that the settings
// do not name.
func (c *checkup) chooseURL(st *DoctorStep) {
	all := c.settings.Certsrv.targets()
	c.settings.Certsrv.URL = all[0]
	if c.o.URL != "" {
		if !slices.Contains(all, c.o.URL) {
			p := st.fail(fault.Unknown, "%s is none of the addresses in the settings: %s", shownURL(c.o.URL), strings.Join(shownURLs(all), ", "))
			p.Cause = "Only a certsrv that the settings name is tested: it is given the account's credentials."
			p.Fix = "Give --url one of these addresses, as it stands in the settings, or add the new one to certsrv.urls."
			c.settings.Certsrv.URL = ""
			return
		}
		c.settings.Certsrv.URL = c.o.URL
	}
	for _, u := range shownURLs(all) {
		if u != c.settings.Certsrv.URL {
			st.note("not tested in this run: %s (--url)", u)
		}
	}
}

func shownURLs(all []string) []string {
	out := make([]string, len(all))
	for i, u := range all {
		out[i] = shownURL(u)
	}
	return out
}

// readSettings is ReadSettings, but it keeps what could be decoded.
func (c *checkup) readSettings() error {
	s, err := ReadSettings(c.o.Config)
	if err == nil {
		c.settings = s
		return nil
	}
	f, openErr := os.Open(c.o.Config)
	if openErr != nil {
		return err
	}
	defer f.Close()
	text, readErr := io.ReadAll(io.LimitReader(f, maxSettingsFile))
	if readErr != nil {
		return err
	}
	if s, parseErr := ParseSettings(text); parseErr == nil {
		s.resolve(filepath.Dir(c.o.Config))
		c.settings = s
		c.mendTimeouts()
	}
	return err
}

// mendTimeouts puts the defaults where a mistaken timeout would end every wait
// at once, or never.
func (c *checkup) mendTimeouts() {
	def := DefaultSettings().Certsrv.Timeouts
	t := &c.settings.Certsrv.Timeouts
	for _, d := range []struct{ is, def *time.Duration }{
		{&t.Login, &def.Login}, {&t.Page, &def.Page}, {&t.Submit, &def.Submit}, {&t.Fetch, &def.Fetch},
	} {
		if *d.is < time.Millisecond {
			*d.is = *d.def
		}
	}
}

// readFiles reads the files of the settings. A mistake in one that has nothing
// to do with certsrv does not keep the login from being tried.
func (c *checkup) readFiles(st *DoctorStep) {
	var err error
	if c.files, err = c.settings.load(); err != nil {
		p := st.fail(fault.Unknown, "%s", err)
		p.Cause = "A file that the settings name cannot be used: the registration authority would not start."
		p.Fix = "Correct the path or the file; relative paths are relative to the settings file."
	}
	e := &c.settings.Certsrv
	c.trust = len(e.TLS.CA) == 0 || c.files.roots != nil
	c.secrets = c.files.password != "" && e.Username != "" &&
		(e.ExtendedProtection.Certificate == "" || c.files.epa != nil)
}

// shownURL leaves credentials out that do not belong there.
func shownURL(raw string) string {
	u, err := url.Parse(raw)
	if err != nil || u.User != nil {
		return ""
	}
	return chain.Printable(raw)
}

// checkName resolves the name of the certsrv host.
func (c *checkup) checkName(ctx context.Context, st *DoctorStep) {
	if c.url == nil {
		st.skip("because the settings name no certsrv that can be asked (certsrv.url)")
		return
	}
	if net.ParseIP(c.host) != nil {
		c.addrs = []string{net.JoinHostPort(c.host, c.port())}
		st.say("%s is an address: nothing to resolve", c.host)
		return
	}
	lookup, cancel := c.within(ctx)
	defer cancel()
	found, err := c.o.Lookup(lookup, c.host)
	switch {
	case err != nil:
		st.fail(fault.DNS, "%s: %s", c.host, lookupError(err))
		return
	case len(found) == 0:
		st.fail(fault.DNS, "%s has no address", c.host)
		return
	}
	st.say("%s is %s", c.host, strings.Join(found, ", "))
	for _, a := range found[:min(len(found), maxAddresses)] {
		c.addrs = append(c.addrs, net.JoinHostPort(a, c.port()))
	}
}

// maxAddresses limits how many addresses of a name are tried.
const maxAddresses = 8

// lookupError leaves out what is said already.
func lookupError(err error) string {
	var dns *net.DNSError
	if !errors.As(err, &dns) {
		return err.Error()
	}
	s := dns.Err
	if dns.Server != "" {
		s += " (asked " + dns.Server + ")"
	}
	return s
}

// checkTCP tries every address: one that is dead fails every second phone.
func (c *checkup) checkTCP(ctx context.Context, st *DoctorStep) {
	dial, cancel := c.within(ctx)
	defer cancel()
	conns, errs := make([]net.Conn, len(c.addrs)), make([]error, len(c.addrs))
	var all sync.WaitGroup
	for i, a := range c.addrs {
		all.Go(func() { conns[i], errs[i] = c.o.Dial(dial, "tcp", a) })
	}
	all.Wait()
	good := -1
	for i, conn := range conns {
		switch {
		case conn == nil:
		case good < 0:
			good, c.conn = i, conn
		default:
			_ = conn.Close()
		}
	}
	if good < 0 {
		for i, a := range c.addrs {
			code := dialFault(errs[i])
			st.fail(code, "%s: %s", a, dialError(errs[i]))
		}
		return
	}
	st.say("connected to %s", c.addrs[good])
	for i, err := range errs {
		if err == nil {
			continue
		}
		if isIPv6(c.addrs[i]) != isIPv6(c.addrs[good]) {
			// A client falls back to the other family by itself.
			st.note("%s does not answer: %s", c.addrs[i], dialError(err))
			continue
		}
		st.warn(dialFault(err), "one of the addresses does not answer: %s: %s", c.addrs[i], dialError(err))
	}
	// The connection that works is the one that the next steps go on with.
	c.addrs = c.addrs[good : good+1]
}

func isIPv6(address string) bool { return strings.HasPrefix(address, "[") }

// dialFault finds the code of a connection that was not made.
func dialFault(err error) fault.Code {
	var ne net.Error
	if errors.Is(err, context.DeadlineExceeded) || errors.As(err, &ne) && ne.Timeout() {
		return fault.ConnectTimeout
	}
	return fault.ConnectionRefused
}

func dialError(err error) string {
	var errno syscall.Errno
	switch {
	case errors.As(err, &errno):
		return errno.Error()
	case dialFault(err) == fault.ConnectTimeout:
		return "no answer in time"
	default:
		return err.Error()
	}
}

// checkTLS performs the handshake that the client would, without judging the
// certificate. If it fails, a second one with everything that this program can
// speak tells what the server wants.
func (c *checkup) checkTLS(ctx context.Context, st *DoctorStep) {
	conn, err := c.handshake(ctx, c.conn, &tls.Config{MinVersion: tls.VersionTLS12})
	c.conn = nil
	if err == nil {
		c.take(conn)
		st.say("%s, %s", tls.VersionName(c.state.Version), tls.CipherSuiteName(c.state.CipherSuite))
		return
	}
	p := st.fail(fault.TLSHandshake, "%s", tlsError(err))
	if dialFault(err) == fault.ConnectTimeout {
		*p = DoctorProblem{Level: DoctorFail, Code: fault.LoginTimeout.String(), What: "the TLS handshake did not end in time",
			Cause: "The port accepts connections and then says nothing: the service behind it hangs, or it does not speak TLS.", Fix: fault.TLSHandshake.Row().Fix}
		return
	}
	var record tls.RecordHeaderError
	if errors.As(err, &record) || ctx.Err() != nil {
		return
	}
	c.handshakeAny(ctx, st)
}

// handshakeAny tries again with old versions and weak cipher suites.
func (c *checkup) handshakeAny(ctx context.Context, st *DoctorStep) {
	dial, cancel := c.within(ctx)
	defer cancel()
	raw, err := c.o.Dial(dial, "tcp", c.addrs[0])
	if err != nil {
		return
	}
	var suites []uint16
	for _, s := range append(tls.CipherSuites(), tls.InsecureCipherSuites()...) {
		suites = append(suites, s.ID)
	}
	conn, err := c.handshake(ctx, raw, &tls.Config{MinVersion: tls.VersionTLS10, CipherSuites: suites}) //nolint:gosec // To see what the server is; nothing is sent.
	if err != nil {
		return
	}
	c.take(conn)
	st.Problems[0].What += fmt.Sprintf("; the server speaks %s with %s, which is too old",
		tls.VersionName(c.state.Version), tls.CipherSuiteName(c.state.CipherSuite))
}

func (c *checkup) take(conn *tls.Conn) {
	c.conn, c.state = conn, conn.ConnectionState()
	c.certs = c.state.PeerCertificates
}

// handshake speaks TLS on raw, which it closes if that fails. The certificate
// is judged by later steps; no credentials go over this connection.
func (c *checkup) handshake(ctx context.Context, raw net.Conn, cfg *tls.Config) (*tls.Conn, error) {
	ctx, cancel := c.within(ctx)
	defer cancel()
	cfg.ServerName, cfg.NextProtos = c.host, []string{"http/1.1"}
	cfg.InsecureSkipVerify = true
	conn := tls.Client(raw, cfg)
	if err := conn.HandshakeContext(ctx); err != nil {
		_ = raw.Close()
		return nil, err
	}
	return conn, nil
}

func tlsError(err error) string {
	var record tls.RecordHeaderError
	switch {
	case errors.As(err, &record) && strings.HasPrefix(string(record.RecordHeader[:]), "HTTP"):
		return "the port speaks HTTP without TLS"
	case errors.As(err, &record):
		return "the port does not speak TLS"
	case errors.Is(err, io.EOF), neterr.Cut(err):
		return "the server closed the connection during the handshake"
	default:
		return err.Error()
	}
}
