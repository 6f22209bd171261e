package ra

import (
	"context"
	"time"

	"go.uber.org/zap"

	"github.com/onlineca/onlineca/ra/event"
	"github.com/onlineca/onlineca/ra/fault"
)

// Logged returns an Enroller that reports every request and its outcome on log,
// as one event.Enrollment.
func Logged(next Enroller, log *zap.Logger) Enroller {
	if log == nil {
		return next
	}
	return EnrollerFunc(func(ctx context.Context, r Request) (Result, error) {
		start := time.Now()
		res, err := next.Enroll(ctx, r)
		e := event.Enrollment{
			Operation: string(r.Operation), Label: r.Label, Template: r.Template,
			Client: r.Client.Addr, User: r.Client.Name, Method: r.Client.Method,
			State: string(res.State), Target: res.Target, ReqID: res.ReqID, Duration: time.Since(start),
		}
		if r.CSR != nil {
			e.Subject = r.CSR.Subject.String()
		}
		if res.Certificate != nil {
			e.Serial = res.Certificate.SerialNumber.Text(16)
		}
		if f := fault.Of(err); f != nil {
			e.State, e.Code, e.Error, e.ReqID, e.Target = "failed", f.Code.String(), err.Error(), f.ReqID, f.Target
		}
		event.Emit(ctx, log, e)
		return res, err
	})
}
