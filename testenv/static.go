package testenv

import (
	"net/http"
	"strings"
)

// Answers that do not come from the application: http.sys's own, and IIS's
// error pages. Their headers and lengths are those of captured answers, since
// clients have been known to depend on them.

// unauthorizedLength is the length of IIS's page for 401.
const unauthorizedLength = 1293

// kernelHTML is a page of http.sys.
func kernelHTML(title, sentence string) []byte {
	return []byte("<!DOCTYPE HTML PUBLIC \"-//W3C//DTD HTML 4.01//EN\"\"http://www.w3.org/TR/html4/strict.dtd\">\r\n" +
		"<HTML><HEAD><TITLE>" + title + "</TITLE>\r\n" +
		"<META HTTP-EQUIV=\"Content-Type\" Content=\"text/html; charset=us-ascii\"></HEAD>\r\n" +
		"<BODY><h2>" + title + "</h2>\r\n<hr><p>" + sentence + "</p>\r\n</BODY></HTML>\r\n")
}

// kernelAnswer is an answer that http.sys makes without asking IIS.
func kernelAnswer(status int, title, sentence string) answer {
	a := answer{status: status, header: http.Header{}, body: kernelHTML(title, sentence)}
	a.header.Set("Content-Type", "text/html; charset=us-ascii")
	a.header.Set("Server", "Microsoft-HTTPAPI/2.0")
	return a
}

// iisHTML is an error page of IIS, filled up to length bytes if that is not 0.
func iisHTML(title, sentence string, length int) []byte {
	page := "<!DOCTYPE html>\r\n<html><head><meta charset=\"iso-8859-1\"/>\r\n<title>" + title + "</title>\r\n" +
		"<style>\r\nbody{margin:0;background:#EEE;font:.8em Verdana,sans-serif}\r\n" +
		"#header{background:#555;color:#FFF;padding:6px 2%}\r\n#content{background:#FFF;margin:8px 2%;padding:10px}\r\n" +
		"h2{color:#C00}\r\n</style></head>\r\n<body>\r\n<div id=\"header\"><h1>Server Error</h1></div>\r\n" +
		"<div id=\"content\"><h2>" + title + "</h2>\r\n<h3>" + sentence + "</h3></div>\r\n"
	const end = "</body></html>\r\n"
	if fill := length - len(page) - len(end) - len("<!---->\r\n"); fill > 0 {
		page += "<!--" + strings.Repeat(" ", fill) + "-->\r\n"
	}
	return []byte(page + end)
}

func iisAnswer(status, substatus int, win32 uint32, title, sentence string) answer {
	a := answer{status: status, substatus: substatus, win32: win32, header: http.Header{}, body: iisHTML(title, sentence, 0)}
	a.header.Set("Content-Type", "text/html")
	return a
}

// answer is the refusal as it is sent: by http.sys in the middle of a login, by
// IIS otherwise. Both have a body; clients that do not read it get stuck.
func (r *refusal) answer() answer {
	var a answer
	if r.kernel {
		a = kernelAnswer(http.StatusUnauthorized, "Not Authorized",
			"HTTP Error 401. The requested resource requires user authentication.")
	} else {
		const title = "401 - Unauthorized: Access is denied due to invalid credentials."
		a = iisAnswer(http.StatusUnauthorized, 0, 0, title,
			"You do not have permission to view this directory or page using the credentials that you supplied.")
		a.body = iisHTML(title, "You do not have permission to view this directory or page using the credentials that you supplied.", unauthorizedLength)
	}
	a.substatus, a.win32 = r.substatus, r.win32
	r.offerHeader(a.header)
	return a
}

// lengthRequired is what a POST without a length gets, before anything else.
func lengthRequired() answer {
	a := kernelAnswer(http.StatusLengthRequired, "Length Required",
		"HTTP Error 411. The request must be chunked or have a content length.")
	a.header.Set("Connection", "close")
	return a
}

func notFound() answer {
	return iisAnswer(http.StatusNotFound, 0, win32NotFound, "404 - File or directory not found.",
		"The resource you are looking for might have been removed, had its name changed, or is temporarily unavailable.")
}

func methodNotAllowed() answer {
	return iisAnswer(http.StatusMethodNotAllowed, 0, 1, "405 - HTTP verb used to access this page is not allowed.",
		"The page you are looking for cannot be displayed because an invalid method (HTTP verb) was used to attempt access.")
}

func aspTooLarge() answer {
	a := iisAnswer(http.StatusInternalServerError, 0, win32OK, "500 - Internal server error.",
		"Request object error 'ASP 0104 : 80004005' Operation not Allowed")
	a.header.Set("Cache-Control", "private")
	return a
}

// serverError is IIS's page for a script that failed.
func serverError() answer {
	return iisAnswer(http.StatusInternalServerError, 0, win32OK, "500 - Internal server error.",
		"There is a problem with the resource you are looking for, and it cannot be displayed.")
}

// unavailable is what http.sys says while the application pool is stopped.
func unavailable() answer {
	return kernelAnswer(http.StatusServiceUnavailable, "Service Unavailable",
		"HTTP Error 503. The service is unavailable.")
}

// redirectToSlash sends /certsrv to /certsrv/, as IIS does for a directory.
func (s *Certsrv) redirectToSlash(x *exchange) answer {
	scheme := "https"
	if s.conf.TrustFront {
		scheme = "http"
	}
	to := scheme + "://" + x.r.Host + "/certsrv/"
	a := answer{status: http.StatusMovedPermanently, header: http.Header{}}
	a.header.Set("Content-Type", "text/html; charset=UTF-8")
	a.header.Set("Location", to)
	a.body = []byte("<head><title>Document Moved</title></head>\n<body><h1>Object Moved</h1>This document may be found <a HREF=\"" + to + "\">here</a></body>")
	return a
}
