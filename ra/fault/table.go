package fault

// table has one row for every code. Sources: the vendor's troubleshooting
// document for CAPF Online CA, and Microsoft's documents for the HRESULTs.
var table = gather(wayRows, certsrvRows, estRows, capfRows)

// gather puts rows at the places of their codes. A code that has no row, or
// two, is a mistake in this package, which its test finds.
func gather(groups ...map[Code]Row) []Row {
	n := 0
	for _, g := range groups {
		n += len(g)
	}
	all := make([]Row, n)
	for _, g := range groups {
		for c, row := range g {
			all[c] = row
		}
	}
	return all
}
