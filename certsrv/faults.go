package certsrv

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/textproto"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/go-resty/resty/v2"

	"github.com/onlineca/onlineca/certsrv/winauth"
	"github.com/onlineca/onlineca/internal/neterr"
	"github.com/onlineca/onlineca/ra/event"
	"github.com/onlineca/onlineca/ra/fault"
)

// fault turns the error of an exchange into a Fault. x may be nil.
func (c *Client) fault(k call, err error, x *winauth.Exchange) *fault.Fault {
	f := &fault.Fault{Op: "certsrv: " + k.op + " " + k.url, ReqID: k.reqID, Err: err}
	var subject string
	f.Code, subject, f.Curl = c.classify(k, err, x)
	if ve := (*tls.CertificateVerificationError)(nil); errors.As(err, &ve) && len(ve.UnverifiedCertificates) > 0 {
		f.Err = describe(err, ve.UnverifiedCertificates[0])
	}
	f.Unsent = k.form != nil && x != nil && !x.Sent
	f.Unjudged = unjudged(err)
	var ph *winauth.PhaseError
	elapsed := time.Duration(0)
	if errors.As(err, &ph) {
		elapsed = ph.Elapsed
		if f.Curl == "" && ph.Received > 0 && ph.Timeout() {
			f.Curl = "Operation timed out after {ms} milliseconds with " + strconv.FormatInt(ph.Received, 10) + " bytes received"
		}
	}
	if f.Curl == "" {
		f.Curl = f.Code.Row().CurlText
	}
	f.Curl = strings.NewReplacer("{host}", c.host, "{subject}", subject,
		"{ms}", strconv.FormatInt(elapsed.Milliseconds(), 10)).Replace(f.Curl)
	var paused *winauth.SuspendedError
	if errors.As(err, &paused) {
		f.RetryAfter = paused.Until.Sub(c.cfg.Now())
	}
	return f
}

// unjudged says whether a login broke off after its credentials were sent: the
// domain may have refused them, and counted that.
func unjudged(err error) bool {
	var leg *winauth.LegError
	var ph *winauth.PhaseError
	var status *winauth.StatusError
	return errors.As(err, &leg) && leg.Leg == winauth.LegAuthenticate &&
		(errors.As(err, &ph) && ph.Sent || errors.As(err, &status))
}

// loginFaults are those that winauth names, in the order in which to ask.
var loginFaults = []struct {
	err  error
	code fault.Code
}{
	{winauth.ErrClosed, fault.Canceled},
	{winauth.ErrSuspended, fault.LoginSuspended},
	{winauth.ErrBinding, fault.EPARequired},
	{winauth.ErrRejected, fault.BadCredentials},
	{winauth.ErrNTLMNotOffered, fault.NTLMDisabled},
	{winauth.ErrNotChallenged, fault.NotChallenged},
	{winauth.ErrWrongHost, fault.WrongHost},
}

// classify finds the code of err, the subject of the server's certificate if
// it matters, and curl's text where it is not the row's. The order matters:
// a DNSError can be a timeout, and a certificate error is a failed handshake.
func (c *Client) classify(k call, err error, x *winauth.Exchange) (code fault.Code, subject, curl string) {
	submitted := k.step == event.StepSubmit && x != nil && x.Sent
	var he *httpError
	if errors.As(err, &he) {
		return c.statusFault(he), "", ""
	}
	if submitted {
		// Whatever happened since: the certificate may have been issued.
		if isTimeout(err) {
			return k.late, "", ""
		}
		return fault.OutcomeUnknown, "", ""
	}
	for _, l := range loginFaults {
		if errors.Is(err, l.err) {
			return l.code, "", ""
		}
	}
	if errors.Is(err, context.Canceled) {
		return fault.Canceled, "", ""
	}
	if code, subject, ok := certificateFault(err, c.cfg.Now()); ok {
		return code, subject, ""
	}
	code, curl = phaseFault(k, err)
	return code, "", curl
}

// statusFault judges an answer that is not 200.
func (c *Client) statusFault(e *httpError) fault.Code {
	if e.location == "" {
		return fault.ServerError
	}
	to, err := url.Parse(e.location)
	if err == nil && (to.Host == "" || strings.EqualFold(to.Hostname(), c.host)) {
		return fault.PageUnreadable
	}
	return fault.WrongHost
}

// phaseFault goes by what was being done when it failed.
func phaseFault(k call, err error) (code fault.Code, curl string) {
	late := isTimeout(err)
	var leg *winauth.LegError
	inLogin := errors.As(err, &leg)
	phase := winauth.PhaseFirstByte
	var ph *winauth.PhaseError
	if errors.As(err, &ph) {
		phase = ph.Phase
	}
	switch {
	case phase == winauth.PhaseQueue:
		return fault.Busy, ""
	case phase == winauth.PhaseDNS && late:
		return fault.DNS, "Resolving timed out after {ms} milliseconds"
	case phase == winauth.PhaseDNS:
		return fault.DNS, ""
	case phase == winauth.PhaseConnect && late:
		return fault.ConnectTimeout, ""
	case phase == winauth.PhaseConnect:
		return fault.ConnectionRefused, connectText(err)
	case late && (inLogin || phase == winauth.PhaseTLS || phase == winauth.PhaseLogin):
		return loginLate, ""
	case late:
		return k.late, ""
	case phase == winauth.PhaseTLS:
		return fault.TLSHandshake, ""
	}
	return answerFault(err)
}

// answerFault judges an answer that broke off or is none.
func answerFault(err error) (code fault.Code, curl string) {
	var se *winauth.StatusError
	var pe textproto.ProtocolError
	switch {
	case errors.As(err, &se):
		return fault.ServerError, ""
	case errors.Is(err, resty.ErrResponseBodyTooLarge):
		return fault.BodyTooLarge, ""
	case errors.Is(err, io.ErrUnexpectedEOF):
		return fault.ConnectionLost, "transfer closed with outstanding read data remaining"
	case errors.Is(err, io.EOF):
		return fault.ConnectionLost, "Empty reply from server"
	case errors.As(err, &pe), strings.Contains(err.Error(), "malformed"): // net/http has no type for it
		return fault.PageUnreadable, ""
	case isConnectionError(err):
		return fault.ConnectionLost, ""
	}
	var leg *winauth.LegError
	if errors.As(err, &leg) {
		return fault.PageUnreadable, "" // a challenge that is none
	}
	return fault.ConnectionLost, ""
}

// isConnectionError says whether the network, or TLS, ended the exchange.
func isConnectionError(err error) bool {
	var op *net.OpError
	return errors.As(err, &op) || neterr.Cut(err) ||
		errors.Is(err, net.ErrClosed) || errors.Is(err, winauth.ErrConnectionClosed)
}

func connectText(err error) string {
	switch {
	case neterr.NoRoute(err):
		return "Failed to connect to {host}: No route to host"
	case neterr.NoNetwork(err):
		return "Failed to connect to {host}: Network is unreachable"
	default:
		return ""
	}
}

// isTimeout finds the several ways in which Go says that time ran out.
func isTimeout(err error) bool {
	var ne net.Error
	return errors.Is(err, context.DeadlineExceeded) || errors.As(err, &ne) && ne.Timeout()
}

// certificateFault judges a server certificate that was not accepted.
func certificateFault(err error, now time.Time) (code fault.Code, subject string, ok bool) {
	var ve *tls.CertificateVerificationError
	if !errors.As(err, &ve) {
		return 0, "", false
	}
	var leaf *x509.Certificate
	if len(ve.UnverifiedCertificates) > 0 {
		leaf = ve.UnverifiedCertificates[0]
		subject = leaf.Subject.CommonName
	}
	var he x509.HostnameError
	var ie x509.CertificateInvalidError
	switch {
	case errors.As(err, &he):
		return fault.NameMismatch, subject, true
	case errors.As(err, &ie) && ie.Reason == x509.Expired && ie.Cert != nil && now.Before(ie.Cert.NotBefore):
		return fault.NotYetValid, subject, true
	case errors.As(err, &ie) && ie.Reason == x509.Expired:
		return fault.Expired, subject, true
	case leaf != nil && isSelfSigned(leaf):
		return fault.SelfSigned, subject, true
	}
	return fault.UntrustedChain, subject, true
}

// describe adds to err which certificate it is about.
func describe(err error, leaf *x509.Certificate) error {
	const day = "2006-01-02 15:04"
	err = fmt.Errorf("%w (the server's certificate is for %q, issued by %q, valid from %s to %s UTC)", err, leaf.Subject, leaf.Issuer,
		leaf.NotBefore.UTC().Format(day), leaf.NotAfter.UTC().Format(day))
	if he := (x509.HostnameError{}); errors.As(err, &he) && !hasSAN(leaf) {
		err = fmt.Errorf("%w; it has no subject alternative name: match_common_name would compare its common name instead", err)
	}
	return err
}

// isSelfSigned compares issuer and subject.
func isSelfSigned(c *x509.Certificate) bool {
	return string(c.RawIssuer) == string(c.RawSubject)
}

// Refusal is what certsrv said of a request that it did not grant. errors.As
// finds it in the Fault.
type Refusal struct {
	// Denied says that the CA denied the request, or revoked what it had
	// issued; else it failed at it, and may grant it another time.
	Denied bool
	// ReqID is the request's number, 0 if the CA gave it none.
	ReqID int
	// Disposition is the CA's: 1 error, 2 denied, 6 revoked; 0 if not shown.
	Disposition int
	// HRESULT is the Windows status, 0 if not shown; see [HRESULT].
	HRESULT uint32
	// Message is the CA's own.
	Message string
}

// Error names the status and says what to do about it, as far as it is known.
func (r *Refusal) Error() string {
	name, hint := HRESULT(r.HRESULT)
	switch {
	case name != "":
		return name + ": " + hint
	case r.HRESULT != 0:
		return "a status that this program does not know"
	case r.Disposition != 0:
		return fmt.Sprintf("disposition %d, no status", r.Disposition)
	default:
		return "certsrv showed no status"
	}
}

// refused makes a Fault of a page that says no.
func (k call) refused(o outcome) *fault.Fault {
	id := o.ReqID
	if id == 0 {
		id = k.reqID
	}
	f := &fault.Fault{
		Code: o.code(), Op: "certsrv: " + k.op + " " + k.url, ReqID: id,
		HRESULT: o.HRESULT, Message: o.Message,
	}
	f.Denied = o.Kind == denied || o.Kind == revoked
	if f.Denied || o.Kind == failed {
		f.Err = &Refusal{Denied: f.Denied, ReqID: id, Disposition: o.Disposition, HRESULT: o.HRESULT, Message: o.Message}
	}
	return f
}

// code is the fault that o stands for.
func (o outcome) code() fault.Code {
	if o.Kind == revoked {
		return fault.Revoked
	}
	if code, ok := fault.ByHRESULT(o.HRESULT); ok {
		return code
	}
	switch {
	case o.HRESULT&0xffffff00 == 0x80093100: // CRYPT_E_ASN1_*
		return fault.MalformedCSR
	case o.Kind == denied:
		return fault.DeniedByPolicy
	case o.Kind == unavailable:
		return fault.CAStopped
	case o.Kind == failed:
		return fault.ServerError
	default:
		return fault.PageUnreadable
	}
}
