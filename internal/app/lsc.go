package app

import (
	"context"
	"fmt"

	"go.uber.org/zap"

	"github.com/onlineca/onlineca/internal/chain"
	"github.com/onlineca/onlineca/ra"
	"github.com/onlineca/onlineca/ra/event"
)

// checkLSC returns an Enroller that reports certificates which no phone would
// accept, when they are issued and not when the phone next registers. It
// refuses none: the certificate exists, and may serve for something else.
func checkLSC(next ra.Enroller, ca ra.ChainSource, forPhones func(label string) bool, log *zap.Logger) ra.Enroller {
	return ra.EnrollerFunc(func(ctx context.Context, r ra.Request) (ra.Result, error) {
		res, err := next.Enroll(ctx, r)
		if err != nil || res.Certificate == nil || !forPhones(r.Label) {
			return res, err
		}
		issuers, chainErr := ca.CACerts(ctx)
		if chainErr != nil {
			issuers = nil // The key usage can be looked at without.
		}
		for _, f := range chain.CheckLSC(res.Certificate, issuers, chain.LSCOptions{}) {
			if f.Level != chain.Error {
				continue
			}
			event.Emit(ctx, log, event.CertificateUnfit{
				Code: f.Fault.String(), Error: f.Err().Error(), ReqID: res.ReqID,
				Subject: res.Certificate.Subject.String(), Serial: fmt.Sprintf("%x", res.Certificate.SerialNumber),
			})
		}
		return res, nil
	})
}

// forPhones says whether what is issued by a label goes to phones.
func (e *ESTSettings) forPhones(label string) bool {
	if label == "" {
		return e.Certificates == "lsc"
	}
	l := e.Labels[label]
	return l != nil && l.Certificates == "lsc"
}
