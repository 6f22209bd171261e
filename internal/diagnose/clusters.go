package diagnose

import (
	"cmp"
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/onlineca/onlineca/ra/fault"
)

// What happened at the same moment in two logs is taken to belong together, so
// the logs of two clusters must not be read as those of one. A cluster's logs
// are recognised by where they lie: in folders (or archives) beside each other
// that each have several kinds of logs, and the same kinds.

// folder is one of a tree of logs.
type folder struct {
	name   string // from the root
	clocks []*clock
	below  map[string]*folder
}

// sharedKinds is how many kinds of logs two folders have in common if each is a
// cluster's: the logs of one cluster lie apart by their kind.
const sharedKinds = 2

// clusters are the groups of clocks that belong together, each with the folder
// that they lie in. Beside is a folder whose logs kept a tree from being
// divided, "" for none.
func (f *facts) clusters() (groups []*folder, beside string) {
	root := &folder{}
	for _, k := range f.clocks {
		at := root
		for _, part := range strings.FieldsFunc(k.name, func(r rune) bool { return r == '/' || r == '!' }) {
			if at.below == nil {
				at.below = map[string]*folder{}
			}
			if at.below[part] == nil {
				at.below[part] = &folder{name: k.name[:prefixLen(k.name, at.name, part)]}
			}
			at = at.below[part]
		}
		at.clocks = append(at.clocks, k)
	}
	return root.divide()
}

// prefixLen is where the part of a name ends that comes after a prefix.
func prefixLen(name, prefix, part string) int {
	return len(prefix) + strings.Index(name[len(prefix):], part) + len(part)
}

// divide goes down to where the folders of several clusters lie side by side.
func (d *folder) divide() (groups []*folder, beside string) {
	if len(d.clocks) == 0 && len(d.below) == 1 {
		for _, only := range d.below {
			return only.divide()
		}
	}
	names := slices.SortedFunc(maps.Keys(d.below), natural)
	var sets []*folder
	for _, name := range names {
		if c := d.below[name]; slices.ContainsFunc(names, func(n string) bool { return n != name && len(commonKinds(c, d.below[n])) >= sharedKinds }) {
			sets = append(sets, c)
		} else {
			beside = c.name
		}
	}
	if len(d.clocks) > 0 {
		beside = d.name
	}
	switch {
	case len(sets) == 0:
		return []*folder{d}, ""
	case beside != "":
		return []*folder{d}, beside
	}
	for _, c := range sets {
		g, b := c.divide()
		groups = append(groups, g...)
		if b != "" {
			beside = b
		}
	}
	return groups, beside
}

// all are the clocks of a folder and of those below it.
func (d *folder) all() []*clock {
	all := slices.Clone(d.clocks)
	for _, name := range slices.Sorted(maps.Keys(d.below)) {
		all = append(all, d.below[name].all()...)
	}
	return all
}

// kinds are the logs that a folder has.
func (d *folder) kinds() map[fault.Log]bool {
	all := map[fault.Log]bool{}
	for _, k := range d.all() {
		all[k.log] = true
	}
	return all
}

func commonKinds(a, b *folder) []fault.Log {
	var both []fault.Log
	other := b.kinds()
	for log := range a.kinds() {
		if other[log] {
			both = append(both, log)
		}
	}
	return both
}

// of are the facts of some clocks alone.
func (f *facts) of(clocks []*clock) *facts {
	mine := map[*clock]bool{}
	for _, k := range clocks {
		mine[k] = true
	}
	return &facts{
		devices: f.devices, clocks: filter(f.clocks, func(k *clock) bool { return mine[k] }),
		streams:  filter(f.streams, func(s *stream) bool { return mine[s.clock] }),
		sessions: filter(f.sessions, func(s *session) bool { return mine[s.clock] }),
		requests: filter(f.requests, func(q *request) bool { return mine[q.clock] }),
		owns:     filter(f.owns, func(o *own) bool { return mine[o.clock] }),
		starts:   filter(f.starts, func(s *start) bool { return mine[s.clock] }),
	}
}

func filter[T any](all []T, keep func(T) bool) []T {
	return slices.DeleteFunc(slices.Clone(all), func(x T) bool { return !keep(x) })
}

// groups are the clusters whose logs were read, nil standing for everything.
func (w *walker) groups(f *facts, together bool) []*folder {
	if together {
		return []*folder{nil}
	}
	groups, beside := f.clusters()
	if beside != "" {
		w.remark("The logs look like those of several clusters: folders beside each other have the same kinds of logs. "+
			"What lies in %s could be of any of them, so everything is taken as one cluster's, and what happened at the same moment as one event. "+
			"Give the logs of one cluster at a time, or --together if there is only one.", beside)
	}
	if len(groups) == 1 {
		return []*folder{nil}
	}
	if groups = w.copies(groups); len(groups) > 1 {
		w.remark("The logs of %d clusters, by the folders that they lie in: each is looked at by itself. If they are all of one, give --together.", len(groups))
	}
	return groups
}

// sumUp is the report of several clusters.
func sumUp(all []*analysis, w *walker) Report {
	sum := Report{
		Schema: Schema, Device: all[0].o.Device, Faults: []Fault{}, Starts: []Start{}, Enrolments: []Enrolment{},
		Missing: []Missing{}, Clocks: []Clock{}, Files: []File{}, Problems: w.problems, Notes: w.notes,
	}
	if sum.Problems == nil {
		sum.Problems = []Problem{}
	}
	for _, name := range w.order {
		sum.Files = append(sum.Files, *w.files[name])
		sum.Totals.Lines += w.files[name].Lines
		sum.Totals.UnknownLines += w.files[name].Unknown
	}
	slices.SortFunc(sum.Files, func(x, y File) int { return natural(x.Name, y.Name) })
	for _, a := range all {
		r := a.report(w)
		if sum.Device != "" && r.Totals.Enrolments == 0 {
			continue // another cluster's device
		}
		r.Problems, r.Notes = []Problem{}, nil
		r.decide()
		sum.Totals.add(r.Totals)
		for _, f := range r.Faults {
			sum.addFault(f)
		}
		sum.Clusters = append(sum.Clusters, r)
	}
	slices.SortStableFunc(sum.Faults, func(x, y Fault) int { return cmp.Compare(y.Count, x.Count) })
	sum.decide()
	return sum
}

// add adds what was found of one cluster.
func (t *Totals) add(o Totals) {
	t.Enrolments += o.Enrolments
	t.Good += o.Good
	t.Failed += o.Failed
	t.Pending += o.Pending
	t.Unfinished += o.Unfinished
	t.Slow += o.Slow
	t.Listed += o.Listed
	t.Starts += o.Starts
	t.FailedStarts += o.FailedStarts
}

// addFault adds the findings of one cluster to those of the same kind.
func (r *Report) addFault(f Fault) {
	i := slices.IndexFunc(r.Faults, func(x Fault) bool { return x.Confidence == f.Confidence && slices.Equal(x.Codes, f.Codes) })
	if i < 0 {
		r.Faults = append(r.Faults, Fault{Codes: f.Codes, Confidence: f.Confidence})
		i = len(r.Faults) - 1
	}
	x := &r.Faults[i]
	x.Count += f.Count
	for _, d := range f.Devices {
		if len(x.Devices) < 5 && !slices.Contains(x.Devices, d) {
			x.Devices = append(x.Devices, d)
		}
	}
}

// holds reports whether a file lies in a folder or below it.
func (d *folder) holds(file string) bool {
	return slices.ContainsFunc(d.all(), func(k *clock) bool { return path.Dir(file) == k.name })
}
