package lab

//go:generate go test -run TestFailuresAreDocumented -update .
