package testenv_test

import (
	"fmt"
	"net/http"
	"testing"

	"github.com/onlineca/onlineca/testenv"
)

// A test of a program that gets certificates from AD CS Web Enrollment starts a
// mock, points the program at it, and looks at what happened. Here the program
// is an HTTP client that forgets to log in.
func Example() {
	test := func(t testing.TB) {
		ca := testenv.New(t, testenv.Config{EPA: testenv.EPARequire, Language: testenv.German})
		ca.Inject(testenv.AnswerLost) // the certificate is issued, the answer is not

		resp, err := ca.Client().Get(ca.URL + "/certsrv/")
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()

		fmt.Println(resp.StatusCode, http.StatusText(resp.StatusCode), resp.Header["Www-Authenticate"])
		for _, r := range ca.Requests() {
			fmt.Println(r.Method, r.Path, r.Status, r.Substatus, r.Win32)
		}
		fmt.Println(ca.Submissions(), "submissions,", len(ca.Issued()), "certificates, waiting:", ca.Waiting())
	}
	runExample(test)
	// Output:
	// 401 Unauthorized [Negotiate NTLM]
	// GET /certsrv/ 401 2 5
	// 0 submissions, 0 certificates, waiting: [answer-lost@submit*1]
}

// A mock can also run by itself.
func ExampleStart() {
	ca, err := testenv.Start(testenv.Config{
		Accounts:  []testenv.Account{{Domain: "CORP", Name: "svc-ra", Password: "correct horse"}},
		Templates: []testenv.Template{{Name: "Phones", ManualApproval: true}},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer ca.Close()
	fmt.Println(ca.Root.Subject.CommonName)
	// Output: LAB-ROOT-CA - mock, not to be trusted
}

// exampleTB lends an Example what a test has of itself.
type exampleTB struct {
	testing.TB
	cleanup []func()
}

func (*exampleTB) Helper()            {}
func (*exampleTB) Fatal(v ...any)     { panic(fmt.Sprint(v...)) }
func (e *exampleTB) Cleanup(f func()) { e.cleanup = append(e.cleanup, f) }

func runExample(test func(testing.TB)) {
	e := &exampleTB{}
	defer func() {
		for _, f := range e.cleanup {
			f()
		}
	}()
	test(e)
}
