package diagnose

import (
	"cmp"
	"math"
	"math/bits"
	"math/cmplx"
	"slices"
)

// Two logs are compared moment by moment as long as that is maxAll differences.
// Longer ones are correlated first, and maxRefined of their moments decide
// between the candidates that are found so.
const (
	maxAll        = 1 << 18
	maxRefined    = 8000
	maxCandidates = 16
)

// thin takes n moments from the middle.
func thin(xs []int64, n int) []int64 {
	if len(xs) <= n {
		return xs
	}
	i := (len(xs) - n) / 2
	return xs[i : i+n]
}

// differences are those between the moments of two logs, each in their order,
// as far as they lie within limit of a guess.
type differences struct {
	xs, ys       []int64
	guess, limit int64
}

// within reports whether a difference is one that may be.
func (d differences) within(v int64) bool {
	return d.limit == math.MaxInt64 || abs(v-d.guess) <= d.limit
}

// frequent returns differences among which the most frequent ones are.
func (d differences) frequent() []int64 {
	var keep []int64
	if len(d.xs)*len(d.ys) <= maxAll {
		for _, x := range d.xs {
			for _, y := range d.ys {
				if d.within(y - x) {
					keep = append(keep, y-x)
				}
			}
		}
		return keep
	}
	some := d
	some.xs = thin(d.xs, maxRefined)
	best, most := int64(0), 0
	centers, width := d.candidates()
	for _, c := range centers {
		// Logs that count in seconds differ by whole ones, and a window about a
		// whole second holds three of those, any other as few as two.
		first := c - width
		first -= ((first % 1000) + 1000) % 1000
		for at := first; at <= c+width; at += 1000 {
			if n := some.near(at, nil); n > most && d.within(at) {
				best, most = at, n
			}
		}
	}
	if most > 0 {
		some.near(best, func(v int64) { keep = append(keep, v) })
	}
	return keep
}

// near counts the differences that lie near to one. Both logs are walked
// through together.
func (d differences) near(center int64, yield func(int64)) int {
	n := 0
	lo, _ := slices.BinarySearch(d.ys, d.xs[0]+center-window/2)
	for _, x := range d.xs {
		for lo < len(d.ys) && d.ys[lo]-x < center-window/2 {
			lo++
		}
		for _, y := range d.ys[lo:] {
			if y-x > center+window/2 {
				break
			}
			n++
			if yield != nil {
				yield(y - x)
			}
		}
	}
	return n
}

// maxBins bounds the bins into which moments are counted, so that they fit
// into a megabyte or two.
const maxBins = 1 << 16

// candidates correlates the two logs: how many moments fall into each second,
// or into longer bins if the logs are long. It returns the differences at
// which the correlation is highest, and the width of the bins.
func (d differences) candidates() (centers []int64, width int64) {
	spanX, spanY := d.xs[len(d.xs)-1]-d.xs[0], d.ys[len(d.ys)-1]-d.ys[0]
	width = max(1000, (spanX+spanY)/maxBins+1)
	size := 2
	for int64(size) < (spanX+spanY)/width+2 {
		size *= 2
	}
	corr := correlate(counts(d.xs, width, size), counts(d.ys, width, size))
	order := make([]int, size)
	for i := range order {
		order[i] = i
	}
	slices.SortFunc(order, func(a, b int) int { return cmp.Compare(real(corr[b]), real(corr[a])) })
	var highest float64
	for _, i := range order {
		if real(corr[i]) < highest/2 {
			break // logs that pause regularly correlate a little at every multiple of it
		}
		lag := int64(i)
		if i > int(spanY/width)+1 {
			lag -= int64(size) // the second half stands for negative lags
		}
		if at := d.ys[0] - d.xs[0] + lag*width; d.within(at) {
			highest = max(highest, real(corr[i]))
			if centers = append(centers, at); len(centers) == maxCandidates {
				break
			}
		}
	}
	return centers, width
}

// counts says how many moments fall into each bin, less the mean, so that
// times of equal density do not correlate.
func counts(all []int64, width int64, size int) []complex128 {
	bins := make([]complex128, size)
	used := int((all[len(all)-1]-all[0])/width) + 1
	for _, at := range all {
		bins[(at-all[0])/width]++
	}
	mean := complex(float64(len(all))/float64(used), 0)
	for i := range min(used, size) {
		bins[i] -= mean
	}
	return bins
}

// correlate is the circular cross-correlation of two series of the same
// length, a power of two.
func correlate(x, y []complex128) []complex128 {
	fourier(x, false)
	fourier(y, false)
	for i := range x {
		y[i] *= cmplx.Conj(x[i])
	}
	fourier(y, true)
	return y
}

// fourier is the discrete Fourier transform in place (Cooley and Tukey, radix
// 2), without the factor of the inverse, which does not matter here.
func fourier(a []complex128, inverse bool) {
	n := len(a)
	shift := 64 - bits.TrailingZeros(uint(n))
	for i := range n {
		if j := int(bits.Reverse64(uint64(i)) >> shift); i < j {
			a[i], a[j] = a[j], a[i]
		}
	}
	for size := 2; size <= n; size *= 2 {
		angle := -2 * math.Pi / float64(size)
		if inverse {
			angle = -angle
		}
		turns := make([]complex128, size/2)
		for k := range turns {
			turns[k] = cmplx.Rect(1, angle*float64(k))
		}
		for start := 0; start < n; start += size {
			lo, hi := a[start:start+size/2], a[start+size/2:start+size]
			for k, t := range turns {
				u, v := lo[k], hi[k]*t
				lo[k], hi[k] = u+v, u-v
			}
		}
	}
}

// window is how far apart the same moment may be noted: logs that count in
// seconds, and what lies between two notes of one exchange.
const window = 2500

// vote finds the difference that occurs most often. Of several that occur
// equally often, the one nearest to a multiple of step wins: zones are
// multiples of a quarter of an hour, and clocks of one machine differ by days.
func vote(diffs []int64, step, host int64) match {
	slices.Sort(diffs)
	best := match{skew: math.MaxInt64}
	lo := 0
	for hi := range diffs {
		for diffs[hi]-diffs[lo] > window {
			lo++
		}
		c := hi - lo + 1
		if c < best.n {
			continue
		}
		middle := diffs[lo+(hi-lo)/2]
		if skew := nearest(middle-host, step); c > best.n || skew < best.skew {
			best = match{offset: middle, n: c, skew: skew}
		}
	}
	return best
}

// nearest is how far d is from a multiple of step.
func nearest(d, step int64) int64 {
	m := abs(d) % step
	return min(m, step-m)
}

func abs(n int64) int64 { return max(n, -n) }
