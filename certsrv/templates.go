package certsrv

import (
	"context"
	"html"
	"strconv"
	"strings"

	"github.com/onlineca/onlineca/ra/event"
	"github.com/onlineca/onlineca/ra/fault"
)

// Template is an entry of the template list of certrqxt.asp. certsrv offers
// what the CA publishes and the account may enrol for, without machine
// templates: a template that is missing may be requested all the same.
type Template struct {
	// Name is the CN, by which a template is requested.
	Name string
	// DisplayName is what people see.
	DisplayName string
	// FromDirectory says that the subject is built from Active Directory; else
	// it is taken from the request, which is what phones need.
	FromDirectory bool
	// KeySpec is 1 for keys that also decrypt, 2 for keys that only sign.
	KeySpec int
	// EnrollFlags, PrivateKeyFlags and SubjectFlags are the template's
	// attributes of these names (MS-CRTD).
	EnrollFlags, PrivateKeyFlags, SubjectFlags int32
	// Signatures is how many signatures of registration authorities are needed.
	Signatures int
	// OID is the template's number, with its version.
	OID          string
	Major, Minor int
}

// The fields of an option of certrqxt.asp, between semicolons.
const (
	optSubject = iota
	optName
	optKeySpec
	_
	optEnrollFlags
	optPrivateKeyFlags
	optSubjectFlags
	optSignatures
	_
	optOID
	optMajor
	optMinor
	_
	optDisplayName
)

// parseTemplates reads certrqxt.asp. ok says whether it is that page.
func parseTemplates(body []byte) (templates []Template, ok bool) {
	page := strip(body)
	for _, m := range optionMark.FindAllStringSubmatch(page, 10_000) {
		fields := strings.Split(html.UnescapeString(m[1]), ";")
		field := func(i int) string {
			if i >= len(fields) {
				return ""
			}
			return strings.TrimSpace(fields[i])
		}
		num := func(i int) int {
			n, _ := strconv.ParseInt(field(i), 10, 32) // what is no number is none
			return int(n)
		}
		if field(optName) == "" {
			continue
		}
		templates = append(templates, Template{
			Name: field(optName), DisplayName: field(optDisplayName), FromDirectory: field(optSubject) == "E",
			KeySpec: num(optKeySpec), EnrollFlags: int32(num(optEnrollFlags)),
			PrivateKeyFlags: int32(num(optPrivateKeyFlags)), SubjectFlags: int32(num(optSubjectFlags)),
			Signatures: num(optSignatures), OID: field(optOID), Major: num(optMajor), Minor: num(optMinor),
		})
	}
	return templates, formMark.MatchString(page)
}

// Templates asks which templates certsrv offers to the client's account. A
// stand-alone CA has none. It can take minutes in a large forest.
func (c *Client) Templates(ctx context.Context) ([]Template, error) {
	return c.templates(ctx, c.own, false)
}

func (c *Client) templates(ctx context.Context, s *site, data bool) (t []Template, err error) {
	k := c.at(call{
		step: event.StepPage, op: "list the templates of", timeout: c.cfg.Timeouts.Page, late: fault.PageTimeout, data: data,
	}, "/certrqxt.asp")
	err = c.exchange(ctx, s, k, func(body []byte) error {
		var ok bool
		if t, ok = parseTemplates(body); !ok {
			return k.refused(parseOutcome(body))
		}
		return nil
	})
	return t, err
}

// offered says whether name is among what certsrv offers. The error is a
// fault.Template that says what is offered instead.
func offered(templates []Template, name string) error {
	var names []string
	for _, t := range templates {
		if strings.EqualFold(t.Name, name) {
			return nil
		}
		names = append(names, t.Name)
	}
	const op = "certsrv: check that the template is offered"
	for _, t := range templates {
		if strings.EqualFold(t.DisplayName, name) {
			return fault.Newf(fault.Template, op, "%q is the display name of the template %q: configure the name", name, t.Name)
		}
	}
	if len(names) == 0 {
		return fault.Newf(fault.Template, op, "%q is not offered, nor is any other: the account may not enrol for any template, or the CA is a stand-alone one, which has none: then set missing_template: warn", name)
	}
	return fault.Newf(fault.Template, op, "%q is not among %s", name, snippet([]byte(strings.Join(names, ", "))))
}
