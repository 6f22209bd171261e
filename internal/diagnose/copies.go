package diagnose

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
)

// Logs are often there twice: copied before somebody looked into them, packed
// beside what was packed, collected by two people. What they hold happened once.

// readOnce reads every file, and where some of one cluster hold the same, reads
// again without the copies: only a file that was read to its end is known to be
// one, and what it added cannot be told from the rest.
func (w *walker) readOnce(ctx context.Context, together bool) (*facts, error) {
	facts, err := w.readAll(ctx)
	if err != nil || !w.markCopies(facts, together) {
		return facts, err
	}
	return w.readAll(ctx)
}

// markCopies finds the files that hold the same as another one of their
// cluster, and reports whether there are any. Clusters may share a log: that of
// the web server in front of both.
func (w *walker) markCopies(f *facts, together bool) bool {
	groups := []*folder{nil}
	if !together {
		groups, _ = f.clusters()
	}
	if len(groups) == 1 {
		groups[0] = nil // everything is one cluster's
	}
	var found []*File
	for _, g := range groups {
		first := map[uint64]*File{}
		for _, file := range w.byName() {
			switch {
			case file.Log == "" || g != nil && !g.holds(file.Name):
			case first[file.sum] == nil:
				first[file.sum] = file
			default:
				file.SameAs = first[file.sum].Name
				found = append(found, file)
			}
		}
	}
	if len(found) == 0 {
		return false
	}
	more := ""
	if n := len(found) - 1; n > 0 {
		more = fmt.Sprintf(" (and so it is with %s more)", plural(n, "file"))
	}
	w.remark("%s holds the same as %s%s: nothing is counted twice.", found[0].Name, found[0].SameAs, more)
	w.startOver()
	return true
}

// startOver forgets what was counted.
func (w *walker) startOver() {
	for _, f := range w.files {
		again := File{Name: f.Name, SameAs: f.SameAs, index: f.index, sum: f.sum}
		if f.SameAs != "" {
			again.Log, again.Bytes = f.Log, f.Bytes
		}
		*f = again
	}
}

// byName are the files, those with the shorter names first: a copy's name has
// usually something added, and the original's place among rotated logs is by
// its name.
func (w *walker) byName() []*File {
	return slices.SortedFunc(maps.Values(w.files), func(a, b *File) int {
		return cmp.Or(cmp.Compare(len(a.Name), len(b.Name)), natural(a.Name, b.Name))
	})
}

// copies leaves out groups whose files all stand in another one, too, as where
// a bundle lies beside the logs that it was made of.
func (w *walker) copies(groups []*folder) []*folder {
	sums := make([]map[uint64]bool, len(groups))
	for i, g := range groups {
		sums[i] = map[uint64]bool{}
		for _, f := range w.files {
			if g.holds(f.Name) && f.Log != "" {
				sums[i][f.sum] = true
			}
		}
	}
	var keep []*folder
	var again []string
	for i, g := range groups {
		same := -1
		for j := range groups {
			if i == j || len(sums[i]) > len(sums[j]) || len(sums[i]) == len(sums[j]) && i < j {
				continue
			}
			if !slices.ContainsFunc(slices.Collect(maps.Keys(sums[i])), func(s uint64) bool { return !sums[j][s] }) {
				same = j
			}
		}
		if same < 0 {
			keep = append(keep, g)
			continue
		}
		again = append(again, fmt.Sprintf("%s has the logs of %s once more", g.name, groups[same].name))
	}
	if n := len(again); n > 0 {
		text := again[0]
		if n > 1 {
			text += fmt.Sprintf(", and so it is with %d others", n-1)
		}
		w.remark("%s: nothing is counted twice.", text)
	}
	return keep
}
