package estserver_test

import (
	"bufio"
	"context"
	"crypto/x509"
	"fmt"
	"io"
	"net/http"
	"net/http/httptrace"
	"strconv"
	"strings"
	"testing"
)

func itoa(n int) string { return strconv.Itoa(n) }

func hexLen(s string) string { return fmt.Sprintf("%x", len(s)) }

// countConns counts in n the connections that a request had to open.
func countConns(ctx context.Context, n *int) context.Context {
	return httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{GotConn: func(i httptrace.GotConnInfo) {
		if !i.Reused {
			*n++
		}
	}})
}

// readAnswer2 is readAnswer for a method whose answer may have no body.
func readAnswer2(tb testing.TB, method, raw string) (*http.Response, string) {
	tb.Helper()
	req, err := http.NewRequest(method, "/", nil)
	if err != nil {
		tb.Fatal(err)
	}
	res, err := http.ReadResponse(bufio.NewReader(strings.NewReader(raw)), req)
	if err != nil {
		tb.Fatalf("%v in %q", err, raw)
	}
	body, err := io.ReadAll(res.Body)
	if err != nil {
		tb.Fatalf("%v in %q", err, raw)
	}
	return res, string(body)
}

type certificate = x509.Certificate

// manyCerts is a chain of n times two certificates.
type manyCerts struct {
	*authority
	n int
}

func (m manyCerts) CACerts(context.Context) ([]*x509.Certificate, error) {
	var all []*x509.Certificate
	for range m.n {
		all = append(all, m.issuer, m.root)
	}
	return all, nil
}
