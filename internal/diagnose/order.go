package diagnose

import (
	"cmp"
	"math"
	"path"
	"strconv"
	"strings"
)

// asWritten compares names of files by the order in which they were written:
// by their numbers, but for what logrotate(8) leaves, where error.log.2 is
// older than error.log.1, error.log-20260305 older than error.log-20260306, and
// error.log the newest.
func asWritten(a, b string) int {
	baseA, ageA := rotation(a)
	baseB, ageB := rotation(b)
	return cmp.Or(natural(baseA, baseB), cmp.Compare(ageB, ageA), natural(a, b))
}

// rotation splits what logrotate adds off a name. The age is 0 for the log that
// is still written.
func rotation(name string) (base string, age int) {
	name = strings.TrimSuffix(name, ".gz")
	i := strings.LastIndexAny(name, ".-")
	if i < 0 || !strings.Contains(path.Base(name[:i]), ".") {
		return name, 0
	}
	n, err := strconv.ParseUint(name[i+1:], 10, 31)
	switch {
	case err != nil:
		return name, 0
	case len(name)-i-1 >= len("20260305"):
		return name[:i], math.MaxInt - int(n)
	}
	return name[:i], int(n)
}

// natural compares names with their numbers as numbers, so that capf2.txt
// comes before capf10.txt.
func natural(a, b string) int {
	for a != "" && b != "" {
		na, nb := digits(a), digits(b)
		if na == "" || nb == "" {
			if a[0] != b[0] {
				return cmp.Compare(a[0], b[0])
			}
			a, b = a[1:], b[1:]
			continue
		}
		ta, tb := strings.TrimLeft(na, "0"), strings.TrimLeft(nb, "0")
		if c := cmp.Or(cmp.Compare(len(ta), len(tb)), cmp.Compare(ta, tb), cmp.Compare(na, nb)); c != 0 {
			return c
		}
		a, b = a[len(na):], b[len(nb):]
	}
	return cmp.Compare(len(a), len(b))
}

func digits(s string) string {
	i := 0
	for i < len(s) && s[i] >= '0' && s[i] <= '9' {
		i++
	}
	return s[:i]
}
