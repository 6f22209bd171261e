package diagnose

// doubt is how far from its time an exchange with certsrv is looked at as one
// that an enrolment could have had: IIS counts in seconds, and its clock is
// known to about one.
const doubt = 2500

// contested reports whether the exchange of a kind that an enrolment was given
// could be another's. It could if giving it away, and that one's away in turn,
// and so on, ends at an enrolment that has none: IIS names no device, and what
// is one short somewhere may be missing here.
func (a *analysis) contested(e *enrolment, kind web) bool {
	seen := map[*enrolment]bool{e: true}
	queue := []*exchange{e.first(kind)}
	for len(queue) > 0 {
		x := queue[0]
		queue = queue[1:]
		at := x.clock.utc(x.start())
		for _, o := range a.enrolments {
			if o.from-doubt > at {
				break
			}
			if seen[o] || o.to+doubt < at {
				continue
			}
			seen[o] = true
			own := o.first(kind)
			if own == nil {
				return true
			}
			queue = append(queue, own)
		}
	}
	return false
}
