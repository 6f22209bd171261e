package diagnose

import "time"

// WithSlice sets how many facts make a slice of time.
func (o Options) WithSlice(n int) Options {
	o.slice = n
	return o
}

// Offset is the difference that is found between two clocks in local time of a
// zone, by the moments that they have in common.
func Offset(xs, ys []int64) int64 {
	limit := (15 * time.Hour).Milliseconds()
	return vote(differences{xs: xs, ys: ys, limit: limit}.frequent(), (15 * time.Minute).Milliseconds(), 0).offset
}
