package app

import (
	"os"
	"reflect"
	"strings"
	"testing"
)

// Every step and every field of the JSON stands in the document.
func TestDoctorDocumented(t *testing.T) {
	text, err := os.ReadFile("../../docs/doctor.md")
	if err != nil {
		t.Fatal(err)
	}
	doc := string(text)
	for _, s := range doctorSteps {
		if !strings.Contains(doc, "| `"+s.name+"` |") {
			t.Errorf("no row for the step %s", s.name)
		}
	}
	if !strings.Contains(doc, "`"+DoctorSchema+"`") {
		t.Errorf("the document is not about %s", DoctorSchema)
	}
	for _, v := range []any{DoctorReport{}, DoctorStep{}, DoctorProblem{}, DoctorCertificate{}, DoctorEnrollment{}} {
		for f := range reflect.TypeOf(v).Fields() {
			name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
			if f.IsExported() && !strings.Contains(doc, "`"+name+"`") {
				t.Errorf("%T.%s: no row for `%s`", v, f.Name, name)
			}
		}
	}
}
