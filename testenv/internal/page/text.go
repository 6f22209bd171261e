package page

// Language is the language of the pages' prose.
type Language string

// The languages.
const (
	English Language = "en"
	German  Language = "de"
	French  Language = "fr"
)

// Languages lists what there is prose for.
func Languages() []Language { return []Language{English, German, French} }

// Known reports whether there is prose for l. The empty language is English.
func (l Language) Known() bool { return l == "" || texts[l] != nil }

func (l Language) known() Language {
	if texts[l] == nil {
		return English
	}
	return l
}

var texts = map[Language]*prose{English: &english, German: &german, French: &french}

// prose is everything on the pages that is translated.
type prose struct {
	Product, ProductShort, Home string

	Welcome, WelcomeUse, WelcomeChain, WelcomeMore, WelcomeDocs string
	SelectTask, RequestCert, ViewPending, DownloadCA            string

	RequestTitle, SelectType, OrSubmit, AdvancedRequest string
	AdvancedTitle, AdvancedInfo, SubmitPKCS10           string

	SubmitTitle, SubmitInfo, SavedRequest, Base64Request, Base64Forms string
	TemplateHead, NoTemplates, AttribHead, AttribLabel, SubmitButton  string

	IssuedTitle, IssuedInfo, DER, Or, Base64              string
	DownloadCert, DownloadChain, InstallCert, InstallCA   string
	PendingTitle, PendingInfo, PendingReturn              string
	Note, PendingWarning                                  string
	DeniedTitle, DeniedInfo, RevokedTitle, RevokedInfo    string
	ReqID, ReqIDReason, ContactMore                       string
	ErrorTitle, ErrorInfo, ContactHelp                    string
	Unexpected, NotStarted, NotRequested, BadData         string
	RowMode, RowDisposition, RowMessage, RowResult        string
	RowCOM, RowLastStatus, RowCause                       string
	ModeNew, ModeFetch, NeverSet, None, NoSuggestion      string
	StatusTitle, StatusSelect, StatusNone                 string
	CATitle, CAInfo, CASelect, CALabel, CACurrent         string
	CAPrevious, Encoding, CADownload, CADownloadChain     string
	CADownloadCRL                                         string
	UnderSubmission, DeniedByPolicy, DeniedBy, ParseError string
	VerifyError, UnsupportedBy                            string

	Dispositions map[int]string
	System       map[Status]string
}

// disposition names one; those that the pages have no name for are "(unknown)".
func (p *prose) disposition(n int) string {
	if s, ok := p.Dispositions[n]; ok {
		return s
	}
	return p.Dispositions[-1]
}
