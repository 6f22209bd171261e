package diagnose

// WithSlice sets how many facts make a slice of time.
func (o Options) WithSlice(n int) Options {
	o.slice = n
	return o
}
