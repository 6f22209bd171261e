package ra

import (
	"context"
	"fmt"
	"runtime/debug"

	"go.uber.org/zap"

	"github.com/onlineca/onlineca/ra/event"
	"github.com/onlineca/onlineca/ra/fault"
)

// Recover returns an Enroller whose panics are a fault.Internal. The stack goes
// into log; the error carries the panic's value only.
func Recover(next Enroller, log *zap.Logger) Enroller {
	return EnrollerFunc(func(ctx context.Context, r Request) (res Result, err error) {
		defer func() {
			if p := recover(); p != nil {
				event.Emit(ctx, log, event.Panic{Value: fmt.Sprint(p), Stack: string(debug.Stack())})
				res, err = Result{}, fault.Newf(fault.Internal, "enrol", "panic: %v", p)
			}
		}()
		return next.Enroll(ctx, r)
	})
}
