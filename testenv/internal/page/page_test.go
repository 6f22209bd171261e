package page

import (
	"reflect"
	"strings"
	"testing"
)

// TestEveryLanguageIsComplete: no sentence is missing, and none was left in
// English.
func TestEveryLanguageIsComplete(t *testing.T) {
	same := map[string]bool{"None": true, "Or": true, "RowDisposition": true} // may be alike in two languages
	en := reflect.ValueOf(english)
	for _, l := range Languages() {
		v := reflect.ValueOf(*texts[l])
		for i := range v.NumField() {
			name := v.Type().Field(i).Name
			if v.Field(i).Kind() != reflect.String {
				continue
			}
			got, want := v.Field(i).String(), en.Field(i).String()
			switch {
			case got == "":
				t.Errorf("%s: no text for %s", l, name)
			case l != English && got == want && !same[name]:
				t.Errorf("%s: %s is in English", l, name)
			case strings.Count(got, "%") != strings.Count(want, "%"):
				t.Errorf("%s: %s has other placeholders", l, name)
			}
		}
		for status := range english.System {
			if texts[l].System[status] == "" {
				t.Errorf("%s: no words for %s", l, status.Number())
			}
		}
		for n := range english.Dispositions {
			if texts[l].Dispositions[n] == "" {
				t.Errorf("%s: no name for disposition %d", l, n)
			}
		}
	}
}

// marks are the element IDs of each page, which are the same in all languages.
func TestIDsAreTheSameInEveryLanguage(t *testing.T) {
	pages := func(l Language) map[string][]byte {
		s := Site{CA: "A<B", Language: l}
		return map[string][]byte{
			"welcome": s.Welcome(), "request": s.RequestType(), "advanced": s.Advanced(),
			"certrqxt": s.Submit([]Option{{Name: "A", Display: "B"}}, true), "no templates": s.Submit(nil, true),
			"issued": s.Issued(7, 0, Mozilla), "issued, IE": s.Issued(7, 0, IE), "issued, unknown": s.Issued(7, 0, Unknown),
			"pending": s.Pending(7), "denied": s.Denied(7, `a "quoted" <b>`), "revoked": s.Revoked(7, "x"),
			"error": s.Error(Failure{Request: "x --> y"}), "fetch": s.Error(Failure{Fetch: true, Quiet: true, Disposition: 5}),
			"unavailable": s.Unavailable(), "certcarc": s.CACertificates(2), "certckpn": s.PendingList([]Entry{{7, "<x>"}}),
		}
	}
	ids := func(page []byte) string {
		var out []string
		for _, part := range strings.Split(string(page), " ID=")[1:] {
			id, _, _ := strings.Cut(strings.NewReplacer(">", " ", "\"", "").Replace(part), " ")
			out = append(out, id)
		}
		return strings.Join(out, " ")
	}
	en := pages(English)
	for _, l := range Languages() {
		for name, page := range pages(l) {
			if got, want := ids(page), ids(en[name]); got != want || got == "" {
				t.Errorf("%s, %s: IDs %s\nwant %s", l, name, got, want)
			}
			text := string(page)
			if strings.Contains(text, "A<B") || strings.Contains(text, "<b>") || strings.Contains(text, "<x>") || strings.Contains(text, "x -->") {
				t.Errorf("%s, %s: text that came from outside is not escaped:\n%s", l, name, text)
			}
			if strings.Count(text, "\n") != strings.Count(text, "\r\n") {
				t.Errorf("%s, %s: lines that do not end with CR LF", l, name)
			}
		}
	}
}

func TestNumber(t *testing.T) {
	for status, want := range map[Status]string{
		OK:              "0x0 (WIN32: 0)",
		UnsupportedType: "0x80094800 (-2146875392 CERTSRV_E_UNSUPPORTED_CERT_TYPE)",
		RPCUnavailable:  "0x800706ba (WIN32: 1722 RPC_S_SERVER_UNAVAILABLE)",
		PropertyEmpty:   "0x80094004 (-2146877436 CERTSRV_E_PROPERTY_EMPTY)",
		0x8000ffff:      "0x8000ffff (-2147418113)",
	} {
		if got := status.Number(); got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
	if got := (Site{Language: German}).Text(0x8000ffff); got != "0x8000ffff (-2147418113)" {
		t.Errorf("a status without words: %q", got)
	}
}

func TestUnknownLanguageIsEnglish(t *testing.T) {
	if Language("tlh").Known() || !Language("").Known() {
		t.Error("languages that there are and that there are not")
	}
	if !strings.Contains(string(Site{Language: "tlh"}.Welcome()), "Welcome") {
		t.Error("no English page")
	}
}
