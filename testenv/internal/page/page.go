// Package page writes the pages of AD CS Web Enrollment: the element IDs, the
// numbers and the layout that programs rely on, in every language, around prose
// in one of a few.
//
// The prose and the mark-up are written for this project from what captured
// answers show; they are not Microsoft's files.
package page

import (
	"bytes"
	"embed"
	"fmt"
	"strconv"
	"strings"
	"text/template"
)

//go:embed html/*.html
var files embed.FS

// pages are made with text/template, because they are as ill-formed as the real
// ones: attributes without quotes, elements that never end. What comes from a
// request is escaped here.
var pages = template.Must(template.ParseFS(files, "html/*.html"))

// Class is what the pages take a client for, by its User-Agent.
type Class string

// The three classes.
const (
	IE      Class = "ie"
	Mozilla Class = "mozilla"
	Unknown Class = "unknown"
)

// ClassOf tells the class of a User-Agent.
func ClassOf(userAgent string) Class {
	switch {
	case strings.Contains(userAgent, "MSIE") || strings.Contains(userAgent, "Trident/"):
		return IE
	case strings.Contains(userAgent, "Mozilla"):
		return Mozilla
	default:
		return Unknown
	}
}

// Site writes the pages of one certificate authority.
type Site struct {
	CA       string
	Language Language
}

// chrome is what every page needs.
type chrome struct {
	T  *prose
	CA string
}

func (s Site) chrome() chrome { return chrome{texts[s.Language.known()], escape(s.CA)} }

// escape writes plain text as HTML, as ASP's Server.HTMLEncode does: apostrophes
// stay.
func escape(s string) string { return escaper.Replace(s) }

var escaper = strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;", `"`, "&quot;")

// render returns a page with CR LF line ends.
func render(name string, data any) []byte {
	var b bytes.Buffer
	if err := pages.ExecuteTemplate(&b, name, data); err != nil {
		panic(fmt.Sprintf("page %s: %v", name, err)) // a template of ours is wrong
	}
	return bytes.ReplaceAll(b.Bytes(), []byte("\n"), []byte("\r\n"))
}

// Welcome is the page at /certsrv/.
func (s Site) Welcome() []byte { return render("welcome", s.chrome()) }

// RequestType is certrqus.asp, where a kind of request is chosen.
func (s Site) RequestType() []byte { return render("request", s.chrome()) }

// Advanced is certrqad.asp.
func (s Site) Advanced() []byte { return render("advanced", s.chrome()) }

// Option is a template in the list of certrqxt.asp.
type Option struct {
	// Name and Display are the template's CN and what people read.
	Name, Display string
	// FromAD says that the subject comes from the directory.
	FromAD bool
	// EnrollFlag, SubjectFlag and PrivateKeyFlag are the numbers of the
	// template's attributes in AD.
	EnrollFlag, SubjectFlag, PrivateKeyFlag int32
	// OID is the template's number, Major and Minor its version.
	OID          string
	Major, Minor int
}

// value is what the page's script takes apart, fields between semicolons:
// E or O, CN, key spec, key flags, enroll flags, private-key flags, subject
// flags, RA signatures, CSPs, OID, major, minor twice, display name.
func (o Option) value() string {
	source := "O"
	if o.FromAD {
		source = "E"
	}
	const csp = "Microsoft RSA SChannel Cryptographic Provider?Microsoft DH SChannel Cryptographic Provider"
	return strings.Join([]string{
		source, o.Name, "1", "1", strconv.Itoa(int(o.EnrollFlag)), strconv.Itoa(int(o.PrivateKeyFlag)),
		strconv.Itoa(int(o.SubjectFlag)), "0", csp, o.OID, strconv.Itoa(o.Major), strconv.Itoa(o.Minor), "", o.Display,
	}, ";")
}

// Submit is certrqxt.asp: the form for a saved request. Without templates it
// says that none could be found. A stand-alone CA has no list at all.
func (s Site) Submit(options []Option, enterprise bool) []byte {
	type item struct{ Value, Display string }
	data := struct {
		chrome
		Enterprise bool
		Templates  []item
	}{chrome: s.chrome(), Enterprise: enterprise}
	for _, o := range options {
		data.Templates = append(data.Templates, item{escape(o.value()), escape(o.Display)})
	}
	return render("certrqxt", data)
}

// Issued is the answer of certfnsh.asp to a request that was granted.
func (s Site) Issued(id, renewal int, class Class) []byte {
	return render("issued", struct {
		chrome
		ReqID, Renewal int
		Class          Class
	}{s.chrome(), id, renewal, class})
}

// Pending is the answer to a request that somebody must approve.
func (s Site) Pending(id int) []byte {
	return render("pending", struct {
		chrome
		ReqID int
	}{s.chrome(), id})
}

// Denied is the answer to a request that was refused.
func (s Site) Denied(id int, message string) []byte { return s.refused("denied", id, message) }

// Revoked is the answer for a certificate that was issued and revoked since.
func (s Site) Revoked(id int, message string) []byte { return s.refused("revoked", id, message) }

func (s Site) refused(name string, id int, message string) []byte {
	return render(name, struct {
		chrome
		ReqID   int
		Message string
	}{s.chrome(), id, escape(message)})
}

// Unavailable is what a page says that cannot reach the certificate authority.
func (s Site) Unavailable() []byte {
	c := s.chrome()
	return render("unavailable", struct {
		chrome
		Message string
	}{c, c.T.NotStarted})
}

// Instance is a CA certificate in the list of certcarc.asp; index 0 is the
// newest.
type Instance struct {
	Index int
	Name  string
}

// CACertificates is certcarc.asp.
func (s Site) CACertificates(renewals int) []byte {
	data := struct {
		chrome
		Renewals  int
		Instances []Instance
	}{chrome: s.chrome(), Renewals: renewals}
	for i := 0; i <= renewals; i++ {
		name := data.CA
		if n := renewals - i; n > 0 {
			name += "(" + strconv.Itoa(n) + ")"
		}
		data.Instances = append(data.Instances, Instance{i, name})
	}
	return render("certcarc", data)
}

// Entry is a pending request that a browser remembers.
type Entry struct {
	ReqID int
	Label string
}

// PendingList is certckpn.asp.
func (s Site) PendingList(entries []Entry) []byte {
	for i := range entries {
		entries[i].Label = escape(entries[i].Label)
	}
	return render("certckpn", struct {
		chrome
		Entries []Entry
	}{s.chrome(), entries})
}
