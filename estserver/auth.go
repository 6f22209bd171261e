package estserver

import (
	"context"
	"net/http"

	"github.com/onlineca/onlineca/ra"
	"github.com/onlineca/onlineca/ra/event"
	"github.com/onlineca/onlineca/ra/fault"
)

// authenticate finds out who the client is, by the label's means. The error is
// a [challenge] for a client that has not shown a password yet and may.
func (x *exchange) authenticate(ctx context.Context) error {
	auth := &x.label.Auth
	if len(x.peer) == 0 {
		event.Emit(ctx, x.s.cfg.Logger, event.ESTNoPeerCertificate{})
	}
	if auth.Anonymous {
		return nil
	}
	certErr := x.verifyPeer(ctx)
	if certErr == nil && !auth.RequireAll {
		return nil
	}
	if !x.label.asksForPassword() || certErr != nil && auth.RequireAll {
		return certErr
	}
	creds, given, err := credentials(x.r)
	switch {
	case err != nil:
		return err
	case !given && auth.Certificates != nil && len(x.peer) > 0 && certErr != nil:
		return certErr // that tells the client more than a question would
	case !given:
		return challenge{}
	}
	return x.verifyPassword(ctx, creds)
}

// asksForPassword says whether HTTP Basic is of any use with this label.
func (l *label) asksForPassword() bool { return l.Auth.Basic != nil || l.Auth.Tokens != nil }

// verifyPeer looks at the client's certificate, if the label accepts any.
func (x *exchange) verifyPeer(ctx context.Context) error {
	auth := x.label.Auth.Certificates
	switch {
	case auth == nil:
		return fault.Newf(fault.ClientCertificate, "verify the client's certificate", "certificates are not accepted here")
	case x.peerErr != nil:
		return &fault.Fault{
			Code: fault.ClientCertificate, Op: "verify the client's certificate", Err: x.peerErr,
			Message: "what the proxy sends in " + x.s.cfg.ProxyCertificateHeader + " is no URL-encoded PEM certificate",
		}
	case len(x.peer) == 0:
		return &fault.Fault{Code: fault.ClientCertificate, Op: "verify the client's certificate", Message: "the client presented none"}
	}
	if err := x.verifyChain(ctx, auth); err != nil {
		return err
	}
	x.verified = x.peer[0]
	x.client.Name, x.client.Method, x.client.Certificate = nameOf(x.verified), "certificate", x.verified
	return nil
}

// credentials reads HTTP Basic credentials (RFC 7617). Without an Authorization
// header, or with an empty user name and password, none are given.
func credentials(r *http.Request) (c ra.Credentials, given bool, err error) {
	if r.Header.Get("Authorization") == "" {
		return c, false, nil
	}
	user, password, ok := r.BasicAuth()
	if !ok {
		return c, false, &fault.Fault{
			Code: fault.BadCredentials, Op: "read the Authorization header", Message: "it is not HTTP Basic",
		}
	}
	return ra.Credentials{Username: user, Password: password}, user != "" || password != "", nil
}

// verifyPassword tries the one-time passwords first: they are cheap to check
// and no account of anybody's.
func (x *exchange) verifyPassword(ctx context.Context, creds ra.Credentials) error {
	auth := &x.label.Auth
	accept := func(method string) {
		// With a certificate and a password, the certificate says who it is.
		if x.verified == nil {
			x.client.Name, x.client.Method = creds.Username, method
		}
	}
	var err error
	if auth.Tokens != nil {
		if err = auth.Tokens.Authenticate(ctx, creds); err == nil {
			accept("token")
			x.token = &creds
			return nil
		}
	}
	if auth.Basic == nil {
		return err
	}
	x.announceAnchor(ctx)
	if err := auth.Basic.Authenticate(ctx, creds); err != nil {
		return err
	}
	accept(x.label.basicMethod())
	return nil
}

func (l *label) basicMethod() string {
	if l.Auth.BasicMethod != "" {
		return l.Auth.BasicMethod
	}
	return "basic"
}

// announceAnchor reports the root below which certsrv is trusted, as the
// product does before it tries a client's credentials there.
func (x *exchange) announceAnchor(ctx context.Context) {
	if x.s.cfg.Logger == nil {
		return
	}
	if certs, err := x.s.cfg.Chain.CACerts(ctx); err == nil && len(certs) > 0 {
		event.Emit(ctx, x.s.cfg.Logger, event.RATrustAnchor{
			Store: event.StoreNginx, Subject: oneLine(certs[len(certs)-1]),
		})
	}
}
