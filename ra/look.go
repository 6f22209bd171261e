package ra

import "context"

type lookKey struct{}

// Looking returns a context for a look whether a request number is that of a
// request whose answer was lost. Of such a look it is expected that the number
// is another's, or was never handed out: neither is a failure to report.
func Looking(ctx context.Context) context.Context {
	return context.WithValue(ctx, lookKey{}, true)
}

// IsLook tells whether ctx is that of a look.
func IsLook(ctx context.Context) bool {
	is, _ := ctx.Value(lookKey{}).(bool)
	return is
}
