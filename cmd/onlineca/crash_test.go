package main

import (
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/onlineca/onlineca/internal/interop"
	"github.com/onlineca/onlineca/ra/store/storetest"
	"github.com/onlineca/onlineca/testenv/lab"
)

// childEnv makes the test binary the program itself, which the crash test
// starts as its registration authorities.
const childEnv = "ONLINECA_TEST_COMMAND"

func TestMain(m *testing.M) {
	if os.Getenv(childEnv) != "" {
		main()
	}
	if err := os.Setenv(childEnv, "yes"); err != nil { // for whatever is started
		panic(err)
	}
	os.Exit(m.Run())
}

// crash runs a crash test, for a minute where the long forms of the tests are
// run.
func crash(t *testing.T, c lab.CrashConfig) {
	t.Helper()
	if testing.Short() {
		t.Skip("kills processes for some seconds")
	}
	t.Parallel() // it waits most of the time
	c.For = 3 * time.Second
	if os.Getenv("ONLINECA_LONG") != "" {
		c.For = time.Minute
	}
	var report lockedBuffer
	c.Seed, c.Out, c.Result = uint64(time.Now().UnixNano()), t.TempDir(), &report
	r, err := lab.Crash(t.Context(), c)
	if err != nil {
		t.Fatalf("seed %d: %v", c.Seed, err)
	}
	t.Logf("\n%s", report.String())
	if len(r.Violations) > 0 {
		t.Errorf("seed %d: %d promises were not kept", c.Seed, len(r.Violations))
	}
	// Otherwise nothing was shown.
	if r.Kills == 0 || r.AnswersLost == 0 || r.Certificates < 2 || r.Issued < r.Certificates {
		t.Errorf("seed %d: %d kills, %d answers lost, %d certificates of %d", c.Seed, r.Kills, r.AnswersLost, r.Certificates, r.Issued)
	}
}

func TestCrashSQLite(t *testing.T) { crash(t, lab.CrashConfig{}) }

func TestCrashTwoProcessesOnePostgreSQL(t *testing.T) {
	interop.Need(t, "postgres", "initdb")
	crash(t, lab.CrashConfig{Store: storetest.Postgres(t)(t), Processes: 2})
}

func TestCrashCommand(t *testing.T) {
	for _, bad := range [][]string{
		{"crash", "--for", "1ms"}, {"crash", "--processes", "0"}, {"crash", "--clients", "0"}, {"crash", "now"},
	} {
		onlineca(t, bad...).want(t, 2, "hint: ")
	}
	onlineca(t, "crash", "--processes", "2").want(t, 1, "share a PostgreSQL")
	onlineca(t, "crash", "--store", "mysql://u:secret@h/d").want(t, 1, "neither sqlite nor the address of a PostgreSQL")
	if testing.Short() {
		return
	}
	seed := strconv.Itoa(int(time.Now().Unix()))
	onlineca(t, "crash", "--for", "1s", "--clients", "2", "--seed", seed).want(t, 0, "seed "+seed, "nothing lost, nothing twice")
}
