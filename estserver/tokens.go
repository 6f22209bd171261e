package estserver

import (
	"context"
	"crypto/sha256"
	"strings"

	"github.com/onlineca/onlineca/ra"
	"github.com/onlineca/onlineca/ra/fault"
)

// spendToken returns an Enroller that binds the one-time password which the
// client came with to its key before anything is submitted. It stands behind
// the policy, so that a request which is refused costs nothing. Requests of
// clients that came with something else pass.
func spendToken(next ra.Enroller, tokens Tokens) ra.Enroller {
	return ra.EnrollerFunc(func(ctx context.Context, r ra.Request) (ra.Result, error) {
		x := exchangeOf(ctx)
		if x == nil || x.token == nil {
			return next.Enroll(ctx, r)
		}
		// A token is made for one device and nothing else.
		if cn := r.CSR.Subject.CommonName; !strings.EqualFold(cn, x.token.Username) {
			return ra.Result{}, &fault.Fault{
				Code: fault.NotAuthorized, Op: "enrol by one-time password",
				Message: "the password is that of " + x.token.Username + ", the request names " + cn,
			}
		}
		if err := tokens.Spend(*x.token, sha256.Sum256(r.CSR.RawSubjectPublicKeyInfo)); err != nil {
			return ra.Result{}, err
		}
		return next.Enroll(ctx, r)
	})
}
