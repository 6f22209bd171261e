package testenv_test

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"net/url"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/chromedp/cdproto/browser"
	"github.com/chromedp/chromedp"

	"github.com/onlineca/onlineca/internal/interop"
	"github.com/onlineca/onlineca/testenv"
)

// browse starts a headless Chromium that trusts the mock's certificate and
// downloads into dir. It ends with the test.
func browse(t *testing.T, s *testenv.Certsrv, leaf []byte, dir string) context.Context {
	t.Helper()
	interop.Need(t, "chromium")
	pin := sha256.Sum256(leaf)
	alloc, cancelAlloc := chromedp.NewExecAllocator(t.Context(),
		chromedp.ExecPath(interop.Look("chromium")), chromedp.UserDataDir(t.TempDir()),
		chromedp.Headless, chromedp.NoSandbox, chromedp.DisableGPU, chromedp.NoFirstRun,
		chromedp.Flag("disable-background-networking", true), chromedp.Flag("disable-component-update", true),
		chromedp.Flag("disable-sync", true), chromedp.Flag("disable-dev-shm-usage", true),
		chromedp.Flag("ignore-certificate-errors-spki-list", base64.StdEncoding.EncodeToString(pin[:])),
	)
	t.Cleanup(cancelAlloc)
	ctx, cancel := chromedp.NewContext(alloc)
	t.Cleanup(cancel)
	if err := chromedp.Do(ctx); err != nil { // starts it, for as long as ctx
		t.Fatal(err)
	}
	limited, cancelTime := context.WithTimeout(ctx, time.Minute)
	t.Cleanup(cancelTime)
	events := true
	if _, err := chromedp.Call(limited, browser.SetDownloadBehavior, browser.SetDownloadBehaviorParams{
		Behavior: browser.SetDownloadBehaviorBehaviorAllow, DownloadPath: dir, EventsEnabled: &events,
	}); err != nil {
		t.Fatal(err)
	}
	return limited
}

// download waits for the download that click starts, and reads the file.
func download(t *testing.T, ctx context.Context, dir, name, click string) []byte { //nolint:revive // the testing.T comes first in a helper
	t.Helper()
	over := func(e browser.EventDownloadProgress) bool { return e.State != browser.DownloadProgressStateInProgress }
	e, err := chromedp.Run(ctx, chromedp.WaitEvent(browser.DownloadProgress, over, chromedp.Click(chromedp.CSS(click))))
	if err != nil || e.State != browser.DownloadProgressStateCompleted {
		t.Fatalf("download of %s: %s, %v", name, e.State, err)
	}
	path := filepath.Join(dir, name)
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	return b
}

// picture takes a picture of the page if ONLINECA_PICTURES names a directory
// for it.
func picture(t *testing.T, ctx context.Context, name string) { //nolint:revive // as above
	t.Helper()
	dir := os.Getenv("ONLINECA_PICTURES")
	if dir == "" {
		return
	}
	png, err := chromedp.Run(ctx, chromedp.FullScreenshot(100))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, name+".png"), png, 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestPersonWithBrowser goes the way of a person: from the first page to the
// form, with a request pasted into it, to the certificate in both encodings.
func TestPersonWithBrowser(t *testing.T) {
	interop.Need(t, "chromium")
	pki, err := testenv.NewPKI(testenv.PKIConfig{})
	if err != nil {
		t.Fatal(err)
	}
	cert, err := pki.ServerCertificate(testenv.ServerOptions{})
	if err != nil {
		t.Fatal(err)
	}
	s := testenv.New(t, testenv.Config{PKI: pki, Certificate: &cert, Schemes: []testenv.Scheme{testenv.SchemeBasic}})
	dir := t.TempDir()
	ctx := browse(t, s, cert.Leaf.RawSubjectPublicKeyInfo, dir)
	csr, key := newCSR(t, "SEP001122334455")

	start, err := url.Parse(s.URL + "/certsrv/")
	if err != nil {
		t.Fatal(err)
	}
	start.User = url.UserPassword(testenv.DefaultUser, testenv.DefaultPassword)
	click := func(link string) {
		t.Helper()
		if err := chromedp.Do(ctx, chromedp.Click(chromedp.CSS(link))); err != nil {
			t.Fatalf("click on %s: %v", link, err)
		}
	}
	if err := chromedp.Do(ctx, chromedp.Navigate(start.String()), chromedp.WaitVisible(chromedp.CSS(`#locRequestCert`))); err != nil {
		t.Fatal(err)
	}
	picture(t, ctx, "welcome")
	click(`a[href="certrqus.asp"]`)
	click(`a[href="certrqad.asp"]`)
	click(`a[href="certrqxt.asp"]`)
	if err := chromedp.Do(ctx,
		chromedp.SetValue(chromedp.CSS(`#locTaRequest`), csr),
		chromedp.SendKeys(chromedp.CSS(`#lbCertTemplateID`), "Web Server"),
	); err != nil {
		t.Fatal(err)
	}
	picture(t, ctx, "form")
	click(`#locBtnSubmit`)
	if err := chromedp.Do(ctx, chromedp.WaitVisible(chromedp.CSS(`#linkCert`))); err != nil {
		t.Fatal(err)
	}
	picture(t, ctx, "issued")
	der := download(t, ctx, dir, "certnew.cer", `#linkCert`)
	click(`#rbB64Enc`)
	inPEM := download(t, ctx, dir, "certnew.cer", `#linkCert`)
	if string(decodePEM(t, string(inPEM))) != string(der) {
		t.Error("the two encodings are two certificates")
	}
	leaf := mustParse(t, der)
	if r := s.Issued()[0]; !key.PublicKey.Equal(leaf.PublicKey) || r.Template != "WebServer" || !r.Certificate.Equal(leaf) {
		t.Errorf("the certificate is another one: %v, template %s", leaf.Subject, r.Template)
	}
	if chain := download(t, ctx, dir, "certnew.p7b", `#linkChain`); len(chain) < len(der) {
		t.Errorf("a chain of %d bytes", len(chain))
	}
}
