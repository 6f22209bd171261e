package certsrv

import (
	"fmt"
	"slices"
	"strings"

	"github.com/onlineca/onlineca/ra/fault"
)

// englishTitles are the headings by which the English pages of certfnsh.asp say
// what became of a request.
var englishTitles = []string{"Certificate Issued", "Certificate Pending", "Certificate Request Denied", "Error"}

// englishOnly refuses an answer whose heading is none of the English ones, as a
// reader of sentences does. The request behind it may have been granted.
func (k call) englishOnly(body []byte) error {
	title := plain(after(titleMark, strip(body)))
	if title == "" || slices.ContainsFunc(englishTitles, func(t string) bool { return strings.EqualFold(title, t) }) {
		return nil
	}
	return &fault.Fault{
		Code: fault.PageLanguage, Op: "certsrv: " + k.op + " " + k.url,
		Err: fmt.Errorf("the page is headed %q, and only English pages are read (EnglishOnly): %w", title, fault.OutcomeUnknown),
	}
}
