package lab

import (
	"flag"
	"os"
	"strings"
	"testing"

	"github.com/onlineca/onlineca/ra/fault"
)

var update = flag.Bool("update", false, "write docs/failures.md, and the table in README.md")

// docs/failures.md and the table in README.md say what the code says.
func TestFailuresAreDocumented(t *testing.T) {
	const doc, readme = "../../docs/failures.md", "../../README.md"
	text, err := os.ReadFile(readme)
	if err != nil {
		t.Fatal(err)
	}
	want, marked := ReplaceTable(string(text))
	if *update {
		if err := os.WriteFile(doc, []byte(FailuresDoc()), 0o644); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(readme, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	got, err := os.ReadFile(doc)
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != FailuresDoc() {
		t.Errorf("%s is not what the code says: go generate ./testenv/lab", doc)
	}
	if marked && string(text) != want {
		t.Errorf("the table in %s is not what the code says: go generate ./testenv/lab", readme)
	}
}

func TestEveryFailureHasItsSection(t *testing.T) {
	doc := FailuresDoc()
	for _, c := range fault.Codes() {
		if strings.Count(doc, "\n## "+c.String()+"\n") != 1 {
			t.Errorf("%s has no section", c.String())
		}
	}
}

func TestReplaceTable(t *testing.T) {
	got, ok := ReplaceTable("a\n" + tableBegin + "\nOLD TABLE\n" + tableEnd + "\nb\n")
	if !ok || strings.Contains(got, "OLD TABLE") || !strings.HasPrefix(got, "a\n"+tableBegin+"\n| code |") || !strings.HasSuffix(got, "|\n"+tableEnd+"\nb\n") {
		t.Errorf("%v %.200q", ok, got)
	}
	for _, text := range []string{"", "no marks", tableEnd + tableBegin} {
		if got, ok := ReplaceTable(text); ok || got != text {
			t.Errorf("%q became %q", text, got)
		}
	}
}
